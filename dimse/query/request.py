"""What a C-FIND of the Query/Retrieve service asks for (PS3.4 C.4.1 and C.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydicom.dataset import Dataset

from archive import Query, QueryError
from archive.match import LevelName, level_of
from archive.patients import (
    PATIENT_INSTANCES,
    PATIENT_NAMES,
    PATIENT_SERIES,
    PATIENT_STUDIES,
)
from archive.worklist_match import Key
from dimse.query.identifier import LEVEL, TIMEZONE, BadIdentifier, conditions, read_keys

PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"
PATIENT_STUDY_ONLY = "1.2.840.10008.5.1.4.1.2.3.1"
MODELS: Mapping[str, tuple[str, ...]] = {
    PATIENT_ROOT: ("PATIENT", "STUDY", "SERIES", "IMAGE"),
    STUDY_ROOT: ("STUDY", "SERIES", "IMAGE"),
    PATIENT_STUDY_ONLY: ("PATIENT", "STUDY"),
}
UNIQUE = {"PATIENT": "00100020", "STUDY": "0020000D", "SERIES": "0020000E", "IMAGE": "00080018"}

Row = Literal["patient", "study", "series", "instance"]
_ROWS: dict[str, Row] = {
    "PATIENT": "patient",
    "STUDY": "study",
    "SERIES": "series",
    "IMAGE": "instance",
}
_ORDER: tuple[LevelName, ...] = ("study", "series", "instance")
# Said about the answer itself, not about what is stored.
_ABOUT_ANSWER = frozenset({LEVEL, "00080054", "00080056"})
_PATIENT_ANSWERS = frozenset({*PATIENT_NAMES, PATIENT_STUDIES, PATIENT_SERIES, PATIENT_INSTANCES})
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")


@dataclass(frozen=True, slots=True)
class Extended:
    """What was negotiated beyond the baseline (PS3.4 C.5.1.1), in the order of its bytes."""

    relational: bool = False
    combined: bool = False
    fuzzy: bool = False
    timezone: bool = False

    @classmethod
    def of(cls, information: bytes | None) -> Extended:
        """From the service class application information that the peer proposed."""
        return cls(*(byte == 1 for byte in (information or b"")[:4]))


def supported(information: bytes) -> bytes:
    """The answer to it: yes to what we do, no to views of enhanced images and to what is new."""
    return bytes(1 if number < 4 and byte == 1 else 0 for number, byte in enumerate(information))


@dataclass(frozen=True, slots=True)
class Request:
    """One question, checked.

    Attributes:
        keys: What the answers hold, as asked for.
        unsupported: Some key is not kept at this level; its value comes empty.
    """

    level: str
    row: Row
    keys: tuple[Key, ...]
    query: Query
    unsupported: bool


def read_request(
    model: str,
    identifier: Dataset,
    extended: Extended,
    studies: frozenset[str] | None,
    extra: Mapping[str, LevelName] | None = None,
) -> Request:
    """Check an identifier and turn it into a question to the archive.

    Args:
        model: SOP class of the information model.
        identifier: The request's.
        extended: What was negotiated.
        studies: The only ones that the asker may see; None: all.
        extra: Level of each extended query tag that can be matched.

    Raises:
        BadIdentifier: it does not fit to the model, or a value is wrong.
    """
    keys = read_keys(identifier)
    level = _level(MODELS[model], keys)
    if not extended.relational:
        _demand_upper_keys(MODELS[model], level, keys)
    wanted = tuple(key for key in keys if key.tag not in _ABOUT_ANSWER)
    more = (extra or {}) if level != "PATIENT" else {}
    matching = [
        one
        for one in conditions(wanted)
        if one[0] != TIMEZONE and _level_of(level, one[0], more) is not None
    ]
    try:
        query = Query.of(
            matching,
            include=[key.tag for key in wanted if int(key.tag[:4], 16) % 2 == 0],
            limit=None,
            fuzzy=extended.fuzzy,
            studies=studies,
            combined=extended.combined,
            timezone=_timezone(keys) if extended.timezone else None,
        )
    except QueryError as error:
        raise BadIdentifier(str(error)) from None
    missing = not all(_is_returned(level, key.tag, more) for key in wanted)
    return Request(level, _ROWS[level], wanted, query, missing)


def _level(levels: tuple[str, ...], keys: tuple[Key, ...]) -> str:
    found = next((key.value for key in keys if key.tag == LEVEL), "")
    if found not in levels:
        problem = "is missing" if not found else "is not one of this information model"
        raise BadIdentifier(f"Query/Retrieve Level {problem}", int(LEVEL, 16))
    return found


def _demand_upper_keys(levels: tuple[str, ...], level: str, keys: tuple[Key, ...]) -> None:
    """Baseline queries name the one entity of each level above (PS3.4 C.4.1.2.1)."""
    values = {key.tag: key.value for key in keys}
    for upper in levels[: levels.index(level)]:
        value = values.get(UNIQUE[upper], "")
        if not value or "*" in value or (upper != "PATIENT" and "?" in value):
            raise BadIdentifier(
                f"the unique key of the {upper} level is needed", int(UNIQUE[upper], 16)
            )


def _level_of(level: str, path: str, extra: Mapping[str, LevelName]) -> LevelName | None:
    """The level of the archive at which an attribute is kept; None: it is not."""
    if path[:8] in extra:
        return extra[path[:8]]
    row = _ROWS[level]
    try:
        return level_of("study" if row == "patient" else row, path)
    except QueryError:
        return None


def _is_returned(level: str, tag: str, extra: Mapping[str, LevelName]) -> bool:
    """Whether an answer at this level can hold the attribute."""
    row = _ROWS[level]
    if row == "patient":
        return tag in _PATIENT_ANSWERS
    kept = _level_of(level, tag, extra)
    return kept is not None and _ORDER.index(kept) <= _ORDER.index(row)


def _timezone(keys: tuple[Key, ...]) -> str | None:
    value = next((key.value for key in keys if key.tag == TIMEZONE), "")
    if value and not _OFFSET.fullmatch(value):
        raise BadIdentifier("Timezone Offset From UTC must be &ZZXX", int(TIMEZONE, 16))
    return value or None
