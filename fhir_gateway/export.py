"""Bulk Data export: `$export` of system, Patient and Group, with the store's job as row source.

Source: Bulk Data Access 2.0. The manifest, the file URLs and the access check are ours.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from email.utils import format_datetime
from urllib.parse import parse_qs, quote, urlsplit

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from access import Caller
from access.internal_rights import EXPORTER
from fhir_gateway.config import GatewayConfig
from fhir_gateway.export_jobs import ExportFile, ExportJob, ExportJobs
from fhir_gateway.facade import Facade
from fhir_gateway.grammar import Judge
from fhir_gateway.model import HIDDEN_TYPES, ModelSource, ServerModel
from fhir_gateway.outcome import Refusal, fhir_response
from fhir_gateway.searching import Pairs, encode_query, parse_query
from fhir_gateway.upstream import Upstream, stream

NDJSON = "application/fhir+ndjson"
OUTPUT_FORMATS = frozenset({NDJSON, "application/ndjson", "ndjson"})
STATUS_PATH = "$export-poll-status"
_GROUP_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z", re.ASCII)
_INSTANT = re.compile(
    r"\d{4}(-\d{2}(-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?)?)?\Z", re.ASCII
)
_PATIENT_REFERENCE = b'"reference":"Patient/'
MAX_BODY = 64 * 1024
# Binary has no compartment, and what is hidden at the door is hidden here.
NEVER_EXPORTED = HIDDEN_TYPES | {"Binary"}

log = structlog.get_logger(__name__)


class Exporter:
    """Kick-off, status, files and deletion of exports."""

    def __init__(
        self,
        config: GatewayConfig,
        facade: Facade,
        models: ModelSource,
        upstream: Upstream,
        jobs: ExportJobs,
    ) -> None:
        self._config = config
        self._facade = facade
        self._models = models
        self._upstream = upstream
        self._jobs = jobs

    async def kick_off(self, request: Request, caller: Caller, level: str) -> Response:
        """Start an export; `level` is "", "Patient" or "Group/id"."""
        model = await self._models.model()
        pairs = await _parameters(request)
        lenient = "handling=lenient" in request.headers.get("prefer", "")
        types, upstream_pairs = self._judged(caller, model, level, pairs, lenient)
        path = f"{level}/$export" if level else "$export"
        headers = {"accept": "application/fhir+json", "prefer": "respond-async"}
        async with self._upstream.send(
            "GET",
            path,
            encode_query(upstream_pairs),
            rights=EXPORTER,
            headers=headers,
            extra={"Cache-Control": "no-cache"},  # else HAPI hands out another caller's job
        ) as answer:
            content = await self._upstream.read_all(answer, MAX_BODY)
            location = answer.headers.get("content-location", "")
        upstream_id = parse_qs(urlsplit(location).query).get("_jobId", [None])[0]
        if answer.status != 202 or upstream_id is None:
            return Response(content, answer.status, media_type="application/fhir+json")
        shown = f"{self._config.fhir_base}/{path}"
        if pairs:
            shown += f"?{encode_query(pairs)}"
        job_id = await self._jobs.start(caller, shown, upstream_id, types)
        await self._facade.record_export(
            caller, f"{path} {','.join(sorted(types))[:500]}", str(job_id)
        )
        log.info("export.started", job=str(job_id), level=level or "system")
        place = f"{self._config.fhir_base}/export/{job_id}"
        return Response(status_code=202, headers={"Content-Location": place})

    def _judged(
        self, caller: Caller, model: ServerModel, level: str, pairs: Pairs, lenient: bool
    ) -> tuple[frozenset[str], Pairs]:
        """The types this export may hold, and what the store is asked for."""
        possible = frozenset(model.parameters) - NEVER_EXPORTED
        if level:
            possible &= model.about_patients()
        granted = frozenset(t for t in possible if caller.may(t, "r") and caller.may(t, "s"))
        asked = frozenset(t for name, v in pairs if name == "_type" for t in v.split(",") if t)
        if unknown := asked - possible:
            if not lenient:
                raise Refusal(400, f"cannot be exported here: {', '.join(sorted(unknown))[:200]}")
            asked -= unknown
        if not granted or asked - granted:
            raise Refusal(403, "the token does not grant read and search of what is to be exported")
        judge = Judge(caller, model)
        passed: Pairs = [("_outputFormat", NDJSON)]
        for name, value in pairs:
            passed += _passed(judge, name, value, lenient)
        types = asked or granted
        if types != possible:
            passed.append(("_type", ",".join(sorted(types))))
        return types, passed

    async def status(self, caller: Caller, job_id: str) -> Response:
        """202 while it runs, the manifest when it is complete."""
        job = await self._own(caller, job_id)
        if job.state == "running":
            job = await self._looked_up(caller, job)
        if job.state == "failed":
            raise Refusal(500, "the export failed in the FHIR store", code="exception")
        if job.state == "running":
            headers = {"X-Progress": "in progress", "Retry-After": str(self._config.export_poll_s)}
            return Response(status_code=202, headers=headers)
        base = f"{self._config.fhir_base}/export/{job.id}"
        manifest = {
            "transactionTime": job.transaction_time,
            "request": job.request,
            "requiresAccessToken": True,
            "output": [
                {"type": f.resource_type, "url": f"{base}/{n}.ndjson", "count": f.count}
                for n, f in enumerate(job.files, start=1)
            ],
            "error": [],
        }
        headers = {"Cache-Control": "no-store"}
        if job.expires_at is not None:
            headers["Expires"] = format_datetime(job.expires_at)
        return Response(orjson.dumps(manifest), headers=headers, media_type="application/json")

    async def file(self, caller: Caller, job_id: str, name: str) -> Response:
        """One NDJSON file of the caller's own export."""
        job = await self._own(caller, job_id)
        number = int(name) if re.fullmatch(r"[1-9]\d{0,5}", name, re.ASCII) else 0
        if job.state != "complete" or not 1 <= number <= len(job.files):
            raise Refusal(404, "no such export file")
        file = job.files[number - 1]
        if not (caller.may(file.resource_type, "r") and caller.may(file.resource_type, "s")):
            raise Refusal(403, f"the token grants no {file.resource_type}.rs")
        await self._facade.record_export(caller, f"file {file.resource_type}", str(job.id))
        stack = AsyncExitStack()
        answer = await stack.enter_async_context(
            self._upstream.send(
                "GET", f"Binary/{file.binary}", "", rights=EXPORTER, headers={"accept": NDJSON}
            )
        )
        if answer.status != 200:
            await stack.aclose()
            raise Refusal(404, "the export file is gone")
        headers = {"Cache-Control": "no-store"}
        lines = stream(answer, stack)
        if file.patients_only:
            lines = _about_patients(lines)
        return StreamingResponse(lines, media_type=NDJSON, headers=headers)

    async def remove(self, caller: Caller, job_id: str) -> Response:
        """Cancel a running export, or give up the files of a finished one."""
        job = await self._own(caller, job_id)
        if job.state == "running":
            query = f"_jobId={quote(job.upstream, safe='')}"
            async with self._upstream.send(
                "DELETE", STATUS_PATH, query, rights=EXPORTER, headers={}
            ):
                pass  # a job that ended meanwhile answers 404: it is gone for the caller too
        await self._jobs.remove(job)
        return fhir_response(
            {
                "resourceType": "OperationOutcome",
                "issue": [
                    {"severity": "information", "code": "informational", "diagnostics": "removed"}
                ],
            },
            202,
        )

    async def _own(self, caller: Caller, job_id: str) -> ExportJob:
        job = await self._jobs.find(job_id, caller)
        if job is None:
            raise Refusal(404, "no such export")
        return job

    async def _looked_up(self, caller: Caller, job: ExportJob) -> ExportJob:
        """Ask the store how far it is, and take over its files when it is done."""
        query = f"_jobId={quote(job.upstream, safe='')}"
        async with self._upstream.send(
            "GET", STATUS_PATH, query, rights=EXPORTER, headers={}
        ) as answer:
            content = await self._upstream.read_all(answer, 16 * 1024 * 1024)
        if answer.status == 202:
            return job
        if answer.status != 200:
            await self._jobs.fail(job, f"HTTP {answer.status}")
        else:
            manifest = orjson.loads(content)
            found = [
                (str(one["type"]), str(one["url"]).rsplit("/", 1)[-1])
                for one in manifest.get("output", [])
            ]
            model = await self._models.model()
            of_patients = "/Patient/$export" in job.request
            files = []
            for kind, binary in found:
                if kind in job.types:
                    only = of_patients and model.kind(kind, "patient") == "reference"
                    count = await self._count_lines(binary, only)
                    files.append(ExportFile(kind, binary, count, only))
            log.info("export.complete", job=str(job.id), files=len(files))
            time = str(manifest["transactionTime"])
            await self._jobs.complete(job, time, files, self._config.export_keep_s)
        return await self._own(caller, str(job.id))

    async def _count_lines(self, binary: str, patients_only: bool) -> int:
        stack = AsyncExitStack()
        answer = await stack.enter_async_context(
            self._upstream.send(
                "GET", f"Binary/{binary}", "", rights=EXPORTER, headers={"accept": NDJSON}
            )
        )
        parts = stream(answer, stack)
        count, last = 0, b"\n"
        async for part in _about_patients(parts) if patients_only else parts:
            count += part.count(b"\n")
            last = part[-1:]
        return count + (last != b"\n")


