"""What the service says of itself, and how it speaks to browsers of other origins."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from dicomweb.config import DicomwebConfig
from dicomweb.routes import RULES
from tests.dicomweb.server import file_of, running, slice_of, url_of

OCTETS = 'multipart/related; type="application/octet-stream"'
ORIGIN = "https://viewer.example"
NS = "{http://wadl.dev.java.net/2009/02}"


def documented() -> set[tuple[str, str]]:
    return {(rule.method, re.sub(r":\w+}", "}", rule.path)) for rule in RULES}


@pytest.mark.parametrize(("method", "path"), [("OPTIONS", "/"), ("GET", "/capabilities")])
def test_the_capabilities_are_the_routing_table(server, web, method, path):
    answer = web.request(method, path, headers={"Accept": "application/vnd.sun.wadl+xml"})
    root = ET.fromstring(answer.content)
    json = web.request(method, path, headers={"Accept": "application/json"}).json()

    resources = root.find(f"{NS}resources")
    assert answer.headers["content-type"] == "application/vnd.sun.wadl+xml"
    assert resources.get("base") == json["base"] == server.base
    wadl = {
        (method.get("name"), "/" + resource.get("path"))
        for resource in resources
        for method in resource.iter(f"{NS}method")
    }
    told = {(m["method"], one["path"]) for one in json["resources"] for m in one["methods"]}
    assert wadl == told == documented()


def test_every_row_says_what_it_does():
    assert all(rule.summary for rule in RULES)


def test_anyone_may_read_them_in_a_form_that_there_is(server):
    with server.client() as web:
        del web.headers["Authorization"]
        assert web.options("/").status_code == 200
        assert web.options("/", headers={"Accept": "image/png"}).status_code == 406


def test_a_resource_tells_its_methods(web, stored):
    answer = web.options(url_of(stored, "study"))
    wrong = web.put(url_of(stored, "study"), content=b"")

    assert answer.status_code == 204
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}
    assert wrong.status_code == 405
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "DELETE", "OPTIONS"}
    assert wrong.headers["content-type"] == "application/problem+json"


@pytest.fixture(scope="module")
def abroad(dsn, tmp_path_factory):
    """A server that another origin's pages may call."""
    config = DicomwebConfig(cors_origins=(ORIGIN,))
    with running(dsn, tmp_path_factory.mktemp("abroad"), config) as server:
        yield server


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_registered_origin_may_ask_first(abroad, method):
    with abroad.client() as web:
        del web.headers["Authorization"]
        answer = web.options(
            "/studies",
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "authorization, content-type, range",
            },
        )

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert method in answer.headers["access-control-allow-methods"]


def test_its_pages_read_the_headers_they_need_also_of_a_refusal(abroad):
    with abroad.client(Origin=ORIGIN) as web:
        good = web.get("/capabilities")
        refused = web.get("/studies", headers={"Authorization": "Bearer nonsense"})

    for answer in (good, refused):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "Origin" in answer.headers["vary"]
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert all(name in exposed for name in ("etag", "warning", "content-location", "location"))


def test_another_origin_gets_nothing(abroad):
    with abroad.client(Origin="https://evil.example") as web:
        answer = web.get("/studies")
        preflight = web.options(
            "/studies",
            headers={"Access-Control-Request-Method": "DELETE"},
        )

    assert "access-control-allow-origin" not in answer.headers
    assert preflight.status_code == 400
    assert "access-control-allow-origin" not in preflight.headers


def test_dcmjs_and_dicomweb_client_requests_are_understood(server, web):
    """The Accept headers that dcmjs' client, OHIF and dicomweb-client send."""
    dataset = slice_of()
    server.stow(file_of(dataset))
    url = url_of(dataset)
    asked = [
        (url, 'multipart/related; type="application/dicom"'),
        (url, 'multipart/related; type="application/dicom"; transfer-syntax=*'),
        (url, "multipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
        (url + "/metadata", "application/dicom+json"),
        (url + "/metadata", "application/json"),
        (url + "/metadata", "application/dicom+json, application/json, */*"),
        (url + "/frames/1", f'{OCTETS}; transfer-syntax=*'),
        (url + "/frames/1", "multipart/related; type=application/octet-stream"),
        (url + "/rendered", "image/jpeg"),
        ("/studies?limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060",
         "application/dicom+json"),
    ]  # fmt: skip

    answers = [(where, web.get(where, headers={"Accept": accept})) for where, accept in asked]

    assert [(where, one.status_code) for where, one in answers if one.status_code != 200] == []


def test_the_reference_page_names_every_first_part_of_a_path():
    page = (Path(__file__).resolve().parents[2] / "docs/reference/endpoints.md").read_text()
    firsts = {"/" + rule.path.split("/")[1] for rule in RULES}

    assert [one for one in firsts if f"`{one}" not in page] == []
