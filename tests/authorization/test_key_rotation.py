"""The keys of the id_tokens follow one another without an app noticing.

The age of a key is in the name of its file, so a test makes it older by renaming it.
"""

from __future__ import annotations

import re

import pytest
from joserfc import jws, jwt
from joserfc.jwk import KeySet

from authorization.identity_keys import OVERLAP_S, PUBLISHED_S
from tests.authorization.site import public_app, running_site

KEY_S = 1_000_000


@pytest.fixture(scope="module")
def place(postgres, tmp_path_factory):
    """A site of its own, whose keys may be made older; and the folder of its keys."""
    postgres.create_database("authorization_keys")
    folder = tmp_path_factory.mktemp("keys-site")
    with running_site(postgres.dsn("authorization_keys"), folder, key_s=KEY_S) as site:
        site.register(public_app())
        yield site, folder / "keys"


@pytest.fixture
def rotating(place):
    """The same with one fresh key."""
    site, folder = place
    for path in folder.glob("identity-*"):
        path.unlink()
    site.server.issuer.keys.add()
    return place


def older(folder, seconds):
    """Make every key older."""
    for path in sorted(folder.glob("identity-*.pem")):
        made = int(re.search(r"\d{10}", path.name)[0])
        path.rename(path.with_name(path.name.replace(str(made), f"{made - seconds:010d}")))


def identity(site):
    return site.tokens(public_app(), "openid user/*.rs")["id_token"]


def published(site):
    return KeySet.import_key_set(site.http.get(f"{site.base}/auth/jwks").json())


def signed_by(token):
    """The kid in its header."""
    return jws.extract_compact(token.encode()).headers()["kid"]


def test_a_new_key_is_published_before_it_signs_and_the_old_one_stays_for_the_overlap(rotating):
    site, folder = rotating
    older(folder, 3600)
    first = identity(site)
    site.server.issuer.keys.add()

    announced, still = published(site), identity(site)
    older(folder, PUBLISHED_S + 1)
    second, overlap = identity(site), published(site)
    older(folder, OVERLAP_S)
    after = published(site)

    assert len(announced.keys) == 2
    assert signed_by(still) == signed_by(first)
    assert signed_by(second) != signed_by(first)
    for token in (first, second):
        assert jwt.decode(token, overlap, algorithms=["RS256"]).claims["sub"] == "anna"
    assert [key.kid for key in after.keys] == [signed_by(second)]


def test_a_key_that_is_old_is_followed_by_itself(rotating):
    site, folder = rotating
    before = identity(site)
    older(folder, KEY_S + 1)

    now = identity(site)

    assert signed_by(now) == signed_by(before)
    assert len(published(site).keys) == 2
    older(folder, PUBLISHED_S + 1)
    assert signed_by(identity(site)) != signed_by(before)


def test_a_key_whose_file_is_deleted_ends_at_once(rotating):
    site, folder = rotating
    seen = identity(site)
    for path in folder.glob("identity-*.pem"):
        path.unlink()

    now = identity(site)

    assert signed_by(now) != signed_by(seen)
    assert [key.kid for key in published(site).keys] == [signed_by(now)]


def test_the_key_files_are_for_us_alone(rotating):
    _, folder = rotating

    files = list(folder.glob("identity-*.pem"))

    assert len(files) == 1
    assert files[0].stat().st_mode & 0o777 == 0o600


def test_an_id_token_is_no_access_token(rotating):
    site, _ = rotating

    assert site.studies(identity(site)).status_code == 401
