"""Settings of other servers: what would be said to them in the open is refused at the start."""

from __future__ import annotations

import pytest

from hilum.settings import SettingsError, load
from tests.hilum.test_settings import clean  # noqa: F401

EHR = """
[[external]]
issuer = "{issuer}"
introspection_url = "https://ehr.example/introspect"
token_url = "https://ehr.example/token"
fhir_url = "https://ehr.example/fhir"
client_id = "hilum"
client_secret = "secret"
"""


def written(tmp_path, *texts):
    (tmp_path / "hilum.toml").write_text("\n".join(texts))
    return load()


def ehr(issuer="https://ehr.example", **changes):
    lines = [line for line in EHR.format(issuer=issuer).splitlines() if line]
    kept = [line for line in lines if line.partition(" ")[0] not in changes]
    return "\n".join([*kept, *(f"{name} = {value}" for name, value in changes.items())])


@pytest.mark.parametrize("name", ["introspection_url", "token_url", "fhir_url"])
@pytest.mark.parametrize("url", ["http://ehr.example/x", "http://10.0.0.7/x", "ehr.example", ""])
def test_an_ehr_without_tls_is_refused_and_the_text_says_what_to_do(tmp_path, name, url):
    with pytest.raises(SettingsError, match=rf"external\.0\.{name}.*put TLS in front of it"):
        written(tmp_path, ehr(**{name: f'"{url}"'}))


def test_a_provider_without_tls_is_refused_and_the_text_says_what_to_do(tmp_path):
    with pytest.raises(SettingsError, match=r"federation\.issuer.*put TLS in front of it"):
        written(tmp_path, '[federation]\nissuer = "http://login.example"')


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost", "[::1]:9000"])
def test_servers_of_this_machine_need_no_tls(tmp_path, host):
    found = written(
        tmp_path,
        f'[federation]\nissuer = "http://{host}"',
        ehr(token_url=f'"http://{host}/token"'),
    )

    assert found.federation.issuer == f"http://{host}"
    assert found.external[0].token_url == f"http://{host}/token"


def test_one_ehr_in_two_tables_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"https://ehr\.example: an issuer has one"):
        written(tmp_path, ehr(), ehr())

    assert len(written(tmp_path, ehr(), ehr("https://other.example")).external) == 2


def test_two_ehrs_with_tokens_of_no_known_issuer_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="may have opaque = true"):
        written(tmp_path, ehr(opaque="true"), ehr("https://other.example", opaque="true"))
