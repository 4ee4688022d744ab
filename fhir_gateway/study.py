"""The mapping of a DICOM study to an ImagingStudy: pure, complete, deterministic.

Source: R4 ImagingStudy `dicom` mapping; the union of SMART Imaging Access, IHE IMR and MADO
(docs/conformance): one dicomUid identifier, modality, started, endpoint at study and series,
instances with SOP class, a procedure code with text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from archive.summary import InstanceSummary, SeriesSummary, StudySummary
from fhir_gateway import dicom_values as dicom
from fhir_gateway.names import display_names
from fhir_gateway.orders.linking import based_on, encounter_of
from fhir_gateway.orders.table import KnownOrder
from records import codes, identifiers


@dataclass(frozen=True, slots=True)
class Links:
    """References that the mapped study carries.

    Attributes:
        number: PatientID in the images and its system, if they have one.
    """

    subject: str
    endpoint: str
    number: dict[str, str] | None = None
    orders: Sequence[KnownOrder] = ()


def to_imaging_study(
    summary: StudySummary, links: Links, *, zone: str | None, tags: Iterable[codes.Code] = ()
) -> dict[str, Any]:
    """The ImagingStudy of a study as it lies in the archive now.

    Args:
        zone: IANA zone of the site, for times without (0008,0201).
        tags: flags for a person to look at, in meta.tag.
    """
    study = summary.attributes
    offset = dicom.text(study, "00080201")
    series = [
        _series(one, links.endpoint, offset=offset, zone=zone)
        for one in sorted(summary.series, key=_series_order)
        if one.instances
    ]
    resource: dict[str, Any] = {
        "resourceType": "ImagingStudy",
        "identifier": _identifiers(study, summary.uid),
        "status": "available",
        "modality": _modalities(summary),
        "subject": without_empty({"reference": links.subject, "identifier": links.number}),
        "started": _started(summary, offset=offset, zone=zone),
        "encounter": encounter_of(links.orders),
        "basedOn": based_on(links.orders, accession_of(study)),
        "referrer": _person(study, "00080090"),
        "interpreter": _people(study, "00081060"),
        "endpoint": [{"reference": links.endpoint}],
        "numberOfSeries": len(series),
        "numberOfInstances": summary.instance_count,
        "procedureCode": _procedure(study),
        "location": _location(summary),
        "reasonCode": dicom.coded(study, "0040100A") + _texts(study, "00401002", "00321030"),
        "description": dicom.text(study, "00081030"),
        "series": series,
    }
    if found := [tag.coding for tag in tags]:
        resource["meta"] = {"tag": found}
    return without_empty(resource)


def cancelled(current: dict[str, Any]) -> dict[str, Any]:
    """The ImagingStudy of a study that is no longer in the archive.

    Whom it is about, what was ordered and where it lay remain; what the archive held does not.
    """
    kept = {name: value for name, value in current.items() if name not in ("series", "modality")}
    return {**kept, "status": "cancelled", "numberOfSeries": 0, "numberOfInstances": 0}


def content_hash(resource: dict[str, Any]) -> str:
    """Digest of mapped content, to tell an update that would change nothing."""
    return sha256(orjson.dumps(resource, option=orjson.OPT_SORT_KEYS)).hexdigest()


def without_empty(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource without elements that have no value (FHIR forbids empty ones)."""
    return {name: value for name, value in resource.items() if value not in (None, [], {}, "")}


