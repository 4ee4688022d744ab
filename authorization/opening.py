"""What is open when an app is launched: judged with the rights of the user it is launched for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from access.users import User
from authorization.chart import Chart, patient_of
from authorization.context import LaunchContext
from authorization.errors import AuthorizationError, ContextError

_FOLLOWED = ("ImagingStudy", "DiagnosticReport")
# The access token carries it, and doors read no token that is too long.
_MAX_BYTES = 4_000


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
        if not isinstance(banner, bool):
            raise ContextError("need_patient_banner is true or false")
        _check_text([texts, entries])
        return cls(**texts, fhir_context=tuple(entries), need_patient_banner=banner)


def _check_text(told: object) -> None:
    """Raises ContextError: too long, too deep, or with what no text in a table may hold."""
    try:
        text = orjson.dumps(told)
    except TypeError as error:
        raise ContextError("fhirContext is nested too deeply, or is not text") from error
    if len(text) > _MAX_BYTES:
        raise ContextError(f"what is open is told in at most {_MAX_BYTES} bytes")
    if rb"\u0000" in text:
        raise ContextError("what is open holds a NUL")


async def context_of(chart: Chart, user: User, opening: Opening) -> LaunchContext:
    """The launch context.

    Raises:
        NotOpen: something is not there for this user, or not of the one patient.
        ContextError: a rule of fhirContext is broken.
        ChartAway: it cannot be found out now.
    """
    entries = list(opening.fhir_context)
    if opening.study is not None:
        study = await chart.study(user, opening.study)
        if study is None:
            raise NotOpen("there is no such study for this user")
        entries += await _of_study(chart, user, study)
    context = LaunchContext(
        patient=opening.patient,
        encounter=opening.encounter,
        fhir_context=tuple(_without_repeats(entries)),
        intent=opening.intent,
    )
    patient = await _whose(chart, user, context)
    banner = opening.need_patient_banner if patient is not None else None
    return replace(context, patient=patient, need_patient_banner=banner)


async def _of_study(chart: Chart, user: User, study: dict[str, Any]) -> list[dict[str, Any]]:
    reports = await chart.reports_of(user, study["id"])
    return [
        {"reference": f"ImagingStudy/{study['id']}"},
        *({"reference": f"DiagnosticReport/{one['id']}"} for one in reports),
    ]


async def _whose(chart: Chart, user: User, context: LaunchContext) -> str | None:
    """The one patient of all that is open, named or not; None: nothing open is of a patient."""
    about = [f"Encounter/{context.encounter}"] if context.encounter is not None else []
    for entry in context.fhir_context:
        reference = str(entry.get("reference", ""))
        about += [reference] if reference.partition("/")[0] in _FOLLOWED else []
    patient = context.patient
    for reference in about:
        kind, _, logical_id = reference.partition("/")
        found = await chart.read(user, kind, logical_id)
        whose = patient_of(found) if found is not None else None
        patient = patient or whose
        if whose is None or whose != patient:
            raise NotOpen(f"{kind}: there is no such one of this patient for this user")
    if patient is None:
        return None
    if user.patient not in (None, patient) or await chart.read(user, "Patient", patient) is None:
        raise NotOpen("there is no such patient for this user")
    return patient


def _without_repeats(entries: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    kept: list[Mapping[str, Any]] = []
    for entry in entries:
        if entry not in kept:
            kept.append(entry)
    return kept
