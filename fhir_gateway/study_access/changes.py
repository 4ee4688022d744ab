"""The number of writes that may change who may see a study: counted before they are answered."""

from __future__ import annotations

import psycopg
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fhir_gateway.schema import Pool

# A Bundle is posted to the base itself. A type not named here does not decide about a study.
_CONCERNED = frozenset({"", "ImagingStudy", "Patient"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})

log = structlog.get_logger(__name__)


async def note_change(pool: Pool) -> None:
    """Make every decision about a study be asked for again, in every process, from now on."""
    async with pool.connection() as connection:
        await connection.execute("select nextval('gateway.access_generation')")


class NotesChanges:
    """Around the FHIR door: a write has been counted when its answer leaves."""

    def __init__(self, app: ASGIApp, pool: Pool) -> None:
        self._app = app
        self._pool = pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the door does."""
        if scope["type"] != "http" or not _may_change(scope):
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            # A refusal changed nothing; a store that broke off may have carried it out.
            if message["type"] == "http.response.start" and not 400 <= message["status"] < 500:
                await self._count()
            await send(message)

        await self._app(scope, receive, counted)

    async def _count(self) -> None:
        try:
            await note_change(self._pool)
        except psycopg.Error as error:
            # Without this database no decision is made either, kept or new.
            log.error("study_access.not_counted", kind=type(error).__name__)


def _may_change(scope: Scope) -> bool:
    path = str(scope["path"]).removeprefix(str(scope.get("root_path", ""))).strip("/")
    first, _, rest = path.partition("/")
    return scope["method"] not in _READS and first in _CONCERNED and rest != "_search"
