"""A Document as PDF, by ReportLab: same Document, same bytes.

Nothing of the clock, the locale or the machine goes in: ReportLab runs in invariant mode, fonts
are the packaged ones, and the only date is the report's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from io import BytesIO
from typing import Any

from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader, TimeStamp
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    Image,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from reports import scripts
from reports.layout import SCALE_NOTE, SERIES_COLUMNS, Document, issued_utc
from reports.narrative import Sentence

MARGIN = 18 * mm
TOP = 19 * mm  # banner included
WIDTH = A4[0] - 2 * MARGIN
BANNER_HEIGHT = 7 * mm
INK, QUIET, RULE = (
    colors.HexColor("#1b2733"),
    colors.HexColor("#5b6875"),
    colors.HexColor("#c9d1d9"),
)
ACCENT, PALE = colors.HexColor("#0b4f71"), colors.HexColor("#f2f5f7")
WARNING = colors.HexColor("#8f1d14")
IMAGES_PER_ROW = 3
IMAGE_HEIGHT = 62 * mm  # so that a report of usual length keeps its images on the first page
GAP = 4 * mm

_plain = ParagraphStyle(
    "plain", fontName=scripts.REGULAR, fontSize=9.5, leading=13.5, textColor=INK
)
_style = partial(ParagraphStyle, parent=_plain)
BODY = _style("body", spaceAfter=1.5 * mm)
LEAD = _style("lead", fontSize=10.5, leading=15, spaceAfter=1 * mm)
SMALL = _style("small", fontSize=7.5, leading=10, textColor=QUIET)
LABEL = _style("label", fontSize=8, leading=12, textColor=QUIET)
VALUE = _style("value", fontSize=9.5, leading=12)
NUMBER = _style("number", alignment=TA_RIGHT, leading=12)
HEAD = _style("head", fontName=scripts.BOLD, fontSize=8, leading=10, textColor=QUIET)
HEAD_RIGHT = _style("head-right", parent=HEAD, alignment=TA_RIGHT)
TITLE = _style("title", fontName=scripts.BOLD, fontSize=17, leading=21, textColor=ACCENT)
LETTERHEAD = _style("letterhead", fontName=scripts.BOLD, fontSize=10, leading=13)
SECTION = _style(
    "section", fontName=scripts.BOLD, fontSize=11, leading=14, textColor=ACCENT, spaceBefore=4 * mm
)
CAUTION = _style("caution", fontName=scripts.BOLD, textColor=WARNING)


def render(report: Document) -> bytes:
    """The PDF. Its length is even, as an element of DICOM must be: it is embedded unchanged."""
    scripts.register()
    buffer = BytesIO()
    template = BaseDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=TOP,
        bottomMargin=MARGIN,
        title=report.title,
        author=report.institution,
        subject=f"{report.banner}. Report {report.identifier}",
        creator="Hilum",
        producer="Hilum",
        initialFontName=scripts.REGULAR,  # ReportLab's own would be named and not embedded
        keywords=[report.banner],
        lang=report.language,
        invariant=1,
    )
    frame = Frame(MARGIN, MARGIN, WIDTH, A4[1] - MARGIN - TOP, 0, 0, 0, 0)
    template.addPageTemplates(PageTemplate("page", [frame]))
    template.build(list(_story(report)), canvasmaker=partial(_PagedCanvas, report))
    pdf = buffer.getvalue()
    return pdf if len(pdf) % 2 == 0 else pdf + b"\n"


class _PagedCanvas(Canvas):  # type: ignore[misc]  # ReportLab is untyped
    """Draws banner and footer when the number of pages is known."""

    def __init__(self, report: Document, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._report = report
        self._pages: list[dict[str, Any]] = []
        self._doc._timeStamp = _stamp(report.issued)
        # The seed of the file's ID; ReportLab's own depends on the environment's date.
        self._doc.signature = hashlib.md5(report.identifier.encode(), usedforsecurity=False)
        self.setViewerPreference("DisplayDocTitle", "true")
        self.showOutline()

    def showPage(self) -> None:
        """Keep the page until the last one is done."""
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Finish every page, then the file."""
        for number, page in enumerate(self._pages, 1):
            self.__dict__.update(page)
            self._furniture(number, len(self._pages))
            super().showPage()
        super().save()

    def _furniture(self, number: int, pages: int) -> None:
        width, height = A4
        self.setFillColor(WARNING)
        self.rect(0, height - BANNER_HEIGHT, width, BANNER_HEIGHT, stroke=0, fill=1)
        self.setFillColor(colors.white)
        self.setFont(scripts.BOLD, 9.5)
        self.drawCentredString(width / 2, height - BANNER_HEIGHT + 2.2 * mm, self._report.banner)
        self.setStrokeColor(RULE)
        self.line(MARGIN, 13 * mm, width - MARGIN, 13 * mm)
        footer = Paragraph(scripts.markup(self._report.footer), SMALL)
        footer.wrapOn(self, WIDTH - 30 * mm, 10 * mm)
        footer.drawOn(self, MARGIN, 8.1 * mm)
        self.setFillColor(QUIET)
        self.setFont(scripts.REGULAR, 7.5)
        self.drawRightString(width - MARGIN, 9 * mm, f"Page {number} of {pages}")


