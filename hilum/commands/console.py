"""What every command shares: output, errors, the settings, the running stack it works on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from hilum import marks, wiring
from hilum import settings as settings_module
from hilum.settings import Settings, SettingsError

out = Console()
err = Console(stderr=True)

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data folder (HILUM_DATA; default ./var).")
]


def fail(message: object) -> NoReturn:
    """Say what is wrong on standard error and leave with status 1."""
    err.print(f"[red]hilum:[/red] {escape(str(message))}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def read_settings(data: Path | None = None, **overrides: Any) -> Settings:
    """The settings, or a message and exit status 1."""
    if data is not None:
        overrides["data"] = data
    try:
        return settings_module.load(**overrides)
    except SettingsError as error:
        fail(error)


def attached(data: Path | None = None) -> tuple[Settings, dict[str, Any]]:
    """Settings and addresses of the `hilum up` that runs on the data folder."""
    found = read_settings(data)
    running = marks.running(found.data)
    if running is None:
        fail(
            f"nothing runs on {found.data.resolve()}; start it with `hilum up`, or name the data "
            f"folder with --data or HILUM_DATA"
        )
    base = running["fhir"].removesuffix("/fhir")
    http = found.http.model_copy(update={"public_url": base})
    return found.model_copy(update={"http": http, "data": Path(running["data"])}), running


def database_of(data: Path | None = None) -> str:
    """URL of our database: of the running stack, or the one that the settings name."""
    from hilum.commands.status import running_dsn

    found = read_settings(data)
    if marks.running(found.data) is None and found.database.url is not None:
        return wiring.database_url(found)
    return running_dsn(*attached(data))
