"""The event channel of a subscriber (PS3.18 sections 8.10.4 and 11.13): a WebSocket.

A browser cannot set headers on a WebSocket, so the token may also come as a subprotocol:
`new WebSocket(url, ["bearer", token])`. It is never looked for in the URL, nor in a cookie: those
travel with a request that a foreign page makes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import orjson
import structlog
from starlette.requests import Request
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from access import AccessError, AuditEventKind, AuditRecord, Caller, Forbidden
from archive import ArchiveError
from archive.workitem_subscriptions import Subscriptions
from dicomweb.door import Door, in_thread
from dicomweb.errors import DicomwebError
from dicomweb.problems import problem_response
from dicomweb.workitem_subscribers import ae_title

PATH = "/subscribers/{ae}"
PROTOCOL = "bearer"
LOOK_S = 0.5  # one small question for all channels of a process together
SETTLED_S = 45.0  # longer than the server needs to notice a connection that is gone
RENEW_S = 60.0  # how long a channel may outlive its token
POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013
MAX_CHANNELS = 256
IN_ORDER = (1000, 1001)  # 1005 is also what uvicorn says of a connection that was lost

log = structlog.get_logger(__name__)


class Pulse:
    """Wakes the channels of this process when there may be events; asks only while one is open."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.open = 0

    async def wait(self, timeout_s: float) -> None:
        """Until something has happened, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Keep the pulse going while a channel is open."""
        self.open += 1
        if self._task is None:
            self._task = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            self.open -= 1
            if self.open == 0 and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _beat(self) -> None:
        seen: int | None = None
        while True:
            try:
                newest = await in_thread(self._subscriptions.newest)
            except ArchiveError as error:
                log.warning("workitem_pulse_lost", reason=type(error).__name__)
                newest = seen or 0
            if newest != seen:
                seen = newest
                async with self._changed:
                    self._changed.notify_all()
            await asyncio.sleep(LOOK_S)


class Channel:
    """One open connection: sends what waits, and forgets what has surely arrived.

    Nothing in the protocol says that an event was read. What was sent shortly before a connection
    broke is therefore sent again on the next one, with the same Message ID; a client that closes
    in order (with code 1000) has read all.
    """

    def __init__(self, socket: WebSocket, door: Door, pulse: Pulse, ae: str) -> None:
        self._socket = socket
        self._door = door
        self._subscriptions = door.archive.workitems.subscriptions
        self._pulse = pulse
        self._ae = ae
        self._sent: deque[tuple[float, int]] = deque()
        self._last = 0

    async def run(self, caller: Caller) -> None:
        """Serve the connection until either side ends it."""
        reading = asyncio.create_task(self._read())
        sending = asyncio.create_task(self._send(caller))
        done, pending = await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        in_order = reading in done and reading.result()
        await self._settle(0.0 if in_order else SETTLED_S)
        for task in done - {reading}:
            task.result()

    async def _read(self) -> bool:
        """Wait for the end; what a client says is not looked at. True: it closed in order."""
        try:
            while True:
                await self._socket.receive_text()
        except WebSocketDisconnect as end:
            return end.code in IN_ORDER
        except (KeyError, RuntimeError):  # a binary message, or the connection is gone
            return False

    async def _send(self, caller: Caller) -> None:
        renewed = time.monotonic()
        while True:
            if time.monotonic() - renewed > RENEW_S:
                try:
                    caller = await authorised(self._socket, self._door)
                except AccessError:
                    await self._socket.close(POLICY_VIOLATION, "the token is no longer valid")
                    return
                renewed = time.monotonic()
            found = await in_thread(
                self._subscriptions.events, self._ae, self._last, caller.studies
            )
            for event in found:
                try:
                    await self._socket.send_text(orjson.dumps(event.message).decode())
                except (WebSocketDisconnect, RuntimeError):
                    return
                self._last = event.sequence
                self._sent.append((time.monotonic(), event.sequence))
            await self._settle(SETTLED_S)
            if not found:
                await self._pulse.wait(RENEW_S / 4)

    async def _settle(self, age_s: float) -> None:
        """Forget the events that were sent longer ago than this."""
        until = time.monotonic() - age_s
        arrived = []
        while self._sent and self._sent[0][0] <= until:
            arrived.append(self._sent.popleft()[1])
        if arrived:
            await in_thread(self._subscriptions.acknowledge, self._ae, arrived)


async def authorised(socket: WebSocket, door: Door) -> Caller:
    """The caller behind a WebSocket.

    Raises:
        AccessError: no valid token, or one that does not open work items.
    """
    caller = await door.authenticate(_as_request(socket))
    if not caller.may("Task", "r"):
        raise Forbidden("the token does not grant Task.r")
    if not caller.may_on_all("Task", "r"):
        raise Forbidden("a token that is limited to a patient or a filter is not for this")
    return caller


def _as_request(socket: WebSocket) -> Request:
    """The handshake as a request with a token in its one header, and without cookies."""
    headers = [(name, value) for name, value in socket.scope["headers"] if name != b"cookie"]
    offered = socket.scope.get("subprotocols", [])
    if PROTOCOL in offered[:-1] and not socket.headers.get("authorization"):
        token = offered[offered.index(PROTOCOL) + 1]
        headers.append((b"authorization", b"Bearer " + token.encode("latin-1", "replace")))
    return Request({**socket.scope, "type": "http", "method": "GET", "headers": headers})


def channel_route(door: Door) -> WebSocketRoute:
    """GET /subscribers/{ae}: the WebSocket of a subscriber."""
    pulse = Pulse(door.archive.workitems.subscriptions)

    async def serve(socket: WebSocket) -> None:
        caller: Caller | None = None
        try:
            ae = ae_title(str(socket.path_params["ae"]))
            caller = await authorised(socket, door)
            await _record(door, socket, caller, None)
        except (AccessError, DicomwebError) as error:
            await _refuse(door, socket, caller, error)
            return
        offered = socket.scope.get("subprotocols", [])
        await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
        if pulse.open >= MAX_CHANNELS:
            await socket.close(TRY_AGAIN_LATER, "too many channels are open")
            return
        try:
            async with pulse.listening():
                await Channel(socket, door, pulse, ae).run(caller)
        except ArchiveError as error:
            log.warning("workitem_channel_lost", reason=type(error).__name__)
            with contextlib.suppress(RuntimeError):
                await socket.close(TRY_AGAIN_LATER, "the archive does not answer")

    return WebSocketRoute(PATH, serve)


async def _refuse(
    door: Door, socket: WebSocket, caller: Caller | None, error: AccessError | DicomwebError
) -> None:
    with contextlib.suppress(AccessError):  # an audit trail that is full does not open the door
        await _record(door, socket, caller, error)
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(problem_response(error))
    else:
        await socket.close(POLICY_VIOLATION)


async def _record(
    door: Door, socket: WebSocket, caller: Caller | None, error: Exception | None
) -> None:
    denied = isinstance(error, AccessError)
    record = AuditRecord(
        action="R",
        event=AuditEventKind.DENIED if denied else AuditEventKind.RETRIEVE,
        outcome="success" if error is None else "minor",
        caller=caller,
        at=datetime.now(UTC),
        resource=socket.url.path[:400],
        detail=None if error is None else f"{type(error).__name__}: {error}",
    )
    await in_thread(door.audit.record, record)
