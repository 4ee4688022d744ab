"""Sign-off: a report of ours that a person has made final gets the shape that IHE IMR asks for.

Drafts have none of it. What the signer wrote stays; what is missing is added: organisation, reader,
time, and the text as HTML with size and hash. Renditions of the draft leave the report, for they
say "not reviewed" on every page; their DocumentReferences stay, superseded.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from typing import Any

import structlog

from records import Records, identifiers
from records import organization as organizations
from records.results import findings_of
from reports.documents import DOCUMENT, document_of, superseded
from reports.provenance import by_person

Resource = dict[str, Any]

SIGNED = frozenset({"final", "amended", "corrected", "appended"})
HTML = "text/html"

log = structlog.get_logger(__name__)


def lacks(report: Resource) -> list[str]:
    """What a signed report lacks of the shape of IHE IMR, by element.

    Source: IHE RAD Interactive Multimedia Report, imr-diagnosticreport (2024-06-20).
    """
    readers = [str(one.get("reference", "")) for one in report.get("resultsInterpreter", [])]
    forms = report.get("presentedForm", [])
    whole = [f for f in forms if {"contentType", "size", "hash"} <= set(f)]
    found = {
        "performer": _references(report.get("performer", []), "Organization"),
        "resultsInterpreter": [r for r in readers if r.startswith("Practitioner")],
        "imagingStudy": report.get("imagingStudy"),
        "issued": report.get("issued"),
        "presentedForm": [f for f in whole if f["contentType"] == HTML]
        and len(whole) == len(forms),
    }
    return [name for name, value in found.items() if not value]


async def complete(records: Records, report: Resource, institution: str) -> bool:
    """Add what a signed report lacks; returns whether anything was written. Safe to repeat.

    A reader cannot be made up: where neither the report nor a Provenance of it names one, the
    rest is added and the log says what is missing.

    Raises:
        RecordsError: a store could not be had, or the report has just changed.
    """
    form = _html_form(report)
    organization = await _organization(records, report, institution)
    reader = await _reader(records, report)
    updated = _completed(report, organization, reader, form)
    stated = findings_of(records, [report], {"Observation"})
    findings = [one async for one in stated if one["status"] == "preliminary"]
    if updated == report and not findings:
        return False
    documents = await _documents(records, report, updated, form)
    entries = [_put(_binary(report)), _put(updated, report)]
    entries += [_put({**one, "status": "final"}, one) for one in findings]
    entries += documents
    if reader is not None:
        also = [f"Observation/{one['id']}" for one in findings]
        entries.append(_put(by_person(report, reader, organization, also=also)))
    await records.transaction(entries)
    missing = lacks(updated)
    if missing:
        log.warning("report_incomplete", report=report["id"], missing=missing)
    log.info("report_signed", report=report["id"], findings=len(findings))
    return True


def _completed(
    report: Resource, organization: Resource, reader: Resource | None, form: Resource
) -> Resource:
    performers = list(report.get("performer", []))
    if not _references(performers, "Organization"):
        performers.append(organization)
    readers = list(report.get("resultsInterpreter", []))
    if reader is not None and not readers:
        readers.append(reader)
    ours = _own_urls(report)
    others = [f for f in report.get("presentedForm", []) if f.get("url") not in ours]
    completed = {
        **report,
        "issued": report.get("issued", report["meta"]["lastUpdated"]),
        "performer": performers,
        "presentedForm": [form, *(_hashed(one) for one in others)],
    }
    if report.get("text", {}).get("status") == "generated":  # the draft's
        div = f'<div xmlns="http://www.w3.org/1999/xhtml">{_body(report)}</div>'
        completed["text"] = {"status": "generated", "div": div}
    return completed | ({"resultsInterpreter": readers} if readers else {})


def is_ours(report: Resource) -> bool:
    """Whether a report began as a draft of ours."""
    return any(one.get("system") == identifiers.REPORT for one in report.get("identifier", []))


def _hashed(form: Resource) -> Resource:
    """A form with the size and hash of its inline data."""
    if "data" not in form:
        return form
    content = base64.b64decode(form["data"])
    return {**form, "size": len(content), "hash": _sha1(content)}


def _html_form(report: Resource) -> Resource:
    content = _html(report)
    return {
        "contentType": HTML,
        "language": "en",
        "url": f"Binary/{_binary_id(report, 'html')}",
        "size": len(content),
        "hash": _sha1(content),
        "title": f"{_title(report)} (HTML)",
    }


def _html(report: Resource) -> bytes:
    """The report's text as a page."""
    title = escape(_title(report))
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
        f"<body>{_body(report)}</body></html>"
    ).encode()


