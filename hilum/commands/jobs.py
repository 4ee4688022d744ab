"""`hilum jobs`: what forwarding and priors have to do, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.markup import escape
from rich.table import Table

from dimse.routing.jobs import Job, JobError, Jobs
from hilum.commands.console import DataOption, database_of, fail, out

app = typer.Typer(
    help="What is being forwarded and fetched by rule, and what failed.", no_args_is_help=True
)
NumberArgument = Annotated[int, typer.Argument(metavar="ID", help="As `hilum jobs list` shows it.")]

_COLOUR = {"failed": "red", "running": "green", "waiting": "yellow"}


@contextmanager
def _jobs(data: Path | None) -> Iterator[Jobs]:
    try:
        yield Jobs(database_of(data))
    except JobError as error:
        fail(error)
    except psycopg.OperationalError as error:
        fail(f"the database does not answer: {error}")


@app.command("list")
def show(
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that are done or cancelled.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
    data: DataOption = None,
) -> None:
    """Show what waits, runs or has failed."""
    with _jobs(data) as jobs:
        found = jobs.list(everything=everything, limit=limit)
        table = Table(
            "id", "what", "rule", "peer", "study", "left", "state", "why", show_edge=False
        )
        for job in found:
            colour = _COLOUR.get(job.state)
            state = f"[{colour}]{job.state}[/{colour}]" if colour else job.state
            table.add_row(
                *(str(job.id), job.kind, job.rule, job.peer, job.study),
                *(f"{len(job.instances)}/{job.total}" if job.total else "", state, _why(job)),
            )
        out.print(
            table if found else "no jobs; rules are in hilum.toml, [[forward]] and [[priors]]"
        )


@app.command("retry")
def retry(number: NumberArgument, data: DataOption = None) -> None:
    """Try a job again now: one that failed, was cancelled or waits."""
    with _jobs(data) as jobs:
        jobs.retry(number)
        out.print(f"job {number} is tried again", highlight=False)


@app.command("cancel")
def cancel(number: NumberArgument, data: DataOption = None) -> None:
    """Do not try a job any more; the next ones of its peer go on."""
    with _jobs(data) as jobs:
        jobs.cancel(number)
        out.print(f"job {number} is cancelled", highlight=False)


def _why(job: Job) -> str:
    wait_s = (job.due - datetime.now(UTC)).total_seconds()
    again = f"again in {wait_s:.0f} s: " if job.state == "waiting" and wait_s > 0 else ""
    return escape(again + job.message)
