"""The DIMSE process."""

from __future__ import annotations

import signal
import threading

from archive import Archive
from dimse.server import DimseConfig, DimseServer
from hilum import marks, wiring
from hilum.settings import Settings

DRAIN_S = 20.0


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; associations in progress may finish."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    archive = Archive.open(wiring.archive_config(settings))
    audit = wiring.audit_spool(settings, "dimse")
    server = DimseServer(dimse_config(settings), archive, audit)
    try:
        server.start()
        marks.say_ready(settings.data, "dimse")
        stop.wait()
        server.stop(DRAIN_S)
    finally:
        archive.close()
        audit.close()


def dimse_config(settings: Settings) -> DimseConfig:
    """The DIMSE door's configuration."""
    part = settings.dimse
    return DimseConfig(
        host=part.host,
        port=part.port,
        ae_title=part.ae_title,
        extra_sop_classes=part.extra_sop_classes,
    )
