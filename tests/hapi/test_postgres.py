"""The embedded PostgreSQL: what a crash leaves, who may enter, who is refused."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import psycopg
import pytest

from hilum.processes.postgres import AlreadyRunning, Postgres
from hilum.processes.service_user import ServiceUser, ServiceUserError
from tests.fixtures.stores import free_port


@pytest.fixture
def folder():
    path = Path(tempfile.mkdtemp(prefix="hilum-test-postgres-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(folder):
    server = Postgres(folder / "postgres", free_port())
    server.start()
    yield server
    server.stop()


def insert(server):
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute("create table if not exists kept (n int)")
        connection.execute("insert into kept values (1)")


def rows(server):
    with psycopg.connect(server.dsn("postgres")) as connection:
        return connection.execute("select count(*) from kept").fetchone()[0]


def test_what_was_committed_survives_kill_9(server):
    insert(server)
    os.kill(server.pid, signal.SIGKILL)

    server.start()

    assert rows(server) == 1


def test_a_lock_file_of_a_number_that_another_process_has_now_does_not_block(server):
    insert(server)
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait(10)
    lock = server.data / "postmaster.pid"
    lock.write_text(lock.read_text().replace(str(pid), str(os.getpid()), 1))

    server.start()

    assert rows(server) == 1


def test_a_second_server_on_the_folder_is_refused_and_the_first_stays(server, monkeypatch):
    monkeypatch.setattr("hilum.processes.postgres.LEFTOVER_WAIT_S", 0.5)

    with pytest.raises(AlreadyRunning, match=str(server.pid)):
        Postgres(server.folder, free_port()).prepare()

    assert server.is_ready()


def test_only_the_password_lets_in_and_only_the_owner_may_read_it(server):
    wrong = server.dsn("postgres").replace(server.password, "wrong")

    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(wrong)

    assert stat.S_IMODE((server.folder / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700


def test_it_listens_on_the_loopback_only_and_syncs_to_disk(server):
    with psycopg.connect(server.dsn("postgres")) as connection:
        shown = [
            connection.execute(f"show {name}").fetchone()[0]
            for name in ("listen_addresses", "fsync", "synchronous_commit", "full_page_writes")
        ]

    assert shown == ["127.0.0.1", "on", "on", "on"]


def test_a_failing_statement_is_not_written_to_the_log(server):
    with psycopg.connect(server.dsn("postgres"), autocommit=True) as connection:
        connection.execute("create table one (name text primary key)")
        connection.execute("insert into one values ('Doe^Jane')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("insert into one values ('Doe^Jane')")

    text = server.log_file.read_text()
    assert "duplicate key" in text
    assert "Jane" not in text


def test_a_database_is_made_once(server):
    assert [server.create_database("a-b") for _ in range(2)] == [True, False]


def test_it_shuts_down_in_order_when_its_owner_is_killed(folder):
    port = free_port()
    program = (
        "import sys, time; from pathlib import Path; from hilum.processes.postgres import Postgres;"
        "server = Postgres(Path(sys.argv[1]), int(sys.argv[2])); server.start();"
        "print('up', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(folder / "postgres"), str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    server = Postgres(folder / "postgres", port)
    while owner.stdout.readline().strip() != "up":
        assert owner.poll() is None
    process = psutil.Process(server.pid)

    owner.kill()
    owner.wait(10)
    owner.stdout.close()

    process.wait(15)
    assert "database system is shut down" in server.log_file.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_a_closed_folder_above_is_made_passable_but_not_listable(folder):
    closed = folder / "home"
    closed.mkdir(mode=0o700)
    server = Postgres(closed / "data" / "postgres", free_port())

    server.start()
    server.stop()

    assert stat.S_IMODE(closed.stat().st_mode) == 0o701


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the user")
def test_a_folder_that_cannot_be_opened_gives_a_helpful_error(folder, monkeypatch):
    closed = folder / "home"
    closed.mkdir(mode=0o700)

    def refuse(self, mode):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(ServiceUserError, match="HILUM_DATA"):
        ServiceUser.for_this_process().open_way(closed)


def test_an_ordinary_user_needs_nothing_changed(folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    folder.chmod(0o700)
    user = ServiceUser.for_this_process()

    user.open_way(folder)

    assert user.popen_options() == {}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
