"""The decoder process: image codecs run here, so that what makes one crash ends nothing else.

Damaged JPEG and JPEG 2000 make the C++ codecs call abort() (seen: GDCM on an empty JPEG). The
process reads jobs from its standard input and writes results to its standard output, each with
its length before it; it ends when its parent does, or after IDLE_S without a job. Memory,
processor time and the size of what it writes are limited by the kernel.
"""

from __future__ import annotations

import os
import pickle
import resource
import select
import struct
import sys
import warnings
from collections.abc import Callable
from typing import BinaryIO

from pixels import errors
from pixels.decode import native_frame
from pixels.encode import compressed_frame
from pixels.picture import animation_of, picture_of
from pixels.report_html import report_page
from pixels.transcoding import transcode_file

IDLE_S = 120.0
LENGTH = struct.Struct("<Q")
DONE = 0
ERRORS: tuple[type[errors.PixelError], ...] = (
    errors.NotDecodable,
    errors.TooLarge,
    errors.NotPossible,
    errors.BadParameter,
)

JOBS: dict[str, Callable[..., bytes]] = {
    "picture": picture_of,
    "animation": animation_of,
    "report": report_page,
    "frame": native_frame,
    "compressed": compressed_frame,
    "file": transcode_file,
}


def read_exactly(stream: BinaryIO, count: int) -> bytes | None:
    """`count` bytes, or None where the stream ends before."""
    data = stream.read(count)
    return data if len(data) == count else None


def answer(message: bytes, cpu_s: int) -> bytes:
    """Carry out one job; the first byte of the result says how it went."""
    # Our own parent wrote it: nothing that a client sent is unpickled.
    name, arguments = pickle.loads(message)  # noqa: S301
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))
    try:
        return bytes([DONE]) + JOBS[name](*arguments)
    except errors.PixelError as error:
        return bytes([1 + ERRORS.index(type(error))]) + str(error).encode()
    except (MemoryError, RecursionError) as error:
        text = f"the image needs more than it may ({type(error).__name__})"
        return bytes([1 + ERRORS.index(errors.TooLarge)]) + text.encode()


def main(memory: int, cpu_s: int, file_bytes: int) -> None:
    """Serve until the input ends or nothing has been asked for a while."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
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
        result = answer(message, cpu_s)
        results.write(LENGTH.pack(len(result)) + result)
        results.flush()


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:4]))
