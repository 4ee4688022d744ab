"""The DIMSE services beside verification and storage, and the threads that work behind them."""

from __future__ import annotations

from dataclasses import dataclass

from archive import Archive
from archive.procedure import PerformedSteps
from archive.worklist import Worklist
from dimse.association.ledger import Ledger
from dimse.association.services import Service
from dimse.commitment import scp as commit
from dimse.commitment.table import CommitmentTable
from dimse.commitment.work import CommitConfig, CommitWorker
from dimse.peer_table import PeerTable
from dimse.query import scp as query
from dimse.retrieve import scp as retrieve
from dimse.routing.availability import AvailabilityConfig, AvailabilityNotifier
from dimse.routing.availability_table import AvailabilityTable
from dimse.routing.forward import ForwardRule
from dimse.routing.jobs import Jobs
from dimse.routing.priors_match import PriorsRule
from dimse.routing.rules import Rules, RulesConfig
from dimse.workflow import mpps, worklist
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
    rules: Rules
    transcoder: Transcoder

    def start(self) -> None:
        """Begin to work on what an earlier process left."""
        self.committing.start()
        self.notifying.start()
        self.rules.start()

    def close(self) -> None:
        """Finish what is under way; the rest is kept for the next start."""
        self.rules.close()
        self.notifying.close()
        self.committing.close()
        self.transcoder.close()


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
    transcoder = Transcoder(wiring.pixels_config(settings))
    moving = retrieve.Moving(calling, settings.retrieve.associations, transcoder)
    getting = retrieve.Getting(settings.retrieve.answer_s, transcoder)
    rules = Rules(archive, Jobs(dsn), peers.now, moving, ledger, rules_config(settings))
    services = [
        query.service(archive, ledger, query.QueryConfig(part.ae_title, part.query_limit)),
        worklist.service(Worklist(dsn), ledger, part.query_limit),
        mpps.service(PerformedSteps(dsn), ledger),
        commit.service(committing, table, ledger),
        retrieve.service(archive, peers.now, ledger, retrieve.RetrieveConfig(moving, getting)),
    ]
    return DimseServices(services, committing, notifying, rules, transcoder)


def rules_config(settings: Settings) -> RulesConfig:
    """The rules of the settings."""
    return RulesConfig(
        forward=tuple(
            ForwardRule(
                rule.name,
                rule.to,
                rule.modalities,
                rule.sop_classes,
                rule.calling_aes,
                rule.description,
            )
            for rule in settings.forward
        ),
        priors=tuple(PriorsRule(**rule.model_dump()) for rule in settings.priors),
        attempts=tuple((rule.name, rule.attempts) for rule in settings.forward),
    )
