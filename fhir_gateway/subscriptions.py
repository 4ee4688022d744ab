"""What the FHIR store must hold before work begins: Subscriptions, SearchParameters, Endpoint.

Each has a fixed id and is written only when it differs, so that a restart changes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import structlog

from fhir_gateway import endpoint
from fhir_gateway.config import GatewayConfig
from records import NotFound, Records

# The server may set these itself; they say nothing about a difference in content.
SERVER_OWNED = frozenset({"meta", "text"})

log = structlog.get_logger(__name__)


async def seed(records: Records, config: GatewayConfig) -> None:
    """Bring the seeded resources up to date. Safe to repeat."""
    for resource in load(config.profiles / "searchparameter"):
        await _put(records, resource, ignored=SERVER_OWNED)
    for resource in load(config.profiles / "subscription", _placeholders(config)):
        # HAPI turns requested into active (or error, when it could not): not a difference.
        await _put(records, resource, ignored=SERVER_OWNED | {"status", "error"})
    await _seed_endpoint(records, config)


def load(folder: Path, placeholders: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The resources in a folder, with `${NAME}` replaced in their strings."""
    found = []
    for path in sorted(folder.glob("*.json")):
        resource = orjson.loads(path.read_bytes())
        found.append(_filled(resource, placeholders or {}))
    return found


def _placeholders(config: GatewayConfig) -> dict[str, str]:
    return {
        "HOOK_BASE": config.hook_base.rstrip("/"),
        "HOOK_SECRET": config.hook_secret,
        "FHIR_BASE": config.fhir_base,
    }


def _filled(value: Any, placeholders: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(one, placeholders) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, placeholders) for one in value]
    if isinstance(value, str):
        for name, text in placeholders.items():
            value = value.replace(f"${{{name}}}", text)
    return value


async def _put(records: Records, wanted: dict[str, Any], *, ignored: frozenset[str]) -> None:
    kind, identity = wanted["resourceType"], wanted["id"]
    try:
        stored = await records.read(kind, identity)
    except NotFound:
        stored = {}
    if _content(stored, ignored) == _content(wanted, ignored) and stored.get("status") != "error":
        return
    await records.update(wanted, if_match=False)
    log.info("seed.written", resource=f"{kind}/{identity}")


def _content(resource: dict[str, Any], ignored: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name not in ignored}


async def _seed_endpoint(records: Records, config: GatewayConfig) -> None:
    """Our Endpoint follows the public URL; ImagingStudies that point to it stay right."""
    wanted = endpoint.to_endpoint(config.dicomweb_base)
    stored = await records.create(wanted, if_none_exist=endpoint.condition())
    if _content(stored, SERVER_OWNED | {"id"}) == wanted:
        return
    await records.update({**wanted, "id": stored["id"]}, if_match=False)
    log.info("seed.written", resource=f"Endpoint/{stored['id']}")
