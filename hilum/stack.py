"""Everything on one machine: PostgreSQL, HAPI, web, DIMSE and worker under one supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import structlog

from hilum import marks, wiring
from hilum.processes import fhir_store
from hilum.processes.supervise import Part, Supervisor
from hilum.settings import Settings, as_environment

log = structlog.get_logger(__name__)

Say = Callable[[str], None]
# Nothing new comes in first; the stores go last, when nobody writes to them any more.
STOP_ORDER = ("dimse", "worker", "web", "hapi", "postgres")


class StackError(Exception):
    """The stack cannot start here; the text says what to do."""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Ports that nobody outside is told of: another one does as well.
INTERNAL = frozenset({"database", "hapi"})
EVERY_PORT = INTERNAL | {"http", "dimse"}


def with_ports(settings: Settings, may_move: frozenset[str] = INTERNAL) -> Settings:
    """The same settings with real ports: a free one wherever 0 was asked for.

    Args:
        settings: as read.
        may_move: sections whose default port is replaced by a free one when it is taken.

    Raises:
        StackError: a port that may not move is taken.
    """
    changes: dict[str, Any] = {}
    for section in ("http", "dimse", "database", "hapi"):
        part = getattr(settings, section)
        if section in INTERNAL and part.url is not None:
            continue
        chosen = "port" in part.model_fields_set
        if part.port == 0 or (section in may_move and not chosen and _is_taken(part.port)):
            changes[section] = part.model_copy(update={"port": free_port()})
        elif _is_taken(part.port):
            raise StackError(
                f"port {part.port} ({section}) is taken; set HILUM_{section.upper()}__PORT to "
                f"another one, or 0 for any free one"
            )
    return settings.model_copy(update=changes)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@dataclass(slots=True)
class Stack:
    """The running parts.

    Args:
        settings: with real ports (see `with_ports`).
        say: called with one line for each step.
        ready_file: written when all is ready, and again when a part was restarted.
    """

    settings: Settings
    say: Say = lambda _line: None
    ready_file: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _parts: dict[str, Supervisor] = field(default_factory=dict)
    _all_ready: bool = False

    async def start(self) -> None:
        """Start every part and wait until all are ready; stops them all when one fails.

        Raises:
            StackError, PartFailed, FhirStoreError, PostgresError: why it could not.
        """
        begin = time.monotonic()
        data = self.settings.data
        data.mkdir(parents=True, exist_ok=True)
        other = marks.running(data)
        if other is not None:
            raise StackError(
                f"`hilum up` runs on {data.resolve()} already (process {other['pid']})"
            )
        try:
            await self._start_stores()
            await self._start_processes()
        except BaseException:
            await self.stop()
            raise
        self.seconds["all"] = time.monotonic() - begin
        self._all_ready = True
        self._write_ready()

    async def stop(self) -> None:
        """Stop every part in order."""
        self._all_ready = False
        (marks.run_folder(self.settings.data) / marks.READY).unlink(missing_ok=True)
        if self.ready_file is not None:
            self.ready_file.unlink(missing_ok=True)
        for name in STOP_ORDER:
            if name in self._parts:
                self.say(f"stopping {name}")
                await self._parts.pop(name).stop()

    def pids(self) -> dict[str, int | None]:
        """Process id of each part."""
        return {name: part.pid for name, part in self._parts.items()}

    def addresses(self) -> dict[str, Any]:
        """What the ready file holds: where each door is, and the process ids."""
        base, dimse = self.settings.base_url, self.settings.dimse
        return {
            "fhir": f"{base}/fhir",
            "dicomweb": f"{base}/dicomweb",
            "dimse": {"host": dimse.host, "port": dimse.port, "aet": dimse.ae_title},
            "ui": f"{base}/",
            "ohif": f"{base}/ohif/",
            "data": str(self.settings.data.resolve()),
            "pid": os.getpid(),
            "database_port": self.settings.database.port,
            "pids": self.pids(),
        }

    async def _start_stores(self) -> None:
        if self.settings.database.url is None:
            server = wiring.embedded_postgres(self.settings)
            await self._start(
                Part(
                    "postgres",
                    server.command(),
                    {},
                    lambda: asyncio.to_thread(server.is_ready),
                    self._log("postgres"),
                    start_timeout_s=90,
                    # Fast shutdown; SIGTERM would wait for every client to leave.
                    stop_signal=signal.SIGINT,
                )
            )
            await self._ready("postgres")
            await asyncio.to_thread(server.create_database, wiring.DATABASE)
        if self.settings.hapi.url is None:
            await self._start_hapi()

    async def _start_hapi(self) -> None:
        config = wiring.hapi_config(self.settings)
        cache = wiring.hapi_cache(self.settings)
        done = await asyncio.to_thread(
            fhir_store.prepare_database, config, cache, self._log("hapi-prepare")
        )
        if done.how != "kept":
            self.say(f"HAPI database {done.how} in {done.seconds:.1f} s")
        await self._start(
            Part(
                "hapi",
                fhir_store.command(config),
                fhir_store.environment(config),
                lambda: asyncio.to_thread(fhir_store.is_ready, config),
                self._log("hapi"),
            )
        )

    async def _start_processes(self) -> None:
        # Beside HAPI's start, not after it: each waits for what it needs by itself.
        for name in ("web", "dimse", "worker"):
            await self._start(self._own_part(name))
        for name in ("dimse", "hapi", "worker", "web"):
            if name in self._parts:
                await self._ready(name)

    def _own_part(self, name: str) -> Part:
        settings = self.settings
        variables = as_environment(settings)
        variables["HILUM_DATABASE__URL"] = wiring.database_url(settings)
        variables["HILUM_INTERNAL_SECRET"] = wiring.internal_secret(settings)
        variables["PYTHONUNBUFFERED"] = "1"

        async def said_ready() -> bool:
            return marks.is_ready(settings.data, name, self._parts[name].pid)

        return Part(
            name,
            [sys.executable, "-m", "hilum", name],
            variables,
            self._web_is_ready if name == "web" else said_ready,
            self._log(name),
        )

    async def _web_is_ready(self) -> bool:
        url = f"{self.settings.local_url}/health/ready"
        try:
            async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
                return (await client.get(url)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    async def _start(self, part: Part) -> None:
        supervisor = Supervisor(part, on_change=self._write_ready)
        self._parts[part.name] = supervisor
        await supervisor.start()

    async def _ready(self, name: str) -> None:
        self.seconds[name] = await self._parts[name].wait_ready()
        self.say(f"{name} ready")

    def _log(self, name: str) -> Path:
        return self.settings.data / "log" / f"{name}.log"

    def _write_ready(self) -> None:
        if not self._all_ready:
            return
        text = json.dumps(self.addresses(), indent=2) + "\n"
        marks.write(marks.run_folder(self.settings.data) / marks.READY, text)
        if self.ready_file is not None:
            marks.write(self.ready_file, text)
