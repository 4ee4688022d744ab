"""What is open when an app is launched: judged with the rights of the user it is launched for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from access.users import User
from authorization.chart import Chart, patient_of
from authorization.context import LaunchContext
from authorization.errors import AuthorizationError, ContextError

_FOLLOWED = ("ImagingStudy", "DiagnosticReport")
_MAX_ENTRIES = 50


class NotOpen(AuthorizationError):
    """The user cannot have this open: it is not there, not theirs, or of different patients."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a page or a backend says is open.

    Attributes:
        patient: logical id of the Patient.
        encounter: logical id of the Encounter.
        study: Study Instance UID; its patient and its reports come with it.
        fhir_context: further objects as SMART App Launch 2.2 has them.
        intent: what the app is to do.
        need_patient_banner: whether the app has to show whose data it is.
    """

    patient: str | None = None
    encounter: str | None = None
    study: str | None = None
    fhir_context: tuple[Mapping[str, Any], ...] = ()
    intent: str | None = None
    need_patient_banner: bool = True

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Opening:
        """From JSON. Raises ContextError: a member has the wrong type."""
        texts = {name: body.get(name) for name in ("patient", "encounter", "study", "intent")}
        entries = body.get("fhirContext", [])
        banner = body.get("need_patient_banner", True)
        if not all(one is None or (isinstance(one, str) and one) for one in texts.values()):
            raise ContextError("patient, encounter, study and intent are texts")
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise ContextError("fhirContext is a list of objects")
        if len(entries) > _MAX_ENTRIES or not isinstance(banner, bool):
            raise ContextError("fhirContext is too long, or need_patient_banner not true or false")
        return cls(**texts, fhir_context=tuple(entries), need_patient_banner=banner)


async def context_of(chart: Chart, user: User, opening: Opening) -> LaunchContext:
    """The launch context.

    Raises:
        NotOpen: something is not there for this user, or not of the one patient.
        ContextError: a rule of fhirContext is broken.
        ChartAway: it cannot be found out now.
    """
    patient, entries = opening.patient, list(opening.fhir_context)
    if opening.study is not None:
        study = await chart.study(user, opening.study)
        if study is None:
            raise NotOpen("there is no such study for this user")
        patient = patient or patient_of(study)
        entries += await _of_study(chart, user, study)
    context = LaunchContext(
        patient=patient,
        encounter=opening.encounter,
        fhir_context=tuple(_without_repeats(entries)),
        intent=opening.intent,
        need_patient_banner=opening.need_patient_banner if patient is not None else None,
    )
    await _check(chart, user, context)
    return context


async def _of_study(chart: Chart, user: User, study: dict[str, Any]) -> list[dict[str, Any]]:
    entries = [{"reference": f"ImagingStudy/{study['id']}"}]
    patient = patient_of(study)
    if patient is not None:
        reports = await chart.reports_of(user, patient, study["id"])
        entries += [{"reference": f"DiagnosticReport/{one['id']}"} for one in reports]
    return entries


async def _check(chart: Chart, user: User, context: LaunchContext) -> None:
    patient = context.patient
    if patient is not None and await chart.read(user, "Patient", patient) is None:
        raise NotOpen("there is no such patient for this user")
    if user.patient is not None and patient not in (None, user.patient):
        raise NotOpen("there is no such patient for this user")
    about = [f"Encounter/{context.encounter}"] if context.encounter is not None else []
    for entry in context.fhir_context:
        reference = str(entry.get("reference", ""))
        about += [reference] if reference.partition("/")[0] in _FOLLOWED else []
    for reference in about:
        kind, _, logical_id = reference.partition("/")
        found = await chart.read(user, kind, logical_id)
        if found is None or (patient is not None and patient_of(found) != patient):
            raise NotOpen(f"{kind}: there is no such one of this patient for this user")


def _without_repeats(entries: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    kept: list[Mapping[str, Any]] = []
    for entry in entries:
        if entry not in kept:
            kept.append(entry)
    return kept
