"""SMART scopes: grants by context, resource type, interaction and, where granular, a filter.

Source: SMART App Launch 2.2, Scopes and Launch Context. What is not understood grants nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import quote, unquote

from access.resource_types import FILTERS, RESOURCE_TYPES

Interaction = Literal["c", "r", "u", "d", "s"]
Context = Literal["patient", "system", "user"]
Filter = tuple[tuple[str, str], ...]

INTERACTIONS: frozenset[str] = frozenset(get_args(Interaction))
_CONTEXTS: dict[str, Context] = {one: one for one in get_args(Context)}
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}
_SCOPE = re.compile(
    r"(patient|system|user)/(\*|[A-Z][A-Za-z]{1,63})\.(\*|read|write|c?r?u?d?s?)(?:\?([!-~]+))?\Z",
    re.ASCII,
)
# One token: [system]|code. No comma, no modifier, no escape: what is not plain is not granted.
_TOKEN = re.compile(r"(?:[A-Za-z0-9:/._\-]*\|)?[A-Za-z0-9._\-]+\Z", re.ASCII)
_LONGEST_FILTER = 1_000


@dataclass(frozen=True, slots=True)
class Grant:
    """One scope that is understood.

    Attributes:
        context: whose data: the one patient of the launch, the user's, or the system's.
        resource_type: a type of R4, or `*`.
        interactions: letters of `cruds`.
        filter: search parameters that a resource must satisfy, all of them; a comma in a value
            means or. None: every resource of the type.
        word: the SMART v1 word that it was asked with; written back as it came.
    """

    context: Context
    resource_type: str
    interactions: frozenset[str]
    filter: Filter | None = None
    word: str | None = field(default=None, compare=False)

    def covers(self, resource_type: str, interaction: str) -> bool:
        """Whether it names this type (or `*`) and this interaction, its filter left aside."""
        return interaction in self.interactions and self.resource_type in ("*", resource_type)

    def __str__(self) -> str:
        letters = self.word or "".join(i for i in "cruds" if i in self.interactions)
        query = "&".join(f"{n}={quote(v, safe=':/|,._-')}" for n, v in self.filter or ())
        return f"{self.context}/{self.resource_type}.{letters}" + (f"?{query}" if query else "")


@dataclass(frozen=True, slots=True)
class Scopes:
    """The union of the grants of one token."""

    grants: frozenset[Grant] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Scopes:
        """Read a space-separated scope string (SMART v2 letters or v1 words).

        A type that R4 does not have, letters out of order, a parameter that is no token of the
        type or is not one of category, code, status and type: such a scope grants nothing.
        """
        found = (_grant(part) for part in text.split(" "))
        return cls(frozenset(grant for grant in found if grant is not None))

    def rules_for(self, resource_type: str, interaction: Interaction) -> list[Grant]:
        """The grants that name this type and interaction; a resource needs one of them."""
        return sorted((g for g in self.grants if g.covers(resource_type, interaction)), key=str)

    @property
    def context(self) -> Context:
        """`patient` or `system` when every grant is of that context; a mixture is a user's.

        A backend's tokens hold `system/` scopes and no others. Without any grant: `system`.
        """
        contexts = {grant.context for grant in self.grants} or {"system"}
        return contexts.pop() if len(contexts) == 1 else "user"

    def __str__(self) -> str:
        """The scope string that grants this and nothing else."""
        return " ".join(sorted(str(grant) for grant in self.grants))


def _grant(part: str) -> Grant | None:
    match = _SCOPE.match(part)
    if match is None or not match[3]:
        return None
    context, kind, letters, query = match.groups()
    word = letters if letters in _V1 else None
    if kind != "*" and kind not in RESOURCE_TYPES:
        return None
    chosen = _filter(kind, query) if query is not None else None
    if query is not None and (chosen is None or word is not None):
        return None
    return Grant(_CONTEXTS[context], kind, frozenset(_V1.get(letters, letters)), chosen, word)


def _filter(kind: str, query: str) -> Filter | None:
    """The parameters of a granular scope; None when one of them is not understood."""
    if len(query) > _LONGEST_FILTER:
        return None
    found = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        value = unquote(value)
        # On `*` a filter would mean something else on each type, so it is not taken.
        if kind not in FILTERS.get(name, ()) or not all(map(_TOKEN.match, value.split(","))):
            return None
        found.append((name, value))
    return tuple(sorted(found))
