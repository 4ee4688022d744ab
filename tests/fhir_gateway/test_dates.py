"""Partial dates reach HAPI as the whole day that bounds them."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_gateway.dates import whole_days

days = st.dates(date(1000, 1, 1), date(9999, 12, 31))
bounds = st.dates(date(1001, 1, 1), date(9990, 12, 31))


def covers(prefix, bound, day):
    """Whether a whole-day bound finds a resource of this day (FHIR search, R4 3.1.1.4.7)."""
    limit = date.fromisoformat(bound)
    return {
        "ge": day >= limit,
        "gt": day > limit,
        "sa": day > limit,
        "le": day <= limit,
        "lt": day < limit,
        "eb": day < limit,
    }[prefix]


@given(st.sampled_from(["ge", "gt", "sa", "le", "lt", "eb"]), bounds, st.booleans(), days)
def test_a_partial_bound_finds_the_same_days_as_the_period_it_means(prefix, bound, month, day):
    text = bound.strftime("%Y-%m") if month else bound.strftime("%Y")
    text = text.rjust(7 if month else 4, "0")

    whole = whole_days(prefix + text)

    position = (day.year, day.month) if month else (day.year,)
    period = (bound.year, bound.month) if month else (bound.year,)
    expected = {
        "ge": position >= period,
        "gt": position > period,
        "sa": position > period,
        "le": position <= period,
        "lt": position < period,
        "eb": position < period,
    }[prefix]
    assert whole[:2] == prefix and len(whole) == 12
    assert covers(prefix, whole[2:], day) == expected


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        ("ge2024", "ge2024-01-01"),
        ("le2024-02", "le2024-02-29"),
        ("gt2023-02", "gt2023-02-28"),
        ("ge2024,lt2020", "ge2024-01-01,lt2020-01-01"),
        ("2024", "2024"),
        ("ne2024", "ne2024"),
        ("ap2024-01", "ap2024-01"),
        ("ge2024-01-05", "ge2024-01-05"),
        ("ge2024-01-05T10:00:00Z", "ge2024-01-05T10:00:00Z"),
        ("ge2024-13", "ge2024-13"),
        ("ge0000", "ge0000"),
        ("", ""),
    ],
)
def test_examples(value, whole):
    assert whole_days(value) == whole


@given(st.text())
def test_any_text_passes_without_an_error(text):
    whole_days(text)
