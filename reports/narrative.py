"""The words of a report: findings and impression, each number tied to its Observation.

Every number is the written form of exactly one Figure (`Figure.number`); the span says which
Observation states it. No sentence compares with an earlier study: no prior is read.
"""

from __future__ import annotations

from dataclasses import dataclass

from reports.figures import Figure
from reports.findings import Findings, RegionFindings
from reports.regions import Kind, Region

NOTHING_ASSESSED = "No region could be assessed; the model gives no finding."
NO_LESION = "No lesion was found by the model."
LIMITS = (
    "The model does not exclude lesions of other kinds; "
    "it segments and measures only the regions listed."
)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of a sentence state what `source` measured."""

    start: int
    end: int
    source: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A text and what its parts were taken from."""

    text: str
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Cited:
    """Words that carry no number but state what an Observation says."""

    text: str
    source: str


Part = str | Figure | Cited


def sentence(*parts: Part) -> Sentence:
    """Join texts, figures and cited words; figures and cited words become spans."""
    text, spans = "", []
    for part in parts:
        words = part if isinstance(part, str) else part.text
        if not isinstance(part, str):
            spans.append(Span(len(text), len(text) + len(words), part.source))
        text += words
    return Sentence(text, tuple(spans))


def findings_text(findings: Findings) -> list[Sentence]:
    """One sentence or two for each region that FHIR speaks of."""
    if findings.lesion is None:
        return [Sentence(NOTHING_ASSESSED), *_unassessed(findings)]
    if not findings.lesion:
        return [_no_lesion(findings), *_unassessed(findings)]
    return [s for region in findings.regions for s in _region_text(region)]


def impression_text(findings: Findings) -> list[Sentence]:
    """The result in at most four sentences, from the same figures as the findings."""
    if findings.lesion is None:
        return [Sentence(NOTHING_ASSESSED)]
    if not findings.lesion:
        return [_no_lesion(findings), Sentence(LIMITS)]
    whole = findings.region(Region.WHOLE)
    core, enhancing = findings.region(Region.CORE), findings.region(Region.ENHANCING)
    lines = []
    if whole and whole.present:
        lines.append(sentence("Brain lesion, ", *_extent(whole), "."))
    else:
        lines.append(Sentence("Brain lesion; its whole extent was not measured."))
    if core and core.present and core.volume:
        lines.append(sentence("Tumour core: ", *_size(core), "."))
    if enhancing:
        lines.append(_enhancing_line(enhancing))
    return lines


def _no_lesion(findings: Findings) -> Sentence:
    known = next(r for r in findings.regions if r.present is False)
    return sentence(Cited(NO_LESION, known.source))


def _unassessed(findings: Findings) -> list[Sentence]:
    return [_not_assessed(r) for r in findings.regions if r.present is None]


def _not_assessed(region: RegionFindings) -> Sentence:
    return sentence(Cited(f"{region.name} was not assessed.", region.source))


def _region_text(region: RegionFindings) -> list[Sentence]:
    if region.present is None:
        return [_not_assessed(region)]
    if not region.present:
        return [sentence(Cited(f"No {_lower(region.name)} was found.", region.source))]
    lines = [sentence(f"{region.name}: ", *_extent(region), ".")]
    # Of the other regions the ratio stands in the table only: it is no finding there.
    ratio = region.figure(Kind.ENHANCEMENT)
    if ratio and region.region is Region.ENHANCING:
        lines.append(
            sentence(
                f"Mean T1 signal of the {_lower(region.name)} after contrast: ",
                ratio,
                " times that before contrast.",
            )
        )
    return lines


def _enhancing_line(enhancing: RegionFindings) -> Sentence:
    if enhancing.present is None:
        return sentence(Cited("Enhancement was not assessed.", enhancing.source))
    if not enhancing.present:
        return sentence(Cited("No enhancing tumour was found.", enhancing.source))
    return sentence("Enhancing tumour: ", *_size(enhancing), ".")


def _size(region: RegionFindings) -> list[Part]:
    """Volume and diameters, as far as measured."""
    volume = region.volume
    if volume is None:
        return []
    parts: list[Part] = [volume]
    long, short = region.figure(Kind.LONG_AXIS), region.figure(Kind.SHORT_AXIS)
    if long and short:
        parts += [", longest axial diameter ", long, ", perpendicular ", short]
    elif long:
        parts += [", longest axial diameter ", long]
    return parts


def _extent(region: RegionFindings) -> list[Part]:
    """Size and number of parts, as far as measured."""
    count = region.figure(Kind.PARTS)
    if count is None:
        return _size(region)
    return [*_size(region), ", in ", count, " part" if count.value == 1 else " parts"]


def _lower(name: str) -> str:
    return name[0].lower() + name[1:]
