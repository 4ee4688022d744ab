"""The Patient compartment, and what an app with one patient's data may see beside it.

Source: R4 CompartmentDefinition/patient. Each type outside it is in exactly one of the tables
below; a type in none of them is never shown to such an app.
"""

from __future__ import annotations

from collections.abc import Mapping

# Type -> the search parameter that finds a patient's resources of it.
COMPARTMENT: Mapping[str, str] = {
    "Account": "subject",
    "AdverseEvent": "subject",
    "AllergyIntolerance": "patient",
    "Appointment": "patient",
    "AppointmentResponse": "patient",
    "Basic": "patient",
    "BodyStructure": "patient",
    "CarePlan": "patient",
    "CareTeam": "patient",
    "ChargeItem": "patient",
    "Claim": "patient",
    "ClaimResponse": "patient",
    "ClinicalImpression": "patient",
    "Communication": "patient",
    "CommunicationRequest": "patient",
    "Composition": "patient",
    "Condition": "patient",
    "Consent": "patient",
    "Coverage": "patient",
    "CoverageEligibilityRequest": "patient",
    "CoverageEligibilityResponse": "patient",
    "DetectedIssue": "patient",
    "DeviceRequest": "patient",
    "DeviceUseStatement": "patient",
    "DiagnosticReport": "patient",
    "DocumentManifest": "patient",
    "DocumentReference": "patient",
    "Encounter": "patient",
    "EpisodeOfCare": "patient",
    "ExplanationOfBenefit": "patient",
    "FamilyMemberHistory": "patient",
    "Flag": "patient",
    "Goal": "patient",
    "ImagingStudy": "patient",
    "Immunization": "patient",
    "ImmunizationEvaluation": "patient",
    "ImmunizationRecommendation": "patient",
    "Invoice": "patient",
    "List": "patient",
    "MeasureReport": "patient",
    "Media": "patient",
    "MedicationAdministration": "patient",
    "MedicationDispense": "patient",
    "MedicationRequest": "patient",
    "MedicationStatement": "patient",
    "MolecularSequence": "patient",
    "NutritionOrder": "patient",
    "Observation": "patient",
    "Patient": "_id",
    "Procedure": "patient",
    "QuestionnaireResponse": "patient",
    "RelatedPerson": "patient",
    "RequestGroup": "patient",
    "ResearchSubject": "patient",
    "RiskAssessment": "patient",
    "ServiceRequest": "patient",
    "Specimen": "patient",
    "SupplyDelivery": "patient",
    "SupplyRequest": "patient",
    "VisionPrescription": "patient",
}

# Names of people, places and terms: part of the context of any patient's record.
PUBLIC: frozenset[str] = frozenset(
    {"CodeSystem", "HealthcareService", "Location", "Organization", "Practitioner",
     "PractitionerRole", "Questionnaire", "SearchParameter", "StructureDefinition", "ValueSet"}
)  # fmt: skip

# Type -> the references to it from a covered resource by which it may be seen.
REFERRED: Mapping[str, tuple[str, ...]] = {
    "Device": ("Observation:device", "DeviceUseStatement:device", "Media:device"),
    "Endpoint": ("ImagingStudy:endpoint",),
    "Medication": (
        "MedicationAdministration:medication",
        "MedicationDispense:medication",
        "MedicationRequest:medication",
        "MedicationStatement:medication",
    ),
}

# Type -> its elements that must refer to a covered resource for it to be seen.
REFERRING: Mapping[str, tuple[str, ...]] = {
    "Binary": ("securityContext",),
    "Device": ("patient",),
    "Provenance": ("target",),
}

# In the compartment by R4, but one resource tells about many people.
NEVER: frozenset[str] = frozenset({"AuditEvent", "Group", "Person", "Schedule", "Subscription"})
