"""A withdrawn token opens nothing: here at once, in other processes within two seconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from access import InvalidToken, Revocations, TokenAuthority

ISSUER, AUDIENCE = "http://localhost:8080", "http://localhost:8080/fhir"


@pytest.fixture(scope="module")
def dsn(postgres):
    postgres.create_database("access_revocation")
    return postgres.dsn("access_revocation")


@pytest.fixture
def until():
    return datetime.now(UTC) + timedelta(minutes=5)


@pytest.fixture
def started(dsn):
    """Starts what another process would start."""
    running = []

    def start():
        running.append(Revocations(dsn))
        return running[-1]

    yield start
    for one in running:
        one.close()


def mint(authority, sid):
    return authority.mint(subject="u", scope="", lifetime_s=60, context={"sid": sid})


def test_a_withdrawn_authorization_takes_all_its_tokens_with_it(started, tmp_path, until):
    revocations = started()
    authority = TokenAuthority.load_or_create(
        tmp_path, issuer=ISSUER, audience=AUDIENCE, revocations=revocations
    )
    first, second, other = mint(authority, "s1"), mint(authority, "s1"), mint(authority, "s2")
    assert authority.verify(first).session == "s1"

    revocations.revoke(sid="s1", until=until)

    for token in (first, second):
        with pytest.raises(InvalidToken):
            authority.verify(token)
    assert authority.verify(other).session == "s2"


def test_one_token_can_be_withdrawn_alone(started, tmp_path, until):
    revocations = started()
    authority = TokenAuthority.load_or_create(
        tmp_path, issuer=ISSUER, audience=AUDIENCE, revocations=revocations
    )
    first, second = mint(authority, "s3"), mint(authority, "s3")

    revocations.revoke(jti=authority.verify(first).token_id, until=until)

    with pytest.raises(InvalidToken):
        authority.verify(first)
    assert authority.verify(second)


def test_another_process_learns_of_it_and_a_new_one_knows(started, until):
    here, there = started(), started()

    here.revoke(sid="s4", until=until)

    end = time.monotonic() + 30
    while not there.revoked(sid="s4", jti=None) and time.monotonic() < end:
        time.sleep(0.1)
    assert there.revoked(sid="s4", jti=None)
    assert started().revoked(sid="s4", jti=None)


def test_an_expired_one_is_forgotten(started):
    revocations = started()

    revocations.revoke(jti="old", until=datetime.now(UTC) - timedelta(seconds=1))

    assert not started().revoked(sid=None, jti="old")


@pytest.mark.parametrize("ids", [{}, {"sid": "a", "jti": "b"}])
def test_one_id_is_named(started, until, ids):
    with pytest.raises(ValueError, match="one"):
        started().revoke(until=until, **ids)
