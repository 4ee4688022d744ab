"""SMART App Launch scopes: `system/` and `user/` grants by resource type and interaction.

Source: SMART App Launch 2.2, Scopes and Launch Context. What is not understood grants nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Interaction = Literal["c", "r", "u", "d", "s"]
Context = Literal["system", "user"]

INTERACTIONS: frozenset[str] = frozenset(get_args(Interaction))
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}
_SCOPE = re.compile(
    r"(system|user)/(\*|[A-Z][A-Za-z]{1,63})\.(\*|read|write|c?r?u?d?s?)\Z", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Grant:
    """One scope that is understood: context, resource type or `*`, interactions."""

    context: Context
    resource_type: str
    interactions: frozenset[str]


@dataclass(frozen=True, slots=True)
class Scopes:
    """The union of the grants of one token.

    Granular scopes (`?category=...`), `patient/` scopes, wildcards inside a type name and
    letters out of order are not understood here and so grant nothing.
    """

    grants: frozenset[Grant] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Scopes:
        """Read a space-separated scope string (SMART v2 letters or v1 words)."""
        found = (_grant(part) for part in text.split(" "))
        return cls(frozenset(grant for grant in found if grant is not None))

    def allows(self, resource_type: str, interaction: Interaction) -> bool:
        """True when some grant names this type (or `*`) and this interaction."""
        return any(
            interaction in grant.interactions and grant.resource_type in ("*", resource_type)
            for grant in self.grants
        )

    def allows_all(self, resource_type: str, interactions: Iterable[Interaction]) -> bool:
        """True when each of the interactions is allowed."""
        return all(self.allows(resource_type, one) for one in interactions)

    @property
    def context(self) -> Context:
        """`user` when every grant is a user grant, else `system`."""
        contexts = {grant.context for grant in self.grants}
        return "user" if contexts == {"user"} else "system"


def _grant(part: str) -> Grant | None:
    match = _SCOPE.match(part)
    if match is None or not match[3]:
        return None
    letters = _V1.get(match[3], match[3])
    context: Context = "system" if match[1] == "system" else "user"
    return Grant(context, match[2], frozenset(letters))
