"""`hilum echo`, `find`, `retrieve`, `send` and `commit`: speaking DICOM with a peer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from dimse.peers import PeerError
from dimse.scu.negotiation import AssociationBroken, AssociationFailed
from hilum.commands.console import DataOption, fail, out
from hilum.peering import calling_from, peer_named

PeerArgument = Annotated[
    str,
    typer.Argument(metavar="PEER", help="Name of a peer (`hilum peers list`), or AET@HOST:PORT."),
]
TlsOption = Annotated[
    bool, typer.Option("--tls", help="Call it over TLS, whatever the table says.")
]
TitleOption = Annotated[
    str | None, typer.Option("--as", metavar="AET", help="Our AE title. Default: of the settings.")
]
Level = Literal["patient", "study", "series", "image"]


def register(app: typer.Typer) -> None:
    """Add the commands to the main one."""
    for command in (echo, find, retrieve, send, commit):
        app.command()(command)


@contextmanager
def _speaking() -> Iterator[None]:
    """What goes wrong between us and a peer becomes a message and exit status 1."""
    from archive import ArchiveError
    from dimse.commitment.request import CommitmentRefused
    from dimse.scu.query import PeerRefused

    try:
        yield
    except (AssociationFailed, AssociationBroken, PeerError, PeerRefused) as error:
        fail(error)
    except (CommitmentRefused, ArchiveError, ValueError) as error:
        fail(error)


def echo(
    peer: PeerArgument, tls: TlsOption = False, title: TitleOption = None, data: DataOption = None
) -> None:
    """Ask a peer whether it is there and talks to us (C-ECHO)."""
    from dimse.scu import echo_store as scu

    with _speaking():
        found = peer_named(peer, data, tls=tls)
        took = scu.echo(found, calling_from(data, title))
        out.print(f"{found} answers, {took * 1000:.0f} ms", highlight=False)


def find(
    peer: PeerArgument,
    level: Annotated[Level, typer.Option(help="What is looked for.")] = "study",
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            "-k",
            metavar="NAME=VALUE",
            help="What must match, for example -k "
            "PatientName='Doe*' -k StudyDate=20260101-; NAME= asks for a column (repeatable).",
        ),
    ] = None,
    worklist: Annotated[
        bool, typer.Option("--worklist", help="Ask for worklist items instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print DICOM JSON.")] = False,
    most: Annotated[int, typer.Option(min=1, help="Stop behind so many.")] = 200,
    tls: TlsOption = False,
    title: TitleOption = None,
    data: DataOption = None,
) -> None:
    """Look for patients, studies, series, images or worklist items at a peer (C-FIND)."""
    from dimse.scu import query as scu_query
    from hilum.commands.querying import identifier_of, json_of, model_of, table_of

    with _speaking():
        identifier = identifier_of(level, key or [], worklist=worklist)
        model = model_of(level, worklist=worklist)
        found = peer_named(peer, data, tls=tls)
        calling = calling_from(data, title)
        answers = list(scu_query.find(found, identifier, calling, model, most=most))
    if as_json:
        typer.echo(json_of(answers))
        return
    out.print(table_of(identifier, answers) if answers else "nothing found")
    if len(answers) == most:
        out.print(f"the first {most}; there may be more: narrow it down, or use --most")


def retrieve(
    peer: PeerArgument,
    study: Annotated[str, typer.Option(metavar="UID", help="Study Instance UID.")],
    series: Annotated[
        list[str] | None, typer.Option(metavar="UID", help="Only this series (repeatable).")
    ] = None,
    instance: Annotated[
        list[str] | None, typer.Option(metavar="UID", help="Only this instance (repeatable).")
    ] = None,
    move_to: Annotated[
        str | None,
        typer.Option(
            metavar="AET",
            help="Have the peer send it to this AE title (C-MOVE); our "
            "own AE title brings it into our archive.",
        ),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Fetch it (C-GET) into files in this folder.")
    ] = None,
    to_archive: Annotated[
        bool, typer.Option("--to-archive", help="Fetch it (C-GET) into our archive: the default.")
    ] = False,
    tls: TlsOption = False,
    title: TitleOption = None,
    data: DataOption = None,
) -> None:
    """Fetch a study from a peer, or have the peer send it somewhere; exit 1 unless all came."""
    from hilum.commands import retrieving

    if (move_to is not None) + (folder is not None) + to_archive > 1:
        fail("one of --move-to, --out and --to-archive, please")
    asked = retrieving.Asked(study, tuple(series or ()), tuple(instance or ()))
    with _speaking():
        found = peer_named(peer, data, tls=tls)
        calling = calling_from(data, title)
        if move_to is not None:
            raise typer.Exit(retrieving.move_study(found, asked, move_to, calling, out))
        if folder is not None:
            keeper = retrieving.folder_keeper(folder, asked)
            raise typer.Exit(retrieving.get_study(found, asked, keeper, calling, out))
        with retrieving.open_archive(data) as archive:
            keeper = retrieving.archive_keeper(archive, asked, found)
            raise typer.Exit(retrieving.get_study(found, asked, keeper, calling, out))


def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    to: Annotated[
        str | None, typer.Option(help="AET@HOST:PORT, or the name of a peer. Default: ourselves.")
    ] = None,
    stow: Annotated[bool, typer.Option("--stow", help="Send by STOW-RS instead.")] = False,
    associations: Annotated[
        int, typer.Option(min=1, max=16, help="Associations at the same time.")
    ] = 1,
    tls: TlsOption = False,
    title: TitleOption = None,
    data: DataOption = None,
) -> None:
    """Send DICOM files by C-STORE or STOW-RS; exit status 1 when one was not stored."""
    from hilum.commands.sending import Route, send_files

    route = Route(to, stow=stow, associations=associations, tls=tls, title=title, data=data)
    raise typer.Exit(send_files(paths, route, out))


def commit(
    peer: PeerArgument,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="DICOM files, or folders of them.")
    ] = None,
    study: Annotated[
        str | None, typer.Option(metavar="UID", help="Instead of files: a study of our archive.")
    ] = None,
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds to wait for the report.")] = 60.0,
    tls: TlsOption = False,
    title: TitleOption = None,
    data: DataOption = None,
) -> None:
    """Ask a peer to vouch for what it was sent (storage commitment); exit 1 unless for all."""
    from hilum.commands.committing import commit_instances

    if bool(paths) == (study is not None):
        fail("either files or --study UID, please")
    with _speaking():
        found = peer_named(peer, data, tls=tls)
        calling = calling_from(data, title)
        raise typer.Exit(commit_instances(found, paths or [], study, calling, data, wait_s, out))
