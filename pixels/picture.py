"""Frames as they should look on a display, as JPEG, PNG or GIF. Runs in a decoder process."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import cast

from PIL import Image, ImageCms, ImageOps
from pydicom import Dataset

from pixels.decode import DAMAGE, decode_frame, read_header
from pixels.display import Window, default_window, displayed, frame_header
from pixels.errors import BadParameter
from pixels.planes import draw_planes
from pixels.rendering import Rendering, Shot
from pixels.segments import with_segments

_DEFAULT_DELAY_MS = 100.0


def picture_of(shot: Shot, wanted: Rendering, form: str, limit: int) -> bytes:
    """One frame as an encoded picture; `form` is "jpeg", "png" or "gif".

    Raises:
        NotDecodable, TooLarge: as `decode_frame`.
        BadParameter: the region lies outside of the image, or the overlay is not one of it.
    """
    header = frame_header(read_header(shot.path), shot.number)
    image = _image(header, shot, wanted, wanted.window, limit)
    return _encoded(header, [image], wanted, form)


def animation_of(shots: Sequence[Shot], wanted: Rendering, limit: int) -> bytes:
    """Several frames as one GIF, all with the same window.

    Raises:
        NotDecodable, TooLarge, BadParameter: as `picture_of`.
    """
    middle = shots[len(shots) // 2]
    header = frame_header(read_header(middle.path), middle.number)
    window = wanted.window
    if window is None:
        frame = decode_frame(header, middle.data, middle.transfer_syntax, limit)
        window = default_window(header, frame.pixels)
    images = [
        _image(frame_header(read_header(one.path), one.number), one, wanted, window, limit)
        for one in shots
    ]
    return _encoded(header, images, wanted, "gif")


def _image(
    header: Dataset, shot: Shot, wanted: Rendering, window: Window | None, limit: int
) -> Image.Image:
    frame = decode_frame(header, shot.data, shot.transfer_syntax, limit)
    shown = draw_planes(header, displayed(header, frame, window), shot.number)
    if wanted.overlay is not None:
        path, sop = wanted.overlay.path, wanted.overlay.sop
        shown = with_segments(shown, header, path, sop, shot.number, limit)
    image = Image.fromarray(shown)
    if wanted.profile == "srgb":
        image = _in_srgb(header, image)
    return _placed(image, wanted)


def _placed(image: Image.Image, wanted: Rendering) -> Image.Image:
    """Cut out, turned and scaled, in the order of PS3.18 section 8.3.5.1.3."""
    if wanted.region is not None:
        left, top, width, height = wanted.region
        right = left + (abs(width) or image.width)
        bottom = top + (abs(height) or image.height)
        box = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
        edges = cast(tuple[int, int, int, int], tuple(round(edge) for edge in box))
        if edges[0] >= edges[2] or edges[1] >= edges[3]:
            raise BadParameter("the viewport's region lies outside of the image")
        image = image.crop(edges)
        if width < 0:
            image = ImageOps.mirror(image)
        if height < 0:
            image = ImageOps.flip(image)
    if wanted.size is not None:
        scale = min(wanted.size[0] / image.width, wanted.size[1] / image.height)
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        image = image.resize(size, Image.Resampling.BILINEAR)
    return image


def _encoded(header: Dataset, images: list[Image.Image], wanted: Rendering, form: str) -> bytes:
    target = BytesIO()
    profile = _profile(header, images[0], wanted.profile)
    if form == "jpeg":
        images[0].save(target, "JPEG", quality=wanted.quality, icc_profile=profile)
    elif form == "png":
        images[0].save(target, "PNG", compress_level=3, icc_profile=profile)
    else:
        images[0].save(
            target,
            "GIF",
            save_all=True,
            append_images=images[1:],
            duration=_delay_ms(header),
            loop=0,
        )
    return target.getvalue()


def _profile(header: Dataset, image: Image.Image, asked: str) -> bytes | None:
    if asked == "no" or image.mode != "RGB":
        return None
    if asked == "yes" and isinstance(header.get("ICCProfile"), bytes):
        return cast(bytes, header.ICCProfile)
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _in_srgb(header: Dataset, image: Image.Image) -> Image.Image:
    stated = header.get("ICCProfile")
    if image.mode != "RGB" or not isinstance(stated, bytes):
        return image
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(stated))
        turned = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, *DAMAGE) as error:
        raise BadParameter("the image's ICC profile cannot be used") from error
    return turned or image


def _delay_ms(header: Dataset) -> float:
    """Time between two frames, by what the image says of it."""
    try:
        if header.get("FrameTime"):
            delay = float(header.FrameTime)
        else:
            rate = header.get("RecommendedDisplayFrameRate") or header.get("CineRate")
            delay = 1000 / float(rate) if rate else _DEFAULT_DELAY_MS
    except DAMAGE:
        delay = _DEFAULT_DELAY_MS
    return min(max(delay, 20.0), 2000.0)
