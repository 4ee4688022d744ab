"""The frames of one instance: one look at the index, then one read for each frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import psycopg

from archive.config import ArchiveConfig
from archive.errors import FrameNotFound, InstanceNotFound
from archive.integrity import open_mapped, open_parsed
from archive.keys import InstanceKey, InstanceRecord
from archive.part10 import DEFLATED
from archive.pixels import FrameIndex, unpack
from archive.reading import RECORD, record_of

# A viewer asks for one frame of a long multi-frame after the other, each in its own request.
_unpacked = lru_cache(maxsize=128)(unpack)


@dataclass(frozen=True, slots=True)
class FrameReader:
    """One stored instance and where its frames lie.

    Attributes:
        index: None where the frames cannot be told apart, or there are none.
    """

    found: InstanceRecord
    index: FrameIndex | None
    config: ArchiveConfig

    def read(self, number: int) -> bytes:
        """Frame `number`, counted from 1; see `Archive.frame`.

        Raises FrameNotFound, Corrupted or FileAway.
        """
        if self.index is None:
            raise FrameNotFound("the instance has no frames that can be told apart", self.found.key)
        if self.found.transfer_syntax in DEFLATED:
            with open_parsed(self.found, self.config) as part10:
                return self.index.read(part10.buffer, number)
        with open_mapped(self.found) as view:
            return self.index.read(view, number)


def frame_reader(
    connection: psycopg.Connection, config: ArchiveConfig, key: InstanceKey
) -> FrameReader:
    """Raises InstanceNotFound unless all three UIDs are right."""
    row = connection.execute(
        f"select found.*, i.frame_table from ({RECORD} where study_uid = %s and series_uid = %s"  # noqa: S608 - constants
        " and sop_uid = %s) found join archive.instance i using (sop_uid)",
        [key.study, key.series, key.instance],
    ).fetchone()
    if row is None:
        raise InstanceNotFound(f"{key.instance} is not stored there", key)
    index = None if row[-1] is None else _unpacked(bytes(row[-1]))
    return FrameReader(record_of(config, row), index, config)
