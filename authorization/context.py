"""The launch context: what an app is told beside its token (SMART App Launch 2.2, chapter 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from authorization.errors import ContextError

# FHIR allows the ids `.` and `..`, but as a part of a path they name something else.
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9\-.]{1,64}", re.ASCII)
_REFERENCE = re.compile(rf"([A-Z][A-Za-z]{{1,63}})/{_ID.pattern}", re.ASCII)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+", re.ASCII)
_POINTERS = ("reference", "canonical", "identifier")
# Of these an app is told by `patient` and `encounter`.
_OWN_FIELDS = ("Patient", "Encounter")
_LAUNCH = "launch"


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What is open where the app was started.

    Attributes:
        patient: logical id of the Patient.
        encounter: logical id of the Encounter.
        fhir_context: objects such as `{"reference": "ImagingStudy/1"}`.
        intent: what the app is to do, such as `reconcile-medications`.
        need_patient_banner: whether the app has to show whose data it is; None without patient.
        smart_style_url: where the looks of the surrounding page are described.
    """

    patient: str | None = None
    encounter: str | None = None
    fhir_context: tuple[Mapping[str, Any], ...] = ()
    intent: str | None = None
    need_patient_banner: bool | None = None
    smart_style_url: str | None = None

    def __post_init__(self) -> None:
        for identity in (self.patient, self.encounter):
            if identity is not None and not _ID.fullmatch(identity):
                raise ContextError("patient and encounter are logical ids")
        for entry in self.fhir_context:
            _check(entry)

    def fields(self) -> dict[str, Any]:
        """Its members in a token response: JSON siblings of the access token."""
        banner = self.need_patient_banner
        if banner is None and self.patient is not None:
            banner = True
        return {
            name: value
            for name, value in {
                "patient": self.patient,
                "encounter": self.encounter,
                "fhirContext": [dict(entry) for entry in self.fhir_context] or None,
                "intent": self.intent,
                "need_patient_banner": banner,
                "smart_style_url": self.smart_style_url,
            }.items()
            if value is not None
        }

    def claims(self) -> dict[str, Any]:
        """The part that the access token itself carries."""
        carried = ("patient", "encounter", "fhirContext", "intent")
        return {name: value for name, value in self.fields().items() if name in carried}

    def as_json(self) -> dict[str, Any]:
        """For the table; `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> LaunchContext:
        """What `as_json` wrote."""
        known = {one: kept[one] for one in cls.__dataclass_fields__ if one in kept}
        return cls(**{**known, "fhir_context": tuple(kept.get("fhir_context", ()))})


def is_id(text: str) -> bool:
    """Whether a text is a logical id of FHIR."""
    return _ID.fullmatch(text) is not None


def _check(entry: Mapping[str, Any]) -> None:
    """Raises ContextError unless it is a fhirContext object as section 3.3 has it."""
    if not any(entry.get(name) for name in _POINTERS):
        raise ContextError("each fhirContext has a reference, a canonical or an identifier")
    role = entry.get("role", _LAUNCH)
    if not isinstance(role, str) or (role != _LAUNCH and not _URI.fullmatch(role)):
        raise ContextError("the role of a fhirContext is 'launch' or an absolute URI")
    reference = entry.get("reference")
    if reference is None:
        return
    found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    if found is None:
        raise ContextError("the reference of a fhirContext is relative: Type/id")
    if found[1] in _OWN_FIELDS and role == _LAUNCH:
        raise ContextError("the launch Patient and Encounter have members of their own")
