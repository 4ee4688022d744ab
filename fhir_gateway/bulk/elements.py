"""Root elements that FHIR R4 demands, and those that come with a type in their name.

Source: the StructureDefinitions of R4 (minimum cardinality 1; `[x]`).
"""

from __future__ import annotations

from collections.abc import Mapping

_MANDATORY = """
Account status
ActivityDefinition status
AdverseEvent actuality subject
AllergyIntolerance patient
Appointment participant status
AppointmentResponse appointment participantStatus
AuditEvent agent recorded source type
Basic code
Binary contentType
BodyStructure patient
Bundle type
CapabilityStatement date fhirVersion format kind status
CarePlan intent status subject
CatalogEntry orderable referencedItem
ChargeItem code status subject
ChargeItemDefinition status url
Claim created insurance patient priority provider status type use
ClaimResponse created insurer outcome patient status type use
ClinicalImpression status subject
CodeSystem content status
Communication status
CommunicationRequest status
CompartmentDefinition code name search status url
Composition author date status title type
ConceptMap status
Condition subject
Consent category scope status
Coverage beneficiary payor status
CoverageEligibilityRequest created insurer patient purpose status
CoverageEligibilityResponse created insurer outcome patient purpose request status
DetectedIssue status
DeviceMetric category type
DeviceRequest code[x] intent subject
DeviceUseStatement device status subject
DiagnosticReport code status
DocumentManifest content status
DocumentReference content status
EffectEvidenceSynthesis exposure exposureAlternative outcome population status
Encounter class status
Endpoint address connectionType payloadType status
EpisodeOfCare patient status
EventDefinition status trigger
Evidence exposureBackground status
EvidenceVariable characteristic status
ExampleScenario status
ExplanationOfBenefit created insurance insurer outcome patient provider status type use
FamilyMemberHistory patient relationship status
Flag code status subject
Goal description lifecycleStatus subject
GraphDefinition name start status
Group actual type
GuidanceResponse module[x] status
ImagingStudy status subject
Immunization occurrence[x] patient status vaccineCode
ImmunizationEvaluation doseStatus immunizationEvent patient status targetDisease
ImmunizationRecommendation date patient recommendation
ImplementationGuide fhirVersion name packageId status url
Invoice status
Library status type
Linkage item
List mode status
Measure status
MeasureReport measure period status type
Media content status
MedicationAdministration effective[x] medication[x] status subject
MedicationDispense medication[x] status
MedicationRequest intent medication[x] status subject
MedicationStatement medication[x] status subject
MedicinalProduct name
MedicinalProductIngredient role
MedicinalProductManufactured manufacturedDoseForm quantity
MedicinalProductPackaged packageItem
MedicinalProductPharmaceutical administrableDoseForm routeOfAdministration
MessageDefinition date event[x] status
MessageHeader event[x] source
MolecularSequence coordinateSystem
NamingSystem date kind name status uniqueId
NutritionOrder dateTime intent patient status
Observation code status
ObservationDefinition code
OperationDefinition code instance kind name status system type
OperationOutcome issue
PaymentNotice amount created payment recipient status
PaymentReconciliation created paymentAmount paymentDate status
PlanDefinition status
Procedure status subject
Provenance agent recorded target
Questionnaire status
QuestionnaireResponse status
RelatedPerson patient
RequestGroup intent status
ResearchDefinition population status
ResearchElementDefinition characteristic status type
ResearchStudy status
ResearchSubject individual status study
RiskAssessment status subject
RiskEvidenceSynthesis outcome population status
Schedule actor
SearchParameter base code description name status type url
ServiceRequest intent status subject
Slot end schedule start status
StructureDefinition abstract kind name status type url
StructureMap group name status url
Subscription channel criteria reason status
Substance code
SupplyRequest item[x] quantity
Task intent status
TerminologyCapabilities date kind status
TestReport result status testScript
TestScript name status url
ValueSet status
VerificationResult status
VisionPrescription created dateWritten lensSpecification patient prescriber status
"""
MANDATORY: Mapping[str, frozenset[str]] = {
    words[0]: frozenset(words[1:]) for line in _MANDATORY.split("\n") if (words := line.split())
}
_CHOICES = """
abatement age asNeeded born code created deceased doseNumber effective event identified item
legallyBinding manufacturer medication module multipleBirth occurred occurrence onset performed
product quantity reported seriesDoses serviced source start statusReason subject target timing
topic value
"""
CHOICES = frozenset(_CHOICES.split())
