"""Builds the Word template `templates/report.docx` that docx.py fills in.

Run `python -m reports.docx_template` after a change here; a test keeps the packaged file equal
to what this makes. Jinja tags stand in the paragraphs; docxtpl reads `{%p` as "this paragraph"
and `{%tr` as "this row".
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import docx
from docx.document import Document as WordDocument
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Mm, Pt, RGBColor
from docx.table import Table, _Cell
from docx.text.paragraph import Paragraph

from reports.docx_package import fixed_package
from reports.layout import COLUMNS, SERIES_COLUMNS

PATH = Path(__file__).with_name("templates") / "report.docx"
ACCENT, QUIET, WARNING = RGBColor(11, 79, 113), RGBColor(91, 104, 117), RGBColor(143, 29, 20)
FACE = "Arial"


def build() -> bytes:
    """The template as a .docx file, the same bytes each time."""
    word = docx.Document()
    _page(word)
    _letterhead(word)
    _loop(word, "caution", "cautions", "{{ caution }}", WARNING)
    _heading(word, "Impression")
    _loop(word, "line", "impression", "{{ line }}")
    _heading(word, "Findings")
    _loop(word, "line", "findings", "{{ line }}")
    _measurements(word)
    _small(word, "{{ scale_note }}")
    _key_images(word)
    _heading(word, "Technique")
    word.add_paragraph("{{ technique }}")
    _row_table(
        word,
        SERIES_COLUMNS,
        "row in series",
        tuple(f"{{{{ row[{n}] }}}}" for n in range(len(SERIES_COLUMNS))),
    )
    _heading(word, "Model and origin")
    _row_table(word, (), "row in model", ("{{ row[0] }}", "{{ row[1] }}"))
    _loop(word, "line", "omissions", "Not printed: {{ line }}")
    buffer = BytesIO()
    word.save(buffer)
    return fixed_package(buffer.getvalue())


def _page(word: WordDocument) -> None:
    section = word.sections[0]
    section.page_width, section.page_height = Mm(210), Mm(297)
    section.left_margin = section.right_margin = Mm(18)
    section.top_margin, section.bottom_margin = Mm(22), Mm(18)
    normal = word.styles["Normal"]
    normal.font.name, normal.font.size = FACE, Pt(10)
    normal.paragraph_format.space_after = Pt(3)
    banner = section.header.paragraphs[0]
    banner.alignment = WD_ALIGN_PARAGRAPH.CENTER
    _run(banner, "{{ banner }}", bold=True, colour=RGBColor(255, 255, 255))
    _shade(banner, str(WARNING))
    footer = section.footer.paragraphs[0]
    _run(footer, "{{ footer }} · Page ", size=8, colour=QUIET)
    _page_number(footer, "PAGE")
    _run(footer, " of ", size=8, colour=QUIET)
    _page_number(footer, "NUMPAGES")


def _letterhead(word: WordDocument) -> None:
    _run(word.add_paragraph(), "{{ institution }}", bold=True, size=11)
    _run(word.add_paragraph(), "{{ title }}", bold=True, size=18, colour=ACCENT)
    _row_table(word, (), "row in identity", tuple(f"{{{{ row[{n}] }}}}" for n in range(4)))


def _heading(word: WordDocument, text: str) -> None:
    heading = word.add_heading(text, level=1)
    heading.paragraph_format.space_before = Pt(12)
    for run in heading.runs:
        run.font.name, run.font.size, run.font.color.rgb = FACE, Pt(12), ACCENT


def _loop(
    word: WordDocument, name: str, items: str, text: str, colour: RGBColor | None = None
) -> None:
    word.add_paragraph(f"{{%p for {name} in {items} %}}")
    _run(word.add_paragraph(), text, colour=colour)
    word.add_paragraph("{%p endfor %}")


def _measurements(word: WordDocument) -> None:
    heads = tuple(f"{name} ({unit})" if unit else name for name, _, unit in COLUMNS)
    cells = ("{{ row.name }}", *(f"{{{{ row.cells[{n}] }}}}" for n in range(len(COLUMNS) - 1)))
    table = _row_table(word, heads, "row in rows", cells)
    for row in (table.rows[0], table.rows[2]):
        for cell in row.cells[1:]:
            cell.paragraphs[0].alignment = WD_ALIGN_PARAGRAPH.RIGHT


def _key_images(word: WordDocument) -> None:
    word.add_paragraph("{%p if images %}")
    _heading(word, "Key images")
    # In one paragraph, so that they stand side by side.
    row = "{% for picture in images %}{{ picture.image }} {% endfor %}"
    word.add_paragraph(row).paragraph_format.keep_with_next = True
    _small(word, "{{ captions }}")
    word.add_paragraph("{%p if legend %}")
    _small(word, "Overlay: {{r legend }}")
    word.add_paragraph("{%p endif %}")
    word.add_paragraph("{%p endif %}")


def _row_table(
    word: WordDocument, heads: tuple[str, ...], loop: str, cells: tuple[str, ...]
) -> Table:
    """A table with an optional head and one row for each turn of a loop."""
    table: Table = word.add_table(rows=0, cols=len(cells))
    table.style = "Table Grid"
    if heads:
        for cell, text in zip(_row(table), heads, strict=True):
            _run(cell.paragraphs[0], text, bold=True, size=8, colour=QUIET)
    _fill(_row(table)[0], f"{{%tr for {loop} %}}")
    for cell, text in zip(_row(table), cells, strict=True):
        _fill(cell, text)
    _fill(_row(table)[0], "{%tr endfor %}")
    return table


def _row(table: Table) -> Sequence[_Cell]:
    row = table.add_row()  # type: ignore[no-untyped-call]  # python-docx leaves it untyped
    return tuple(row.cells)


def _fill(cell: _Cell, text: str) -> None:
    cell.paragraphs[0].paragraph_format.space_after = Pt(0)
    _run(cell.paragraphs[0], text, size=9)


def _small(word: WordDocument, text: str) -> None:
    _run(word.add_paragraph(), text, size=8, colour=QUIET)


def _run(
    paragraph: Paragraph,
    text: str,
    *,
    bold: bool = False,
    size: float | None = None,
    colour: RGBColor | None = None,
) -> None:
    run = paragraph.add_run(text)
    run.bold = bold
    if size:
        run.font.size = Pt(size)
    if colour is not None:
        run.font.color.rgb = colour


def _shade(paragraph: Paragraph, fill: str) -> None:
    shading = OxmlElement("w:shd")
    for name, value in (("val", "clear"), ("color", "auto"), ("fill", fill)):
        shading.set(qn(f"w:{name}"), value)
    paragraph._p.get_or_add_pPr().append(shading)


def _page_number(paragraph: Paragraph, field: str) -> None:
    """A field that Word fills in itself."""
    element = OxmlElement("w:fldSimple")
    element.set(qn("w:instr"), field)
    paragraph._p.append(element)


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_bytes(build())
