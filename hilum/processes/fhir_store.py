"""The HAPI FHIR server of `hapi/`: its command line, its prepared database, its readiness.

Starting on an empty database, HAPI makes 90 tables and installs about 110 search parameters;
on a prepared one it skips both. So the result of the first preparation is kept as a dump, and
every further data folder (a test's, a demo's) begins with it.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psycopg
import structlog
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from access.grants import GrantSigner
from access.internal_rights import NOTHING
from hilum.processes.death_signal import set_death_signal
from hilum.processes.postgres import programs
from hilum.processes.supervise import tail

log = structlog.get_logger(__name__)

JAR = "hilum-hapi.jar"
OLDEST_JAVA = 17
# C1 only and the serial collector: half the processor time of a start, and less memory. The
# peak rate of C2 was not compared; a large site may set its own flags in JAVA_TOOL_OPTIONS.
JAVA_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",  # a supervisor restarts it; half dead it would hang callers
    "-XX:-UsePerfData",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
)


class FhirStoreError(Exception):
    """HAPI cannot be started or its database not be prepared; the text says what to do."""


@dataclass(frozen=True, slots=True)
class HapiConfig:
    """How one HAPI server runs.

    Args:
        home: folder with hilum-hapi.jar and lib/ (`mvn package` makes it: hapi/target).
        profiles: folder of the FHIR conformance files.
        port: TCP port to listen on.
        grants: signs the requests that the server lets in; it gets the public key.
        database: libpq URL of the database `hapi`.
        public_base_url: FHIR base URL of the gateway, written into links. Empty: HAPI's own.
        hook_base: URL below which rest-hook endpoints must lie. Empty: no rest-hooks.
        heap: limit of the Java heap (-Xmx).
        address: address to listen on.
        java: the Java program.
        validate_writes: resource types whose declared profiles are checked on write.
    """

    home: Path
    profiles: Path
    port: int
    grants: GrantSigner = field(repr=False)
    database: str = field(repr=False)
    public_base_url: str = ""
    hook_base: str = ""
    heap: str = "1g"
    address: str = "127.0.0.1"
    java: str = "java"
    validate_writes: tuple[str, ...] = ()
    ddl: str = "none"

    @property
    def base_url(self) -> str:
        """FHIR base URL for Hilum's own processes on this machine."""
        return f"http://127.0.0.1:{self.port}/fhir"


def command(config: HapiConfig) -> list[str]:
    """The command line. Secrets are not in it: every user of the machine can read it."""
    settings = {
        "server.address": config.address,
        "server.port": str(config.port),
        "hilum.profiles": str(config.profiles.resolve()),
        "hilum.public-base-url": config.public_base_url,
        "hilum.hook-base": config.hook_base,
        "hilum.validate-writes": ",".join(config.validate_writes),
        "hilum.ddl": config.ddl,
    }
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    jar = str((config.home / JAR).resolve())
    return [config.java, f"-Xmx{config.heap}", *JAVA_FLAGS, "-jar", jar, *arguments]


def environment(config: HapiConfig) -> dict[str, str]:
    """The variables to set beside the inherited ones: the database and the grants' key."""
    place = conninfo_to_dict(config.database)
    host, port = place.get("host", "127.0.0.1"), place.get("port", "5432")
    # logServerErrorDetail=false: PostgreSQL's detail line quotes key values, which may be names.
    options = "logServerErrorDetail=false&ApplicationName=hilum-hapi"
    return {
        "HILUM_HAPI_GRANT_KEY": config.grants.public_jwk,
        "SPRING_DATASOURCE_URL": f"jdbc:postgresql://{host}:{port}/{place['dbname']}?{options}",
        "SPRING_DATASOURCE_USERNAME": str(place.get("user", "")),
        "SPRING_DATASOURCE_PASSWORD": str(place.get("password", "")),
    }


