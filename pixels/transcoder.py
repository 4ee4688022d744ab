"""The pixel work that the doors ask for; each piece of it is done once while the cache has room.

Every method may be called from any thread and may wait for a free decoder process.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

from pixels.cache import DiskCache, key_of
from pixels.config import PixelsConfig
from pixels.pool import Pool
from pixels.rendering import Rendering, Shot
from pixels.syntaxes import EXPLICIT_LE

# Goes into the keys: what an older version of the code made is not found any more.
_VERSION = 1

Form = Literal["jpeg", "png", "gif"]


class Transcoder:
    """Files and frames in another transfer syntax, and as pictures."""

    def __init__(self, config: PixelsConfig | None = None) -> None:
        self.config = config or PixelsConfig()
        self._pool = Pool(self.config)
        self._cache = None
        if self.config.cache is not None:
            self._cache = DiskCache(self.config.cache, self.config.cache_bytes)
        self._locks: dict[str, tuple[threading.Lock, int]] = {}
        self._guard = threading.Lock()

    def transcode(self, path: Path, target: str, digest: str | None = None) -> BinaryIO:
        """The Part 10 file at `path` in the `target` transfer syntax, open for reading.

        Args:
            target: one of `syntaxes.TARGETS`; compression is without loss, and checked.
            digest: names the content for the cache; without it the file's place, size and time do.

        Raises:
            NotDecodable: damaged, or it made the decoder fail.
            NotPossible: no codec for it, or the values would not all be kept.
            TooLarge: it would pass a limit.
        """
        config = self.config

        def make(output: Path) -> None:
            limits = (config.max_frame_bytes, config.max_instance_bytes)
            self._pool.run("file", path, target, output, *limits)

        return self._kept(key_of(_VERSION, "file", digest or _identity(path), target), make)

    def frame(
        self,
        path: Path,
        source: str,
        data: bytes,
        target: str = EXPLICIT_LE,
        digest: str | None = None,
    ) -> bytes:
        """One frame, given as stored in `source`, in the `target` transfer syntax.

        Args:
            digest: names the frame for the cache; without it, it is made anew.

        Raises:
            NotDecodable, NotPossible, TooLarge: as `transcode`.
        """
        limit = self.config.max_frame_bytes

        def make() -> bytes:
            if target == EXPLICIT_LE:
                return self._pool.run("frame", path, source, data, limit)
            return self._pool.run("compressed", path, source, target, data, limit)

        return self._kept_bytes(digest, ("frame", digest, target), make)

    def picture(
        self, shot: Shot, wanted: Rendering, form: Form, digest: str | None = None
    ) -> bytes:
        """One frame as it looks on a display.

        Args:
            digest: names the frame, and the overlay if there is one, for the cache.

        Raises:
            NotDecodable, TooLarge: as `transcode`.
            BadParameter: the region lies outside of the image, or the overlay is not one of it.
        """
        limit = self.config.max_frame_bytes
        parts = ("picture", digest, wanted, form)
        return self._kept_bytes(
            digest, parts, lambda: self._pool.run("picture", shot, wanted, form, limit)
        )

    def animation(
        self, shots: Sequence[Shot], wanted: Rendering, digest: str | None = None
    ) -> bytes:
        """Frames as one GIF; raises as `picture`."""
        limit = self.config.max_frame_bytes
        return self._kept_bytes(
            digest,
            ("animation", digest, wanted),
            lambda: self._pool.run("animation", list(shots), wanted, limit),
        )

    def report(self, path: Path) -> bytes:
        """A structured report as an HTML page. Raises NotDecodable."""
        return self._pool.run("report", path)

    def _kept(self, key: str, make: Callable[[Path], None]) -> BinaryIO:
        """The cache's entry, made now if it is not there; once, however many ask."""
        if self._cache is None:
            return _unkept(make)
        with self._one_at_a_time(key):
            found = self._cache.open(key)
            if found is not None:
                return found
            scratch = self._cache.scratch()
            try:
                make(scratch)
                return self._cache.keep(key, scratch)
            finally:
                scratch.unlink(missing_ok=True)

    def _kept_bytes(
        self, digest: str | None, parts: tuple[object, ...], make: Callable[[], bytes]
    ) -> bytes:
        if digest is None or self._cache is None:
            return make()
        with self._kept(key_of(_VERSION, *parts), lambda scratch: _write(scratch, make())) as file:
            return file.read()

    @contextmanager
    def _one_at_a_time(self, key: str) -> Iterator[None]:
        with self._guard:
            lock, users = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                _, users = self._locks.pop(key)
                if users > 1:
                    self._locks[key] = (lock, users - 1)

    def close(self) -> None:
        """End the decoder processes."""
        self._pool.close()


def _unkept(make: Callable[[Path], None]) -> BinaryIO:
    """Made into a file that is gone once it is closed."""
    with tempfile.TemporaryDirectory(prefix="hilum-pixels-") as folder:
        path = Path(folder) / "made"
        make(path)
        return cast(BinaryIO, path.open("rb"))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _identity(path: Path) -> str:
    state = path.stat()
    return f"{path}|{state.st_size}|{state.st_mtime_ns}|{state.st_ino}"
