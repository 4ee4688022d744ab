"""C-STORE to a peer, fast: data sets go from the file to the socket as they are.

Used by C-MOVE, by forwarding and by `hilum send`. Nothing is decoded unless the peer does not take
the stored transfer syntax; then a copy in one that it takes is made, or that instance fails.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from dimse.peers import Peer
from dimse.scu.association import RequestedAssociation
from dimse.scu.contexts import batches, by_class, choose, proposals
from dimse.scu.file import NotSendable, Outgoing, pieces
from dimse.scu.negotiation import AssociationBroken, AssociationFailed, Calling
from dimse.wire.command import (
    C_STORE_RQ,
    C_STORE_RSP,
    COMMAND,
    COMMENT,
    DATA_SET_TYPE,
    INSTANCE,
    MEDIUM,
    MESSAGE_ID,
    ORIGINATOR,
    ORIGINATOR_MESSAGE_ID,
    PRIORITY,
    SOP_CLASS,
    WITH_DATA_SET,
    Command,
    encode,
)
from pixels import Transcoder

log = structlog.get_logger(__name__)

_BREAKS = 3
"""Associations in a row that may break without an answer before the rest is given up."""


@dataclass(frozen=True, slots=True)
class Originator:
    """Whose C-MOVE a C-STORE belongs to (PS3.7 9.1.1.1.6)."""

    ae_title: str
    message_id: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one instance.

    Attributes:
        status: The peer's C-STORE status; None if none came.
        trouble: None came because the association failed or broke, not because of the instance.
    """

    item: Outgoing
    status: int | None
    text: str
    trouble: bool = False

    @property
    def ok(self) -> bool:
        """The peer has it: success, or one of the C-STORE warnings (PS3.4 B.2.3)."""
        return self.status == 0 or self.is_warning

    @property
    def is_warning(self) -> bool:
        """The peer has it, and says that something is not as it was."""
        return self.status is not None and (
            self.status >> 12 == 0xB or self.status in (0x0001, 0x0107, 0x0116)
        )


def send_items(
    peer: Peer,
    items: Sequence[Outgoing],
    calling: Calling,
    *,
    originator: Originator | None = None,
    transcoder: Transcoder | None = None,
    associations: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Delivery]:
    """Send instances; gives what became of each, in the order in which the answers come.

    Args:
        peer: Where to.
        items: The files.
        calling: Who we are and how long we wait.
        originator: Of the C-MOVE that this is done for.
        transcoder: For what the peer does not take as it is; None: that fails.
        associations: Up to so many at the same time.
        stop: Asked before each instance; once it says True nothing more is sent, and what was not
            sent gets no result.

    Raises:
        AssociationFailed: the peer accepts no association. Once one instance has been dealt with,
            a later failure is told in the results instead.
    """
    dealt = False
    for batch in batches(items, peer):
        work = _Work(peer, batch, calling, originator, transcoder, stop)
        count = max(1, min(associations, len(batch)))
        for delivery in work.run() if count == 1 else _in_parallel(work, count):
            dealt = True
            yield delivery
        if stop():
            return
        if work.trouble and work.untouched and not dealt:
            raise AssociationFailed(work.trouble)
        for item in work.left():
            dealt = True
            yield Delivery(item, None, work.trouble, trouble=True)


