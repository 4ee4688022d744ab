"""Who may: tokens, scopes, study limits, cross-origin pages, and the audit record of each."""

from __future__ import annotations

import pytest
from pydicom.uid import generate_uid

import archive
from access import AuditEventKind
from archive import ArchiveError
from dicomweb.config import DicomwebConfig
from dicomweb.errors import DicomwebError
from dicomweb.problems import PROBLEMS
from tests.dicomweb.server import file_of, running, slice_of, url_of

ORIGIN = "https://app.example"


def test_every_error_has_its_own_status():
    assert set(ArchiveError.__subclasses__()) <= set(PROBLEMS)
    assert set(DicomwebError.__subclasses__()) <= set(PROBLEMS)
    assert archive.ArchiveError not in PROBLEMS


@pytest.mark.parametrize("header", [None, "", "Bearer nonsense", "Basic dTpw"])
def test_without_a_valid_token_nothing_is_told(server, stored, header):
    with server.client() as web:
        web.headers.pop("Authorization")
        headers = {} if header is None else {"Authorization": header}
        answers = [
            web.get("/studies", headers=headers),
            web.get(url_of(stored), headers=headers),
            web.post("/studies", content=b"x", headers=headers),
        ]

    assert [one.status_code for one in answers] == [401, 401, 401]
    assert all(one.headers["www-authenticate"].startswith("Bearer") for one in answers)


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [
        ("system/ImagingStudy.s", "search"),
        ("system/ImagingStudy.r", "retrieve"),
        ("user/ImagingStudy.c", "store"),
        ("system/Patient.cruds", None),
    ],
)
def test_each_scope_opens_its_own_door_only(server, stored, scope, allowed):
    headers = {"Authorization": f"Bearer {server.token_for(scope)}"}
    with server.client(**headers) as web:
        got = {
            "search": web.get("/studies?limit=1"),
            "retrieve": web.get(url_of(stored)),
            "store": web.post(
                "/studies", content=file_of(stored), headers={"Content-Type": "application/dicom"}
            ),
        }

    opened = [name for name, answer in got.items() if answer.status_code == 200]
    assert opened == ([allowed] if allowed else [])
    assert all(one.status_code in (200, 403) for one in got.values())


def test_a_token_for_one_study_reads_and_writes_no_other(server, stored):
    mine, other = slice_of(), stored
    token = server.token_for(studies=[mine.StudyInstanceUID])
    kind = {"Content-Type": "application/dicom"}
    with server.client(Authorization=f"Bearer {token}") as web:
        write_mine = web.post("/studies", content=file_of(mine), headers=kind)
        write_other = web.post("/studies", content=file_of(slice_of()), headers=kind)
        read_mine = web.get(url_of(mine))
        read_other = [
            web.get(url_of(other) + tail) for tail in ("", "/metadata", "/frames/1", "/rendered")
        ]

    assert [write_mine.status_code, write_other.status_code] == [200, 409]
    assert read_mine.status_code == 200
    assert {one.status_code for one in read_other} == {403}


def test_each_act_leaves_one_audit_record_without_patient_data(dsn, tmp_path):
    with running(dsn, tmp_path) as server, server.client() as web:
        dataset = slice_of(PatientName="Secret^Person")
        server.stow(file_of(dataset))
        web.get("/studies?PatientName=Secret*")
        web.get(url_of(dataset))
        web.get("/studies/1.2.3.404")
        web.get("/studies", headers={"Authorization": "Bearer nonsense"})
        records = server.audits()

    assert [(one["event"], one["outcome"]) for one in map(_facts, records)] == [
        (AuditEventKind.STORE, "success"),
        (AuditEventKind.QUERY, "success"),
        (AuditEventKind.RETRIEVE, "success"),
        (AuditEventKind.RETRIEVE, "minor"),
        (AuditEventKind.DENIED, "minor"),
    ]
    assert records[2].study == dataset.StudyInstanceUID
    assert "Secret" not in repr(records)


def _facts(record):
    return {"event": record.event, "outcome": record.outcome}


def test_only_configured_origins_may_call_from_a_browser(dsn, tmp_path):
    with running(dsn, tmp_path, DicomwebConfig(cors_origins=(ORIGIN,))) as server:
        ask = {
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        with server.client() as web:
            web.headers.pop("Authorization")
            good = web.options("/studies", headers={"Origin": ORIGIN, **ask})
            bad = web.options("/studies", headers={"Origin": "https://other.example", **ask})

    assert good.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-origin" not in bad.headers


def test_without_origins_no_cors_header_is_sent(web):
    answer = web.get(f"/studies?StudyInstanceUID={generate_uid()}", headers={"Origin": ORIGIN})

    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("scope", "context"),
    [
        ("patient/ImagingStudy.cruds", {"patient": "p"}),
        ("user/ImagingStudy.cruds", {"fhirUser": "Patient/p"}),
        ("system/ImagingStudy.cruds?status=available", {}),
    ],
)
def test_where_nobody_can_be_asked_a_token_with_a_limit_opens_nothing(
    server, stored, scope, context
):
    headers = {"Authorization": f"Bearer {server.token_for(scope, context=context)}"}
    new = file_of(slice_of())
    with server.client(**headers) as web:
        dicom = {"Content-Type": "application/dicom"}
        assert web.get(url_of(stored)).status_code == 403
        assert web.get(f"{url_of(stored)}/metadata").status_code == 403
        assert web.delete(url_of(stored, "study")).status_code == 403
        assert web.get("/studies").status_code == 204
        assert web.get("/changefeed").status_code == 403
        assert web.post("/studies", content=new, headers=dicom).status_code == 403
