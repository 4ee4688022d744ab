"""DICOM person names (PN) as FHIR HumanNames, in all three writings.

Source: PS3.5 section 6.2.1, FHIR extension iso21090-EN-representation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fhir_gateway.dicom_values import DicomJson, clean, values

REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
GROUPS = {"Alphabetic": "ABC", "Ideographic": "IDE", "Phonetic": "SYL"}
GROUP_LENGTH = 64  # characters of one component group
_GROUP_OF = {writing: group for group, writing in GROUPS.items()}
_DELIMITERS = str.maketrans("^=\\", "   ")
_PARTS = ("family", "given", "middle", "prefix", "suffix")


def human_names(data: DicomJson, tag: str) -> list[dict[str, Any]]:
    """Each component group of the first PN value as its own HumanName.

    The alphabetic group carries the representation extension only beside another group, so that
    an ordinary western name stays an ordinary name.
    """
    found = _groups(data, tag)
    names = []
    for group, parts in found.items():
        name = _human_name(parts)
        if len(found) > 1 or group != "Alphabetic":
            name["extension"] = [{"url": REPRESENTATION, "valueCode": GROUPS[group]}]
        names.append(name)
    return names


def display_name(value: Mapping[str, Any] | str) -> str | None:
    """One PN value as a line of text, the writing that is there first in GROUPS' order."""
    groups = {"Alphabetic": value} if isinstance(value, str) else value
    for group in GROUPS:
        parts = _split(groups.get(group, ""))
        line = " ".join(p for p in (*parts[3:4], *parts[1:3], parts[0], *parts[4:5]) if p)
        if line:
            return line
    return None


def display_names(data: DicomJson, *tags: str) -> list[str]:
    """Every person named by these PN attributes, without repetition."""
    lines = [display_name(value) for tag in tags for value in values(data, tag)]
    return list(dict.fromkeys(line for line in lines if line))


def unknown_name() -> dict[str, Any]:
    """The name of a patient that has none: US Core asks for one or for the reason."""
    return {"extension": [{"url": DATA_ABSENT, "valueCode": "unknown"}]}


def comparable(name: Mapping[str, Any]) -> str:
    """Family and given names without case, order of blanks or middle names."""
    given = name.get("given") or [""]
    return " ".join(f"{name.get('family', '')} {given[0]}".casefold().split())


def _groups(data: DicomJson, tag: str) -> dict[str, list[str]]:
    for value in values(data, tag):
        groups = {"Alphabetic": value} if isinstance(value, str) else value
        found = {group: _split(groups.get(group, "")) for group in GROUPS}
        return {group: parts for group, parts in found.items() if any(parts)}
    return {}


def _split(group: Any) -> list[str]:
    parts = [clean(part) for part in str(group or "").split("^")[:5]]
    return parts + [""] * (len(_PARTS) - len(parts))


def _human_name(parts: list[str]) -> dict[str, Any]:
    family, given, middle, prefix, suffix = parts
    name: dict[str, Any] = {}
    if family:
        name["family"] = family
    if given or middle:
        name["given"] = [part for part in (given, middle) if part]
    if prefix:
        name["prefix"] = [prefix]
    if suffix:
        name["suffix"] = [suffix]
    if not (family or given or middle):
        # US Core: a name has a family or a given part.
        name["family"] = prefix or suffix
    return name


def to_person_name(names: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """HumanNames as one DICOM PN: the name in use, in each writing that is there.

    A name without parts gives its text as the family name; nothing at all gives no groups.
    """
    groups: dict[str, str] = {}
    for name in sorted(names, key=_use_order):
        group = _GROUP_OF.get(_representation(name), "Alphabetic")
        if group not in groups and (written := _component_group(name)):
            groups[group] = written
    return groups


def _use_order(name: Mapping[str, Any]) -> int:
    order = ("official", "usual", None, "temp", "nickname", "anonymous", "maiden", "old")
    use = name.get("use")
    return order.index(use) if use in order else len(order)


def _representation(name: Mapping[str, Any]) -> str:
    found = (
        one.get("valueCode", "")
        for one in name.get("extension", [])
        if one.get("url") == REPRESENTATION
    )
    return next(found, "ABC")


def _component_group(name: Mapping[str, Any]) -> str:
    given, *middle = name.get("given") or [""]
    parts = (
        name.get("family", ""),
        given,
        " ".join(middle),
        " ".join(name.get("prefix", [])),
        " ".join(name.get("suffix", [])),
    )
    if not any(parts):
        parts = (name.get("text", ""), "", "", "", "")
    plain = (clean(part).translate(_DELIMITERS) for part in parts)
    return "^".join(plain).rstrip("^ ")[:GROUP_LENGTH]
