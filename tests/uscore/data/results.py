"""Observations of each profile and value type, images and reports."""

from __future__ import annotations

from itertools import count
from typing import Any

from tests.uscore.data.care import AMELIA, MRI_BRAIN
from tests.uscore.data.making import (
    DATA_ABSENT,
    LOINC,
    OBSERVATION_CATEGORY,
    SCT,
    TERMINOLOGY,
    UCUM,
    US_CORE_CATEGORY,
    Json,
    category,
    coding,
    concept,
    identifier,
    resource,
    to,
)

VISIT = to("Encounter/visit")
LESION = concept(LOINC, "21889-1", "Size Tumor")
HAEMOGLOBIN = concept(LOINC, "718-7", "Hemoglobin [Mass/volume] in Blood")
BLOOD_GROUP = concept(LOINC, "882-1", "ABO and Rh group [Type] in Blood")
RADIOLOGY = concept(LOINC, "LP29684-5", "Radiology")
LABORATORY = concept(f"{TERMINOLOGY}v2-0074", "LAB", "Laboratory")
EVERY_REFERENCE: dict[str, Any] = {
    "basedOn": [to("ServiceRequest/mri")],
    "partOf": [to("Procedure/biopsy"), to("ImagingStudy/mri")],
    "focus": [to("Condition/tumour")],
    "encounter": VISIT,
    "performer": [to("Practitioner/reader"), to("Organization/main")],
    "specimen": to("Specimen/blood"),
    "device": to("Device/scanner"),
    "hasMember": [to("Observation/member")],
    "derivedFrom": [to("ImagingStudy/mri"), to("DocumentReference/note")],
}


def quantity(value: float, unit: str) -> Json:
    """A value with its UCUM unit."""
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}


def observation(name: str, profile: str, kind: Json, code: Json, **content: Any) -> Json:
    """An observation of the first patient."""
    given = {
        "status": "final",
        "category": [kind],
        "code": code,
        "subject": AMELIA,
        "encounter": VISIT,
        "performer": [to("Practitioner/reader")],
        "effectiveDateTime": "2024-03-10T09:45:00Z",
    }
    return resource("Observation", name, profile, **given | content)


def imaging_results() -> list[Json]:
    """Clinical results in the category imaging, one for each type of value."""
    profile, kind = "us-core-observation-clinical-result", category("imaging")
    size = observation(
        "size", profile, kind, LESION, valueQuantity=quantity(23.5, "mm"), **EVERY_REFERENCE
    )
    shape = observation(
        "shape", profile, kind, concept(LOINC, "21890-9", "Tumor shape"),
        valueCodeableConcept=concept(SCT, "49755003", "Morphologically abnormal structure"),
        effectiveDateTime="2024-03-10",
    )  # fmt: skip
    text = observation(
        "impression", profile, kind, concept(LOINC, "19005-8", "Radiology Imaging study"),
        valueString="Lesion unchanged", status="preliminary",
    )  # fmt: skip
    missing = observation(
        "not-measured", profile, kind, LESION,
        dataAbsentReason=concept(DATA_ABSENT, "not-performed", "Not Performed"),
    )  # fmt: skip
    member = observation(
        "member", profile, kind, concept(LOINC, "33728-7", "Size.maximum dimension in Tumor"),
        valueQuantity=quantity(23.5, "mm"), status="amended",
    )  # fmt: skip
    return [size, shape, text, missing, member]


def laboratory_results() -> list[Json]:
    """Laboratory results, one for each type of value."""
    profile, kind = "us-core-observation-lab", category("laboratory")
    haemoglobin = observation(
        "haemoglobin",
        profile,
        kind,
        HAEMOGLOBIN,
        valueQuantity=quantity(13.1, "g/dL"),
        interpretation=[concept(f"{TERMINOLOGY}v3-ObservationInterpretation", "N", "Normal")],
        referenceRange=[{"low": quantity(12, "g/dL"), "high": quantity(16, "g/dL")}],
        **EVERY_REFERENCE | {"effectiveDateTime": "2024-03-08T07:00:00Z"},
    )
    group = observation(
        "blood-group", profile, kind, BLOOD_GROUP,
        valueCodeableConcept=concept(SCT, "278149003", "Blood group A Rh(D) positive"),
        specimen=to("Specimen/blood"),
    )  # fmt: skip
    text = observation(
        "appearance", profile, kind, concept(LOINC, "5767-9", "Appearance of Urine"),
        valueString="Clear", specimen=to("Specimen/aliquot"),
    )  # fmt: skip
    missing = observation(
        "lost", profile, kind, HAEMOGLOBIN, status="cancelled", specimen=to("Specimen/blood"),
        dataAbsentReason=concept(DATA_ABSENT, "unknown", "Unknown"),
    )  # fmt: skip
    return [haemoglobin, group, text, missing]


def simple_observations() -> list[Json]:
    """Simple observations of social needs, one for each type of value."""
    profile, kind = "us-core-simple-observation", category("sdoh", US_CORE_CATEGORY)
    food = concept(LOINC, "88124-3", "Food insecurity risk [HVS]")
    at_risk = coding(LOINC, "LA19952-3", "At risk")
    with_all = observation(
        "food", profile, kind, food, valueCodeableConcept={"coding": [at_risk]},
        **EVERY_REFERENCE | {
            "performer": [to("Practitioner/reader"), AMELIA, to("Organization/main")],
            "derivedFrom": [to("Observation/member"), to("DocumentReference/note")],
        },
    )  # fmt: skip
    values: list[tuple[str, Json]] = [
        ("meals", {"valueQuantity": quantity(2, "/d")}),
        ("food-text", {"valueString": "Often hungry"}),
        ("food-yes", {"valueBoolean": True}),
    ]
    others = [observation(name, profile, kind, food, **value) for name, value in values]
    return [with_all, *others, *of_other_categories()]


