"""Whether an item that must be supported is there, and where references lead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tests.uscore.bar import Group
from tests.uscore.matcher import Json, tokens

ROLE = re.compile(r"(\w+):(\w+)\Z")


def items(ours: Group) -> list[tuple[str, Json]]:
    """Every item of a profile with a name to show: elements, slices, extensions."""
    found = ours.must_support
    return (
        [(_shown(one), one) for one in found["elements"]]
        + [(f"{one['path']}:{one['name']}", one) for one in found["slices"]]
        + [(one["url"].rpartition("/")[2], one) for one in found["extensions"]]
    )


def _shown(element: Json) -> str:
    return f"{element['path']}={element['value']}" if "value" in element else element["path"]


def present(ours: Group, item: Json, resources: Iterable[Json]) -> bool:
    """Whether at least one resource has it."""
    return any(_in(ours, item, one) for one in resources)


def _in(ours: Group, item: Json, resource: Json) -> bool:
    if "url" in item:
        holders = at(ours, resource, item["path"].removesuffix("extension").rstrip("."))
        return any(e["url"] == item["url"] for h in holders for e in h.get("extension", []))
    if "discriminator" in item:
        candidates = at(ours, resource, item["path"])
        return any(meets(one, item["discriminator"]) for one in candidates)
    found = at(ours, resource, item["path"])
    return item["value"] in found if "value" in item else any(not _empty(one) for one in found)


def at(ours: Group, resource: Json, path: str) -> list[Any]:
    """Everything at a path; `agent:Author.who` stays inside the slice."""
    found: list[Any] = [resource]
    before: list[str] = []
    for step in filter(None, path.split(".")):
        name, _, wanted = step.partition(":")
        before.append(name)
        found = [one for holder in found for one in _children(holder, name)]
        if wanted:
            rule = _slice(ours, ".".join(before), wanted)
            found = [one for one in found if meets(one, rule)]
    return found


def _children(holder: Any, name: str) -> list[Any]:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, list) else [] if value is None else [value]


def _slice(ours: Group, path: str, name: str) -> Json:
    for one in ours.must_support["slices"]:
        if (one["path"], one["name"]) == (path, name):
            return one["discriminator"]
    raise KeyError(f"{path}:{name}")


def meets(value: Json, rule: Json) -> bool:
    """Whether an element belongs to the slice that this discriminator makes."""
    values = _children(value, rule["path"]) if rule["path"] else [value]
    if rule["type"] == "patternIdentifier":
        return any(one.get("system") == rule["system"] for one in values)
    if rule["type"] == "patternCodeableConcept":
        wanted = {(rule["system"], rule["code"])}
    elif rule["type"] == "requiredBinding":
        wanted = {(one["system"], one["code"]) for one in rule["values"]}
    else:
        raise KeyError(rule["type"])
    return any(pair in wanted for one in values for pair in tokens(one))


def _empty(value: Any) -> bool:
    """An element of nothing but extensions says that the value is absent."""
    return isinstance(value, dict) and set(value) <= {"id", "extension"}


def chosen(ours: Group, missing: set[str]) -> set[str]:
    """The missing items without those for which another of their choice stands."""
    for choice in ours.must_support["choices"]:
        if not set(choice) <= missing:
            missing = missing - set(choice)
    return missing


def of_profile(ours: Group, resources: Iterable[Json]) -> list[Json]:
    """The resources that claim this profile, of whatever version."""
    return [
        one
        for one in resources
        if any(
            profile.partition("|")[0] == ours.profile
            for profile in one.get("meta", {}).get("profile", [])
        )
    ]
