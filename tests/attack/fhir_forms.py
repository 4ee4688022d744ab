"""Request forms that try to get more from the FHIR door than a token grants.

Each form is made for a target: a resource of a patient. The same forms are sent for the principal's
own patient, for another one and for ids that do not exist.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.fixtures.two_patients import CATEGORY, SYSTEM, OnePatient, TwoPatients

JSON = {"Content-Type": "application/fhir+json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PATCH = {"Content-Type": "application/json-patch+json"}
TYPES = ["Patient", "Observation", "ImagingStudy", "DiagnosticReport", "Provenance", "Endpoint",
         "Binary", "Organization", "Practitioner", "Group", "List", "AuditEvent", "Subscription",
         "Task", "Device", "Encounter", "SearchParameter"]  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One request."""

    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    writes: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.body or ''}"[:300]


def places(one: OnePatient) -> dict[str, str]:
    """Type -> id of what a patient has."""
    return {
        "Patient": one.patient,
        "Observation": one.lab,
        "ImagingStudy": one.study,
        "DiagnosticReport": one.report,
        "Endpoint": one.endpoint,
        "Provenance": one.provenance,
        "Binary": one.binary,
    }


def attempts(data: TwoPatients, target: OnePatient, seed: int) -> Iterator[Attempt]:
    """Every form for one target."""
    yield from _reads(target)
    yield from _searches(target)
    yield from _traversals(target)
    yield from _numbers(target)
    yield from _operations(target)
    yield from _spellings(target)
    yield from _batches(target)
    yield from _writes(data, target)
    yield from _mixed(target, random.Random(seed))


def _get(path: str, **headers: str) -> Attempt:
    return Attempt("GET", path, headers=headers)


def _reads(target: OnePatient) -> Iterator[Attempt]:
    for kind, name in places(target).items():
        for path in ("", "/_history", "/_history/1", "/_history/2"):
            yield _get(f"{kind}/{name}{path}")
        yield Attempt("HEAD", f"{kind}/{name}")
        yield _get(f"{kind}/{name}?_elements=id")
        yield _get(f"{kind}/{name}?_summary=true")
        yield _get(f"{kind}?_id={name}")
        yield Attempt("POST", f"{kind}/_search", f"_id={name}", FORM)
    for name in (target.lab, target.image, target.scratch):
        yield _get(f"Observation/{name}")


def _searches(target: OnePatient) -> Iterator[Attempt]:
    patient = target.patient
    for kind in TYPES:
        yield _get(kind)
        yield _get(f"{kind}/_history")
        yield _get(f"{kind}?_count=1")
        yield _get(f"{kind}?_lastUpdated=gt2000-01-01")
    for kind in ("Observation", "ImagingStudy", "DiagnosticReport"):
        for name in ("patient", "subject", "patient:Patient", "subject:Patient"):
            yield _get(f"{kind}?{name}={patient}")
            yield _get(f"{kind}?{name}=Patient/{patient}")
        yield _get(f"{kind}?patient={patient}&patient={patient}")
        yield _get(f"{kind}?patient=x,{patient}")
        yield _get(f"{kind}?patient:not={patient}")
        yield _get(f"{kind}?patient:missing=false")
        yield Attempt("POST", f"{kind}/_search?patient={patient}", "status=final", FORM)
        yield Attempt("POST", f"{kind}/_search", f"patient={patient}", FORM)
    yield _get(f"Patient?identifier={quote(f'{SYSTEM}|{target.family}')}")
    yield _get(f"Patient?family={target.family}")
    yield _get(f"Patient?name:contains={target.family[:6]}")
    yield _get(f"Patient?link={patient}")
    yield _get(f"Observation?identifier={quote(f'{SYSTEM}|{target.lab_number}')}")
    yield _get(f"Observation?category={quote(f'{CATEGORY}|lab')}")
    yield _get(f"Observation?category={quote(f'{CATEGORY}|imaging')},{quote(f'{CATEGORY}|lab')}")
    yield _get(f"Observation?category:not={quote(f'{CATEGORY}|scratch')}")
    yield _get(f"Observation?derived-from=ImagingStudy/{target.study}")
    yield _get(f"DiagnosticReport?result=Observation/{target.image}")
    yield _get(f"ImagingStudy?endpoint=Endpoint/{target.endpoint}")
    yield _get(f"Provenance?target=Observation/{target.lab}")
    yield _get(f"Provenance?patient={patient}")
    yield _get(f"Endpoint?_id={target.endpoint}")
    for name in ("_text", "_content", "_filter", "_list", "_query", "_contained", "_type"):
        yield _get(f"Observation?{name}={patient}")
    yield _get(f"?_type=Observation&patient={patient}")
    yield _get("_history")
    yield _get(f"Patient/{patient}/Observation")
    yield _get(f"Patient/{patient}/*")


