"""`hilum retrieve`: fetch studies from a peer, or have it send them, with a progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from archive import Archive
from dimse.peers import Peer
from dimse.scu.classes import classes_of
from dimse.scu.keep import ArchiveKeeper, FolderKeeper, Keeper, Wanted
from dimse.scu.negotiation import Calling
from dimse.scu.retrieve import Progress, get, move
from hilum import wiring
from hilum.commands.console import attached
from hilum.commands.status import running_dsn


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted: a study, or only some series or instances of it."""

    study: str
    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()

    @property
    def identifier(self) -> Dataset:
        """Level and UIDs of the request."""
        identifier = Dataset()
        identifier.QueryRetrieveLevel = (
            "IMAGE" if self.instances else "SERIES" if self.series else "STUDY"
        )
        identifier.StudyInstanceUID = self.study
        if self.series:
            identifier.SeriesInstanceUID = list(self.series)
        if self.instances:
            identifier.SOPInstanceUID = list(self.instances)
        return identifier

    @property
    def wanted(self) -> Wanted:
        """What may come in answer."""
        return Wanted(frozenset({self.study}), frozenset(self.series), frozenset(self.instances))


def move_study(peer: Peer, asked: Asked, destination: str, calling: Calling, out: Console) -> int:
    """C-MOVE; returns the exit status."""
    return _follow(move(peer, asked.identifier, destination, calling), out)


def get_study(peer: Peer, asked: Asked, keeper: Keeper, calling: Calling, out: Console) -> int:
    """C-GET; returns the exit status."""
    classes = classes_of(peer, asked.study, calling, frozenset(asked.series))
    return _follow(get(peer, asked.identifier, classes, keeper, calling), out)


def folder_keeper(folder: Path, asked: Asked) -> Keeper:
    """Into files below a folder."""
    return FolderKeeper(folder, asked.wanted)


def archive_keeper(archive: Archive, asked: Asked, peer: Peer) -> Keeper:
    """Into our archive."""
    return ArchiveKeeper(archive, asked.wanted, peer.host)


def open_archive(data: Path | None) -> Archive:
    """The archive of the running stack."""
    settings, running = attached(data)
    config = wiring.archive_config(settings)
    return Archive.open(replace(config, dsn=running_dsn(settings, running)))


def _follow(steps: Iterator[Progress], out: Console) -> int:
    columns = (TextColumn("retrieving"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    last: Progress | None = None
    with Bar(*columns, console=out) as bar:
        task = bar.add_task("retrieving", total=None)
        for last in steps:
            done = last.completed + last.failed + last.warning
            total = done + last.remaining if last.remaining is not None else done
            bar.update(task, completed=done, total=max(total, done))
    if last is None:
        out.print("[red]hilum:[/red] the peer gave no answer")
        return 1
    return _report(last, out)


def _report(final: Progress, out: Console) -> int:
    got = final.completed + final.warning
    if final.ok and not got:
        out.print("nothing there: the peer knows no such study, or gives us none of it")
        return 1
    out.print(f"{got} retrieved, {final.failed} failed", highlight=False)
    if final.ok:
        return 0
    out.print(f"  [red]answer[/red] {final.text}", highlight=False, soft_wrap=True, markup=True)
    for uid in final.failed_uids[:20]:
        out.print(f"  [red]not retrieved[/red] {uid}", highlight=False)
    if len(final.failed_uids) > 20:
        out.print(f"  and {len(final.failed_uids) - 20} more")
    if final.status == 0xA801:
        out.print("  the peer does not know the AE title it should send to: enter it there")
    return 1
