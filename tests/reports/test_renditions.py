"""PDF and DOCX: the same bytes each time, every name visible, the banner on every page."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import docx as python_docx
import numpy as np
import pytest
from PIL import Image

from reports import docx, docx_template, pdf, scripts
from reports.layout import BANNER, document
from reports.reading import REPRESENTATION, clean, findings_of
from tests.reports.example import (
    REPORT_REFERENCE,
    bundle,
    empty_observations,
    lesion_observations,
    observation,
)

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "O<Brien & {{7*7}} {% raw %} =cmd|'/c calc'!A1 </w:t>"
SCRIPTS = {
    "Japanese": ("山田", "太郎"),
    "kana": ("やまだ", "タロウ"),
    "Korean": ("김", "희중"),
    "Chinese": ("王", "小東"),
    "Cyrillic": ("Люксембург", "Жанна"),
    "Greek": ("Διονυσίου", "Ωμέγα"),
    "Latin": ("Äneas", "Źdźbło"),
    "Thai": ("สมชาย", ""),
}


def laid_out(observations=None, *names, images=3):
    return document(
        findings_of(bundle(observations, *names, images=images), REPORT_REFERENCE), "Site"
    )


def text_of(pdf_bytes, tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf_bytes)
    done = subprocess.run(
        ["pdftotext", "-layout", str(path), "-"], capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode()


def pages_of(pdf_bytes, tmp_path, dpi=70):
    (tmp_path / "report.pdf").write_bytes(pdf_bytes)
    subprocess.run(
        ["pdftoppm", "-png", "-r", str(dpi), str(tmp_path / "report.pdf"), str(tmp_path / "page")],
        check=True,
        timeout=60,
    )
    return [np.asarray(Image.open(p).convert("RGB")) for p in sorted(tmp_path.glob("page*.png"))]


def words_of(docx_bytes):
    word = python_docx.Document(BytesIO(docx_bytes))
    cells = [c.text for t in word.tables for row in t.rows for c in row.cells]
    return [*(p.text for p in word.paragraphs), *cells]


RENDER = """
import hashlib
from tests.reports.test_renditions import HOSTILE, laid_out
from reports import docx, pdf
report = laid_out(None, {"family": HOSTILE}, {"family": "山田", "given": ["太郎"]})
print(*(hashlib.sha256(kind.render(report)).hexdigest() for kind in (pdf, docx)))
"""


def test_two_processes_of_different_places_render_the_same_bytes():
    worlds = (
        {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
        {
            "TZ": "America/St_Johns",
            "LC_ALL": "C.UTF-8",
            "PYTHONHASHSEED": "77",
            "SOURCE_DATE_EPOCH": "1",
            "HOME": "/nonexistent",
        },
    )

    outputs = [
        subprocess.run(
            [sys.executable, "-c", RENDER],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **world},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for world in worlds
    ]

    assert len(outputs[0].split()) == 2
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_name_of_another_script_is_in_the_text_and_on_the_page(script, tmp_path):
    family, given = SCRIPTS[script]
    name = {"family": family, "given": [given]} if given else {"family": family}
    written = pdf.render(laid_out(empty_observations(), name, images=0))
    blank = pdf.render(laid_out(empty_observations(), {"family": "."}, images=0))

    text = text_of(written, tmp_path)
    page, without = (pages_of(file, tmp_path)[0] for file in (written, blank))

    assert family in text
    assert given in text
    assert (page != without).any(axis=2).sum() > 20
    assert "[U+" not in text
    assert any(family in word for word in words_of(docx.render(laid_out(None, name))))


def test_glyphs_of_other_scripts_are_not_one_and_the_same_box(tmp_path):
    pictures = set()
    for family in ("山", "川", "한", "글", "あ"):
        page = pages_of(
            pdf.render(laid_out(empty_observations(), {"family": family}, images=0)), tmp_path
        )
        pictures.add(hashlib.sha256(page[0].tobytes()).hexdigest())

    assert len(pictures) == 5


def test_a_character_without_a_glyph_is_printed_as_its_code_point(tmp_path):
    assert "[U+16A0]" in text_of(pdf.render(laid_out(None, {"family": "ᚠ"})), tmp_path)


def test_arabic_letters_are_joined_and_run_from_right_to_left():
    assert scripts.joined("ب") == "ب"[0].replace("ب", "\ufe8f")
    assert scripts.joined("ببب") == "\ufe91\ufe92\ufe90"
    assert "\ufe90\ufe92\ufe91" in scripts.markup("ببب")


def test_hebrew_words_keep_their_order_among_latin_ones():
    assert ">בא<" in scripts.markup("x אב y")


def test_all_representations_of_a_name_are_shown(tmp_path):
    names = [
        {"family": f, "given": [g], "extension": [{"url": REPRESENTATION, "valueCode": code}]}
        for code, f, g in (("ABC", "Yamada", "Tarou"), ("IDE", "山田", "太郎"))
    ]

    assert "Yamada, Tarou / 山田 太郎" in text_of(pdf.render(laid_out(None, *names)), tmp_path)


def test_a_hostile_name_is_only_text(tmp_path):
    report = laid_out(None, {"family": HOSTILE})

    shown = " ".join(text_of(pdf.render(report), tmp_path).split())
    words = words_of(docx.render(report))

    assert "O<Brien & {{7*7}}" in shown
    assert "=cmd|" in shown
    assert HOSTILE in words
    assert not [w for w in words if "49" in w]


def test_control_and_direction_override_characters_do_not_reach_a_page():
    assert clean("A\x00B\u202ecod.exe\x1b[2J\n x") == "A Bcod.exe [2J x"


def test_the_banner_is_on_each_page_and_pages_are_numbered(tmp_path):
    many = [*lesion_observations(), *(_strange(n) for n in range(40))]

    pages = text_of(pdf.render(laid_out(many)), tmp_path).split("\f")[:-1]

    assert len(pages) >= 2
    for number, page in enumerate(pages, 1):
        assert BANNER in page.splitlines()[0]
        assert f"Page {number} of {len(pages)}" in page


def _strange(number):
    one = observation("WT", 1) | {"id": f"strange-{number}"}
    one["code"] = {"text": f"Unknown {number}"}
    return one


def test_both_files_carry_the_same_figures(tmp_path):
    report = laid_out()

    shown = text_of(pdf.render(report), tmp_path)
    words = words_of(docx.render(report))

    for row in report.rows:
        line = next(
            x for x in shown.splitlines() if x.strip().startswith(row.name) and "mL" not in x
        )
        assert line.split()[-len(row.cells) :] == list(row.cells)
        assert words[words.index(row.name) + 1 :][: len(row.cells)] == list(row.cells)
    for sentence in (*report.impression, *report.findings):
        assert sentence.text in words
        assert " ".join(sentence.text.split()) in " ".join(shown.split())
    assert (
        python_docx.Document(BytesIO(docx.render(report))).sections[0].header.paragraphs[0].text
        == BANNER
    )


def test_an_empty_result_reads_right(tmp_path):
    shown = text_of(pdf.render(laid_out(empty_observations())), tmp_path)

    assert "No lesion was found by the model." in shown
    assert "Overlay:" not in shown
    assert re.search(r"Whole tumour\s+0\.0\s+–\s+–\s+0\s+–", shown)


def test_the_pdf_names_itself_and_embeds_all_its_fonts(tmp_path):
    (tmp_path / "x.pdf").write_bytes(pdf.render(laid_out(None, {"family": "山田"})))

    def ask(tool):
        return subprocess.run(
            [tool, str(tmp_path / "x.pdf")], capture_output=True, text=True, check=True, timeout=60
        ).stdout

    fonts = ask("pdffonts").splitlines()[2:]
    about = ask("pdfinfo")

    assert fonts
    assert all(line.split()[-5] == "yes" for line in fonts)
    assert "MR brain: AI measurement report" in about
    assert "2026" in about
    assert b"/Lang (en)" in (tmp_path / "x.pdf").read_bytes()
    assert b"/Outlines" in (tmp_path / "x.pdf").read_bytes()


def test_the_packaged_template_is_what_its_script_builds():
    assert docx_template.PATH.read_bytes() == docx_template.build()


def test_a_docx_carries_no_clock_and_no_machine():
    package = zipfile.ZipFile(BytesIO(docx.render(laid_out())))

    assert {entry.date_time for entry in package.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert {entry.create_system for entry in package.infolist()} == {0}
    assert b"2026-04-11T06:31:07Z" in package.read("docProps/core.xml")
