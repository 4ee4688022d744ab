"""Removing files that no row names: what a crash left between a file and its commit.

A file is looked at only when it is old enough that its commit, if there was one, is long done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import structlog

from archive.config import ArchiveConfig
from archive.errors import ArchiveError

log = structlog.get_logger(__name__)

MIN_AGE_S = 900.0
EVERY_S = 3600.0
PAUSE_S = 0.001
"""Between two folders, so that the disk is free for others."""

Connect = Callable[[], AbstractContextManager[psycopg.Connection]]


def sweep(connect: Connect, config: ArchiveConfig, min_age_s: float = MIN_AGE_S) -> int:
    """Remove files without a row and folders without a file; returns how many files.

    Raises:
        ArchiveUnavailable: the index does not answer; nothing was removed without its word.
    """
    before = time.time() - min_age_s
    removed = 0
    for folder in _series_folders(config.root / "objects"):
        old = [path for path in _entries(folder) if _changed(path) < before]
        if old:
            removed += _remove(connect, config, old)
        _drop_empty(folder, before)
        time.sleep(PAUSE_S)
    if removed:
        log.warning("files without a row removed", count=removed)
    return removed


def _series_folders(objects: Path) -> Iterator[Path]:
    """Folders of the shape `aa/bb/study/series`; the hash folders stay, they are 65,536 at most."""
    level = [objects]
    for _ in range(3):
        level = [child for parent in level for child in _entries(parent)]
    for study in level:
        yield from _entries(study)
        # A study whose last series went.
        if not _entries(study):
            _drop_empty(study, time.time() - MIN_AGE_S)


def _remove(connect: Connect, config: ArchiveConfig, paths: list[Path]) -> int:
    uids = [path.name.rpartition("-")[0] for path in paths]
    with connect() as connection:
        rows = connection.execute(
            "select path from archive.instance where sop_uid = any(%s)", [uids]
        ).fetchall()
    named = {config.root / row[0] for row in rows}
    orphans = [path for path in paths if path not in named]
    for path in orphans:
        path.unlink(missing_ok=True)
    return len(orphans)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _changed(path: Path) -> float:
    """When the file was last written or moved; now, if it has just gone."""
    try:
        return path.stat().st_ctime
    except FileNotFoundError:
        return time.time()


def _drop_empty(folder: Path, before: float) -> None:
    if _changed(folder) < before:
        try:
            folder.rmdir()
        except OSError:
            return  # it holds something


def due(connection: psycopg.Connection, task: str, every_s: float) -> bool:
    """Whether this process is the one to do a task now; at most one is in each period."""
    row = connection.execute(
        "insert into archive.upkeep as u (task, began) values (%s, now()) on conflict (task)"
        " do update set began = now() where u.began < now() - make_interval(secs => %s)"
        " returning 1",
        [task, every_s],
    ).fetchone()
    return row is not None


class Sweeper:
    """A thread that sweeps when it starts and once an hour; to be used as a context."""

    def __init__(self, connect: Connect, config: ArchiveConfig) -> None:
        self._connect = connect
        self._config = config
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="archive-sweep", daemon=True)

    def __enter__(self) -> Sweeper:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._connect() as connection:
                    mine = due(connection, "sweep", EVERY_S * 0.9)
                if mine:
                    sweep(self._connect, self._config)
            except (ArchiveError, OSError) as error:
                log.warning("sweep put off", error=type(error).__name__)
            self._stop.wait(EVERY_S)