def _stamp(issued: datetime) -> TimeStamp:
    """The report's own date as the file's, in place of a fixed day or the environment's."""
    stamp = TimeStamp(invariant=1)
    moment = issued_utc(issued)
    stamp.t, stamp.lt = moment.timestamp(), moment.timetuple()
    stamp.YMDhms = tuple(stamp.lt)[:6]
    return stamp


class _Section(Flowable):  # type: ignore[misc]  # ReportLab is untyped
    """A heading that is also an entry of the outline."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._heading = Paragraph(scripts.markup(title), SECTION)

    def wrap(self, width: float, height: float) -> tuple[float, float]:
        """Size: the heading's, the space above it and the rule below."""
        self._width, self._height = self._heading.wrap(width, height)
        return self._width, self._height + 5 * mm

    def draw(self) -> None:
        """Draw the heading and set its bookmark."""
        key = self._title.lower().replace(" ", "-")
        self.canv.bookmarkPage(key)
        self.canv.addOutlineEntry(self._title, key, 0)
        self._heading.drawOn(self.canv, 0, 1.6 * mm)
        self.canv.setStrokeColor(RULE)
        self.canv.line(0, 0.8 * mm, self._width, 0.8 * mm)


def _story(report: Document) -> Iterable[Flowable]:
    yield Paragraph(scripts.markup(report.institution), LETTERHEAD)
    yield Paragraph(scripts.markup(report.title), TITLE)
    yield Spacer(0, 2.5 * mm)
    yield _identity(report)
    for caution in report.cautions:
        yield Spacer(0, 1.5 * mm)
        yield Paragraph(scripts.markup(caution), CAUTION)
    yield _Section("Impression")
    yield from _sentences(report.impression, LEAD)
    yield _Section("Findings")
    yield from _sentences(report.findings, BODY)
    yield Spacer(0, 1 * mm)
    yield _measurements(report)
    yield Spacer(0, 1 * mm)
    yield Paragraph(scripts.markup(SCALE_NOTE), SMALL)
    if report.images:
        yield from _key_images(report)
    yield KeepTogether([_Section("Technique"), *_technique(report)])
    yield KeepTogether([_Section("Model and origin"), _pairs(report.model, 26 * mm)])
    for omission in report.omissions:
        yield Paragraph(scripts.markup(f"Not printed: {omission}"), SMALL)


def _sentences(sentences: Iterable[Sentence], style: ParagraphStyle) -> Iterable[Flowable]:
    for sentence in sentences:
        yield Paragraph(scripts.markup(sentence.text), style)


def _identity(report: Document) -> Flowable:
    half = WIDTH / 2 - 3 * mm
    table = Table(
        [[_pairs(report.patient, 20 * mm, half), _pairs(report.study, 24 * mm, half)]],
        colWidths=[WIDTH / 2, WIDTH / 2],
    )
    table.setStyle(
        TableStyle(
            [
                ("FONTNAME", (0, 0), (-1, -1), scripts.REGULAR),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("BACKGROUND", (0, 0), (-1, -1), PALE),
                ("LINEABOVE", (0, 0), (-1, 0), 1.2, ACCENT),
                ("LEFTPADDING", (0, 0), (-1, -1), 3 * mm),
                ("TOPPADDING", (0, 0), (-1, -1), 2 * mm),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2 * mm),
            ]
        )
    )
    return table


