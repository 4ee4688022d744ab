"""`hilum commit`: a peer's word that it keeps what it was sent."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from dimse.commitment.request import request_commitment
from dimse.commitment.table import CommitmentTable
from dimse.peers import Peer
from dimse.scu.file import NotSendable, outgoing
from dimse.scu.negotiation import Calling
from hilum.commands.console import database_of
from hilum.commands.retrieving import open_archive
from hilum.commands.sending import find_files


def commit_instances(
    peer: Peer,
    paths: list[Path],
    study: str | None,
    calling: Calling,
    data: Path | None,
    wait_s: float,
    out: Console,
) -> int:
    """Ask, wait for the report, say what it says. Returns the exit status."""
    instances = _of_files(paths) if study is None else _of_study(study, data)
    if not instances:
        out.print("[red]hilum:[/red] nothing to ask for: no DICOM file, or no such study here")
        return 1
    table = CommitmentTable(database_of(data))
    result = request_commitment(peer, instances, table, calling, timeout_s=wait_s)
    if result.state == "asked":
        out.print(
            f"{peer} has taken the request and not reported within {wait_s:.0f} s. It reports to "
            f"our DIMSE port; is {calling.ae_title} entered there with our address?",
            highlight=False,
            soft_wrap=True,
        )
        return 1
    out.print(f"{len(result.committed)} of {len(instances)} committed", highlight=False)
    for uid, reason in result.failures[:20]:
        out.print(f"  [red]not committed[/red] {uid}: reason 0x{reason:04X}", highlight=False)
    return 0 if len(result.committed) == len(instances) else 1


def _of_files(paths: list[Path]) -> list[tuple[str, str]]:
    found = []
    for path in find_files(paths)[0]:
        try:
            one = outgoing(path)
        except NotSendable:
            continue
        found.append((one.sop_class, one.instance))
    return found


def _of_study(study: str, data: Path | None) -> list[tuple[str, str]]:
    with open_archive(data) as archive:
        records = archive.records_of(studies=[study])
        return [(record.sop_class, record.key.instance) for record in records]
