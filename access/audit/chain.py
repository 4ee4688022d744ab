"""The files of the spool: a chain per source, in files that are named by their first record."""

from __future__ import annotations

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path

import orjson

from access.audit.record import START, Head, digest_of, place_of

SUFFIX = ".ndjson"
RETIRED = "retired.json"
TAIL_BYTES = 64 * 1024
_NAME = re.compile(r"([A-Za-z0-9_-]+(?:\+\d+)?)\.(\d{12})\.ndjson\Z", re.ASCII)


def file_name(chain: str, first: int) -> str:
    """Name of the file whose first record has this sequence number."""
    return f"{chain}.{first:012d}{SUFFIX}"


def name_parts(path: Path) -> tuple[str, int] | None:
    """Chain and first sequence number of a file; None for one of an earlier version."""
    match = _NAME.match(path.name)
    return (match[1], int(match[2])) if match else None


def chains(folder: Path) -> dict[str, list[Path]]:
    """The files of each chain in order."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.glob(f"*{SUFFIX}"):
        if (parts := name_parts(path)) is not None:
            found.setdefault(parts[0], []).append((parts[1], path))
    return {chain: [path for _, path in sorted(files)] for chain, files in sorted(found.items())}


def heads(folder: Path) -> dict[str, Head]:
    """The last whole record of each chain that has one."""
    known = retired(folder)
    found = {
        chain: _head(files, known.get(chain, START)) for chain, files in chains(folder).items()
    }
    return {chain: head for chain, head in found.items() if head != START}


def retired(folder: Path) -> dict[str, Head]:
    """Up to where each chain was removed after its time."""
    path = folder / RETIRED
    loaded = orjson.loads(path.read_bytes()) if path.exists() else {}
    return {chain: Head(int(one[0]), str(one[1])) for chain, one in loaded.items()}


def save_retired(folder: Path, known: dict[str, Head]) -> None:
    """Keep what `retired` gives."""
    write_durably(
        folder / RETIRED,
        orjson.dumps({chain: [one.sequence, one.digest] for chain, one in known.items()}),
    )


@dataclass(frozen=True, slots=True)
class Torn:
    """What was found behind the last whole record of a chain, and cut off."""

    after: int
    length: int
    digest: str


def mend(folder: Path, chain: str) -> tuple[Head, Torn | None]:
    """The head of a chain that nobody writes to, a half-written record at its end cut off."""
    files = chains(folder).get(chain, [])
    start = retired(folder).get(chain, START)
    torn = None
    if files:
        with files[-1].open("rb+") as file:
            end, rest = _last_line_end(file.fileno())
            if rest:
                file.truncate(end)
                torn = (len(rest), digest_of(rest))
            # Whole or not: what follows must not be on the disk without it.
            os.fsync(file.fileno())
    head = _head(files, start)
    return head, Torn(head.sequence, *torn) if torn else None


def lock_path(folder: Path, chain: str) -> Path:
    """The file whose lock the process that writes to a chain holds."""
    return folder / f"{chain}.lock"


def is_in_use(folder: Path, chain: str) -> bool:
    """Whether a living process writes to a chain."""
    path = lock_path(folder, chain)
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_durably(path: Path, content: bytes) -> None:
    """Replace a small file, so that a crash leaves the old or the new one."""
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def last_head(path: Path) -> Head | None:
    """The last whole record of a file; None when it has none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        read = b""
        while len(read) < size:
            step = min(size - len(read), TAIL_BYTES)
            file.seek(size - len(read) - step)
            read = file.read(step) + read
            whole = read[: read.rfind(b"\n") + 1]
            start = whole[:-1].rfind(b"\n") + 1
            if whole and (start or len(read) == size):
                return _head_in(path, whole[start:])
    return None


def _head_in(path: Path, line: bytes) -> Head:
    try:
        return Head(place_of(line)[0], digest_of(line))
    except ValueError:  # damaged: its place is told by counting
        parts = name_parts(path)
        first = parts[1] if parts else 1
        return Head(first + path.read_bytes().count(b"\n") - 1, digest_of(line))


def _head(files: list[Path], start: Head) -> Head:
    for path in reversed(files):
        if (found := last_head(path)) is not None:
            return found
    return start


def _last_line_end(handle: int) -> tuple[int, bytes]:
    """Where the last whole line ends, and what stands behind it."""
    size, rest = os.fstat(handle).st_size, b""
    while len(rest) < size:
        step = min(size - len(rest), TAIL_BYTES)
        rest = os.pread(handle, step, size - len(rest) - step) + rest
        if (cut := rest.rfind(b"\n")) >= 0:
            return size - len(rest) + cut + 1, rest[cut + 1 :]
    return 0, rest