async def _about_patients(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines that refer to some patient.

    HAPI puts resources of the compartment's types into a Patient export even when they name no
    patient at all, and refuses a `_typeFilter` on the patient parameter.
    """
    rest = b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        if kept := [line + b"\n" for line in lines if _PATIENT_REFERENCE in line]:
            yield b"".join(kept)
    if _PATIENT_REFERENCE in rest:
        yield rest


def _passed(judge: Judge, name: str, value: str, lenient: bool) -> Pairs:
    """One kick-off parameter as the store gets it."""
    if name == "_type":
        return []
    if name == "_outputFormat":
        if value not in OUTPUT_FORMATS:
            raise Refusal(400, "the output format is application/fhir+ndjson")
        return []
    if name == "_since":
        if not _INSTANT.match(value):
            raise Refusal(400, "_since is not an instant")
        return [(name, value)]
    if name == "_typeFilter":
        kind, _, query = value.partition("?")
        return [(name, f"{kind}?{judge.condition(kind, query)}")]
    if lenient:
        return []
    raise Refusal(400, "an export parameter is not supported", code="not-supported")


async def _parameters(request: Request) -> Pairs:
    """Kick-off parameters from the query, and from a Parameters body of a POST."""
    pairs = parse_query(request.url.query)
    if request.method != "POST":
        return pairs
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise Refusal(413, "the Parameters are too large")
    if not body:
        return pairs
    try:
        parsed = orjson.loads(body)
        given = parsed.get("parameter", []) if isinstance(parsed, dict) else []
        for one in given:
            value = next(v for name, v in one.items() if name.startswith("value"))
            pairs.append((str(one["name"]), str(value)))
    except (orjson.JSONDecodeError, KeyError, StopIteration, AttributeError, TypeError) as error:
        raise Refusal(400, "the body is not a Parameters resource") from error
    return pairs


def is_group_id(text: str) -> bool:
    """Whether this can be the id of a Group."""
    return _GROUP_ID.match(text) is not None
