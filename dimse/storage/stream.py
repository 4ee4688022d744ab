"""Reads PDUs from a connection, within limits: none is longer than was agreed, none comes slower
than a peer that means well, and memory is one buffer that is used again and again."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass

from dimse.wire import pdus

_AT_LEAST_BYTES_PER_S = 1024
_HEADER = 6
_FIRST_READ = 64 * 1024
_LOOK_MS = 200


class StreamError(Exception):
    """The stream cannot be read on."""


class Closed(StreamError):
    """The peer is gone."""


class Idle(StreamError):
    """Nothing has come for too long."""


class TooSlow(StreamError):
    """A PDU has begun and does not come to its end."""


class Refused(StreamError):
    """A PDU that must be answered with an A-ABORT.

    Attributes:
        reason: PS3.8 9.3.8.
    """

    def __init__(self, reason: int, why: str) -> None:
        super().__init__(why)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """How long and how slow PDUs may be.

    Attributes:
        maximum: Longest P-DATA-TF, as negotiated, in bytes.
        progress_s: A PDU that is not complete after so long must have come at 1 KiB/s.
        idle_s: Longest wait for the next PDU.
    """

    maximum: int
    progress_s: float = 5.0
    idle_s: float = 60.0


class PduStream:
    """PDUs of one connection, one after the other. One thread at a time may read."""

    def __init__(self, connection: socket.socket, limits: StreamLimits) -> None:
        self._connection = connection
        self._limits = limits
        # A page of it costs memory only once a peer has sent so much.
        self._buffer = bytearray(limits.maximum + _HEADER + _FIRST_READ)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._cut = threading.Event()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        self._secure = isinstance(connection, ssl.SSLSocket)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._secure:
            connection.settimeout(limits.progress_s)
        else:
            # By the kernel: a timeout of Python's own costs a poll before each read.
            connection.settimeout(None)
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(limits.progress_s)
            )
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(limits.idle_s))

    @property
    def connection(self) -> socket.socket:
        """The connection itself."""
        return self._connection

    @property
    def pending(self) -> bool:
        """Whether there are bytes that have been read from the connection, or decrypted."""
        if self._end > self._start:
            return True
        return isinstance(self._connection, ssl.SSLSocket) and self._connection.pending() > 0

    def readable(self, wait_s: float) -> bool:
        """Whether there is something to read, or the end; waits so long for it."""
        if self.pending:
            return True
        try:
            # Not select(), which knows no descriptors above 1023.
            return bool(self._poll.poll(int(wait_s * 1000)))
        except OSError:
            return True

    def cut(self) -> None:
        """Make the thread that reads stop: it gets Closed. May be called by any thread."""
        self._cut.set()
        if self._secure:
            return  # seen within _LOOK_MS; one end shut down leaves no TLS to say goodbye over
        try:
            self._connection.shutdown(socket.SHUT_RD)
        except OSError:
            return

    @property
    def was_cut(self) -> bool:
        """Whether `cut` was called."""
        return self._cut.is_set()

    def forget(self) -> None:
        """Give the buffer's memory back; nothing is read afterwards."""
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def next(self) -> tuple[int, memoryview]:
        """Type and body of the next PDU; the body is valid until the next call.

        Raises:
            StreamError: see its subclasses.
        """
        began = self._await_first_byte()
        self._fill(_HEADER, began)
        kind = self._buffer[self._start]
        length = int.from_bytes(self._view[self._start + 2 : self._start + _HEADER], "big")
        self._check(kind, length)
        self._fill(_HEADER + length, began)
        body = self._view[self._start + _HEADER : self._start + _HEADER + length]
        self._start += _HEADER + length
        return kind, body

    def _check(self, kind: int, length: int) -> None:
        if not pdus.ASSOCIATE_RQ <= kind <= pdus.ABORT:
            raise Refused(pdus.UNRECOGNISED_PDU, f"PDU type 0x{kind:02X}")
        if kind in (pdus.ASSOCIATE_RQ, pdus.ASSOCIATE_AC, pdus.ASSOCIATE_RJ):
            raise Refused(pdus.UNEXPECTED_PDU, "association PDU inside an association")
        longest = self._limits.maximum if kind == pdus.P_DATA_TF else 4
        if length > longest or (kind != pdus.P_DATA_TF and length != longest):
            raise Refused(pdus.INVALID_PARAMETER, f"PDU type {kind} of {length} bytes")

    def _await_first_byte(self) -> float:
        """Wait for the next PDU to begin; returns when it did."""
        if self._end > self._start:
            return time.monotonic()
        self._start = self._end = 0
        ends = time.monotonic() + self._limits.idle_s
        while True:
            read = self._receive(_FIRST_READ, whole=False)
            now = time.monotonic()
            if read:
                self._end = read
                return now
            if now >= ends:
                raise Idle

    def _fill(self, size: int, began: float) -> None:
        """Have `size` bytes from the start of the PDU on in the buffer."""
        if self._start + size > len(self._buffer):
            held = self._end - self._start
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        while (missing := self._start + size - self._end) > 0:
            read = self._receive(missing, whole=True)
            self._end += read
            if read < missing:
                self._check_progress(began)

    def _check_progress(self, began: float) -> None:
        taken = time.monotonic() - began
        late = taken > self._limits.progress_s * 0.9  # the kernel's clock is not quite ours
        if late and self._end - self._start < taken * _AT_LEAST_BYTES_PER_S:
            raise TooSlow

    def _receive(self, size: int, *, whole: bool) -> int:
        """Read up to `size` bytes to the end of what is there; 0 if nothing comes in time."""
        if self._cut.is_set():
            raise Closed
        target = self._view[self._end : self._end + size]
        try:
            if isinstance(self._connection, ssl.SSLSocket):
                if not self._connection.pending() and not self._poll.poll(_LOOK_MS):
                    return 0
                read = self._connection.recv_into(target)
            else:
                # One call, and one wake-up, for all the bytes of a PDU.
                flags = socket.MSG_WAITALL if whole else 0
                read = self._connection.recv_into(target, 0, flags)
        except (BlockingIOError, TimeoutError):
            return 0
        except OSError as error:
            raise Closed from error
        if not read:
            raise Closed
        return read


def _timeval(seconds: float) -> bytes:
    whole, fraction = divmod(seconds, 1)
    return struct.pack("ll", int(whole), int(fraction * 1e6))
