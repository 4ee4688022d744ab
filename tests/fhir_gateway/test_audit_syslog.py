"""DICOM audit messages reach a TLS syslog receiver: in order, after an outage, only the right."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from access import AuditEventKind, AuditRecord, AuditSpool, SpoolReader
from access.audit.retention import Retention, retire
from fhir_gateway.audit import syslog
from fhir_gateway.audit.syslog import CURSOR, SyslogSender, SyslogTarget
from tests.dimse.certificates import Authority


class Receiver:
    """A syslog receiver over TLS (RFC 5425) that asks for a client certificate."""

    def __init__(self, authority, port=0):
        pair = authority.issue("receiver", "localhost")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._context.load_verify_locations(authority.bundle)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self.messages = []
        self._live = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self._live:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join(10)

    def _accept(self):
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._take, args=[plain], daemon=True).start()

    def _take(self, plain):
        try:
            connection = self._context.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        self._live.append(connection)
        with contextlib.suppress(OSError, ValueError), connection.makefile("rb") as stream:
            while head := _length(stream):
                self.messages.append(stream.read(head))


def _length(stream):
    digits = b""
    while (one := stream.read(1)) not in (b" ", b""):
        digits += one
    return int(digits) if digits else None


def studies(messages):
    found = []
    for message in messages:
        xml = ElementTree.fromstring(message.partition(b"\xef\xbb\xbf")[2])
        found.append(xml.find("ParticipantObjectIdentification").get("ParticipantObjectID"))
    return found


@pytest.fixture
def authority(tmp_path):
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Authority(folder)


@pytest.fixture
def receiver(authority):
    opened = Receiver(authority)
    yield opened
    with contextlib.suppress(OSError):
        opened.close()


def target_of(authority, port, **changes):
    pair = authority.issue("hilum")
    base = {"ca": authority.bundle, "certificate": pair.certificate, "key": pair.key}
    return SyslogTarget(host="localhost", port=port, **{**base, **changes})


@pytest.fixture
def spool(tmp_path):
    opened = AuditSpool(tmp_path / "spool", "web")
    yield opened
    opened.close()


def write(spool, *numbers):
    for n in numbers:
        spool.record(
            AuditRecord(
                action="R",
                event=AuditEventKind.RETRIEVE,
                outcome="success",
                caller=None,
                at=datetime.now(UTC),
                study=f"1.2.{n}",
            )
        )


@contextlib.asynccontextmanager
async def sending(folder, target):
    stop = asyncio.Event()
    task = asyncio.create_task(SyslogSender(folder, target).run(stop))
    yield
    stop.set()
    await asyncio.wait_for(task, 20)


async def until(condition, timeout_s=20):
    for _ in range(int(timeout_s / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("not in time")


async def test_records_arrive_in_order_as_dicom_audit_messages(
    tmp_path, spool, authority, receiver
):
    write(spool, *range(250))

    async with sending(tmp_path / "spool", target_of(authority, receiver.port)):
        await until(lambda: len(receiver.messages) >= 250)

    assert studies(receiver.messages) == [f"1.2.{n}" for n in range(250)]


async def test_an_outage_of_the_receiver_loses_nothing(tmp_path, spool, authority, receiver):
    async with sending(tmp_path / "spool", target_of(authority, receiver.port)):
        write(spool, 1)
        await until(lambda: receiver.messages)
        receiver.close()
        write(spool, 2)
        await asyncio.sleep(1.5)
        write(spool, 3)
        back = Receiver(authority, receiver.port)
        await until(lambda: len(back.messages) >= 2)
        back.close()

    assert studies(back.messages)[-2:] == ["1.2.2", "1.2.3"]


async def test_a_restart_goes_on_where_it_was(tmp_path, spool, authority, receiver):
    target = target_of(authority, receiver.port)
    write(spool, 1)
    async with sending(tmp_path / "spool", target):
        await until(lambda: receiver.messages)
    write(spool, 2)
    async with sending(tmp_path / "spool", target):
        await until(lambda: len(receiver.messages) >= 2)

    assert studies(receiver.messages) == ["1.2.1", "1.2.2"]


@pytest.mark.parametrize("harm", ["another authority", "another name"])
async def test_a_receiver_that_is_not_the_right_one_gets_nothing(
    tmp_path, spool, authority, receiver, harm
):
    folder = tmp_path / "others"
    folder.mkdir()
    other = Authority(folder, "Other CA")
    target = target_of(authority, receiver.port)
    if harm == "another authority":
        target = target_of(authority, receiver.port, ca=other.bundle)
    else:
        target = SyslogTarget(
            host="127.0.0.1", port=receiver.port, ca=target.ca, certificate=target.certificate
        )
    write(spool, 1)

    sender = SyslogSender(tmp_path / "spool", target)
    with pytest.raises((ssl.SSLError, OSError)):
        sender.send_once(SpoolReader(tmp_path / "spool", CURSOR))

    assert receiver.messages == []


async def test_what_the_receiver_does_not_have_stays_in_the_spool(
    tmp_path, spool, authority, receiver, monkeypatch
):
    monkeypatch.setattr("access.audit.spool.ROTATE_BYTES", 500)
    write(spool, *range(10))
    shipped = SpoolReader(tmp_path / "spool")
    shipped.acknowledge(shipped.next_batch(100))
    rule = Retention(keep_s=-1)

    before = retire(tmp_path / "spool", ["acknowledged", CURSOR], rule, spool)
    sender = SyslogSender(tmp_path / "spool", target_of(authority, receiver.port))
    while sender.send_once(SpoolReader(tmp_path / "spool", CURSOR)):
        pass
    sender.close()
    after = retire(tmp_path / "spool", ["acknowledged", CURSOR], rule, spool)

    assert before == 0
    assert after > 2


def test_only_tls_of_today_is_spoken(authority, receiver):
    context = target_of(authority, receiver.port).context()

    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert syslog.TIMEOUT_S > 0