def _identifiers(study: dicom.DicomJson, uid: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [identifiers.study_identifier(uid)]
    if accession := accession_of(study):
        found.append(accession)
    if study_id := dicom.text(study, "00200010"):
        found.append({"use": "secondary", "value": study_id})
    return found


def accession_of(study: dicom.DicomJson) -> dict[str, Any] | None:
    """The accession number with its issuer, as an Identifier."""
    value = dicom.text(study, "00080050")
    if value is None:
        return None
    return {
        "type": codes.concept(codes.ACCESSION_TYPE, codes.ACCESSION_NUMBER),
        "system": _accession_system(study),
        "value": value,
    }


def _accession_system(study: dicom.DicomJson) -> str:
    """System of the accession number's issuer (0008,0051), or of this site without one."""
    for item in dicom.items(study, "00080051"):
        entity, kind = dicom.text(item, "00400032"), dicom.text(item, "00400033")
        if entity and kind == "ISO":
            return identifiers.oid(entity)
        if entity and kind == "URI":
            return dicom.clean(entity)
        if entity or dicom.text(item, "00400031"):
            return identifiers.accession_system(entity or dicom.text(item, "00400031"))
    return identifiers.accession_system(None)


def _modality(series: SeriesSummary) -> str | None:
    return dicom.text(series.attributes, "00080060")


def _modalities(summary: StudySummary) -> list[dict[str, str]]:
    found = {_modality(series) or "OT" for series in summary.series}
    return [{"system": codes.DCM, "code": modality} for modality in sorted(found)]


def _started(summary: StudySummary, *, offset: str | None, zone: str | None) -> str | None:
    """Study date and time; without one the earliest of its series, without that nothing."""
    own = dicom.fhir_datetime(summary.attributes, "00080020", "00080030", offset=offset, zone=zone)
    if own:
        return own
    series = [_series_started(one, offset=offset, zone=zone) for one in summary.series]
    return min((start for start in series if start), default=None)


def _procedure(study: dicom.DicomJson) -> list[dict[str, Any]]:
    found = dicom.coded(study, "00081032") + dicom.coded(study, "00321064")
    unique = {orjson.dumps(concept): concept for concept in found}
    if unique:
        return list(unique.values())
    return _texts(study, "00321060", "00081030")[:1]


def _texts(study: dicom.DicomJson, *tags: str) -> list[dict[str, Any]]:
    found = (dicom.text(study, tag) for tag in tags)
    return [{"text": line} for line in dict.fromkeys(found) if line]


def _location(summary: StudySummary) -> dict[str, str] | None:
    for series in summary.series:
        if place := dicom.text(series.attributes, "00081040", "00400243"):
            return {"type": "Location", "display": place}
    return None


def _person(data: dicom.DicomJson, tag: str) -> dict[str, str] | None:
    return next(iter(_people(data, tag)), None)


def _people(data: dicom.DicomJson, *tags: str) -> list[dict[str, str]]:
    return [{"type": "Practitioner", "display": name} for name in display_names(data, *tags)]


def _series_order(series: SeriesSummary) -> tuple[int, str]:
    number = dicom.whole_number(series.attributes, "00200011")
    return (number if number is not None else 2_147_483_647, series.uid)


def _series(
    series: SeriesSummary, endpoint: str, *, offset: str | None, zone: str | None
) -> dict[str, Any]:
    data = series.attributes
    side = codes.SIDES.get(dicom.text(data, "00200060") or "")
    return without_empty(
        {
            "uid": series.uid,
            "number": dicom.whole_number(data, "00200011"),
            "modality": {"system": codes.DCM, "code": _modality(series) or "OT"},
            "description": dicom.text(data, "0008103E"),
            "numberOfInstances": len(series.instances),
            "endpoint": [{"reference": endpoint}],
            "bodySite": _body_site(data),
            "laterality": side.coding if side else None,
            "specimen": _specimens(series),
            "started": _series_started(series, offset=offset, zone=zone),
            "performer": _performers(data),
            "instance": [_instance(one) for one in sorted(series.instances, key=_order)],
        }
    )


def _series_started(series: SeriesSummary, *, offset: str | None, zone: str | None) -> str | None:
    data = series.attributes
    return dicom.fhir_datetime(data, "00080021", "00080031", offset=offset, zone=zone)


def _body_site(data: dicom.DicomJson) -> dict[str, Any] | None:
    for concept in dicom.coded(data, "00082218"):
        for coding in concept.get("coding", []):
            return dict(coding)
    part = dicom.text(data, "00180015")
    if part is None:
        return None
    known = codes.BODY_PARTS.get(part.upper())
    return dict(known.coding) if known else {"display": part}


def _specimens(series: SeriesSummary) -> list[dict[str, Any]]:
    """Specimens by identifier (0040,0551), described or not in (0040,0560)."""
    found: dict[str, dict[str, Any]] = {}
    for source in (series.attributes, *(one.attributes for one in series.instances)):
        for item in (source, *dicom.items(source, "00400560")):
            if value := dicom.text(item, "00400551"):
                found[value] = {"type": "Specimen", "identifier": {"value": value}}
    return [found[value] for value in sorted(found)]


def _performers(data: dicom.DicomJson) -> list[dict[str, Any]]:
    performed_by = codes.concept(codes.PERFORMER)
    return [
        {"function": performed_by, "actor": actor}
        for actor in _people(data, "00081050", "00081070")
    ]


def _order(instance: InstanceSummary) -> tuple[int, str]:
    number = dicom.whole_number(instance.attributes, "00200013")
    return (number if number is not None else 2_147_483_647, instance.uid)


def _instance(instance: InstanceSummary) -> dict[str, Any]:
    data = instance.attributes
    return without_empty(
        {
            "uid": instance.uid,
            "sopClass": {
                "system": identifiers.URI,
                "code": identifiers.oid(instance.sop_class),
            },
            "number": dicom.whole_number(data, "00200013"),
            "title": _title(data),
        }
    )


def _title(data: dicom.DicomJson) -> str | None:
    """Document title, content label or concept name; else the image type."""
    if title := dicom.text(data, "00420010", "00700080"):
        return title
    for item in dicom.items(data, "0040A043"):
        if meaning := dicom.text(item, "00080104"):
            return meaning
    kinds = [dicom.clean(kind) for kind in dicom.values(data, "00080008")]
    return "\\".join(kinds) or None
