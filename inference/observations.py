"""The Observations of a result: totals of each region, and one group for each lesion.

A group holds nothing but its members (`hasMember`): volume, size and enhancement. A size is an
Observation without a value whose components are the diameters, as mCODE's Tumor Size has it. The
tracking UID of a finding is the same in SEG, SR and FHIR.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inference import terms
from inference.conclusion import cautions
from inference.lesions import Lesion, tracking
from inference.measure import Measurement, Region
from inference.result import US_CORE, Resource, Result, dicom_reference
from records import codes

PROFILE = f"{US_CORE}/us-core-observation-clinical-result"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was measured, and how all that is said about it is named.

    Attributes:
        name: within the run, such as `WT` or `lesion-2`.
        tracked: name of its tracking UID.
        text: for people.
        codes: what it is.
        body: reference of its BodyStructure; None where there is none.
    """

    name: str
    tracked: str
    text: str
    codes: tuple[codes.Code, ...]
    body: str | None = None


def region_finding(region: Region) -> Finding:
    """A region, all of it."""
    about = terms.REGIONS[region]
    return Finding(region, f"tracking {region}", about.name, (about.local,))


def lesion_finding(lesion: Lesion, count: int, body: str) -> Finding:
    """One lesion."""
    return Finding(
        f"lesion-{lesion.number}",
        tracking(lesion, count),
        f"Lesion {lesion.number}",
        (codes.LESION,),
        body,
    )


def body_structure(result: Result, lesion: Lesion) -> Resource:
    """The lesion itself, for Observations to be about."""
    count = len(result.lesions)
    return {
        "resourceType": "BodyStructure",
        "identifier": [
            result.identifier(f"body-{lesion.number}"),
            result.tracking(tracking(lesion, count)),
        ],
        "morphology": codes.concept(codes.NEOPLASM, text="Brain lesion"),
        "location": codes.concept(codes.BRAIN, text="Brain"),
        "description": f"Lesion {lesion.number} of {count}, found by {result.model.label}",
        "patient": result.task["for"],
    }


def measured(
    result: Result, finding: Finding, measurement: Measurement, device: str, performer: str
) -> Iterator[Resource]:
    """Volume, size and enhancement of a finding, as far as each was measured."""
    common = _common(result, finding, device, performer)
    yield _volume(result, finding, measurement, common)
    if measurement.diameters is not None:
        yield _size(result, finding, measurement, common)
    if measurement.enhancement_ratio is not None:
        yield _enhancement(result, finding, measurement.enhancement_ratio, common)


def group(
    result: Result,
    finding: Finding,
    members: Sequence[tuple[str, str]],
    device: str,
    performer: str,
) -> Resource:
    """The grouping Observation of a lesion.

    Args:
        members: reference and text of each.
    """
    return {
        **_common(result, finding, device, performer),
        "identifier": [
            result.identifier(f"group-{finding.name}"),
            result.tracking(finding.tracked),
        ],
        "code": codes.concept(codes.RADIOLOGY_OBSERVATION, *finding.codes, text=finding.text),
        "hasMember": [{"reference": url, "display": text} for url, text in members],
    }


def _common(result: Result, finding: Finding, device: str, performer: str) -> Resource:
    body: Resource = {
        "resourceType": "Observation",
        "meta": {"profile": [PROFILE]},
        "status": "preliminary",
        "category": [codes.concept(codes.IMAGING)],
        **result.context,
        "issued": result.issued,
        "performer": [{"reference": performer}],
        "bodySite": codes.concept(codes.BRAIN, text="Brain"),
        "device": {"reference": device},
        "derivedFrom": [
            result.study_reference,
            *(
                dicom_reference(uid) | {"display": name}
                for name, uid in sorted(result.inputs.items())
            ),
        ],
    }
    if finding.body is not None:
        body["focus"] = [{"reference": finding.body}]
    notes = [{"text": text} for text in cautions(result.inputs, result.model)]
    return body | ({"note": notes} if notes else {})


def _named(result: Result, finding: Finding, kind: str) -> list[Resource]:
    return [result.identifier(f"{kind}-{finding.name}"), result.tracking(finding.tracked)]


def _volume(
    result: Result, finding: Finding, measurement: Measurement, common: Resource
) -> Resource:
    return common | {
        "identifier": _named(result, finding, "observation"),
        "code": codes.concept(
            codes.TUMOUR_SIZE, codes.VOLUME, *finding.codes, text=f"{finding.text}, volume"
        ),
        "method": _method(result, codes.VOLUME_FROM_REGIONS, "voxels counted"),
        "valueQuantity": codes.quantity(round(measurement.volume_ml, 2), codes.MILLILITRE),
        "component": [_component(measurement.components, codes.COUNT, codes.COMPONENTS)],
    }


def _size(result: Result, finding: Finding, measurement: Measurement, common: Resource) -> Resource:
    diameters = measurement.diameters
    assert diameters is not None  # noqa: S101  (the caller has looked)
    long_mm = round(diameters.long_axis.length_mm, 1)
    short_mm = round(diameters.short_axis.length_mm, 1)
    return common | {
        "identifier": _named(result, finding, "size"),
        "code": codes.concept(codes.TUMOUR_SIZE, *finding.codes, text=f"{finding.text}, size"),
        "method": {
            "text": f"Segmentation by {result.model.label}, longest diameter in one slice and "
            "the longest one across it"
        },
        "component": [
            _component(long_mm, codes.MILLIMETRE, codes.LONGEST_DIAMETER, codes.LONG_AXIS),
            _component(
                short_mm,
                codes.MILLIMETRE,
                codes.ADDITIONAL_DIAMETER,
                codes.PERPENDICULAR_AXIS,
                codes.SHORT_AXIS,
            ),
        ],
    }


def _enhancement(result: Result, finding: Finding, ratio: float, common: Resource) -> Resource:
    return common | {
        "identifier": _named(result, finding, "enhancement"),
        "code": codes.concept(
            codes.RADIOLOGY_OBSERVATION,
            codes.ENHANCEMENT_RATIO,
            *finding.codes,
            text=f"{finding.text}, T1 signal after/before contrast",
        ),
        "method": {"text": f"Segmentation by {result.model.label}, mean signals divided"},
        "valueQuantity": codes.quantity(round(ratio, 2), codes.RATIO),
    }


def _method(result: Result, code: codes.Code, how: str) -> Resource:
    return codes.concept(code, text=f"Segmentation by {result.model.label}, {how}")


def _component(value: float, unit: codes.Code, *names: codes.Code) -> Resource:
    return {
        "code": codes.concept(*names, text=names[-1].display),
        "valueQuantity": codes.quantity(value, unit),
    }