def _body(report: Resource) -> str:
    """Title, conclusion and the names of the findings; nothing of the draft's narrative."""
    conclusion = escape(str(report.get("conclusion", "")))
    lines = "".join(f"<p>{line}</p>" for line in conclusion.splitlines() if line.strip())
    results = "".join(
        f"<li>{escape(str(one['display']))}</li>"
        for one in report.get("result", [])
        if one.get("display")
    )
    findings = f"<h2>Findings measured</h2><ul>{results}</ul>" if results else ""
    return f"<h1>{escape(_title(report))}</h1>{lines}{findings}"


def _title(report: Resource) -> str:
    return str(report.get("code", {}).get("text", "Imaging report"))


def _binary(report: Resource) -> Resource:
    return {
        "resourceType": "Binary",
        "id": _binary_id(report, "html"),
        "contentType": HTML,
        "securityContext": {"reference": f"DiagnosticReport/{report['id']}"},
        "data": base64.b64encode(_html(report)).decode(),
    }


def _binary_id(report: Resource, kind: str) -> str:
    return identifiers.derived_uuid("rendition", _run(report), kind)


def _own_urls(report: Resource) -> set[str]:
    return {f"Binary/{_binary_id(report, kind)}" for kind in ("pdf", "docx", "html")}


def _run(report: Resource) -> str:
    return next(
        (
            str(one["value"])
            for one in report.get("identifier", [])
            if one.get("system") == identifiers.REPORT
        ),
        str(report["id"]),
    )


def _sha1(content: bytes) -> str:
    return base64.b64encode(hashlib.sha1(content, usedforsecurity=False).digest()).decode()


def _references(items: list[Resource], kind: str) -> list[Resource]:
    return [one for one in items if str(one.get("reference", "")).startswith(f"{kind}/")]


async def _organization(records: Records, report: Resource, institution: str) -> Resource:
    """Whom the report is given out by: as it says, else this institution."""
    for one in _references(report.get("performer", []), "Organization"):
        return one
    made = organizations.organization(institution)
    stored = await records.create(made, if_none_exist=organizations.condition(institution))
    return {"reference": f"Organization/{stored['id']}"}


async def _reader(records: Records, report: Resource) -> Resource | None:
    """Who has read it: as the report says, else the person of its newest Provenance."""
    for name in ("resultsInterpreter", "performer"):
        for one in report.get(name, []):
            if str(one.get("reference", "")).startswith("Practitioner"):
                return {"reference": str(one["reference"])}
    target = {"target": f"DiagnosticReport/{report['id']}", "_sort": "-_lastUpdated"}
    for found in await records.search("Provenance", target):
        for agent in found.get("agent", []):
            who = str(agent.get("who", {}).get("reference", ""))
            if who.startswith("Practitioner"):
                return {"reference": who}
    return None


async def _documents(
    records: Records, report: Resource, updated: Resource, form: Resource
) -> list[Resource]:
    """The signed text as a document, and the end of the draft's documents."""
    own = document_of(updated, form, name=f"{_run(report)}-html")
    related = {"related": f"DiagnosticReport/{report['id']}", "identifier": f"{DOCUMENT}|"}
    drafts = await records.search("DocumentReference", {**related, "status": "current"})
    ended = [_put(superseded(one), one) for one in drafts if one["id"] != own["id"]]
    return [_put(own), *ended]


def _put(resource: Resource, read: Resource | None = None) -> Resource:
    """An entry that replaces a resource, if it is still the version that was read."""
    url = f"{resource['resourceType']}/{resource['id']}"
    request = {"method": "PUT", "url": url}
    if read is not None:
        request["ifMatch"] = f'W/"{read["meta"]["versionId"]}"'
    full = identifiers.urn_uuid("signing", url)
    return {"fullUrl": full, "resource": resource, "request": request}
