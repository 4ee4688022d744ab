"""Users and their passwords, against a real database."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace

import psycopg
import pytest

from access import passwords, throttle
from access.passwords import WeakPassword
from access.roles import ROLES, SCOPES
from access.scopes import Scopes
from access.users import LoginRefused, TooManyAttempts, User, UserError, Users

GOOD = "correct horse battery"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def dsn(postgres):
    postgres.create_database("access_users")
    return postgres.dsn("access_users")


@pytest.fixture
def users(dsn):
    users = Users(dsn)
    yield users
    with psycopg.connect(dsn) as connection:
        connection.execute("truncate access.account, access.attempt, access.session")


@pytest.fixture
def anna(users):
    user = User("anna", "Anna Muster", "radiologist", "Practitioner/17")
    users.add(user, GOOD)
    return user


def test_a_user_signs_in_with_name_and_password_and_gets_the_role_s_scopes(users, anna):
    found = users.authenticate(" Anna ", GOOD)

    assert found == anna
    caller = found.caller(address="10.0.0.1", client="CT1")
    assert (caller.subject, caller.kind, caller.client) == ("anna", "user", "CT1")
    assert caller.may("ImagingStudy", "c") and not caller.may("ImagingStudy", "d")


@pytest.mark.parametrize("role", ROLES)
def test_every_scope_of_a_role_is_understood(role):
    words = SCOPES[role].split()

    assert len(Scopes.parse(SCOPES[role]).grants) == len(set(words))


def test_who_signs_in_elsewhere_is_given_no_password_and_is_shut_out_by_origin(users, anna):
    known = users.sign_in_from("https://idp.example 1", replace(anna, username="fed"))

    with pytest.raises(UserError, match="signs in at another provider"):
        users.set_password(known.username, GOOD)
    with pytest.raises(LoginRefused):
        users.authenticate(known.username, GOOD)
    assert users.shut_out("https://idp.example 1") == "fed"
    assert users.shut_out("https://idp.example 2") is None


class Ending:
    """What apps were allowed: whose has ended, and as what the database showed them then."""

    def __init__(self, dsn):
        self.seen, self.away, self._users = [], False, Users(dsn)

    def __call__(self, username):
        self.seen.append(self._users.find(username))
        if self.away:
            raise psycopg.OperationalError("away")


@pytest.fixture
def ending(dsn):
    return Ending(dsn)


CHANGES = {
    "change": lambda users, anna: users.change(replace(anna, role="viewer")),
    "disable": lambda users, anna: users.change(replace(anna, disabled=True)),
    "remove": lambda users, anna: users.remove(anna.username),
    "password": lambda users, anna: users.set_password(anna.username, "another good password"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_apps_were_allowed_ends_before_a_change_counts(dsn, users, anna, ending, change):
    change(Users(dsn, ending), anna)

    assert ending.seen == [anna]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_whose_ending_fails_changes_nothing(dsn, users, anna, ending, change):
    ending.away = True

    with pytest.raises(psycopg.OperationalError):
        change(Users(dsn, ending), anna)

    assert users.authenticate("anna", GOOD) == anna


def test_a_change_that_is_refused_or_leaves_the_rights_ends_nothing(dsn, users, anna, ending):
    root = User("root", "", "administrator")
    users.add(root, GOOD)
    changing = Users(dsn, ending)

    changing.change(replace(anna, display_name="Anna M."))
    for change in CHANGES.values():
        if change is not CHANGES["password"]:
            with pytest.raises(UserError, match="last administrator"):
                change(changing, root)

    assert ending.seen == []


def test_a_provider_s_word_ends_what_apps_were_allowed(dsn, users, anna, ending):
    changing, origin = Users(dsn, ending), "https://idp.example 4"
    known = changing.sign_in_from(origin, replace(anna, username="fed"))
    changing.sign_in_from(origin, known)
    assert ending.seen == []

    changed = changing.sign_in_from(origin, replace(known, role="viewer"))
    changing.shut_out(origin)

    assert ending.seen == [known, changed]


def test_the_last_administrator_is_not_demoted_by_a_provider(users, anna):
    root = replace(anna, username="fed-root", role="administrator")
    users.sign_in_from("https://idp.example 3", root)

    with pytest.raises(UserError, match="last administrator"):
        users.sign_in_from("https://idp.example 3", replace(root, role="viewer"))

    assert users.find("fed-root").role == "administrator"


def test_a_name_is_taken_once(users, anna):
    with pytest.raises(UserError, match="already"):
        users.add(replace(anna, role="viewer"), GOOD)

    assert users.list() == [anna]


@pytest.mark.parametrize(
    "changes",
    [
        {"username": "Anna"},
        {"username": "a b"},
        {"username": ""},
        {"role": "king"},
        {"fhir_user": "Organization/1"},
        {"fhir_user": "Patient/1"},
        {"role": "patient"},
        {"role": "patient", "fhir_user": "Practitioner/1"},
        {"display_name": "x\n"},
    ],
)
def test_what_is_no_user_is_refused_with_a_reason(changes):
    with pytest.raises(UserError):
        User(**{"username": "anna", "display_name": "", "role": "viewer", **changes})


@pytest.mark.parametrize("password", ["short", "x" * 300, "aaaaaaaaaaaaaaa", "anna12345678"])
def test_a_weak_password_is_refused_and_the_user_not_added(users, password):
    if password == "anna12345678":
        password = "anna-12345"
    with pytest.raises(WeakPassword):
        users.add(User("anna", "", "viewer"), password)

    assert users.list() == []


def test_passwords_are_kept_as_argon2id_and_never_in_the_clear(users, anna, dsn):
    with psycopg.connect(dsn) as connection:
        (kept,) = connection.execute("select password from access.account").fetchone()

    assert kept.startswith("$argon2id$")
    assert GOOD not in kept


def test_an_old_hash_is_renewed_at_the_next_login(users, anna, dsn):
    from argon2 import PasswordHasher

    weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
    with psycopg.connect(dsn) as connection:
        connection.execute("update access.account set password = %s", [weak])

    users.authenticate("anna", GOOD)

    with psycopg.connect(dsn) as connection:
        (kept,) = connection.execute("select password from access.account").fetchone()
    assert not passwords.is_outdated(kept)


def test_the_same_letters_typed_another_way_are_the_same_password(users):
    users.add(User("zoe", "", "viewer"), "schöne Größe 2026")

    assert users.authenticate("zoe", "scho\u0308ne Gro\u0308ße 2026").username == "zoe"


def test_wrong_name_wrong_password_and_disabled_get_the_same_answer(users, anna):
    users.add(User("eve", "", "viewer", disabled=True), GOOD)

    texts = set()
    for name, password in (("nobody", GOOD), ("anna", "wrong password 1"), ("eve", GOOD)):
        with pytest.raises(LoginRefused) as refused:
            users.authenticate(name, password)
        texts.add(str(refused.value))

    assert len(texts) == 1


@pytest.mark.parametrize("name", ["a\0b", "\udcff", "x" * 10_000, "", "'; drop table x"])
def test_a_name_that_cannot_be_one_is_refused_like_any_other(users, name):
    with pytest.raises(LoginRefused):
        users.authenticate(name, GOOD)
    with pytest.raises(UserError):
        users.find(name)


@pytest.mark.parametrize("name", ["anna", "nobody"])
def test_after_five_wrong_passwords_even_the_right_one_waits_and_nobody_learns_who_exists(
    users, anna, dsn, name
):
    for _ in range(throttle.FREE_FAILURES):
        with pytest.raises(LoginRefused):
            users.authenticate(name, "wrong password 1")

    with pytest.raises(TooManyAttempts) as locked:
        users.authenticate(name, GOOD)
    assert 25 <= locked.value.wait_s <= throttle.FIRST_WAIT_S + 1

    pass_time(dsn)
    with pytest.raises(LoginRefused):
        users.authenticate(name, "wrong password 2")
    with pytest.raises(TooManyAttempts) as longer:
        users.authenticate(name, GOOD)
    assert longer.value.wait_s > locked.value.wait_s + throttle.FIRST_WAIT_S / 2


def test_the_right_password_after_the_wait_wipes_the_slate(users, anna, dsn):
    for _ in range(throttle.FREE_FAILURES):
        with pytest.raises(LoginRefused):
            users.authenticate("anna", "wrong password 1")
    pass_time(dsn)

    assert users.authenticate("anna", GOOD) == anna
    with pytest.raises(LoginRefused):
        users.authenticate("anna", "wrong password 1")


def test_many_guesses_at_once_are_counted_like_guesses_one_by_one(users, anna):
    answers = []

    def guess():
        try:
            users.authenticate("anna", "wrong password 1")
        except (LoginRefused, TooManyAttempts) as error:
            answers.append(type(error))

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers.count(LoginRefused) == throttle.FREE_FAILURES
    assert answers.count(TooManyAttempts) == 20 - throttle.FREE_FAILURES


def test_an_unknown_name_is_as_much_work_as_a_known_one(users, anna):
    def seconds(name):
        # Of the processor: what else the machine does is not counted.
        begin = time.process_time()
        with pytest.raises(LoginRefused):
            users.authenticate(name, "wrong password 1")
        return time.process_time() - begin

    seconds("warm-up")

    assert seconds("nobody") > seconds("anna") / 3


def test_a_new_password_replaces_the_old_one_and_ends_the_waiting(users, anna):
    for _ in range(throttle.FREE_FAILURES):
        with pytest.raises(LoginRefused):
            users.authenticate("anna", "wrong password 1")

    users.set_password("anna", "another good one")

    assert users.authenticate("anna", "another good one") == anna
    with pytest.raises(LoginRefused):
        users.authenticate("anna", GOOD)


def test_the_last_administrator_stays(users, anna):
    root = User("root", "", "administrator")
    users.add(root, GOOD)

    for attempt in (
        lambda: users.remove("root"),
        lambda: users.change(replace(root, disabled=True)),
        lambda: users.change(replace(root, role="viewer")),
    ):
        with pytest.raises(UserError, match="last administrator"):
            attempt()
    assert users.find("root") == root

    users.add(User("second", "", "administrator"), GOOD)
    users.remove("root")
    assert [user.username for user in users.list()] == ["anna", "second"]


def test_two_administrators_who_disable_each_other_at_once_leave_one(users):
    pair = [User(name, "", "administrator") for name in ("one", "two")]
    for user in pair:
        users.add(user, GOOD)
    refused = []

    def disable(user):
        try:
            users.change(replace(user, disabled=True))
        except UserError as error:
            refused.append(error)

    threads = [threading.Thread(target=disable, args=[user]) for user in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(refused) == 1
    assert [user.disabled for user in users.list()].count(False) == 1


def test_who_is_not_there_cannot_be_changed(users):
    for attempt in (
        lambda: users.find("ghost"),
        lambda: users.remove("ghost"),
        lambda: users.set_password("ghost", GOOD),
        lambda: users.change(User("ghost", "", "viewer")),
    ):
        with pytest.raises(UserError, match="hilum users list"):
            attempt()


def pass_time(dsn):
    """Let the wait of every name be over."""
    with psycopg.connect(dsn) as connection:
        connection.execute("update access.attempt set locked_until = now() - interval '1 second'")
