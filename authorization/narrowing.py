"""What is granted of what is asked: never more than an outer limit, said in the asker's words.

A scope of SMART v1 that is granted comes back in v1 (SMART App Launch 2.2, section 2.9).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from access.roles import scopes_of
from access.scopes import Context, Filter, Grant, Scopes
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
PERSONAL: tuple[Context, ...] = ("patient", "user")
_V1 = (("*", frozenset("cruds")), ("read", frozenset("rs")), ("write", frozenset("cud")))


def narrow(requested: str, allowed: str) -> str:
    """The part of the requested scopes that the allowed ones contain, in the requested order."""
    plain = PLAIN.intersection(allowed.split())
    return _narrowed(requested, Scopes.parse(allowed).grants, plain)


def narrowed_to_user(requested: str, user: User) -> str:
    """The part of the requested scopes that this user may grant to an app.

    The rights of a role count for `patient/` and `user/` alike: an app sees of the patient what
    its user sees. `system/` is not a person's to give.
    """
    limits = [
        replace(grant, context=context)
        for grant in scopes_of(user.role).grants
        for context in PERSONAL
    ]
    return _narrowed(requested, limits, PLAIN)


def covers(outer: str, inner: str) -> bool:
    """Whether each of the inner scopes lies whole within the outer ones."""
    limits = Scopes.parse(outer).grants
    return all(_is_covered(one, limits, outer.split()) for one in inner.split())


def _narrowed(requested: str, limits: Iterable[Grant], plain: Iterable[str]) -> str:
    found: list[str] = []
    for scope in requested.split():
        if scope in PLAIN:
            found += [scope] if scope in plain else []
            continue
        for grant in Scopes.parse(scope).grants:
            parts = _parts(grant, limits)
            if grant in parts:
                found.append(scope)
            else:
                found += [text for part in _without_repeats(parts) for text in _texts(part)]
    return " ".join(dict.fromkeys(found))


def _is_covered(scope: str, limits: Iterable[Grant], plain: Iterable[str]) -> bool:
    if scope in PLAIN:
        return scope in plain
    grants = Scopes.parse(scope).grants
    return bool(grants) and all(grant in _parts(grant, limits) for grant in grants)


def _parts(asked: Grant, limits: Iterable[Grant]) -> list[Grant]:
    """What of one grant lies within the limits; letters of one type and filter together."""
    letters: dict[tuple[str, Filter | None], frozenset[str]] = {}
    for limit in limits:
        common = asked.interactions & limit.interactions
        if limit.context != asked.context or not common:
            continue
        kinds = {asked.resource_type, limit.resource_type}
        if len(kinds) > 1 and "*" not in kinds:
            continue
        kind = limit.resource_type if asked.resource_type == "*" else asked.resource_type
        key = kind, _both(asked.filter, limit.filter)
        letters[key] = letters.get(key, frozenset()) | common
    return sorted(
        (
            replace(asked, resource_type=kind, interactions=some, filter=how)
            for (kind, how), some in letters.items()
        ),
        key=str,
    )


def _both(one: Filter | None, other: Filter | None) -> Filter | None:
    """Both conditions; one that another of the same parameter implies is left out."""
    pairs = {*(one or ()), *(other or ())}
    values = {pair: frozenset(pair[1].split(",")) for pair in pairs}
    kept = sorted(
        pair
        for pair in pairs
        if not any(pair[0] == less[0] and values[less] < values[pair] for less in pairs)
    )
    return tuple(kept) or None


def _without_repeats(parts: list[Grant]) -> list[Grant]:
    """Without letters that a wider part of the same grant gives."""
    kept = []
    for part in parts:
        rest = part.interactions
        for wide in parts:
            is_wider = wide.resource_type in ("*", part.resource_type) and set(
                wide.filter or ()
            ) <= set(part.filter or ())
            if wide != part and is_wider:
                rest -= wide.interactions
        if rest:
            kept.append(replace(part, interactions=rest))
    return kept


def _texts(grant: Grant) -> list[str]:
    """One grant as scopes; with words of v1, as far as they go, when it was asked for in v1."""
    letters, found = grant.interactions, []
    for word, meaning in _V1 if grant.word is not None and grant.filter is None else ():
        if letters >= meaning:
            found.append(str(replace(grant, word=word)))
            letters -= meaning
    if letters:
        found.append(str(replace(grant, interactions=letters, word=None)))
    return found
