"""The page of rows names tests that exist, and every capability that we announce."""

from __future__ import annotations

import re

from authorization.discovery import CAPABILITIES
from tests.fixtures.stores import ROOT

PAGE = ROOT / "docs" / "conformance" / "fhir-smart.md"
_NAMED = re.compile(r"`([\w/]*(?:\.py)?)::(test_\w+)`")


def named_tests():
    """Path below tests/ and name of each test on the page; a bare name is of the file before."""
    found, path = [], ""
    for part, name in _NAMED.findall(PAGE.read_text()):
        path = part or path
        found.append((path, name))
    return found


def test_every_test_that_the_page_names_exists():
    found = named_tests()

    missing = [
        f"{path}::{name}"
        for path, name in found
        if not (ROOT / "tests" / path).is_file()
        or f"def {name}(" not in (ROOT / "tests" / path).read_text()
    ]

    assert len(found) > 60
    assert not missing


def test_every_capability_is_proved_by_a_test():
    table = PAGE.read_text().partition("## Capabilities")[2]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("|")]
    proved = {
        name.strip(): tests for names, tests in rows for name in names.split(",") if "::" in tests
    }

    assert set(CAPABILITIES) <= proved.keys()
