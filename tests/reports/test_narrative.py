"""The contract of the words: traceable numbers, right negation, no silence, no contradiction."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.errors import Contradiction, FindingsError, MissingData, UnreadableValue
from reports.layout import document
from reports.narrative import NO_LESION, findings_text, impression_text
from reports.narrative_html import narrative_html
from reports.reading import findings_of
from reports.regions import REGIONS, Kind, Region
from tests.reports.example import (
    NAMES,
    REPORT_REFERENCE,
    bundle,
    empty_observations,
    lesion_observations,
    observation,
)

NUMBER = re.compile(r"(?<![A-Za-z0-9])<?\d+(?:\.\d+)?")  # T1 is a word
COMPARING = re.compile(r"increas|decreas|unchanged|stable|previous|prior|compar", re.IGNORECASE)


def findings(observations, images=0):
    return findings_of(bundle(observations, images=images), REPORT_REFERENCE)


def texts(found):
    return [s.text for s in (*impression_text(found), *findings_text(found))]


volumes = st.none() | st.just(0.0) | st.floats(0.001, 900).map(lambda v: round(v, 2))
lengths = st.floats(0.5, 200).map(lambda v: round(v, 1))


@st.composite
def generated(draw):
    """Observations of any subset of regions; a union is at least as large as its parts."""
    small = [draw(volumes) for _ in range(3)]
    known = [v for v in small if v is not None]
    values = dict(zip(("ET", "NCR", "ED"), small, strict=True))
    values["TC"] = draw(st.none() | st.just(round(sum(known), 2)))
    values["WT"] = draw(st.none() | st.just(round(sum(known), 2)))
    chosen = draw(st.lists(st.sampled_from(sorted(values)), min_size=1, unique=True))
    made = []
    for region in chosen:
        value, more = values[region], {}
        if value:
            more["parts"] = draw(st.integers(1, 60))
            if draw(st.booleans()):
                more["short"], more["long"] = sorted((draw(lengths), draw(lengths)))
            if draw(st.booleans()):
                more["ratio"] = draw(st.floats(0.1, 9).map(lambda v: round(v, 2)))
        made.append(observation(region, value, **more))
    return made


@settings(max_examples=150, deadline=None)
@given(generated())
def test_every_number_in_the_text_is_the_written_figure_of_one_cited_observation(observations):
    found = findings(observations)
    written = {r.source: {f.number for f in r.figures} for r in found.regions}

    for sentence in (*impression_text(found), *findings_text(found)):
        for match in NUMBER.finditer(sentence.text):
            cited = [s for s in sentence.spans if s.start <= match.start() and match.end() <= s.end]
            assert len(cited) == 1, sentence
            assert match.group() in written[cited[0].source]


@settings(max_examples=150, deadline=None)
@given(generated())
def test_every_region_is_spoken_of_and_no_x_is_said_only_of_what_was_looked_for(observations):
    found = findings(observations)
    said = findings_text(found)

    for region in found.regions:
        name = REGIONS[region.region].name
        absent = f"No {name[0].lower()}{name[1:]} was found." in [s.text for s in said]
        unassessed = f"{name} was not assessed." in [s.text for s in said]
        assert unassessed == (region.present is None)
        if found.lesion:
            assert absent == (region.present is False)
            assert any(span.source == region.source for s in said for span in s.spans)
        else:
            assert not absent
    assert (NO_LESION in [s.text for s in said]) == (found.lesion is False)


@settings(max_examples=100, deadline=None)
@given(generated())
def test_the_impression_says_nothing_that_the_findings_do_not(observations):
    found = findings(observations)

    def figures(sentences):
        return {(s.text[p.start : p.end], p.source) for s in sentences for p in s.spans
                if NUMBER.search(s.text[p.start : p.end])}  # fmt: skip

    assert figures(impression_text(found)) <= figures(findings_text(found))


@settings(max_examples=50, deadline=None)
@given(generated())
def test_without_a_prior_nothing_is_compared(observations):
    assert not [t for t in texts(findings(observations)) if COMPARING.search(t)]


def test_an_empty_result_is_a_result():
    found = findings(empty_observations())

    assert texts(found)[0] == NO_LESION
    assert [s.text for s in findings_text(found)] == [NO_LESION]
    assert not NUMBER.search(" ".join(texts(found)))


def test_one_part_is_singular():
    found = findings([observation("WT", 3, parts=1)])

    assert texts(found)[-1] == "Whole tumour: 3.0\u00a0mL, in 1 part."


def test_what_could_not_be_assessed_is_said():
    found = findings([observation("WT", 10, parts=1), observation("ET", None)])

    assert "Enhancing tumour was not assessed." in texts(found)
    assert "Enhancement was not assessed." in texts(found)


def test_a_part_of_nothing_is_a_contradiction():
    with pytest.raises(Contradiction):
        findings([observation("WT", 0, parts=0), observation("ET", 2, parts=1)])


def test_a_whole_without_parts_is_a_contradiction():
    absent = [observation(region, 0, parts=0) for region in ("ET", "NCR", "ED")]
    with pytest.raises(Contradiction):
        findings([observation("WT", 20, parts=1), *absent])


@pytest.mark.parametrize(
    "broken",
    [
        observation("WT", -1, parts=1),
        observation("WT", float("nan"), parts=1),
        observation("WT", 5, parts=1, short=10, long=5),
        observation("WT", 5, parts=1, short=10),
        observation("WT", 5, parts=0),
    ],
)
def test_impossible_values_are_refused(broken):
    with pytest.raises(UnreadableValue):
        findings([broken])


def test_a_region_measured_twice_is_refused():
    twice = [observation("WT", 5, parts=1), observation("WT", 6, parts=1) | {"id": "other"}]
    with pytest.raises(UnreadableValue):
        findings(twice)


def test_an_observation_of_unknown_kind_is_listed_as_left_out():
    strange = observation("WT", 5) | {"id": "strange"}
    strange["code"] = {"coding": [{"system": "urn:x", "code": "y"}], "text": "Something else"}

    found = findings([*lesion_observations(), strange])

    assert document(found, "Site").omissions == (
        "Something else: not a measurement that this report knows",
    )


def test_a_withdrawn_observation_is_listed_as_left_out():
    withdrawn = lesion_observations()
    withdrawn[-1]["status"] = "entered-in-error"

    found = findings(withdrawn)

    assert found.region(Region.OEDEMA) is None
    assert found.omissions[0].reason == "withdrawn"


def test_a_caution_of_the_model_is_kept():
    noted = lesion_observations()
    for one in noted:
        one["note"] = [{"text": "No FLAIR series: less reliable."}]

    assert findings(noted).cautions == ("No FLAIR series: less reliable.",)


def test_a_report_without_regions_or_without_a_patient_is_refused():
    empty = bundle([observation("WT", 5) | {"status": "cancelled"}], images=0)
    orphan = bundle(images=0)
    del orphan["Patient/patient"]

    for broken in (empty, orphan):
        with pytest.raises(MissingData):
            findings_of(broken, REPORT_REFERENCE)


def test_a_picture_on_another_server_is_not_fetched():
    remote = bundle(images=1)
    remote["Media/media-1"]["content"] = {"contentType": "image/png", "url": "http://x.example/1"}

    with pytest.raises(FindingsError):
        findings_of(remote, REPORT_REFERENCE)


def test_the_narrative_links_each_figure_to_its_observation():
    html = narrative_html(document(findings(lesion_observations()), "Site"))

    assert '<a href="Observation/obs-et">19.1\u00a0mL</a>' in html
    assert html.startswith('<div xmlns="http://www.w3.org/1999/xhtml"><p><b>AI draft')


def test_regions_and_colours_are_those_that_inference_writes():
    from inference import terms

    written = {r.value: t for r, t in terms.REGIONS.items()}
    assert {r.value for r in Region} == set(written)
    for region, known in REGIONS.items():
        assert known.name == written[region].name == NAMES[region]
        if known.colour:
            assert known.colour == written[region].colour
    assert {Region(r.value) for r in terms.SEGMENTED} == {r for r in Region if REGIONS[r].colour}


def test_each_kind_of_figure_is_read_from_the_codes_that_inference_writes():
    found = findings(lesion_observations()).region(Region.ENHANCING)

    assert found is not None
    assert [f.kind for f in found.figures] == list(Kind)
