"""`make demo`: a synthetic study goes through the whole path, by the protocols alone."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

from rich.console import Console

from dimse.peers import Peer
from dimse.scu.echo_store import send
from hilum.commands.minting import mint
from hilum.demo_checks import Check, Journey, check_all
from hilum.example.series import DEMO_CASE, write_study
from hilum.running import START_ERRORS, running_stack, show_addresses
from hilum.settings import Settings
from hilum.stack import EVERY_PORT, Stack

SCOPE = "system/*.rs"


async def run_demo(settings: Settings, *, once: bool, out: Console) -> int:
    """Start the stack, send the study, show what became of it.

    Returns:
        Exit status: 0 when every check holds.
    """
    try:
        async with running_stack(settings, None, out, EVERY_PORT) as stack:
            good = await _journey(stack, out)
            if once:
                return 0 if good else 1
            show_addresses(stack, out)
            await asyncio.Event().wait()
    except START_ERRORS as error:
        out.print(f"[red]not started:[/red] {error}", highlight=False, soft_wrap=True)
        return 1
    return 0


async def _journey(stack: Stack, out: Console) -> bool:
    settings = stack.settings
    with tempfile.TemporaryDirectory(prefix="hilum-demo-") as folder:
        paths = await asyncio.to_thread(write_study, DEMO_CASE, Path(folder))
        out.print(
            f"[bold]sending[/bold] {len(paths)} instances (T1, T1c, T2, FLAIR) by C-STORE",
            highlight=False,
        )
        begin = time.monotonic()
        await asyncio.to_thread(_send, settings, paths, out)
        sent = time.monotonic()
        journey = Journey(
            base=settings.base_url,
            token=mint(settings, subject="demo", scope=SCOPE, lifetime="1h"),
            first_file=paths[0],
            instances=len(paths),
            case=DEMO_CASE,
            send_seconds=sent - begin,
            sent_at=sent,
        )
        checks = await check_all(journey, settings)
    _show(checks, journey, out)
    return all(check.good for check in checks)


def _send(settings: Settings, paths: list[Path], out: Console) -> None:
    part = settings.dimse
    results = send(Peer("demo", part.ae_title, "127.0.0.1", part.port), paths)
    refused = [result for result in results if not result.ok]
    if refused:
        out.print(f"[red]{len(refused)} instances refused:[/red] {refused[0].text}")


def _show(checks: list[Check], journey: Journey, out: Console) -> None:
    out.print("[bold]what became of the study[/bold]")
    for check in checks:
        mark = "[green]  ok  [/green]" if check.good else "[red]FAILED[/red]"
        after = "" if check.seconds is None else f"{check.seconds:5.1f} s"
        out.print(f"{mark} {check.step:34} {after:8} ", end="", highlight=False)
        # Long links stay on one line of text, so that a terminal can open them.
        out.print(check.result, highlight=False, soft_wrap=True, markup=False)
    out.print(
        f"Seconds count from the last instance sent; sending took {journey.send_seconds:.1f} s. "
        "The links need a token: hilum token --scope 'system/*.rs'. "
        "For the study list at /ohif/ make a user: hilum users add NAME --role radiologist.",
        highlight=False,
        soft_wrap=True,
    )
