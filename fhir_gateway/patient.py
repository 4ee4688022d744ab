"""Who is in the pictures: DICOM patient attributes as a FHIR Patient with its issuer.

A patient is the pair (PatientID, issuer). Two issuers never share an identifier system, so a
conditional create by identifier can neither merge nor split patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_gateway.dicom_values import DicomJson, clean, fhir_date, items, text
from fhir_gateway.names import comparable, human_names, unknown_name
from records import codes, identifiers

PROFILE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
GENDERS = {"M": "male", "F": "female", "O": "other"}


@dataclass(frozen=True, slots=True)
class IssuerRules:
    """Identifier systems for PatientIDs that name no issuer themselves.

    Attributes:
        default: of the whole site; empty where there is no such one.
        of_ae: by calling AE title.
    """

    default: str
    of_ae: Mapping[str, str]

    def system(self, sources: Sequence[str]) -> str:
        """The system that the sending AE title stands for, or the default."""
        return next((self.of_ae[ae] for ae in sources if ae in self.of_ae), self.default)


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """The identifier a patient is found by.

    Attributes:
        known: False for a quarantine patient, who is this study's alone.
        issued: whether the images themselves say who issued the PatientID.
    """

    system: str
    value: str
    known: bool
    issued: bool = False


def identity_of(
    study: DicomJson, study_uid: str, sources: Sequence[str], rules: IssuerRules
) -> PatientIdentity:
    """The patient's identifier.

    Without a PatientID, or where nobody says who issued it, one that belongs to this study alone:
    equal numbers of two issuers are two people.
    """
    value = text(study, "00100020")
    issuer = _universal_entity(study) or _local_issuer(study)
    system = issuer or rules.system(sources)
    if value is None or not system:
        return unidentified(study_uid)
    return PatientIdentity(system, value, known=True, issued=issuer is not None)


def unidentified(study_uid: str) -> PatientIdentity:
    """The identifier of a patient who is this study's alone."""
    return PatientIdentity(
        identifiers.UNIDENTIFIED_PATIENT, identifiers.oid(study_uid), known=False
    )


def to_patient(study: DicomJson, identity: PatientIdentity) -> dict[str, Any]:
    """A new Patient with what the images say. Never used to overwrite one that exists."""
    identifier: dict[str, Any] = {"system": identity.system, "value": identity.value}
    if identity.known:
        identifier = {"type": codes.concept(codes.MEDICAL_RECORD_TYPE)} | identifier
    patient: dict[str, Any] = {
        "resourceType": "Patient",
        "meta": {"profile": [PROFILE]},
        "identifier": [identifier],
        "name": human_names(study, "00100010") or [unknown_name()],
        "gender": gender_of(study),
    }
    if not identity.known:
        patient["meta"]["tag"] = [codes.UNIDENTIFIED.coding]
        if number := text(study, "00100020"):
            patient["identifier"].append(
                {"use": "temp", "system": identifiers.UNISSUED_NUMBER, "value": number}
            )
    if birth_date := fhir_date(study, "00100030"):
        patient["birthDate"] = birth_date
    return patient


def number_of(study: DicomJson, identity: PatientIdentity) -> dict[str, str] | None:
    """The PatientID as the images have it, as an Identifier; None where they have none.

    A merged patient's images keep the old number, and whatever joins them must carry the same.
    """
    value = text(study, "00100020")
    if value is None:
        return None
    system = identity.system if identity.known else identifiers.UNISSUED_NUMBER
    return {"system": system, "value": value}


def gender_of(study: DicomJson) -> str:
    """AdministrativeGender from Patient's Sex; `unknown` when it says nothing."""
    return GENDERS.get((text(study, "00100040") or "").upper(), "unknown")


def differences(stored: Mapping[str, Any], study: DicomJson) -> list[str]:
    """Which of name, birthDate and gender the images contradict; silence is no contradiction."""
    found = []
    ours = {comparable(name) for name in human_names(study, "00100010")}
    theirs = {comparable(n) for n in stored.get("name", []) if n.get("family") or n.get("given")}
    if ours and theirs and not ours & theirs:
        found.append("name")
    born, stored_born = fhir_date(study, "00100030"), stored.get("birthDate")
    if born and stored_born and not born.startswith(stored_born):
        found.append("birthDate")
    known = {"male", "female", "other"}
    if {gender_of(study), stored.get("gender")} <= known and gender_of(study) != stored["gender"]:
        found.append("gender")
    return found


def _universal_entity(study: DicomJson) -> str | None:
    """(0010,0024)/(0040,0032) with its type (0040,0033) as a URI."""
    for item in items(study, "00100024"):
        entity, kind = text(item, "00400032"), (text(item, "00400033") or "").upper()
        if entity is None:
            continue
        if kind == "ISO":
            return identifiers.oid(entity)
        if kind == "UUID":
            return f"urn:uuid:{entity.lower()}"
        if kind == "URI":
            return clean(entity)
        return identifiers.issuer_system(f"{kind}:{entity}")
    return None


def _local_issuer(study: DicomJson) -> str | None:
    issuer = text(study, "00100021")
    return identifiers.issuer_system(issuer) if issuer else None
