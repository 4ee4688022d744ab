"""Pixel data: decoding, transcoding and rendering, in processes that may fail alone."""

from pixels.config import PixelsConfig
from pixels.errors import BadParameter, NotDecodable, NotPossible, PixelError, TooLarge
from pixels.rendering import Overlay, Rendering, Shot
from pixels.syntaxes import COMPRESSED_TARGETS, TARGETS, can_decode, can_make
from pixels.transcoder import Transcoder

__all__ = [
    "COMPRESSED_TARGETS",
    "TARGETS",
    "BadParameter",
    "NotDecodable",
    "NotPossible",
    "Overlay",
    "PixelError",
    "PixelsConfig",
    "Rendering",
    "Shot",
    "TooLarge",
    "Transcoder",
    "can_decode",
    "can_make",
]
