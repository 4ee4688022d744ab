"""Write a result as FHIR: one transaction that ends the Task.

Every entry but the Task is a conditional create on an identifier of the run, or an update under
an id of the run: repeating the transaction changes nothing, and nobody's later edit is undone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inference.conclusion import conclusion
from inference.key_images import KeyImage
from inference.lesions import Lesion
from inference.models import Model
from inference.observations import (
    Finding,
    body_structure,
    group,
    lesion_finding,
    measured,
    region_finding,
)
from inference.result import RESULT_SYSTEM, US_CORE, Result, dicom_reference
from records import codes, identifiers
from records import organization as organizations

__all__ = ["Resource", "Result", "transaction"]

Resource = dict[str, Any]

MODEL_SYSTEM = f"{identifiers.SID}/model"
DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
MEDIA_TYPE = "http://terminology.hl7.org/CodeSystem/media-type"
DRAFT = "AI draft, not reviewed by a radiologist. Not for clinical use."


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
    owner = organizations.organization(result.organization)
    organization = _created(result, owner, organizations.SYSTEM)
    device = _created(result, _device(result.model), MODEL_SYSTEM)
    findings = _findings(result, device.url, organization.url)
    media = [
        _created(result, _media(result, number, image, device.url))
        for number, image in enumerate(result.images, 1)
    ]
    report = _created(
        result, _report(result, findings, media, organization.url), identifiers.REPORT
    )
    written = [report, *findings.everything, *media]
    provenance = _provenance(result, written, organization, device)
    task = _completed_task(result, report, findings)
    withdrawn = [_withdrawn(result, one) for one in result.superseded]
    entries = [organization, device, *findings.everything, *media, report]
    entries += [*withdrawn, *_withdrawal(result, organization, device), provenance, task]
    return [entry.as_json() for entry in entries]


@dataclass(frozen=True, slots=True)
class Findings:
    """The Observations of a result and what they are about.

    Attributes:
        bodies: BodyStructures.
        groups: one for each lesion.
        totals: of the regions; members of the group where there is a single lesion.
        parts: of single lesions, where there are several.
    """

    bodies: Sequence[Entry]
    groups: Sequence[Entry]
    totals: Sequence[Entry]
    parts: Sequence[Entry]

    @property
    def everything(self) -> list[Entry]:
        """All of them, in an order of their own."""
        return [*self.bodies, *self.totals, *self.parts, *self.groups]


def _findings(result: Result, device: str, performer: str) -> Findings:
    totals = [
        _created(result, one)
        for region, measurement in result.measurements.items()
        for one in measured(result, region_finding(region), measurement, device, performer)
    ]
    bodies = [_created(result, body_structure(result, lesion)) for lesion in result.lesions]
    count = len(result.lesions)
    groups: list[Entry] = []
    parts: list[Entry] = []
    for lesion, body in zip(result.lesions, bodies, strict=True):
        finding = lesion_finding(lesion, count, body.url)
        members = totals
        if count > 1:
            members = [
                _created(result, one)
                for one in _of_lesion(result, finding, lesion, device, performer)
            ]
            parts += members
        named = [(one.url, str(one.resource["code"]["text"])) for one in members]
        groups.append(_created(result, group(result, finding, named, device, performer)))
    return Findings(bodies, groups, totals, parts)


def _of_lesion(
    result: Result, finding: Finding, lesion: Lesion, device: str, performer: str
) -> Iterator[Resource]:
    """What is said of one lesion of several: all of it, and how its enhancing part enhances."""
    whole = replace(lesion.whole, enhancement_ratio=lesion.enhancing.enhancement_ratio)
    yield from measured(result, finding, whole, device, performer)


def _created(result: Result, resource: Resource, system: str = RESULT_SYSTEM) -> Entry:
    """An entry that is created only while no resource has its identifier."""
    value = next(i["value"] for i in resource["identifier"] if i["system"] == system)
    kind = resource["resourceType"]
    return Entry(
        resource,
        f"urn:uuid:{result.run.uuid(f'{kind} {value}')}",
        {"method": "POST", "url": kind, "ifNoneExist": identifiers.by_identifier(system, value)},
    )


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


def _media(result: Result, number: int, image: KeyImage, device: str) -> Resource:
    overlay = " with the segmentation" if image.overlay else ""
    return {
        "resourceType": "Media",
        "identifier": [result.identifier(f"key-image-{number}")],
        "status": "completed",
        "type": _concept(MEDIA_TYPE, "image", "Image"),
        "subject": result.task["for"],
        "createdDateTime": result.issued,
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


def _report(result: Result, findings: Findings, media: Sequence[Entry], performer: str) -> Resource:
    study = result.study
    return {
        "resourceType": "DiagnosticReport",
        "meta": {"profile": [f"{US_CORE}/us-core-diagnosticreport-note"]},
        "identifier": [{"system": identifiers.REPORT, "value": result.run.identifier}],
        **({"basedOn": study["basedOn"]} if "basedOn" in study else {}),
        "status": "preliminary",
        "category": [codes.concept(codes.RADIOLOGY, text="Radiology")],
        "code": codes.concept(codes.IMAGING_NARRATIVE, text="MR brain: AI measurement report"),
        **result.context,
        "issued": result.issued,
        "performer": [{"reference": performer}],
        "imagingStudy": [result.study_reference],
        "result": [
            {"reference": entry.url, "display": entry.resource["code"]["text"]}
            for entry in (*findings.groups, *findings.totals)
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
    reports = [one for one in result.superseded if one["resourceType"] == "DiagnosticReport"]
    entities = [
        {"role": "source", "what": result.study_reference},
        *(_dicom_entity(uid) for uid in sorted(result.inputs.values())),
        *(_dicom_entity(uid) for uid in (result.seg_uid, result.sr_uid)),
        *(
            {"role": "revision", "what": {"reference": f"DiagnosticReport/{one['id']}"}}
            for one in reports
        ),
    ]
    resource = {
        "resourceType": "Provenance",
        "id": str(result.run.uuid("Provenance")),
        "target": [{"reference": entry.url} for entry in targets],
        "activity": _concept(DATA_OPERATION, "CREATE", "create"),
        **_made_by(result, organization, device),
        "entity": entities,
    }
    return _own(resource)


def _withdrawal(result: Result, organization: Entry, device: Entry) -> list[Entry]:
    """Why results of earlier runs ended."""
    if not result.superseded:
        return []
    resource = {
        "resourceType": "Provenance",
        "id": str(result.run.uuid("Provenance withdrawal")),
        "target": [
            {"reference": f"{one['resourceType']}/{one['id']}"} for one in result.superseded
        ],
        "activity": {
            **_concept(DATA_OPERATION, "UPDATE", "revise"),
            "text": "superseded by a run on the study as it is now",
        },
        **_made_by(result, organization, device),
    }
    return [_own(resource)]


def _made_by(result: Result, organization: Entry, device: Entry) -> Resource:
    """The model made it for the organisation, which answers for it; Hilum has passed it on."""
    by_device = {
        "who": {"reference": device.url},
        "onBehalfOf": {"reference": organization.url},
    }
    return {
        "meta": {"profile": [f"{US_CORE}/us-core-provenance"]},
        "recorded": result.issued,
        "agent": [
            {
                "type": codes.concept(codes.AUTHOR, text="Author"),
                "who": {"reference": organization.url},
                "onBehalfOf": {"reference": organization.url},
            },
            {"type": codes.concept(codes.ASSEMBLER, text="Assembler"), **by_device},
            {"type": codes.concept(codes.TRANSMITTER, text="Transmitter"), **by_device},
        ],
    }


def _own(resource: Resource) -> Entry:
    """An entry under an id of the run."""
    url = f"{resource['resourceType']}/{resource['id']}"
    return Entry(resource, f"urn:uuid:{resource['id']}", {"method": "PUT", "url": url})


def _completed_task(result: Result, report: Entry, findings: Findings) -> Entry:
    task = result.task
    outputs: list[Resource] = [_output("report", {"reference": report.url})]
    outputs += [
        _output("measurement", {"reference": entry.url})
        for entry in (*findings.groups, *findings.totals, *findings.parts)
    ]
    outputs += [
        _output("segmentation", dicom_reference(result.seg_uid)),
        _output("measurement-report", dicom_reference(result.sr_uid)),
    ]
    changed = {**task, "status": "completed", "output": outputs}
    changed.pop("statusReason", None)
    return _replaced(result, changed)


def _withdrawn(result: Result, draft: Resource) -> Entry:
    """What an earlier run left, ended: never final, so cancelled and not entered-in-error."""
    ended = "superseded" if draft["resourceType"] == "DocumentReference" else "cancelled"
    return _replaced(result, {**draft, "status": ended})


def _replaced(result: Result, changed: Resource) -> Entry:
    """A new version of a resource, taken only while the version that was read is current."""
    place = f"{changed['resourceType']}/{changed['id']}"
    meta = {k: v for k, v in changed["meta"].items() if k == "profile"}
    resource = {k: v for k, v in changed.items() if k != "meta"} | ({"meta": meta} if meta else {})
    match = f'W/"{changed["meta"]["versionId"]}"'
    request = {"method": "PUT", "url": place, "ifMatch": match}
    return Entry(resource, f"urn:uuid:{result.run.uuid(place)}", request)


def _dicom_entity(uid: str) -> Resource:
    return {"role": "source", "what": dicom_reference(uid)}


def _output(kind: str, reference: Resource) -> Resource:
    return {"type": {"text": kind}, "valueReference": reference}


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}
