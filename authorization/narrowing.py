"""What is granted of what is asked: never more than an outer limit, said in the asker's words.

A scope of SMART v1 that is granted comes back in v1 (SMART App Launch 2.2, section 2.9).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from access.roles import scopes_of
from access.scopes import Grant, Scopes
from access.users import User

# Scopes that name no resources.
PLAIN = frozenset(
    {
        "openid",
        "fhirUser",
        "profile",
        "launch",
        "launch/patient",
        "launch/encounter",
        "launch/imagingstudy",
        "online_access",
        "offline_access",
    }
)
PERSONAL = ("patient", "user")
_LETTERS = "cruds"
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}
_Filter = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class _Right:
    """One understood scope; an empty filter lets everything pass."""

    context: str
    kind: str
    letters: frozenset[str]
    filter: _Filter


def narrow(requested: str, allowed: str) -> str:
    """The part of the requested scopes that the allowed ones contain, in the requested order."""
    limits = _rights(Scopes.parse(allowed).grants)
    plain = set(allowed.split()) & PLAIN
    return _joined(_narrowed(one, limits, plain) for one in requested.split())


def narrowed_to_user(requested: str, user: User) -> str:
    """The part of the requested scopes that this user may grant to an app.

    The rights of a role count for `patient/` and `user/` alike: an app sees of the patient what
    its user sees. `system/` is not a person's to give.
    """
    limits = [
        _Right(context, right.kind, right.letters, right.filter)
        for right in _rights(scopes_of(user.role).grants)
        for context in PERSONAL
    ]
    return _joined(_narrowed(one, limits, PLAIN) for one in requested.split())


def covers(outer: str, inner: str) -> bool:
    """Whether each of the inner scopes lies whole within the outer ones."""
    limits = _rights(Scopes.parse(outer).grants)
    plain = set(outer.split())
    return all(_is_covered(one, limits, plain) for one in inner.split())


def is_understood(scope: str) -> bool:
    """Whether one scope means something here."""
    return scope in PLAIN or bool(Scopes.parse(scope).grants)


def _narrowed(scope: str, limits: Iterable[_Right], plain: Iterable[str]) -> list[str]:
    if scope in PLAIN:
        return [scope] if scope in plain else []
    found: list[str] = []
    for right in _rights(Scopes.parse(scope).grants):
        parts = _without_repeats(_parts(right, limits))
        if right in parts:
            return [scope]
        is_v1 = scope.partition(".")[2] in _V1
        for part in parts:
            found += _texts(part, is_v1)
    return found


def _is_covered(scope: str, limits: Iterable[_Right], plain: Iterable[str]) -> bool:
    if scope in PLAIN:
        return scope in plain
    rights = _rights(Scopes.parse(scope).grants)
    return bool(rights) and all(right in _parts(right, limits) for right in rights)


def _parts(asked: _Right, limits: Iterable[_Right]) -> list[_Right]:
    """What of one right lies within the limits; letters of one type and filter together."""
    letters: dict[tuple[str, _Filter], frozenset[str]] = {}
    for limit in limits:
        common = asked.letters & limit.letters
        if limit.context != asked.context or not common:
            continue
        if "*" not in (asked.kind, limit.kind) and asked.kind != limit.kind:
            continue
        kind = limit.kind if asked.kind == "*" else asked.kind
        key = kind, _both(asked.filter, limit.filter)
        letters[key] = letters.get(key, frozenset()) | common
    return [_Right(asked.context, kind, some, how) for (kind, how), some in letters.items()]


def _both(one: _Filter, other: _Filter) -> _Filter:
    """Both conditions; one that another of the same parameter implies is left out."""
    pairs = one | other
    values = {pair: frozenset(pair[1].split(",")) for pair in pairs}
    return frozenset(
        pair
        for pair in pairs
        if not any(pair[0] == less[0] and values[less] < values[pair] for less in pairs)
    )


def _without_repeats(parts: list[_Right]) -> list[_Right]:
    """Without letters that a wider part of the same right grants."""
    kept = []
    for part in parts:
        rest = part.letters
        for wide in parts:
            if wide != part and wide.kind in ("*", part.kind) and wide.filter <= part.filter:
                rest -= wide.letters
        if rest:
            kept.append(_Right(part.context, part.kind, rest, part.filter))
    return kept


def _texts(right: _Right, is_v1: bool) -> list[str]:
    letters, words = right.letters, []
    if is_v1 and not right.filter:
        for word, meaning in (("*", "cruds"), ("read", "rs"), ("write", "cud")):
            if letters and letters >= frozenset(meaning):
                words.append(word)
                letters -= frozenset(meaning)
    if letters:
        words.append("".join(one for one in _LETTERS if one in letters))
    query = "&".join(f"{name}={value}" for name, value in sorted(right.filter))
    tail = f"?{query}" if query else ""
    return [f"{right.context}/{right.kind}.{word}{tail}" for word in words]


def _rights(grants: Iterable[Grant]) -> list[_Right]:
    found = [
        _Right(
            grant.context,
            grant.resource_type,
            frozenset(grant.interactions),
            frozenset(getattr(grant, "filter", None) or ()),
        )
        for grant in grants
    ]
    return sorted(found, key=lambda right: (right.context, right.kind, sorted(right.letters)))


def _joined(parts: Iterable[list[str]]) -> str:
    return " ".join(dict.fromkeys(one for part in parts for one in part))
