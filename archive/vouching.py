"""Whether the archive vouches for an instance, as storage commitment asks at both doors."""

from __future__ import annotations

from archive.errors import InstanceNotFound
from archive.store import Archive

# Failure Reason (PS3.3 C.14.1.1).
PROCESSING_FAILURE, NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0110, 0x0112, 0x0119


def why_not(
    archive: Archive, sop_class: str, instance: str, hidden: frozenset[str] = frozenset()
) -> int | None:
    """Failure Reason of an instance; None where its bytes, read again, are those that were stored.

    Args:
        archive: Where it should be.
        sop_class: Of which class it should be.
        instance: Its SOP Instance UID.
        hidden: Studies that are none of the asker's business.

    Raises:
        ArchiveError: the index does not answer, so that nothing can be said.
    """
    found = next(iter(archive.records_of(instances=[instance])), None)
    if found is None or found.key.study in hidden:
        return NO_SUCH_INSTANCE
    if found.sop_class != sop_class:
        return CLASS_CONFLICT
    try:
        return None if archive.verify(found.key) else PROCESSING_FAILURE
    except InstanceNotFound:
        return NO_SUCH_INSTANCE
