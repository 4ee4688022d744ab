"""The `hilum` command: help for everything, and errors that say what to do."""

import socket

import pytest
from typer.testing import CliRunner

from hilum.cli import app
from hilum.settings import load
from hilum.stack import EVERY_PORT, StackError, with_ports

runner = CliRunner()
COMMANDS = ["up", "web", "dimse", "hapi", "worker", "status", "send", "token", "export"]


@pytest.mark.parametrize("command", [*COMMANDS, "settings", "demo", "peers"])
def test_every_command_explains_itself(command):
    shown = runner.invoke(app, [command, "--help"])

    assert shown.exit_code == 0
    assert "Usage" in shown.output


@pytest.mark.parametrize("words", [["status"], ["export", "out"], ["peers", "list"]])
def test_a_command_without_a_running_stack_says_how_to_start_one(words, tmp_path):
    shown = runner.invoke(app, [*words, "--data", str(tmp_path)])

    assert shown.exit_code == 1
    assert "hilum up" in shown.output


def test_send_says_when_there_is_nothing_to_send(tmp_path):
    (tmp_path / "note.txt").write_text("not DICOM")

    shown = runner.invoke(app, ["send", str(tmp_path)])

    assert shown.exit_code == 1
    assert "no DICOM file" in shown.output


@pytest.mark.parametrize("target", ["NOWHERE@host", "A@h:99999", "@h:1"])
def test_send_refuses_an_address_that_is_not_one(target, tmp_path):
    from pydicom.data import get_testdata_file

    file = str(get_testdata_file("CT_small.dcm"))

    shown = runner.invoke(app, ["send", file, "--to", target])

    assert shown.exit_code == 1
    assert "not sent" in shown.output


def test_a_taken_port_is_named_with_the_setting_that_changes_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = load(data=tmp_path, http={"port": taken.getsockname()[1]})

        with pytest.raises(StackError, match="HILUM_HTTP__PORT"):
            with_ports(settings)


def test_the_demo_moves_to_a_free_port_when_the_usual_one_is_taken(tmp_path, monkeypatch):
    monkeypatch.delenv("HILUM_HTTP__PORT", raising=False)
    settings = load(data=tmp_path)
    monkeypatch.setattr("hilum.stack._is_taken", lambda _port: True)

    moved = with_ports(settings, EVERY_PORT)

    assert settings.http.port not in (0, moved.http.port)
