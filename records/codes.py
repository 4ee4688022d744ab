"""Every code that Hilum writes into FHIR, as constants.

Sources: DICOM PS3.16 (CID 7150, 7162, 7168, 7469, annex D), LOINC as used by US Core 6.1.0 and
HL7 mCODE STU4, SNOMED CT as used by DICOM, UCUM, HL7 terminology. Where no standard code exists
the code is our own (BRAIN_LESION).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SCT = "http://snomed.info/sct"
LOINC = "http://loinc.org"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
NCIT = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
UCUM = "http://unitsofmeasure.org"
V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"
OBSERVATION_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
AUDIT_TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
AUDIT_SOURCE = "http://terminology.hl7.org/CodeSystem/security-source-type"
RESTFUL = "http://hl7.org/fhir/restful-interaction"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ROLE_CLASS = "http://terminology.hl7.org/CodeSystem/v3-RoleClass"
PROVENANCE_AGENT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
US_CORE_DOCUMENT = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category"
IHE_FORMAT = "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode"
US_CORE_AGENT = "http://hl7.org/fhir/us/core/CodeSystem/us-core-provenance-participant-type"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
ENDPOINT_CONNECTION = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
ENDPOINT_PAYLOAD = "http://terminology.hl7.org/CodeSystem/endpoint-payload-type"
DATA_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
PERFORMER_FUNCTION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
SID_SCHEME = "https://hilum.dev/fhir/sid/coding-scheme"  # local DICOM coding schemes
BRAIN_LESION = "https://hilum.dev/fhir/CodeSystem/brain-lesion"
PATIENT_FLAG = "https://hilum.dev/fhir/CodeSystem/patient-flag"


@dataclass(frozen=True, slots=True)
class Code:
    """One code of one system, with the display that the system gives it."""

    system: str
    code: str
    display: str

    @property
    def coding(self) -> dict[str, str]:
        """As a FHIR Coding."""
        return {"system": self.system, "code": self.code, "display": self.display}


def concept(*codes: Code, text: str | None = None) -> dict[str, Any]:
    """A FHIR CodeableConcept of several codings that mean the same."""
    result: dict[str, Any] = {"coding": [code.coding for code in codes]}
    return result | {"text": text} if text else result


def quantity(value: float, unit: Code) -> dict[str, Any]:
    """A FHIR Quantity with its UCUM unit."""
    return {"value": value, "unit": unit.display, "system": unit.system, "code": unit.code}


# Measurements. LOINC first: US Core binds Observation.code to LOINC (extensible).
VOLUME = Code(SCT, "118565006", "Volume")
TUMOUR_SIZE = Code(LOINC, "21889-1", "Size Tumor")
LONGEST_DIAMETER = Code(LOINC, "33728-7", "Size.maximum dimension in Tumor")
ADDITIONAL_DIAMETER = Code(LOINC, "33729-5", "Size additional dimension in Tumor")
LONG_AXIS = Code(SCT, "103339001", "Long axis")
SHORT_AXIS = Code(SCT, "103340004", "Short axis")
PERPENDICULAR_AXIS = Code(SCT, "131189007", "Perpendicular Axis")
VOLUME_FROM_REGIONS = Code(
    DCM, "121217", "Volume estimated from three or more non-coplanar 2D regions"
)
CENTROID = Code(BRAIN_LESION, "centroid", "Centre of mass")
COMPONENTS = Code(BRAIN_LESION, "components", "Number of connected components")
ENHANCEMENT_RATIO = Code(BRAIN_LESION, "enhancement-ratio", "T1 signal after/before contrast")

# What was measured: DICOM CID 7168, and our own names for its segments and their unions.
EDEMA = Code(SCT, "79654002", "Edema")
NECROSIS = Code(SCT, "6574001", "Necrosis")
ENHANCING_LESION = Code(NCIT, "C113842", "Enhancing Lesion")
NON_ENHANCING_LESION = Code(NCIT, "C81175", "Non-Enhancing Lesion")
NEOPLASM = Code(SCT, "108369006", "Neoplasm")
NEOPLASM_PRIMARY = Code(SCT, "372087000", "Neoplasm, Primary")
NECROTIC_CORE = Code(BRAIN_LESION, "NCR", "Necrotic or non-enhancing tumour core")
OEDEMA = Code(BRAIN_LESION, "ED", "Peritumoural oedema or infiltration")
ENHANCING_TUMOUR = Code(BRAIN_LESION, "ET", "Enhancing tumour")
TUMOUR_CORE = Code(BRAIN_LESION, "TC", "Tumour core")
WHOLE_TUMOUR = Code(BRAIN_LESION, "WT", "Whole tumour")
MORPHOLOGICALLY_ABNORMAL = Code(SCT, "49755003", "Morphologically Abnormal Structure")
BRAIN = Code(SCT, "12738006", "Brain")

# Units.
MILLILITRE = Code(UCUM, "mL", "mL")
MILLIMETRE = Code(UCUM, "mm", "mm")
RATIO = Code(UCUM, "{ratio}", "ratio")
COUNT = Code(UCUM, "1", "1")

# Reports, observations and their categories.
CLINICAL_NOTE = Code(US_CORE_DOCUMENT, "clinical-note", "Clinical Note")
BY_MEDIA_TYPE = Code(IHE_FORMAT, "urn:ihe:iti:xds:2017:mimeTypeSufficient", "mimeType Sufficient")
RADIOLOGY_OBSERVATION = Code(LOINC, "18782-3", "Radiology Study observation (narrative)")
IMAGING = Code(OBSERVATION_CATEGORY, "imaging", "Imaging")
RADIOLOGY = Code(LOINC, "LP29684-5", "Radiology")
IMAGING_NARRATIVE = Code(LOINC, "18748-4", "Diagnostic imaging study")
MEASUREMENT_REPORT = Code(DCM, "126000", "Imaging Measurement Report")
KEY_IMAGES = Code(DCM, "113000", "Of Interest")
TRACKING_UID = Code(DCM, "112040", "Tracking Unique Identifier")
SOURCE_IMAGE = Code(DCM, "121112", "Source of Measurement")

# The algorithm.
ARTIFICIAL_INTELLIGENCE = Code(DCM, "123110", "Artificial Intelligence")
ALGORITHM_NAME = Code(DCM, "111001", "Algorithm Name")
ALGORITHM_VERSION = Code(DCM, "111003", "Algorithm Version")
LESION = Code(BRAIN_LESION, "lesion", "One connected lesion")
TRANSMITTER = Code(US_CORE_AGENT, "transmitter", "Transmitter")
VERIFIER = Code(PROVENANCE_AGENT, "verifier", "Verifier")
ATTESTER = Code(PROVENANCE_AGENT, "attester", "Attester")
ASSEMBLER = Code(PROVENANCE_AGENT, "assembler", "Assembler")
AUTHOR = Code(PROVENANCE_AGENT, "author", "Author")
CUSTODIAN = Code(PROVENANCE_AGENT, "custodian", "Custodian")

# Imaging studies and their endpoints.
ACCESSION_TYPE = Code(V2_0203, "ACSN", "Accession ID")
PLACER_TYPE = Code(V2_0203, "PLAC", "Placer Identifier")
FILLER_TYPE = Code(V2_0203, "FILL", "Filler Identifier")
VISIT_TYPE = Code(V2_0203, "VN", "Visit number")
IMAGING_ORDER = Code(SCT, "363679005", "Imaging")
MEDICAL_RECORD_TYPE = Code(V2_0203, "MR", "Medical record number")
ACCESSION_NUMBER = Code(DCM, "121022", "Accession Number")
WADO_RS = Code(ENDPOINT_CONNECTION, "dicom-wado-rs", "DICOM WADO-RS")
ANY_PAYLOAD = Code(ENDPOINT_PAYLOAD, "none", "None")
STUDY_PAYLOAD = Code(DCM, "113014", "Study")
PERFORMER = Code(PERFORMER_FUNCTION, "PRF", "performer")

# Body sites by Body Part Examined (PS3.16 annex L) and sides by Laterality (0020,0060).
BODY_PARTS = {
    "ABDOMEN": Code(SCT, "818981001", "Abdomen"),
    "BRAIN": BRAIN,
    "BREAST": Code(SCT, "76752008", "Breast"),
    "CHEST": Code(SCT, "51185008", "Chest"),
    "HEAD": Code(SCT, "69536005", "Head"),
    "HEART": Code(SCT, "80891009", "Heart"),
    "KNEE": Code(SCT, "72696002", "Knee"),
    "LIVER": Code(SCT, "10200004", "Liver"),
    "NECK": Code(SCT, "45048000", "Neck"),
    "PELVIS": Code(SCT, "12921003", "Pelvis"),
    "PROSTATE": Code(SCT, "41216001", "Prostate"),
    "SPINE": Code(SCT, "421060004", "Spine"),
}
SIDES = {
    "R": Code(SCT, "24028007", "Right"),
    "L": Code(SCT, "7771000", "Left"),
    "B": Code(SCT, "51440002", "Right and left"),
}

# Flags on a patient: facts for a person to look at, never acted on by us.
DEMOGRAPHICS_DIFFER = Code(
    PATIENT_FLAG, "demographics-differ", "Imaging demographics differ from the record"
)
PATIENT_IDS_DIFFER = Code(
    PATIENT_FLAG, "patient-ids-differ", "Instances of the study name different patients"
)
PATIENTS_DOUBLED = Code(
    PATIENT_FLAG, "patients-doubled", "Several patients of the record have the number of the study"
)
UNIDENTIFIED = Code(PATIENT_FLAG, "unidentified", "No patient identifier in the images")
ORDER_DIFFERS = Code(PATIENT_FLAG, "order-differs", "The order of the study names another patient")
IDENTITY_REVIEW = Code(PATIENT_FLAG, "review", "Find out whom the study is about")

# Audit events (IHE BALP).
AUDIT_REST = Code(AUDIT_TYPE, "rest", "RESTful Operation")
AUDIT_DICOM_QUERY = Code(DCM, "110112", "Query")
AUDIT_DICOM_STORE = Code(DCM, "110104", "DICOM Instances Transferred")
AUDIT_EXPORT = Code(DCM, "110106", "Export")
AUDIT_ACCESS = Code(DCM, "110103", "DICOM Instances Accessed")
AUDIT_LOGIN = Code(DCM, "110114", "User Authentication")
AUDIT_ALERT = Code(DCM, "110113", "Security Alert")
AUDIT_APPLICATION = Code(DCM, "110100", "Application Activity")
AUDIT_LOG_USED = Code(DCM, "110101", "Audit Log Used")
LOGGED_IN = Code(DCM, "110122", "Login")
LOGGED_OUT = Code(DCM, "110123", "Logout")
TOKEN_ISSUED = Code(DCM, "110126", "Node Authentication")
RESTRICTED_USE = Code(DCM, "110132", "Use of Restricted Function")
APPLICATION_STARTED = Code(DCM, "110120", "Application Start")
APPLICATION_STOPPED = Code(DCM, "110121", "Application Stop")
REST_READ = Code(RESTFUL, "read", "read")
REST_VREAD = Code(RESTFUL, "vread", "vread")
REST_HISTORY = Code(RESTFUL, "history-instance", "history-instance")
REST_SEARCH = Code(RESTFUL, "search", "search")
REST_CREATE = Code(RESTFUL, "create", "create")
REST_UPDATE = Code(RESTFUL, "update", "update")
REST_DELETE = Code(RESTFUL, "delete", "delete")
APPLICATION = Code(DCM, "110150", "Application")
SOURCE_ROLE = Code(DCM, "110153", "Source Role ID")
DESTINATION_ROLE = Code(DCM, "110152", "Destination Role ID")
INFORMATION_RECIPIENT = Code(PARTICIPATION, "IRCP", "information recipient")
APPLICATION_SERVER = Code(AUDIT_SOURCE, "4", "Application Server")
ENTITY_PERSON = Code(ENTITY_TYPE, "1", "Person")
ENTITY_SYSTEM_OBJECT = Code(ENTITY_TYPE, "2", "System Object")
ENTITY_OTHER = Code(ENTITY_TYPE, "4", "Other")
ROLE_PATIENT = Code(ENTITY_ROLE, "1", "Patient")
ROLE_DOMAIN_RESOURCE = Code(ENTITY_ROLE, "4", "Domain Resource")
ROLE_SECURITY = Code(ENTITY_ROLE, "13", "Security Resource")
ROLE_QUERY = Code(ENTITY_ROLE, "24", "Query")


def all_codes() -> list[Code]:
    """Every code above, for the check that each is in a value set of `profiles/`."""
    return [value for value in globals().values() if isinstance(value, Code)]
