"""The rules at work: a thread reads the archive's feed, and what it orders is done by lanes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import psycopg
import structlog

from archive import Archive, ArchiveError
from dimse.association.ledger import Ledger
from dimse.peers import Peer
from dimse.retrieve.move import Moving
from dimse.routing.forward import Forwarding, ForwardRule
from dimse.routing.job_runner import JobRunner, Patience
from dimse.routing.jobs import Jobs
from dimse.routing.priors import Priors
from dimse.routing.priors_match import PriorsRule

log = structlog.get_logger(__name__)

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class RulesConfig:
    """The rules, and how patiently they are carried out.

    Attributes:
        attempts: Of forwarding rules that have a number of their own, by name.
        look_s: How often the feed and the table are looked at.
    """

    forward: tuple[ForwardRule, ...] = ()
    priors: tuple[PriorsRule, ...] = ()
    attempts: tuple[tuple[str, int], ...] = ()
    patience: Patience = field(default_factory=Patience)
    look_s: float = 1.0

    def patience_of(self, rule: str) -> Patience:
        """The patience of a rule."""
        for name, attempts in self.attempts:
            if name == rule:
                patience = self.patience
                return Patience(attempts, patience.first_s, patience.longest_s, patience.days)
        return self.patience


class Rules:
    """Forwarding and priors. Without a rule, and without a job left of one, nothing runs."""

    def __init__(
        self,
        archive: Archive,
        jobs: Jobs,
        peers: Callable[[], Sequence[Peer]],
        moving: Moving,
        ledger: Ledger,
        config: RulesConfig,
    ) -> None:
        self._archive = archive
        self._jobs = jobs
        self._config = config
        self._forwarding = Forwarding(archive, peers, config.forward, moving, ledger)
        self._priors = Priors(archive, jobs, peers, config.priors, moving.calling, ledger)
        self._stopping = threading.Event()
        self._reader = threading.Thread(target=self._run, name="dimse-rules", daemon=True)
        self._runner = JobRunner(
            jobs,
            {
                "forward": self._forwarding.carry_out,
                "priors": self._priors.look,
                "fetch": self._priors.fetch,
            },
            config.patience_of,
            config.look_s,
        )

    def start(self) -> None:
        """Begin, if there is anything to do."""
        if self._config.forward or self._config.priors:
            # What was there before the first rule is not sent on.
            self._jobs.cursor(self._archive.last_change())
            self._reader.start()
            self._runner.start()
        elif any(job.state in ("waiting", "running") for job in self._jobs.list()):
            self._runner.start()

    def close(self) -> None:
        """Stop in order; what is left is done after the next start."""
        self._stopping.set()
        if self._reader.is_alive():
            self._reader.join()
        self._runner.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._jobs.alone("rules") as mine:
                    while mine and not self._stopping.is_set():
                        if not self._step():
                            self._stopping.wait(self._config.look_s)
            except (psycopg.Error, ArchiveError) as error:
                log.warning("rules wait", error=type(error).__name__)
            # The end of a thread: whatever it is, the rules must not stay off in silence.
            except Exception:
                log.exception("rules failed")
            self._stopping.wait(self._config.look_s)

    def _step(self) -> bool:
        """Read some of the feed; whether there was anything."""
        changes = self._archive.changes(self._jobs.cursor(0), _CHUNK)
        if not changes:
            return False
        try:
            orders = [*self._forwarding.orders(changes), *self._priors.orders(changes)]
            self._jobs.add(orders, changes[-1].sequence)
        except BaseException:
            self._priors.forget()
            raise
        return True
