"""`hilum status`: each part, whether it answers, and what waits."""

from __future__ import annotations

import os
from typing import Any

import httpx
import psycopg
from rich.console import Console
from rich.table import Table

from dimse.peers import Peer
from dimse.scu.echo_store import AssociationFailed, echo
from hilum import wiring
from hilum.settings import Settings

WAITING = (
    "select queue_name, count(*) filter (where status = 'todo'),"
    " count(*) filter (where status = 'doing'), count(*) filter (where status = 'failed')"
    " from queue.procrastinate_jobs group by queue_name order by queue_name"
)


def show(settings: Settings, running: dict[str, Any], out: Console) -> int:
    """Print the state. Returns 0 when every part answers."""
    answers = {"web": _web(running), "dimse": _dimse(running), **_alive(running["pids"])}
    table = Table("part", "process", "state", "where", show_edge=False)
    places = {
        "web": running["ui"],
        "dimse": "{aet}@{host}:{port}".format(**running["dimse"]),
    }
    for name, pid in running["pids"].items():
        good = answers[name]
        state = "[green]up[/green]" if good else "[red]down[/red]"
        table.add_row(name, str(pid or ""), state, places.get(name, ""))
    out.print(table)
    _show_queue(settings, running, out)
    return 0 if all(answers.values()) else 1


def _alive(pids: dict[str, int | None]) -> dict[str, bool]:
    return {
        name: pid is not None and _exists(pid)
        for name, pid in pids.items()
        if name not in ("web", "dimse")
    }


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's: the database server's
        return True
    return True


def _web(running: dict[str, Any]) -> bool:
    try:
        answer = httpx.get(f"{running['ui']}health/ready", timeout=5.0, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK


def _dimse(running: dict[str, Any]) -> bool:
    part = running["dimse"]
    try:
        echo(Peer("ourselves", part["aet"], part["host"], part["port"]))
    except AssociationFailed:
        return False
    return True


def _show_queue(settings: Settings, running: dict[str, Any], out: Console) -> None:
    try:
        with psycopg.connect(running_dsn(settings, running), connect_timeout=5) as connection:
            rows = connection.execute(WAITING).fetchall()
    except psycopg.Error as error:
        out.print(f"[red]queue not read:[/red] {error}", highlight=False)
        return
    for name, waiting, at_work, failed in rows:
        out.print(f"queue {name}: {waiting} waiting, {at_work} at work, {failed} failed")


def running_dsn(settings: Settings, running: dict[str, Any]) -> str:
    """URL of our database as the running stack has it, whatever port it took."""
    port = running.get("database_port")
    if settings.database.url is None and port:
        database = settings.database.model_copy(update={"port": port})
        settings = settings.model_copy(update={"database": database})
    return wiring.database_url(settings)
