"""From scopes to the rules of a grant."""

from __future__ import annotations

import base64
import json
import time

from hypothesis import given
from hypothesis import strategies as st

from access import Caller, Scopes, internal_rights
from access.compartment import COMPARTMENT, NEVER, PUBLIC, REFERRED, REFERRING
from access.grants import LIFETIME_S, GrantSigner, Rights, Rule
from access.internal_rights import NOTHING, OPERATOR
from access.resource_types import RESOURCE_TYPES
from access.rights import rights_of

kinds = st.sampled_from(["*", "Patient", "Observation", "Organization", "Endpoint", "Provenance",
                         "Group", "AuditEvent", "Binary", "Task"])  # fmt: skip
letters = st.sets(st.sampled_from("cruds"), min_size=1)


def caller(scope, **more):
    return Caller("u", "user", Scopes.parse(scope), **more)


def scope(context, kind, chosen):
    return f"{context}/{kind}.{''.join(one for one in 'cruds' if one in chosen)}"


@given(st.lists(st.tuples(kinds, letters), max_size=4))
def test_a_patient_scope_never_gives_a_rule_without_a_limit_beside_what_is_shared(parts):
    text = " ".join(scope("patient", *part) for part in parts)

    for rule in rights_of(caller(text, patient="p1")).rules:
        limited = rule.patient == "p1" or rule.refers_by or rule.referred_by
        assert rule.types and (limited or set(rule.types) <= PUBLIC)
        assert not set(rule.types) & NEVER
        if set(rule.types) & (PUBLIC | set(REFERRED)):
            assert set(rule.letters) <= set("rs")


@given(st.lists(st.tuples(kinds, letters), max_size=4))
def test_a_user_who_is_a_patient_is_held_like_an_app_with_that_patient(parts):
    user = " ".join(scope("user", *part) for part in parts)
    app = " ".join(scope("patient", *part) for part in parts)

    held = rights_of(caller(user, fhir_user="Patient/p1")).rules
    assert set(held) == set(rights_of(caller(app, patient="p1")).rules)


@given(st.lists(st.tuples(kinds, letters), max_size=4))
def test_without_a_patient_a_patient_scope_gives_nothing(parts):
    text = " ".join(scope("patient", *part) for part in parts)

    rights = rights_of(caller(text))
    assert rights.rules == () and rights.operations == ()


@given(st.sampled_from(["system", "user"]), kinds, letters)
def test_a_rule_has_the_letters_of_its_scope_and_no_others(context, kind, chosen):
    rights = rights_of(caller(scope(context, kind, chosen)))

    for letter in "cruds":
        named = any(letter in rule.letters and "Observation" in (rule.types or ("Observation",))
                    for rule in rights.rules)  # fmt: skip
        assert named == (letter in chosen and kind in ("*", "Observation"))


def test_a_filter_goes_into_its_rule_percent_encoded():
    granted = "user/Observation.rs?category=http://x.example/cs%7Cimaging,lab&status=final"

    (rule, _) = rights_of(caller(granted)).rules

    assert rule.filter == "category=http://x.example/cs%7Cimaging,lab&status=final"


def test_pixels_and_attachments_come_with_what_they_belong_to():
    rights = rights_of(caller("patient/ImagingStudy.rs", patient="p1"))

    assert rights.names("Endpoint", "r") and not rights.names("Endpoint", "s")
    assert rights.names("Binary", "r") and not rights.names("Observation", "r")
    assert not rights_of(caller("system/Binary.rs")).names("Binary", "rs")


def test_every_type_is_in_one_table_at_most():
    tables = [set(COMPARTMENT), set(PUBLIC), set(REFERRED) | set(REFERRING), set(NEVER)]

    assert sum(len(table) for table in tables) == len(set().union(*tables))
    assert set().union(*tables) <= RESOURCE_TYPES


def claims_of(grant):
    return json.loads(base64.urlsafe_b64decode(grant.split(".")[1] + "=="))


def test_a_grant_lives_a_minute_and_is_made_for_one_request(tmp_path):
    signer = GrantSigner.load_or_create(tmp_path)

    grants = {
        (method, path): signer.sign(OPERATOR, method, path)
        for method in ("GET", "POST")
        for path in ("", "Patient", "Patient/1")
    }

    told = [claims_of(grant) for grant in grants.values()]
    assert len({one["req"] for one in told}) == len(told)
    assert all(one["exp"] - one["iat"] == LIFETIME_S == 60 for one in told)
    assert all(one["aud"] == "hapi" and one["exp"] > time.time() for one in told)
    assert signer.sign(OPERATOR, "get", "/Patient/") == grants["GET", "Patient"]
    assert signer.sign(NOTHING, "GET", "Patient") != grants["GET", "Patient"]


def test_grants_that_are_stale_are_not_kept(tmp_path, monkeypatch):
    signer = GrantSigner.load_or_create(tmp_path)
    now = time.time()
    for n in range(20):  # as a worker asks: each path once
        signer.sign(NOTHING, "GET", f"Task/{n}")
    monkeypatch.setattr(time, "time", lambda: now + LIFETIME_S)

    signer.sign(NOTHING, "GET", "Task/0")

    assert len(signer._signed) == 1


def test_the_store_gets_the_public_key_only(tmp_path):
    assert "d" not in json.loads(GrantSigner.load_or_create(tmp_path).public_jwk)


def test_only_what_limits_is_written_down():
    rights = Rights(mode="x", subject="y", rules=(Rule(letters="r"),))

    assert rights.claims()["rules"] == [{"i": "r"}]


def test_no_worker_may_do_more_than_it_names():
    workers = [one for one in vars(internal_rights).values() if isinstance(one, Rights)]

    assert len(workers) > 8
    for rights in workers:
        for rule in rights.rules:
            whole = not rule.types
            assert not whole or rights is OPERATOR or rule.letters == "rs", rights.subject
            assert set(rule.types) <= RESOURCE_TYPES
        assert rights is OPERATOR or set(rights.operations) <= {"$meta-delete"}, rights.subject
