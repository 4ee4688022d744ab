"""The report's text as a FHIR narrative; each figure links to the Observation that states it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from reports.layout import Document
from reports.narrative import Sentence


def narrative_html(report: Document) -> str:
    """The `text.div` of the DiagnosticReport."""
    return (
        '<div xmlns="http://www.w3.org/1999/xhtml">'
        f"<p><b>{escape(report.banner)}</b></p>"
        f"{''.join(f'<p><b>{escape(c)}</b></p>' for c in report.cautions)}"
        f"<p><b>Impression</b></p>{_paragraphs(report.impression)}"
        f"<p><b>Findings</b></p>{_paragraphs(report.findings)}"
        "</div>"
    )


def _paragraphs(sentences: Iterable[Sentence]) -> str:
    return "".join(f"<p>{_linked(sentence)}</p>" for sentence in sentences)


def _linked(sentence: Sentence) -> str:
    pieces, at = [], 0
    for span in sentence.spans:
        pieces.append(escape(sentence.text[at : span.start]))
        words = escape(sentence.text[span.start : span.end])
        pieces.append(f'<a href="{escape(span.source)}">{words}</a>')
        at = span.end
    return "".join([*pieces, escape(sentence.text[at:])])