def _traversals(target: OnePatient) -> Iterator[Attempt]:
    patient = target.patient
    for asked in (
        f"subject:Patient.family={target.family}",
        f"patient.identifier={quote(f'{SYSTEM}|{target.family}')}",
        f"patient._id={patient}",
        f"derived-from:ImagingStudy.patient={patient}",
        f"_has:DiagnosticReport:result:patient={patient}",
        f"_has:Provenance:target:patient={patient}",
    ):
        yield _get(f"Observation?{asked}")
        yield Attempt("POST", "Observation/_search", asked, FORM)
    for asked in (
        f"_has:Observation:patient:identifier={quote(f'{SYSTEM}|{target.lab_number}')}",
        "_has:Observation:subject:status=final",
        f"_has:ImagingStudy:patient:_id={target.study}",
        f"_has:Observation:patient:_has:DiagnosticReport:result:patient={patient}",
    ):
        yield _get(f"Patient?{asked}")
    yield _get(f"Organization?_has:Patient:organization:family={target.family}")
    yield _get(f"Endpoint?_has:ImagingStudy:endpoint:patient={patient}")
    yield from _includes(target)


def _includes(target: OnePatient) -> Iterator[Attempt]:
    for include in (
        "_include=*",
        "_include=Observation:subject",
        "_include=Observation:derived-from",
        "_include:iterate=Observation:derived-from&_include=Observation:subject",
        "_include:recurse=Observation:subject",
        "_revinclude=Provenance:target",
        "_revinclude=DiagnosticReport:result",
        "_revinclude=*",
        "_revinclude=AuditEvent:entity",
    ):
        yield _get(f"Observation?_count=50&{include}")
        yield _get(f"Observation?_id={target.lab},{target.image}&{include}")
    for include in (
        "_include=ImagingStudy:endpoint",
        "_include=ImagingStudy:patient",
        "_revinclude=Observation:derived-from",
        "_revinclude=Provenance:target",
    ):
        yield _get(f"ImagingStudy?{include}")
        yield _get(f"ImagingStudy?_id={target.study}&{include}")
    for include in ("_revinclude=Observation:subject", "_revinclude=ImagingStudy:patient",
                    "_include=Patient:organization", "_revinclude=Provenance:target"):  # fmt: skip
        yield _get(f"Patient?_id={target.patient}&{include}")
    yield _get("Organization?_revinclude=Patient:organization")
    yield _get("Endpoint?_revinclude=ImagingStudy:endpoint")


def _numbers(target: OnePatient) -> Iterator[Attempt]:
    for kind in ("Patient", "Observation", "ImagingStudy", "DiagnosticReport", "Provenance",
                 "Endpoint", "Organization"):  # fmt: skip
        for asked in ("_summary=count", "_total=accurate", "_total=estimate", "_count=0"):
            yield _get(f"{kind}?{asked}")
    yield _get(f"Patient?family={target.family}&_summary=count")
    yield _get(f"Observation?patient={target.patient}&_summary=count")
    yield _get(f"Observation?category={quote(f'{CATEGORY}|imaging')}&_total=accurate")
    yield Attempt("POST", "Observation/_search", "_summary=count", FORM)
    for order in ("_sort=patient", "_sort=-_lastUpdated", "_sort=subject.family", "_sort=_id"):
        yield _get(f"Observation?{order}&_count=2")
    yield _get("Observation?_offset=1&_count=2")
    yield _get("Observation?_count=1&_total=accurate")


