"""From a caller to rules: what each scope of a token means for the FHIR store.

Each scope keeps its own context: a `patient/` scope is held to the patient of the launch, and so
is a `user/` scope of a user who is a patient; the rights of a token are the union.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from urllib.parse import quote

from access.caller import Caller
from access.compartment import COMPARTMENT, PUBLIC, REFERRED, REFERRING
from access.grants import Rights, Rule
from access.scopes import Filter, Grant

LETTERS = "cruds"
_READ = "rs"
_CACHED = 2_048


def rights_of(caller: Caller) -> Rights:
    """What a caller may do in the FHIR store."""
    # Only what decides is kept, so that one person's many tokens share what was made.
    return _rights_of(
        replace(caller, address=None, fhir_context=(), encounter=None, session=None, token_id=None)
    )


@lru_cache(maxsize=_CACHED)
def _rights_of(caller: Caller) -> Rights:
    grants = [
        grant
        for grant in sorted(caller.scopes.grants, key=str)
        if grant.context != "patient" or caller.patient is not None
    ]
    rules = dict.fromkeys(rule for grant in grants for rule in _rules(caller, grant))
    rules |= dict.fromkeys(_itself(caller))
    operations = ["$validate"] if grants else []
    if caller.may("*", "r") and caller.may("*", "s"):
        operations.append("$everything")
    return Rights(
        mode=caller.kind,
        subject=caller.subject,
        client=caller.client,
        rules=(*rules, *_implied(tuple(rules))),
        operations=tuple(operations),
    )


def _rules(caller: Caller, grant: Grant) -> Iterator[Rule]:
    patient, letters = caller.patient_of(grant), _letters(grant)
    if patient is None:
        yield from _of_everybody(grant, letters)
        return
    yield from _of_one_patient(grant, patient, letters)


def _itself(caller: Caller) -> Iterator[Rule]:
    """Read access to the resource that says who the user is."""
    kind, _, name = (caller.fhir_user or "").partition("/")
    if caller.reads_itself and name:
        yield Rule(types=(kind,), letters="r", filter=f"_id={quote(name)}")


def _of_everybody(grant: Grant, letters: str) -> Iterator[Rule]:
    if grant.resource_type == "*":
        yield Rule(letters=letters)
    elif grant.resource_type == "Binary":
        # A Binary is read by whoever may read what it belongs to; see `_implied`.
        written = "".join(letter for letter in letters if letter not in _READ)
        if written:
            yield Rule(types=("Binary",), letters=written)
    else:
        query = _query(grant.filter)
        yield Rule(types=(grant.resource_type,), letters=letters, filter=query)


def _of_one_patient(grant: Grant, patient: str, letters: str) -> Iterator[Rule]:
    """The rules of a scope that is held to one patient; what is shared by all is only read."""
    named = grant.resource_type
    query = _query(grant.filter)
    read = "".join(letter for letter in letters if letter in _READ)
    if inside := _named(named, COMPARTMENT):
        yield Rule(types=inside, letters=letters, patient=patient, filter=query)
    if read and (shared := _named(named, PUBLIC)):
        yield Rule(types=shared, letters=read, filter=query)
    for kind in _named(named, REFERRED) if read else ():
        yield Rule(types=(kind,), letters=read, filter=query, referred_by=REFERRED[kind])
    for kind in _named(named, REFERRING) if read else ():
        yield Rule(types=(kind,), letters=read, filter=query, refers_by=REFERRING[kind])
    # Provenance is written for a resource of the patient by who may write there.
    if named in ("*", "Provenance") and "c" in letters:
        yield Rule(types=("Provenance",), letters="c", refers_by=REFERRING["Provenance"])


def _implied(rules: tuple[Rule, ...]) -> Iterator[Rule]:
    """What comes with a granted resource: its attachments, and where its pixels are."""
    if any("r" in rule.letters for rule in rules):
        yield Rule(types=("Binary",), letters="r", refers_by=REFERRING["Binary"])
    if any(set(rule.letters) & set(_READ) and "ImagingStudy" in rule.types for rule in rules):
        yield Rule(types=("Endpoint",), letters="r", referred_by=REFERRED["Endpoint"])


def _named(named: str, table: Iterable[str]) -> tuple[str, ...]:
    types = frozenset(table)
    return tuple(sorted(types)) if named == "*" else ((named,) if named in types else ())


def _letters(grant: Grant) -> str:
    return "".join(letter for letter in LETTERS if letter in grant.interactions)


def _query(chosen: Filter | None) -> str | None:
    if chosen is None:
        return None
    return "&".join(f"{name}={quote(value, safe=',:/.')}" for name, value in chosen)
