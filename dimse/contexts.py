"""Which presentation contexts are accepted: every storage class, in the syntax proposed first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from threading import Lock

from pydicom.uid import UID, UID_dictionary  # type: ignore[attr-defined]
from pynetdicom import AllStoragePresentationContexts, build_context
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import register_uid, uid_to_service_class

VERIFICATION = "1.2.840.10008.1.1"
_NOT_INSTANCES = ("Storage Commitment", "Media Storage Directory")
_registering = Lock()


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


def acceptable(
    requested: Iterable[PresentationContext], extra: Iterable[str]
) -> list[PresentationContext]:
    """Contexts to support for one association: exactly what was proposed and we accept.

    Data sets are kept as they come, so any transfer syntax will do; the peer's first is taken.
    """
    syntaxes: dict[str, list[str]] = {}
    for context in requested:
        abstract = str(context.abstract_syntax)
        if not is_accepted(abstract, extra):
            continue
        offered = [str(syntax) for syntax in context.transfer_syntax]
        merged = syntaxes.setdefault(abstract, [])
        merged.extend(syntax for syntax in offered if syntax not in merged)
        if abstract != VERIFICATION:
            serve_as_storage(abstract)
    return [build_context(abstract, offered) for abstract, offered in syntaxes.items() if offered]


def serve_as_storage(abstract_syntax: str) -> None:
    """Make pynetdicom answer C-STORE for a class that it does not know."""
    with _registering:
        if _service(abstract_syntax) is ServiceClass:
            keyword = "Storage_" + re.sub(r"\W", "_", abstract_syntax)
            register_uid(abstract_syntax, keyword, StorageServiceClass)


def _service(abstract_syntax: str) -> type[ServiceClass]:
    service: type[ServiceClass] = uid_to_service_class(abstract_syntax)
    return service
