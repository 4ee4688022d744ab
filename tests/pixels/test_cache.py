"""The disk cache: bounded, shared, and never half an entry."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pixels.cache import STALE_S, DiskCache, key_of


def keep(cache: DiskCache, name: str, data: bytes) -> None:
    scratch = cache.scratch()
    scratch.write_bytes(data)
    cache.keep(key_of(name), scratch).close()


def content(cache: DiskCache, name: str) -> bytes | None:
    file = cache.open(key_of(name))
    if file is None:
        return None
    with file:
        return file.read()


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("??/*"))


def test_what_was_used_last_stays_and_the_size_is_bounded(tmp_path):
    cache = DiskCache(tmp_path / "c", 100_000)
    keep(cache, "used", b"u" * 10_000)
    for number in range(40):
        keep(cache, f"n{number}", bytes(10_000))
        past = time.time_ns() - (60 - number) * 10**9
        path = cache._path(key_of(f"n{number}"))
        if path.exists():
            os.utime(path, ns=(past, past))
        assert content(cache, "used") == b"u" * 10_000

    assert size_of(tmp_path / "c") <= 110_000
    assert content(cache, "n0") is None
    assert content(cache, "n39") is not None


def test_an_entry_that_is_removed_while_it_is_read_stays_whole(tmp_path):
    cache = DiskCache(tmp_path / "c", 1000)
    keep(cache, "a", b"a" * 900)
    file = cache.open(key_of("a"))

    keep(cache, "b", b"b" * 900)
    keep(cache, "c", b"c" * 900)

    assert file is not None
    with file:
        assert file.read() == b"a" * 900


def test_what_a_crash_leaves_is_no_entry_and_is_swept(tmp_path):
    cache = DiskCache(tmp_path / "c", 1000)
    left = cache.scratch()
    left.write_bytes(b"half")
    past = time.time() - STALE_S - 1
    os.utime(left, (past, past))

    keep(cache, "a", b"a" * 2000)
    keep(cache, "b", b"b" * 2000)

    assert not left.exists()


def test_several_processes_share_a_folder(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom pixels.cache import DiskCache, key_of\n"
        "c = DiskCache(Path(sys.argv[1]), 200_000)\n"
        "for n in range(200):\n"
        "    f = c.open(key_of(n))\n"
        "    if f is None:\n"
        "        s = c.scratch(); s.write_bytes(bytes([n]) * 5000); f = c.keep(key_of(n), s)\n"
        "    d = f.read(); f.close()\n"
        "    assert d == bytes([n]) * 5000, n\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", script, str(tmp_path / "c")]
    env = {**os.environ, "PYTHONPATH": str(root)}

    with ThreadPoolExecutor(3) as pool:
        ran = list(pool.map(lambda _: subprocess.run(command, env=env, capture_output=True), "123"))

    assert [one.returncode for one in ran] == [0, 0, 0], ran[0].stderr
    assert size_of(tmp_path / "c") <= 3 * 220_000
