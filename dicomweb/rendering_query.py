"""The query parameters of a rendered resource (PS3.18 section 8.3.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping

from dicomweb.errors import BadRequest
from pixels import Rendering

_FUNCTIONS = ("linear", "linear-exact", "sigmoid")
_PROFILES = ("no", "yes", "srgb")
_ANNOTATIONS = frozenset({"patient", "technique"})


def rendering_of(parameters: Mapping[str, str], max_viewport: int) -> Rendering:
    """Parse viewport, window, quality, annotation and iccprofile.

    Raises:
        BadRequest: one of them is not of its form, or out of range.
    """
    size, region = _viewport(parameters.get("viewport", ""), max_viewport)
    quality = _number("quality", parameters.get("quality", "90"))
    if not 1 <= quality <= 100:
        raise BadRequest("quality is a number from 1 to 100")
    profile = parameters.get("iccprofile", "no").lower()
    if profile not in _PROFILES:
        raise BadRequest(f"iccprofile is one of {', '.join(_PROFILES)}")
    annotations = {one.strip() for one in parameters.get("annotation", "").split(",")} - {""}
    if not annotations <= _ANNOTATIONS:
        raise BadRequest("annotation is patient, technique or both")
    window = _window(parameters.get("window", ""))
    return Rendering(size, region, window, int(quality), profile)


def warning_of(parameters: Mapping[str, str]) -> dict[str, str]:
    """What was asked for and is not done: names and dates burned in leave with every copy."""
    if "annotation" not in parameters:
        return {}
    return {"Warning": '299 hilum "Annotations are not burned into images."'}


def _viewport(
    text: str, most: int
) -> tuple[tuple[int, int] | None, tuple[float, float, float, float] | None]:
    """`vw,vh` or `vw,vh,sx,sy,sw,sh`; of the last four any may be left empty."""
    if not text:
        return None, None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 6) or not all(parts[:2]):
        raise BadRequest("viewport is width,height or width,height,sx,sy,sw,sh")
    width, height = (_number("viewport", part) for part in parts[:2])
    if not (1 <= width <= most and 1 <= height <= most):
        raise BadRequest(f"viewport is width,height up to {most}")
    size = (int(width), int(height))
    if len(parts) == 2:
        return size, None
    left, top, wide, high = (_number("viewport", part) if part else 0.0 for part in parts[2:])
    return size, (left, top, wide, high)


def _window(text: str) -> tuple[float, float, str] | None:
    if not text:
        return None
    parts = text.split(",")
    function = parts[2].strip().lower() if len(parts) == 3 else "linear"
    if len(parts) not in (2, 3) or function not in _FUNCTIONS:
        raise BadRequest("window is center,width,function")
    centre, width = _number("window", parts[0]), _number("window", parts[1])
    if width <= 0:
        raise BadRequest("the window's width must be positive")
    return centre, width, function


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadRequest(f"{name} holds something that is not a number") from None
    if not math.isfinite(value):
        raise BadRequest(f"{name} holds something that is not a number")
    return value
