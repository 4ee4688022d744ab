"""Searches of a caller who may see a part: what they ask is narrowed to that part.

The store drops what a grant does not cover, but it counts and pages before that. So the search
itself asks only for what is covered, wherever a search can say it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from access import Caller
from access.compartment import COMPARTMENT, PUBLIC
from access.scopes import Filter, Grant
from fhir_gateway.model import ServerModel
from fhir_gateway.outcome import Refusal

Pairs = list[tuple[str, str]]

ABOUT_PATIENT = frozenset({"patient", "subject"})
# By one of these a search finds what is tied to a record; its pages then tell of nothing else.
ANCHORS = ("_id", "patient", "target")
TOTALS = frozenset({"_total"})


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A search as it may be asked.

    Attributes:
        exact: everything that it matches is covered, so that its total may be told.
    """

    pairs: Pairs
    exact: bool


class Narrowing:
    """Narrows the searches of one caller."""

    def __init__(self, caller: Caller, model: ServerModel) -> None:
        self._caller = caller
        self._model = model

    def search(self, resource_type: str, pairs: Pairs) -> Narrowed:
        """The pairs with what holds them to the caller's part.

        Raises:
            Refusal: another patient is asked for (403), the patient twice (400), or a number
                that would tell of what is not covered (403).
        """
        _once(pairs)
        if self._caller.may_on_all(resource_type, "s"):
            return Narrowed(pairs, exact=True)
        grants = self._caller.grants_for(resource_type, "s")
        patients = {self._caller.patient_of(grant) for grant in grants}
        held, exact = list(pairs), len(patients) == 1
        patient = patients.pop() if exact else None
        if patient is not None and resource_type not in PUBLIC:
            parameter = self._held_by(resource_type)
            exact = parameter is not None
            if parameter is not None:
                held = _of_patient(resource_type, held, patient, parameter)
            else:
                _by_reference(resource_type, held, patient)
        elif len(patients) > 1 and resource_type not in PUBLIC:
            self._within_one(resource_type, grants, pairs)
        added = _filters(grants)
        held += added or []
        exact = exact and added is not None
        if not exact and any(_counts(name, value) for name, value in pairs):
            raise Refusal(403, "a number would tell of what is not granted")
        return Narrowed(held, exact)

    def _within_one(self, resource_type: str, grants: list[Grant], pairs: Pairs) -> None:
        """Refuse a search that no single grant covers, where they differ in whom they are about.

        What was dropped of its pages would tell how much of other patients there is.
        """
        for grant in grants:
            patient, asked = self._caller.patient_of(grant), set(pairs)
            parameter = self._held_by(resource_type)
            own = {(parameter, patient), (parameter, f"Patient/{patient}")}
            if asked >= set(grant.filter or ()) and (patient is None or asked & own):
                return
        raise Refusal(403, "name the patient of the token, or ask within one of its scopes")

    def read(self, resource_type: str, resource_id: str) -> None:
        """Refuse another patient's Patient, whether it exists or not (SMART Imaging Access)."""
        if resource_type != "Patient" or self._caller.may_on_all("Patient", "r"):
            return
        grants = self._caller.grants_for("Patient", "r")
        patients = {self._caller.patient_of(grant) for grant in grants}
        is_user = self._caller.fhir_user == f"Patient/{resource_id}"
        if None not in patients and resource_id not in patients and not is_user:
            raise Refusal(403, "the token is for another patient")

    def _held_by(self, resource_type: str) -> str | None:
        """The parameter that finds what is a patient's; None where the store has none."""
        for name in (COMPARTMENT.get(resource_type), "subject"):
            if name == "_id" or (name and self._model.kind(resource_type, name) == "reference"):
                return name if resource_type in COMPARTMENT else None
        return None


def _of_patient(resource_type: str, pairs: Pairs, patient: str, parameter: str) -> Pairs:
    asked = ABOUT_PATIENT | ({"_id"} if resource_type == "Patient" else set())
    for name, value in pairs:
        base, _, modifier = name.partition(":")
        if base not in asked:
            continue
        if modifier not in ("", "Patient"):
            raise Refusal(403, "the one patient of the token is named by its id")
        for one in value.split(","):
            _same(one, patient, base)
    own = patient if parameter == "_id" else f"Patient/{patient}"
    return pairs if (parameter, own) in pairs else [*pairs, (parameter, own)]


def _by_reference(resource_type: str, pairs: Pairs, patient: str) -> None:
    """Refuse a search over all of what is seen by reference: its pages tell how much there is."""
    for name, value in pairs:
        if name in ABOUT_PATIENT | {"target"}:
            for one in value.split(","):
                _same(one, patient, "subject")
    if not any(name in ANCHORS for name, _ in pairs):
        raise Refusal(403, f"{resource_type} is found by {' or '.join(ANCHORS)}, or by an include")


def _same(value: str, patient: str, parameter: str) -> None:
    """Refuse the reference to another Patient; one to a Group or Device finds nothing anyhow."""
    kind, _, identity = value.rstrip("/").rpartition("/")
    kind = kind.rsplit("/", 1)[-1]
    somebody = kind in ("", "Patient")
    if (somebody and identity != patient) or (parameter != "subject" and not somebody):
        raise Refusal(403, "the token is for another patient")


def _filters(grants: Iterable[Grant]) -> Pairs | None:
    """What all these grants ask for beside the patient; None when one search cannot say it."""
    filters: set[Filter | None] = {grant.filter for grant in grants}
    if None in filters or not filters:
        return []
    chosen = [one for one in filters if one is not None]
    if len(chosen) == 1:
        return list(chosen[0])
    names = {name for one in chosen for name, _ in one}
    if len(names) == 1 and all(len(one) == 1 for one in chosen):
        return [(names.pop(), ",".join(sorted(value for one in chosen for _, value in one)))]
    return None


def _counts(name: str, value: str) -> bool:
    return (
        name in TOTALS
        or (name == "_summary" and value == "count")
        or (name == "_count" and value.strip().lstrip("0") == "")
    )


def _once(pairs: Pairs) -> None:
    """A patient given twice is read differently by different programs."""
    for asked in ABOUT_PATIENT:
        if sum(name.partition(":")[0] == asked for name, _ in pairs) > 1:
            raise Refusal(400, f"{asked} is given twice")
