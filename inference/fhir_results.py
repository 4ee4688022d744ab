"""Write a result as FHIR: one transaction that ends the Task.

Every entry but the Task is a conditional create on an identifier of the run, or an update under
an id of the run: repeating the transaction changes nothing, and nobody's later edit is undone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from inference import terms
from inference.conclusion import cautions, conclusion
from inference.key_images import KeyImage
from inference.measure import Measurement, Region
from inference.models import Model
from inference.runs import Run
from records import codes, identifiers

Resource = dict[str, Any]

RESULT_SYSTEM = f"{identifiers.SID}/inference-result"
MODEL_SYSTEM = f"{identifiers.SID}/model"
ORGANIZATION_SYSTEM = f"{identifiers.SID}/organization"
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"
DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
MEDIA_TYPE = "http://terminology.hl7.org/CodeSystem/media-type"
DRAFT = "AI draft, not reviewed by a radiologist. Not for clinical use."


@dataclass(frozen=True, slots=True)
class Result:
    """What a run found, and what it stands for in FHIR.

    Attributes:
        task: the Task as last read, with `id`, `for`, `focus` and `meta.versionId`.
        study: the ImagingStudy.
        organization: name of the organisation that runs the model.
        seg_uid: SOP Instance UID of the stored Segmentation.
        sr_uid: SOP Instance UID of the stored report.
        inputs: sequence name to Series Instance UID of what the model was given.
        superseded: drafts of earlier runs, as last read, that this result takes the place of.
    """

    run: Run
    model: Model
    task: Resource
    study: Resource
    organization: str
    measurements: Mapping[Region, Measurement]
    images: Sequence[KeyImage]
    seg_uid: str
    sr_uid: str
    inputs: Mapping[str, str]
    superseded: Sequence[Resource] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource on its way into the transaction, and how others in it refer to it."""

    resource: Resource
    url: str
    request: dict[str, str]

    def as_json(self) -> Resource:
        """The entry of the Bundle."""
        return {"fullUrl": self.url, "resource": self.resource, "request": self.request}


def transaction(result: Result) -> list[Resource]:
    """The entries of the transaction, the Task last.

    The Task and the superseded drafts carry If-Match: where somebody else has moved one of them
    on, nothing is written.
    """
    organization = _created(result, _organization(result.organization), ORGANIZATION_SYSTEM)
    device = _created(result, _device(result.model), MODEL_SYSTEM)
    observations = [
        _created(result, _observation(result, measured, device.url, organization.url))
        for measured in result.measurements.values()
    ]
    media = [
        _created(result, _media(result, number, image, device.url))
        for number, image in enumerate(result.images, 1)
    ]
    report = _created(
        result, _report(result, observations, media, organization.url), identifiers.REPORT
    )
    provenance = _provenance(result, [report, *observations, *media], organization, device)
    task = _completed_task(result, report, observations)
    withdrawn = [_withdrawn(result, draft) for draft in result.superseded]
    entries = [organization, device, *observations, *media, report, *withdrawn, provenance, task]
    return [entry.as_json() for entry in entries]


def _created(result: Result, resource: Resource, system: str = RESULT_SYSTEM) -> Entry:
    """An entry that is created only while no resource has its identifier."""
    value = next(i["value"] for i in resource["identifier"] if i["system"] == system)
    kind = resource["resourceType"]
    return Entry(
        resource,
        f"urn:uuid:{result.run.uuid(f'{kind} {value}')}",
        {"method": "POST", "url": kind, "ifNoneExist": identifiers.by_identifier(system, value)},
    )


def _organization(name: str) -> Resource:
    return {
        "resourceType": "Organization",
        "meta": {"profile": [f"{US_CORE}/us-core-organization"]},
        "identifier": [{"system": ORGANIZATION_SYSTEM, "value": str(uuid5(NAMESPACE_URL, name))}],
        "active": True,
        "name": name,
    }


def _device(model: Model) -> Resource:
    return {
        "resourceType": "Device",
        "identifier": [{"system": MODEL_SYSTEM, "value": f"{model.label}#sha256:{model.digest}"}],
        "status": "active",
        "manufacturer": "Hilum",
        "deviceName": [{"name": model.name, "type": "model-name"}],
        "type": codes.concept(codes.ARTIFICIAL_INTELLIGENCE, text="Segmentation model"),
        "version": [{"value": model.version}],
        "property": [
            {
                "type": {"text": "SHA-256 of the model file"},
                "valueCode": [{"text": model.digest}],
            }
        ],
        "note": [{"text": f"{model.description}. Not a medical device."}],
    }


