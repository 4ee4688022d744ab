"""Browser sessions: they begin at the login, end when they should, and cannot be planted."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from access.sessions import Lifetimes, Sessions
from access.users import User, Users

GOOD = "correct horse battery"
ANNA = User("anna", "Anna", "radiologist")


@pytest.fixture(scope="module")
def dsn(postgres):
    postgres.create_database("access_sessions")
    return postgres.dsn("access_sessions")


@pytest.fixture
def users(dsn):
    users = Users(dsn)
    users.add(ANNA, GOOD)
    yield users
    with psycopg.connect(dsn) as connection:
        connection.execute("truncate access.account, access.attempt, access.session")


@pytest.fixture
def open_sessions(dsn, users):
    opened = []

    def start(**lifetimes):
        opened.append(Sessions(dsn, Lifetimes(**lifetimes)))
        return opened[-1]

    yield start
    for one in opened:
        one.shut()


def test_a_session_knows_its_user_until_it_is_closed(open_sessions):
    sessions = open_sessions()

    token = sessions.open(ANNA)
    found = sessions.find(token)
    sessions.close(token)

    assert found is not None and found.user == ANNA
    assert sessions.find(token) is None
    assert sessions.find("something else") is None


def test_the_database_holds_only_a_hash_of_the_token(open_sessions, dsn):
    token = open_sessions().open(ANNA)

    with psycopg.connect(dsn) as connection:
        rows = connection.execute("select * from access.session").fetchall()

    assert len(token) >= 43
    assert token not in str(rows)


def test_a_login_gives_a_new_token_and_ends_the_one_the_browser_had(open_sessions):
    sessions = open_sessions()
    planted = sessions.open(ANNA)

    mine = sessions.open(ANNA, before=planted)

    assert mine != planted
    assert sessions.find(planted) is None
    assert sessions.find(mine) is not None


@pytest.mark.parametrize("column", ["seen_at", "created_at"])
def test_an_idle_and_an_old_session_are_over(open_sessions, dsn, column):
    sessions = open_sessions(idle_s=900, longest_s=3600)
    token = sessions.open(ANNA)
    seconds = {"seen_at": 901, "created_at": 3601}[column]

    with psycopg.connect(dsn) as connection:
        connection.execute(
            f"update access.session set {column} = now() - interval '{seconds} seconds'"
        )

    assert sessions.find(token) is None


def test_a_request_keeps_a_session_alive(open_sessions, dsn):
    token = open_sessions(idle_s=900).open(ANNA)
    with psycopg.connect(dsn) as connection:
        connection.execute("update access.session set seen_at = now() - interval '800 seconds'")

    assert open_sessions(idle_s=900).find(token) is not None

    with psycopg.connect(dsn) as connection:
        (idle,) = connection.execute(
            "select extract(epoch from now() - seen_at) from access.session"
        ).fetchone()
    assert idle < 60


@pytest.mark.parametrize("what", ["disable", "role", "password", "remove"])
def test_a_change_of_what_a_user_may_do_ends_the_sessions(open_sessions, users, what):
    token = open_sessions().open(ANNA)

    match what:
        case "disable":
            users.change(replace(ANNA, disabled=True))
        case "role":
            users.change(replace(ANNA, role="viewer"))
        case "password":
            users.set_password("anna", "another good one")
        case "remove":
            users.remove("anna")

    assert open_sessions().find(token) is None


def test_a_form_belongs_to_its_session(open_sessions):
    sessions = open_sessions()
    mine, other = (sessions.find(sessions.open(ANNA)) for _ in range(2))

    assert mine.owns(mine.csrf)
    assert not mine.owns(other.csrf)
    assert not mine.owns("")
    assert not mine.owns("ü")


def test_old_sessions_are_swept_away(open_sessions, dsn):
    sessions = open_sessions(idle_s=900)
    sessions.open(ANNA)
    with psycopg.connect(dsn) as connection:
        connection.execute("update access.session set seen_at = now() - interval '1 day'")

    sessions.open(ANNA)

    with psycopg.connect(dsn) as connection:
        assert connection.execute("select count(*) from access.session").fetchone() == (1,)
