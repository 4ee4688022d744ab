"""Pixel work awaited: waiting for a free decoder process must not use up the web's threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

from dicomweb.errors import BadRequest, DicomwebError, NotAcceptable, NotRenderable
from pixels import (
    BadParameter,
    NotDecodable,
    NotPossible,
    PixelError,
    PixelsConfig,
    TooLarge,
    Transcoder,
)

Result = TypeVar("Result")

# As this door tells them; the statuses are in problems.py.
_TOLD: dict[type[PixelError], type[DicomwebError]] = {
    NotDecodable: NotRenderable,
    TooLarge: NotRenderable,
    NotPossible: NotAcceptable,
    BadParameter: BadRequest,
}


class Decoders:
    """The transcoder, for handlers."""

    def __init__(self, config: PixelsConfig) -> None:
        self.config = config
        self.transcoder = Transcoder(config)
        self._limiter: CapacityLimiter | None = None

    async def run(self, work: Callable[..., Result], *arguments: object) -> Result:
        """The result of one of the transcoder's methods.

        Raises:
            NotRenderable: the data cannot be decoded, or made the decoder crash or hang.
            NotAcceptable: the wanted form cannot be made, or not without loss.
            BadRequest: a parameter does not fit the image.
        """
        if self._limiter is None:  # made here: it belongs to the running event loop
            # Twice as many as processes: cached results need none.
            self._limiter = CapacityLimiter(self.config.processes * 2)
        try:
            return await anyio.to_thread.run_sync(lambda: work(*arguments), limiter=self._limiter)
        except PixelError as error:
            raise _TOLD[type(error)](str(error)) from error

    def close(self) -> None:
        """End the decoder processes."""
        self.transcoder.close()
