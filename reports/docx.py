"""A Document as DOCX, by docxtpl: same Document, same bytes.

Values go into a sandboxed template with autoescape: docxtpl's default would cut a name short at
its first "<". Nothing in a value is ever read as a template.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from itertools import zip_longest
from typing import Any

from docx.shared import Mm
from docxtpl import DocxTemplate, InlineImage, RichText
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from reports.docx_package import fixed_package
from reports.docx_template import PATH
from reports.layout import SCALE_NOTE, Document, LegendEntry, issued_utc

IMAGE_WIDTH = Mm(55)  # three in a row
PROPERTY_LENGTH = 255  # python-docx refuses longer core properties


def render(report: Document) -> bytes:
    """The DOCX."""
    template = DocxTemplate(str(PATH))
    template.init_docx()
    environment = SandboxedEnvironment(autoescape=True, undefined=StrictUndefined)
    template.render(_context(report, template), environment, autoescape=True)
    _properties(template, report)
    buffer = BytesIO()
    template.save(buffer)
    return fixed_package(buffer.getvalue())


def _context(report: Document, template: DocxTemplate) -> dict[str, Any]:
    empty = ("", "")
    identity = [
        (*left, *right)
        for left, right in zip_longest(report.patient, report.study, fillvalue=empty)
    ]
    return {
        "banner": report.banner,
        "institution": report.institution,
        "title": report.title,
        "identity": identity,
        "cautions": report.cautions,
        "impression": [line.text for line in report.impression],
        "findings": [line.text for line in report.findings],
        "rows": report.rows,
        "scale_note": SCALE_NOTE,
        "images": [
            {"image": InlineImage(template, BytesIO(i.png), width=IMAGE_WIDTH)}
            for i in report.images
        ],
        "captions": " · ".join(i.caption for i in report.images),
        "legend": _legend(report.legend),
        "technique": report.technique,
        "series": report.series,
        "model": report.model,
        "omissions": report.omissions,
        "footer": report.footer,
    }


def _legend(entries: Iterable[LegendEntry]) -> RichText | None:
    text = RichText()
    for entry in entries:
        text.add("\u25a0 ", color=bytes(entry.colour).hex(), size=16)
        text.add(f"{entry.name}   ", size=16)
    return text if text.xml else None


def _properties(template: DocxTemplate, report: Document) -> None:
    """Core properties, dated by the report."""
    properties = template.docx.core_properties
    moment = issued_utc(report.issued).replace(tzinfo=None)
    properties.title = report.title[:PROPERTY_LENGTH]
    properties.author = report.institution[:PROPERTY_LENGTH]
    properties.subject, properties.language = report.banner, report.language
    properties.comments, properties.keywords = "", report.banner
    properties.created = properties.modified = moment
    properties.last_modified_by, properties.revision = "Hilum", 1
