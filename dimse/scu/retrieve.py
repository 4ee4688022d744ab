"""C-MOVE and C-GET to a peer (PS3.4 C.4.2 and C.4.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from pydicom.dataset import Dataset

from dimse.peers import Peer
from dimse.scu.association import Accepted, RequestedAssociation
from dimse.scu.keep import Announced, Keeper
from dimse.scu.negotiation import (
    CONTEXTS,
    AssociationBroken,
    AssociationFailed,
    Calling,
    Proposal,
)
from dimse.scu.query import (
    UNCOMPRESSED,
    cancel,
    decoded,
    encoded,
    identifier_request,
    prepared,
    words_of,
)
from dimse.wire.command import (
    C_GET_RQ,
    C_GET_RSP,
    C_MOVE_RQ,
    C_MOVE_RSP,
    C_STORE_RQ,
    C_STORE_RSP,
    COMMAND,
    COMMENT,
    COMPLETED,
    DATA_SET_TYPE,
    DESTINATION,
    FAILED,
    INSTANCE,
    MESSAGE_ID,
    NO_DATA_SET,
    PENDING,
    REMAINING,
    RESPONDS_TO,
    SOP_CLASS,
    STATUS,
    WARNING,
    Command,
    encode,
)

_MODEL = "1.2.840.10008.5.1.4.1.2."
# The most usual first; none that inflates.
_COMPRESSED = tuple(
    "1.2.840.10008.1.2." + tail
    for tail in (
        *("4.90", "4.80", "4.70", "4.57", "5", "4.91", "4.81", "4.50", "4.51", "4.201", "4.202"),
        *("4.203", "4.100", "4.101", "4.102", "4.103", "4.104", "4.105", "4.106", "4.107", "2"),
    )
)


class Root(Enum):
    """The information model of a retrieval: its C-MOVE and C-GET classes."""

    PATIENT = ("1.2", "1.3")
    STUDY = ("2.2", "2.3")

    @property
    def move(self) -> str:
        """SOP class of C-MOVE."""
        return _MODEL + self.value[0]

    @property
    def get(self) -> str:
        """SOP class of C-GET."""
        return _MODEL + self.value[1]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a retrieval is, and at its end how it went.

    Attributes:
        status: Pending, or the final status.
        failed_uids: SOP instances that could not be retrieved, where the peer lists them.
    """

    status: int
    remaining: int | None
    completed: int
    failed: int
    warning: int
    text: str = ""
    failed_uids: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self.status not in PENDING

    @property
    def ok(self) -> bool:
        """Whether everything was retrieved."""
        return self.status == 0 and not self.failed


def move(
    peer: Peer, identifier: Dataset, destination: str, calling: Calling, root: Root = Root.STUDY
) -> Iterator[Progress]:
    """Have the peer send instances to the AE title `destination`; how far it is, as it goes.

    An iterator that is closed early sends C-CANCEL.

    Raises:
        AssociationFailed: the peer accepts no association, or no C-MOVE.
        AssociationBroken: it ended the association.
    """
    proposal = Proposal(root.move, UNCOMPRESSED)
    with RequestedAssociation.open(peer, [proposal], calling) as association:
        context = association.context_for(root.move)
        if context is None:
            raise AssociationFailed(f"{peer} does not take C-MOVE from {calling.ae_title}")
        message = association.next_message_id()
        request = identifier_request(C_MOVE_RQ, root.move, message, {DESTINATION: destination})
        association.send(context.id, request, encoded(prepared(identifier, peer), context))
        try:
            while True:
                _, answer = association.receive()
                if answer.field != C_MOVE_RSP or answer.status is None:
                    raise AssociationBroken(f"{peer} answered something that is no C-MOVE response")
                progress = _progress(association, context, answer)
                yield progress
                if progress.is_final:
                    return
        except GeneratorExit:
            cancel(association, context, message)
            association.release()
            raise


