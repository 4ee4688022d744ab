"""What can go wrong with pixel data. Texts reach clients: limits, no patient data."""

from __future__ import annotations


class PixelError(Exception):
    """Root of this package's errors."""


class NotDecodable(PixelError):
    """There is no image, or its pixel data are damaged or made the decoder fail."""


class TooLarge(PixelError):
    """The decoded image would pass a limit of size, memory or time."""


class NotPossible(PixelError):
    """The pixel data cannot take the wanted form, or not without a change of their values."""


class BadParameter(PixelError):
    """A parameter of a rendering does not fit the image."""
