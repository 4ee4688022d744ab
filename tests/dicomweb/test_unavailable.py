"""When the database is away: 503 with Retry-After, and everything works again when it is back."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import psycopg.conninfo
import pytest

from tests.dicomweb.server import file_of, running, slice_of, url_of


class Cable:
    """A TCP relay to PostgreSQL that can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._live: list[socket.socket] = []
        self.whole = True
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.whole = False
        for one in self._live:
            with_no_error(one.shutdown, socket.SHUT_RDWR)
            one.close()
        self._live.clear()

    def mend(self) -> None:
        self.whole = True

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self.whole:
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._live += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, sink), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        with_no_error(sink.shutdown, socket.SHUT_RDWR)


def with_no_error(call, *arguments) -> None:
    with suppress(OSError):
        call(*arguments)


@contextmanager
def on_a_cable(dsn):
    parts = psycopg.conninfo.conninfo_to_dict(dsn)
    cable = Cable(str(parts.get("host", "127.0.0.1")), int(parts.get("port", 5432)))
    with closing(cable):
        parts |= {"host": "127.0.0.1", "port": cable.port}
        yield cable, psycopg.conninfo.make_conninfo(**parts)


@pytest.mark.slow
def test_without_the_database_it_is_503_and_afterwards_all_is_well(dsn, tmp_path):
    first, second = slice_of(), slice_of()
    with on_a_cable(dsn) as (cable, through), running(through, tmp_path) as server:
        assert server.stow(file_of(first)).status_code == 200
        cable.cut()
        with server.client() as web, ThreadPoolExecutor() as together:
            asked = [
                together.submit(web.get, "/studies"),
                together.submit(web.get, url_of(first) + "/metadata"),
                together.submit(web.delete, url_of(first)),
                together.submit(server.stow, file_of(second)),
            ]
            away = [one.result() for one in asked]
            cable.mend()
            back = [
                web.get(url_of(first) + "/metadata"),
                server.stow(file_of(second)),
                web.get(url_of(second)),
            ]

    assert [one.status_code for one in away] == [503] * 4
    assert all(one.headers["retry-after"] for one in away[:3])
    assert all(one.json()["advice"] for one in away[:3])
    assert [one.status_code for one in back] == [200] * 3