def get(
    peer: Peer,
    identifier: Dataset,
    sop_classes: Sequence[str],
    keeper: Keeper,
    calling: Calling,
    root: Root = Root.STUDY,
) -> Iterator[Progress]:
    """Have the peer send instances to us on this association; how far it is, as it goes.

    Args:
        peer: Whom to ask.
        identifier: Level and UIDs.
        sop_classes: The classes that can come, the most important first.
        keeper: Where they go.
        calling: Who we are and how long we wait.
        root: In which information model.

    Raises:
        AssociationFailed: the peer accepts no association, or no C-GET.
        AssociationBroken: it ended the association.
    """
    offer = [Proposal(root.get, UNCOMPRESSED), *storage_proposals(sop_classes)]
    with RequestedAssociation.open(peer, offer, calling) as association:
        context = association.context_for(root.get)
        if context is None:
            raise AssociationFailed(f"{peer} does not take C-GET from {calling.ae_title}")
        message = association.next_message_id()
        request = identifier_request(C_GET_RQ, root.get, message)
        association.send(context.id, request, encoded(prepared(identifier, peer), context))
        while True:
            on, command = association.receive()
            if command.field == C_STORE_RQ:
                _take(association, on, command, keeper, peer)
                continue
            if command.field != C_GET_RSP or command.status is None:
                raise AssociationBroken(f"{peer} answered something that is no C-GET response")
            progress = _progress(association, context, command)
            yield progress
            if progress.is_final:
                return


def storage_proposals(sop_classes: Sequence[str]) -> list[Proposal]:
    """Contexts for what comes: for each class as many transfer syntaxes as there is room for.

    One a context: of several in one the peer would choose without knowing which it needs.
    """
    classes = list(dict.fromkeys(sop_classes))[: CONTEXTS - 1]
    each = (CONTEXTS - 1) // max(1, len(classes))
    if each < len(UNCOMPRESSED):
        return [Proposal(one, UNCOMPRESSED, as_scp=True) for one in classes]
    syntaxes = (*UNCOMPRESSED, *_COMPRESSED)[:each]
    return [Proposal(one, (syntax,), as_scp=True) for one in classes for syntax in syntaxes]


def _take(
    association: RequestedAssociation, on: int, command: Command, keeper: Keeper, peer: Peer
) -> None:
    """One C-STORE of the peer: keep it, and answer."""
    context = association.accepted.get(on)
    if context is None or not command.has_data_set:
        raise AssociationBroken(f"{peer} sends an instance without a presentation context for it")
    announced = Announced(
        command.text(SOP_CLASS), command.text(INSTANCE), context.transfer_syntax, peer.ae_title
    )
    result = keeper.keep(announced, association.read_data)
    answer: dict[int, int | str] = {
        SOP_CLASS: announced.sop_class,
        COMMAND: C_STORE_RSP,
        RESPONDS_TO: command.number(MESSAGE_ID) or 0,
        DATA_SET_TYPE: NO_DATA_SET,
        STATUS: result.status,
        INSTANCE: announced.instance,
    }
    if result.comment:
        answer[COMMENT] = result.comment[:64]
    association.send(on, encode(answer))


def _progress(association: RequestedAssociation, context: Accepted, answer: Command) -> Progress:
    failed_uids: tuple[str, ...] = ()
    if answer.has_data_set:
        found = decoded(association.read_all(), context).get("FailedSOPInstanceUIDList")
        if isinstance(found, bytes):  # a list too long for its VR comes as UN
            found = found.decode("ascii", "replace").strip(" \0").split("\\")
        values = [found] if isinstance(found, str) else found or []
        failed_uids = tuple(str(uid) for uid in values)
    return Progress(
        status=answer.status or 0,
        remaining=answer.number(REMAINING),
        completed=answer.number(COMPLETED) or 0,
        failed=answer.number(FAILED) or 0,
        warning=answer.number(WARNING) or 0,
        text=words_of(answer),
        failed_uids=failed_uids,
    )
