"""Person names, folded so that case, accents and width do not matter when they are compared."""

from __future__ import annotations

import re
import unicodedata

GROUPS = ("Alphabetic", "Ideographic", "Phonetic")

# Letters that Unicode does not decompose.
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d",
                          "ı": "i", "ħ": "h"})  # fmt: skip
# Only the accents of Latin, Greek and Cyrillic: Japanese voicing marks change the word.
_ACCENTS = re.compile("[\u0300-\u036f]")


def fold(text: str) -> str:
    """Lower case without accents: `Müller` and `MULLER` become `muller`."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text)).casefold()
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", plain)).translate(_LETTERS)
    return unicodedata.normalize("NFC", plain)


def fold_group(group: str) -> str:
    """One component group, folded, without the empty components at its end."""
    return fold(group).strip(" ").rstrip("^ ")


def folded_groups(name: dict[str, str]) -> list[str]:
    """The three groups of a DICOM JSON person name, folded; a missing one is empty."""
    return [fold_group(name.get(group, "")) for group in GROUPS]
