"""Looks at each new connection's A-ASSOCIATE-RQ before anybody spends a thread on it.

One thread owns the listening socket and every connection that has not asked for an association
yet. The request is peeked, not consumed: whoever takes the socket over finds it untouched. The
kernel wakes us when the whole PDU is there (SO_RCVLOWAT), so a peer that drips bytes or sends
none costs one socket until its deadline and nothing else.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dimse import pdus

log = structlog.get_logger(__name__)

HEADER = 6
_FIXED = 68  # bytes of a request before its items
_BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how large a request for an association may be, and how many may wait."""

    request_bytes: int = 64 * 1024
    deadline_s: float = 5.0
    waiting: int = 4096


@dataclass(slots=True)
class Waiting:
    """A connection whose request is not complete; `need` bytes are awaited until `deadline`."""

    connection: socket.socket
    address: tuple[str, int]
    deadline: float
    need: int = HEADER


@dataclass(frozen=True, slots=True)
class Request:
    """A complete A-ASSOCIATE-RQ as it came; only its fixed fields have been looked at."""

    connection: socket.socket
    address: tuple[str, int]
    pdu: bytes

    @property
    def called_ae(self) -> str:
        """Called AE title."""
        return self.pdu[10:26].decode("ascii", "replace").strip()

    @property
    def calling_ae(self) -> str:
        """Calling AE title."""
        return self.pdu[26:42].decode("ascii", "replace").strip()


class Guard:
    """The accept loop. `take` gets each complete request and owns its socket from then on."""

    def __init__(
        self,
        address: tuple[str, int],
        limits: Limits,
        take: Callable[[Request], None],
        allows: Callable[[str], bool],
    ) -> None:
        self._limits = limits
        self._take = take
        self._allows = allows
        self._listener = _listen(address)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._stopping = threading.Event()
        self._waiting: dict[int, Waiting] = {}
        self._thread = threading.Thread(target=self._run, name="dimse-guard", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens, with the port that the system gave."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    @property
    def waiting(self) -> int:
        """Connections that have not asked for an association yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def stop(self) -> None:
        """Accept nothing more and drop connections without an association."""
        self._stopping.set()
        self._waker.send(b"\0")
        if self._thread.is_alive():
            self._thread.join()
        self._selector.close()
        for one in (self._listener, self._wake, self._waker):
            one.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(timeout=0.5):
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data is not None:
                    self._look(key.data)
            self._expire()
        for waiting in list(self._waiting.values()):
            self._drop(waiting, "stopping")

    def _accept(self) -> None:
        """Take what is in the backlog, a handful at a time so that others are not kept waiting."""
        for _ in range(64):
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of file descriptors, or the peer is gone already: the next round tries again.
                log.warning("connection not accepted", error=type(error).__name__)
                time.sleep(0.01)
                return
            if len(self._waiting) >= self._limits.waiting or not self._allows(str(address[0])):
                connection.close()
                continue
            try:
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, HEADER)
            except OSError:
                connection.close()
                continue
            deadline = time.monotonic() + self._limits.deadline_s
            waiting = Waiting(connection, (str(address[0]), int(address[1])), deadline)
            self._waiting[connection.fileno()] = waiting
            self._selector.register(connection, selectors.EVENT_READ, waiting)

    def _look(self, waiting: Waiting, *, woken: bool = True) -> None:
        """Peek; hand over a complete request, drop what can never be one.

        `woken` says that the kernel called: with less than was asked for that means the end.
        """
        connection = waiting.connection
        try:
            data = connection.recv(waiting.need, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self._drop(waiting, "reset")
            return
        if not data or data[0] != pdus.ASSOCIATE_RQ:
            self._drop(waiting, "closed" if not data else "no association request")
            return
        if len(data) < waiting.need:
            if woken:
                self._drop(waiting, "request incomplete")
            return
        if waiting.need == HEADER:
            length = int.from_bytes(data[2:6], "big")
            if not _FIXED <= length <= self._limits.request_bytes:
                self._drop(waiting, "request too long or too short")
                return
            waiting.need = HEADER + length
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, waiting.need)
            self._look(waiting, woken=False)
            return
        self._hand_over(waiting)

    def _hand_over(self, waiting: Waiting) -> None:
        connection = waiting.connection
        self._forget(waiting)
        try:
            data = connection.recv(waiting.need)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            connection.setblocking(True)
            self._take(Request(connection, waiting.address, data))
        # One association that cannot be started must not end the loop that serves everybody.
        except Exception:
            log.exception("association not started", peer=waiting.address[0])
            connection.close()

    def _expire(self) -> None:
        now = time.monotonic()
        for waiting in [one for one in self._waiting.values() if one.deadline <= now]:
            self._drop(waiting, "too slow")

    def _drop(self, waiting: Waiting, why: str) -> None:
        log.info("connection dropped", peer=waiting.address[0], why=why)
        self._forget(waiting)
        waiting.connection.close()

    def _forget(self, waiting: Waiting) -> None:
        self._selector.unregister(waiting.connection)
        self._waiting.pop(waiting.connection.fileno(), None)


def refuse(connection: socket.socket) -> None:
    """Reject for now because there are too many associations (PS3.8 9.3.4), and close.

    Called by the accept loop, so that it waits for nobody.
    """
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.sendall(pdus.rejection(*pdus.LOCAL_LIMIT))
        connection.shutdown(socket.SHUT_WR)


def _listen(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    return socket.create_server(address, family=family, backlog=_BACKLOG)
