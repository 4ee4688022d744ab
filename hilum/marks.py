"""Files by which our processes find each other: `run/NAME.ready` and `run/ready.json`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

READY = "ready.json"


def run_folder(data: Path) -> Path:
    """Folder of the marks, made when missing."""
    folder = data / "run"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def say_ready(data: Path, name: str) -> None:
    """Leave our process id: this process is ready for work."""
    write(run_folder(data) / f"{name}.ready", str(os.getpid()))


def is_ready(data: Path, name: str, pid: int | None) -> bool:
    """Whether the process with this id has said that it is ready."""
    path = run_folder(data) / f"{name}.ready"
    return pid is not None and path.is_file() and path.read_text() == str(pid)


def write(path: Path, text: str) -> None:
    """Replace a file whole: a reader never sees half of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.replace(path)


def running(data: Path) -> dict[str, Any] | None:
    """What `hilum up` on this data folder wrote, while it runs; None otherwise."""
    path = data / "run" / READY
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        os.kill(int(found["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    return found
