"""Matching in SQL says what a plain reading of the standard says, for thousands of questions."""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archive import Archive, ArchiveConfig, Query
from archive.ranges import date_range, datetime_range, time_range
from tests.archive.phantom import slice_of

COMPONENTS = [
    "Muller",
    "Müller",
    "MÜLLER",
    "O'Neil",
    "Łukasz",
    "山田",
    "100%",
    "a_b",
    "von der Au",
    "",
]
NAMES = [f"{a}^{b}" for a in COMPONENTS for b in COMPONENTS if a] + [
    "Doe",
    "Doe^^",
    "Doe^J=山田^太郎",
]
TEXTS = ["A1", "a1", "A*1", "A?1", "100%", "a_b", "A 1", "ÄÖ", "x" * 64, "[A]", "A.1", "(A|B)"]
DATES = [f"20{y:02d}{m:02d}{d:02d}" for y in (24, 25, 26) for m in (1, 6, 12) for d in (1, 28)]
TIMES = ["00", "0930", "093000", "093000.5", "093000.000001", "235959.999999", "12", "1200"]

pieces = st.sampled_from(
    ["*", "?", "%", "_", "A", "a", "1", "Mü", "mu", "^", "ll", "er", "山", "'"]
)
patterns = st.lists(pieces, min_size=1, max_size=6).map("".join)
quick = settings(
    max_examples=150,
    deadline=timedelta(seconds=10),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def rows(postgres, tmp_path_factory, put):
    """Studies of many names, ids, dates and times: (archive, [(uid, name, id, date, time)])."""
    postgres.create_database("archive_match")
    config = ArchiveConfig(tmp_path_factory.mktemp("match"), postgres.dsn("archive_match"), 0)
    kept = []
    with Archive.open(config) as archive:
        for number, name in enumerate(NAMES):
            row = (
                f"1.2.{number + 1}",
                name,
                TEXTS[number % len(TEXTS)],
                DATES[number % len(DATES)],
                TIMES[number % len(TIMES)],
            )
            uid, _, pid, date, time = row
            put(
                archive,
                slice_of(
                    StudyInstanceUID=uid, PatientName=name, PatientID=pid, StudyDate=date,
                    StudyTime=time, StudyDescription=pid,
                ),
            )  # fmt: skip
            kept.append(row)
        yield archive, kept


def found(archive, **match):
    page = archive.studies(Query.of(match, limit=None))
    return {item["0020000D"]["Value"][0] for item in page.items}


def wildcard(pattern, value):
    """DICOM wildcard matching, written down as plainly as it can be."""
    translated = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(translated, value, re.DOTALL) is not None


def plain(text):
    """Lower case, no accents, no stroke in the Polish l."""
    decomposed = unicodedata.normalize("NFKD", text.casefold().replace("ł", "l"))
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def trimmed(group):
    return plain(group).strip(" ").rstrip("^ ")


@given(pattern=patterns)
@quick
def test_wildcards_on_text(rows, pattern):
    archive, kept = rows
    if set(pattern) == {"*"}:
        return

    expected = {uid for uid, _, text, *_ in kept if wildcard(pattern, text)}

    assert found(archive, PatientID=pattern) == expected
    assert found(archive, StudyDescription=pattern) == expected


@given(pattern=patterns)
@quick
def test_person_names_whatever_their_case_and_accents(rows, pattern):
    archive, kept = rows
    asked = trimmed(pattern)

    def matches(name):
        groups = [trimmed(group) for group in [*name.split("="), "", ""][:3]]
        return not asked.strip("*") or any(wildcard(asked, group) for group in groups)

    assert found(archive, PatientName=pattern) == {u for u, name, *_ in kept if matches(name)}


@given(low=st.sampled_from(["", *DATES]), high=st.sampled_from(["", *DATES]))
@quick
def test_date_ranges(rows, low, high):
    archive, kept = rows
    if not (low or high) or (low and high and low > high):
        return

    expected = {u for u, _, _, d, _ in kept if (low or "0") <= d <= (high or "9")}

    assert found(archive, StudyDate=f"{low}-{high}") == expected


def microseconds(time, *, last=False):
    """First or last microsecond of the day that the time says."""
    whole, _, fraction = time.partition(".")
    filling = "235959" if last else "000000"
    whole += filling[len(whole) :]
    fraction = fraction + ("9" if last else "0") * (6 - len(fraction))
    seconds = int(whole[:2]) * 3600 + int(whole[2:4]) * 60 + int(whole[4:])
    return seconds * 1_000_000 + int(fraction)


@given(low=st.sampled_from(["", *TIMES]), high=st.sampled_from(["", *TIMES]))
@quick
def test_time_ranges(rows, low, high):
    archive, kept = rows
    first = microseconds(low) if low else 0
    last = microseconds(high, last=True) if high else 86_400_000_000
    if not (low or high) or first > last:
        return

    expected = {u for *_, t in kept for u in [_[0]] if first <= microseconds(t) <= last}

    assert found(archive, StudyTime=f"{low}-{high}") == expected


@given(text=st.text(max_size=30))
@settings(max_examples=300)
def test_no_text_breaks_the_range_grammar(text):
    from archive import QueryError

    for parse in (date_range, time_range, datetime_range):
        try:
            bounds = parse(text)
        except QueryError:
            continue
        assert bounds.low is None or bounds.high is None or bounds.low <= bounds.high


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2026", "20260101000000000000", "20261231235959999999"),
        ("20260102-", "20260102000000000000", None),
        ("-202601021530", None, "20260102153059999999"),
        ("20260102101500.5+0200", "20260102101500500000", "20260102101500599999"),
        ("2025+0100-2026-0500", "20250101000000000000", "20261231235959999999"),
    ],
)
def test_a_date_time_says_all_that_it_leaves_open(text, low, high):
    assert (datetime_range(text).low, datetime_range(text).high) == (low, high)
