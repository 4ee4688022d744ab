"""kill -9 in the middle of writes: what was acknowledged is there, what is served is whole."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys

import psycopg
import pytest

from archive import Archive, InstanceKey

CHILD = """
import sys
from pathlib import Path
from threading import Thread
from archive import Archive, ArchiveConfig, Source
from tests.archive.phantom import bytes_of, slice_of

archive = Archive.open(ArchiveConfig(Path(sys.argv[1]), sys.argv[2], 0))

def work():
    while True:
        data = bytes_of(slice_of())
        with archive.receive() as incoming:
            incoming.write(data)
            key = archive.store(incoming, Source("local")).key
        # One write a line: print would let the threads mix theirs.
        sys.stdout.write(f"{key.study} {key.series} {key.instance}\\n")
        sys.stdout.flush()

for _ in range(3):
    Thread(target=work, daemon=True).start()
work()
"""


@pytest.mark.parametrize("acknowledged", [1, 20, 60])
def test_everything_acknowledged_survives_and_nothing_half_written_is_served(config, acknowledged):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(config.root), config.dsn],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p) or "."},
    )
    try:
        keys = []
        while len(keys) < acknowledged:
            keys += key_in(child.stdout.readline())
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=10)
    for line in child.stdout:
        keys += key_in(line)

    with Archive.open(config) as archive:
        for key in keys:
            assert archive.instance(key).path.exists()
        with psycopg.connect(config.dsn) as connection:
            rows = connection.execute("select path, size, sha256 from archive.instance").fetchall()
        for path, size, sha256 in rows:
            content = (config.root / path).read_bytes()
            assert len(content) == size
            assert hashlib.sha256(content[data_set_start(content) :]).hexdigest() == sha256
        assert len(archive.changes(0, 10_000)) == len(rows) >= len(keys)
        folders = [p for p in (config.root / "incoming").iterdir() if p.is_dir()]
        assert len(folders) == 1


def key_in(line):
    """The acknowledged instance of a whole output line; log lines tell of none."""
    found = re.fullmatch(r"([0-9.]{20,64}) ([0-9.]{20,64}) ([0-9.]{20,64})\n", line)
    return [InstanceKey(*found.groups())] if found else []


def data_set_start(content):
    """Behind the file meta information, whose length its first element tells."""
    return 144 + int.from_bytes(content[140:144], "little")
