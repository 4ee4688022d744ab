"""One instance beyond 2^31 bytes, in and out, with the memory of the server flat."""

from __future__ import annotations

import threading

import psutil
import pytest

from tests.dicomweb.server import file_of, read_head, slice_of, url_of

PIXELS = 2_150_000_000
BLOCK = bytes(4 * 1024 * 1024)
TAG = b"\xe0\x7f\x10\x00OW\0\0"


def beginning() -> bytes:
    """A multi-frame file up to and with the length of its pixel data."""
    dataset = slice_of(Rows=1000, Columns=1000, NumberOfFrames=PIXELS // 2_000_000)
    dataset.PixelData = b""
    file = file_of(dataset)
    return file[: file.rindex(TAG[:4])] + TAG + PIXELS.to_bytes(4, "little")


@pytest.mark.slow
def test_an_instance_of_more_than_two_gibibytes_is_streamed_both_ways(server):
    start = beginning()
    url = url_of(read_head(start + bytes(64)))
    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch():
        while not done.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss - process.memory_info().shared)

    def body():
        yield start
        for at in range(0, PIXELS, len(BLOCK)):
            yield BLOCK[: PIXELS - at]

    before = process.memory_info().rss - process.memory_info().shared
    threading.Thread(target=watch, daemon=True).start()
    with server.client() as web:
        stored = web.post("/studies", content=body(), headers={"Content-Type": "application/dicom"})
        last = web.get(
            f"{url}/frames/1075", headers={"Accept": "application/octet-stream; transfer-syntax=*"}
        )
        with web.stream(
            "GET", url, headers={"Accept": "application/dicom; transfer-syntax=*"}
        ) as got:
            received = sum(map(len, got.iter_bytes(len(BLOCK))))
        done.set()
        deleted = web.delete(url)

    assert [one.status_code for one in (stored, last, got, deleted)] == [200, 200, 200, 204]
    assert len(last.content) == 2_000_000
    assert received == int(got.headers["content-length"]) == len(start) + PIXELS
    # Client and server share this process; a mapped file does not count, its pages are the disk's.
    assert peak[0] - before < 128 * 1024 * 1024