def _observation(result: Result, measured: Measurement, device: str, performer: str) -> Resource:
    about = terms.REGIONS[measured.region]
    body: Resource = {
        "resourceType": "Observation",
        "meta": {"profile": [f"{US_CORE}/us-core-observation-clinical-result"]},
        "identifier": [
            _result_identifier(result, f"observation-{measured.region}"),
            {
                "system": identifiers.DICOM_UID,
                "value": identifiers.oid(result.run.uid(f"tracking {measured.region}")),
            },
        ],
        "status": "preliminary",
        "category": [codes.concept(codes.IMAGING)],
        "code": codes.concept(
            codes.TUMOUR_SIZE, codes.VOLUME, about.local, text=f"{about.name}, volume"
        ),
        **_context(result),
        "issued": _instant(result),
        "performer": [{"reference": performer}],
        "valueQuantity": codes.quantity(round(measured.volume_ml, 2), codes.MILLILITRE),
        "bodySite": codes.concept(codes.BRAIN, text="Brain"),
        "method": {"text": f"Segmentation by {result.model.label}, voxels counted"},
        "device": {"reference": device},
        "derivedFrom": [_study(result), *_inputs(result)],
        "component": _components(measured),
    }
    notes = [{"text": text} for text in cautions(result.inputs, result.model)]
    return body | ({"note": notes} if notes else {})


def _inputs(result: Result) -> list[Resource]:
    """The series that the model was given, by Series Instance UID; `display` says as what."""
    return [_instance(uid) | {"display": name} for name, uid in sorted(result.inputs.items())]


def _components(measured: Measurement) -> list[Resource]:
    found = [_component(measured.components, codes.COUNT, codes.COMPONENTS)]
    if measured.diameters is not None:
        long_mm = round(measured.diameters.long_axis.length_mm, 1)
        short_mm = round(measured.diameters.short_axis.length_mm, 1)
        found += [
            _component(long_mm, codes.MILLIMETRE, codes.LONGEST_DIAMETER, codes.LONG_AXIS),
            _component(
                short_mm, codes.MILLIMETRE, codes.ADDITIONAL_DIAMETER, codes.PERPENDICULAR_AXIS
            ),
        ]
    if measured.enhancement_ratio is not None:
        ratio = round(measured.enhancement_ratio, 2)
        found.append(_component(ratio, codes.RATIO, codes.ENHANCEMENT_RATIO))
    return found


def _component(value: float, unit: codes.Code, *names: codes.Code) -> Resource:
    return {
        "code": codes.concept(*names, text=names[-1].display),
        "valueQuantity": codes.quantity(value, unit),
    }


def _media(result: Result, number: int, image: KeyImage, device: str) -> Resource:
    overlay = " with the segmentation" if image.overlay else ""
    return {
        "resourceType": "Media",
        "identifier": [_result_identifier(result, f"key-image-{number}")],
        "status": "completed",
        "type": _concept(MEDIA_TYPE, "image", "Image"),
        "subject": result.task["for"],
        "createdDateTime": _instant(result),
        "bodySite": codes.concept(codes.BRAIN, text="Brain"),
        "device": {"reference": device},
        "height": image.height,
        "width": image.width,
        "content": {
            "contentType": "image/png",
            "data": base64.b64encode(image.png).decode(),
            "size": len(image.png),
            "hash": base64.b64encode(
                hashlib.sha1(image.png, usedforsecurity=False).digest()
            ).decode(),
            "title": f"Slice {image.slice_index + 1}{overlay}",
        },
        "note": [{"text": DRAFT}],
    }


