"""The HTTP side of bulk exports: kick-off, status, files, deletion.

Source: Bulk Data Access 2.0 and 3.0.
"""

from __future__ import annotations

import re
from dataclasses import replace
from email.utils import format_datetime
from functools import partial

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response

from access import Caller
from fhir_gateway.bulk.config import BulkConfig
from fhir_gateway.bulk.download import answer
from fhir_gateway.bulk.files import free_bytes
from fhir_gateway.bulk.jobs import Job, Jobs
from fhir_gateway.bulk.kickoff import KickOff
from fhir_gateway.bulk.manifest import manifest, page_of
from fhir_gateway.bulk.pace import Pace
from fhir_gateway.bulk.parameters import kick_off_pairs
from fhir_gateway.bulk.plan import group_members
from fhir_gateway.bulk.request import MEDIA_TYPES, NDJSON, ExportRequest, Level
from fhir_gateway.bulk.rules import still_covers
from fhir_gateway.bulk.service import BulkService
from fhir_gateway.bulk.store import Store, StoreAway, StoreRefused
from fhir_gateway.facade import Facade
from fhir_gateway.model import ModelSource
from fhir_gateway.outcome import Refusal, fhir_response
from fhir_gateway.searching import parse_query
from fhir_gateway.upstream import Upstream, store_away

BUSY_RETRY_S = "30"
IDS_AT_ONCE = 500
_GROUP_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z", re.ASCII)
_FILE = re.compile(r"([1-9]\d{0,5})\.(ndjson|parquet)\Z", re.ASCII)

log = structlog.get_logger(__name__)


class BulkDoor:
    """Answers requests about exports. A job is its client's own; nobody else finds it."""

    def __init__(
        self,
        config: BulkConfig,
        facade: Facade,
        models: ModelSource,
        upstream: Upstream,
        jobs: Jobs,
        service: BulkService,
    ) -> None:
        self._config = config
        self._facade = facade
        self._models = models
        self._upstream = upstream
        self._jobs = jobs
        self._service = service
        self._pace = Pace(config.poll_s)

    async def kick_off(self, request: Request, caller: Caller, level: str) -> Response:
        """Accept an export; `level` is "", "Patient" or "Group/id"."""
        pairs = await kick_off_pairs(request)
        kind, group = _level(level)
        path = f"{level}/$export" if level else "$export"
        shown = f"{self._config.fhir_base}/{path}"
        if request.url.query:
            shown += f"?{request.url.query}"
        lenient = "handling=lenient" in request.headers.get("prefer", "").replace(" ", "")
        model = await self._models.model()
        asked = KickOff(caller, model, kind, group, shown, pairs, lenient).judged()
        try:
            asked = await self._checked(asked, caller, lenient)
        except StoreAway:
            raise store_away() from None
        except StoreRefused as error:
            raise Refusal(502, str(error)) from None
        if free_bytes(self._config.folder) < self._config.min_free_bytes:
            raise Refusal(503, "no room for another export", headers={"Retry-After": "600"})
        job = await self._jobs.accept(caller, asked, self._config.open_per_client)
        if job is None:
            headers = {"Retry-After": BUSY_RETRY_S}
            raise Refusal(429, "too many exports of this client are open", headers=headers)
        self._service.wake()
        await self._facade.record_export(caller, f"{path} {','.join(asked.types)[:500]}", str(job))
        log.info("bulk.accepted", job=str(job), level=kind)
        place = f"{self._config.fhir_base}/export/{job}"
        return Response(status_code=202, headers={"Content-Location": place})

    async def _checked(self, asked: ExportRequest, caller: Caller, lenient: bool) -> ExportRequest:
        """The request after a look into the store: its group, its patients and its filters.

        Raises:
            Refusal: 404 no such group; 400 a patient or a filter that the store does not know.
        """
        store = self._store(caller)
        asked = await self._with_patients(asked, store, lenient)
        filters, notes = dict(asked.filters), list(asked.notes)
        for kind, searches in asked.filters.items():
            kept = [one for one in searches if await _searchable(store, kind, one)]
            if len(kept) == len(searches):
                continue
            if not lenient:
                raise Refusal(400, f"the FHIR store does not understand a _typeFilter of {kind}")
            notes.append(f"a _typeFilter of {kind} was not understood")
            filters[kind] = tuple(kept)
        present = {kind: searches for kind, searches in filters.items() if searches}
        return replace(asked, filters=present, notes=tuple(notes))

    async def _with_patients(
        self, asked: ExportRequest, store: Store, lenient: bool
    ) -> ExportRequest:
        registry = self._store(None)
        if asked.group is not None and await registry.read("Group", asked.group) is None:
            raise Refusal(404, "no such group")
        if asked.patients is None:
            return asked
        if asked.group is None:
            known = await _existing(store, asked.patients)
        else:
            at = await registry.now()
            everyone = replace(asked, patients=None, since=None)
            members, _ = await group_members(everyone, registry, at)
            known = frozenset(members or ())
        kept = tuple(one for one in asked.patients if one in known)
        if len(kept) == len(asked.patients):
            return asked
        text = "a patient is not here, or is not in this group"
        if not lenient:
            raise Refusal(400, text)
        return replace(asked, patients=kept, notes=(*asked.notes, text))

    def _store(self, caller: Caller | None) -> Store:
        return Store(self._upstream, caller, patience_s=0.0, meanwhile=_go_on)

    async def status(self, request: Request, caller: Caller, job_id: str) -> Response:
        """202 while it runs, the manifest when it is complete."""
        job = await self._own(caller, job_id)
        if job.state == "failed":
            raise Refusal(500, f"the export failed: {job.reason}", code="exception")
        wait = {"Retry-After": str(self._config.poll_s)}
        if job.open and not self._pace.allows(job.id):
            raise Refusal(429, "asked too often; wait as Retry-After says", headers=wait)
        size = self._config.page_files if job.request.partial else 1_000_000
        number = _page_number(request)
        page = page_of(job, number, size) if job.request.partial or not job.open else None
        if page is None:
            return Response(status_code=202, headers={"X-Progress": progress(job)} | wait)
        files, more = page
        place = f"{self._config.fhir_base}/export/{job.id}?page={number + 1}"
        body = orjson.dumps(manifest(job, self._config, files, place if more else None))
        headers = {"Cache-Control": "no-store"}
        if job.expires_at is not None:
            headers["Expires"] = format_datetime(job.expires_at, usegmt=True)
        if job.open:
            headers |= {"X-Progress": progress(job)} | wait
        status = 202 if job.open else 200
        return Response(body, status, headers=headers, media_type="application/json")

    async def file(self, request: Request, caller: Caller, job_id: str, name: str) -> Response:
        """One file of the caller's own export, if its token still grants what is in it."""
        job = await self._own(caller, job_id)
        found = _FILE.match(name)
        number = int(found[1]) if found else 0
        file = next((f for f in job.files if f.number == number and f.role != "work"), None)
        if file is None or not (job.state == "complete" or job.request.partial):
            raise Refusal(404, "no such export file")
        plain = file.role == "output" and not job.request.organized
        types = (file.resource_type,) if plain else job.request.types
        for kind in types if file.role != "error" else ():
            if not still_covers(caller, job.caller, kind):
                raise Refusal(403, f"the token grants no {kind}.rs as the export had it")
        path = self._config.folder / str(job.id) / file.name
        if not path.is_file():
            raise Refusal(404, "the export file is gone")
        await self._facade.record_export(caller, f"file {file.resource_type}", str(job.id))
        form = job.request.format if file.role == "output" else "ndjson"
        return answer(
            path,
            file,
            MEDIA_TYPES[form] if form == "parquet" else NDJSON,
            request.headers,
            partial(self._jobs.busy, job.id),
        )

    async def remove(self, caller: Caller, job_id: str) -> Response:
        """Cancel a running export, or give up the files of a finished one."""
        job = await self._own(caller, job_id)
        await self._jobs.remove(job)
        self._service.clear_soon()
        log.info("bulk.removed", job=str(job.id), state=job.state)
        issue = {"severity": "information", "code": "informational", "diagnostics": "removed"}
        return fhir_response({"resourceType": "OperationOutcome", "issue": [issue]}, 202)

    async def _own(self, caller: Caller, job_id: str) -> Job:
        job = await self._jobs.find(job_id, caller)
        if job is None:
            raise Refusal(404, "no such export")
        return job


