"""What a report prints as a number, and what it refuses to print."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.errors import UnreadableValue
from reports.figures import Figure, figure
from reports.regions import Kind


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        (Kind.VOLUME, "12.35", "12.4"),  # half up, not half to even
        (Kind.VOLUME, "12.25", "12.3"),
        (Kind.VOLUME, "0", "0.0"),
        (Kind.VOLUME, "0.04", "<0.1"),
        (Kind.VOLUME, "0.05", "0.1"),
        (Kind.VOLUME, "1234.5", "1234.5"),
        (Kind.LONG_AXIS, "33.04", "33.0"),
        (Kind.PARTS, "3", "3"),
        (Kind.ENHANCEMENT, "1.735", "1.74"),
    ],
)
def test_one_rounding_rule_for_every_number(kind, value, written):
    assert Figure(kind, Decimal(value), "Observation/1").number == written


@given(st.decimals(min_value=0, max_value=5000, places=4))
def test_a_written_volume_is_within_half_a_step_and_never_hides_a_lesion(value):
    written = Figure(Kind.VOLUME, value, "Observation/1").number

    if written.startswith("<"):
        assert 0 < value < Decimal("0.05")
    else:
        assert abs(Decimal(written) - value) <= Decimal("0.05")
        assert (Decimal(written) == 0) == (value == 0)


@pytest.mark.parametrize(
    "quantity",
    [
        {"value": -0.1, "code": "mL"},
        {"value": float("nan"), "code": "mL"},
        {"value": float("inf"), "code": "mL"},
        {"value": 1e9, "code": "mL"},
        {"value": "12", "code": "mL"},
        {"value": True, "code": "mL"},
        {"value": 12, "code": "L"},
        {"value": 12},
        {"code": "mL"},
        {"value": 12, "code": "mL", "comparator": ">"},
    ],
)
def test_what_is_not_a_measured_volume_is_refused(quantity):
    with pytest.raises(UnreadableValue):
        figure(Kind.VOLUME, quantity, "Observation/1")


def test_a_count_that_is_not_whole_is_refused():
    with pytest.raises(UnreadableValue):
        figure(Kind.PARTS, {"value": 1.5, "code": "1"}, "Observation/1")


def test_cubic_centimetres_are_millilitres():
    assert (
        figure(Kind.VOLUME, {"value": 3.21, "code": "cm3"}, "Observation/1").text == "3.2\u00a0mL"
    )
