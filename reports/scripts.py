"""Which embedded font draws a character, and in which order right-to-left letters stand.

Coverage: reports/fonts/README.md. ReportLab lays out one character after another, so Arabic
letters get their joined forms here and right-to-left runs are turned round.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache
from html import escape
from itertools import groupby
from pathlib import Path

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

FOLDER = Path(__file__).with_name("fonts")
REGULAR, BOLD, ITALIC = "NotoSans-Regular", "NotoSans-Bold", "NotoSans-Italic"
FALLBACKS = (
    "DroidSansFallbackFull",
    "NanumGothicCoding",
    "NotoSansHebrew-Regular",
    "NotoSansArabic-Regular",
    "NotoSansThai-Regular",
)
_RIGHT_TO_LEFT = frozenset({"R", "AL"})
_NEUTRAL = frozenset({"WS", "ON", "NSM", "CS"})


@cache
def font(name: str) -> TTFont:
    """A registered font; read from its file when first asked for."""
    loaded = TTFont(name, str(FOLDER / f"{name}.ttf"))
    pdfmetrics.registerFont(loaded)
    return loaded


def register() -> None:
    """Register the main family, so that <b> and <i> work in paragraphs."""
    for name in (REGULAR, BOLD, ITALIC):
        font(name)
    pdfmetrics.registerFontFamily(REGULAR, REGULAR, BOLD, ITALIC, BOLD)


def markup(text: str) -> str:
    """A plain text as Paragraph markup: escaped, each stretch in a font that has its glyphs."""
    pieces = []
    for name, run in groupby(_visual(text), key=_font_for):
        written = "".join(run)
        if name is None:
            pieces.append("".join(f"[U+{ord(c):04X}]" for c in written))
        elif name == REGULAR:
            pieces.append(escape(written))
        else:
            font(name)
            pieces.append(f'<font name="{name}">{escape(written)}</font>')
    return "".join(pieces)


@cache
def _font_for(character: str) -> str | None:
    """The first font with a glyph; None where none has one."""
    for name in (REGULAR, *FALLBACKS):
        if ord(character) in font(name).face.charToGlyph:
            return name
    return None


def _visual(text: str) -> str:
    """Logical to visual order, for texts that run left to right with right-to-left names."""
    if not any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in text):
        return text
    return "".join(_turned(run) if turn else run for turn, run in _directions(joined(text)))


def _directions(text: str) -> Iterator[tuple[bool, str]]:
    """Runs of one direction; spaces between two right-to-left words belong to them."""
    run, pending, turning = "", "", False
    for character in text:
        kind = unicodedata.bidirectional(character)
        if kind in _RIGHT_TO_LEFT:
            if turning:
                run += pending
            else:
                yield False, run + pending
                run = ""
            run, pending, turning = run + character, "", True
        elif turning and kind in _NEUTRAL:
            pending += character
        else:
            if turning:
                yield True, run
                run = ""
            run, pending, turning = run + pending + character, "", False
    yield turning, run
    yield False, pending


def _turned(run: str) -> str:
    """Reversed, each combining mark still after its letter."""
    clusters: list[str] = []
    for character in run:
        if clusters and unicodedata.combining(character):
            clusters[-1] += character
        else:
            clusters.append(character)
    return "".join(reversed(clusters))


@cache
def _forms() -> dict[str, dict[str, str]]:
    """Presentation forms of each Arabic letter, by `initial`, `medial`, `final`, `isolated`."""
    forms: dict[str, dict[str, str]] = {}
    for point in (*range(0xFB50, 0xFC00), *range(0xFE80, 0xFEF5)):
        parts = unicodedata.decomposition(chr(point)).split()
        if len(parts) == 2 and parts[0].startswith("<"):
            forms.setdefault(chr(int(parts[1], 16)), {})[parts[0][1:-1]] = chr(point)
    return forms


def joined(text: str) -> str:
    """Arabic letters in their joined forms, still in logical order."""
    forms, letters = _forms(), list(text)
    for index, letter in enumerate(text):
        own = forms.get(letter)
        if not own:
            continue
        before = _neighbour(text, index, -1)
        after = _neighbour(text, index, 1)
        left = "initial" in own and "final" in forms.get(after, {})
        right = "final" in own and "initial" in forms.get(before, {})
        shape = {(True, True): "medial", (True, False): "initial", (False, True): "final"}
        letters[index] = own.get(shape.get((left, right), "isolated"), letter)
    return "".join(letters)


def _neighbour(text: str, index: int, step: int) -> str:
    """The next letter in a direction, vowel marks passed over; empty at the edge."""
    index += step
    while 0 <= index < len(text) and unicodedata.combining(text[index]):
        index += step
    return text[index] if 0 <= index < len(text) else ""
