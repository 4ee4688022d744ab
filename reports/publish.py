"""Render a report and put its renditions into both stores, so that a repeat changes nothing.

Order: the Encapsulated PDF goes to the archive first (the same UID and bytes each time), then one
transaction writes both Binaries and the DiagnosticReport. A death at any point leaves either no
trace in FHIR or everything, and the repeat ends with one PDF, one DOCX and one instance.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Any

import structlog
from pydicom.dataset import Dataset

from records import Records, identifiers
from reports import docx, pdf, reading, signing
from reports.documents import document_of
from reports.encapsulated import encapsulated_pdf
from reports.errors import NotPreliminary
from reports.findings import Findings
from reports.layout import LANGUAGE, TEMPLATE_VERSION, Document, document
from reports.narrative_html import narrative_html
from reports.provenance import by_rendering

Resource = dict[str, Any]
RENDITION = f"{identifiers.SID}/rendition"  # of the input that the attached files were made from
PDF_TYPE = "application/pdf"
DOCX_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deps:
    """What a rendering works with. `store` sends an instance to the archive (DICOMweb)."""

    records: Records
    store: Callable[[Dataset], Awaitable[None]]
    institution: str


@dataclass(frozen=True, slots=True)
class Rendition:
    """One file of the report."""

    kind: str
    content_type: str
    content: bytes

    def binary_id(self, findings: Findings) -> str:
        """The same for every version of the same report."""
        return identifiers.derived_uuid("rendition", findings.identifier, self.kind)


async def render(deps: Deps, report_id: str) -> bool:
    """Bring the renditions of a report up to date. Returns whether anything was written.

    A report that a person has withdrawn meanwhile is left as it is; one that was signed gets what
    a signed report needs (`reports.signing`).

    Raises:
        FindingsError: the data cannot be put into a report.
        StoreRefused, RecordsError: a store could not be had, or the report has just changed.
    """
    started = monotonic()
    reference = f"DiagnosticReport/{report_id}"
    report = await deps.records.read("DiagnosticReport", report_id)
    if report.get("status") in signing.SIGNED:
        return signing.is_ours(report) and await signing.complete(
            deps.records, report, deps.institution
        )
    bundle = await gather(deps.records, report_id)
    report = bundle[reference]
    try:
        findings = reading.findings_of(bundle, reference)
    except NotPreliminary as error:
        log.info("report_not_rendered", report=report_id, status=error.status)
        return False
    digest = input_digest(findings, deps.institution)
    if is_current(report, digest):
        return False
    laid_out = document(findings, deps.institution)
    renditions = await asyncio.to_thread(_draw, laid_out)
    instance = encapsulated_pdf(findings, renditions[0].content, digest, deps.institution)
    await deps.store(instance)
    await deps.records.transaction(_entries(report, findings, laid_out, renditions, digest))
    log.info(
        "report_rendered",
        report=report_id,
        study=findings.study.uid,
        instance=instance.SOPInstanceUID,
        seconds=round(monotonic() - started, 3),
    )
    return True


def _draw(laid_out: Document) -> tuple[Rendition, Rendition]:
    return (
        Rendition("pdf", PDF_TYPE, pdf.render(laid_out)),
        Rendition("docx", DOCX_TYPE, docx.render(laid_out)),
    )


async def gather(records: Records, report_id: str) -> dict[str, Resource]:
    """The report and what it leads to, by reference; nothing outside our own store."""
    report = await records.read("DiagnosticReport", report_id)
    bundle = {f"DiagnosticReport/{report_id}": report}
    near = [report.get("subject", {}), *report.get("imagingStudy", [])]
    near += [*report.get("result", []), *report.get("performer", [])]
    near += [entry.get("link", {}) for entry in report.get("media", [])]
    bundle |= await _read_all(records, near)
    devices = [r.get("device", {}) for r in bundle.values() if r["resourceType"] == "Observation"]
    pictures = [
        {"reference": reading.binary_of(r["content"], name)}
        for name, r in bundle.items()
        if r["resourceType"] == "Media" and "data" not in r.get("content", {})
    ]
    return bundle | await _read_all(records, [*devices, *pictures])


async def _read_all(records: Records, references: list[Resource]) -> dict[str, Resource]:
    wanted = {str(r["reference"]) for r in references if "reference" in r}
    local = sorted(reference for reference in wanted if reference.count("/") == 1)
    found = await asyncio.gather(*(records.read(*reference.split("/")) for reference in local))
    return dict(zip(local, found, strict=True))


def input_digest(findings: Findings, institution: str) -> str:
    """Names all that a rendition is made of: findings, letterhead and the version of the layout."""
    facts = json.dumps(
        [TEMPLATE_VERSION, institution, asdict(findings)],
        sort_keys=True,
        default=lambda value: value.hex() if isinstance(value, bytes) else str(value),
    )
    return hashlib.sha256(facts.encode()).hexdigest()


def is_current(report: Resource, digest: str | None = None) -> bool:
    """Whether files are attached, and, given a digest, whether they were made from that input."""
    known = [i.get("value") for i in report.get("identifier", []) if i.get("system") == RENDITION]
    attached = {a.get("contentType") for a in report.get("presentedForm", [])}
    if not {PDF_TYPE, DOCX_TYPE} <= attached or not known:
        return False
    return digest is None or known == [digest]


def _entries(
    report: Resource,
    findings: Findings,
    laid_out: Document,
    renditions: tuple[Rendition, ...],
    digest: str,
) -> list[Resource]:
    binaries = [_binary(rendition, findings) for rendition in renditions]
    updated = _updated(report, findings, laid_out, renditions, digest)
    documents = [
        document_of(updated, form, name=f"{findings.identifier}-{rendition.kind}")
        for rendition, form in zip(renditions, updated["presentedForm"], strict=False)
    ]
    match = {"ifMatch": f'W/"{report["meta"]["versionId"]}"'}
    told = by_rendering(updated, documents, digest)
    made = [*documents, *([told] if told else [])]
    return [*map(_put, binaries), _put(updated, match), *map(_put, made)]


def _put(resource: Resource, condition: dict[str, str] | None = None) -> Resource:
    url = f"{resource['resourceType']}/{resource['id']}"
    request = {"method": "PUT", "url": url, **(condition or {})}
    full = identifiers.urn_uuid("rendition", url)
    return {"fullUrl": full, "resource": resource, "request": request}


def _binary(rendition: Rendition, findings: Findings) -> Resource:
    return {
        "resourceType": "Binary",
        "id": rendition.binary_id(findings),
        "contentType": rendition.content_type,
        # Who may not see the report may not see its files either.
        "securityContext": {"reference": f"DiagnosticReport/{findings.report_id}"},
        "data": base64.b64encode(rendition.content).decode(),
    }


def _updated(
    report: Resource,
    findings: Findings,
    laid_out: Document,
    renditions: tuple[Rendition, ...],
    digest: str,
) -> Resource:
    ours = {f"Binary/{rendition.binary_id(findings)}" for rendition in renditions}
    others = [a for a in report.get("presentedForm", []) if a.get("url") not in ours]
    forms = [_attachment(rendition, findings, report["issued"]) for rendition in renditions]
    names = [i for i in report.get("identifier", []) if i.get("system") != RENDITION]
    return {
        **report,
        "text": {"status": "generated", "div": narrative_html(laid_out)},
        "identifier": [*names, {"use": "secondary", "system": RENDITION, "value": digest}],
        "presentedForm": [*forms, *others],
    }


def _attachment(rendition: Rendition, findings: Findings, issued: str) -> Resource:
    sha1 = hashlib.sha1(rendition.content, usedforsecurity=False).digest()  # as FHIR has it
    return {
        "contentType": rendition.content_type,
        "language": LANGUAGE,
        "url": f"Binary/{rendition.binary_id(findings)}",
        "size": len(rendition.content),
        "hash": base64.b64encode(sha1).decode(),
        "title": f"{findings.title} ({rendition.kind.upper()})",
        "creation": issued,
    }
