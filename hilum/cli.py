"""The `hilum` command."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from access.errors import AccessError
from hilum import logs, marks
from hilum import settings as settings_module
from hilum.commands import audit as audit_commands
from hilum.commands import clients as client_commands
from hilum.commands import dicom as dicom_commands
from hilum.commands import jobs as job_commands
from hilum.commands import peers as peer_commands
from hilum.commands import users as user_commands
from hilum.commands import worklist as worklist_commands
from hilum.commands.console import DataOption, attached, fail, out, read_settings
from hilum.processes import memory
from hilum.settings import Settings, SettingsError

app = typer.Typer(
    name="hilum",
    help="Hilum: a study comes in by DICOM, FHIR resources, AI results and a report come out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(peer_commands.app, name="peers")
dicom_commands.register(app)
app.add_typer(job_commands.app, name="jobs")
app.add_typer(audit_commands.app, name="audit")
app.add_typer(client_commands.app, name="clients")
app.add_typer(user_commands.app, name="users")
app.add_typer(worklist_commands.app, name="worklist")


@app.command()
def up(
    data: DataOption = None,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="Write JSON with the addresses and process ids here when all is ready."),
    ] = None,
) -> None:
    """Run everything on this machine, in the foreground, until Ctrl-C."""
    from hilum.running import run_stack

    logs.configure()
    raise typer.Exit(run_until_signal(run_stack(read_settings(data), ready_file, out)))


def run_until_signal(work: Coroutine[Any, Any, int]) -> int:
    """Run to the end; SIGINT and SIGTERM cancel it, and it may then stop in order."""

    async def main() -> int:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return 0

    return asyncio.run(main())


def _process(start: Callable[[Settings], None], data: Path | None) -> None:
    logs.configure()
    memory.bound_arenas()
    try:
        start(read_settings(data))
    except SettingsError as error:
        fail(error)


@app.command()
def web(data: DataOption = None) -> None:
    """Run the web process alone: FHIR, DICOMweb, OHIF and the hooks on one port."""
    from hilum.web import serve

    _process(serve, data)


@app.command()
def dimse(data: DataOption = None) -> None:
    """Run the DIMSE process alone: storage, queries, retrieval, worklist and the rest of DICOM."""
    from hilum.dimse_process import serve

    _process(serve, data)


@app.command()
def hapi(data: DataOption = None) -> None:
    """Run the HAPI FHIR server alone, on a prepared database."""
    from hilum.hapi_process import serve

    _process(serve, data)


@app.command()
def worker(data: DataOption = None) -> None:
    """Run a worker alone: inference and reports. Start several for more throughput."""
    from hilum.worker import serve

    _process(serve, data)


@app.command()
def status(data: DataOption = None) -> None:
    """Show each part, whether it answers, and what waits in the queue."""
    from hilum.commands.status import show

    found, running = attached(data)
    raise typer.Exit(show(found, running, out))


@app.command()
def token(
    scope: Annotated[
        str, typer.Option(help="SMART v2 scopes, for example 'system/*.rs'.")
    ] = "system/*.rs",
    lifetime: Annotated[str, typer.Option(help="For example 15m, 8h, 30d (at most 30d).")] = "1h",
    study: Annotated[
        list[str] | None, typer.Option(help="Limit it to this Study Instance UID (repeatable).")
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="Id of the Patient that `patient/` scopes are about.")
    ] = None,
    subject: Annotated[str, typer.Option(help="Whom the audit names.")] = "operator",
    data: DataOption = None,
) -> None:
    """Mint an access token with the key of the data folder, and print it."""
    from hilum.commands.minting import mint

    found = read_settings(data)
    running = marks.running(found.data)
    if running is not None:
        found, _ = attached(data)
    try:
        text = mint(
            found, subject=subject, scope=scope, lifetime=lifetime, studies=study, patient=patient
        )
    except (ValueError, AccessError) as error:
        fail(error)
    typer.echo(text)


@app.command(name="export")
def export_command(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    group: Annotated[str | None, typer.Option(help="Id of a Group: only its members.")] = None,
    patients: Annotated[
        bool, typer.Option("--patients", help="Patient-level export instead of all.")
    ] = False,
    types: Annotated[
        str | None, typer.Option("--type", help="Resource types, comma separated.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only what changed since this instant.")] = None,
    form: Annotated[
        Literal["ndjson", "parquet"], typer.Option("--format", help="Form of the files.")
    ] = "ndjson",
    data: DataOption = None,
) -> None:
    """Export FHIR resources in bulk ($export); the same command goes on after a break."""
    from hilum.commands.exporting import Request, run_export

    found, running = attached(data)
    request = Request(folder, group=group, patients=patients, types=types, since=since, form=form)
    raise typer.Exit(run_export(found, running, request, out))


@app.command(name="settings")
def settings_command(data: DataOption = None) -> None:
    """List every setting: value, environment variable, default, meaning."""
    table = Table("setting", "value", "environment", "meaning", title="Settings", show_lines=True)
    for row in settings_module.rows(read_settings(data)):
        table.add_row(row.name, row.value, row.variable, row.description)
    out.print(table)


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Check each step, stop everything, exit 0 or 1.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Start everything, send a synthetic brain MR study, show what became of it."""
    from hilum.demo import run_demo

    logs.configure()
    raise typer.Exit(run_until_signal(run_demo(read_settings(data), once=once, out=out)))


def main() -> None:
    """Entry point of the `hilum` command."""
    app()
