"""The DIMSE process."""

from __future__ import annotations

import signal
import threading

from archive import Archive
from dimse.admission import Admission, AdmissionConfig
from dimse.ledger import Ledger
from dimse.peer_table import PeerTable
from dimse.peers import Peers
from dimse.server import DimseConfig, DimseServer
from hilum import marks, wiring
from hilum.dimse_services import services_of
from hilum.settings import Settings

DRAIN_S = 20.0


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; associations in progress may finish."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    archive = Archive.open(wiring.archive_config(settings))
    audit = wiring.audit_spool(settings, "dimse")
    peers = PeerTable(Peers(wiring.database_url(settings)).dsn)
    admission = Admission(admission_config(settings), peers)
    behind = services_of(settings, archive, Ledger(audit), peers)
    server = DimseServer(dimse_config(settings), archive, audit, admission, behind.services)
    try:
        behind.start()
        server.start()
        marks.say_ready(settings.data, "dimse")
        stop.wait()
        server.stop(DRAIN_S)
    finally:
        behind.close()
        peers.close()
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


def admission_config(settings: Settings) -> AdmissionConfig:
    """Who may open associations."""
    return AdmissionConfig(ae_title=settings.dimse.ae_title)
