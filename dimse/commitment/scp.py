"""Storage Commitment Push Model, SCP, and the reports that we get as SCU (PS3.4 annex J)."""

from __future__ import annotations

import structlog
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.events import Event

from access import AuditEventKind
from archive import ArchiveError
from dimse.association.admitted import admitted
from dimse.association.ledger import Ledger
from dimse.association.services import Service
from dimse.commitment.message import (
    COMMITMENT,
    REQUEST,
    WELL_KNOWN,
    BadMessage,
    Report,
    read_report,
    read_request,
)
from dimse.commitment.table import CommitmentTable
from dimse.commitment.work import CommitWorker
from dimse.query.scp import status
from dimse.wire.status import NO_SUCH_INSTANCE, SUCCESS

log = structlog.get_logger(__name__)

SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
INVALID_ARGUMENT, NO_SUCH_ACTION, NO_SUCH_EVENT = 0x0115, 0x0123, 0x0113
DUPLICATE_INVOCATION, RESOURCES, NOT_AUTHORISED = 0x0210, 0x0213, 0x0124

Answer = tuple[int | Dataset, Dataset | None]


def service(worker: CommitWorker, table: CommitmentTable, ledger: Ledger) -> Service:
    """The service; a peer may take the SCP's role to report to us."""
    committing = _Committing(worker, table, ledger)
    return Service(
        name="storage commitment",
        right="store",
        abstract_syntaxes={COMMITMENT: SYNTAXES},
        handlers=(
            (evt.EVT_N_ACTION, committing.on_n_action),
            (evt.EVT_N_EVENT_REPORT, committing.on_n_event_report),
            (evt.EVT_CONN_CLOSE, committing.on_close),
        ),
        peer_as_scp=frozenset({COMMITMENT}),
    )


class _Committing:
    def __init__(self, worker: CommitWorker, table: CommitmentTable, ledger: Ledger) -> None:
        self._worker = worker
        self._table = table
        self._ledger = ledger

    def on_n_action(self, event: Event) -> Answer:
        """Take a request durably; what became of it is reported when all has been read again."""
        if event.action_type != REQUEST:
            return status(NO_SUCH_ACTION, "there is only action type 1"), None
        if str(getattr(event.request, "RequestedSOPInstanceUID", "")) != WELL_KNOWN:
            return status(NO_SUCH_INSTANCE, "not the well-known SOP instance"), None
        who = admitted(event.assoc)
        # A peer that may report to us is not thereby allowed to ask.
        if "store" not in who.rights:
            return status(NOT_AUTHORISED, "storage commitment is not allowed"), None
        try:
            transaction, referenced = read_request(event.action_information)
            name = who.peer.name if who.peer else None
            calling = (_calling_ae(event), str(who.caller.address or ""), name)
            kept = self._table.add(transaction, calling, referenced, self._worker.lease_s)
        except BadMessage as error:
            return status(INVALID_ARGUMENT, str(error)), None
        except ArchiveError:
            return status(RESOURCES, "the database does not answer; ask again later"), None
        # Whatever the library trips over in bytes that a peer made up.
        except Exception as error:  # noqa: BLE001
            log.warning("commitment request cannot be read", error=type(error).__name__)
            return status(INVALID_ARGUMENT, "the action information cannot be read"), None
        if kept is None:
            return status(DUPLICATE_INVOCATION, "this transaction names other instances"), None
        detail = f"storage commitment {transaction}: {len(referenced)} instances"
        self._ledger.event(who.caller, AuditEventKind.QUERY, "success", detail=detail)
        if who.peer is None:
            log.warning(
                "commitment for a caller without an entry in the peer table: "
                "it can be reported on this association only",
                calling_ae=calling[0],
                transaction=transaction,
            )
        self._worker.submit(kept, event.assoc)
        return SUCCESS, None

    def on_n_event_report(self, event: Event) -> Answer:
        """Take a peer's report about a transaction of ours (PS3.4 J.3.3)."""
        if event.event_type not in (1, 2):
            return status(NO_SUCH_EVENT, "there are event types 1 and 2"), None
        try:
            report = read_report(event.event_information)
            known = keep_report(self._table, report, _calling_ae(event))
        except BadMessage as error:
            return status(INVALID_ARGUMENT, str(error)), None
        except ArchiveError:
            return status(RESOURCES, "the database does not answer; report again later"), None
        # As above.
        except Exception as error:  # noqa: BLE001
            log.warning("commitment report cannot be read", error=type(error).__name__)
            return status(INVALID_ARGUMENT, "the event information cannot be read"), None
        if not known:
            return status(INVALID_ARGUMENT, "this transaction was not asked of you"), None
        return SUCCESS, None

    def on_close(self, event: Event) -> None:
        """An association is over."""
        self._worker.forget(event.assoc)


def keep_report(table: CommitmentTable, report: Report, ae_title: str) -> bool:
    """Keep what a peer says about a transaction; False if nothing was asked of it."""
    known = table.answer(
        report.transaction_uid,
        ae_title,
        [one.instance for one in report.committed],
        [(one.instance, one.reason) for one in report.failures],
    )
    log.info(
        "commitment answered" if known else "commitment report of an unknown transaction",
        transaction=report.transaction_uid,
        committed=len(report.committed),
        failed=len(report.failures),
    )
    return known


def _calling_ae(event: Event) -> str:
    return str(event.assoc.requestor.ae_title).strip()
