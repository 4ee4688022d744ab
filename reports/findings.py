"""The findings of a report: a frozen picture of what FHIR says, and all that a rendition may use.

Derived series are left out on purpose: our own PDF joins the study, and a rendition that
depended on it would order the next rendition, for ever.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

from reports.errors import Contradiction
from reports.figures import Figure
from reports.regions import REGIONS, UNIONS, Kind, Region

ROUNDING = Decimal("0.05")  # mL that three parts may lose when each is rounded to nothing


@dataclass(frozen=True, slots=True)
class PersonName:
    """A name in one script: family, given and further components as FHIR holds them."""

    family: str
    given: tuple[str, ...] = ()
    prefix: str = ""
    suffix: str = ""
    representation: str = ""  # ABC, IDE, SYL; empty where FHIR does not say
    text: str = ""


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """Who the report is about. `birth_date` is as FHIR has it: a year, a month or a day."""

    names: tuple[PersonName, ...]
    identifier: str
    issuer: str
    birth_date: str
    sex: str


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """An acquired series. `used_as`: the sequence that the model took it for; else empty."""

    uid: str
    number: int | None
    modality: str
    description: str
    instances: int
    used_as: str = ""


@dataclass(frozen=True, slots=True)
class StudyFacts:
    """The study that was measured. `started` is a date, or a time with its offset."""

    uid: str
    started: datetime | date | None
    description: str
    accession: str
    referrer: str
    series: tuple[SeriesFacts, ...]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model that measured."""

    name: str
    version: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class RegionFindings:
    """What was measured of one region; no figures where it was not assessed."""

    region: Region
    source: str
    figures: tuple[Figure, ...]

    def figure(self, kind: Kind) -> Figure | None:
        """The figure of a kind, if it was measured."""
        return next((f for f in self.figures if f.kind is kind), None)

    @property
    def volume(self) -> Figure | None:
        """None where the region was not assessed."""
        return self.figure(Kind.VOLUME)

    @property
    def present(self) -> bool | None:
        """Whether any of it was found; None where it was not assessed."""
        volume = self.volume
        return None if volume is None else volume.value > 0

    @property
    def name(self) -> str:
        """For texts."""
        return REGIONS[self.region].name


@dataclass(frozen=True, slots=True)
class KeyImage:
    """A picture with its caption."""

    caption: str
    png: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        """Of the picture."""
        return hashlib.sha256(self.png).hexdigest()


@dataclass(frozen=True, slots=True)
class Omission:
    """An Observation that the report does not print, and why."""

    source: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything a rendition is made of.

    Attributes:
        report_id: of the DiagnosticReport in FHIR.
        identifier: of the run, the same for every repeat.
        issued: when the result was written; the date of every rendition.
        regions: in the order of a report, each at most once.
        cautions: what the model says against its own result.
    """

    report_id: str
    identifier: str
    title: str
    issued: datetime
    performer: str
    patient: PatientFacts
    study: StudyFacts
    model: ModelFacts
    regions: tuple[RegionFindings, ...]
    images: tuple[KeyImage, ...]
    omissions: tuple[Omission, ...] = ()
    cautions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a picture that contradicts itself."""
        whole = self.region(Region.WHOLE)
        if whole is None or whole.present is None:
            return
        parts = [r for r in self.regions if r.region is not Region.WHOLE and r.present]
        if parts and not whole.present:
            raise Contradiction(whole.source, parts[0].source, "a part of nothing was found")
        if whole.volume and whole.volume.value > ROUNDING and self._all_labels_absent():
            raise Contradiction(whole.source, self.regions[-1].source, "a whole without parts")

    def _all_labels_absent(self) -> bool:
        labels = [r for r in (self.region(r) for r in Region if r not in UNIONS) if r is not None]
        complete = len(labels) == len(Region) - len(UNIONS)
        return complete and all(r.present is False for r in labels)

    def region(self, region: Region) -> RegionFindings | None:
        """What was measured of a region; None where no Observation speaks of it."""
        return next((r for r in self.regions if r.region is region), None)

    @property
    def lesion(self) -> bool | None:
        """Whether a lesion was found; None where nothing was assessed."""
        known = [r.present for r in self.regions if r.present is not None]
        return any(known) if known else None
