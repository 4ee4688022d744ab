"""Matching keys as SQL conditions (PS3.4 C.2.2.2, PS3.18 section 8.3.4)."""

# The texts of SQL are made of this package's own pieces and of checked tags; every value travels
# as a parameter.
# ruff: noqa: S608

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from archive import attributes as known
from archive.attributes import INSTANCE_NAMES, SERIES_NAMES, STUDY_NAMES, json_name
from archive.dictionary import dictionary_vr
from archive.errors import QueryError
from archive.names import fold, fold_group
from archive.ranges import Range, date_range, datetime_range, time_range

_PATH = re.compile(r"[0-9A-F]{8}(\.[0-9A-F]{8}){0,8}")
LevelName = Literal["study", "series", "instance"]
LEVELS: tuple[LevelName, ...] = ("study", "series", "instance")
_NAMES = {"study": STUDY_NAMES, "series": SERIES_NAMES, "instance": INSTANCE_NAMES}
# Keys that stand at several levels: the row's own column is meant.
_COLUMNS = {
    (level, json_name(tag)): column
    for tag, column, levels in (
        (known.STUDY_UID, "study_uid", LEVELS),
        (known.SERIES_UID, "series_uid", ("series", "instance")),
        (known.SOP_UID, "sop_uid", ("instance",)),
        (known.SOP_CLASS, "sop_class", ("instance",)),
        (known.PATIENT_ID, "patient_id", ("study",)),
        (known.ACCESSION, "accession", ("study",)),
        (known.MODALITY, "modality", ("series",)),
    )
    for level in levels
}
_ARRAYS = {
    json_name(known.MODALITIES_IN_STUDY): "modalities",
    json_name(known.SOP_CLASSES_IN_STUDY): "sop_classes",
}
_NUMERIC = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "FL", "FD", "SV", "UV"})
_TEXT = frozenset({"AE", "AS", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "AT"})
_RANGES: dict[str, Callable[[str], Range]] = {
    "DA": date_range,
    "TM": time_range,
    "DT": datetime_range,
}
# How a stored value is brought into the form that the bounds of a range have.
_COMPARABLE = {
    "DA": "replace(v, '.', '')",
    "TM": "rpad(rpad(split_part(replace(v, ':', ''), '.', 1), 6, '0')"
    " || split_part(v, '.', 2), 12, '0')",
    "DT": "rpad(rpad(split_part(regexp_replace(v, '[+-][0-9]{4}$', ''), '.', 1), 14, '0')"
    " || split_part(regexp_replace(v, '[+-][0-9]{4}$', ''), '.', 2), 20, '0')",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A piece of a WHERE clause and its parameters."""

    sql: str
    parameters: tuple[Any, ...] = ()


def conditions(level: LevelName, keys: tuple[tuple[str, str], ...], fuzzy: bool) -> list[Condition]:
    """Conditions on the rows of `level` (alias = its name); keys of upper levels are joined.

    Raises:
        QueryError: an attribute that is not kept, or a value that its VR does not allow.
    """
    found = []
    for path, value in keys:
        if not _PATH.fullmatch(path) or "\0" in value:
            raise QueryError("a key is no attribute, or its value holds a NUL")
        if path in ("00080005", "00080201") or value == "" or set(value) == {"*"}:
            continue
        found.append(_condition(level, path, value, fuzzy))
    return found


def level_of(level: LevelName, path: str) -> LevelName:
    """The level at which the attribute is kept, as near to `level` as possible."""
    name = path.split(".")[0]
    if (level, name) in _COLUMNS:
        return level
    for candidate in LEVELS:
        if name in _NAMES[candidate]:
            return candidate
    raise QueryError(f"{name} is not kept for queries")


def _condition(level: LevelName, path: str, value: str, fuzzy: bool) -> Condition:
    if path == json_name(known.MODALITY) and level == "study":
        path = json_name(known.MODALITIES_IN_STUDY)
    where = level_of(level, path)
    condition = _at_level(where, path, value, fuzzy)
    if LEVELS.index(where) <= LEVELS.index(level):
        return condition
    # A key of a lower level: some row below must match.
    columns = ("study_uid",) if level == "study" else ("study_uid", "series_uid")
    link = " and ".join(f"{where}.{column} = {level}.{column}" for column in columns)
    return Condition(
        f"exists (select 1 from archive.{where} where {link} and {condition.sql})",
        condition.parameters,
    )


def _at_level(level: LevelName, path: str, value: str, fuzzy: bool) -> Condition:
    if path in _ARRAYS:
        return _array(f"{level}.{_ARRAYS[path]}", value)
    vr = dictionary_vr(int(path.rsplit(".", maxsplit=1)[-1], 16))
    column = _COLUMNS.get((level, path))
    if column is not None and value != '""':
        return _scalar(f"{level}.{column}", vr, value)
    if path == json_name(known.STUDY_DATE) and value != '""':
        return _indexed_range("study.study_date", date_range(value))
    if path == json_name(known.PATIENT_NAME) and value != '""':
        return _patient_name(value, fuzzy)
    return _inside(f"{level}.attributes", path, vr, value, (f"{level}.names", fuzzy))


def _scalar(column: str, vr: str, value: str) -> Condition:
    if vr == "UI":
        return Condition(f"{column} = any(%s)", (uid_list(value),))
    return _text(column, value)


def uid_list(value: str) -> list[str]:
    """UIDs of a list separated by backslash (PS3.4) or comma (PS3.18)."""
    uids = [uid.strip() for uid in re.split(r"[\\,]", value) if uid.strip()]
    if not all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in uids):
        raise QueryError("a UID holds something else than digits and dots")
    return uids


def _array(column: str, value: str) -> Condition:
    if value == '""':
        return Condition(f"cardinality({column}) = 0")
    if column.endswith("sop_classes"):
        return Condition(f"{column} && %s", (uid_list(value),))
    parts = [part.strip() for part in re.split(r"[\\,]", value) if part.strip()]
    tests = [_text("v", part) for part in parts]
    return Condition(
        f"exists (select 1 from unnest({column}) v where "
        + " or ".join(t.sql for t in tests)
        + ")",
        tuple(p for t in tests for p in t.parameters),
    )


def _indexed_range(column: str, bounds: Range) -> Condition:
    tests, parameters = [f"{column} <> ''"], []
    if bounds.low is not None:
        tests.append(f"{column} >= %s")
        parameters.append(bounds.low)
    if bounds.high is not None:
        tests.append(f"{column} <= %s")
        parameters.append(bounds.high)
    return Condition("(" + " and ".join(tests) + ")", tuple(parameters))


def _patient_name(value: str, fuzzy: bool) -> Condition:
    columns = ("study.name_alphabetic", "study.name_ideographic", "study.name_phonetic")
    return name_condition(columns, value, fuzzy)


def name_condition(columns: tuple[str, str, str], value: str, fuzzy: bool) -> Condition:
    """A person name: each group given must match its own; one alone may match any of the three."""
    if fuzzy:
        return _fuzzy_name(columns, value)
    groups = [fold_group(group) for group in value.split("=")[:3]]
    if len(groups) == 1 and groups[0].strip("*"):
        tests = [_text(column, groups[0]) for column in columns]
        joined = " or ".join(test.sql for test in tests)
    else:
        pairs = zip(columns, groups, strict=False)
        tests = [_text(column, group) for column, group in pairs if group.strip("*")]
        joined = " and ".join(test.sql for test in tests) or "true"
    return Condition(f"({joined})", tuple(p for test in tests for p in test.parameters))


def _fuzzy_name(columns: tuple[str, str, str], value: str) -> Condition:
    """Every word begins some component of the name, in any order and any group."""
    words = [word for word in re.split(r"[\s^=*?,]+", fold(value)) if word]
    whole = f"concat_ws('^', {', '.join(columns)})"
    tests = " and ".join([f"{whole} ~ %s"] * len(words)) or "true"
    return Condition(f"({tests})", tuple(r"(^|[\^ ,-])" + _quoted(word) for word in words))


def _quoted(word: str) -> str:
    return re.sub(r"([^\w])", r"\\\1", word)


def _text(column: str, value: str) -> Condition:
    if "*" in value or "?" in value:
        return Condition(f"{column} like %s", (like(value),))
    return Condition(f"{column} = %s", (value,))


def like(value: str) -> str:
    """The LIKE pattern of a DICOM wildcard: * is any text, ? is one character."""
    escaped = re.sub(r"([\\%_])", r"\\\1", value)
    return escaped.replace("*", "%").replace("?", "_")


def attribute_condition(
    container: str, folded: str, key: tuple[str, str], fuzzy: bool
) -> Condition:
    """A condition on any attribute of a DICOM JSON column.

    Args:
        container: SQL of the column with the DICOM JSON object.
        folded: SQL of the column with its folded person names (`archive.header.folded_names`).
        key: dotted tag path and the value to match.
        fuzzy: each word of a person name matches the beginning of a component.

    Raises:
        QueryError: no attribute, or a value that its VR does not allow.
    """
    path, value = key
    if not _PATH.fullmatch(path) or "\0" in value:
        raise QueryError("a key is no attribute, or its value holds a NUL")
    vr = dictionary_vr(int(path.rsplit(".", maxsplit=1)[-1], 16))
    return _inside(container, path, vr, value, (folded, fuzzy))


def _inside(
    container: str, path: str, vr: str, value: str, names: tuple[str, bool] | None
) -> Condition:
    """A condition on an attribute of a DICOM JSON object; `path` may lead through sequences."""
    name, _, rest = path.partition(".")
    values = f"{container} -> '{name}' -> 'Value'"
    if rest:
        inner = _inside("item", rest, vr, value, None)
        return Condition(
            f"exists (select 1 from jsonb_array_elements({values}) item where {inner.sql})",
            inner.parameters,
        )
    if value == '""':
        return Condition(f"coalesce(jsonb_array_length({values}), 0) = 0")
    if vr == "PN":
        return _name_inside(name, value, names)
    if vr in _NUMERIC:
        return Condition(f"{values} @> %s::jsonb", (f"[{_number(value)}]",))
    test = _value_test(vr, value)
    return Condition(
        f"exists (select 1 from jsonb_array_elements_text({values}) v where {test.sql})",
        test.parameters,
    )


def _name_inside(name: str, value: str, names: tuple[str, bool] | None) -> Condition:
    if names is None:
        raise QueryError("a person name inside a sequence cannot be matched")
    folded, fuzzy = names
    test = name_condition(("n ->> 0", "n ->> 1", "n ->> 2"), value, fuzzy)
    return Condition(
        f"exists (select 1 from jsonb_array_elements({folded} -> '{name}') n where {test.sql})",
        test.parameters,
    )


def _value_test(vr: str, value: str) -> Condition:
    if vr == "UI":
        return Condition("v = any(%s)", (uid_list(value),))
    if vr in _RANGES:
        return _indexed_range(_COMPARABLE[vr], _RANGES[vr](value))
    if vr in _TEXT:
        return _text("v", value)
    raise QueryError(f"an attribute of VR {vr} cannot be matched")


def _number(value: str) -> str:
    if not re.fullmatch(r"[+-]?\d{1,18}(\.\d{1,18})?", value.strip()):
        raise QueryError("the value is not a number")
    return format(Decimal(value.strip()), "f")
