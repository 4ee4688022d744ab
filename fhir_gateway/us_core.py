"""What US Core asks of a server, as far as its CapabilityStatement repeats it.

Read from `profiles/us-core/bar-<version>.json`; profiles/us-core/NOTICE.md says where that is from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

IN_FORCE = "6.1.0"
SERVER = f"http://hl7.org/fhir/us/core/CapabilityStatement/us-core-server|{IN_FORCE}"


@dataclass(frozen=True, slots=True)
class Asked:
    """Of one resource type: its profiles, and the searches that a server SHALL answer."""

    profiles: tuple[str, ...] = ()
    searches: frozenset[tuple[str, ...]] = frozenset()


@cache
def asked(folder: Path) -> Mapping[str, Asked]:
    """By resource type.

    Args:
        folder: the conformance files (`profiles/`).
    """
    bar = json.loads((folder / "us-core" / f"bar-{IN_FORCE}.json").read_text())
    found: dict[str, Asked] = {}
    for group in bar["groups"]:
        kind, before = group["resource"], found.get(group["resource"], Asked())
        found[kind] = Asked(
            (*before.profiles, group["profile"]), before.searches | _shall(group["searches"])
        )
    return found


def _shall(searches: list[dict[str, Any]]) -> frozenset[tuple[str, ...]]:
    return frozenset(tuple(one["names"]) for one in searches if one["expectation"] == "SHALL")
