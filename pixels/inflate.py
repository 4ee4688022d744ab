"""Opening a Part 10 file for pydicom; a deflated one is inflated under a limit before.

pydicom inflates without one: 306 KB became 651 MB of memory.
"""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO, DicomIO
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian

from pixels.errors import NotDecodable, TooLarge
from pixels.syntaxes import DEFLATED

_CHUNK = 1024 * 1024


def open_plain(path: Path, limit: int) -> tuple[BinaryIO, str]:
    """The file at its start, and its transfer syntax as stored.

    Raises:
        TooLarge: it inflates to more than `limit` bytes.
        NotDecodable: the deflated data end early.
        OSError, InvalidDicomError: it cannot be read, or is no Part 10 file.
    """
    file = path.open("rb")
    try:
        read_preamble(file, force=False)
        meta = _read_file_meta_info(file)
        syntax = str(meta.get("TransferSyntaxUID", ""))
        if syntax != DEFLATED:
            file.seek(0)
            return file, syntax
        plain = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
        plain.write(_plain_head(meta))
        _inflate(file, plain, limit)
    except BaseException:
        file.close()
        raise
    file.close()
    plain.seek(0)
    return plain, syntax


def _inflate(source: BinaryIO, target: BinaryIO, limit: int) -> None:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    while not inflater.eof:
        piece = inflater.unconsumed_tail or source.read(_CHUNK)
        if not piece:
            raise NotDecodable("the deflated data set ends early")
        data = inflater.decompress(piece, _CHUNK)
        total += len(data)
        if total > limit:
            raise TooLarge("the data set inflates to more than the limit")
        target.write(data)


def _plain_head(meta: FileMetaDataset) -> bytes:
    """Preamble and file meta information that say Explicit VR Little Endian."""
    plain = FileMetaDataset(meta)
    plain.TransferSyntaxUID = ExplicitVRLittleEndian
    target = DicomBytesIO()
    target.is_implicit_VR, target.is_little_endian = False, True
    target.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(cast(DicomIO, target), plain, enforce_standard=False)
    return bytes(target.getvalue())