class _Work:
    """Items that share their presentation contexts; several threads may `run` it at once."""

    def __init__(
        self,
        peer: Peer,
        items: Sequence[Outgoing],
        calling: Calling,
        originator: Originator | None,
        transcoder: Transcoder | None,
        stop: Callable[[], bool],
    ) -> None:
        self._peer = peer
        self._calling = calling
        self._originator = originator
        self._transcoder = transcoder
        self._stop = stop
        self._waiting = deque(items)
        self._proposals = proposals(by_class(items), peer)
        self._count = len(items)
        self.trouble = ""

    @property
    def untouched(self) -> bool:
        """Whether nothing was dealt with."""
        return len(self._waiting) == self._count

    def left(self) -> list[Outgoing]:
        """What nobody has dealt with; only once no thread runs."""
        return list(self._waiting)

    def run(self) -> Iterator[Delivery]:
        """Send what waits, over one association that is renewed when it breaks."""
        breaks = 0
        while breaks < _BREAKS and self._waiting and not self._stop():
            try:
                association = RequestedAssociation.open(self._peer, self._proposals, self._calling)
            except AssociationFailed as error:
                self.trouble = str(error)
                return
            answered = 0
            with association:
                for delivery in self._over(association):
                    answered += delivery.status is not None
                    yield delivery
            # One that ends before its first answer may be due to that instance, or to the peer.
            breaks = 0 if answered else breaks + 1

    def _over(self, association: RequestedAssociation) -> Iterator[Delivery]:
        """Send over this association until it ends."""
        first = True
        while association.is_open and not self._stop():
            try:
                item = self._waiting.popleft()
            except IndexError:
                return
            try:
                delivery = self._send(association, item)
            except AssociationBroken as error:
                self.trouble = str(error)
                if first:
                    yield Delivery(item, None, self.trouble, trouble=True)
                else:
                    self._waiting.appendleft(item)
                return
            except BaseException:
                self._waiting.appendleft(item)
                raise
            first = False
            yield delivery

    def _send(self, association: RequestedAssociation, item: Outgoing) -> Delivery:
        """One C-STORE. Raises AssociationBroken."""
        contexts = list(association.accepted.values())
        transcoder = self._transcoder
        context = choose(
            contexts, item, self._peer.transfer_syntaxes, transcodes=transcoder is not None
        )
        if context is None:
            return Delivery(item, None, "the peer does not accept its class or transfer syntax")
        message = association.next_message_id()
        command = store_request(message, item.sop_class, item.instance, self._originator)
        try:
            data = pieces(item, context.transfer_syntax, association.piece_bytes, transcoder)
            association.send_pieces(context.id, command, data)
        except NotSendable as error:
            return Delivery(item, None, str(error))
        except OSError as error:
            return Delivery(item, None, f"cannot be read ({type(error).__name__})")
        return self._answer(association, item)

    def _answer(self, association: RequestedAssociation, item: Outgoing) -> Delivery:
        _, answer = association.receive()
        if answer.field != C_STORE_RSP or answer.status is None:
            association.abort()
            raise AssociationBroken(f"{self._peer} answered something that is no C-STORE response")
        if answer.has_data_set:
            association.read_all()
        return Delivery(item, answer.status, status_text(answer))


def store_request(
    message_id: int, sop_class: str, instance: str, originator: Originator | None
) -> bytes:
    """The command set of a C-STORE-RQ."""
    elements: dict[int, int | str] = {
        SOP_CLASS: sop_class,
        COMMAND: C_STORE_RQ,
        MESSAGE_ID: message_id,
        PRIORITY: MEDIUM,
        DATA_SET_TYPE: WITH_DATA_SET,
        INSTANCE: instance,
    }
    if originator is not None:
        elements[ORIGINATOR] = originator.ae_title
        elements[ORIGINATOR_MESSAGE_ID] = originator.message_id
    return encode(elements)


def status_text(answer: Command) -> str:
    """A C-STORE status in words, with the peer's comment."""
    status = answer.status or 0
    category, meaning = STORAGE_SERVICE_CLASS_STATUS.get(status, ("Unknown", ""))
    comment = answer.text(COMMENT)
    words = f"0x{status:04X} {category}" + (f": {meaning}" if meaning else "")
    return f"{words} ({comment})" if comment else words


def _in_parallel(work: _Work, count: int) -> Iterator[Delivery]:
    """What `count` associations send at the same time, as it comes."""
    results: queue.Queue[Delivery | BaseException | None] = queue.Queue()
    gone = threading.Event()

    def send() -> None:
        try:
            for delivery in work.run():
                results.put(delivery)
                if gone.is_set():
                    return
        # Handed to the thread that waits for the results, whatever it is.
        except BaseException as error:  # noqa: BLE001
            results.put(error)
        finally:
            results.put(None)

    threads = [threading.Thread(target=send, name="dimse-send", daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    running = count
    try:
        while running:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                running -= 1
            else:
                yield result
    finally:
        gone.set()
        for thread in threads:
            thread.join()
