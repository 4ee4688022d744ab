"""`hilum up`: the stack in the foreground."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console

from hilum.processes.fhir_store import FhirStoreError
from hilum.processes.postgres import PostgresError
from hilum.processes.supervise import PartFailed
from hilum.settings import Settings, SettingsError
from hilum.stack import INTERNAL, Stack, StackError, with_ports

START_ERRORS = (StackError, PartFailed, FhirStoreError, PostgresError, SettingsError)


@contextlib.asynccontextmanager
async def running_stack(
    settings: Settings,
    ready_file: Path | None,
    out: Console,
    may_move: frozenset[str] = INTERNAL,
) -> AsyncIterator[Stack]:
    """The stack, ready; stopped in order at the end, also when cancelled."""
    stack = Stack(with_ports(settings, may_move), lambda line: out.print(f"  {line}"), ready_file)
    out.print(f"[bold]starting[/bold] (data in {settings.data.resolve()})", highlight=False)
    await stack.start()
    out.print(f"[bold green]ready[/bold green] after {stack.seconds['all']:.1f} s")
    try:
        yield stack
    finally:
        # A second Ctrl-C must not cut the orderly stop short.
        await asyncio.shield(stack.stop())
        out.print("stopped")


async def run_stack(settings: Settings, ready_file: Path | None, out: Console) -> int:
    """Run until cancelled. Returns the exit status."""
    try:
        async with running_stack(settings, ready_file, out) as stack:
            show_addresses(stack, out)
            await asyncio.Event().wait()
    except START_ERRORS as error:
        out.print(f"[red]not started:[/red] {error}", highlight=False, soft_wrap=True)
        return 1
    return 0


def show_addresses(stack: Stack, out: Console) -> None:
    """Print where each door is."""
    found = stack.addresses()
    dimse = found["dimse"]
    for name, value in (
        ("FHIR", found["fhir"]),
        ("DICOMweb", found["dicomweb"]),
        ("DIMSE", f"{dimse['aet']}@{dimse['host']}:{dimse['port']}"),
        ("viewer", found["ohif"]),
        ("token", "hilum token --scope 'system/*.rs'"),
    ):
        out.print(f"  {name:9} {value}", highlight=False)
    out.print("Ctrl-C stops everything.")
