"""C-STORE: a data set comes in, its bytes are kept as they are, and the sender learns what became
of it (PS3.4 annex B)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from archive import Archive, ArchiveError, Incoming, Source
from archive.header import is_valid_uid
from dimse.association.admission import Admitted
from dimse.association.ledger import Ledger
from dimse.wire.contexts import is_storage
from dimse.wire.fileheader import file_header
from dimse.wire.status import (
    INVALID_INSTANCE,
    NOT_AUTHORISED,
    PROCESSING_FAILURE,
    SOP_CLASS_NOT_SUPPORTED,
    Failure,
    failure_of,
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose instances they are.

    Attributes:
        association: Key of the ledger.
        title: Calling AE title; `who` may be the user behind it.
    """

    association: int
    title: str
    who: Admitted


class Storage:
    """Where the associations of a server put what they receive."""

    def __init__(self, archive: Archive, ledger: Ledger, extra_classes: Sequence[str]) -> None:
        self._archive = archive
        self._ledger = ledger
        self._extra_classes = tuple(extra_classes)

    def begin(self, sender: Sender, sop_class: str, instance: str, syntax: str) -> Instance:
        """Make ready for one instance."""
        arriving = Instance(self._archive, self._ledger, sender, sop_class, instance)
        if "store" not in sender.who.rights:
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
        self, archive: Archive, ledger: Ledger, sender: Sender, sop_class: str, instance: str
    ) -> None:
        self._archive = archive
        self._ledger = ledger
        self._sender = sender
        self._announced = (sop_class, instance)
        self._incoming: Incoming | None = None
        self._failure: Failure | None = None
        self._open = contextlib.ExitStack()

    def open(self, syntax: str) -> None:
        """Begin its file."""
        try:
            self._incoming = self._open.enter_context(self._archive.receive())
            self._incoming.write(file_header(*self._announced, syntax, self._sender.title))
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
            caller = self._sender.who.caller
            source = Source("dimse", calling_ae=self._sender.title, address=caller.address)
            try:
                stored = self._archive.store(
                    self._incoming, source, studies=caller.studies, announced=self._announced
                )
                self._count(stored.key.study, stored.outcome)
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
        self._count(study, why)
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

    def _count(self, study: str | None, outcome: str) -> None:
        sender = self._sender
        self._ledger.add(sender.association, sender.who.caller, study, outcome)

    def _refuse(self, error: ArchiveError) -> None:
        study = error.key.study if error.key else None
        self.fail(failure_of(error), type(error).__name__, study)
