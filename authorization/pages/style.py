"""The looks of our pages as apps may take them over (SMART App Launch 2.2, `smart_style_url`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

# The members of the specification's section "styling", with the colours of the light theme.
DEFAULT: Mapping[str, str] = {
    "color_background": "#f5f8fa",
    "color_error": "#a8280f",
    "color_highlight": "#00607a",
    "color_modal_backdrop": "#10212b",
    "color_success": "#12673c",
    "color_text": "#10212b",
    "dim_border_radius": "8px",
    "dim_font_size": "16px",
    "dim_spacing_size": "20px",
    "font_family_body": "system-ui, 'DejaVu Sans', sans-serif",
    "font_family_heading": "system-ui, 'DejaVu Sans', sans-serif",
}


@dataclass(frozen=True, slots=True)
class Style:
    """The style document. Its URL names its content, so that apps may keep it for ever."""

    base_url: str
    changes: Mapping[str, str] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, str]:
        """The document."""
        return {**DEFAULT, **self.changes}

    @property
    def name(self) -> str:
        """The content in short: another content has another name."""
        text = json.dumps(self.content, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{self.base_url}/auth/style/{self.name}.json"

    def routes(self) -> list[BaseRoute]:
        """The route, below `/auth`."""
        return [Route("/style/{name}.json", self.serve, methods=["GET"])]

    async def serve(self, request: Request) -> Response:
        """The document, for anyone from anywhere."""
        anywhere = {"Access-Control-Allow-Origin": "*"}
        if request.path_params["name"] != self.name:
            return JSONResponse({"error": "not_found"}, status_code=404, headers=anywhere)
        forever = {"Cache-Control": "public, max-age=31536000, immutable"}
        return JSONResponse(self.content, headers={**anywhere, **forever})
