"""What may be registered as a client, and as a launch context."""

from __future__ import annotations

import pytest

from authorization.clients import CREDENTIALS, Client
from authorization.context import LaunchContext
from authorization.errors import ClientError, ContextError
from tests.authorization.site import ec_key, public_app, public_set, rsa_key

RSA, EC = rsa_key(), ec_key()


def machine(**changes):
    base = {
        "client_id": "m",
        "name": "m",
        "kind": "asymmetric",
        "jwks": public_set(EC),
        "scopes": "system/*.rs",
        "grant_types": (CREDENTIALS,),
        "backend": True,
    }
    return Client(**{**base, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": ""},
        {"client_id": "a b"},
        {"client_id": "a:b"},
        {"name": ""},
        {"name": "a\nb"},
        {"kind": "secret"},
        {"scopes": ""},
        {"scopes": "ünï"},
        {"grant_types": ()},
        {"grant_types": ("implicit",)},
        {"grant_types": ("authorization_code", "client_credentials")},
        {"jwks": public_set(RSA)},
        {"jwks_uri": "https://x.example/jwks"},
        {"redirect_uris": ()},
        {"redirect_uris": ("http://app.example.org/back",)},
        {"redirect_uris": ("https://app.example.org/back#part",)},
        {"redirect_uris": ("https://user@app.example.org/back",)},
        {"redirect_uris": ("/back",)},
        {"redirect_uris": ("javascript:alert(1)",)},
        {"redirect_uris": ("data:text/html,x",)},
        {"redirect_uris": ("https://app.example.org/b ack",)},
        {"redirect_uris": ("https://app.example.org\\back",)},
        {"redirect_uris": ("https://äpp.example.org/back",)},
        {"launch_url": "http://app.example.org/launch"},
        {"origins": ("https://app.example.org/",)},
        {"origins": ("*",)},
        {"origins": ("null",)},
        {"origins": ("https://[",)},
        {"origins": ("https://app.example.org?a",)},
    ],
    ids=str,
)
def test_an_app_that_could_be_abused_is_not_registered(changes):
    with pytest.raises(ClientError):
        public_app(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "symmetric", "jwks": None},
        {"kind": "public", "jwks": None},
        {"jwks": None},
        {"jwks_uri": "https://x.example/jwks"},
        {"jwks": None, "jwks_uri": "http://x.example/jwks"},
        {"scopes": "system/*.rs patient/*.rs"},
        {"backend": False},
        {"jwks": {}},
        {"jwks": {"keys": []}},
        {"jwks": {"keys": ["x"]}},
        {"jwks": RSA.as_dict(private=False)},
        {"jwks": {"keys": [RSA.as_dict(private=True)]}},
        {"jwks": {"keys": [{**EC.as_dict(private=False), "kid": ""}]}},
        {"jwks": {"keys": [EC.as_dict(private=False)] * 2}},
        {"jwks": {"keys": [{**EC.as_dict(private=False), "crv": "P-256"}]}},
        {"jwks": {"keys": [{**RSA.as_dict(private=False), "alg": "RS256"}]}},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_backend_that_could_be_abused_is_not_registered(changes):
    with pytest.raises(ClientError):
        machine(**changes)


def test_native_and_local_apps_are_registered():
    client = public_app(
        redirect_uris=(
            "org.example.app:/back",
            "http://127.0.0.1:3000/back",
            "http://localhost:3000/back",
            "https://app.example.org/back?tenant=a",
        )
    )

    assert client.may_redirect_to("http://localhost:3000/back")
    assert not client.may_redirect_to("http://localhost:3001/back")


def test_a_client_comes_back_from_the_database_as_it_was(site):
    for client in (public_app("kept"), machine(client_id="kept-machine")):
        site.register(client)
        assert site.server.clients.find(client.client_id) == client
        assert client in site.server.clients.list()


def test_the_kind_of_a_client_does_not_change(site):
    site.register(public_app("steady"))

    with pytest.raises(ClientError):
        site.server.clients.change(public_app("steady", kind="symmetric"))
    with pytest.raises(ClientError):
        site.server.clients.add(public_app("steady"))
    with pytest.raises(ClientError):
        site.server.clients.rotate_secret("steady")
    with pytest.raises(ClientError):
        site.server.clients.remove("never-there")


@pytest.mark.parametrize(
    "wrong",
    [
        {"patient": "Patient/1"},
        {"patient": ""},
        {"encounter": "a b"},
        {"patient": "."},
        {"encounter": ".."},
        {"fhir_context": ({"reference": "ImagingStudy/.."},)},
        {"fhir_context": ({"reference": "ImagingStudy/1", "role": "http:"},)},
        {"fhir_context": ({"reference": "ImagingStudy/1", "role": "http://a b"},)},
        {"fhir_context": ({},)},
        {"fhir_context": ({"role": "launch"},)},
        {"fhir_context": ({"reference": "Patient/1"},)},
        {"fhir_context": ({"reference": "Encounter/1"},)},
        {"fhir_context": ({"reference": "https://x.example/ImagingStudy/1"},)},
        {"fhir_context": ({"reference": "ImagingStudy/1", "role": "selected"},)},
    ],
    ids=str,
)
def test_a_launch_context_keeps_the_rules(wrong):
    with pytest.raises(ContextError):
        LaunchContext(**wrong)


def test_what_the_rules_allow_is_a_launch_context():
    other = "https://example.org/role/comparison"
    context = LaunchContext(
        fhir_context=(
            {"reference": "ImagingStudy/1"},
            {"canonical": "https://example.org/questionnaire|1"},
            {"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}},
            {"reference": "Patient/2", "role": other},
        )
    )

    assert LaunchContext.from_json(context.as_json()) == context
    # A row of an earlier version may have a member that is no more.
    assert LaunchContext.from_json({**context.as_json(), "tenant": None}) == context
    assert len(context.fields()["fhirContext"]) == 4
