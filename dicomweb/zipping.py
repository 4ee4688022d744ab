"""Instances as a zip file, written while it is sent: nothing is compressed, nothing kept."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence

from archive import Archive, InstanceRecord
from dicomweb.instances import stored_pieces

_EPOCH = (1980, 1, 1, 0, 0, 0)


class _Sink(io.RawIOBase):
    """What zipfile writes, until it is taken; it cannot seek, so sizes follow their data."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        """What was written since the last time."""
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def zipped(archive: Archive, records: Sequence[InstanceRecord]) -> Iterator[bytes]:
    """SERIES/INSTANCE.dcm for each instance: UIDs are digits and dots, so the names are safe."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as target:
        for record in records:
            entry = zipfile.ZipInfo(f"{record.key.series}/{record.key.instance}.dcm", _EPOCH)
            entry.external_attr = 0o640 << 16
            with target.open(entry, "w", force_zip64=True) as file:
                for piece in stored_pieces(archive, record):
                    file.write(piece)
                    yield sink.take()
    yield sink.take()
