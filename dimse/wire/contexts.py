"""Which classes of instances are taken: every storage class of the standard, and extra ones."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from pydicom.uid import UID, UID_dictionary  # type: ignore[attr-defined]
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

VERIFICATION = "1.2.840.10008.1.1"
_NOT_INSTANCES = ("Storage Commitment", "Media Storage Directory")


@lru_cache(maxsize=1)
def storage_classes() -> frozenset[str]:
    """Every storage SOP class of the standard, retired ones too: old archives still hold them."""
    current = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    known = {
        str(uid)
        for uid, (name, kind, *_) in UID_dictionary.items()
        if kind == "SOP Class" and "Storage" in name and not name.startswith(_NOT_INSTANCES)
    }
    return frozenset(current | known)


def is_accepted(abstract_syntax: str, extra: Iterable[str]) -> bool:
    """Whether we take instances of this class; "*" in `extra` means any class nobody else has."""
    if abstract_syntax == VERIFICATION or abstract_syntax in storage_classes():
        return True
    extra = tuple(extra)
    if abstract_syntax in extra:
        return True
    return (
        "*" in extra
        and UID(abstract_syntax).is_valid
        and _service(abstract_syntax)
        in (
            ServiceClass,
            StorageServiceClass,
        )
    )


def is_storage(abstract_syntax: str, extra: Iterable[str]) -> bool:
    """Whether it is a class whose instances we take."""
    return abstract_syntax != VERIFICATION and is_accepted(abstract_syntax, extra)


def _service(abstract_syntax: str) -> type[ServiceClass]:
    service: type[ServiceClass] = uid_to_service_class(abstract_syntax)
    return service
