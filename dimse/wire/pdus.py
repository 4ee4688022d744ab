"""The short PDUs that we send ourselves (PS3.8 9.3), and a decent farewell."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ = 0x01, 0x02, 0x03
P_DATA_TF, RELEASE_RQ, RELEASE_RP, ABORT = 0x04, 0x05, 0x06, 0x07

# Abort source (PS3.8 9.3.8), and the reasons that a provider gives.
BY_USER, BY_PROVIDER = 0, 2
NO_REASON, UNRECOGNISED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 0, 1, 2, 6

# PS3.8 9.3.4: rejected transient, by the presentation-related provider, local limit exceeded.
LOCAL_LIMIT = (2, 3, 2)

RELEASE_RESPONSE = struct.pack(">BBLL", RELEASE_RP, 0, 4, 0)
_SEND_S = 1.0


def rejection(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ."""
    return struct.pack(">BBLBBBB", ASSOCIATE_RJ, 0, 4, 0, result, source, reason)


def abortion(source: int, reason: int = NO_REASON) -> bytes:
    """An A-ABORT."""
    return struct.pack(">BBLBBBB", ABORT, 0, 4, 0, 0, source, reason)


def part(connection: socket.socket, last: bytes, artim_s: float) -> None:
    """Send a last PDU, wait for the peer to close, but not long (the ARTIM timer), and close."""
    with contextlib.suppress(OSError), connection:
        connection.settimeout(_SEND_S)
        connection.sendall(last)
        linger(connection, artim_s)


def linger(connection: socket.socket, artim_s: float) -> None:
    """Say that nothing more comes, and wait for the peer to close.

    Closing at once with bytes unread would send a reset that may overtake our last PDU.
    """
    ends = time.monotonic() + artim_s
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while (left := ends - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(64 * 1024):
                return
