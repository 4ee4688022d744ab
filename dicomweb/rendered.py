"""WADO-RS rendered and thumbnail (PS3.18 sections 10.4.1.1.3, 8.3.5) at all levels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from starlette.responses import Response, StreamingResponse

from archive import InstanceNotFound, InstanceRecord
from archive.frame_reader import FrameReader
from dicomweb.documents import rendered_document
from dicomweb.door import Visit, in_thread, is_uid
from dicomweb.errors import BadRequest, NotRenderable, PayloadTooLarge
from dicomweb.frames import frame_numbers
from dicomweb.media import Offer, choose
from dicomweb.multipart import PART_TAIL, closing, new_boundary, part_head
from dicomweb.rendering_query import rendering_of, warning_of
from dicomweb.retrieve import CACHED, multipart_type
from pixels import Overlay, Rendering, Shot

THUMBNAIL = (128, 128)
GIF = "image/gif"
_SINGLE = (Offer("image/jpeg"), Offer("image/png"), Offer(GIF))
_IMAGES = (*_SINGLE, Offer("image/jpeg", multipart=True), Offer("image/png", multipart=True))
# Longer ones are shown with every second, third, ... frame.
_MAX_ANIMATED, _MAX_ANIMATED_BYTES = 256, 256 * 1024 * 1024

Pick = tuple[InstanceRecord, int]


async def rendered_study(visit: Visit) -> Response:
    """GET /studies/{study}/rendered."""
    return await _several(visit, await in_thread(visit.archive.study_instances, visit.study))


async def rendered_series(visit: Visit) -> Response:
    """GET /studies/{study}/series/{series}/rendered."""
    records = await in_thread(visit.archive.series_instances, visit.study, visit.series)
    return await _several(visit, records)


async def rendered_instance(visit: Visit) -> Response:
    """GET .../instances/{instance}/rendered: an image, or a document as HTML or PDF."""
    return await render_instance(visit, await in_thread(visit.archive.instance, visit.key))


async def render_instance(visit: Visit, record: InstanceRecord) -> Response:
    """One instance: its first frame as an image, all of them as GIF or multipart."""
    if record.frames == 0:
        return await rendered_document(visit, record)
    return await _answer(visit, _picks(visit, [record]), (record, 1))


def _picks(visit: Visit, records: Sequence[InstanceRecord]) -> list[Pick]:
    """Every frame, or one more than are shown at once: NumberOfFrames may be a lie of 2^31."""
    frames = ((one, number) for one in records for number in range(1, one.frames + 1))
    return list(islice(frames, visit.door.config.max_frames + 1))


async def rendered_frame(visit: Visit) -> Response:
    """GET .../frames/{numbers}/rendered."""
    numbers = frame_numbers(visit.request.path_params["numbers"], visit.door.config.max_frames)
    record = await in_thread(visit.archive.instance, visit.key)
    if record.frames == 0:
        raise NotRenderable("the instance holds no image")
    if max(numbers) > record.frames:
        raise InstanceNotFound(f"the instance has {record.frames} frames", record.key)
    picks = [(record, number) for number in numbers]
    return await _answer(visit, picks, picks[0])


async def thumbnail(visit: Visit) -> Response:
    """GET .../thumbnail of a study, series, instance or frame: the middle of what is there."""
    archive = visit.archive
    if visit.instance is not None:
        records = [await in_thread(archive.instance, visit.key)]
    elif visit.series is not None:
        records = await in_thread(archive.series_instances, visit.study, visit.series)
    else:
        records = await in_thread(archive.study_instances, visit.study)
    record, number = _middle(records)
    asked = visit.request.path_params.get("numbers")
    if asked:
        number = frame_numbers(asked, 1)[0]
    if number > record.frames:
        raise InstanceNotFound(f"the instance has {record.frames} frames", record.key)
    return await _answer(visit, [(record, number)], (record, number), THUMBNAIL)


def _middle(records: Sequence[InstanceRecord]) -> Pick:
    images = [record for record in records if record.frames > 0]
    if not images:
        raise NotRenderable("nothing here holds an image")
    record = images[len(images) // 2]
    return record, record.frames // 2 + record.frames % 2


async def _several(visit: Visit, records: Sequence[InstanceRecord]) -> Response:
    """Images of many instances: one image of the middle, or all as GIF or multipart."""
    return await _answer(visit, _picks(visit, records), _middle(records))


async def _answer(
    visit: Visit, picks: Sequence[Pick], one: Pick, size: tuple[int, int] | None = None
) -> Response:
    """`one` as a single image, or all of `picks` where the client takes GIF or multipart."""
    offer = choose(visit.accept, _IMAGES)
    wanted = rendering_of(visit.request.query_params, visit.door.config.max_viewport)
    if size is not None and wanted.size is None:
        wanted = replace(wanted, size=size)
    headers = {**CACHED, **warning_of(visit.request.query_params)}
    most = visit.door.config.max_frames
    if len(picks) > most and (offer.multipart or offer.part == GIF):
        raise BadRequest(f"there are more than {most} frames; ask for some by their numbers")
    if offer.multipart:
        return await _multipart(visit, picks, wanted, offer, headers)
    if offer.part == GIF and len(picks) > 1:
        picture = await _animation(visit, picks, wanted)
    else:
        picture = await _picture(visit, one, wanted, offer.part)
    return Response(picture, media_type=offer.part, headers=headers)


async def _picture(visit: Visit, pick: Pick, wanted: Rendering, kind: str) -> bytes:
    record, number = pick
    mark, wanted = await _with_overlay(visit, record, wanted)
    shot = await in_thread(_shot, visit, record, number)
    decoders = visit.door.decoders
    digest = f"{record.sha256}/{number}{mark}"
    form = kind.removeprefix("image/")
    return await decoders.run(decoders.transcoder.picture, shot, wanted, form, digest)


async def _animation(visit: Visit, picks: Sequence[Pick], wanted: Rendering) -> bytes:
    if "segmentation" in visit.request.query_params:
        raise BadRequest("segmentations are drawn on single images, not in animations")
    step = -(-len(picks) // _MAX_ANIMATED)
    shown = picks[::step]

    def shots() -> list[Shot]:
        taken, total = [], 0
        for record, number in shown:
            taken.append(_shot(visit, record, number))
            total += len(taken[-1].data)
            if total > _MAX_ANIMATED_BYTES:
                raise PayloadTooLarge("an animation of this would be too large")
        return taken

    decoders = visit.door.decoders
    digest = "+".join(f"{record.sha256}/{number}" for record, number in shown)
    return await decoders.run(decoders.transcoder.animation, await in_thread(shots), wanted, digest)


async def _multipart(
    visit: Visit, picks: Sequence[Pick], wanted: Rendering, offer: Offer, headers: dict[str, str]
) -> Response:
    if len(picks) > visit.door.config.max_frames:
        raise PayloadTooLarge(f"more than {visit.door.config.max_frames} images")
    boundary = new_boundary()
    head = part_head(boundary, offer.part)
    # The first is made before the answer begins, so that a failure still has a status.
    first = await _picture(visit, picks[0], wanted, offer.part)

    async def body() -> AsyncIterator[bytes]:
        yield head + first + PART_TAIL
        for pick in picks[1:]:
            try:
                picture = await _picture(visit, pick, wanted, offer.part)
            except (NotRenderable, BadRequest):
                continue  # one damaged image does not take the others with it
            yield head + picture + PART_TAIL
        yield closing(boundary)

    kind = multipart_type(offer.part, boundary)
    return StreamingResponse(body(), media_type=kind, headers=headers)


def _shot(visit: Visit, record: InstanceRecord, number: int) -> Shot:
    reader: FrameReader = visit.archive.frame_reader(record.key)
    data = visit.archive.read_frame(reader, number)
    return Shot(record.path, record.transfer_syntax, data, number)


async def _with_overlay(
    visit: Visit, record: InstanceRecord, wanted: Rendering
) -> tuple[str, Rendering]:
    """The rendering with the segmentation that the query names, and what the cache calls it."""
    uid = visit.request.query_params.get("segmentation")
    if uid is None:
        return "", wanted
    if not is_uid(uid):
        raise BadRequest("segmentation is not a valid UID")

    def find() -> InstanceRecord:
        found: Iterator[InstanceRecord] = visit.archive.records_of(
            studies=[record.key.study], instances=[uid]
        )
        for one in found:
            return one
        raise BadRequest("the segmentation is not stored in the study of the image")

    segmentation = await in_thread(find)
    overlay = Overlay(segmentation.path, record.key.instance)
    return f"+{segmentation.sha256}", replace(wanted, overlay=overlay)
