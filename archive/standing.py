"""Where studies stand just now: what must be known before a door opens one to some patient."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import psycopg

from archive.keys import DicomJson


@dataclass(frozen=True, slots=True)
class Standing:
    """A study in the archive, in short.

    Attributes:
        last_change: sequence of its newest change in the feed.
        last_deletion: sequence of the newest deletion of an instance of it; 0 without any.
        patient_mismatch: its instances do not agree on the PatientID.
        attributes: DICOM JSON of the study level.
        sources: calling AE titles that have sent instances of it.
    """

    last_change: int
    last_deletion: int
    patient_mismatch: bool
    attributes: DicomJson
    sources: tuple[str, ...]


def standings(connection: psycopg.Connection, studies: Collection[str]) -> dict[str, Standing]:
    """Those of the studies that are stored, by their UIDs."""
    rows = connection.execute(
        "select study_uid, last_change,"
        " coalesce((select max(sequence) from archive.change deleted"
        "  where deleted.study_uid = study.study_uid and deleted.kind = 'instance_deleted'), 0),"
        " patient_mismatch, attributes, sources from archive.study study"
        " where study_uid = any(%s)",
        [sorted(studies)],
    )
    return {
        uid: Standing(changed, deleted, mismatch, attributes, tuple(sources))
        for uid, changed, deleted, mismatch, attributes, sources in rows
    }