def _pairs(pairs: Sequence[tuple[str, str]], label_width: float, width: float = WIDTH) -> Flowable:
    rows = [
        [Paragraph(scripts.markup(label), LABEL), Paragraph(scripts.markup(value), VALUE)]
        for label, value in pairs
    ]
    table = Table(rows, colWidths=[label_width, width - label_width], hAlign="LEFT")
    table.setStyle(_compact())
    return table


def _compact(*further: tuple[Any, ...]) -> TableStyle:
    return TableStyle(
        [
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("FONTNAME", (0, 0), (-1, -1), scripts.REGULAR),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("TOPPADDING", (0, 0), (-1, -1), 0.5 * mm),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 0.5 * mm),
            *further,
        ]
    )


def _measurements(report: Document) -> Flowable:
    head = [
        Paragraph(
            f"{scripts.markup(name)}{f' ({unit})' if unit else ''}",
            HEAD_RIGHT if column else HEAD,
        )
        for column, (name, unit) in enumerate(report.columns)
    ]
    rows = [
        [
            Paragraph(scripts.markup(row.name), VALUE),
            *(Paragraph(scripts.markup(cell), NUMBER) for cell in row.cells),
        ]
        for row in report.rows
    ]
    first = 56 * mm
    others = (WIDTH - first) / (len(report.columns) - 1)
    table = Table([head, *rows], colWidths=[first, *[others] * (len(head) - 1)], repeatRows=1)
    table.setStyle(
        _compact(
            ("LINEBELOW", (0, 0), (-1, 0), 0.8, ACCENT),
            ("LINEBELOW", (0, 1), (-1, -1), 0.4, RULE),
            ("TOPPADDING", (0, 1), (-1, -1), 1 * mm),
            ("BOTTOMPADDING", (0, 1), (-1, -1), 1.2 * mm),
            ("RIGHTPADDING", (0, 0), (-1, -1), 1 * mm),
        )
    )
    return table


def _key_images(report: Document) -> Iterable[Flowable]:
    width = (WIDTH - GAP * (IMAGES_PER_ROW - 1)) / IMAGES_PER_ROW
    cells = [
        [_picture(image.png, width), Paragraph(scripts.markup(image.caption), SMALL)]
        for image in report.images
    ]
    rows = [cells[at : at + IMAGES_PER_ROW] for at in range(0, len(cells), IMAGES_PER_ROW)]
    tables = [_picture_row(row, width) for row in rows]
    legend = [Paragraph(_legend(report), SMALL)] if report.legend else []
    yield KeepTogether([_Section("Key images"), tables[0], *legend])
    yield from tables[1:]


def _picture_row(row: list[list[Flowable]], width: float) -> Flowable:
    filled = [*row, *[""] * (IMAGES_PER_ROW - len(row))]
    table = Table([filled], colWidths=[width + GAP, width + GAP, width], hAlign="LEFT")
    table.setStyle(_compact(("RIGHTPADDING", (0, 0), (-1, -1), 0)))
    return table


def _picture(png: bytes, width: float) -> Flowable:
    columns, rows = ImageReader(BytesIO(png)).getSize()
    height = min(width * rows / columns, IMAGE_HEIGHT)
    return Image(BytesIO(png), width=height * columns / rows, height=height, hAlign="LEFT")


def _legend(report: Document) -> str:
    entries = [
        f'<font backColor="#{bytes(entry.colour).hex()}">&nbsp;&nbsp;&nbsp;&nbsp;</font>'
        f"&nbsp;{scripts.markup(entry.name)}"
        for entry in report.legend
    ]
    return "Overlay: &nbsp;" + " &nbsp;&nbsp; ".join(entries)


def _technique(report: Document) -> Iterable[Flowable]:
    yield Paragraph(scripts.markup(report.technique), BODY)
    head = [Paragraph(t, HEAD) for t in SERIES_COLUMNS]
    rows = [[Paragraph(scripts.markup(cell), VALUE) for cell in row] for row in report.series]
    widths = [16 * mm, 22 * mm, WIDTH - 78 * mm, 20 * mm, 20 * mm]
    table = Table([head, *rows], colWidths=widths, hAlign="LEFT", repeatRows=1)
    table.setStyle(_compact(("LINEBELOW", (0, 0), (-1, 0), 0.4, RULE)))
    yield table
