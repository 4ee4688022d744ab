"""The peer table as a server needs it: in memory, at most a second old, never waited for."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import psycopg
import structlog

from dimse.peers import Peer, read_peers

log = structlog.get_logger(__name__)

REFRESH_S = 1.0
_PATIENCE_S = 5


class PeerTable:
    """A copy of the peer table that a thread of its own keeps fresh.

    The accept loop asks it for each connection, so that it must not query: while the database is
    away the last copy counts.
    """

    def __init__(self, dsn: str | None = None, refresh_s: float = REFRESH_S) -> None:
        self._dsn = dsn
        self._refresh_s = refresh_s
        self._peers: tuple[Peer, ...] = ()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        if dsn is not None:
            with psycopg.connect(dsn, connect_timeout=_PATIENCE_S) as connection:
                self._peers = tuple(read_peers(connection))
            self._thread = threading.Thread(target=self._run, name="dimse-peers", daemon=True)
            self._thread.start()

    def now(self) -> Sequence[Peer]:
        """The peers by name."""
        return self._peers

    def close(self) -> None:
        """Stop keeping it fresh."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._refresh_s):
            try:
                self._follow()
            except psycopg.Error as error:
                log.warning("peer table not read", error=type(error).__name__)

    def _follow(self) -> None:
        """Read it again and again over one connection."""
        with psycopg.connect(
            self._dsn or "", connect_timeout=_PATIENCE_S, autocommit=True
        ) as connection:
            connection.execute(b"set statement_timeout = '5s'")
            while True:
                self._peers = tuple(read_peers(connection))
                if self._stopping.wait(self._refresh_s):
                    return
