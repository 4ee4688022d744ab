"""Store 1: pixels at rest. DICOM files on disk, their index and change feed in PostgreSQL."""

from archive.config import ArchiveConfig
from archive.errors import (
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
from archive.incoming import Incoming
from archive.keys import (
    BulkData,
    Change,
    InstanceKey,
    InstanceRecord,
    JsonPage,
    Page,
    QueryTag,
    SeriesMetadata,
    Source,
    Stored,
)
from archive.query import Query
from archive.standing import Standing
from archive.store import Archive
from archive.summary import InstanceSummary, SeriesSummary, StudySummary

__all__ = [
    "Archive",
    "ArchiveConfig",
    "ArchiveError",
    "ArchiveUnavailable",
    "BulkData",
    "Change",
    "ContentConflict",
    "Corrupted",
    "FrameNotFound",
    "IdentityMismatch",
    "Incoming",
    "InstanceKey",
    "InstanceNotFound",
    "InstanceRecord",
    "InstanceSummary",
    "InvalidUid",
    "JsonPage",
    "MissingAttribute",
    "NotDicom",
    "OutOfSpace",
    "Page",
    "PlacementConflict",
    "Query",
    "QueryError",
    "QueryTag",
    "SeriesMetadata",
    "SeriesSummary",
    "Source",
    "Standing",
    "Stored",
    "StudySummary",
    "TooComplex",
    "Truncated",
    "WrongStudy",
]
