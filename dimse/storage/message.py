"""Messages of one association: assembled from PDVs as they come; verification and storage are
answered here, others are passed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dimse.association.register import Open
from dimse.storage.command import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_FIND_RQ,
    C_GET_RQ,
    C_MOVE_RQ,
    C_STORE_RQ,
    N_REQUESTS,
    BadCommand,
    Command,
    p_data,
    read_command,
    response,
)
from dimse.storage.store import Instance, Sender, Storage
from dimse.storage.stream import Refused
from dimse.wire import pdus
from dimse.wire.status import CANNOT_UNDERSTAND, UNRECOGNISED_OPERATION, Failure

_COMMAND_BYTES = 64 * 1024
_PASSED_ON_BYTES = 32 * 1024 * 1024
_CANCELS = 8  # of one operation; more are a storm
_OF_COMMAND, _LAST = 1, 2
_PDV_HEADER = 6
_WITH_IDENTIFIER = frozenset({C_FIND_RQ, C_GET_RQ, C_MOVE_RQ})
_PASSED_ON = _WITH_IDENTIFIER | N_REQUESTS | {C_CANCEL_RQ}

_NO_DATA_SET = Failure(CANNOT_UNDERSTAND, "the command announces no data set")
_NO_OPERATION = Failure(UNRECOGNISED_OPERATION, "no such operation in this context")


class PassOn(Protocol):
    """Takes what others answer: a whole command set, or a piece of a data set."""

    def __call__(
        self, context_id: int, control: int, fragment: bytes | bytearray | memoryview
    ) -> None:
        """One PDV, valid until this returns."""


@dataclass(frozen=True, slots=True)
class Party:
    """Whose messages they are.

    Attributes:
        contexts: Transfer syntaxes of the verification and storage contexts, by context ID.
        others: IDs of the other accepted contexts.
        maximum: Longest P-DATA-TF that the peer can receive; 0: any.
    """

    sender: Sender
    contexts: Mapping[int, str]
    others: frozenset[int]
    maximum: int


@dataclass(slots=True)
class _Message:
    """A message whose data set is still to come."""

    context_id: int
    command: Command
    instance: Instance | None = None
    failure: Failure | None = None
    passed_on: bool = False
    size: int = 0


class Messages:
    """Takes the PDVs of an association, and answers.

    One message at a time: peers wait for each answer, as we offer no asynchronous operations.
    """

    def __init__(
        self,
        party: Party,
        storage: Storage,
        entry: Open,
        send: Callable[[bytes], None],
        pass_on: PassOn | None = None,
    ) -> None:
        self._party = party
        self._storage = storage
        self._entry = entry
        self._send = send
        self.pass_on = pass_on
        self._command = bytearray()
        self._context_id = 0
        self._message: _Message | None = None
        self._cancels = 0

    def close(self) -> None:
        """Drop what is incomplete."""
        if self._message is not None and self._message.instance is not None:
            self._message.instance.drop()
        self._message = None

    def take(self, context_id: int, control: int, fragment: memoryview) -> None:
        """One PDV. Raises Refused for what can be no message of this association."""
        party = self._party
        if context_id not in party.contexts and context_id not in party.others:
            raise Refused(pdus.INVALID_PARAMETER, f"context {context_id} was not accepted")
        last = bool(control & _LAST)
        if control & _OF_COMMAND:
            self._take_command(context_id, fragment, last=last)
        else:
            self._take_data(context_id, fragment, last=last)

    def _take_command(self, context_id: int, fragment: memoryview, *, last: bool) -> None:
        if self._message is not None:
            raise Refused(pdus.UNEXPECTED_PDU, "a command inside a data set")
        if self._command and context_id != self._context_id:
            raise Refused(pdus.INVALID_PARAMETER, "a command in two contexts")
        self._entry.mark(busy=True)
        self._context_id = context_id
        self._command += fragment
        if len(self._command) > _COMMAND_BYTES:
            raise Refused(pdus.INVALID_PARAMETER, "a command set without end")
        if last:
            whole, self._command = self._command, bytearray()
            try:
                command = read_command(whole)
            except BadCommand as error:
                raise Refused(pdus.INVALID_PARAMETER, f"command set: {error}") from error
            self._begin(_Message(context_id, command), whole)

    def _begin(self, message: _Message, whole: bytearray) -> None:
        command = message.command
        message.failure = self._refusal(message)
        if message.failure is None and self._is_for_others(message):
            message.passed_on = True
            self._cancels = self._cancels + 1 if command.field == C_CANCEL_RQ else 0
            if self.pass_on is not None and self._cancels <= _CANCELS:
                self.pass_on(message.context_id, _OF_COMMAND | _LAST, whole)
        elif message.failure is None and command.field == C_STORE_RQ:
            message.instance = self._storage.begin(
                self._party.sender,
                command.sop_class,
                command.sop_instance,
                self._party.contexts[message.context_id],
            )
        if command.has_data_set:
            self._message = message
        else:
            self._finish(message)

    def _is_for_others(self, message: _Message) -> bool:
        """Whether it is no request in one of our contexts."""
        return (
            message.command.is_response
            or message.command.field == C_CANCEL_RQ
            or message.context_id in self._party.others
        )

    def _refusal(self, message: _Message) -> Failure | None:
        """What is wrong with a command by itself."""
        command = message.command
        if command.is_response or command.field == C_CANCEL_RQ:
            return None
        if message.context_id in self._party.others:
            if command.field not in _PASSED_ON:
                return _NO_OPERATION
            needs_data_set = command.field in _WITH_IDENTIFIER
        else:
            if command.field not in (C_STORE_RQ, C_ECHO_RQ):
                return _NO_OPERATION
            needs_data_set = command.field == C_STORE_RQ
        return _NO_DATA_SET if needs_data_set and not command.has_data_set else None

    def _take_data(self, context_id: int, fragment: memoryview, *, last: bool) -> None:
        message = self._message
        if message is None or message.context_id != context_id:
            raise Refused(pdus.UNEXPECTED_PDU, "a data set without its command")
        if message.instance is not None:
            message.instance.write(fragment)
        elif message.passed_on:
            message.size += len(fragment)
            if message.size > _PASSED_ON_BYTES:
                raise Refused(pdus.INVALID_PARAMETER, "a data set that is too large to be read")
            if self.pass_on is not None:
                self.pass_on(context_id, _LAST if last else 0, fragment)
        if last:
            self._message = None
            self._finish(message)

    def _finish(self, message: _Message) -> None:
        """Answer a complete message."""
        failure = message.failure
        if message.instance is not None:
            failure = message.instance.finish()
        if not message.passed_on:
            answer = response(message.command, failure)
            self._send(b"".join(p_data(message.context_id, answer, self._party.maximum)))
        self._entry.mark(busy=False)


def each_pdv(body: memoryview) -> list[tuple[int, int, memoryview]]:
    """Context ID, control header and fragment of each PDV of a P-DATA-TF (PS3.8 9.3.5).

    Raises Refused unless they fill the PDU exactly.
    """
    found = []
    position, end = 0, len(body)
    while position < end:
        length = int.from_bytes(body[position : position + 4], "big")
        following = position + 4 + length
        if length < 2 or following > end:
            raise Refused(pdus.INVALID_PARAMETER, f"a PDV of {length} bytes")
        fragment = body[position + _PDV_HEADER : following]
        found.append((body[position + 4], body[position + 5], fragment))
        position = following
    if not found:
        raise Refused(pdus.INVALID_PARAMETER, "a P-DATA-TF without PDV")
    return found
