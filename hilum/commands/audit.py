"""`hilum audit`: anchors of the audit trail, and whether it is as it was written."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import orjson
import typer

from access.audit import anchor as anchors
from access.audit.verify import Finding, Report, verify
from fhir_gateway.audit.compare import compare
from hilum import marks, wiring
from hilum.commands.console import DataOption, attached, fail, out, read_settings
from hilum.commands.minting import mint
from hilum.settings import Settings
from records import Records, RecordsError

SCOPE = "system/AuditEvent.rs"

app = typer.Typer(
    help="The audit trail: anchors of it, and whether it is as it was written.",
    no_args_is_help=True,
)


@app.command("anchor")
def anchor(
    to: Annotated[
        Path | None, typer.Option(help="Write it to this file. Default: standard output.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Sign how far each chain of the trail has come. Keep the text where nobody edits it."""
    settings = _settings(data)
    key = anchors.load_or_create_key(wiring.keys_folder(settings))
    taken = anchors.take(wiring.audit_folder(settings))
    signed = {**taken.json, "signed": anchors.sign(taken, key)}
    text = orjson.dumps(signed, option=orjson.OPT_INDENT_2).decode() + "\n"
    if to is None:
        typer.echo(text, nl=False)
    else:
        to.write_text(text)


@app.command("verify")
def check(
    anchor_file: Annotated[
        list[Path] | None,
        typer.Option("--anchor", help="An anchor that was exported earlier; may be repeated."),
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Compare with the AuditEvents in HAPI as well.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Walk the trail and name records that were removed, changed, reordered or cut off.

    The exit status is 1 when there is one.
    """
    settings = _settings(data)
    folder = wiring.audit_folder(settings)
    try:
        known = _anchors(settings, anchor_file or [])
        report = verify(folder, known)
        if store:
            running, addresses = attached(data)
            report.findings += asyncio.run(_compared(running, addresses["fhir"], folder))
    except (anchors.AnchorInvalid, RecordsError, OSError) as error:
        fail(error)
    _print(report, len(known))
    raise typer.Exit(1 if report.findings else 0)


def _settings(data: Path | None) -> Settings:
    """Of the running stack, else as they stand: a trail is also checked when nothing runs."""
    found = read_settings(data)
    return found if marks.running(found.data) is None else attached(data)[0]


def _anchors(settings: Settings, files: list[Path]) -> list[anchors.Anchor]:
    folder = wiring.audit_folder(settings)
    key = anchors.load_or_create_key(wiring.keys_folder(settings))
    found = anchors.stored(folder, key)
    for path in files:
        try:
            text = str(orjson.loads(path.read_bytes())["signed"])
        except (ValueError, KeyError, TypeError) as error:
            raise anchors.AnchorInvalid(f"{path} holds no anchor") from error
        found.append(anchors.opened(text, key))
    return found


async def _compared(settings: Settings, base: str, folder: Path) -> list[Finding]:
    """By way of the FHIR door, as anybody would who may read the trail."""
    token = mint(settings, subject="operator", scope=SCOPE, lifetime="1h")
    headers = {"Authorization": f"Bearer {token}"}
    async with Records(base, lambda method, path: headers) as records:  # noqa: ARG005
        return [one async for one in compare(folder, records)]


def _print(report: Report, anchors_used: int) -> None:
    for chain, (first, last) in report.ends.items():
        out.print(f"{chain}: records {first} to {last}", highlight=False)
    for note in report.repairs:
        out.print(f"note: {note}", highlight=False, soft_wrap=True)
    for finding in report.findings:
        out.print(f"[red]{finding}[/red]", highlight=False, soft_wrap=True)
    verdict = f"{len(report.findings)} findings" if report.findings else "as it was written"
    out.print(f"{report.records} records, {anchors_used} anchors: {verdict}", highlight=False)