def _operations(target: OnePatient) -> Iterator[Attempt]:
    patient = target.patient
    for path in (
        f"Patient/{patient}/$everything",
        f"Patient/{patient}/$everything?_type=Observation",
        f"Patient/{patient}/$meta",
        f"Patient/{patient}/$graphql?query={{id}}",
        "Patient/$everything",
        "$graphql?query={PatientList{id}}",
        "$meta",
        "$get-resource-counts",
        f"Observation/$lastn?patient={patient}",
        f"Observation/{target.lab}/$meta",
        f"DocumentReference/$docref?patient={patient}",
        f"Encounter/{patient}/$everything",
        "$export-poll-status?_jobId=1",
    ):
        yield _get(path)
    empty = {"resourceType": "Parameters"}
    for path in (
        "$expunge", "$reindex", "$process-message", "$partition-management-list-partitions",
        f"Patient/{patient}/$expunge", f"Patient/{patient}/$merge", f"Patient/{patient}/$meta-add",
        f"Patient/{patient}/$validate", "Observation/$validate", "ValueSet/$expand",
        "$replace-references",
    ):  # fmt: skip
        yield Attempt("POST", path, empty, JSON)


def _spellings(target: OnePatient) -> Iterator[Attempt]:
    patient, lab = target.patient, target.lab
    for path in (
        f"Observation//{lab}",
        f"Observation/{lab}/",
        f"/Observation/{lab}",
        f"Observation/./{lab}",
        f"Observation/x/../{lab}",
        f"Observation/x%2f..%2f{lab}",
        f"observation/{lab}",
        f"Observation/{lab}%00",
        f"Observation/{lab};x",
        f"Observation/{lab}?_format=xml",
        f"Observation/{lab}?_format=html/json",
        f"Observation/{lab}?_pretty=true",
        f"Observation?_id={lab}%00",
        f"Observation?_ID={lab}",
        f"Observation?%5Fid={lab}",
        f"Observation?patient=%50atient/{patient}",
        f"Observation?patient=http://elsewhere.example/fhir/Patient/{patient}",
        f"Observation?patient=Patient/{patient}/_history/1",
        f"Observation?patient=Patient/{patient}%7C",
        f"Observation?patient=urn:uuid:{patient}",
        f"Observation?access_token=x&patient={patient}",
        "?_getpages=00000000-0000-0000-0000-000000000000&_getpagesoffset=0&_count=10",
        f"Observation/{lab}/_history/1/_history/1",
        f"Binary/{target.binary}/$binary-access-read?path=Binary.data",
        f"DiagnosticReport/{target.report}/$binary-access-read?path=DiagnosticReport.presentedForm",
        f"export/{patient}",
        f"export/{patient}/1.ndjson",
    ):
        yield _get(path)
    for header in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        yield Attempt("GET", f"Observation/{lab}", headers={header: "DELETE"})
    for accept in ("text/html", "application/fhir+xml", "*/*", "application/octet-stream"):
        yield Attempt("GET", f"Binary/{target.binary}", headers={"Accept": accept})
    yield Attempt("GET", f"Observation/{lab}", headers={"If-None-Match": 'W/"1"'})
    yield _get(f"Observation/{lab}", **{"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"})
    yield Attempt("OPTIONS", f"Observation/{lab}")