def of_other_categories() -> list[Json]:
    """One observation in each category that a granular scope is asked for."""
    profile = "us-core-simple-observation"
    codes = {
        "social-history": concept(LOINC, "76690-7", "Sexual orientation"),
        "vital-signs": concept(LOINC, "8867-4", "Heart rate"),
        "survey": concept(LOINC, "71802-3", "Housing status"),
    }
    return [
        observation(code, profile, category(code), of, valueString="Phantom")
        for code, of in codes.items()
        if code != "vital-signs"
    ] + [
        observation(
            "vital-signs", "us-core-observation-clinical-result", category("vital-signs"),
            codes["vital-signs"], valueQuantity=quantity(61, "/min"),
        )
    ]  # fmt: skip


def many(number: int = 45) -> list[Json]:
    """Enough of one kind that a search has several pages."""
    minutes = count()
    return [
        observation(
            f"series-{next(minutes):02d}",
            "us-core-observation-clinical-result",
            category("imaging"),
            concept(LOINC, "33729-5", "Size additional dimension in Tumor"),
            subject=to("Patient/chloe"),
            encounter=to("Encounter/chloe"),
            valueQuantity=quantity(step / 2, "mm"),
            effectiveDateTime=f"2023-{step % 12 + 1:02d}-{step % 28 + 1:02d}T08:00:00+02:00",
        )
        for step in range(number)
    ] + [
        resource(
            "Encounter",
            "chloe",
            "us-core-encounter",
            identifier=[identifier("VISIT-C")],
            status="finished",
            **{"class": coding(f"{TERMINOLOGY}v3-ActCode", "AMB", "ambulatory")},
            type=[concept(SCT, "185349003", "Encounter for check up")],
            subject=to("Patient/chloe"),
            period={"start": "2023-01-01", "end": "2023-12-31"},
        )
    ]


def images() -> list[Json]:
    """The study, a key image of it and the device that made it."""
    study = resource(
        "ImagingStudy",
        "mri",
        identifier=[{"system": "urn:dicom:uid", "value": "urn:oid:2.25.310000000000000000001"}],
        status="available",
        subject=AMELIA,
        encounter=VISIT,
        started="2024-03-10T09:15:00Z",
        basedOn=[to("ServiceRequest/mri")],
        endpoint=[to("Endpoint/wado")],
        numberOfSeries=0,
        numberOfInstances=0,
        description="MR brain",
    )
    media = resource(
        "Media",
        "key-image",
        status="completed",
        subject=AMELIA,
        content={"contentType": "image/png", "url": "https://imaging.example.org/key.png"},
    )
    device = resource(
        "Device",
        "scanner",
        status="active",
        deviceName=[{"name": "Phantom scanner", "type": "user-friendly-name"}],
        patient=AMELIA,
    )
    return [study, media, device]


def report(name: str, profile: str, kind: Json, code: Json, **content: Any) -> Json:
    """A report of the first patient with every reference that a report may have."""
    given: Json = {
        "identifier": [identifier(f"REPORT-{name}")],
        "basedOn": [to("ServiceRequest/mri")],
        "status": "final",
        "category": [kind],
        "code": code,
        "subject": AMELIA,
        "encounter": VISIT,
        "effectiveDateTime": "2024-03-10T10:00:00Z",
        "issued": "2024-03-10T12:00:00Z",
        "performer": [to("Practitioner/reader"), to("Organization/main")],
        "resultsInterpreter": [to("Practitioner/reader")],
        "specimen": [to("Specimen/blood")],
        "imagingStudy": [to("ImagingStudy/mri")],
        "media": [{"link": to("Media/key-image")}],
    }
    return resource("DiagnosticReport", name, profile, **given | content)


def reports(rendition: Json) -> list[Json]:
    """A radiology note with its rendition, an older cardiology one, a laboratory report."""
    note, lab = "us-core-diagnosticreport-note", "us-core-diagnosticreport-lab"
    cardiology = concept(LOINC, "LP29708-2", "Cardiology")
    echo = concept(LOINC, "18745-0", "Cardiac catheterization study")
    panel = concept(LOINC, "58410-2", "CBC panel - Blood by Automated count")
    findings = [to("Observation/size"), to("Observation/haemoglobin")]
    bloods = [to("Observation/haemoglobin"), to("Observation/blood-group")]
    return [
        report("mri", note, RADIOLOGY, MRI_BRAIN, result=findings, presentedForm=[rendition]),
        report(
            "heart", note, cardiology, echo, effectiveDateTime="2023-06-01", status="amended",
            result=findings,
        ),
        report("blood", lab, LABORATORY, panel, result=bloods, status="preliminary"),
    ]  # fmt: skip


def results(rendition: Json) -> list[Json]:
    """All of this module; `rendition` is the attachment of the radiology report."""
    observations = [*imaging_results(), *laboratory_results(), *simple_observations()]
    return [*observations, *many(), *images(), *reports(rendition)]


CATEGORIES = (OBSERVATION_CATEGORY, US_CORE_CATEGORY)
