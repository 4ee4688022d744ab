"""U2: what Hilum writes, and the example data, are valid on three versions of US Core."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.uscore.bar import VERSIONS
from tests.uscore.data.example import BEFORE_8, SINCE_8, example
from tests.uscore.defects import DEFECTS

WARNINGS = Path(__file__).resolve().parent / "warnings.json"

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_hilum_writes_has_no_error_and_no_code_that_it_does_not_write(
    written, validator, version
):
    errors = [
        error
        for some in written.values()
        for one in some
        for error in validator(version).errors(one, "written-codes")
    ]

    assert errors == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_example_data_has_no_error(validator, version):
    other = BEFORE_8 if version.startswith("8") else SINCE_8

    errors = [
        error
        for one in example()
        if f"{one['resourceType']}/{one['id']}" not in other
        for error in validator(version).errors(one)
    ]

    assert errors == []


def test_there_are_twenty_seeded_defects_or_more():
    assert len({one.name for one in DEFECTS}) >= 20


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_seeded_defect_is_found(written, validator, version, defect):
    right = written[defect.kind][0]

    errors = validator(version).errors(defect.spoiled(right), "written-codes")

    assert any(defect.word in error for error in errors), errors


@pytest.mark.parametrize("version", VERSIONS)
def test_every_warning_is_one_of_the_known_ones(written, validator, version):
    known = [re.compile(one["message"]) for one in json.loads(WARNINGS.read_text())]

    unknown = {
        f"{kind}: {issue['message']}"
        for kind, some in written.items()
        for one in some
        for issue in validator(version).issues(one, "written-codes")
        if issue["severity"] == "warning"
        if not any(pattern.match(issue["message"]) for pattern in known)
    }

    assert unknown == set()
