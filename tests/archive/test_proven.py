"""A file that was found right is not proven again at once; one that has changed since is."""

from __future__ import annotations

import time

import pytest

from archive import Corrupted
from archive.proven import KEPT_S, Proven
from tests.archive.phantom import bytes_of, slice_of


def read(archive, record):
    return b"".join(archive.content(record))


def test_a_change_is_found_though_the_file_was_right_a_moment_ago(archive, put):
    data = bytes_of(slice_of())
    record = archive.instance(put(archive, data).key)

    assert read(archive, record) == read(archive, record) == data
    damaged = bytearray(data)
    damaged[-1] ^= 1
    record.path.chmod(0o600)
    record.path.write_bytes(damaged)

    with pytest.raises(Corrupted):
        read(archive, record)


def test_the_verification_that_storage_commitment_asks_for_never_trusts_memory(archive, put):
    record = archive.instance(put(archive, bytes_of(slice_of())).key)

    read(archive, record)
    record.path.chmod(0o600)
    record.path.write_bytes(b"\0" * record.size)

    assert not archive.verify(record.key)


def test_what_would_be_proven_anew_anyway_is_not_kept(monkeypatch):
    proven, now = Proven(), time.monotonic()
    for n in range(20):
        proven.add((1, n, 1, 1, 1))
    monkeypatch.setattr(time, "monotonic", lambda: now + 2 * KEPT_S)

    proven.add((1, 0, 1, 1, 1))

    assert list(proven._seen) == [(1, 0, 1, 1, 1)]
