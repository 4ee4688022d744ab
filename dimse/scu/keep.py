"""Where instances go that a peer sends us because we asked for them (C-GET).

A peer's answer is as untrusted as a stranger's request: what was not asked for is refused, and
no name of the peer's becomes a path before it was checked.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog
from pydicom import dcmread

from archive import Archive, ArchiveError, Incoming, InstanceKey, Source
from archive.header import is_valid_uid
from dimse.wire.fileheader import file_header
from dimse.wire.status import (
    CANNOT_UNDERSTAND,
    INVALID_INSTANCE,
    NOT_AUTHORISED,
    OUT_OF_RESOURCES,
    SUCCESS,
    Failure,
    failure_of,
)

log = structlog.get_logger(__name__)

_NOT_ASKED = Failure(NOT_AUTHORISED, "this instance was not asked for")
_BAD_UID = Failure(INVALID_INSTANCE, "a UID of the data set is not valid")
_UNREADABLE = Failure(CANNOT_UNDERSTAND, "the data set cannot be parsed")
_NO_ROOM = Failure(OUT_OF_RESOURCES, "no room to store")
_KEPT = Failure(SUCCESS, "")

ReadData = Callable[[Callable[[memoryview], object]], None]


@dataclass(frozen=True, slots=True)
class Announced:
    """What a C-STORE request says about the data set that follows it."""

    sop_class: str
    instance: str
    transfer_syntax: str
    peer_ae: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for; an empty set leaves its level open."""

    studies: frozenset[str]
    series: frozenset[str] = field(default_factory=frozenset)
    instances: frozenset[str] = field(default_factory=frozenset)

    def has(self, key: InstanceKey) -> bool:
        """Whether this instance was asked for."""
        levels = (
            (self.studies, key.study),
            (self.series, key.series),
            (self.instances, key.instance),
        )
        return all(not wanted or uid in wanted for wanted, uid in levels)


class Keeper(Protocol):
    """Takes instances in."""

    def keep(self, announced: Announced, read_data: ReadData) -> Failure:
        """Read the data set and keep it; the C-STORE status and comment to answer with."""


class FolderKeeper:
    """Keeps instances as `STUDY/SERIES/INSTANCE.dcm` below a folder."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self._folder = folder
        self._wanted = wanted

    def keep(self, announced: Announced, read_data: ReadData) -> Failure:
        """See Keeper. A file that is there already is replaced by the same instance."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=self._folder, prefix=".incoming-", delete=False
        ) as file:
            path = Path(file.name)
            try:
                full = False
                file.write(_header(announced))

                def write(part: memoryview) -> None:
                    nonlocal full
                    try:
                        if not full:
                            file.write(part)
                    except OSError:
                        full = True  # read on all the same: the peer waits for an answer

                read_data(write)
                if full:
                    return _NO_ROOM
                file.flush()
                return self._place(path, announced)
            finally:
                path.unlink(missing_ok=True)

    def _place(self, path: Path, announced: Announced) -> Failure:
        key = key_of(path)
        refusal = refusal_of(key, announced, self._wanted)
        if key is None or refusal is not None:
            return refusal or _UNREADABLE
        target = self._folder / key.study / key.series / f"{key.instance}.dcm"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.chmod(0o644)
            path.replace(target)
        except OSError:
            return _NO_ROOM
        return _KEPT


class ArchiveKeeper:
    """Keeps instances in the archive."""

    def __init__(self, archive: Archive, wanted: Wanted, address: str) -> None:
        self._archive = archive
        self._wanted = wanted
        self._address = address

    def keep(self, announced: Announced, read_data: ReadData) -> Failure:
        """See Keeper."""
        try:
            incoming = self._archive.receive()
        except ArchiveError as error:
            read_data(lambda _: None)
            return failure_of(error)
        with incoming:
            trouble: list[ArchiveError] = []

            def write(part: memoryview | bytes) -> None:
                try:
                    if not trouble:
                        incoming.write(part)
                except ArchiveError as error:
                    trouble.append(error)

            write(_header(announced))
            read_data(write)
            if trouble:
                return failure_of(trouble[0])
            return self._store(incoming, announced)

    def _store(self, incoming: Incoming, announced: Announced) -> Failure:
        source = Source("dimse", calling_ae=announced.peer_ae, address=self._address)
        try:
            incoming.flush()
            key = key_of(incoming.path)
            refusal = refusal_of(key, announced, self._wanted)
            if refusal is not None:
                return refusal
            announced_as = (announced.sop_class, announced.instance)
            self._archive.store(incoming, source, announced=announced_as)
        except ArchiveError as error:
            return failure_of(error)
        return _KEPT


def key_of(file: Path) -> InstanceKey | None:
    """The three UIDs in a file; None if it cannot be read."""
    tags = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
    try:
        found = dcmread(file, stop_before_pixels=True, specific_tags=tags)
        return InstanceKey(*(str(found.get(name, "")) for name in tags))
    # Whatever the library trips over in what a peer sent.
    except Exception:  # noqa: BLE001
        return None


def refusal_of(key: InstanceKey | None, announced: Announced, wanted: Wanted) -> Failure | None:
    """Why an instance is not taken; None if it is."""
    if key is None:
        return _UNREADABLE
    if not all(map(is_valid_uid, (key.study, key.series, key.instance))):
        return _BAD_UID
    if key.instance != announced.instance or not wanted.has(key):
        log.warning("instance refused that was not asked for", peer=announced.peer_ae)
        return _NOT_ASKED
    return None


def _header(announced: Announced) -> bytes:
    return file_header(
        announced.sop_class, announced.instance, announced.transfer_syntax, announced.peer_ae
    )
