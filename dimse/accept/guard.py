"""Reads each new connection's A-ASSOCIATE-RQ before anybody spends a thread on it.

One thread owns the listening sockets and every connection that has not asked for an association
yet. Without TLS the kernel wakes us when the whole PDU is there (SO_RCVLOWAT), and keeps it until
then, so that a peer that drips bytes or sends none costs one socket until its deadline and
nothing else. With TLS the handshake goes on without waiting for anybody, under the same deadline.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from dimse.wire import pdus
from dimse.wire.tls import ServerTls, failure_of, subject_of

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


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to listen, and whether with TLS.

    Attributes:
        shared: Other processes listen there too; the kernel spreads the connections.
    """

    host: str
    port: int
    tls: ServerTls | None = None
    shared: bool = False


@dataclass(slots=True, eq=False)
class Waiting:
    """A connection whose request is not complete; `need` bytes are awaited until `deadline`."""

    connection: socket.socket
    address: tuple[str, int]
    deadline: float
    need: int = HEADER
    shaken: bool = False
    data: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class Request:
    """A complete A-ASSOCIATE-RQ as it came; only its fixed fields have been looked at.

    Attributes:
        tls_subject: See `tls.subject_of`.
    """

    connection: socket.socket
    address: tuple[str, int]
    pdu: bytes
    tls_subject: str | None = None

    @property
    def secure(self) -> bool:
        """Whether it came over TLS."""
        return isinstance(self.connection, ssl.SSLSocket)

    @property
    def called_ae(self) -> str:
        """Called AE title."""
        return self.pdu[10:26].decode("ascii", "replace").strip()

    @property
    def calling_ae(self) -> str:
        """Calling AE title."""
        return self.pdu[26:42].decode("ascii", "replace").strip()


class Doorman:
    """What the guard asks and tells; called by its thread, which must not be kept waiting."""

    def __init__(
        self,
        allows: Callable[[str], bool],
        take: Callable[[Request], None],
        refused: Callable[[str, str], None],
    ) -> None:
        """Functions of the server.

        Args:
            allows: Whether anybody may come from an address.
            take: Gets each complete request and owns its connection from then on.
            refused: Learns of an address whose TLS handshake failed, and why.
        """
        self.allows = allows
        self.take = take
        self.refused = refused


