"""`hilum send`: DICOM files to a peer by C-STORE, or to ourselves by STOW-RS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from pydicom.misc import is_dicom
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dimse.peers import PeerError
from dimse.scu.echo_store import AssociationFailed, SendResult, send
from hilum import wiring
from hilum.commands.console import attached, read_settings
from hilum.commands.minting import mint
from hilum.peering import calling_of, peer_named
from hilum.settings import Settings
from pixels import Transcoder

PART_BYTES = 1024 * 1024
PER_REQUEST = 50  # instances in one STOW request: progress is seen, and little is sent twice
SEND_ERRORS = (OSError, ValueError, httpx.HTTPError, PeerError, AssociationFailed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file."""

    path: Path
    stored: bool
    text: str


@dataclass(frozen=True, slots=True)
class Route:
    """Where files go and how. `to`: a peer's name or AET@HOST:PORT; None is ourselves."""

    to: str | None = None
    stow: bool = False
    associations: int = 1
    tls: bool = False
    title: str | None = None
    data: Path | None = None


def send_files(paths: Sequence[Path], route: Route, out: Console) -> int:
    """Send, with a progress bar. Returns the exit status."""
    files, others = find_files(paths)
    if not files:
        out.print("[red]nothing to send:[/red] no DICOM file (Part 10) under the given paths")
        return 1
    if route.stow and route.to:
        out.print("[red]hilum:[/red] --stow sends to ourselves; leave --to out")
        return 1
    columns = (TextColumn("sending"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out) as progress:
        bar = progress.add_task("sending", total=len(files))
        try:
            results = _send(files, route, lambda: progress.advance(bar))
        except SEND_ERRORS as error:
            out.print(f"[red]not sent:[/red] {error}", highlight=False, soft_wrap=True)
            return 1
    return _report(results, others, out)


def _send(files: list[Path], route: Route, advance: Callable[[], None]) -> list[Outcome]:
    if route.stow:
        settings, running = attached(route.data)
        return list(_stow(files, settings, running, advance))
    settings = read_settings(route.data)
    peer = peer_named(route.to, route.data, tls=route.tls)

    def on_result(_: SendResult) -> None:
        advance()

    # It starts no process before an image must be transcoded.
    transcoder = Transcoder(wiring.pixels_config(settings))
    try:
        results = send(
            peer,
            files,
            calling=calling_of(settings, route.title),
            progress=on_result,
            associations=route.associations,
            transcoder=transcoder,
        )
    finally:
        transcoder.close()
    return [Outcome(one.path, one.ok, one.text) for one in results]


def _report(results: list[Outcome], others: int, out: Console) -> int:
    refused = [one for one in results if not one.stored]
    for one in refused[:20]:
        out.print(f"  [red]refused[/red] {one.path}: {one.text}", highlight=False, soft_wrap=True)
    if len(refused) > 20:
        out.print(f"  and {len(refused) - 20} more")
    passed_over = f", {others} other files passed over" if others else ""
    out.print(f"{len(results) - len(refused)} of {len(results)} instances stored{passed_over}")
    return 1 if refused else 0


def find_files(paths: Sequence[Path]) -> tuple[list[Path], int]:
    """The Part 10 files among the paths and below them, and the number of other files."""
    files, others = [], 0
    for path in _walk(paths):
        if is_dicom(path) and path.name.upper() != "DICOMDIR":
            files.append(path)
        else:
            others += 1
    return files, others


def _walk(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (one for one in sorted(path.rglob("*")) if one.is_file())
        else:
            yield path


def _stow(
    files: list[Path], settings: Settings, running: dict[str, Any], advance: Callable[[], None]
) -> Iterator[Outcome]:
    token = mint(settings, subject="operator", scope="system/ImagingStudy.c", lifetime="8h")
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/dicom+json"}
    with httpx.Client(headers=headers, timeout=300.0, trust_env=False) as client:
        for start in range(0, len(files), PER_REQUEST):
            batch = files[start : start + PER_REQUEST]
            yield from _stow_batch(client, f"{running['dicomweb']}/studies", batch)
            for _ in batch:
                advance()


def _stow_batch(client: httpx.Client, url: str, batch: list[Path]) -> Iterator[Outcome]:
    boundary = uuid4().hex
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    answer = client.post(url, content=_body(batch, boundary), headers={"Content-Type": kind})
    if answer.status_code not in (200, 202, 409):
        raise ValueError(f"the server answered {answer.status_code}: {answer.text[:300]}")
    failed = {
        item.get("00081155", {}).get("Value", [""])[0]: item["00081197"]["Value"][0]
        for item in answer.json().get("00081198", {}).get("Value", [])
    }
    for path in batch:
        reason = failed.get(_instance_uid(path))
        yield Outcome(path, reason is None, f"failure reason 0x{reason or 0:04X}")


def _instance_uid(path: Path) -> str:
    import pydicom

    header = pydicom.dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
    return str(header.get("SOPInstanceUID", ""))


def _body(batch: list[Path], boundary: str) -> Iterator[bytes]:
    for path in batch:
        yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        with path.open("rb") as file:
            while piece := file.read(PART_BYTES):
                yield piece
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()
