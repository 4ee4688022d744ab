"""Which attributes a search can match and return at each level."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.datadict import keyword_for_tag

from archive import Archive, QueryTag
from archive.attributes import INSTANCE_NAMES, SERIES_NAMES, STUDY_NAMES
from archive.match import LEVELS, LevelName

_LEVELS: dict[LevelName, frozenset[str]] = {
    "study": STUDY_NAMES,
    "series": STUDY_NAMES | SERIES_NAMES,
    "instance": STUDY_NAMES | SERIES_NAMES | INSTANCE_NAMES,
}


def kept_at(level: LevelName, path: str, tags: Iterable[QueryTag] = ()) -> bool:
    """Whether an answer at this level can hold the attribute that the path begins with."""
    above = LEVELS[: LEVELS.index(level) + 1]
    extended = {one.tag for one in tags if one.level in above}
    return path[:8] in _LEVELS[level] or path[:8] in extended


def described(archive: Archive, level: LevelName) -> list[str]:
    """Keywords of what can be matched at this level, of every level above and below it."""
    names = _LEVELS[level] | SERIES_NAMES | INSTANCE_NAMES
    names |= {one.tag for one in archive.query_tags.list()}
    return sorted(keyword_for_tag(int(name, 16)) or name for name in names)
