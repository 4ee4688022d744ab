"""C-STORE: a data set comes in, its bytes are kept as they are, and the sender learns what became
of it (PS3.4 annex B)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import structlog

from access import Caller
from archive import Archive, ArchiveError, Incoming, Source
from archive.header import is_valid_uid
from dimse.admission import Admitted
from dimse.contexts import is_storage
from dimse.fileheader import file_header
from dimse.ledger import Ledger
from dimse.status import (
    INVALID_INSTANCE,
    NOT_AUTHORISED,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    Failure,
    failure_of,
)

log = structlog.get_logger(__name__)


class Storage:
    """Where the associations of a server put what they receive."""

    def __init__(self, archive: Archive, ledger: Ledger, extra_classes: Sequence[str]) -> None:
        self._archive = archive
        self._ledger = ledger
        self._extra_classes = tuple(extra_classes)

    def begin(
        self, association: int, who: Admitted, sop_class: str, instance: str, syntax: str
    ) -> Instance:
        """Make ready for one instance."""
        arriving = Instance(
            self._archive, self._ledger, association, who.caller, sop_class, instance
        )
        if "store" not in who.rights:
            arriving.fail(Failure(NOT_AUTHORISED, "this peer may not store"), "NotAuthorised")
        elif not is_storage(sop_class, self._extra_classes):
            arriving.fail(Failure(SOP_CLASS_NOT_SUPPORTED, "not a storage SOP class"), "NoStorage")
        elif not is_valid_uid(instance):
            arriving.fail(Failure(INVALID_INSTANCE, "the SOP Instance UID is not valid"), "NoUid")
        else:
            arriving.open(syntax)
        return arriving


class Instance:
    """One instance on its way in; after the first failure its bytes go nowhere."""

    def __init__(
        self,
        archive: Archive,
        ledger: Ledger,
        association: int,
        caller: Caller,
        sop_class: str,
        instance: str,
    ) -> None:
        self._archive = archive
        self._ledger = ledger
        self._association = association
        self._caller = caller
        self._announced = (sop_class, instance)
        self._incoming: Incoming | None = None
        self._failure: Failure | None = None
        self._open = contextlib.ExitStack()

    def open(self, syntax: str) -> None:
        """Begin its file."""
        try:
            self._incoming = self._open.enter_context(self._archive.receive())
            self._incoming.write(file_header(*self._announced, syntax, self._caller.subject))
        except ArchiveError as error:
            self._refuse(error)

    def write(self, data: memoryview) -> None:
        """Append a piece of its data set."""
        if self._incoming is not None:
            try:
                self._incoming.write(data)
            except ArchiveError as error:
                self._refuse(error)

    def finish(self) -> Failure | None:
        """Keep it; None once it is on disk: the sender may delete its own copy then."""
        if self._incoming is not None:
            source = Source("dimse", calling_ae=self._caller.subject, address=self._caller.address)
            try:
                stored = self._archive.store(self._incoming, source, announced=self._announced)
                self._ledger.add(self._association, self._caller, stored.key.study, stored.outcome)
            except ArchiveError as error:
                self._refuse(error)
            # A mistake of ours: the sender must hear of it, and not wait for ever.
            except Exception:
                log.exception("instance not stored", instance=self._announced[1])
                self.fail(Failure(PROCESSING_FAILURE, "processing failure"), "Exception")
        self.drop()
        return self._failure

    def fail(self, failure: Failure, why: str, study: str | None = None) -> None:
        """Refuse it, whatever else comes."""
        self.drop()
        self._failure = failure
        self._ledger.add(self._association, self._caller, study, why)
        log.warning(
            "instance refused",
            instance=self._announced[1][:64],
            status=f"0x{failure.status:04X}",
            error=why,
        )

    def drop(self) -> None:
        """Let go of what has come."""
        self._incoming = None
        self._open.close()

    def _refuse(self, error: ArchiveError) -> None:
        study = error.key.study if error.key else None
        self.fail(failure_of(error), type(error).__name__, study)
