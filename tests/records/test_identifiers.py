"""Identifier systems never run into each other, and conditions say exactly what they mean."""

from __future__ import annotations

from urllib.parse import unquote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import codes
from records import identifiers as ids


@given(st.text(min_size=1), st.text(min_size=1))
def test_two_issuers_never_share_a_system(one, other):
    if (
        one.encode("utf-8", "ignore").decode() == one
        and other.encode("utf-8", "ignore").decode() == other
    ):
        assert (ids.issuer_system(one) == ids.issuer_system(other)) == (one == other)


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_a_condition_is_one_token_and_reads_back(system, value):
    query = ids.by_identifier(system, value)

    assert query.count("=") == 1 and "&" not in query and "|" not in query
    assert unquote(query).removeprefix("identifier=") == ids.token(system, value)


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1), st.integers(0, 5))
def test_derived_ids_are_stable_uuids(parts, _):
    assert ids.derived_uuid(*parts) == ids.derived_uuid(*parts)
    assert UUID(ids.derived_uuid(*parts)).version == 5


def test_a_study_identifier_reads_back():
    study = {"identifier": [{"value": "other"}, ids.study_identifier("1.2.3")]}

    assert ids.study_uid_of(study) == "1.2.3"
    assert ids.study_uid_of({}) is None


def test_each_code_has_one_meaning():
    displays = {}
    for code in codes.all_codes():
        displays.setdefault((code.system, code.code), set()).add(code.display)

    assert {key: names for key, names in displays.items() if len(names) > 1} == {}


@pytest.mark.parametrize("unit", [codes.MILLILITRE, codes.MILLIMETRE, codes.RATIO, codes.COUNT])
def test_a_quantity_carries_its_ucum_code(unit):
    quantity = codes.quantity(1.5, unit)

    assert quantity["system"] == "http://unitsofmeasure.org"
    assert quantity["code"] == unit.code