def _batches(target: OnePatient) -> Iterator[Attempt]:
    gets = [f"{kind}/{name}" for kind, name in places(target).items()]
    gets += [f"Observation?patient={target.patient}", "Observation?_summary=count",
             f"Observation/{target.lab}/_history", "ImagingStudy?_include=ImagingStudy:endpoint",
             f"Patient?family={target.family}", "metadata",
             f"Patient/{target.patient}/$everything"]  # fmt: skip
    for kind in ("batch", "transaction"):
        for url in gets:
            yield Attempt("POST", "", _bundle(kind, ("GET", url)), JSON)
    yield Attempt("POST", "", _bundle("batch", *(("GET", url) for url in gets)), JSON)
    inner = _bundle("batch", ("GET", gets[0]))
    yield Attempt("POST", "", _bundle("batch", ("POST", "", inner)), JSON)
    yield Attempt("POST", "", _bundle("batch", ("POST", "/", inner)), JSON)
    yield Attempt("POST", "", _bundle("batch", ("GET", f"http://x.example/{gets[0]}")), JSON)


def _writes(data: TwoPatients, target: OnePatient) -> Iterator[Attempt]:
    lab, marked = target.lab, {"note": [{"text": "written by an attack"}]}
    body = data.observation(target, id=lab, **marked)
    new = data.observation(target, **marked)
    number = quote(f"{SYSTEM}|{target.lab_number}")
    steps = [{"op": "add", "path": "/note", "value": marked["note"]}]
    yield Attempt("PUT", f"Observation/{lab}", body, JSON, writes=True)
    yield Attempt("PUT", f"Observation?identifier={number}", new, JSON, writes=True)
    yield Attempt("PATCH", f"Observation/{lab}", steps, PATCH, writes=True)
    yield Attempt("PATCH", f"Observation?identifier={number}", steps, PATCH, writes=True)
    yield Attempt("DELETE", f"Observation/{target.scratch}", writes=True)
    yield Attempt("DELETE", f"Observation?identifier={number}", writes=True)
    yield Attempt("DELETE", "Observation?_id=" + target.scratch, writes=True)
    yield Attempt("POST", "Observation", new, JSON, writes=True)
    condition = {"If-None-Exist": f"identifier={number}"}
    yield Attempt("POST", "Observation", new, JSON | condition, writes=True)
    moved = data.observation(data.anna, id=lab, **marked)
    yield Attempt("PUT", f"Observation/{lab}", moved, JSON, writes=True)
    inline = {**new, "subject": {"reference": f"Patient?identifier={SYSTEM}|{target.family}"}}
    for entry in (
        ("POST", "Observation", new),
        ("PUT", f"Observation/{lab}", body),
        ("DELETE", f"Observation/{target.scratch}"),
        ("POST", "Observation", inline),
        ("PATCH", f"Observation/{lab}", {"resourceType": "Parameters"}),
    ):
        for kind in ("batch", "transaction"):
            yield Attempt("POST", "", _bundle(kind, entry), JSON, writes=True)


def _mixed(target: OnePatient, chance: random.Random) -> Iterator[Attempt]:
    """Parameters put together by chance, the same ones for each run."""
    asked = [
        f"patient={target.patient}", f"subject=Patient/{target.patient}", "status=final",
        f"category={quote(f'{CATEGORY}|lab')}", "_include=Observation:subject",
        "_sort=-_lastUpdated",
        "_revinclude=Provenance:target", "_revinclude=DiagnosticReport:result", "_total=accurate",
        "_summary=count", "_summary=data", "_elements=subject", "_count=1", "_count=100",
        f"_id={target.lab},{target.image}", f"code={quote(f'{CATEGORY}|thing')}",
        "_include=Observation:derived-from", f"subject.family={target.family}",
        "_has:DiagnosticReport:result:status=final", "date=ge2000", "_lastUpdated=ge2000-01-01",
    ]  # fmt: skip
    for _ in range(60):
        some = "&".join(chance.sample(asked, chance.randint(1, 5)))
        if chance.random() < 0.3:
            yield Attempt("POST", "Observation/_search", some, FORM)
        else:
            yield _get(f"Observation?{some}")


def _bundle(kind: str, *entries: tuple[Any, ...]) -> dict[str, Any]:
    made = []
    for method, url, *resource in entries:
        one: dict[str, Any] = {"request": {"method": method, "url": url}}
        made.append(one | ({"resource": resource[0]} if resource else {}))
    return {"resourceType": "Bundle", "type": kind, "entry": made}
