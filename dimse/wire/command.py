"""Command sets of DIMSE messages as a requestor writes and reads them (PS3.7 6.3.1, annex E)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

C_STORE_RQ, C_STORE_RSP = 0x0001, 0x8001
C_GET_RQ, C_GET_RSP = 0x0010, 0x8010
C_FIND_RQ, C_FIND_RSP = 0x0020, 0x8020
C_MOVE_RQ, C_MOVE_RSP = 0x0021, 0x8021
C_ECHO_RQ, C_ECHO_RSP = 0x0030, 0x8030
C_CANCEL_RQ = 0x0FFF

NO_DATA_SET, WITH_DATA_SET = 0x0101, 0x0000
MEDIUM = 0x0000
PENDING = (0xFF00, 0xFF01)

SOP_CLASS, INSTANCE = 0x0002, 0x1000
COMMAND, MESSAGE_ID, RESPONDS_TO = 0x0100, 0x0110, 0x0120
DESTINATION, PRIORITY, DATA_SET_TYPE, STATUS = 0x0600, 0x0700, 0x0800, 0x0900
COMMENT = 0x0902
REMAINING, COMPLETED, FAILED, WARNING = 0x1020, 0x1021, 0x1022, 0x1023
ORIGINATOR, ORIGINATOR_MESSAGE_ID = 0x1030, 0x1031

LONGEST = 16 * 1024
"""Bytes of the largest command set that we read; real ones have about 200."""

_UIDS = frozenset({SOP_CLASS, 0x0003, INSTANCE, 0x1001})


class CommandError(ValueError):
    """The bytes are not a command set."""


@dataclass(frozen=True, slots=True)
class Command:
    """Elements of group 0000 by their number: int for US, str for the rest."""

    elements: Mapping[int, int | str]

    def number(self, element: int) -> int | None:
        """A US element; None if it is absent."""
        value = self.elements.get(element)
        return value if isinstance(value, int) else None

    def text(self, element: int) -> str:
        """A UI, AE or LO element; "" if it is absent."""
        value = self.elements.get(element)
        return value if isinstance(value, str) else ""

    @property
    def field(self) -> int | None:
        """Which message it is."""
        return self.number(COMMAND)

    @property
    def status(self) -> int | None:
        """Status of a response."""
        return self.number(STATUS)

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows."""
        return self.number(DATA_SET_TYPE) not in (NO_DATA_SET, None)


def encode(elements: Mapping[int, int | str]) -> bytes:
    """A command set in implicit little endian, its group length in front."""
    body = b"".join(_element(number, elements[number]) for number in sorted(elements))
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def _element(number: int, value: int | str) -> bytes:
    if isinstance(value, int):
        return struct.pack("<HHLH", 0, number, 2, value)
    raw = value.encode("ascii", "replace")
    if len(raw) % 2:
        raw += b"\0" if number in _UIDS else b" "
    return struct.pack("<HHL", 0, number, len(raw)) + raw


def decode(raw: bytes) -> Command:
    """A command set. Raises CommandError."""
    elements: dict[int, int | str] = {}
    position = 0
    while position < len(raw):
        if len(raw) - position < 8:
            raise CommandError("the command set ends inside an element")
        group, number, length = struct.unpack_from("<HHL", raw, position)
        position += 8
        if group != 0 or position + length > len(raw):
            raise CommandError("the command set is not one")
        value = raw[position : position + length]
        position += length
        elements[number] = _value(number, value)
    if COMMAND not in elements:
        raise CommandError("the command set names no command")
    return Command(elements)


def _value(number: int, value: bytes) -> int | str:
    if len(value) == 2 and number not in _TEXTS:
        return int.from_bytes(value, "little")
    return value.decode("ascii", "replace").strip(" \0")


_TEXTS = _UIDS | {0x0600, COMMENT, ORIGINATOR}
