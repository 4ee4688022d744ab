"""Conditions on, and values of, extended query tags, as pieces of SQL."""

# The texts of SQL are made of this package's own pieces and of checked tags; every value travels
# as a parameter.
# ruff: noqa: S608

from __future__ import annotations

from archive.keys import QueryTag
from archive.match import LEVELS, LevelName, items_condition
from archive.names import GROUPS
from archive.values import NUMERIC, Condition, name_condition, number, value_test

_COLUMNS = {
    "study": ("study_uid",),
    "series": ("study_uid", "series_uid"),
    "instance": ("sop_uid",),
}


def extended_condition(level: LevelName, tag: QueryTag, rest: str, value: str) -> Condition:
    """Whether a row of `level` has, or has below it, an instance whose value matches."""
    values = f"x.document -> '{tag.tag}' -> 'Value'"
    source = f"select 1 from archive.query_tag_value x where {_link(level, level, tag)}"
    if value == '""' and not rest:
        return Condition(f"not exists ({source} and coalesce(jsonb_array_length({values}), 0) > 0)")
    if set(value) == {"*"}:
        return Condition("true")
    test = _test(tag, values, rest, value)
    return Condition(f"exists ({source} and {test.sql})", test.parameters)


def _test(tag: QueryTag, values: str, rest: str, value: str) -> Condition:
    if rest:
        return items_condition("x.document", tag.tag, [(rest, value)])
    if tag.vr in NUMERIC:
        return Condition(f"{values} @> %s::jsonb", (f"[{number(value)}]",))
    if tag.vr == "PN":
        groups = [f"archive.fold(coalesce(n ->> '{group}', ''))" for group in GROUPS]
        test = name_condition((groups[0], groups[1], groups[2]), value, False)
        source = f"jsonb_array_elements({values}) n"
    else:
        test = value_test(tag.vr, value)
        source = f"jsonb_array_elements_text({values}) v"
    return Condition(f"exists (select 1 from {source} where {test.sql})", test.parameters)


def extended_values(level: LevelName, tags: tuple[QueryTag, ...]) -> str:
    """What is put behind a document of `level` so that it holds the tags of its level and above."""
    kept = [tag for tag in tags if LEVELS.index(tag.level) <= LEVELS.index(level)]
    return "".join(
        " || coalesce((select x.document from archive.query_tag_value x"
        f" where {_link(level, tag.level, tag)} limit 1), '{{}}'::jsonb)"
        for tag in kept
    )


def _link(level: LevelName, scope: LevelName, tag: QueryTag) -> str:
    columns = _COLUMNS[scope if LEVELS.index(scope) <= LEVELS.index(level) else level]
    same = [f"x.{column} = {level}.{column}" for column in columns]
    return " and ".join([f"x.tag = '{tag.tag}'", *same])