class Guard:
    """The accept loop."""

    def __init__(self, listeners: Sequence[Listener], limits: Limits, doorman: Doorman) -> None:
        self._limits = limits
        self._doorman = doorman
        self._selector = selectors.DefaultSelector()
        self._listening: dict[socket.socket, Listener] = {}
        for listener in listeners:
            opened = _listen(listener)
            self._listening[opened] = listener
            self._selector.register(opened, selectors.EVENT_READ, None)
        self._wake, self._waker = socket.socketpair()
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        self._stopping = threading.Event()
        self._waiting: set[Waiting] = set()
        self._thread = threading.Thread(target=self._run, name="dimse-guard", daemon=True)

    def address(self, *, tls: bool) -> tuple[str, int] | None:
        """Where it listens, with the port that the system gave; None if it does not."""
        for opened, listener in self._listening.items():
            if (listener.tls is not None) == tls:
                host, port = opened.getsockname()[:2]
                return str(host), int(port)
        return None

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
        for one in (*self._listening, self._wake, self._waker):
            one.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for key, _ in self._selector.select(timeout=0.5):
                if isinstance(key.data, Waiting):
                    self._look(key.data)
                elif key.fileobj in self._listening:
                    self._accept(key.fileobj)
            self._expire()
        for waiting in list(self._waiting):
            self._drop(waiting, "stopping")

    def _accept(self, listening: socket.socket) -> None:
        """Take what is in the backlog, a handful at a time so that others are not kept waiting."""
        for _ in range(64):
            try:
                connection, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # Out of file descriptors, or the peer is gone already: the next round tries again.
                log.warning("connection not accepted", error=type(error).__name__)
                time.sleep(0.01)
                return
            host = str(address[0])
            if len(self._waiting) >= self._limits.waiting or not self._doorman.allows(host):
                connection.close()
                continue
            try:
                self._begin(connection, (host, int(address[1])), self._listening[listening].tls)
            except OSError:
                connection.close()

    def _begin(
        self, connection: socket.socket, address: tuple[str, int], tls: ServerTls | None
    ) -> None:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, HEADER)
        else:
            connection = tls.context().wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        waiting = Waiting(connection, address, time.monotonic() + self._limits.deadline_s)
        self._waiting.add(waiting)
        self._selector.register(connection, selectors.EVENT_READ, waiting)

    def _look(self, waiting: Waiting) -> None:
        """See how far a connection is; hand it over or drop it when that can be said."""
        try:
            if isinstance(waiting.connection, ssl.SSLSocket):
                why = self._read_secure(waiting, waiting.connection)
            else:
                why = self._peek(waiting)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._await(waiting, selectors.EVENT_READ)
        except ssl.SSLWantWriteError:
            self._await(waiting, selectors.EVENT_WRITE)
        except OSError as error:
            if isinstance(waiting.connection, ssl.SSLSocket) and not waiting.shaken:
                self._doorman.refused(waiting.address[0], failure_of(error))
            self._drop(waiting, failure_of(error))
        else:
            if why:
                self._drop(waiting, why)

    def _await(self, waiting: Waiting, events: int) -> None:
        if self._selector.get_key(waiting.connection).events != events:
            self._selector.modify(waiting.connection, events, waiting)

    def _read_secure(self, waiting: Waiting, connection: ssl.SSLSocket) -> str | None:
        """Go on with the handshake, then read the request; returns why it cannot be one."""
        if not waiting.shaken:
            connection.do_handshake()
            waiting.shaken = True
        while True:
            piece = connection.recv(waiting.need - len(waiting.data))
            waiting.data += piece
            if not piece:
                return "closed"
            if (why := self._measure(waiting, waiting.data)) is not None:
                return why
            if waiting.need > HEADER and len(waiting.data) == waiting.need:
                self._hand_over(waiting, bytes(waiting.data), subject_of(connection))
                return None

    def _peek(self, waiting: Waiting) -> str | None:
        """Look at the request without consuming it; returns why it cannot be one."""
        connection = waiting.connection
        data = connection.recv(waiting.need, socket.MSG_PEEK)
        if (why := self._measure(waiting, data)) is not None:
            return why
        if len(data) == HEADER:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, waiting.need)
            data = connection.recv(waiting.need, socket.MSG_PEEK)
            if len(data) < waiting.need:
                return None
        if len(data) < waiting.need:
            # The kernel calls when all that was asked for is there, or at the end.
            return "request incomplete"
        self._hand_over(waiting, connection.recv(waiting.need), None)
        return None

    def _measure(self, waiting: Waiting, data: bytes | bytearray) -> str | None:
        """Learn the length of the request from its header; returns why it cannot be one."""
        if not data or data[0] != pdus.ASSOCIATE_RQ:
            return "no association request" if data else "closed"
        if waiting.need == HEADER and len(data) >= HEADER:
            length = int.from_bytes(data[2:HEADER], "big")
            if not _FIXED <= length <= self._limits.request_bytes:
                return "request too long or too short"
            waiting.need = HEADER + length
        return None

    def _hand_over(self, waiting: Waiting, pdu: bytes, subject: str | None) -> None:
        connection = waiting.connection
        self._forget(waiting)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            connection.setblocking(True)
            self._doorman.take(Request(connection, waiting.address, pdu, subject))
        # One association that cannot be started must not end the loop that serves everybody.
        except Exception:
            log.exception("association not started", peer=waiting.address[0])
            connection.close()

    def _expire(self) -> None:
        now = time.monotonic()
        for waiting in [one for one in self._waiting if one.deadline <= now]:
            if isinstance(waiting.connection, ssl.SSLSocket) and not waiting.shaken:
                self._doorman.refused(waiting.address[0], "TLS: handshake too slow")
            self._drop(waiting, "too slow")

    def _drop(self, waiting: Waiting, why: str) -> None:
        log.info("connection dropped", peer=waiting.address[0], why=why)
        self._forget(waiting)
        waiting.connection.close()

    def _forget(self, waiting: Waiting) -> None:
        self._selector.unregister(waiting.connection)
        self._waiting.discard(waiting)


def refuse(connection: socket.socket) -> None:
    """Reject for now because there are too many associations (PS3.8 9.3.4), and close.

    Called by the accept loop, so that it waits for nobody.
    """
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.sendall(pdus.rejection(*pdus.LOCAL_LIMIT))
        connection.shutdown(socket.SHUT_WR)


def _listen(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    opened = socket.create_server(
        (listener.host, listener.port),
        family=family,
        backlog=_BACKLOG,
        reuse_port=listener.shared,
    )
    opened.setblocking(False)
    return opened
