"""U7: what a report shows is also a document, with the same address or the same hash."""

from __future__ import annotations

import pytest

from tests.uscore.matcher import tokens

pytestmark = [pytest.mark.slow, pytest.mark.stack]

NOTE = (
    "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category",
    "clinical-note",
)


def marks(attachment):
    """What tells an attachment: its address, its hash."""
    return {attachment[name] for name in ("url", "hash") if name in attachment}


def attachments(documents):
    return {
        mark
        for document in documents
        if NOTE in {pair for one in document.get("category", []) for pair in tokens(one)}
        for content in document.get("content", [])
        for mark in marks(content["attachment"])
    }


def without_a_document(reports, documents):
    known = attachments(documents)
    return [
        (report["id"], form.get("title"))
        for report in reports
        for form in report.get("presentedForm", [])
        if not marks(form) & known
    ]


def test_each_form_of_a_report_that_hilum_writes_is_a_document(written):
    forms = [form for one in written["DiagnosticReport"] for form in one.get("presentedForm", [])]

    assert forms
    assert without_a_document(written["DiagnosticReport"], written["DocumentReference"]) == []


def test_each_form_of_an_example_report_is_a_document(stored):
    assert without_a_document(
        [one for one in stored["DiagnosticReport"] if one["id"].startswith("uscore-")],
        stored["DocumentReference"],
    ) == []  # fmt: skip
