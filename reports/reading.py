"""From FHIR resources to Findings. Pure; what FHIR says and a report cannot print is refused."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

from records import codes, identifiers
from reports.errors import FindingsError, MissingData, NotPreliminary, UnreadableValue
from reports.figures import Figure, figure
from reports.findings import (
    Findings,
    KeyImage,
    ModelFacts,
    Omission,
    PatientFacts,
    PersonName,
    RegionFindings,
    SeriesFacts,
    StudyFacts,
)
from reports.regions import KIND_OF_CODE, Kind, Region

Resource = dict[str, Any]
Bundle = Mapping[str, Resource]  # by reference, such as "Patient/1"

DERIVED_MODALITIES = frozenset({"SEG", "SR", "PR", "KO", "DOC", "RWV", "REG", "PMAP", "RTSTRUCT"})
WITHDRAWN = frozenset({"entered-in-error", "cancelled"})
REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_BIDI_CONTROL = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def findings_of(bundle: Bundle, report_reference: str) -> Findings:
    """The findings of one DiagnosticReport.

    Args:
        bundle: the report and every resource it leads to, by reference; a Binary in it holds
            the content of a Media that has none inline.
        report_reference: `DiagnosticReport/ID`.

    Raises:
        FindingsError: see its cases; the same bundle would fail again.
    """
    report = _resource(bundle, report_reference)
    if report.get("status") != "preliminary":
        raise NotPreliminary(report_reference, str(report.get("status")))
    observations = [_resource(bundle, r) for r in _references(report.get("result", []))]
    study = _resource(bundle, _study_reference(report, report_reference))
    regions, omissions = _regions(observations)
    if not regions:
        raise MissingData(report_reference, "measured region")
    return Findings(
        report_id=report["id"],
        identifier=_identifier(report, report_reference),
        title=clean(report.get("code", {}).get("text") or codes.IMAGING_NARRATIVE.display),
        issued=_instant(report, report_reference),
        performer=_name_of(bundle, report.get("performer", [])),
        patient=_patient(
            _resource(bundle, _subject(report, report_reference)), study.get("subject", {})
        ),
        study=_study(study, _used_as(observations)),
        model=_model(bundle, observations),
        regions=regions,
        images=tuple(_images(bundle, report)),
        omissions=omissions,
        cautions=_cautions(observations),
    )


def clean(text: object) -> str:
    """A text from outside, made fit to print: no control or direction-override characters."""
    flat = _FORBIDDEN.sub(" ", _BIDI_CONTROL.sub("", str(text)))
    return unicodedata.normalize("NFC", " ".join(flat.split()))


def _resource(bundle: Bundle, reference: str) -> Resource:
    try:
        return bundle[reference]
    except KeyError:
        raise MissingData(reference, "content") from None


def _references(items: Iterable[Resource]) -> list[str]:
    return [str(item["reference"]) for item in items if "reference" in item]


def _identifier(report: Resource, name: str) -> str:
    for identifier in report.get("identifier", []):
        if identifier.get("system") == identifiers.REPORT and identifier.get("value"):
            return str(identifier["value"])
    raise MissingData(name, "identifier of a run")


def _instant(report: Resource, name: str) -> datetime:
    if "issued" not in report:
        raise MissingData(name, "issued")
    return datetime.fromisoformat(report["issued"])


def _subject(report: Resource, name: str) -> str:
    if "reference" not in report.get("subject", {}):
        raise MissingData(name, "subject")
    return str(report["subject"]["reference"])


def _study_reference(report: Resource, name: str) -> str:
    studies = _references(report.get("imagingStudy", []))
    if len(studies) != 1:
        raise MissingData(name, "single imagingStudy")
    return studies[0]


def _name_of(bundle: Bundle, performers: Iterable[Resource]) -> str:
    names = [bundle[r].get("name") for r in _references(performers) if r in bundle]
    return "; ".join(clean(name) for name in names if isinstance(name, str))


def _patient(patient: Resource, named: Resource) -> PatientFacts:
    """Who it is; the number is the one in the images (`named`), which a merge does not change."""
    known = [i for i in patient.get("identifier", []) if i.get("value")]
    number = named.get("identifier", {})
    first = number if number.get("value") else (known[0] if known else {})
    return PatientFacts(
        names=tuple(_person(name) for name in patient.get("name", [])),
        identifier=clean(first.get("value", "")),
        issuer=clean(first.get("system", "")),
        birth_date=clean(patient.get("birthDate", "")),
        sex=clean(patient.get("gender", "")),
    )


def _person(name: Resource) -> PersonName:
    return PersonName(
        family=clean(name.get("family", "")),
        given=tuple(clean(part) for part in name.get("given", []) if part),
        prefix=clean(" ".join(name.get("prefix", []))),
        suffix=clean(" ".join(name.get("suffix", []))),
        representation=next(
            (e["valueCode"] for e in name.get("extension", []) if e["url"] == REPRESENTATION), ""
        ),
        text=clean(name.get("text", "")),
    )


def _study(study: Resource, used_as: Mapping[str, str]) -> StudyFacts:
    uid = identifiers.study_uid_of(study)
    if not uid:
        raise MissingData(f"ImagingStudy/{study['id']}", "Study Instance UID")
    acquired = [s for s in study.get("series", []) if _modality(s) not in DERIVED_MODALITIES]
    series = [
        SeriesFacts(
            uid=str(s["uid"]),
            number=s.get("number"),
            modality=_modality(s),
            description=clean(s.get("description", "")),
            instances=int(s.get("numberOfInstances", len(s.get("instance", [])))),
            used_as=used_as.get(str(s["uid"]), ""),
        )
        for s in acquired
    ]
    return StudyFacts(
        uid=uid,
        started=_moment(study.get("started")),
        description=clean(study.get("description", "")),
        accession=_accession(study),
        referrer=clean(study.get("referrer", {}).get("display", "")),
        series=tuple(sorted(series, key=lambda s: (s.number is None, s.number or 0, s.uid))),
    )


def _used_as(observations: Iterable[Resource]) -> dict[str, str]:
    """Series Instance UID to the sequence that the model took the series for."""
    return {
        identifiers.uid_of(str(source["identifier"].get("value", ""))): clean(source["display"])
        for observation in observations
        for source in observation.get("derivedFrom", [])
        if source.get("identifier", {}).get("system") == identifiers.DICOM_UID
        and "display" in source
    }


def _modality(series: Resource) -> str:
    return clean(series.get("modality", {}).get("code", ""))


def _moment(text: str | None) -> datetime | date | None:
    if text is None or len(text) < len("2026-01-01"):
        return None
    return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)


def _accession(study: Resource) -> str:
    for identifier in study.get("identifier", []):
        for coding in identifier.get("type", {}).get("coding", []):
            if coding.get("code") == codes.ACCESSION_TYPE.code:
                return clean(identifier.get("value", ""))
    return ""


def _model(bundle: Bundle, observations: Iterable[Resource]) -> ModelFacts:
    references = {r for o in observations if (r := o.get("device", {}).get("reference"))}
    if len(references) != 1:
        raise MissingData("the report's Observations", "single device")
    reference = references.pop()
    device = _resource(bundle, reference)
    names, versions = device.get("deviceName", []), device.get("version", [])
    if not names or not versions:
        raise MissingData(reference, "name and version")
    return ModelFacts(clean(names[0]["name"]), clean(versions[0]["value"]), _digest(device))


def _digest(device: Resource) -> str:
    for item in device.get("property", []):
        if item.get("type", {}).get("text", "").startswith("SHA-256"):
            return clean(item.get("valueCode", [{}])[0].get("text", ""))
    return ""


def _regions(
    observations: Iterable[Resource],
) -> tuple[tuple[RegionFindings, ...], tuple[Omission, ...]]:
    """What each region's Observations say together: volume, size and enhancement of it.

    Grouping Observations say nothing themselves: their members are in the report too.
    """
    found: dict[Region, RegionFindings] = {}
    omissions: list[Omission] = []
    for observation in observations:
        if "hasMember" in observation:
            continue
        source = f"Observation/{observation['id']}"
        name = clean(observation.get("code", {}).get("text", "")) or source
        region = _region_of(observation)
        if observation.get("status") in WITHDRAWN:
            omissions.append(Omission(source, name, "withdrawn"))
        elif region is None:
            omissions.append(Omission(source, name, "not a measurement that this report knows"))
        else:
            known = found.get(region, RegionFindings(region, source, ()))
            found[region] = _together(known, _figures(observation, source), source)
    for one in found.values():
        _check_figures({figure.kind: figure for figure in one.figures}, one.source)
    ordered = tuple(found[region] for region in Region if region in found)
    return ordered, tuple(omissions)


def _together(known: RegionFindings, more: tuple[Figure, ...], source: str) -> RegionFindings:
    """A region's findings with those of one more Observation; the volume's names the region."""
    if {one.kind for one in known.figures} & {one.kind for one in more}:
        raise UnreadableValue(source, f"{known.region.value} is measured twice")
    names_it = any(one.kind is Kind.VOLUME for one in more)
    figures = {one.kind: one for one in (*known.figures, *more)}
    ordered = tuple(figures[kind] for kind in Kind if kind in figures)
    return RegionFindings(known.region, source if names_it else known.source, ordered)


def _region_of(observation: Resource) -> Region | None:
    for coding in observation.get("code", {}).get("coding", []):
        if coding.get("system") == codes.BRAIN_LESION and coding.get("code") in set(Region):
            return Region(coding["code"])
    return None


def _figures(observation: Resource, source: str) -> tuple[Figure, ...]:
    if "dataAbsentReason" in observation:
        return ()
    if "valueQuantity" not in observation and "component" not in observation:
        raise UnreadableValue(source, "has neither a value nor a reason for its absence")
    figures: dict[Kind, Figure] = {}
    if "valueQuantity" in observation:
        kind = _kind_of(observation) or Kind.VOLUME
        figures[kind] = figure(kind, observation["valueQuantity"], source)
    for component in observation.get("component", []):
        part = _kind_of(component)
        if part is None or "valueQuantity" not in component:
            continue  # a point in space, for example, is not for a text
        if part in figures:
            raise UnreadableValue(source, f"{part} is given twice")
        figures[part] = figure(part, component["valueQuantity"], source)
    return tuple(figures[kind] for kind in Kind if kind in figures)


def _check_figures(figures: Mapping[Kind, Figure], source: str) -> None:
    long, short = figures.get(Kind.LONG_AXIS), figures.get(Kind.SHORT_AXIS)
    if short and not long:
        raise UnreadableValue(source, "has a perpendicular diameter but no longest one")
    if long and short and short.value > long.value:
        raise UnreadableValue(source, "its perpendicular diameter exceeds the longest one")
    parts, volume = figures.get(Kind.PARTS), figures.get(Kind.VOLUME)
    if parts and volume and volume.value and not parts.value:
        raise UnreadableValue(source, "has a volume in no part")


def _kind_of(component: Resource) -> Kind | None:
    for coding in component.get("code", {}).get("coding", []):
        kind = KIND_OF_CODE.get((coding.get("system", ""), coding.get("code", "")))
        if kind is not None:
            return kind
    return None


def _cautions(observations: Iterable[Resource]) -> tuple[str, ...]:
    texts = [clean(n.get("text", "")) for o in observations for n in o.get("note", [])]
    return tuple(dict.fromkeys(text for text in texts if text))


def _images(bundle: Bundle, report: Resource) -> Iterable[KeyImage]:
    for entry in report.get("media", []):
        reference = entry.get("link", {}).get("reference", "")
        content = _resource(bundle, reference).get("content", {})
        if content.get("contentType") != "image/png":
            raise UnreadableValue(reference, "is not a PNG picture")
        caption = clean(entry.get("comment") or content.get("title") or "Key image")
        yield KeyImage(caption, _png(bundle, content, reference))


def _png(bundle: Bundle, content: Resource, reference: str) -> bytes:
    source = content if "data" in content else _resource(bundle, binary_of(content, reference))
    try:
        png = base64.b64decode(source.get("data", ""), validate=True)
    except binascii.Error:
        raise UnreadableValue(reference, "its content is not base64") from None
    if not png.startswith(PNG_SIGNATURE):
        raise UnreadableValue(reference, "is not a PNG picture")
    return png


def binary_of(content: Resource, reference: str) -> str:
    """Reference of the Binary that an Attachment points to.

    Raises:
        FindingsError: it points anywhere else; a report fetches nothing from other servers.
    """
    parts = str(content.get("url", "")).split("/")
    if len(parts) != 2 or parts[0] != "Binary":
        raise FindingsError(f"{reference} has neither data nor a Binary")
    return "/".join(parts)
