"""Dates and times: combined ranges, time zones, and what can be wrong with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from archive import Archive, ArchiveConfig, Query, QueryError
from archive.ranges import in_utc, moment_range, to_utc, utc_range
from tests.archive.phantom import slice_of

# date, time, offset
STUDIES = [
    ("20260101", "0900", None),
    ("20260102", "100000.5", None),
    ("20260103", "1800", None),
    ("20260102", None, None),
    ("20260102", "233000", "-0500"),
    ("20260103", "013000", "+0900"),
    ("20260228", "235960", "+0000"),
]


@pytest.fixture(scope="module")
def timed(postgres, tmp_path_factory, put):
    postgres.create_database("archive_moments")
    config = ArchiveConfig(tmp_path_factory.mktemp("moments"), postgres.dsn("archive_moments"), 0)
    with Archive.open(config) as archive:
        for number, (date, time, offset) in enumerate(STUDIES, start=1):
            put(
                archive,
                slice_of(
                    StudyInstanceUID=f"1.2.{number}", StudyDate=date, StudyTime=time,
                    TimezoneOffsetFromUTC=offset, SeriesDate=date, SeriesTime=time,
                ),
            )  # fmt: skip
        yield archive


def found(archive, match, level="studies", **more):
    page = getattr(archive, level)(Query.of(match, limit=None, **more))
    return {int(item["0020000D"]["Value"][0][4:]) for item in page.items}


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20260101-20260103", "1000-1200", {2, 4, 5, 6}),
        ("20260102-", "1000-", {2, 3, 4, 5, 6, 7}),
        ("-20260102", "-1000", {1, 2, 4}),
        ("20260102", "10", {2, 4}),
        ("20260101", "0900-0901", {1}),
    ],
)
def test_a_date_and_its_time_are_one_range_when_asked_for(timed, date, time, expected):
    study = {"StudyDate": date, "StudyTime": time}
    series = {"SeriesDate": date, "SeriesTime": time}

    assert found(timed, study, combined=True) == expected
    assert found(timed, series, "series", combined=True) == expected


def test_without_the_option_date_and_time_are_matched_each_by_itself(timed):
    match = {"StudyDate": "20260101-20260103", "StudyTime": "1000-1200"}

    assert found(timed, match) == {2}


@pytest.mark.parametrize(
    ("date", "time", "zone", "expected"),
    [
        ("20260103", "", "+0000", {3, 5}),  # 23:30 -0500 is 04:30 of the next day in UTC
        ("20260102", "", "+0000", {2, 4, 6}),  # 01:30 +0900 is 16:30 of the day before
        ("20260102", "2330", "-0500", {4, 5}),
        ("20260103", "0430", "+0000", {5}),
        ("20260301", "00", "+0001", {7}),
    ],
)
def test_a_question_with_a_time_zone_finds_the_same_moment_in_other_zones(
    timed, date, time, zone, expected
):
    match = {"StudyDate": date} | ({"StudyTime": time} if time else {})

    assert found(timed, match, combined=True, timezone=zone) == expected
    assert found(timed, {**match, "TimezoneOffsetFromUTC": zone}, combined=True) == expected


@pytest.mark.parametrize("zone", ["Z", "0100", "+1", "+2500", "+0160", "'; drop"])
def test_an_offset_that_is_none_is_an_error(timed, zone):
    with pytest.raises(QueryError):
        timed.studies(Query.of({"TimezoneOffsetFromUTC": zone, "StudyDate": "20260101"}))


@given(
    at=st.datetimes(datetime(1900, 1, 2), datetime(2100, 1, 1)),  # noqa: DTZ001
    minutes=st.integers(-840, 840),
)
@settings(max_examples=200)
def test_moments_go_to_utc_as_the_calendar_does(at, minutes):
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}{abs(minutes) % 60:02d}"

    expected = at.replace(tzinfo=UTC) - timedelta(minutes=minutes)

    told = at.strftime("%Y%m%d%H%M%S").rjust(14, "0") + f"{at.microsecond:06d}"
    assert to_utc(told, zone) == expected.strftime("%Y%m%d%H%M%S") + f"{at.microsecond:06d}"


@given(text=st.text(alphabet="0123456789.+- &", max_size=45))
@settings(max_examples=500)
def test_no_date_time_breaks_the_reader(text):
    try:
        bounds = utc_range(text)
    except QueryError:
        return
    assert bounds is None or bounds.low or bounds.high


@pytest.mark.parametrize(
    ("date", "time"),
    [("20260103-20260101", "10"), ("20260101", "12-10"), ("-", "10"), ("2026", "10")],
)
def test_a_range_that_cannot_be_is_an_error(date, time):
    with pytest.raises(QueryError):
        moment_range(date, time)


def test_the_ends_of_the_calendar_are_no_trap():
    assert in_utc(moment_range("00010101-99991231", "00-23"), "+1400").low == "00010101" + "0" * 12


@pytest.fixture(scope="module")
def stepped(postgres, tmp_path_factory, put):
    """Series whose requests hold several items, names and date-times."""
    postgres.create_database("archive_items")
    config = ArchiveConfig(tmp_path_factory.mktemp("items"), postgres.dsn("archive_items"), 0)
    with Archive.open(config) as archive:
        put(archive, slice_of(StudyInstanceUID="1.2.1", RequestAttributesSequence=Sequence(
            [request("A", "Müller^Jürgen"), request("B", "Weiß^Karl")])))  # fmt: skip
        put(archive, slice_of(StudyInstanceUID="1.2.2", RequestAttributesSequence=Sequence(
            [request("A", "Weiß^Karl")]), AcquisitionDateTime="20260102233000-0500"))  # fmt: skip
        put(archive, slice_of(StudyInstanceUID="1.2.3", AcquisitionDateTime="20260102120000.5"))
        yield archive


def request(step, requester):
    item, code = Dataset(), Dataset()
    item.ScheduledProcedureStepID = step
    item.RequestingPhysician = requester
    code.CodeValue, code.CodingSchemeDesignator = f"C{step}", "99T"
    item.ScheduledProtocolCodeSequence = Sequence([code])
    return item


STEP = "RequestAttributesSequence.ScheduledProcedureStepID"
REQUESTER = "RequestAttributesSequence.RequestingPhysician"
CODE = "RequestAttributesSequence.ScheduledProtocolCodeSequence.CodeValue"


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({STEP: "A"}, {1, 2}),
        ({STEP: "B"}, {1}),
        ({STEP: "A", REQUESTER: "weiss*"}, {2}),  # one item meets both
        ({STEP: "B", REQUESTER: "WEISS^KARL"}, {1}),
        ({REQUESTER: "muller^j?rgen"}, {1}),
        ({STEP: "A", CODE: "CB"}, set()),
        ({STEP: "B", CODE: "C?"}, {1}),
        ({CODE: "CA"}, {1, 2}),
        ({STEP: "", CODE: "*"}, {1, 2, 3}),
        ({"AcquisitionDateTime": "20260102"}, {2, 3}),
        ({"AcquisitionDateTime": "20260103+0000"}, {2}),
        ({"AcquisitionDateTime": "20260103043000+0000-20260103043000+0000"}, {2}),
        ({"AcquisitionDateTime": "20260102120000.5+0200"}, {3}),
    ],
)
def test_keys_inside_sequences_and_date_times(stepped, match, expected):
    assert found(stepped, match) == expected