def _report(
    result: Result, observations: Sequence[Entry], media: Sequence[Entry], performer: str
) -> Resource:
    return {
        "resourceType": "DiagnosticReport",
        "meta": {"profile": [f"{US_CORE}/us-core-diagnosticreport-note"]},
        "identifier": [{"system": identifiers.REPORT, "value": result.run.identifier}],
        "status": "preliminary",
        "category": [codes.concept(codes.RADIOLOGY, text="Radiology")],
        "code": codes.concept(codes.IMAGING_NARRATIVE, text="MR brain: AI measurement report"),
        **_context(result),
        "issued": _instant(result),
        "performer": [{"reference": performer}],
        "imagingStudy": [_study(result)],
        "result": [
            {"reference": entry.url, "display": entry.resource["code"]["text"]}
            for entry in observations
        ],
        "media": [
            {"comment": entry.resource["content"]["title"], "link": {"reference": entry.url}}
            for entry in media
        ],
        "conclusion": conclusion(result.measurements, result.inputs, result.model),
    }


def _provenance(
    result: Result, targets: Sequence[Entry], organization: Entry, device: Entry
) -> Entry:
    identifier = str(result.run.uuid("Provenance"))
    about_study = {"role": "source", "what": _study(result)}
    resource = {
        "resourceType": "Provenance",
        "id": identifier,
        "meta": {"profile": [f"{US_CORE}/us-core-provenance"]},
        "target": [{"reference": entry.url} for entry in targets],
        "recorded": _instant(result),
        "activity": _concept(DATA_OPERATION, "CREATE", "create"),
        "agent": [
            {
                "type": codes.concept(codes.AUTHOR, text="Author"),
                "who": {"reference": organization.url},
            },
            {
                "type": codes.concept(codes.ASSEMBLER, text="Assembler"),
                "who": {"reference": device.url},
                "onBehalfOf": {"reference": organization.url},
            },
        ],
        "entity": [
            about_study,
            *(_instance_entity(uid) for uid in (result.seg_uid, result.sr_uid)),
            *(
                {"role": "revision", "what": {"reference": f"DiagnosticReport/{draft['id']}"}}
                for draft in result.superseded
            ),
        ],
    }
    url = f"Provenance/{identifier}"
    return Entry(resource, f"urn:uuid:{identifier}", {"method": "PUT", "url": url})


def _completed_task(result: Result, report: Entry, observations: Sequence[Entry]) -> Entry:
    task = result.task
    outputs: list[Resource] = [_output("report", {"reference": report.url})]
    outputs += [_output("measurement", {"reference": entry.url}) for entry in observations]
    outputs += [
        _output("segmentation", _instance(result.seg_uid)),
        _output("measurement-report", _instance(result.sr_uid)),
    ]
    changed = {**task, "status": "completed", "output": outputs}
    changed.pop("statusReason", None)
    return _replaced(result, changed)


def _withdrawn(result: Result, draft: Resource) -> Entry:
    """A draft of an earlier run, ended: never final, so cancelled and not entered-in-error."""
    return _replaced(result, {**draft, "status": "cancelled"})


def _replaced(result: Result, changed: Resource) -> Entry:
    """A new version of a resource, taken only while the version that was read is current."""
    place = f"{changed['resourceType']}/{changed['id']}"
    meta = {k: v for k, v in changed["meta"].items() if k == "profile"}
    resource = {k: v for k, v in changed.items() if k != "meta"} | ({"meta": meta} if meta else {})
    match = f'W/"{changed["meta"]["versionId"]}"'
    request = {"method": "PUT", "url": place, "ifMatch": match}
    return Entry(resource, f"urn:uuid:{result.run.uuid(place)}", request)


def _context(result: Result) -> Resource:
    """Subject, encounter and time of the study, as Observation and report share them."""
    study, task = result.study, result.task
    context: Resource = {"subject": task["for"]}
    if "encounter" in study:
        context["encounter"] = study["encounter"]
    context["effectiveDateTime"] = study.get("started", _instant(result))
    return context


def _study(result: Result) -> Resource:
    return {"reference": f"ImagingStudy/{result.study['id']}"}


def _instance(uid: str) -> Resource:
    """A DICOM object or series by its UID: no resource stands for it alone."""
    return {"identifier": {"system": identifiers.DICOM_UID, "value": identifiers.oid(uid)}}


def _instance_entity(uid: str) -> Resource:
    return {"role": "source", "what": _instance(uid)}


def _output(kind: str, reference: Resource) -> Resource:
    return {"type": {"text": kind}, "valueReference": reference}


def _result_identifier(result: Result, name: str) -> Resource:
    return {"system": RESULT_SYSTEM, "value": f"{result.run.identifier}-{name}"}


def _instant(result: Result) -> str:
    return result.run.at.isoformat(timespec="seconds")


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}
