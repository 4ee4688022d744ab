"""What a study looks like from outside: the facts that other standards describe it by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from archive.keys import DicomJson


@dataclass(frozen=True, slots=True)
class InstanceSummary:
    """One instance: `attributes` holds the instance-level subset as DICOM JSON."""

    uid: str
    sop_class: str
    transfer_syntax: str
    frames: int
    attributes: DicomJson


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One series: `attributes` is its QIDO row, filled from the first instance that says it."""

    uid: str
    attributes: DicomJson
    instances: tuple[InstanceSummary, ...]


@dataclass(frozen=True, slots=True)
class StudySummary:
    """A study and all below it at one moment.

    Attributes:
        attributes: The study's QIDO row, patient attributes included.
        last_change: Sequence number of the latest change that this summary holds.
        changed_at: Time of that change.
        sources: Calling AE titles the instances came from, in order of arrival.
        patient_mismatch: Some instance named another PatientID than the first one did.
    """

    uid: str
    attributes: DicomJson
    series: tuple[SeriesSummary, ...]
    last_change: int
    changed_at: datetime
    sources: tuple[str, ...]
    patient_mismatch: bool

    @property
    def instance_count(self) -> int:
        """Number of instances in the whole study."""
        return sum(len(series.instances) for series in self.series)
