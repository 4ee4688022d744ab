"""`hilum worklist`: the modality worklist by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from archive import ArchiveError
from archive.header import text
from archive.keys import DicomJson
from archive.worklist import STATUSES, Scheduled, Worklist, WorklistError
from archive.worklist_match import STEPS
from hilum.commands.console import DataOption, attached, fail, out
from hilum.commands.status import running_dsn

WIDTH = 180

app = typer.Typer(
    help="The modality worklist: what scanners are told to do next.", no_args_is_help=True
)


def _with_worklist(use: Callable[[Worklist], None], data: Path | None) -> None:
    settings, running = attached(data)
    try:
        use(Worklist(running_dsn(settings, running)))
    except (WorklistError, ArchiveError) as error:
        fail(error)


@app.command("add")
def add(
    path: Annotated[Path, typer.Argument(help="DICOM JSON, or a DICOM file such as DCMTK's .wl.")],
    key: Annotated[
        str | None, typer.Option(help="Names the order; the same key again replaces it.")
    ] = None,
    status: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(STATUSES)}. Default: as it is.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Put a worklist item here, or bring it up to date."""
    if status is not None and status not in STATUSES:
        fail(f"{status!r} is not a status; there are {', '.join(STATUSES)}")
    item = read_item(path)

    def put(worklist: Worklist) -> None:
        name = key or f"file:{text(item, 0x0020000D)}"
        steps = worklist.upsert(name, item, next((one for one in STATUSES if one == status), None))
        out.print(f"{name}: {steps} step{'s' if steps != 1 else ''}", highlight=False)

    _with_worklist(put, data)


@app.command("list")
def show(data: DataOption = None) -> None:
    """Show every step, open or not, without the patients' names."""

    def table(worklist: Worklist) -> None:
        found = Table(show_edge=False)
        found.add_column("key", no_wrap=True)  # to be copied into `remove`
        for name in ("step", "status", "starts", "station", "modality", "accession"):
            found.add_column(name, no_wrap=True)
        for one in worklist.list():
            found.add_row(*_cells(one))
        if not found.row_count:
            out.print("the worklist is empty")
            return
        # The keys of orders are long: a narrow terminal breaks lines, and nothing is cut short.
        Console(width=max(out.width, WIDTH)).print(found)

    _with_worklist(table, data)


@app.command("remove")
def remove(key: str, data: DataOption = None) -> None:
    """Take an order and all its steps off the worklist."""

    def drop(worklist: Worklist) -> None:
        if not worklist.remove(key):
            fail(f"the worklist holds nothing with the key {key!r}")
        out.print(f"{key} removed", highlight=False)

    _with_worklist(drop, data)


def _cells(one: Scheduled) -> tuple[str, ...]:
    step = one.item[STEPS]["Value"][0]
    day, time = text(step, 0x00400002), text(step, 0x00400003)
    return (
        one.source,
        one.step_id,
        one.status,
        f"{day} {time[:4]}",
        text(step, 0x00400001),
        text(step, 0x00080060),
        text(one.item, 0x00080050),
    )


def read_item(path: Path) -> DicomJson:
    """A worklist item from DICOM JSON or from a DICOM file."""
    try:
        if path.suffix.lower() == ".json":
            found: Any = json.loads(path.read_text(encoding="utf-8"))
            found = found[0] if isinstance(found, list) and len(found) == 1 else found
            if not isinstance(found, dict):
                fail(f"{path} does not hold one DICOM JSON object")
            return found
        from pydicom import dcmread

        document: DicomJson = dcmread(path, force=True).to_json_dict()
        return document
    # Whatever a file of somebody's own makes the readers trip over.
    except Exception as error:  # noqa: BLE001
        fail(f"{path} cannot be read as DICOM JSON or DICOM ({type(error).__name__})")
