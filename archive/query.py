"""A QIDO-RS / C-FIND question in the archive's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydicom.datadict import tag_for_keyword

from archive.errors import QueryError
from archive.keys import QueryTag

_TAG = re.compile(r"[0-9A-Fa-f]{8}")


def attribute_path(name: str) -> str:
    """`PatientName`, `00100010` or `RequestAttributesSequence.00400009` as dotted upper-case tags.

    Raises:
        QueryError: a part is neither a tag nor a keyword of the dictionary.
    """
    parts = []
    for part in name.split("."):
        if _TAG.fullmatch(part):
            parts.append(part.upper())
            continue
        tag = tag_for_keyword(part)
        if tag is None:
            raise QueryError(f"unknown attribute {part[:64]!a}")
        parts.append(f"{tag:08X}")
    return ".".join(parts)


@dataclass(frozen=True, slots=True)
class Query:
    """Matching keys and paging of one query.

    Attributes:
        match: (dotted tag path, value as in QIDO-RS or a C-FIND identifier). "" is universal.
        include: Dotted tag paths asked for in addition ("all" is accepted and adds nothing).
        limit: Most items in the page; None for all.
        fuzzy: Each word of a person name matches the beginning of any name component.
        studies: Restricts the answer to these studies (None: every study).
        combined: A date and its time, where both are asked for, are one range of moments
            (PS3.4 C.2.2.2.5).
        timezone: UTC offset (`+HHMM`) of the dates and times asked for, where the match names no
            TimezoneOffsetFromUTC itself. Studies that tell theirs are compared in UTC.
        count: Also count every match, which costs a second look at the index.
        extended: Keys of extended query tags (tag, path inside it, value); the archive sets it.
        extended_include: Extended tags to be returned; the archive sets it.
    """

    match: tuple[tuple[str, str], ...] = ()
    include: tuple[str, ...] = ()
    limit: int | None = 100
    offset: int = 0
    fuzzy: bool = False
    studies: frozenset[str] | None = None
    count: bool = False
    combined: bool = False
    timezone: str | None = None
    extended: tuple[tuple[QueryTag, str, str], ...] = ()
    extended_include: tuple[QueryTag, ...] = ()

    @classmethod
    def of(
        cls,
        match: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        *,
        include: Iterable[str] = (),
        limit: int | None = 100,
        offset: int = 0,
        fuzzy: bool = False,
        studies: frozenset[str] | None = None,
        count: bool = False,
        combined: bool = False,
        timezone: str | None = None,
    ) -> Query:
        """A query from keywords or tags; raises QueryError for an attribute nobody knows."""
        pairs = match.items() if isinstance(match, Mapping) else match
        return cls(
            match=tuple((attribute_path(name), value) for name, value in pairs),
            include=tuple(n if n == "all" else attribute_path(n) for n in include),
            limit=limit,
            offset=offset,
            fuzzy=fuzzy,
            studies=studies,
            count=count,
            combined=combined,
            timezone=timezone,
        )
