"""`hilum peers`: which machines there are, and what each may do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from rich.table import Table

from dimse.peers import RIGHTS, Peer, PeerError, Peers, check_rights
from hilum.commands.console import DataOption, database_of, fail, out

app = typer.Typer(
    help="The DICOM peers: modalities, archives and workstations, and what each may do.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_NOTHING = "none"

RightsOption = Annotated[
    str | None,
    typer.Option(
        "--rights",
        help=f"What it may do here, comma separated: {', '.join(RIGHTS)}; 'none' for nothing. "
        "Default for a new peer: everything.",
    ),
]
FromOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        help="Address or network it may call from, such as 10.1.0.7 or 10.1.0.0/16 (repeatable); "
        "'any' for anywhere, which is the default.",
    ),
]
TlsOption = Annotated[
    bool | None,
    typer.Option("--tls/--no-tls", help="Speak TLS with it, when we call and when it calls."),
]
SubjectOption = Annotated[
    str | None,
    typer.Option(
        help="Name its certificate must have, such as ct1.example or 'CN=CT 1'; 'any' for any."
    ),
]
CharsetOption = Annotated[
    str | None,
    typer.Option(
        "--charset", help="Specific Character Set that it reads, such as 'ISO_IR 100'; 'any'."
    ),
]
SyntaxOption = Annotated[
    list[str] | None,
    typer.Option(
        "--syntax",
        help="UID of a transfer syntax that it prefers, best first (repeatable); 'any' for any.",
    ),
]
DescriptionOption = Annotated[
    str | None, typer.Option("--description", help="Words for people: where it stands, who cares.")
]


@contextmanager
def _peers(data: Path | None) -> Iterator[Peers]:
    """The table; what is wrong with a peer becomes a message and exit status 1."""
    try:
        yield Peers(database_of(data))
    except PeerError as error:
        fail(error)
    except psycopg.OperationalError as error:
        fail(f"the database does not answer: {error}")


@app.command("add")
def add(
    address: Annotated[str, typer.Argument(metavar="AET@HOST:PORT")],
    name: Annotated[str | None, typer.Option(help="Name for --to. Default: the AE title.")] = None,
    rights: RightsOption = None,
    allowed: FromOption = None,
    tls: TlsOption = None,
    tls_subject: SubjectOption = None,
    charset: CharsetOption = None,
    syntax: SyntaxOption = None,
    description: DescriptionOption = None,
    data: DataOption = None,
) -> None:
    """Add a peer, or change what is given of the one of the same name.

    For example: hilum peers add CT1@10.1.0.7:104 --rights store,worklist --from 10.1.0.7
    """
    with _peers(data) as peers:
        peer = Peer.parse(address)
        peer = replace(peer, name=name) if name else peer
        known = {one.name: one for one in peers.list()}.get(peer.name, peer)
        peer = _moved(known, peer)
        peer = _changed(peer, rights, allowed, tls, tls_subject, charset, syntax, description)
        peers.add(peer)
        out.print(f"{peer.name} is {peer} and may {_rights(peer)}", highlight=False)


@app.command("set")
def change(
    name: str,
    address: Annotated[
        str | None, typer.Option("--address", metavar="AET@HOST:PORT", help="Where it listens.")
    ] = None,
    rights: RightsOption = None,
    allowed: FromOption = None,
    tls: TlsOption = None,
    tls_subject: SubjectOption = None,
    charset: CharsetOption = None,
    syntax: SyntaxOption = None,
    description: DescriptionOption = None,
    data: DataOption = None,
) -> None:
    """Change what is given of a peer, and leave the rest as it is."""
    with _peers(data) as peers:
        peer = peers.find(name)
        if address is not None:
            peer = _moved(peer, Peer.parse(address))
        changed = _changed(peer, rights, allowed, tls, tls_subject, charset, syntax, description)
        peers.add(changed)
        _show(changed)


@app.command("list")
def show_all(data: DataOption = None) -> None:
    """Show the peers."""
    with _peers(data) as peers:
        table = Table("name", "address", "may", "from", "TLS", "description", show_edge=False)
        for peer in peers.list():
            table.add_row(
                peer.name,
                str(peer),
                _rights(peer),
                ", ".join(peer.addresses) or "anywhere",
                _tls(peer),
                peer.description,
            )
        out.print(table if table.row_count else "no peers; `hilum peers add AET@HOST:PORT`")


@app.command("show")
def show(name: str, data: DataOption = None) -> None:
    """Show everything about one peer."""
    with _peers(data) as peers:
        _show(peers.find(name))


@app.command("remove")
def remove(name: str, data: DataOption = None) -> None:
    """Remove a peer."""
    with _peers(data) as peers:
        peers.remove(name)
        out.print(f"{name} removed", highlight=False)


def _moved(peer: Peer, to: Peer) -> Peer:
    return replace(peer, ae_title=to.ae_title, host=to.host, port=to.port)


def _changed(
    peer: Peer,
    rights: str | None,
    allowed: list[str] | None,
    tls: bool | None,
    tls_subject: str | None,
    charset: str | None,
    syntax: list[str] | None,
    description: str | None,
) -> Peer:
    """The peer with what was given; 'any' takes a condition away."""
    changes: dict[str, Any] = {}
    if rights is not None:
        words = [] if rights == _NOTHING else [word.strip() for word in rights.split(",")]
        changes["rights"] = check_rights(words)
    if allowed:
        changes["addresses"] = () if allowed == ["any"] else tuple(allowed)
    if tls is not None:
        changes["tls"] = tls
    if tls_subject is not None:
        changes["tls_subject"] = None if tls_subject == "any" else tls_subject
        if tls_subject != "any" and tls is None:
            changes["tls"] = True
    if charset is not None:
        changes["character_set"] = None if charset == "any" else charset
    if syntax:
        changes["transfer_syntaxes"] = () if syntax == ["any"] else tuple(syntax)
    if description is not None:
        changes["description"] = description
    return replace(peer, **changes)


def _show(peer: Peer) -> None:
    table = Table(show_header=False, show_edge=False)
    for what, value in (
        ("name", peer.name),
        ("address", str(peer)),
        ("may", _rights(peer)),
        ("may call from", ", ".join(peer.addresses) or "anywhere"),
        ("TLS", _tls(peer)),
        ("character set", peer.character_set or "any"),
        ("transfer syntaxes", "\n".join(peer.transfer_syntaxes) or "any"),
        ("description", peer.description),
    ):
        table.add_row(what, value)
    out.print(table)


def _rights(peer: Peer) -> str:
    return ", ".join(right for right in RIGHTS if right in peer.rights) or "nothing"


def _tls(peer: Peer) -> str:
    if peer.tls_subject:
        return f"certificate {peer.tls_subject}"
    return "yes" if peer.tls else "no"
