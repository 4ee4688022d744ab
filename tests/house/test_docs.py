"""Pages that follow from the code are up to date, and no link in the docs leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


def test_reference_pages_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "tools/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr


def test_the_dicom_conformance_statement_says_what_the_code_does():
    done = subprocess.run(
        [sys.executable, "tools/conformance.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr


def test_every_link_between_pages_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]

    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]

    assert not broken


def test_every_test_that_the_cases_name_exists():
    page = (ROOT / "docs" / "conformance" / "dicom-cases.md").read_text()

    named = set(re.findall(r"`(\w+/test_\w+\.py)`", page))

    assert len(named) > 30
    assert not [name for name in sorted(named) if not (ROOT / "tests" / name).is_file()]
