"""Store 2: facts at rest in HAPI, seen from Python."""

from records.client import Records, Resource
from records.errors import (
    Denied,
    NotFound,
    PreconditionFailed,
    RecordsError,
    RecordsUnavailable,
    Rejected,
    StoreFailed,
    VersionConflict,
)

__all__ = [
    "Denied",
    "NotFound",
    "PreconditionFailed",
    "Records",
    "RecordsError",
    "RecordsUnavailable",
    "Rejected",
    "Resource",
    "StoreFailed",
    "VersionConflict",
]
