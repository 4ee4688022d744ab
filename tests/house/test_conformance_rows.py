"""What is promised is proved: rows of the FHIR conformance pages, what the server advertises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from authorization.discovery import CAPABILITIES
from fhir_gateway.conformance import DOCREF, EVERYTHING, OPERATIONS, VALIDATE
from fhir_gateway.topics.capability import subscription_resource

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "conformance").glob("fhir-*.md"))
NAMED = re.compile(r"`(?:((?:\w+/)*test_\w+\.py))?(?:::(\w+))?`")
ROWS = {"S": 32, "I": 18, "B": 24, "U": 9}


def cells(page):
    """The cells of each row of each table of a page, the headings apart."""
    for line in page.read_text().splitlines():
        if line.startswith("|") and not line.startswith(("|--", "| --", "| row", "|---")):
            yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def named_in(text):
    """File and function of each test; `::test_x` is in the file that was named last."""
    file = None
    for path, function in NAMED.findall(text):
        file = path or file
        if file is not None and (path or function):
            yield file, function


def labels(cell):
    """What a first cell is about: `S8, S9` or `S12–S14`."""
    return {one.strip() for one in re.split(r"[,;]", cell)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_exists(page):
    wanted = {test for row in cells(page) for cell in row for test in named_in(cell)}

    missing = [
        f"{file}::{function}"
        for file, function in sorted(wanted)
        if not (ROOT / "tests" / file).is_file()
        or f"def {function}(" not in (ROOT / "tests" / file).read_text() + "def ("
    ]

    assert missing == []


def test_every_row_of_the_checklists_is_proved_or_says_why_not():
    told = {}
    for page in PAGES:
        for row in cells(page):
            for label in labels(row[0]):
                proved = any(True for cell in row for _ in named_in(cell))
                elsewhere = row[-1].startswith("not") or "the table below" in row
                told[label] = told.get(label, False) or proved or elsewhere
    wanted = [f"{letter}{number}" for letter, last in ROWS.items() for number in range(1, last + 1)]

    assert [one for one in wanted if not told.get(one)] == []


def proved_by_a_test():
    """First cells of all rows that name a test."""
    return {
        label
        for page in PAGES
        for row in cells(page)
        if any(True for cell in row for _ in named_in(cell))
        for label in labels(row[0])
    }


def test_every_advertised_capability_is_proved():
    assert set(CAPABILITIES) - proved_by_a_test() == set()


def test_every_declared_operation_is_proved():
    declared = {one["name"] for some in OPERATIONS.values() for one in some}
    declared |= {one["name"] for one in (DOCREF, EVERYTHING, VALIDATE)}
    declared |= {one["name"] for one in subscription_resource()["operation"]}

    assert declared - proved_by_a_test() == set()
