"""Whom a study is about: by its order, by its PatientID and issuer, or nobody that is known.

Where several Patients have the number none is taken at random: see `_of_several`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from archive.summary import StudySummary
from fhir_gateway import patient
from fhir_gateway.dicom_values import text
from fhir_gateway.identity.merging import surviving
from fhir_gateway.orders.table import KnownOrder
from fhir_gateway.patient import PatientIdentity
from records import NotFound, Records, codes, identifiers

Resource = dict[str, Any]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Subject:
    """The answer for one study.

    Attributes:
        identity: what a new Patient is made with.
        number: PatientID in the images and its system, if they have one.
        known: the Patient, or None where a new one is to be made.
        orders: the orders that are for the same patient.
        flags: doubts, for a person.
    """

    identity: PatientIdentity
    number: dict[str, str] | None
    known: Resource | None
    orders: Sequence[KnownOrder]
    flags: Sequence[codes.Code]


async def subject_of(
    records: Records,
    summary: StudySummary,
    identity: PatientIdentity,
    candidates: Sequence[KnownOrder],
    current: str | None = None,
) -> Subject:
    """Decide about one study. A merged patient's studies are the surviving patient's.

    An order that we gave to the modality, Study Instance UID and PatientID included, says whose
    the PatientID is where the images themselves name no issuer.

    Args:
        current: `Patient/ID` that the study is published for, if it is.
    """
    number = patient.number_of(summary.attributes, identity)
    meant = await _meant(records, candidates)
    known, in_doubt = None, False
    if not identity.issued:
        known = _patient_of_order(summary, meant)
    if known is None:
        found = await patients_of(records, identity)
        known = found[0] if found else None
        if len(found) > 1:
            known, in_doubt = await _of_several(records, summary, found, meant, current)
            identity = patient.unidentified(summary.uid)
    same = known["id"] if known else None
    orders = [order for order, one in meant if one["id"] == same]
    flags = _flags(summary, known)
    if in_doubt:
        log.warning("publish.patients_doubled", study=summary.uid)
        flags.append(codes.PATIENTS_DOUBLED)
    if meant and not orders:
        log.warning("publish.order_differs", study=summary.uid)
        flags.append(codes.ORDER_DIFFERS)
    return Subject(identity, number, known, orders, flags)


async def patients_of(records: Records, identity: PatientIdentity) -> list[Resource]:
    """The Patients of an identifier as they stand after merges; inactive ones only if all are."""
    token = identifiers.token(identity.system, identity.value)
    found = {}
    for one in await records.search("Patient", {"identifier": token}):
        survivor = await surviving(records, f"Patient/{one['id']}")
        found[survivor["id"]] = survivor
    active = [one for one in found.values() if one.get("active", True)]
    return active or list(found.values())


async def _of_several(
    records: Records,
    summary: StudySummary,
    found: Sequence[Resource],
    meant: Sequence[tuple[KnownOrder, Resource]],
    current: str | None,
) -> tuple[Resource | None, bool]:
    """Which of several Patients with one number a study is about, and whether that is in doubt.

    An order may say it, or the merge of the Patient that the study got meanwhile. A study that
    one of them has stays there; any other gets a Patient of its own.
    """
    own = await patients_of(records, patient.unidentified(summary.uid))
    for sure in ([one for _, one in meant], own):
        named = [one for one in found if one["id"] in {other["id"] for other in sure}]
        if len(named) == 1:
            return named[0], False
    held = None
    if current is not None:
        with contextlib.suppress(NotFound):
            held = (await surviving(records, current))["id"]
    return next((one for one in (*found, *own) if one["id"] == held), next(iter(own), None)), True


def _patient_of_order(
    summary: StudySummary, meant: Sequence[tuple[KnownOrder, Resource]]
) -> Resource | None:
    value = text(summary.attributes, "00100020")
    named = {
        one["id"]: one
        for order, one in meant
        if order.study_uid == summary.uid and value and order.patient_id == value
    }
    return next(iter(named.values())) if len(named) == 1 else None


async def _meant(
    records: Records, candidates: Sequence[KnownOrder]
) -> list[tuple[KnownOrder, Resource]]:
    """Orders with the Patient that each is for today; without those whose Patient is gone."""
    found = []
    for order in candidates:
        with contextlib.suppress(NotFound):
            found.append((order, await surviving(records, order.patient)))
    return found


def _flags(summary: StudySummary, known: Resource | None) -> list[codes.Code]:
    """Doubts about the patient, for a person: on the study, so that Patient stays untouched."""
    flags = []
    if summary.patient_mismatch:
        flags.append(codes.PATIENT_IDS_DIFFER)
    if known is not None and (found := patient.differences(known, summary.attributes)):
        log.warning("publish.demographics_differ", study=summary.uid, elements=found)
        flags.append(codes.DEMOGRAPHICS_DIFFER)
    return flags
