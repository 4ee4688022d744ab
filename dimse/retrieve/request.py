"""What a C-MOVE or C-GET request asks for (PS3.4 C.4.2.1 and C.4.3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import islice

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode

from archive import Archive, InstanceRecord
from dimse.scu.contexts import IMPLICIT_LE
from dimse.wire.status import Failure

PATIENT_MOVE, PATIENT_GET = "1.2.840.10008.5.1.4.1.2.1.2", "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_MOVE, STUDY_GET = "1.2.840.10008.5.1.4.1.2.2.2", "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_ROOT = frozenset({PATIENT_MOVE, PATIENT_GET})

DOES_NOT_MATCH, TOO_MANY, DESTINATION_UNKNOWN = 0xA900, 0xA701, 0xA801
SUBOPERATIONS_FAILED, COMPLETE_WITH_FAILURES, CANCELLED = 0xA702, 0xB000, 0xFE00
CANNOT_PROCESS, NOT_AUTHORISED = 0xC001, 0x0124
MOST = 65535
"""Sub-operations that the counters of a response can tell (US)."""

_KEYS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}


class RetrieveRefused(Exception):
    """A request that cannot be carried out, with the status and comment to answer."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.failure = Failure(status, comment)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which instances; an empty tuple leaves its level open."""

    level: str
    patient_ids: tuple[str, ...] = ()
    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()

    def records(self, archive: Archive) -> list[InstanceRecord]:
        """The instances, never more than the counters can tell. Raises RetrieveRefused."""
        found: Iterator[InstanceRecord] = archive.records_of(
            studies=self.studies,
            series=self.series,
            instances=self.instances,
            patient_ids=self.patient_ids,
        )
        records = list(islice(found, MOST + 1))
        if len(records) > MOST:
            raise RetrieveRefused(TOO_MANY, f"more than {MOST} instances; ask study by study")
        return records


def read_selection(identifier: BytesIO | None, sop_class: str, transfer_syntax: str) -> Selection:
    """The selection of a request's identifier. Raises RetrieveRefused."""
    try:
        found = decode(identifier or BytesIO(), transfer_syntax == IMPLICIT_LE, True, False)
        level = str(found.get("QueryRetrieveLevel", "")).strip().upper()
        values = {name: _values(found, name) for name in _KEYS.values()}
    # Whatever the library trips over in what a peer made up.
    except Exception as error:
        raise RetrieveRefused(CANNOT_PROCESS, "the identifier cannot be read") from error
    return select(level, values, sop_class in PATIENT_ROOT)


def select(level: str, values: dict[str, tuple[str, ...]], patient_root: bool) -> Selection:
    """The selection of a level and its keys. Raises RetrieveRefused."""
    levels = list(_KEYS)
    if level not in levels or (level == "PATIENT" and not patient_root):
        raise RetrieveRefused(DOES_NOT_MATCH, f"no level {level[:16]!a} in this model")
    if not values[_KEYS[level]]:
        raise RetrieveRefused(DOES_NOT_MATCH, f"{_KEYS[level]} is missing")
    if any("*" in one or "?" in one for several in values.values() for one in several):
        raise RetrieveRefused(DOES_NOT_MATCH, "no wildcards in a retrieval")
    if len(values["PatientID"]) > 1:
        raise RetrieveRefused(DOES_NOT_MATCH, "PatientID has more than one value")
    # Keys below the level have no meaning; those above narrow it down.
    used = [_KEYS[one] for one in levels[: levels.index(level) + 1]]
    kept = {name: values[name] if name in used else () for name in values}
    return Selection(
        level=level,
        patient_ids=kept["PatientID"] if patient_root else (),
        studies=kept["StudyInstanceUID"],
        series=kept["SeriesInstanceUID"],
        instances=kept["SOPInstanceUID"],
    )


def _values(found: Dataset, name: str) -> tuple[str, ...]:
    """Values of a UID list or of a PatientID, which may hold no backslash."""
    value = found.get(name)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else list(value)
    return tuple(text for one in values if (text := str(one).strip(" \0")))
