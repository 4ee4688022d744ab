"""Whom a study is about: by its order, by its PatientID and issuer, or nobody that is known."""

from __future__ import annotations

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
        known: the Patient, or None where a new one is to be made.
        orders: the orders that are for the same patient.
        flags: doubts, for a person.
    """

    identity: PatientIdentity
    known: Resource | None
    orders: Sequence[KnownOrder]
    flags: Sequence[codes.Code]


async def subject_of(
    records: Records,
    summary: StudySummary,
    identity: PatientIdentity,
    candidates: Sequence[KnownOrder],
) -> Subject:
    """Decide about one study. A merged patient's studies are the surviving patient's.

    An order that we gave to the modality, Study Instance UID and PatientID included, says whose
    the PatientID is where the images themselves name no issuer.
    """
    known = None
    if not identity.issued:
        known = await _patient_of_order(records, summary, candidates)
    if known is None:
        token = identifiers.token(identity.system, identity.value)
        found = await records.first("Patient", {"identifier": token})
        known = await surviving(records, f"Patient/{found['id']}") if found else None
    orders, strange = await _split(records, candidates, known)
    flags = _flags(summary, known)
    if strange and not orders:
        log.warning("publish.order_differs", study=summary.uid)
        flags.append(codes.ORDER_DIFFERS)
    return Subject(identity, known, orders, flags)


async def _patient_of_order(
    records: Records, summary: StudySummary, candidates: Sequence[KnownOrder]
) -> Resource | None:
    value = text(summary.attributes, "00100020")
    meant = {
        order.patient
        for order in candidates
        if order.study_uid == summary.uid and value and order.patient_id == value
    }
    if len(meant) != 1:
        return None
    try:
        return await surviving(records, meant.pop())
    except NotFound:
        return None


async def _split(
    records: Records, candidates: Sequence[KnownOrder], known: Resource | None
) -> tuple[list[KnownOrder], list[KnownOrder]]:
    """Orders for this patient, and orders that name another one."""
    own: list[KnownOrder] = []
    strange: list[KnownOrder] = []
    for order in candidates:
        try:
            meant = await surviving(records, order.patient)
        except NotFound:
            continue
        same = known is not None and meant["id"] == known["id"]
        (own if same else strange).append(order)
    return own, strange


def _flags(summary: StudySummary, known: Resource | None) -> list[codes.Code]:
    """Doubts about the patient, for a person: on the study, so that Patient stays untouched."""
    flags = []
    if summary.patient_mismatch:
        flags.append(codes.PATIENT_IDS_DIFFER)
    if known is not None and (found := patient.differences(known, summary.attributes)):
        log.warning("publish.demographics_differ", study=summary.uid, elements=found)
        flags.append(codes.DEMOGRAPHICS_DIFFER)
    return flags
