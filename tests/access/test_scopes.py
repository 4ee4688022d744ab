"""Scopes grant what they say and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access import Caller, Scopes
from access.scopes import INTERACTIONS

TYPES = ["Patient", "ImagingStudy", "Observation", "Binary"]
letters = st.sets(st.sampled_from("cruds"), min_size=1)
types = st.sampled_from([*TYPES, "*"])
contexts = st.sampled_from(["patient", "system", "user"])


def ordered(chosen: set[str]) -> str:
    return "".join(letter for letter in "cruds" if letter in chosen)


@given(contexts, types, letters)
def test_a_v2_scope_grants_exactly_its_letters_on_exactly_its_types(context, kind, chosen):
    scopes = Scopes.parse(f"{context}/{kind}.{ordered(chosen)}")

    for other in TYPES:
        granted = {i for i in INTERACTIONS if scopes.rules_for(other, i)}
        assert granted == (chosen if kind in ("*", other) else set())


@pytest.mark.parametrize(("word", "expected"), [("read", "rs"), ("write", "cud"), ("*", "cruds")])
def test_a_v1_scope_means_its_v2_letters(word, expected):
    scopes = Scopes.parse(f"system/Patient.{word}")

    assert {i for i in INTERACTIONS if scopes.rules_for("Patient", i)} == set(expected)


@given(st.lists(st.tuples(contexts, types, letters), max_size=5))
def test_several_scopes_are_the_union_of_each(parts):
    texts = [f"{context}/{kind}.{ordered(chosen)}" for context, kind, chosen in parts]

    together = Scopes.parse(" ".join(texts))

    for kind in TYPES:
        for interaction in INTERACTIONS:
            alone = any(Scopes.parse(text).rules_for(kind, interaction) for text in texts)
            assert bool(together.rules_for(kind, interaction)) == alone


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    Scopes.parse(text)


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "system/Patient.sr",
        "system/Patient.rr",
        "system/Patient.",
        "system/Patient",
        "system/patient.rs",
        "system/Pat*.rs",
        "system/NoSuchType.rs",
        "system/Observation.dus",
        "patient/Observation.rs?",
        "patient/Observation.rs?category",
        "patient/Observation.rs?category=",
        "patient/Observation.rs?category=a,",
        "patient/Observation.rs?category:not=a",
        "patient/Observation.rs?category=a&subject=Patient/1",
        "patient/Observation.rs?_has:Observation:patient:code=1",
        "patient/Observation.rs?category=a&category%3Anot=b",
        "patient/Observation.rs?category=%26patient%3D2",
        "patient/Observation.rs?code=a\\,b",
        "patient/Observation.rs?type=a",
        "patient/ImagingStudy.rs?category=a",
        "patient/*.rs?category=a",
        "patient/Observation.read?category=a",
        "patient/Observation.?category=a",
        "patient/Observation?category=a",
        "launch/patient",
        "openid",
        "system/*.rs\n",
        "SYSTEM/*.rs",
        "system/*.reads",
        "system//*.rs",
    ],
)
def test_what_is_not_understood_grants_nothing(scope):
    scopes = Scopes.parse(scope)

    assert not any(scopes.rules_for(kind, i) for kind in [*TYPES, "*"] for i in INTERACTIONS)


tokens = st.sampled_from(
    ["laboratory", "http://x.example/cs|imaging", "|bare", "urn:oid:1.2|8480-6"]
)
filters = st.lists(
    st.tuples(
        st.sampled_from(["category", "code", "status"]),
        st.lists(tokens, min_size=1, max_size=2).map(",".join),
    ),
    max_size=3,
)


@st.composite
def scope_texts(draw):
    text = f"{draw(contexts)}/{draw(types)}.{ordered(draw(letters))}"
    chosen = draw(filters) if text.split("/")[1].startswith("Observation.") else []
    return text + ("?" + "&".join(f"{n}={v}" for n, v in chosen) if chosen else "")


@given(st.lists(scope_texts(), max_size=6))
def test_what_was_granted_can_be_written_down_and_read_again(texts):
    scopes = Scopes.parse(" ".join(texts))

    assert Scopes.parse(str(scopes)) == scopes
    assert len(scopes.grants) <= len(set(texts))
    assert bool(scopes.grants) == bool(texts)


@given(scope_texts(), st.sampled_from(TYPES), st.sampled_from("cruds"))
def test_a_grant_keeps_its_context_and_its_filter(text, kind, letter):
    rules = Scopes.parse(text).rules_for(kind, letter)

    context, rest = text.split("/", 1)
    named, _, query = rest.partition("?")
    resource_type, chosen = named.split(".")
    if letter not in chosen or resource_type not in ("*", kind):
        assert rules == []
        return
    (rule,) = rules
    assert (rule.context, rule.resource_type) == (context, resource_type)
    expected = sorted(tuple(pair.split("=")) for pair in query.split("&")) if query else None
    assert rule.filter == (tuple(expected) if expected else None)


def test_several_parameters_are_one_grant_and_several_scopes_are_several():
    one = Scopes.parse("patient/Observation.rs?category=a&code=http%3A%2F%2Floinc.org%7C1,2")
    two = Scopes.parse("patient/Observation.rs?category=a patient/Observation.rs?code=2")

    (grant,) = one.rules_for("Observation", "r")
    assert grant.filter == (("category", "a"), ("code", "http://loinc.org|1,2"))
    assert len(two.rules_for("Observation", "r")) == 2
    assert one.rules_for("Observation", "c") == []


@pytest.mark.parametrize("word", ["read", "write", "*"])
def test_a_v1_scope_is_written_back_as_it_came(word):
    assert str(Scopes.parse(f"patient/Observation.{word}")) == f"patient/Observation.{word}"


def test_a_patient_scope_counts_only_with_a_patient():
    scopes = Scopes.parse("patient/Observation.rs system/Patient.r")

    without = Caller("app", "system", scopes)
    with_one = Caller("app", "patient", scopes, patient="p1")

    assert not without.may("Observation", "r") and without.may("Patient", "r")
    assert with_one.may("Observation", "r") and not with_one.may_on_all("Observation", "r")
    assert with_one.may_on_all("Patient", "r")


@given(scope_texts(), st.sampled_from(TYPES), st.sampled_from("cruds"))
def test_who_may_on_all_has_no_limit_of_any_kind(text, kind, letter):
    scopes = Scopes.parse(text)
    clinician = Caller("u", "user", scopes, patient="p1", fhir_user="Practitioner/x")
    patient = Caller("u", "user", scopes, patient="p1", fhir_user="Patient/p1")

    for caller in (clinician, patient):
        if caller.may_on_all(kind, letter):
            assert "?" not in text and not text.startswith("patient/")
            assert caller is clinician or text.startswith("system/")


@pytest.mark.parametrize(
    ("text", "context"),
    [
        ("patient/*.rs", "patient"),
        ("user/*.rs", "user"),
        ("system/*.rs", "system"),
        ("patient/*.rs user/Practitioner.r", "user"),
        ("openid", "system"),
    ],
)
def test_a_mixture_of_a_persons_scopes_is_a_persons_and_no_machines(text, context):
    assert Scopes.parse(text).context == context