def progress(job: Job) -> str:
    """Fewer than 100 characters about how far a job is."""
    if job.state == "accepted":
        return "waiting"
    if not job.doing:
        return "starting"
    if not job.expected:
        return f"{job.written} resources, now {job.doing}"
    part = min(99, 100 * job.written // job.expected)
    return f"{part}%: {job.written} of {job.expected} resources, now {job.doing}"


def is_group_id(text: str) -> bool:
    """Whether this can be the id of a Group."""
    return _GROUP_ID.match(text) is not None


def _level(level: str) -> tuple[Level, str | None]:
    if level.startswith("Group/"):
        return "group", level.removeprefix("Group/")
    return ("patient", None) if level == "Patient" else ("system", None)


def _page_number(request: Request) -> int:
    text = request.query_params.get("page", "1")
    if not re.fullmatch(r"[1-9]\d{0,5}", text, re.ASCII):
        raise Refusal(404, "no such manifest")
    return int(text)


async def _go_on() -> None:
    """Nothing keeps a request from asking the store."""


async def _searchable(store: Store, kind: str, search: str) -> bool:
    try:
        await store.count(kind, parse_query(search))
    except StoreRefused:
        return False
    return True


async def _existing(store: Store, ids: tuple[str, ...]) -> frozenset[str]:
    found: set[str] = set()
    for start in range(0, len(ids), IDS_AT_ONCE):
        asked = ",".join(ids[start : start + IDS_AT_ONCE])
        rows = await store.search("Patient", [("_id", asked), ("_elements", "id")])
        found |= {str(row["id"]) for row in rows}
    return frozenset(found)