def is_ready(config: HapiConfig) -> bool:
    """Whether *our* server can work: context up, search parameters there, grant accepted.

    A grant is shown so that another server on the port is not taken for this one.
    """
    try:
        answer = httpx.get(
            f"http://127.0.0.1:{config.port}/health",
            headers=config.grants.credentials(NOTHING)("GET", "health"),
            timeout=2.0,
            trust_env=False,
        )
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK


def wait_until_ready(
    config: HapiConfig, log_file: Path, process: subprocess.Popen[bytes], timeout_s: float = 180.0
) -> float:
    """Wait until the server can work.

    Returns:
        Seconds waited.

    Raises:
        FhirStoreError: Java died or was not ready in time; ends with its last log lines.
    """
    begin = time.monotonic()
    while not is_ready(config):
        waited = time.monotonic() - begin
        if process.poll() is not None:
            what = f"HAPI ended with status {process.returncode} after {waited:.0f} s"
            raise FhirStoreError(f"{what}; {log_file} ends with:\n{tail(log_file)}")
        if waited > timeout_s:
            what = f"HAPI was not ready after {timeout_s:.0f} s"
            raise FhirStoreError(f"{what}; {log_file} ends with:\n{tail(log_file)}")
        time.sleep(0.1)
    return time.monotonic() - begin


def check_installation(config: HapiConfig) -> None:
    """See that Java is there and new enough and that the server was built.

    Raises:
        FhirStoreError: says what is missing and how to get it.
    """
    if not (config.home / JAR).is_file() or not (config.home / "lib").is_dir():
        raise FhirStoreError(
            f"{config.home / JAR} is not there: build it with `make setup` or `mvn -f hapi package`"
        )
    hint = (
        f"Hilum needs a Java runtime {OLDEST_JAVA}+ (Debian: apt install openjdk-17-jre-headless)"
    )
    try:
        shown = subprocess.run(  # noqa: S603 - the configured Java, no shell
            [config.java, "-version"], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FhirStoreError(f"{config.java} could not be run ({error}). {hint}") from error
    found = re.search(r'version "(\d+)', shown.stderr + shown.stdout)
    if found is None or int(found[1]) < OLDEST_JAVA:
        version = found[1] if found else "unknown"
        raise FhirStoreError(f"{config.java} is version {version}. {hint}")


class HapiServer:
    """One running server as a child process, which dies with this process.

    Start it from a thread that lives as long as the server should (see `death_signal`).
    """

    def __init__(self, config: HapiConfig, log_file: Path) -> None:
        self.config = config
        self.log_file = log_file
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float = 180.0) -> float:
        """Start the server and wait until it is ready.

        Returns:
            Seconds from start to ready.

        Raises:
            FhirStoreError: it died or was not ready in time; ends with its last log lines.
        """
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
                command(self.config),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **environment(self.config)},
                start_new_session=True,
                preexec_fn=_die_at_once,
            )
        try:
            return wait_until_ready(self.config, self.log_file, self.process, timeout_s)
        except FhirStoreError:
            self.kill()
            raise

    def stop(self, timeout_s: float = 20.0) -> None:
        """Let it finish the requests in hand; kill it when that takes too long."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("HAPI killed: did not stop in time", pid=self.process.pid)
        self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


@dataclass(frozen=True, slots=True)
class Preparation:
    """What `prepare_database` did: `kept`, `restored` or `built`, and in how many seconds."""

    how: str
    seconds: float


def prepare_database(config: HapiConfig, cache: Path, log_file: Path) -> Preparation:
    """See that HAPI's database exists, with tables and search parameters.

    An empty one is restored from the dump in the cache folder or, the first time, made by
    HAPI itself and then dumped there. One that another HAPI version made is brought up to
    date by HAPI (new tables and columns only: for production read HAPI's migration notes).

    Raises:
        FhirStoreError: HAPI could not make it; ends with its last log lines.
    """
    begin = time.monotonic()
    check_installation(config)
    version = hapi_version(config.home)
    _create_database(config.database)
    state = _prepared_by(config.database)
    if state == version:
        return Preparation("kept", time.monotonic() - begin)
    dump = cache / f"hapi-{fingerprint(config)}.dump"
    if state is None and dump.is_file() and _restore(config.database, dump):
        return Preparation("restored", time.monotonic() - begin)
    with HapiServer(replace(config, ddl="update"), log_file):
        log.info("HAPI made its database", hapi=version)
    if state is None:
        _dump(config.database, dump)
    return Preparation("built", time.monotonic() - begin)


def hapi_version(home: Path) -> str:
    """Version of the HAPI modules in lib/."""
    for path in (home / "lib").glob("hapi-fhir-base-*.jar"):
        return path.stem.removeprefix("hapi-fhir-base-")
    raise FhirStoreError(f"{home / 'lib'} has no HAPI modules: build them with `make setup`")


def fingerprint(config: HapiConfig) -> str:
    """Name for the content of a prepared database: the jars and the search parameters' files.

    The jars go in by name: their versions decide the tables, and a rebuild keeps them.
    """
    digest = hashlib.sha256()
    for jar in sorted(path.name for path in (config.home / "lib").glob("*.jar")):
        digest.update(jar.encode() + b"\n")
    for folder in ("us-core", "searchparameter"):
        for path in sorted((config.profiles / folder).iterdir()):
            digest.update(path.name.encode() + b"\n" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _create_database(dsn: str) -> None:
    name = conninfo_to_dict(dsn)["dbname"]
    try:
        psycopg.connect(dsn, connect_timeout=10).close()
    except psycopg.OperationalError:
        place = make_conninfo(dsn, dbname="postgres", connect_timeout=10)
        with psycopg.connect(place, autocommit=True) as connection:
            statement = sql.SQL("create database {}").format(sql.Identifier(str(name)))
            connection.execute(statement)


def _prepared_by(dsn: str) -> str | None:
    """HAPI version that prepared the database; "" when it has tables but no note; None if empty."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute(
            "select to_regclass('public.hilum_prepared') is not null,"
            " to_regclass('public.hfj_resource') is not null"
        ).fetchone()
        noted, tables = row or (False, False)
        if not noted:
            return "" if tables else None
        version = connection.execute("select hapi from hilum_prepared").fetchone()
        return str(version[0]) if version else ""


