"""C-MOVE and C-GET (PS3.4 C.4.2 and C.4.3): who may retrieve what, and what is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_GET, C_MOVE
from pynetdicom.events import Event
from pynetdicom.presentation import PresentationContext

from access import AuditEventKind
from archive import Archive, ArchiveError, InstanceRecord
from dimse.association.admission import Admitted
from dimse.association.admitted import admitted
from dimse.association.ledger import Ledger
from dimse.association.services import Service
from dimse.peers import Peer
from dimse.retrieve.get import Getting, get
from dimse.retrieve.line import Line, RequestorGone
from dimse.retrieve.move import Moving, move
from dimse.retrieve.request import (
    CANNOT_PROCESS,
    DESTINATION_UNKNOWN,
    NOT_AUTHORISED,
    PATIENT_GET,
    PATIENT_MOVE,
    STUDY_GET,
    STUDY_MOVE,
    RetrieveRefused,
    Selection,
    read_selection,
)
from dimse.retrieve.tally import Tally
from dimse.scu.query import UNCOMPRESSED
from dimse.scu.sender import Originator
from dimse.wire.command import C_GET_RSP, C_MOVE_RSP

log = structlog.get_logger(__name__)

_CLASSES = frozenset({PATIENT_MOVE, PATIENT_GET, STUDY_MOVE, STUDY_GET})


@dataclass(frozen=True, slots=True)
class RetrieveConfig:
    """How retrievals are carried out."""

    moving: Moving
    getting: Getting


def service(
    archive: Archive, peers: Callable[[], Sequence[Peer]], ledger: Ledger, config: RetrieveConfig
) -> Service:
    """The retrieve service. `peers` gives the peer table: the only destinations there are."""
    retriever = _Retriever(archive, peers, ledger, config)
    return Service(
        name="retrieve",
        right="retrieve",
        abstract_syntaxes=dict.fromkeys(_CLASSES, UNCOMPRESSED),
        handlers=((evt.EVT_ESTABLISHED, retriever.on_established),),
    )


class _Retriever:
    def __init__(
        self,
        archive: Archive,
        peers: Callable[[], Sequence[Peer]],
        ledger: Ledger,
        config: RetrieveConfig,
    ) -> None:
        self._archive = archive
        self._peers = peers
        self._ledger = ledger
        self._config = config

    def on_established(self, event: Event) -> None:
        """Take this association's C-MOVE and C-GET requests out of pynetdicom's hands.

        Its service class decodes and re-encodes each data set, has its own ideas of the final
        status, and asks for the destination's address from the handler; it cannot be told to
        leave the answers to us.
        """
        association: Any = event.assoc
        pass_on = association._serve_request

        def serve(message: Any, context_id: int) -> None:
            context = association._accepted_cx.get(context_id)
            mine = isinstance(message, C_MOVE | C_GET) and message.is_valid_request
            if not mine or context is None or str(context.abstract_syntax) not in _CLASSES:
                pass_on(message, context_id)
                return
            association.dimse.cancel_req = {}
            self._serve(association, message, context)
            association.dimse.cancel_req = {}

        association._serve_request = serve

    def _serve(
        self, association: Association, request: C_MOVE | C_GET, context: PresentationContext
    ) -> None:
        """Answer one request, whatever happens."""
        moves = isinstance(request, C_MOVE)
        line = Line(association, request, context, C_MOVE_RSP if moves else C_GET_RSP)
        try:
            self._answer(line, request, context)
        except RetrieveRefused as refused:
            self._refuse(line, refused.failure.status, refused.failure.comment)
        except RequestorGone:
            log.info("requestor left during a retrieval", peer=association.requestor.ae_title)
        except ArchiveError as error:
            log.warning("retrieval failed", error=type(error).__name__)
            self._refuse(line, CANNOT_PROCESS, "the archive does not answer; try again later")
        # The boundary to pynetdicom, which would abort without a word.
        except Exception:
            log.exception("retrieval failed")
            self._refuse(line, CANNOT_PROCESS, "processing failure")
        finally:
            line.rest()

    def _refuse(self, line: Line, status: int, comment: str) -> None:
        try:
            line.respond(status, comment=comment)
        except RequestorGone:
            log.info("requestor left before it was refused")

    def _answer(self, line: Line, request: C_MOVE | C_GET, context: PresentationContext) -> None:
        who = admitted(line.association)
        selection = read_selection(
            request.Identifier, str(context.abstract_syntax), str(context.transfer_syntax[0])
        )
        destination = self._destination(who, request) if isinstance(request, C_MOVE) else None
        records = selection.records(self._archive)
        self._check_studies(who, records)
        what = f"C-MOVE to {destination.name}" if destination else "C-GET"
        self._begin(who, records, what)
        tally = Tally(len(records))
        cancelled = False
        try:
            if not records:
                pass
            elif destination is not None:
                originator = Originator(who.caller.subject, int(request.MessageID or 0))
                moving = self._config.moving
                tally, cancelled = move(line, records, destination, originator, moving)
            else:
                liked = who.peer.transfer_syntaxes if who.peer else ()
                tally, cancelled = get(line, records, liked, self._config.getting)
        except RequestorGone:
            why = "the server stopped" if line.is_ending else "the requestor left"
            self._end(who, records, None, f"{what}: {why}")
            raise
        self._end(who, records, tally, what)
        log.info("retrieved", how=what, level=selection.level, **_counts(tally))
        line.respond(tally.final(cancelled=cancelled), tally, comment=tally.reason)

    def _destination(self, who: Admitted, request: C_MOVE) -> Peer:
        """The peer that the request names; nothing else in the request says where it is."""
        title = str(request.MoveDestination or "").strip()
        for peer in self._peers():
            if peer.ae_title.strip() == title:
                return peer
        self._ledger.event(
            who.caller,
            AuditEventKind.DENIED,
            "minor",
            detail=f"C-MOVE to {title[:16]!a}, which is not in the peer table",
        )
        raise RetrieveRefused(DESTINATION_UNKNOWN, "the destination is not a known peer")

    def _check_studies(self, who: Admitted, records: Sequence[InstanceRecord]) -> None:
        for study in {record.key.study for record in records}:
            if not who.caller.may_see_study(study):
                self._ledger.event(
                    who.caller, AuditEventKind.DENIED, "minor", study, "retrieval not permitted"
                )
                raise RetrieveRefused(NOT_AUTHORISED, "a study may not be retrieved")

    def _begin(self, who: Admitted, records: Sequence[InstanceRecord], what: str) -> None:
        """Begin Transferring DICOM Instances (PS3.15 A.5.3.3), one record for each study."""
        for study, count in Counter(record.key.study for record in records).items():
            self._ledger.event(
                who.caller, AuditEventKind.RETRIEVE, "success", study, f"{what} begins: {count}"
            )

    def _end(
        self, who: Admitted, records: Sequence[InstanceRecord], tally: Tally | None, what: str
    ) -> None:
        """DICOM Instances Transferred (PS3.15 A.5.3.7), one record for each study."""
        for study, count in Counter(record.key.study for record in records).items():
            if tally is None:
                self._ledger.event(who.caller, AuditEventKind.RETRIEVE, "minor", study, what)
                continue
            failed = tally.failed_of[study]
            self._ledger.event(
                who.caller,
                AuditEventKind.RETRIEVE,
                "minor" if failed or tally.remaining else "success",
                study,
                f"{what} ended: {count} asked for, {failed} failed"
                + (", cancelled" if tally.remaining else ""),
            )


def _counts(tally: Tally) -> dict[str, int]:
    return {
        "completed": tally.completed,
        "warning": tally.warning,
        "failed": len(tally.failures),
        "remaining": tally.remaining,
    }


__all__ = ["Getting", "Moving", "RetrieveConfig", "Selection", "service"]
