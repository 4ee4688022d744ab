"""Archive error to C-STORE status and comment: the only such table (PS3.4 B.2.3, PS3.7 C)."""

from __future__ import annotations

from typing import NamedTuple

from pydicom.dataset import Dataset

from archive import (
    ArchiveError,
    ArchiveUnavailable,
    ContentConflict,
    Corrupted,
    FrameNotFound,
    IdentityMismatch,
    InstanceNotFound,
    InvalidUid,
    MissingAttribute,
    NotDicom,
    OutOfSpace,
    PlacementConflict,
    QueryError,
    TooComplex,
    Truncated,
    WrongStudy,
)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110
DUPLICATE = 0x0111
NO_SUCH_INSTANCE = 0x0112
INVALID_INSTANCE = 0x0117
SOP_CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORISED = 0x0124
UNRECOGNISED_OPERATION = 0x0211
UNABLE_TO_PROCESS = 0xC001

STOPPING = "the server is stopping; ask again later"


class Failure(NamedTuple):
    """A status and its Error Comment (0000,0902), which never holds patient data."""

    status: int
    comment: str


STATUS_OF: dict[type[ArchiveError], Failure] = {
    NotDicom: Failure(CANNOT_UNDERSTAND, "the data set cannot be parsed"),
    Truncated: Failure(CANNOT_UNDERSTAND, "the data set ends early"),
    TooComplex: Failure(CANNOT_UNDERSTAND, "nested too deep or too large to parse"),
    InvalidUid: Failure(INVALID_INSTANCE, "a UID of the data set is not valid"),
    MissingAttribute: Failure(DOES_NOT_MATCH, "a study, series or SOP UID is missing"),
    IdentityMismatch: Failure(DOES_NOT_MATCH, "SOP UIDs of command and data set differ"),
    ContentConflict: Failure(DUPLICATE, "SOP instance is stored with different content"),
    PlacementConflict: Failure(DUPLICATE, "SOP instance is stored in another series or study"),
    WrongStudy: Failure(NOT_AUTHORISED, "the study may not be written by this sender"),
    OutOfSpace: Failure(OUT_OF_RESOURCES, "no room to store; send again later"),
    ArchiveUnavailable: Failure(OUT_OF_RESOURCES, "archive not available; send again later"),
    InstanceNotFound: Failure(NO_SUCH_INSTANCE, "not stored"),
    FrameNotFound: Failure(NO_SUCH_INSTANCE, "no such frame"),
    Corrupted: Failure(PROCESSING_FAILURE, "stored bytes are damaged; not sent"),
    QueryError: Failure(UNABLE_TO_PROCESS, "a matching key is not supported"),
}


def failure_of(error: ArchiveError) -> Failure:
    """The status of an error; every subclass has its own entry (a test sees to it)."""
    return STATUS_OF.get(type(error), Failure(PROCESSING_FAILURE, "processing failure"))


def response(failure: Failure) -> Dataset:
    """Status and comment as pynetdicom takes them from a handler."""
    answer = Dataset()
    answer.Status = failure.status
    answer.ErrorComment = failure.comment
    return answer
