"""Python clients, unmodified: `fhirclient` through a whole launch, `fhirpy` with its token."""

from __future__ import annotations

import asyncio
import re
from html import unescape

import pytest
from fhirclient.client import FHIRClient
from fhirclient.models.imagingstudy import ImagingStudy
from fhirclient.models.patient import Patient
from fhirpy import AsyncFHIRClient
from fhirpy.base.exceptions import ForbiddenError

SCOPE = "launch launch/patient openid fhirUser online_access patient/*.rs"


@pytest.fixture
def anna(clinic):
    return clinic.person("clinic-anna")


def smart_client(clinic, app, **settings):
    return FHIRClient(
        settings={
            "app_id": app.client_id,
            "api_base": f"{clinic.base}/fhir",
            "redirect_uri": app.redirect_uris[0],
            "scope": SCOPE,
            **settings,
        }
    )


def came_back(person):
    """The URL at which the browser would arrive at the app."""
    found = re.search(r'content="0;url=([^"]+)"', person.page.text)
    return person.page.headers.get("location") or unescape(found[1])


def test_fhirclient_launches_standalone_reads_and_refreshes(clinic, anna):
    app = clinic.register()
    smart = smart_client(clinic, app)

    anna.follow(anna.http.get(smart.authorize_url))
    anna.send("patient", value=clinic.patients["Study"])
    anna.send("consent", scope=SCOPE.split())
    smart.handle_callback(came_back(anna))
    before = smart.server.auth.access_token
    patient = Patient.read(smart.patient_id, smart.server)
    studies = ImagingStudy.where({"patient": smart.patient_id}).perform_resources(smart.server)
    smart.reauthorize()
    again = Patient.read(smart.patient_id, smart.server)

    assert smart.patient_id == patient.id == again.id == clinic.patients["Study"]
    assert clinic.study["id"] in {one.id for one in studies}
    assert smart.server.auth.access_token != before


def test_fhirclient_launches_from_the_ehr(clinic, anna):
    app = clinic.register(trusted=True)
    begun = anna.http.post(
        "/auth/launch", json={"client_id": app.client_id, "patient": clinic.patients["Zweig"]}
    ).json()
    smart = smart_client(clinic, app, launch_token=begun["launch"])

    anna.follow(anna.http.get(smart.authorize_url))
    smart.handle_callback(came_back(anna))

    assert smart.patient_id == clinic.patients["Zweig"]
    assert smart.patient.name[0].family == "Zweig"


def test_fhirclient_with_a_secret_shows_it(clinic, anna):
    app = clinic.register(client_id="clinic-secret", trusted=True)
    clinic.clients.remove(app.client_id)
    from dataclasses import replace

    secret = clinic.clients.add(replace(app, kind="symmetric"))
    smart = smart_client(clinic, app, app_secret=secret)

    anna.follow(anna.http.get(smart.authorize_url))
    anna.send("patient", value=clinic.patients["Zweig"])
    smart.handle_callback(came_back(anna))

    assert smart.patient.name[0].family == "Zweig"


def test_fhirpy_reads_with_the_token_and_nothing_of_others(clinic, anna):
    app = clinic.register(trusted=True)
    anna.ask(app, SCOPE)
    anna.send("patient", value=clinic.patients["Zweig"])
    token = anna.tokens(app)["access_token"]

    async def read():
        client = AsyncFHIRClient(f"{clinic.base}/fhir", authorization=f"Bearer {token}")
        mine = await client.reference("Patient", clinic.patients["Zweig"]).to_resource()
        found = await client.resources("Patient").fetch_all()
        with pytest.raises(ForbiddenError):
            await client.reference("Patient", clinic.patients["Zimmer"]).to_resource()
        return mine, found

    mine, found = asyncio.run(read())

    assert mine["name"][0]["family"] == "Zweig"
    assert [one["id"] for one in found] == [clinic.patients["Zweig"]]
