"""The resource types of FHIR R4 that a scope can name, and what a granular scope can ask of them.

Source: the R4 4.0.1 definitions of resources and search parameters.
"""

from __future__ import annotations

from collections.abc import Mapping


def _types(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESOURCE_TYPES: frozenset[str] = _types(
    """
    Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse
    AuditEvent Basic Binary BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement
    CarePlan CareTeam CatalogEntry ChargeItem ChargeItemDefinition Claim ClaimResponse
    ClinicalImpression CodeSystem Communication CommunicationRequest CompartmentDefinition
    Composition ConceptMap Condition Consent Contract Coverage CoverageEligibilityRequest
    CoverageEligibilityResponse DetectedIssue Device DeviceDefinition DeviceMetric DeviceRequest
    DeviceUseStatement DiagnosticReport DocumentManifest DocumentReference
    EffectEvidenceSynthesis Encounter Endpoint EnrollmentRequest EnrollmentResponse
    EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario ExplanationOfBenefit
    FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse HealthcareService
    ImagingStudy Immunization ImmunizationEvaluation ImmunizationRecommendation
    ImplementationGuide InsurancePlan Invoice Library Linkage List Location Measure
    MeasureReport Media Medication MedicationAdministration MedicationDispense
    MedicationKnowledge MedicationRequest MedicationStatement MedicinalProduct
    MedicinalProductAuthorization MedicinalProductContraindication MedicinalProductIndication
    MedicinalProductIngredient MedicinalProductInteraction MedicinalProductManufactured
    MedicinalProductPackaged MedicinalProductPharmaceutical MedicinalProductUndesirableEffect
    MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionOrder Observation
    ObservationDefinition OperationDefinition Organization
    OrganizationAffiliation Patient PaymentNotice PaymentReconciliation Person PlanDefinition
    Practitioner PractitionerRole Procedure Provenance Questionnaire QuestionnaireResponse
    RelatedPerson RequestGroup ResearchDefinition ResearchElementDefinition ResearchStudy
    ResearchSubject RiskAssessment RiskEvidenceSynthesis Schedule SearchParameter ServiceRequest
    Slot Specimen SpecimenDefinition StructureDefinition StructureMap Subscription Substance
    SubstanceNucleicAcid SubstancePolymer SubstanceProtein SubstanceReferenceInformation
    SubstanceSourceMaterial SubstanceSpecification SupplyDelivery SupplyRequest Task
    TerminologyCapabilities TestReport TestScript ValueSet VerificationResult VisionPrescription
"""
)

# Search parameters that a granular scope may use, each with the types on which it is a token.
FILTERS: Mapping[str, frozenset[str]] = {
    "category": _types(
        """
    AdverseEvent AllergyIntolerance CarePlan CareTeam Communication CommunicationRequest
    Composition Condition Consent DeviceMetric DiagnosticReport DocumentReference Goal
    MedicationRequest MedicationStatement MessageDefinition Observation Procedure ResearchStudy
    ServiceRequest Substance SupplyRequest
"""
    ),
    "code": _types(
        """
    AllergyIntolerance Basic ChargeItem CodeSystem CompartmentDefinition Condition DetectedIssue
    DeviceRequest DiagnosticReport FamilyMemberHistory Group List Medication
    MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest
    MedicationStatement MessageHeader Observation OperationDefinition Procedure Questionnaire
    RequestGroup SearchParameter ServiceRequest Substance SubstanceSpecification Task ValueSet
"""
    ),
    "status": _types(
        """
    Account ActivityDefinition Appointment CapabilityStatement CarePlan CareTeam
    ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem Communication
    CommunicationRequest CompartmentDefinition Composition ConceptMap Consent Contract Coverage
    CoverageEligibilityRequest CoverageEligibilityResponse Device DeviceRequest DiagnosticReport
    DocumentManifest DocumentReference EffectEvidenceSynthesis Encounter Endpoint
    EnrollmentRequest EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable
    ExampleScenario ExplanationOfBenefit FamilyMemberHistory GraphDefinition ImagingStudy
    Immunization ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide
    InsurancePlan Invoice Library List Location Measure MeasureReport Media Medication
    MedicationAdministration MedicationDispense MedicationKnowledge MedicationRequest
    MedicationStatement MedicinalProductAuthorization MessageDefinition NamingSystem
    NutritionOrder Observation OperationDefinition PaymentNotice PaymentReconciliation
    PlanDefinition Procedure Questionnaire QuestionnaireResponse RequestGroup ResearchDefinition
    ResearchElementDefinition ResearchStudy ResearchSubject RiskEvidenceSynthesis
    SearchParameter ServiceRequest Slot Specimen StructureDefinition StructureMap Subscription
    Substance SupplyDelivery SupplyRequest Task TerminologyCapabilities TestScript ValueSet
    VisionPrescription
"""
    ),
    "type": _types(
        """
    Account AllergyIntolerance AuditEvent Bundle Composition Coverage Device DeviceDefinition
    DeviceMetric DocumentManifest DocumentReference Encounter EpisodeOfCare Group InsurancePlan
    Invoice Library Location Media MedicationDispense MolecularSequence NamingSystem
    OperationDefinition Organization PlanDefinition SearchParameter Specimen SpecimenDefinition
    Subscription
"""
    ),
}
