"""A structured report as a plain HTML page: the tree of its content, every text escaped.

Runs in a decoder process: it reads what a stranger has sent.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread

from pixels.decode import DAMAGE
from pixels.errors import NotDecodable
from pixels.inflate import open_plain

_LIMIT = 256 * 1024 * 1024
_MAX_DEPTH = 60
_PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>'
    "body{{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}}"
    "dt{{font-weight:600}}dd{{margin:0 0 .4em 1.5em}}dl.head{{display:grid;"
    "grid-template-columns:max-content auto;gap:0 1em}}dl.head dd{{margin:0}}"
    "</style></head><body><h1>{title}</h1><dl class=head>{head}</dl>{body}</body></html>"
)
_HEAD = (
    ("Patient", "PatientName"),
    ("Patient ID", "PatientID"),
    ("Study date", "StudyDate"),
    ("Series", "SeriesDescription"),
    ("Completion", "CompletionFlag"),
    ("Verification", "VerificationFlag"),
)


def report_page(path: Path) -> bytes:
    """The report at `path` as a UTF-8 page.

    Raises:
        NotDecodable: it is not a structured report, or is damaged.
    """
    try:
        file, _ = open_plain(path, _LIMIT)
        with file:
            report = dcmread(file)
        if "ContentSequence" not in report and "ConceptNameCodeSequence" not in report:
            raise NotDecodable("the instance is not a structured report")
        title = _code(report.get("ConceptNameCodeSequence")) or "Structured report"
        head = "".join(
            f"<dt>{escape(label)}</dt><dd>{escape(str(report.get(name)))}</dd>"
            for label, name in _HEAD
            if report.get(name)
        )
        body = _items(report, 0)
    except DAMAGE as error:
        raise NotDecodable("the report cannot be read") from error
    return _PAGE.format(title=escape(title), head=head, body=body).encode("utf-8", "replace")


def _items(parent: Dataset, depth: int) -> str:
    items = parent.get("ContentSequence") or []
    if not items:
        return ""
    if depth > _MAX_DEPTH:
        raise NotDecodable("the report is nested too deep")
    return "<dl>" + "".join(_item(item, depth) for item in items) + "</dl>"


def _item(item: Dataset, depth: int) -> str:
    name = _code(item.get("ConceptNameCodeSequence")) or str(item.get("RelationshipType", ""))
    return f"<dt>{escape(name)}</dt><dd>{escape(_value(item))}{_items(item, depth + 1)}</dd>"


def _value(item: Dataset) -> str:
    kind = str(item.get("ValueType", ""))
    if kind == "CODE":
        return _code(item.get("ConceptCodeSequence"))
    if kind == "NUM":
        measured = (item.get("MeasuredValueSequence") or [Dataset()])[0]
        unit = _code(measured.get("MeasurementUnitsCodeSequence"), "CodeValue")
        return f"{measured.get('NumericValue', '')} {unit}".strip()
    if kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
        referenced = (item.get("ReferencedSOPSequence") or [Dataset()])[0]
        return f"{kind.lower()} {referenced.get('ReferencedSOPInstanceUID', '')}"
    if kind in ("SCOORD", "SCOORD3D", "TCOORD"):
        return str(item.get("GraphicType") or item.get("TemporalRangeType") or kind)
    for name in ("TextValue", "PersonName", "UID", "DateTime", "Date", "Time"):
        if item.get(name):
            return str(item.get(name))
    return ""


def _code(sequence: Any, keyword: str = "CodeMeaning") -> str:
    if not sequence:
        return ""
    return str(sequence[0].get(keyword) or sequence[0].get("CodeMeaning") or "")
