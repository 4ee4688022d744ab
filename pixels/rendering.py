"""How a client wants a picture; no codec is loaded for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rendering:
    """How the client wants the image; parsed from the query.

    Attributes:
        size: largest width and height in pixels; None keeps the image's own.
        region: left, top, width, height of the part to show, in image pixels.
        window: centre, width and function that replace the image's own.
        quality: of JPEG, 1 to 100.
    """

    size: tuple[int, int] | None = None
    region: tuple[float, float, float, float] | None = None
    window: tuple[float, float, str] | None = None
    quality: int = 90
