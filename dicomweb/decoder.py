"""The decoder process: image codecs run here, so that what makes one crash ends nothing else.

Damaged JPEG and JPEG 2000 make the C++ codecs call abort() (seen: GDCM on an empty JPEG). The
process reads jobs from its standard input and writes results to its standard output, each with
its length before it; it ends when its parent does, or after IDLE_S without a job.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import struct
import warnings
from collections.abc import Callable
from typing import BinaryIO

from dicomweb.errors import BadRequest, NotRenderable
from dicomweb.picture import picture_of
from dicomweb.transcode import explicit_little_endian, native_frame

IDLE_S = 120.0
MEMORY_BYTES = 8 * 1024**3
LENGTH = struct.Struct("<Q")
DONE, REFUSED, BAD_REQUEST = b"\0", b"\1", b"\2"

JOBS: dict[str, Callable[..., bytes]] = {
    "picture": picture_of,
    "frame": native_frame,
    "file": explicit_little_endian,
}


def read_exactly(stream: BinaryIO, count: int) -> bytes | None:
    """`count` bytes, or None where the stream ends before."""
    data = stream.read(count)
    return data if len(data) == count else None


def answer(message: bytes) -> bytes:
    """Carry out one job; the first byte of the result says how it went."""
    # Our own parent wrote it: nothing that a client sent is unpickled.
    name, arguments = pickle.loads(message)  # noqa: S301
    try:
        return DONE + JOBS[name](*arguments)
    except (NotRenderable, MemoryError) as error:
        return REFUSED + (str(error) or "the image is larger than the memory for it").encode()
    except BadRequest as error:
        return BAD_REQUEST + str(error).encode()


def main() -> None:
    """Serve until the input ends or nothing has been asked for a while."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    # Codecs print to the standard output; results go to a copy of it that only we know.
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    jobs = os.fdopen(os.dup(0), "rb")
    while select.select([0], [], [], IDLE_S)[0]:
        head = read_exactly(jobs, LENGTH.size)
        message = read_exactly(jobs, LENGTH.unpack(head)[0]) if head is not None else None
        if message is None:
            return
        result = answer(message)
        results.write(LENGTH.pack(len(result)) + result)
        results.flush()


if __name__ == "__main__":
    main()
