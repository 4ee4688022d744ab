"""Scopes grant what they say and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from access import Scopes
from access.scopes import INTERACTIONS

TYPES = ["Patient", "ImagingStudy", "Observation", "Binary"]
letters = st.sets(st.sampled_from("cruds"), min_size=1)
types = st.sampled_from([*TYPES, "*"])
contexts = st.sampled_from(["system", "user"])


def ordered(chosen: set[str]) -> str:
    return "".join(letter for letter in "cruds" if letter in chosen)


@given(contexts, types, letters)
def test_a_v2_scope_grants_exactly_its_letters_on_exactly_its_types(context, kind, chosen):
    scopes = Scopes.parse(f"{context}/{kind}.{ordered(chosen)}")

    for other in TYPES:
        granted = {i for i in INTERACTIONS if scopes.allows(other, i)}
        assert granted == (chosen if kind in ("*", other) else set())


@pytest.mark.parametrize(("word", "expected"), [("read", "rs"), ("write", "cud"), ("*", "cruds")])
def test_a_v1_scope_means_its_v2_letters(word, expected):
    scopes = Scopes.parse(f"system/Patient.{word}")

    assert {i for i in INTERACTIONS if scopes.allows("Patient", i)} == set(expected)


@given(st.lists(st.tuples(contexts, types, letters), max_size=5))
def test_several_scopes_are_the_union_of_each(parts):
    texts = [f"{context}/{kind}.{ordered(chosen)}" for context, kind, chosen in parts]

    together = Scopes.parse(" ".join(texts))

    for kind in TYPES:
        for interaction in INTERACTIONS:
            alone = any(Scopes.parse(text).allows(kind, interaction) for text in texts)
            assert together.allows(kind, interaction) == alone


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    Scopes.parse(text)


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "patient/*.rs",
        "system/Patient.sr",
        "system/Patient.rr",
        "system/Patient.",
        "system/Patient",
        "system/patient.rs",
        "system/Pat*.rs",
        "system/Observation.rs?category=imaging",
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

    assert not any(scopes.allows(kind, i) for kind in [*TYPES, "*"] for i in INTERACTIONS)
