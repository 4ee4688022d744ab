"""What a report states: its findings, whoever reads, moves, links or ends them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable

from records.client import Records, Resource
from records.errors import NotFound


async def findings_of(
    records: Records, reports: Iterable[Resource], kinds: Collection[str]
) -> AsyncIterator[Resource]:
    """What reports state and show, and what that is about, once each; groups with their members.

    Args:
        kinds: the resource types to be read; what leads to others is passed over.
    """
    seen: set[str] = set()
    waiting = [one for report in reports for one in report.get("result", [])]
    waiting += [one.get("link", {}) for report in reports for one in report.get("media", [])]
    while waiting:
        parts = str(waiting.pop(0).get("reference", "")).split("/")
        if len(parts) != 2 or parts[0] not in kinds or parts[1] in seen:
            continue
        seen.add(parts[1])
        try:
            found = await records.read(*parts)
        except NotFound:
            continue
        waiting += [*found.get("hasMember", []), *found.get("focus", [])]
        yield found
