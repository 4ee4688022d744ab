"""The DIMSE services beside verification and storage, and the threads that work behind them."""

from __future__ import annotations

from dataclasses import dataclass

from archive import Archive
from archive.procedure import PerformedSteps
from archive.worklist import Worklist
from dimse import commit, mpps, query, retrieve, worklist
from dimse.availability import AvailabilityConfig, AvailabilityNotifier
from dimse.availability_table import AvailabilityTable
from dimse.commit_table import CommitmentTable
from dimse.commit_work import CommitConfig, CommitWorker
from dimse.ledger import Ledger
from dimse.peer_table import PeerTable
from dimse.scu_negotiation import Calling
from dimse.services import Service
from hilum import wiring
from hilum.peering import calling_of
from hilum.settings import Settings
from pixels import Transcoder


@dataclass(slots=True)
class DimseServices:
    """What a DIMSE server is given. Start it before the server, close it after."""

    services: list[Service]
    committing: CommitWorker
    notifying: AvailabilityNotifier

    def start(self) -> None:
        """Begin to work on what an earlier process left."""
        self.committing.start()
        self.notifying.start()

    def close(self) -> None:
        """Finish what is under way; the rest is kept for the next start."""
        self.notifying.close()
        self.committing.close()


def services_of(
    settings: Settings, archive: Archive, ledger: Ledger, peers: PeerTable
) -> DimseServices:
    """Every service, configured."""
    part, dsn = settings.dimse, wiring.database_url(settings)
    calling = calling_of(settings)
    table = CommitmentTable(dsn)
    committing = CommitWorker(archive, table, peers, CommitConfig(calling=calling))
    notifying = AvailabilityNotifier(
        archive,
        AvailabilityTable(dsn),
        peers,
        AvailabilityConfig(part.notify_availability, calling),
    )
    services = [
        query.service(archive, ledger, query.QueryConfig(part.ae_title, part.query_limit)),
        worklist.service(Worklist(dsn), ledger, part.query_limit),
        mpps.service(PerformedSteps(dsn), ledger),
        commit.service(committing, table, ledger),
        retrieve.service(archive, peers.now, ledger, _retrieve_config(settings, calling)),
    ]
    return DimseServices(services, committing, notifying)


def _retrieve_config(settings: Settings, calling: Calling) -> retrieve.RetrieveConfig:
    transcoder = Transcoder(wiring.pixels_config(settings))
    return retrieve.RetrieveConfig(
        retrieve.Moving(calling, settings.retrieve.associations, transcoder),
        retrieve.Getting(settings.retrieve.answer_s, transcoder),
    )
