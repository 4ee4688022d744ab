"""A realistic report as FHIR: glioma, four MR series, five regions, three key images."""

from __future__ import annotations

import base64
import copy
from io import BytesIO

import numpy as np
from PIL import Image

from records import codes
from records.identifiers import REPORT, study_identifier

RUN = "3f7a9c0d5e1b48c2a6f4e8d7b9c0a1f2e3d4c5b6a7988776655443322110ffee"
STUDY_UID = "1.2.826.0.1.3680043.10.511.3.20260411"
REPORT_REFERENCE = "DiagnosticReport/report"
VOLUMES = {"WT": 78.42, "TC": 31.17, "ET": 19.05, "NCR": 12.12, "ED": 47.25}
DIAMETERS = {"WT": (61.3, 47.8), "TC": (41.6, 33.04), "ET": (40.2, 31.9), "NCR": (27.7, 19.2)}
PARTS = {"WT": 2, "TC": 1, "ET": 1, "NCR": 3, "ED": 4}
NAMES = {
    "WT": "Whole tumour",
    "TC": "Tumour core",
    "ET": "Enhancing tumour",
    "NCR": "Necrotic or non-enhancing core",
    "ED": "Oedema",
}


def phantom_png(lesion: bool = True, shift: int = 0) -> bytes:
    """A head-like disc with a tinted lesion, 384 x 384."""
    rows, columns = np.mgrid[0:384, 0:384]
    head = ((rows - 192) / 175) ** 2 + ((columns - 192) / 140) ** 2
    grey = np.where(head < 1, 90 + 50 * np.cos(head * 9) + 12 * np.sin(rows / 7), 6)
    picture = np.repeat(grey.clip(0, 255)[..., None], 3, axis=2)
    if lesion:
        far = np.hypot(rows - 150 - shift, (columns - 245) * 1.1)
        for radius, tint in ((62, (80, 200, 120)), (38, (235, 94, 40)), (20, (66, 133, 244))):
            picture[far < radius] = 0.6 * picture[far < radius] + 0.4 * np.array(tint)
            picture[abs(far - radius) < 1.5] = tint
    buffer = BytesIO()
    Image.fromarray(picture.astype(np.uint8), "RGB").save(buffer, "PNG")
    return buffer.getvalue()


def quantity(value: float, unit: str) -> dict:
    return {"value": value, "unit": unit, "system": codes.UCUM, "code": unit}


def observation(region: str, volume: float | None, **components: float) -> dict:
    local = {"system": codes.BRAIN_LESION, "code": region, "display": NAMES[region]}
    body = {
        "resourceType": "Observation",
        "id": f"obs-{region.lower()}",
        "status": "preliminary",
        "category": [codes.concept(codes.IMAGING)],
        "code": {
            "coding": [codes.TUMOUR_SIZE.coding, codes.VOLUME.coding, local],
            "text": f"{NAMES[region]}, volume",
        },
        "subject": {"reference": "Patient/patient"},
        "effectiveDateTime": "2026-04-11T08:12:00+02:00",
        "issued": "2026-04-11T08:31:07+02:00",
        "device": {"reference": "Device/model"},
        "derivedFrom": [{"reference": "ImagingStudy/study"}],
    }
    if volume is None:
        absent = {"system": codes.DATA_ABSENT, "code": "not-performed", "display": "Not Performed"}
        return body | {"dataAbsentReason": {"coding": [absent]}}
    body["valueQuantity"] = quantity(volume, "mL")
    kinds = {
        "parts": ([codes.COMPONENTS], "1"),
        "long": ([codes.LONGEST_DIAMETER, codes.LONG_AXIS], "mm"),
        "short": ([codes.ADDITIONAL_DIAMETER, codes.PERPENDICULAR_AXIS], "mm"),
        "ratio": ([codes.ENHANCEMENT_RATIO], "{ratio}"),
    }
    body["component"] = [
        {"code": codes.concept(*kinds[name][0]), "valueQuantity": quantity(value, kinds[name][1])}
        for name, value in components.items()
    ]
    return body


def lesion_observations() -> list[dict]:
    found = []
    for region, volume in VOLUMES.items():
        more: dict[str, float] = {"parts": PARTS[region]}
        if region in DIAMETERS:
            more["long"], more["short"] = DIAMETERS[region]
        if region == "ET":
            more["ratio"] = 1.734
        found.append(observation(region, volume, **more))
    return found


def empty_observations() -> list[dict]:
    return [observation(region, 0, parts=0) for region in VOLUMES]


