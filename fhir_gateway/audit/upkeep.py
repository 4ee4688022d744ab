"""Once a day an anchor of the trail is signed and kept; what is past its time is removed."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from access import AccessError, AuditEventKind, AuditRecord, AuditSpool
from access.audit import anchor as anchors
from access.audit.reader import ACKNOWLEDGED
from access.audit.retention import Retention, retire
from fhir_gateway.audit.syslog import CURSOR, SyslogTarget

ROUND_S = 600.0
ANCHOR_EVERY = timedelta(days=1)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailConfig:
    """How the audit trail of this machine is kept.

    Attributes:
        keys: folder with the key that signs anchors; None signs none.
        retention: how long records stay in the spool after they were shipped.
        syslog: where DICOM audit messages are sent; None sends none.
    """

    keys: Path | None = None
    retention: Retention = field(default_factory=Retention)
    syslog: SyslogTarget | None = None


class Upkeep:
    """The care of one spool folder; one runs per folder."""

    def __init__(self, folder: Path, config: TrailConfig) -> None:
        self._folder = folder
        self._config = config

    async def run(self, stop: asyncio.Event) -> None:
        """Look after the spool until told to stop."""
        spool = await asyncio.to_thread(AuditSpool, self._folder, "trail")
        try:
            while not stop.is_set():
                await asyncio.to_thread(self.round, spool)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), ROUND_S)
        finally:
            await asyncio.to_thread(spool.close)

    def round(self, spool: AuditSpool) -> None:
        """Anchor if a day has gone by, and retire what is past its time.

        Neither holds up the other: with anchors that cannot be read the disk must not fill.
        """
        for work in (self._anchor, self._retire):
            try:
                work(spool)
            except (AccessError, OSError) as error:
                log.error("audit.upkeep_failed", reason=f"{type(error).__name__} {error}")

    def _retire(self, spool: AuditSpool) -> None:
        readers = [ACKNOWLEDGED, *([CURSOR] if self._config.syslog else [])]
        retire(self._folder, readers, self._config.retention, spool)

    def _anchor(self, spool: AuditSpool) -> None:
        keys = self._config.keys
        if keys is None:
            return
        key = anchors.load_or_create_key(keys)
        before = anchors.stored(self._folder, key)
        if before and datetime.now(UTC) - before[-1].at < ANCHOR_EVERY:
            return
        anchor = anchors.take(self._folder)
        if not anchor.heads:
            return
        anchors.store(self._folder, anchors.sign(anchor, key))
        heads = "; ".join(f"{c} {one.sequence} {one.digest}" for c, one in anchor.heads.items())
        # It goes to the FHIR store as well, which is another place than the spool.
        spool.record(
            AuditRecord(
                action="R",
                event=AuditEventKind.ANCHOR,
                outcome="success",
                caller=None,
                at=anchor.at,
                resource="audit",
                detail=heads,
            )
        )
