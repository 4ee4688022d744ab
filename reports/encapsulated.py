"""A PDF as DICOM: Encapsulated PDF Storage in the study that it reports on.

Its UIDs come from the run and the content, so a repeat is the same instance, byte for byte.
"""

from __future__ import annotations

from datetime import date, datetime
from uuid import UUID, uuid5

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EncapsulatedPDFStorage, ExplicitVRLittleEndian

from reports.findings import Findings, PersonName, StudyFacts

NAMESPACE = UUID("0a6f4a52-3c07-5d0e-8a55-7d5a6a7b1c9f")
SERIES_NUMBER = 9301
_SEX = {"female": "F", "male": "M", "other": "O"}
_LONG_STRING = 64  # characters in LO
_SHORT_STRING = 16  # characters in SH


def derived_uid(*parts: str) -> UID:
    """A UID below 2.25 that always comes out the same for the same parts (PS3.5 B.2)."""
    return UID(f"2.25.{uuid5(NAMESPACE, chr(31).join(parts)).int}")


def encapsulated_pdf(findings: Findings, pdf: bytes, digest: str, institution: str) -> Dataset:
    """The PDF as a DICOM instance of a series of its own in the study (PS3.3 A.45.1).

    Args:
        pdf: of even length, so that it is embedded without padding.
        digest: of the input of the rendition; names the instance together with the run.
    """
    instance = Dataset()
    instance.SpecificCharacterSet = "ISO_IR 192"
    instance.SOPClassUID = EncapsulatedPDFStorage
    instance.SOPInstanceUID = derived_uid("instance", findings.identifier, digest)
    instance.file_meta = _file_meta(instance.SOPInstanceUID)
    _patient_and_study(instance, findings)
    instance.Modality = "DOC"
    instance.SeriesInstanceUID = derived_uid("series", findings.identifier)
    instance.SeriesNumber = SERIES_NUMBER
    instance.SeriesDescription = "AI draft report, not reviewed"
    instance.Manufacturer = "Hilum"
    instance.InstitutionName = institution[:_LONG_STRING]
    instance.ManufacturerModelName = findings.model.name[:_LONG_STRING]
    instance.SoftwareVersions = findings.model.version[:_LONG_STRING]
    instance.ConversionType = "WSD"
    instance.InstanceNumber = 1
    instance.ContentDate = f"{findings.issued:%Y%m%d}"
    instance.ContentTime = f"{findings.issued:%H%M%S}"
    instance.AcquisitionDateTime = ""
    instance.BurnedInAnnotation = "YES"
    instance.DocumentTitle = findings.title[:1024]
    instance.ConceptNameCodeSequence = [_document_type()]
    instance.VerificationFlag = "UNVERIFIED"
    instance.MIMETypeOfEncapsulatedDocument = "application/pdf"
    instance.EncapsulatedDocument = pdf
    instance.EncapsulatedDocumentLength = len(pdf)
    return instance


def _file_meta(uid: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EncapsulatedPDFStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = derived_uid("implementation")
    meta.ImplementationVersionName = "HILUM"
    return meta


def _patient_and_study(instance: Dataset, findings: Findings) -> None:
    patient, study = findings.patient, findings.study
    instance.PatientName = person_name(patient.names)
    instance.PatientID = patient.identifier[:_LONG_STRING]
    whole_day = len(patient.birth_date) == len("2026-01-01")
    instance.PatientBirthDate = patient.birth_date.replace("-", "") if whole_day else ""
    instance.PatientSex = _SEX.get(patient.sex, "")
    instance.StudyInstanceUID = study.uid
    instance.StudyDate, instance.StudyTime = _date_and_time(study)
    instance.StudyDescription = study.description[:_LONG_STRING]
    instance.ReferringPhysicianName = study.referrer.replace("^", " ")[:_LONG_STRING]
    instance.StudyID = ""
    instance.AccessionNumber = study.accession[:_SHORT_STRING]


def _date_and_time(study: StudyFacts) -> tuple[str, str]:
    match study.started:
        case datetime() as moment:
            return f"{moment:%Y%m%d}", f"{moment:%H%M%S}"
        case date() as day:
            return f"{day:%Y%m%d}", ""
        case _:
            return "", ""


def _document_type() -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator = "18748-4", "LN"
    code.CodeMeaning = "Diagnostic imaging study"
    return code


def person_name(names: tuple[PersonName, ...]) -> str:
    """Names as a DICOM PN: one component group for each representation (PS3.5 6.2.1)."""
    groups = {"ABC": "", "IDE": "", "SYL": ""}
    for name in names:
        place = name.representation or "ABC"
        if not groups.get(place, "taken"):
            groups[place] = _group(name)
    return "=".join(groups.values()).rstrip("=")


def _group(name: PersonName) -> str:
    given, *middle = name.given or ("",)
    parts = (name.family, given, " ".join(middle), name.prefix, name.suffix)
    if not any(parts):
        parts = (name.text, "", "", "", "")
    plain = (part.translate({ord(c): " " for c in "^=\\"}) for part in parts)
    return "^".join(plain).rstrip("^")[:_LONG_STRING]