def patient(*names: dict) -> dict:
    return {
        "resourceType": "Patient",
        "id": "patient",
        "identifier": [{"system": "https://clinic.example/mrn", "value": "MRN-004711"}],
        "name": list(names) or [{"family": "Lindqvist", "given": ["Anna", "Maria"]}],
        "gender": "female",
        "birthDate": "1961-09-30",
    }


def series_of_the_study() -> list[dict]:
    return [
        {
            "uid": f"{STUDY_UID}.{number}",
            "number": number,
            "modality": {"system": codes.DCM, "code": modality},
            "description": description,
            "numberOfInstances": 48,
            "instance": [
                {
                    "uid": f"{STUDY_UID}.{number}.1",
                    "sopClass": {
                        "system": "urn:ietf:rfc:3986",
                        "code": "urn:oid:1.2.840.10008.5.1.4.1.1.4",
                    },
                }
            ],
        }
        for number, modality, description in (
            (2, "MR", "T1 axial"),
            (3, "MR", "T1 axial + contrast"),
            (4, "MR", "T2 axial"),
            (5, "MR", "FLAIR axial"),
            (9101, "SEG", "Segmentation"),
        )
    ]


def imaging_study() -> dict:
    series = series_of_the_study()
    return {
        "resourceType": "ImagingStudy",
        "id": "study",
        "identifier": [
            study_identifier(STUDY_UID),
            {
                "type": {"coding": [codes.ACCESSION_TYPE.coding]},
                "system": "https://clinic.example/accession",
                "value": "A-2026-0411",
            },
        ],
        "status": "available",
        "subject": {"reference": "Patient/patient"},
        "started": "2026-04-11T08:12:00+02:00",
        "description": "MR brain without and with contrast",
        "numberOfSeries": len(series),
        "numberOfInstances": 48 * len(series),
        "series": series,
    }


def media(number: int, png: bytes, title: str) -> dict:
    return {
        "resourceType": "Media",
        "id": f"media-{number}",
        "status": "completed",
        "subject": {"reference": "Patient/patient"},
        "content": {
            "contentType": "image/png",
            "data": base64.b64encode(png).decode(),
            "title": title,
        },
    }


def model() -> dict:
    return {
        "resourceType": "Device",
        "id": "model",
        "status": "active",
        "manufacturer": "Hilum",
        "deviceName": [{"name": "brain-lesion-unet16", "type": "model-name"}],
        "version": [{"value": "1.0.0"}],
        "property": [
            {"type": {"text": "SHA-256 of the model file"}, "valueCode": [{"text": "ab12" * 16}]}
        ],
    }


def site() -> dict:
    return {
        "resourceType": "Organization",
        "id": "site",
        "active": True,
        "name": "Hilum demonstration site",
    }


def draft(measured: list[dict], pictures: list[dict]) -> dict:
    return {
        "resourceType": "DiagnosticReport",
        "id": "report",
        "meta": {"versionId": "1"},
        "identifier": [{"system": REPORT, "value": RUN}],
        "status": "preliminary",
        "category": [codes.concept(codes.RADIOLOGY)],
        "code": codes.concept(codes.IMAGING_NARRATIVE, text="MR brain: AI measurement report"),
        "subject": {"reference": "Patient/patient"},
        "effectiveDateTime": "2026-04-11T08:12:00+02:00",
        "issued": "2026-04-11T08:31:07+02:00",
        "performer": [{"reference": "Organization/site"}],
        "imagingStudy": [{"reference": "ImagingStudy/study"}],
        "result": [{"reference": f"Observation/{o['id']}"} for o in measured],
        "media": [{"link": {"reference": f"Media/{p['id']}"}} for p in pictures],
        "conclusion": "Draft.",
    }


def bundle(observations: list[dict] | None = None, *names: dict, images: int = 3) -> dict:
    """Resources by reference, as `reports.reading` takes them."""
    measured = lesion_observations() if observations is None else observations
    pictures = [
        media(
            n,
            phantom_png(bool(measured[0].get("valueQuantity", {}).get("value")), 9 * n - 18),
            f"Slice {18 + 6 * n} with the segmentation",
        )
        for n in range(1, images + 1)
    ]
    device, organization, report = model(), site(), draft(measured, pictures)
    everything = [
        report,
        patient(*names),
        imaging_study(),
        device,
        organization,
        *measured,
        *pictures,
    ]
    return copy.deepcopy({f"{r['resourceType']}/{r['id']}": r for r in everything})
