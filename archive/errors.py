"""Everything the archive can refuse. Texts name UIDs and attributes, never patient data."""

from __future__ import annotations

from archive.keys import InstanceKey


class ArchiveError(Exception):
    """Root of the archive's errors; `key` tells which instance, where that is known."""

    def __init__(self, text: str, key: InstanceKey | None = None) -> None:
        super().__init__(text)
        self.key = key


class NotDicom(ArchiveError):
    """The bytes are not a DICOM Part 10 file, or cannot be understood as one."""


class Truncated(ArchiveError):
    """The file ends inside an element."""


class InvalidUid(ArchiveError):
    """A UID breaks the rules of PS3.5 section 9, so no path may be built from it."""


class MissingAttribute(ArchiveError):
    """An attribute without which an instance has no place in the archive is absent."""


class TooComplex(ArchiveError):
    """Nested too deep, too many elements, or inflates beyond the limit."""


class ContentConflict(ArchiveError):
    """The SOP Instance UID is already stored with different content."""

    def __init__(self, key: InstanceKey) -> None:
        super().__init__(f"{key.instance} is stored with different content", key)


class PlacementConflict(ArchiveError):
    """The SOP Instance UID is already stored in another series or study."""

    def __init__(self, key: InstanceKey) -> None:
        super().__init__(f"{key.instance} is stored in another series or study", key)


class WrongStudy(ArchiveError):
    """The instance belongs to a study that this sender may not write to."""


class IdentityMismatch(ArchiveError):
    """The data set holds another SOP Class or SOP Instance UID than its sender announced."""


class OutOfSpace(ArchiveError):
    """The disk or the database has no room; the same instance may be sent again later."""


class ArchiveUnavailable(ArchiveError):
    """The database or disk does not answer; the same instance may be sent again later."""


class InstanceNotFound(ArchiveError):
    """No such study, series or instance is stored."""


class FrameNotFound(ArchiveError):
    """The instance has no such frame, or its frames cannot be told apart."""


class Corrupted(ArchiveError):
    """The bytes on disk differ from what was stored; they are not given out as a whole."""

    def __init__(self, key: InstanceKey) -> None:
        super().__init__(f"the bytes of {key.instance} differ from what was stored", key)


class QueryError(ArchiveError):
    """The query names an attribute or a value that cannot be matched."""
