"""Sends each audit record as a DICOM audit message by syslog over TLS (RFC 5425), in order.

Syslog has no answer. A message counts as sent when the receiver's machine has acknowledged its
bytes; what was under way when a connection broke is sent again, so one may come twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from access import SpoolReader
from access.audit import SpooledRecord
from fhir_gateway.audit.dicom_message import syslog_message
from fhir_gateway.audit.event import to_audit_event

CURSOR = "syslog"
BATCH = 100
IDLE_S = 1.0
TIMEOUT_S = 15.0
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogTarget:
    """A syslog receiver over TLS.

    Attributes:
        ca: certificates that vouch for the receiver (PEM); None takes the system's.
        certificate, key: ours (PEM), where the receiver asks for one.
    """

    host: str
    port: int = 6514
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or later; the receiver's name is checked."""
        context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


class SyslogSender:
    """Follows the spool with a durable place of its own; one runs per spool folder."""

    def __init__(self, folder: Path, target: SyslogTarget) -> None:
        self._folder = folder
        self._target = target
        self._connection: ssl.SSLSocket | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop; waits out an absence of the receiver."""
        reader = await asyncio.to_thread(SpoolReader, self._folder, CURSOR)
        delay = FIRST_DELAY_S
        try:
            while not stop.is_set():
                pause = IDLE_S
                try:
                    if await asyncio.to_thread(self.send_once, reader):
                        pause = 0.001
                    delay = FIRST_DELAY_S
                except OSError as error:  # ssl.SSLError is one
                    log.warning("audit.syslog_waiting", reason=type(error).__name__)
                    self.close()
                    pause, delay = delay, min(delay * 2, LONGEST_DELAY_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)
        finally:
            self.close()

    def send_once(self, reader: SpoolReader) -> bool:
        """Send one batch; False when nothing was waiting. Raises OSError."""
        batch = reader.next_batch(BATCH)
        if not batch.positions:
            return False
        connection = self._connected()
        connection.sendall(b"".join(_frame(one) for one in batch.records))
        _wait_for_acknowledgement(connection)
        reader.acknowledge(batch)
        return True

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> ssl.SSLSocket:
        if self._connection is not None and not _is_over(self._connection):
            return self._connection
        self.close()
        address = (self._target.host, self._target.port)
        plain = socket.create_connection(address, timeout=TIMEOUT_S)
        try:
            context = self._target.context()
            self._connection = context.wrap_socket(plain, server_hostname=self._target.host)
        except BaseException:
            plain.close()
            raise
        return self._connection


def _frame(one: SpooledRecord) -> bytes:
    """Octet counting (RFC 5425 4.3)."""
    message = syslog_message(to_audit_event(one, literal=True), one.host)
    return b"%d %s" % (len(message), message)


def _wait_for_acknowledgement(connection: ssl.SSLSocket) -> None:
    """Until the peer's TCP has all that was sent."""
    end = time.monotonic() + TIMEOUT_S
    while _unacknowledged(connection):
        if time.monotonic() > end or _is_over(connection):
            raise TimeoutError("the receiver takes nothing")
        time.sleep(0.005)


def _unacknowledged(connection: ssl.SSLSocket) -> int:
    # TIOCOUTQ on a TCP socket: bytes that the peer has not acknowledged (Linux, tcp(7)).
    answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
    return int(struct.unpack("i", answer)[0])


def _is_over(connection: ssl.SSLSocket) -> bool:
    """Whether the peer has closed: a syslog receiver sends nothing else."""
    if not select.select([connection], [], [], 0)[0]:
        return False
    connection.settimeout(0.1)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False  # a session ticket, which is no data
    except OSError:
        return True
    finally:
        connection.settimeout(TIMEOUT_S)
