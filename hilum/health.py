"""Whether the parts that the web process needs are there."""

from __future__ import annotations

import httpx

from fhir_gateway.services import Services
from hilum.settings import Settings

PATIENCE_S = 3.0


class Health:
    """Asks the FHIR store, on a connection that is kept."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self._services = services
        self._url = settings.hapi_url.removesuffix("/fhir") + "/health"
        self._client = httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False)

    async def states(self) -> dict[str, bool]:
        """Each part by its name: whether it is ready."""
        return {"hapi": await self._answers(), "seeded": self._services.seeded}

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()

    async def _answers(self) -> bool:
        try:
            return (await self._client.get(self._url)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False
