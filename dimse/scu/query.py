"""C-FIND to a peer: patients, studies, series, instances, and the worklist (PS3.4 C.4.1, K.4.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from io import BytesIO
from typing import Self, cast

import structlog
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode as decode_data_set
from pynetdicom.dsutils import encode as encode_data_set
from pynetdicom.status import QR_FIND_SERVICE_CLASS_STATUS, QR_MOVE_SERVICE_CLASS_STATUS

from dimse.peers import Peer
from dimse.scu.association import Accepted, RequestedAssociation
from dimse.scu.contexts import EXPLICIT_LE, IMPLICIT_LE
from dimse.scu.negotiation import AssociationBroken, AssociationFailed, Calling, Proposal
from dimse.wire.command import (
    C_CANCEL_RQ,
    C_FIND_RQ,
    C_FIND_RSP,
    COMMAND,
    COMMENT,
    DATA_SET_TYPE,
    MEDIUM,
    MESSAGE_ID,
    NO_DATA_SET,
    PENDING,
    PRIORITY,
    RESPONDS_TO,
    SOP_CLASS,
    WITH_DATA_SET,
    Command,
    encode,
)

log = structlog.get_logger(__name__)

UNCOMPRESSED = (EXPLICIT_LE, IMPLICIT_LE)


class FindModel(StrEnum):
    """Information models to ask in, by their SOP class."""

    PATIENT = "1.2.840.10008.5.1.4.1.2.1.1"
    STUDY = "1.2.840.10008.5.1.4.1.2.2.1"
    WORKLIST = "1.2.840.10008.5.1.4.31"


class PeerRefused(Exception):
    """The peer answered a request with a failure; the text has its status and comment."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Asking:
    """An association on which queries are made, one after the other; use it as a context.

    Raises:
        AssociationFailed: the peer accepts no association, or no query in this model.
    """

    def __init__(self, peer: Peer, calling: Calling, model: FindModel = FindModel.STUDY) -> None:
        self._peer = peer
        self._model = str(model)
        self._association = RequestedAssociation.open(
            peer, [Proposal(self._model, UNCOMPRESSED)], calling
        )
        context = self._association.context_for(self._model)
        if context is None:
            self._association.release()
            raise AssociationFailed(
                f"{peer} does not answer queries of {calling.ae_title} in this model"
            )
        self._context = context

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        in_order = kind is None or issubclass(kind, PeerRefused | GeneratorExit)
        if in_order:
            self._association.release()
        else:
            self._association.abort()

    def find(self, identifier: Dataset, most: int | None = None) -> Iterator[Dataset]:
        """What matches, as it comes; see `find`. Behind `most` answers it is cancelled."""
        association, context = self._association, self._context
        message = association.next_message_id()
        request = identifier_request(C_FIND_RQ, self._model, message)
        association.send(context.id, request, encoded(prepared(identifier, self._peer), context))
        given = 0
        ended = False
        try:
            for answer in self._answers():
                yield answer
                given += 1
                if given == most:
                    return
            ended = True
        except (PeerRefused, AssociationBroken):
            ended = True
            raise
        finally:
            if not ended:
                cancel(association, context, message)

    def _answers(self) -> Iterator[Dataset]:
        while True:
            _, answer = self._association.receive()
            if answer.field != C_FIND_RSP or answer.status is None:
                raise AssociationBroken(
                    f"{self._peer} answered something that is no C-FIND response"
                )
            data = self._association.read_all() if answer.has_data_set else None
            if answer.status in PENDING:
                if data is not None:
                    yield decoded(data, self._context)
                continue
            if answer.status != 0:
                raise PeerRefused(
                    f"{self._peer} answered {words_of(answer, find=True)}", answer.status
                )
            return


def find(
    peer: Peer,
    identifier: Dataset,
    calling: Calling,
    model: FindModel = FindModel.STUDY,
    most: int | None = None,
) -> Iterator[Dataset]:
    """What matches, as it comes. An iterator that is closed early sends C-CANCEL.

    Args:
        peer: Whom to ask.
        identifier: Keys; QueryRetrieveLevel among them unless it is the worklist. Without a
            character set it gets the peer's.
        calling: Who we are and how long we wait.
        model: In which information model.
        most: Behind so many answers the query is cancelled.

    Raises:
        AssociationFailed: the peer accepts no association, or no query.
        AssociationBroken: it ended the association.
        PeerRefused: it answered with a failure.
    """
    with Asking(peer, calling, model) as asking:
        yield from asking.find(identifier, most)


def identifier_request(
    field: int, sop_class: str, message: int, more: Mapping[int, int | str] | None = None
) -> bytes:
    """The command set of a C-FIND, C-MOVE or C-GET request."""
    elements: dict[int, int | str] = {
        SOP_CLASS: sop_class,
        COMMAND: field,
        MESSAGE_ID: message,
        PRIORITY: MEDIUM,
        DATA_SET_TYPE: WITH_DATA_SET,
    }
    return encode({**elements, **(more or {})})


def cancel(association: RequestedAssociation, context: Accepted, message: int) -> None:
    """Send C-CANCEL and read on to the last response, so that the association can be used on."""
    request = encode({COMMAND: C_CANCEL_RQ, RESPONDS_TO: message, DATA_SET_TYPE: NO_DATA_SET})
    with contextlib.suppress(AssociationBroken):
        association.send(context.id, request)
        while True:
            _, answer = association.receive()
            if answer.has_data_set:
                association.read_data(lambda _: None)
            if answer.status not in PENDING:
                break


def prepared(identifier: Dataset, peer: Peer) -> Dataset:
    """The identifier in a character set: its own, the peer's, or UTF-8 where it needs one."""
    if "SpecificCharacterSet" in identifier:
        return identifier
    if peer.character_set:
        identifier.SpecificCharacterSet = peer.character_set.split("\\")
    elif not all(str(element.value).isascii() for element in identifier.iterall()):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    return identifier


def encoded(dataset: Dataset, context: Accepted) -> bytes:
    """A data set as the context has it."""
    return cast(
        bytes, encode_data_set(dataset, context.transfer_syntax == IMPLICIT_LE, True, False)
    )


def decoded(data: bytes, context: Accepted) -> Dataset:
    """A data set as the context has it."""
    return decode_data_set(BytesIO(data), context.transfer_syntax == IMPLICIT_LE, True, False)


def words_of(answer: Command, *, find: bool = False) -> str:
    """A status in words, with the peer's comment."""
    table = QR_FIND_SERVICE_CLASS_STATUS if find else QR_MOVE_SERVICE_CLASS_STATUS
    status = answer.status or 0
    category, meaning = table.get(status, ("Unknown", ""))
    comment = answer.text(COMMENT)
    words = f"0x{status:04X} {category}" + (f": {meaning}" if meaning else "")
    return f"{words} ({comment})" if comment else words
