"""A TCP relay that can be switched off or slowed down: a real server becomes really so."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable

GAP_S = 0.2


class Relay:
    """Forwards connections to a port of the loopback while it is open."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = True
        self.delay_s = 0.0
        self.short_by = 0  # bytes of an answer that do not arrive
        # What is done before the first request that holds some bytes goes on.
        self.before: tuple[bytes, Callable[[], object]] | None = None
        self._live: set[socket.socket] = set()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self.close()
        self._listener.close()

    def close(self):
        """Cut every connection and take no new one."""
        self._open = False
        for one in list(self._live):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def open(self):
        """Let connections through again."""
        self._open = True

    @property
    def connections(self):
        """How many go through it now."""
        return len(self._live) // 2

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._open:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            self._live |= {near, far}
            for pair in ((near, far), (far, near)):
                slowed = pair[0] is near
                threading.Thread(
                    target=self._copy, args=(*pair, slowed), name="relay", daemon=True
                ).start()

    def _copy(self, source, sink, slowed):
        began = 0.0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if slowed and time.monotonic() - began > GAP_S:
                    time.sleep(self.delay_s)  # once per request, not per piece of it
                began = time.monotonic()
                if slowed and self.before and self.before[0] in data:
                    (_, act), self.before = self.before, None
                    act()
                if not slowed and self.short_by:
                    sink.sendall(data[: -self.short_by])
                    break
                sink.sendall(data)
        for one in (source, sink):
            self._live.discard(one)
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
