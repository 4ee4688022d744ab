"""What US Core asks of the profiles that Hilum serves: `profiles/us-core/bar-<version>.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "profiles" / "us-core"
VERSIONS = ("6.1.0", "7.0.0", "8.0.0")
IN_FORCE = "6.1.0"


@dataclass(frozen=True)
class Search:
    """One combination of parameters that a profile's group names."""

    version: str
    group: str
    resource: str
    names: tuple[str, ...]
    expectation: str

    def __str__(self) -> str:
        return f"{self.version} {self.group} {'+'.join(self.names)}"


@dataclass(frozen=True)
class Group:
    """One profile with all that is asked of it; `content` is the file's."""

    version: str
    content: dict[str, Any]

    @property
    def name(self) -> str:
        return self.content["name"]

    @property
    def resource(self) -> str:
        return self.content["resource"]

    @property
    def profile(self) -> str:
        return self.content["profile"]

    @property
    def must_support(self) -> dict[str, Any]:
        return self.content["must_support"]

    def parameter(self, name: str) -> dict[str, Any]:
        return self.content["parameters"][name]

    def searches(self, *expectations: str) -> list[Search]:
        return [
            Search(self.version, self.name, self.resource, tuple(s["names"]), s["expectation"])
            for s in self.content["searches"]
            if s["expectation"] in expectations
        ]


@cache
def groups(version: str) -> tuple[Group, ...]:
    """The groups of one version, in the order of the file."""
    content = json.loads((FOLDER / f"bar-{version}.json").read_text())
    return tuple(Group(version, one) for one in content["groups"])


def group(version: str, name: str) -> Group:
    """One group by its name."""
    return next(one for one in groups(version) if one.name == name)
