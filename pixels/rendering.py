"""How a client wants a picture; no codec is loaded for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Overlay:
    """A segmentation to lay over an image of the instance `sop`."""

    path: Path
    sop: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """How the client wants the image; parsed from the query.

    Attributes:
        size: largest width and height in pixels; None keeps the image's own.
        region: left, top, width, height of the part to show, in image pixels; a negative width
            or height turns the part around.
        window: centre, width and function that replace the image's own.
        quality: of JPEG, 1 to 100.
        profile: "no" leaves colours as they are, "yes" adds their ICC profile, "srgb" turns
            them into sRGB.
        overlay: segments to draw.
    """

    size: tuple[int, int] | None = None
    region: tuple[float, float, float, float] | None = None
    window: tuple[float, float, str] | None = None
    quality: int = 90
    profile: str = "no"
    overlay: Overlay | None = None


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame to render: the file, its transfer syntax, the frame's bytes and number."""

    path: Path
    transfer_syntax: str
    data: bytes
    number: int = 1