def _restore(dsn: str, dump: Path) -> bool:
    # In one transaction: a server that does not understand the dump is left empty.
    done = _postgres_program(
        dsn, ["pg_restore", "--single-transaction", "--no-owner", "--dbname", "{}", str(dump)]
    )
    if done.returncode != 0:
        log.warning("dump not restored, making the database instead", error=done.stderr[-500:])
    return done.returncode == 0


def _dump(dsn: str, dump: Path) -> None:
    dump.parent.mkdir(parents=True, exist_ok=True)
    # Own name while it is written: two stacks may prepare at once, and a reader sees whole files.
    fresh = dump.with_suffix(f".{os.getpid()}.new")
    done = _postgres_program(
        dsn, ["pg_dump", "--format=custom", "--no-owner", "--file", str(fresh), "--dbname", "{}"]
    )
    if done.returncode == 0:
        fresh.replace(dump)
    else:
        fresh.unlink(missing_ok=True)
        log.warning("prepared database not cached", error=done.stderr[-500:])


def _postgres_program(dsn: str, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    parts = conninfo_to_dict(dsn)
    password = str(parts.pop("password", ""))  # by the environment: arguments are public
    place = make_conninfo("", **parts)
    command_line = [word.replace("{}", place) for word in words]
    return subprocess.run(  # noqa: S603 - the wheel's program, no shell
        [str(programs() / command_line[0]), *command_line[1:]],
        capture_output=True,
        text=True,
        env={**os.environ, "PGPASSWORD": password},
        timeout=300,
    )


def _die_at_once() -> None:
    set_death_signal(signal.SIGKILL)
