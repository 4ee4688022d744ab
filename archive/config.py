"""What an archive needs to know before it opens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ArchiveConfig:
    """Where the archive lies and how much it takes on.

    Attributes:
        root: Folder of the files; temporary files live in it too, so that a rename is atomic.
        dsn: PostgreSQL connection string; the archive owns the schema `archive` there.
        min_free_bytes: Below this much free disk an instance is refused with OutOfSpace.
        inflate_limit_bytes: Largest inflated size of a deflated data set that is parsed.
        depth_limit: Deepest nesting of sequences that is parsed.
        element_limit: Largest number of elements in one instance that is parsed.
        connections: Size of the connection pool.
        durable: False answers before the bytes are on disk. Faster, and unsafe: after a power cut
            or a crash of the machine, instances whose sender was told success may be gone.
        preamble: What becomes of the 128 bytes before the DICM prefix. "zero" clears them, so
            that a file that is also a program or a picture is stored as DICOM alone.
    """

    root: Path
    dsn: str
    min_free_bytes: int = 512 * MIB
    inflate_limit_bytes: int = 64 * MIB
    depth_limit: int = 40
    element_limit: int = 2_000_000
    connections: int = 8
    durable: bool = True
    preamble: Literal["zero", "keep"] = "zero"
