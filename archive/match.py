"""Matching keys as SQL conditions (PS3.4 C.2.2.2, PS3.18 section 8.3.4)."""

# The texts of SQL are made of this package's own pieces and of checked tags; every value travels
# as a parameter.
# ruff: noqa: S608

from __future__ import annotations

import re
from typing import Literal

from archive import attributes as known
from archive.attributes import INSTANCE_NAMES, SERIES_NAMES, STUDY_NAMES, json_name
from archive.dictionary import dictionary_vr
from archive.errors import QueryError
from archive.moments import pair_condition, study_condition, take_moments
from archive.names import GROUPS
from archive.query import Query
from archive.ranges import date_range
from archive.values import (
    NUMERIC,
    Condition,
    joined,
    like,
    name_condition,
    narrowed_by_trigrams,
    number,
    range_test,
    searched_part,
    text_test,
    uid_list,
    value_test,
)

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

# The character set and the zone of the question are not matched.
_IGNORED = frozenset({"00080005", "00080201"})


def conditions(level: LevelName, query: Query) -> list[Condition]:
    """Conditions on the rows of `level` (alias = its name); keys of upper levels are joined.

    Raises:
        QueryError: an attribute that is not kept, or a value that its VR does not allow.
    """
    asked = take_moments(query.match, query.combined, query.timezone)
    found = [_linked(level, *_pair(level, pair)) for pair in asked.pairs]
    if asked.study is not None:
        found.append(study_condition(*asked.study, asked.zone))
    plain, sequences = _sorted_keys(asked.rest)
    found += [_condition(level, path, value, query.fuzzy) for path, value in plain]
    for name, keys in sequences.items():
        where = level_of(level, name)
        found.append(_linked(level, where, items_condition(f"{where}.attributes", name, keys)))
    return found


def _pair(level: LevelName, pair: tuple[str, str, str]) -> tuple[LevelName, Condition]:
    where = level_of(level, pair[0])
    return where, pair_condition(where, pair)


def _sorted_keys(
    keys: tuple[tuple[str, str], ...],
) -> tuple[list[tuple[str, str]], dict[str, list[tuple[str, str]]]]:
    """Keys that say something: those outside of sequences, and those inside by sequence."""
    plain: list[tuple[str, str]] = []
    sequences: dict[str, list[tuple[str, str]]] = {}
    for path, value in keys:
        if not _PATH.fullmatch(path) or "\0" in value:
            raise QueryError("a key is no attribute, or its value holds a NUL")
        if path in _IGNORED or value == "" or set(value) == {"*"}:
            continue
        name, _, rest = path.partition(".")
        if rest:
            sequences.setdefault(name, []).append((rest, value))
        else:
            plain.append((path, value))
    return plain, sequences


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
    return _linked(level, where, _at_level(where, path, value, fuzzy))


def _linked(level: LevelName, where: LevelName, condition: Condition) -> Condition:
    """A condition on a row of another level, as one on the rows of `level`."""
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
    vr = dictionary_vr(int(path, 16))
    column = _COLUMNS.get((level, path))
    if column is not None and value != '""':
        return _scalar(f"{level}.{column}", vr, value)
    if path == json_name(known.STUDY_DATE) and value != '""':
        return range_test("study.study_date", date_range(value))
    if path == json_name(known.PATIENT_NAME) and value != '""':
        return _patient_name(value, fuzzy)
    return _inside(f"{level}.attributes", path, value, (f"{level}.names", fuzzy))


def _scalar(column: str, vr: str, value: str) -> Condition:
    if vr == "UI":
        return Condition(f"{column} = any(%s)", (uid_list(value),))
    return text_test(column, value)


