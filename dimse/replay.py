"""A socket whose first bytes were read already: whoever takes it over reads them again."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from functools import cache
from types import TracebackType
from typing import Any


@cache
def _always_readable() -> int:
    """A descriptor that select() finds readable at any time; one for the process."""
    return os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


class ReplayingSocket:
    """Stands for a connection, and gives `data` before what comes over it.

    For TLS: what was read cannot be peeked at or put back. It also answers select() as its user
    expects: readable when a recv() would give something, which the descriptor alone does not know
    of bytes that are decrypted or replayed (`fileno` must be asked anew for each select). One
    thread at a time may use it.
    """

    def __init__(self, connection: socket.socket, data: bytes = b"") -> None:
        self._connection = connection
        self._data = memoryview(data)

    @property
    def connection(self) -> socket.socket:
        """The connection itself."""
        return self._connection

    def pending(self) -> int:
        """Bytes that recv() gives without waiting for the network."""
        decrypted = self._connection.pending() if isinstance(self._connection, ssl.SSLSocket) else 0
        return len(self._data) + decrypted

    def fileno(self) -> int:
        """The descriptor to wait on now; -1 when closed."""
        own = self._connection.fileno()
        return _always_readable() if own >= 0 and self.pending() else own

    def recv(self, size: int, flags: int = 0) -> bytes:
        """At most `size` bytes; empty at the end."""
        if not self._data:
            return self._connection.recv(size, flags)
        taken = bytes(self._data[:size])
        if not flags & socket.MSG_PEEK:
            self._data = self._data[len(taken) :]
        return taken

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Read into a buffer; 0 at the end."""
        if not self._data:
            return self._connection.recv_into(buffer, nbytes, flags)
        view = memoryview(buffer).cast("B")
        taken = self.recv(min(nbytes, len(view)) if nbytes else len(view), flags)
        view[: len(taken)] = taken
        return len(taken)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send some of it; returns how much."""
        return self._connection.send(data, flags)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of it."""
        self._connection.sendall(data, flags)

    def settimeout(self, timeout_s: float | None) -> None:
        """The longest wait of each call."""
        self._connection.settimeout(timeout_s)

    def gettimeout(self) -> float | None:
        """The longest wait of each call."""
        return self._connection.gettimeout()

    def setblocking(self, blocking: bool) -> None:
        """Whether calls wait."""
        self._connection.setblocking(blocking)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option of the TCP connection."""
        self._connection.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int) -> int:
        """An option of the TCP connection."""
        return self._connection.getsockopt(level, option)

    def getpeername(self) -> Any:
        """Address of the peer."""
        return self._connection.getpeername()

    def getsockname(self) -> Any:
        """Our address."""
        return self._connection.getsockname()

    def shutdown(self, how: int) -> None:
        """End the connection; over TLS with the notice that RFC 8446 6.1 asks for."""
        if isinstance(self._connection, ssl.SSLSocket) and how != socket.SHUT_RD:
            # Sends the notice and does not wait for the peer's.
            with contextlib.suppress(OSError, ValueError):
                self._connection.settimeout(0)
                self._connection.unwrap()
        self._connection.shutdown(how)

    def close(self) -> None:
        """Let go of it."""
        self._data = memoryview(b"")
        self._connection.close()

    def __enter__(self) -> ReplayingSocket:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
