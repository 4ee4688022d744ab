"""Damaged files are never given out as whole, and never silently."""

from __future__ import annotations

import pytest

from archive import Corrupted, InstanceNotFound, Source
from tests.archive.phantom import bytes_of, slice_of


def damage(path, position, value=None):
    content = bytearray(path.read_bytes())
    content[position] = (content[position] ^ 1) if value is None else value
    path.write_bytes(bytes(content))


@pytest.fixture
def stored(archive, put):
    data = bytes_of(slice_of(PixelData=bytes(200) * 200, Rows=100, Columns=200))
    return archive.instance(put(archive, data).key), data


def test_an_untouched_file_is_verified_and_read(archive, stored):
    record, data = stored

    assert archive.verify(record.key)
    assert b"".join(archive.content(record)) == data
    assert b"".join(archive.content(record, 100)) == data


@pytest.mark.parametrize("position", [3, 150, 400, -1])
def test_one_changed_bit_anywhere_is_found(archive, stored, position):
    record, _ = stored
    damage(record.path, position)

    assert not archive.verify(record.key)
    with pytest.raises(Corrupted):
        next(archive.content(record))


def test_a_long_file_is_cut_before_its_end_when_it_is_damaged(archive, stored):
    record, data = stored
    damage(record.path, 5000)
    got = []

    with pytest.raises(Corrupted):
        got.extend(archive.content(record, 1024))

    assert 0 < len(b"".join(got)) < len(data)


def test_a_file_of_another_size_is_never_opened(archive, stored):
    record, data = stored
    record.path.write_bytes(data[:-2])

    assert not archive.verify(record.key)
    with pytest.raises(Corrupted):
        archive.read(record.key)
    with pytest.raises(Corrupted):
        archive.content(record)
    with pytest.raises(Corrupted):
        archive.frame(record.key, 1)
    with pytest.raises(Corrupted):
        archive.instance_metadata(record.key)
    with pytest.raises(Corrupted):
        archive.metadata(record.key.study, record.key.series)
    with pytest.raises(Corrupted):
        list(archive.bulkdata(record.key, "7FE00010").chunks)


def test_a_lost_file_is_damage_and_not_an_unknown_instance(archive, stored):
    record, _ = stored
    record.path.unlink()

    assert not archive.verify(record.key)
    with pytest.raises(Corrupted):
        archive.read(record.key)
    with pytest.raises(Corrupted):
        archive.frame(record.key, 1)
    with pytest.raises(Corrupted):
        archive.instance_metadata(record.key)


def test_a_stored_file_that_no_longer_parses_is_damage(archive, stored):
    record, _ = stored
    damage(record.path, 129, 0)

    with pytest.raises(Corrupted):
        archive.instance_metadata(record.key)


def test_what_is_not_stored_cannot_be_verified(archive, stored):
    record, _ = stored
    archive.delete(record.key.study, source=Source("local"), reason="x")

    with pytest.raises(InstanceNotFound):
        archive.verify(record.key)
