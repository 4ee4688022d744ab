"""A .docx as a zip file that is the same each time: entries sorted, one fixed time stamp."""

from __future__ import annotations

import zipfile
from io import BytesIO

OLDEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip entry can carry
FIRST = "[Content_Types].xml"  # readers look for it at the head


def fixed_package(package: bytes) -> bytes:
    """The same parts, written in one order with one time stamp."""
    buffer = BytesIO()
    with (
        zipfile.ZipFile(BytesIO(package)) as source,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target,
    ):
        for name in sorted(source.namelist(), key=lambda n: (n != FIRST, n)):
            entry = zipfile.ZipInfo(name, OLDEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 0  # not the machine that happened to write it
            target.writestr(entry, source.read(name))
    return buffer.getvalue()