def _array(column: str, value: str) -> Condition:
    if value == '""':
        return Condition(f"cardinality({column}) = 0")
    if column.endswith("sop_classes"):
        return Condition(f"{column} && %s", (uid_list(value),))
    parts = [part.strip() for part in re.split(r"[\\,]", value) if part.strip()]
    if not any("*" in part or "?" in part for part in parts):
        return Condition(f"{column} && %s", (parts,))
    some = joined((text_test("v", part) for part in parts), " or ")
    return Condition(f"exists (select 1 from unnest({column}) v where {some.sql})", some.parameters)


def _patient_name(value: str, fuzzy: bool) -> Condition:
    columns = ("study.name_alphabetic", "study.name_ideographic", "study.name_phonetic")
    part = "" if fuzzy else searched_part(value)
    if part:
        # Said once: PostgreSQL would think that two conditions leave fewer names than one.
        return Condition("study.name_all like %s", (f"%{like(part)}%",))
    narrowed = narrowed_by_trigrams("study.name_all", value, fuzzy)
    return joined([*narrowed, name_condition(columns, value, fuzzy)], " and ")


def document_condition(
    container: str, folded: str, keys: tuple[tuple[str, str], ...], fuzzy: bool
) -> Condition:
    """A condition on any attributes of a DICOM JSON column; without keys everything meets it.

    Args:
        container: SQL of the column with the DICOM JSON object.
        folded: SQL of the column with its folded person names (`archive.header.folded_names`).
        keys: dotted tag paths and the values to match.
        fuzzy: each word of a person name matches the beginning of a component.

    Raises:
        QueryError: no attribute, or a value that its VR does not allow.
    """
    plain, sequences = _sorted_keys(keys)
    tests = [_inside(container, path, value, (folded, fuzzy)) for path, value in plain]
    tests += [items_condition(container, name, inner) for name, inner in sequences.items()]
    return joined(tests, " and ") if tests else Condition("true")


def items_condition(container: str, name: str, keys: list[tuple[str, str]]) -> Condition:
    """Sequence matching (PS3.4 C.2.2.2.6): one and the same item meets all of its keys."""
    plain, sequences = _sorted_keys(tuple(keys))
    tests = [_inside("item", path, value, None) for path, value in plain]
    tests += [items_condition("item", inner, more) for inner, more in sequences.items()]
    if not tests:
        return Condition("true")
    all_of = joined(tests, " and ")
    items = f"jsonb_array_elements({container} -> '{name}' -> 'Value')"
    # One name for the items of every depth: the innermost is meant.
    return Condition(f"exists (select 1 from {items} item where {all_of.sql})", all_of.parameters)


def _inside(container: str, name: str, value: str, names: tuple[str, bool] | None) -> Condition:
    """A condition on an attribute of a DICOM JSON object, not inside a sequence of it."""
    vr = dictionary_vr(int(name, 16))
    values = f"{container} -> '{name}' -> 'Value'"
    if value == '""':
        return Condition(f"coalesce(jsonb_array_length({values}), 0) = 0")
    if vr == "PN":
        return _name_inside(container, name, value, names)
    if vr in NUMERIC:
        return Condition(f"{values} @> %s::jsonb", (f"[{number(value)}]",))
    test = value_test(vr, value)
    return Condition(
        f"exists (select 1 from jsonb_array_elements_text({values}) v where {test.sql})",
        test.parameters,
    )


def _name_inside(
    container: str, name: str, value: str, names: tuple[str, bool] | None
) -> Condition:
    if names is not None:
        folded, fuzzy = names
        test = name_condition(("n ->> 0", "n ->> 1", "n ->> 2"), value, fuzzy)
        source = f"jsonb_array_elements({folded} -> '{name}') n"
    else:
        groups = tuple(f"archive.fold(coalesce(n ->> '{group}', ''))" for group in GROUPS)
        test = name_condition((groups[0], groups[1], groups[2]), value, False)
        source = f"jsonb_array_elements({container} -> '{name}' -> 'Value') n"
    return Condition(f"exists (select 1 from {source} where {test.sql})", test.parameters)
