"""U4, U6: every item that must be supported is there, and missing data says that it is missing."""

from __future__ import annotations

import json

import pytest

from tests.uscore.bar import VERSIONS, group, groups
from tests.uscore.data.making import ABSENT_EXTENSION, DATA_ABSENT
from tests.uscore.supporting import items, of_profile, present

pytestmark = [pytest.mark.slow, pytest.mark.stack]

ITEMS = [
    (version, one.name, shown)
    for version in VERSIONS
    for one in groups(version)
    for shown, _ in items(one)
]


@pytest.mark.parametrize(("version", "name", "item"), ITEMS)
def test_an_item_that_must_be_supported_is_given_out(stored, version, name, item):
    ours = group(version, name)

    wanted = dict(items(ours))[item]

    assert present(ours, wanted, of_profile(ours, stored[ours.resource]))


def test_a_missing_text_is_marked_by_the_extension(stored):
    [boris] = [one for one in stored["Patient"] if one["id"] == "uscore-boris"]

    assert boris["name"][0]["extension"] == [{"url": ABSENT_EXTENSION, "valueCode": "unknown"}]


def test_a_missing_code_is_marked_by_the_code_system(stored):
    marked = [
        one["id"] for one in stored["Encounter"] if DATA_ABSENT in json.dumps(one.get("type"))
    ]

    assert "uscore-stay" in marked
