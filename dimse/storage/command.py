"""Command sets as the receive loop reads and writes them (PS3.7 6.3 and annex E)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from dimse.wire.status import Failure

C_STORE_RQ, C_GET_RQ, C_FIND_RQ, C_MOVE_RQ = 0x0001, 0x0010, 0x0020, 0x0021
C_ECHO_RQ, C_CANCEL_RQ = 0x0030, 0x0FFF
N_REQUESTS = frozenset({0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150})
RESPONSE = 0x8000
NO_DATA_SET = 0x0101

_SOP_CLASS, _FIELD, _MESSAGE_ID, _ANSWERS = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _COMMENT, _SOP_INSTANCE = 0x0800, 0x0900, 0x0902, 0x1000
_COMMENT_CHARS = 64


class BadCommand(Exception):
    """The bytes are no command set, or lack what no answer can do without."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a command set says, as far as the receive loop must know.

    Attributes:
        field: Which message it is (PS3.7 E.1).
        has_data_set: Whether a data set follows.
    """

    field: int
    message_id: int
    has_data_set: bool
    sop_class: str
    sop_instance: str

    @property
    def is_response(self) -> bool:
        """Whether it answers a request of ours."""
        return bool(self.field & RESPONSE)


def read_command(data: bytes | bytearray) -> Command:
    """Parse a complete command set: implicit VR, little endian, group 0000 only."""
    values = _values(data)
    return Command(
        field=_number(values, _FIELD),
        message_id=_number(values, _MESSAGE_ID if _MESSAGE_ID in values else _ANSWERS),
        has_data_set=_number(values, _DATA_SET_TYPE) != NO_DATA_SET,
        sop_class=_uid(values.get(_SOP_CLASS, b"")),
        sop_instance=_uid(values.get(_SOP_INSTANCE, b"")),
    )


def _values(data: bytes | bytearray) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    position, end = 0, len(data)
    while position < end:
        if position + 8 > end:
            raise BadCommand("an element is cut off")
        group, element, length = struct.unpack_from("<HHL", data, position)
        position += 8
        if group != 0:
            raise BadCommand("an element is of another group")
        if position + length > end:
            raise BadCommand("an element reaches past the end")
        values[element] = bytes(data[position : position + length])
        position += length
    return values


def _number(values: dict[int, bytes], element: int) -> int:
    raw = values.get(element, b"")
    if len(raw) != 2:
        raise BadCommand(f"(0000,{element:04X}) is missing or no number")
    return int.from_bytes(raw, "little")


def _uid(raw: bytes) -> str:
    return raw.rstrip(b"\0 ").decode("ascii", "replace")


def response(command: Command, failure: Failure | None) -> bytes:
    """The command set that answers a request: success, or a status with its comment."""
    elements = [
        (_FIELD, struct.pack("<H", command.field | RESPONSE)),
        (_ANSWERS, struct.pack("<H", command.message_id)),
        (_DATA_SET_TYPE, struct.pack("<H", NO_DATA_SET)),
        (_STATUS, struct.pack("<H", failure.status if failure else 0)),
    ]
    if command.sop_class:
        elements.insert(0, (_SOP_CLASS, _padded(command.sop_class, "\0")))
    if failure:
        elements.append((_COMMENT, _padded(failure.comment[:_COMMENT_CHARS], " ")))
    if command.sop_instance:
        elements.append((_SOP_INSTANCE, _padded(command.sop_instance, "\0")))
    body = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value for element, value in elements
    )
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def _padded(text: str, filling: str) -> bytes:
    raw = text.encode("ascii", "replace")
    return raw + filling.encode() if len(raw) % 2 else raw


def p_data(context_id: int, command_set: bytes, maximum: int) -> Iterator[bytes]:
    """P-DATA-TF PDUs with a command set, none longer than the peer wants (PS3.8 D.1).

    Args:
        maximum: Maximum length that the peer can receive; 0: any.
    """
    # Of the PDU's length the PDV's own header takes 6; fragments must have an even length.
    piece = len(command_set) if maximum == 0 else max(2, (maximum - 6) // 2 * 2)
    for start in range(0, len(command_set), piece):
        fragment = command_set[start : start + piece]
        control = 3 if start + piece >= len(command_set) else 1
        header = struct.pack(
            ">BBLLBB", 4, 0, len(fragment) + 6, len(fragment) + 2, context_id, control
        )
        yield header + fragment
