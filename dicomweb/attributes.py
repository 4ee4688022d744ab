"""Which attributes a search can match and return at each level."""

from __future__ import annotations

from pydicom.datadict import keyword_for_tag

from archive.attributes import INSTANCE_NAMES, SERIES_NAMES, STUDY_NAMES

_LEVELS = {
    "study": STUDY_NAMES,
    "series": STUDY_NAMES | SERIES_NAMES,
    "instance": STUDY_NAMES | SERIES_NAMES | INSTANCE_NAMES,
}


def kept_at(level: str, path: str) -> bool:
    """Whether an answer at this level can hold the attribute that the path begins with."""
    return path[:8] in _LEVELS[level]


def described(level: str) -> list[str]:
    """Keywords of what can be matched at this level, of every level above and below it."""
    names = _LEVELS[level] | SERIES_NAMES | INSTANCE_NAMES
    return sorted(keyword_for_tag(int(name, 16)) or name for name in names)
