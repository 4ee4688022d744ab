"""The Patient compartment of R4: which search parameters lead to a patient, and by which elements.

Source: CompartmentDefinition `patient` of FHIR R4, paths from the search parameters' expressions.
Device is added for US Core, which has a patient on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_REFERENCE = re.compile(r"(?:\A|/)Patient/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]+)?\Z", re.ASCII)

_TABLE = """
Account subject
AdverseEvent subject
AllergyIntolerance patient | recorder | asserter
Appointment actor=participant.actor
AppointmentResponse actor
AuditEvent patient=agent.who,entity.what
Basic patient=subject | author
BodyStructure patient
CarePlan patient=subject | performer=activity.detail.performer
CareTeam patient=subject | participant=participant.member
ChargeItem subject
Claim patient | payee=payee.party
ClaimResponse patient
ClinicalImpression subject
Communication subject | sender | recipient
CommunicationRequest subject | sender | recipient | requester
Composition subject | author | attester=attester.party
Condition patient=subject | asserter
Consent patient
Coverage policy-holder=policyHolder | subscriber | beneficiary | payor
CoverageEligibilityRequest patient
CoverageEligibilityResponse patient
DetectedIssue patient
Device patient
DeviceRequest subject | performer
DeviceUseStatement subject
DiagnosticReport subject
DocumentManifest subject | author | recipient
DocumentReference subject | author
Encounter patient=subject
EnrollmentRequest subject=candidate
EpisodeOfCare patient
ExplanationOfBenefit patient | payee=payee.party
FamilyMemberHistory patient
Flag patient=subject
Goal patient=subject
Group member=member.entity
ImagingStudy patient=subject
Immunization patient
ImmunizationEvaluation patient
ImmunizationRecommendation patient
Invoice subject | recipient
List subject | source
MeasureReport patient=subject
Media subject
MedicationAdministration subject | performer=performer.actor
MedicationDispense subject | receiver
MedicationRequest subject
MedicationStatement subject
MolecularSequence patient
NutritionOrder patient
Observation subject | performer
Person patient=link.target
Procedure patient=subject | performer=performer.actor
Provenance patient=target
QuestionnaireResponse subject | author
RelatedPerson patient
RequestGroup subject | participant=action.participant
ResearchSubject individual
RiskAssessment subject
Schedule actor
ServiceRequest subject | performer
Specimen subject
SupplyDelivery patient
SupplyRequest subject=deliverTo
VisionPrescription patient
"""

Paths = tuple[tuple[str, ...], ...]


def _read(table: str) -> dict[str, dict[str, Paths]]:
    found: dict[str, dict[str, Paths]] = {}
    for line in table.split("\n"):
        kind, _, rest = line.partition(" ")
        if not kind:
            continue
        found[kind] = {}
        for one in rest.split(" | "):
            parameter, _, paths = one.partition("=")
            split = tuple(tuple(path.split(".")) for path in (paths or parameter).split(","))
            found[kind][parameter] = split
    return found


# Type -> search parameter -> element paths. Patient itself is found by its id.
COMPARTMENT: Mapping[str, Mapping[str, Paths]] = _read(_TABLE)
COMPARTMENT_TYPES = frozenset(COMPARTMENT) | {"Patient"}


def patient_id(reference: str) -> str | None:
    """The id in a reference to a Patient, relative, absolute or to a version; else None."""
    found = _REFERENCE.search(reference)
    return found[1] if found else None


def patients_of(resource: Mapping[str, Any]) -> frozenset[str]:
    """Ids of the patients to whose compartments a resource belongs."""
    kind = str(resource.get("resourceType", ""))
    if kind == "Patient":
        return frozenset({str(resource["id"])})
    found = (
        patient_id(reference)
        for paths in COMPARTMENT.get(kind, {}).values()
        for path in paths
        for reference in _references(resource, path)
    )
    return frozenset(one for one in found if one is not None)


def belongs(row: Mapping[str, Any], members: frozenset[str]) -> bool:
    """Whether a resource belongs to some of these patients.

    A Group names all who are in it, so all of them must be among these.
    """
    patients = patients_of(row)
    if row["resourceType"] == "Group":
        return bool(patients) and patients <= members
    return bool(patients & members)


def _references(node: Any, path: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, list):
        for item in node:
            yield from _references(item, path)
    elif isinstance(node, Mapping):
        if path:
            yield from _references(node.get(path[0]), path[1:])
        elif isinstance(node.get("reference"), str):
            yield node["reference"]
