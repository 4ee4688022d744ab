"""An association that we ask for: one thread, one request at a time, large writes.

pynetdicom's requestor polls and hands each PDU through two queues (67 CT slices a second where
DCMTK sends 148). This one uses its PDU classes for the negotiation and writes P-DATA itself.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from pynetdicom.pdu import A_ASSOCIATE_AC
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)

from dimse.peers import Peer
from dimse.scu.negotiation import (
    AssociationBroken,
    AssociationFailed,
    Calling,
    Proposal,
    connect,
    rejection,
    request,
)
from dimse.wire.command import LONGEST, Command, CommandError, decode
from dimse.wire.framing import (
    COMMAND_PART,
    LAST,
    MAXIMUM_PDU,
    SMALLEST_PDU,
    fragment_size,
    pdus,
    piece_size,
)

_ASSOCIATE_AC, _ASSOCIATE_RJ, _DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = 2, 3, 4, 5, 6, 7


@dataclass(frozen=True, slots=True)
class Accepted:
    """A presentation context that the peer accepted, with the syntax that it chose."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    as_scp: bool


class RequestedAssociation:
    """An open association. Close it with `release` or `abort`; as a context it does so itself."""

    def __init__(self, connection: socket.socket, calling: Calling, peer: Peer) -> None:
        self._connection = connection
        self._calling = calling
        self._peer = peer
        self._pdvs: deque[tuple[int, int, memoryview]] = deque()
        self._message = 0
        self.accepted: dict[int, Accepted] = {}
        self._size = fragment_size(0)
        self.is_open = True

    @classmethod
    def open(cls, peer: Peer, proposals: Sequence[Proposal], calling: Calling) -> Self:
        """Connect and negotiate. Raises AssociationFailed, whose text says what to do."""
        connection = connect(peer, calling)
        association = cls(connection, calling, peer)
        try:
            association._negotiate(proposals)
        except (OSError, AssociationBroken) as error:
            connection.close()
            raise AssociationFailed(f"{peer} did not answer the association request") from error
        except BaseException:
            connection.close()
            raise
        return association

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def next_message_id(self) -> int:
        """A message id that is not in use."""
        self._message = self._message % 0xFFFF + 1
        return self._message

    def context_for(self, abstract_syntax: str, *, as_scp: bool = False) -> Accepted | None:
        """The first accepted context of this abstract syntax."""
        for one in self.accepted.values():
            if one.abstract_syntax == abstract_syntax and one.as_scp == as_scp:
                return one
        return None

    def send(self, context_id: int, command: bytes, data: bytes | None = None) -> None:
        """Send a message that lies in memory. Raises AssociationBroken."""
        pieces = list(pdus(context_id, command, self._size, command=True))
        if data is not None:
            pieces += pdus(context_id, data, self._size)
        self._write(b"".join(pieces))

    @property
    def piece_bytes(self) -> int:
        """A good size for the pieces of `send_pieces`: whole PDUs, and few system calls."""
        return piece_size(self._size)

    def send_pieces(
        self, context_id: int, command: bytes, pieces: Iterable[tuple[bytes, bool]]
    ) -> None:
        """Send a message whose data set comes in pieces, each with whether it is the last.

        An error of the pieces is passed on. Before the first one nothing has been sent; after it
        half a data set has, which must not look like a whole one: the association is aborted.

        Raises:
            AssociationBroken: the peer is gone.
        """
        head = list(pdus(context_id, command, self._size, command=True))
        try:
            for piece, last in pieces:
                self._write(b"".join([*head, *pdus(context_id, piece, self._size, last=last)]))
                head = []
        except BaseException:
            if not head:
                self.abort()
            raise

    def wait(self, seconds: float) -> bool:
        """Whether the peer says something, or closes, within so many seconds."""
        if self._pdvs or (
            isinstance(self._connection, ssl.SSLSocket) and self._connection.pending()
        ):
            return True
        return bool(select.select([self._connection], [], [], seconds)[0])

    def receive(self) -> tuple[int, Command]:
        """The next message's context and command set; a data set is left for `read_data`.

        Raises AssociationBroken.
        """
        raw = bytearray()
        while True:
            context_id, flags, part = self._next_pdv()
            if not flags & COMMAND_PART:
                raise self._broken("sent a data set where a command should be")
            raw += part
            if len(raw) > LONGEST:
                raise self._broken("sent an endless command")
            if flags & LAST:
                break
        try:
            return context_id, decode(bytes(raw))
        except CommandError as error:
            raise self._broken("sent a command that cannot be read") from error

    def read_data(self, write: Callable[[memoryview], object]) -> None:
        """Hand the data set that follows a command to `write`, piece by piece."""
        while True:
            _, flags, part = self._next_pdv()
            if flags & COMMAND_PART:
                raise self._broken("sent a command inside a data set")
            write(part)
            if flags & LAST:
                return

    def read_all(self, limit: int = 16 * 1024 * 1024) -> bytes:
        """The data set that follows a command, in memory."""
        whole = bytearray()

        def add(part: memoryview) -> None:
            if len(whole) + len(part) > limit:
                raise self._broken("sent a data set that is too large")
            whole.extend(part)

        self.read_data(add)
        return bytes(whole)

    def release(self) -> None:
        """End in order; what the peer still sends is thrown away."""
        if not self.is_open:
            return
        self.is_open = False
        with contextlib.suppress(OSError), self._connection:
            self._connection.settimeout(min(self._calling.answer_s, 10.0))
            self._connection.sendall(struct.pack(">BBLL", _RELEASE_RQ, 0, 4, 0))
            while self._read_pdu()[0] not in (_RELEASE_RP, _ABORT):
                continue

    def abort(self) -> None:
        """End at once (PS3.8 9.3.8, source: service user)."""
        if not self.is_open:
            return
        self.is_open = False
        with contextlib.suppress(OSError), self._connection:
            self._connection.settimeout(1.0)
            self._connection.sendall(struct.pack(">BBLBBBB", _ABORT, 0, 4, 0, 0, 0, 0))

    def _negotiate(self, proposals: Sequence[Proposal]) -> None:
        self._connection.sendall(request(self._peer, proposals, self._calling.ae_title))
        kind, pdu = self._read_pdu(limit=256 * 1024)
        if kind == _ASSOCIATE_RJ and len(pdu) == 10:
            raise AssociationFailed(rejection(self._peer, pdu, self._calling.ae_title))
        if kind != _ASSOCIATE_AC:
            raise AssociationFailed(f"{self._peer} aborted the association")
        answer = A_ASSOCIATE_AC()
        try:
            answer.decode(pdu)
            accepted = answer.to_primitive()
        # Whatever pynetdicom's decoder trips over: the peer's answer cannot be read.
        except Exception as error:
            raise AssociationFailed(f"{self._peer} answered with nonsense") from error
        self._connection.settimeout(self._calling.answer_s)
        self._take_answer(accepted, proposals)

    def _take_answer(self, accepted: A_ASSOCIATE, proposals: Sequence[Proposal]) -> None:
        roles = set()
        for item in accepted.user_information:
            if isinstance(item, MaximumLengthNotification):
                self._set_size(int(item.maximum_length_received or 0))
            elif isinstance(item, SCP_SCU_RoleSelectionNegotiation) and item.scp_role:
                roles.add(str(item.sop_class_uid))
        for one in accepted.presentation_context_definition_results_list:
            number = one.context_id or 0
            index = (number - 1) // 2
            if one.result != 0 or not one.transfer_syntax or not 0 <= index < len(proposals):
                continue
            proposal = proposals[index]
            syntax = str(one.transfer_syntax[0])
            if syntax not in proposal.transfer_syntaxes:
                continue
            as_scp = proposal.as_scp and proposal.abstract_syntax in roles
            self.accepted[number] = Accepted(number, proposal.abstract_syntax, syntax, as_scp)

    def _set_size(self, maximum_pdu: int) -> None:
        if 0 < maximum_pdu < SMALLEST_PDU:
            raise AssociationFailed(f"{self._peer} takes PDUs of {maximum_pdu} bytes only")
        self._size = fragment_size(maximum_pdu)

    def _write(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise self._broken("does not take what we send") from error

    def _next_pdv(self) -> tuple[int, int, memoryview]:
        while not self._pdvs:
            try:
                kind, pdu = self._read_pdu()
            except OSError as error:
                raise self._broken("did not answer in time") from error
            if kind == _DATA:
                self._pdvs.extend(self._split(memoryview(pdu)[6:]))
            elif kind == _ABORT:
                raise self._broken("aborted the association")
            else:
                raise self._broken("ended the association")
        return self._pdvs.popleft()

    def _split(self, body: memoryview) -> Iterator[tuple[int, int, memoryview]]:
        position = 0
        while position < len(body):
            if len(body) - position < 6:
                raise self._broken("sent a PDU that cannot be read")
            length, context_id, flags = struct.unpack_from(">LBB", body, position)
            if length < 2 or position + 4 + length > len(body):
                raise self._broken("sent a PDU that cannot be read")
            yield context_id, flags, body[position + 6 : position + 4 + length]
            position += 4 + length

    def _read_pdu(self, limit: int = MAXIMUM_PDU + 64) -> tuple[int, bytes]:
        """Type and whole of the next PDU."""
        head = self._read(6)
        (length,) = struct.unpack_from(">L", head, 2)
        if length > limit:
            raise self._broken("sent a PDU that is too long")
        return head[0], head + self._read(length)

    def _read(self, count: int) -> bytes:
        data = bytearray(count)
        view, filled = memoryview(data), 0
        while filled < count:
            got = self._connection.recv_into(view[filled:])
            if not got:
                raise ConnectionResetError("closed by the peer")
            filled += got
        return bytes(data)

    def _broken(self, what: str) -> AssociationBroken:
        self.abort()
        return AssociationBroken(f"{self._peer} {what}")
