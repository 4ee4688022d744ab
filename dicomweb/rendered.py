"""WADO-RS rendered and thumbnail (PS3.18 sections 10.4.1.1.3, 8.3.5): frames as JPEG or PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.responses import Response

from archive import InstanceNotFound, InstanceRecord
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest, NotRenderable
from dicomweb.frames import frame_numbers
from dicomweb.media import Offer, choose
from dicomweb.retrieve import CACHED
from pixels import Rendering

THUMBNAIL = (128, 128)
_IMAGES = (Offer("image/jpeg"), Offer("image/png"))
_FUNCTIONS = ("linear", "linear-exact", "sigmoid")


def rendering_of(parameters: Mapping[str, str], max_viewport: int) -> Rendering:
    """Parse viewport, window and quality.

    Raises:
        BadRequest: one of them is not of its form, or out of range.
    """
    size, region = None, None
    if viewport := parameters.get("viewport"):
        values = [_number("viewport", part) for part in viewport.split(",") if part.strip()]
        if len(values) not in (2, 6) or not all(1 <= v <= max_viewport for v in values[:2]):
            raise BadRequest(f"viewport is width,height up to {max_viewport}")
        size = (int(values[0]), int(values[1]))
        if len(values) == 6:
            region = (values[2], values[3], abs(values[4]), abs(values[5]))
    window = None
    if text := parameters.get("window"):
        parts = text.split(",")
        function = parts[2].strip().lower() if len(parts) == 3 else "linear"
        if len(parts) not in (2, 3) or function not in _FUNCTIONS:
            raise BadRequest("window is center,width,function")
        window = (_number("window", parts[0]), _number("window", parts[1]), function)
        if window[1] <= 0:
            raise BadRequest("the window's width must be positive")
    quality = _number("quality", parameters.get("quality", "90"))
    if not 1 <= quality <= 100:
        raise BadRequest("quality is a number from 1 to 100")
    return Rendering(size, region, window, int(quality))


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadRequest(f"{name} holds something that is not a number") from None
    if not math.isfinite(value):
        raise BadRequest(f"{name} holds something that is not a number")
    return value


async def rendered_instance(visit: Visit) -> Response:
    """GET .../instances/{instance}/rendered: its first frame."""
    return await _render(visit, await in_thread(visit.archive.instance, visit.key), 1)


async def rendered_frame(visit: Visit) -> Response:
    """GET .../frames/{number}/rendered."""
    numbers = frame_numbers(visit.request.path_params["numbers"], 1)
    record = await in_thread(visit.archive.instance, visit.key)
    return await _render(visit, record, numbers[0])


async def thumbnail(visit: Visit) -> Response:
    """GET .../thumbnail of a study, series, instance or frame: the middle of what is there."""
    archive = visit.archive
    if visit.instance is not None:
        records = [await in_thread(archive.instance, visit.key)]
    elif visit.series is not None:
        records = await in_thread(archive.series_instances, visit.study, visit.series)
    else:
        records = await in_thread(archive.study_instances, visit.study)
    images = [record for record in records if record.frames > 0]
    if not images:
        raise NotRenderable("nothing here holds an image")
    record = images[len(images) // 2]
    asked = visit.request.path_params.get("numbers")
    number = frame_numbers(asked, 1)[0] if asked else record.frames // 2 + record.frames % 2
    return await _render(visit, record, max(number, 1), THUMBNAIL)


async def _render(
    visit: Visit, record: InstanceRecord, number: int, size: tuple[int, int] | None = None
) -> Response:
    offer = choose(visit.accept, _IMAGES)
    wanted = rendering_of(visit.request.query_params, visit.door.config.max_viewport)
    if size is not None and wanted.size is None:
        wanted = Rendering(size, wanted.region, wanted.window, wanted.quality)
    if record.frames == 0:
        raise NotRenderable("the instance holds no image")
    if number > record.frames:
        raise InstanceNotFound(f"the instance has {record.frames} frames", record.key)
    data = await in_thread(visit.archive.frame, record.key, number)
    form = offer.part.removeprefix("image/")
    decoders = visit.door.decoders
    picture = await decoders.run(
        decoders.transcoder.picture,
        record.path,
        record.transfer_syntax,
        data,
        number,
        wanted,
        form,
    )
    return Response(picture, media_type=offer.part, headers=CACHED)
