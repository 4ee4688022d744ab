"""The DIMSE process, or several that share its ports."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Callable

from archive import Archive
from dimse.association.ledger import Ledger
from dimse.association.register import Most
from dimse.peer_table import PeerTable
from dimse.peers import Peers
from dimse.server import DimseConfig, DimseServer
from hilum import doorkeeping, marks, wiring
from hilum.dimse_services import services_of
from hilum.processes import memory
from hilum.processes.forked import Copies
from hilum.settings import Settings, SettingsError

DRAIN_S = 20.0
_KILL_S = 28.0


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; associations in progress may finish."""
    part = settings.dimse

    def ready() -> None:
        marks.say_ready(settings.data, "dimse")

    if part.processes == 1:
        _run(settings, 0, ready)
        return
    if 0 in (part.port, part.tls_port):
        raise SettingsError("dimse.processes needs ports with a number: they share them")
    Copies(part.processes, lambda number, said: _run(settings, number, said), ready, _KILL_S).run()


def _run(settings: Settings, number: int, ready: Callable[[], None]) -> None:
    """One process; the first of several also does the work that needs only one."""
    stop = threading.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        signal.signal(which, lambda *_: stop.set())
    _allow_descriptors()
    archive = Archive.open(wiring.archive_config(settings))
    audit = wiring.audit_spool(settings, "dimse" if number == 0 else f"dimse-{number + 1}")
    peers = PeerTable(Peers(wiring.database_url(settings)).dsn)
    admission = doorkeeping.admission(settings)
    behind = services_of(settings, archive, Ledger(audit), peers)
    server = DimseServer(
        dimse_config(settings),
        archive,
        audit,
        admission,
        behind.services,
        doorkeeping.server_tls(settings),
    )
    with wiring.on_record(audit):
        try:
            if number == 0:
                behind.start()
            server.start()
            memory.settle()
            ready()
            stop.wait()
            server.stop(DRAIN_S)
        finally:
            behind.close()
            admission.close()
            peers.close()
            archive.close()


def dimse_config(settings: Settings) -> DimseConfig:
    """The DIMSE door's configuration."""
    part = settings.dimse
    return DimseConfig(
        host=part.host,
        port=part.port if part.plain else None,
        tls_port=part.tls_port,
        shared_ports=part.processes > 1,
        ae_title=part.ae_title,
        extra_sop_classes=part.extra_sop_classes,
        most=Most(
            part.max_associations,
            part.max_associations_per_address,
            part.max_associations_per_title,
        ),
        idle_s=part.idle_s,
    )


def _allow_descriptors() -> None:
    """Each idle connection costs a descriptor, and many systems allow 1024 unless asked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
