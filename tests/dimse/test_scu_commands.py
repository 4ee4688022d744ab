"""`hilum echo|find|retrieve|send`: clear words, and exit statuses that scripts can use."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from dimse.query import scp as query
from dimse.retrieve.scp import Getting, Moving, RetrieveConfig, service
from dimse.scu.negotiation import Calling
from hilum.cli import app
from tests.archive.phantom import bytes_of, slice_of
from tests.dimse.partners import free_port, receiver, stored_study

runner = CliRunner()


def hilum(*words):
    return runner.invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})


@pytest.fixture
def pacs(open_door, tmp_path, monkeypatch):
    """A door that answers queries and retrievals, as AET@HOST:PORT."""
    monkeypatch.setenv("HILUM_DATA", str(tmp_path / "var"))

    def start(*destinations):
        def services(archive, ledger):
            config = RetrieveConfig(Moving(Calling(connect_s=5, answer_s=10)), Getting(10))
            return [
                query.service(archive, ledger, query.QueryConfig()),
                service(archive, lambda: destinations, ledger, config),
            ]

        return f"HILUM@127.0.0.1:{open_door(services=services).port}"

    return start


def test_echo_tells_whether_the_peer_is_there(pacs):
    there = hilum("echo", pacs())
    gone = hilum("echo", f"GONE@127.0.0.1:{free_port()}")
    nonsense = hilum("echo", "GONE@nowhere")

    assert there.exit_code == 0
    assert "answers" in there.output
    assert gone.exit_code == 1
    assert "could not be reached: Connection refused" in gone.output
    assert nonsense.exit_code == 1
    assert "AET@HOST:PORT" in nonsense.output


def test_find_shows_a_table_or_json(pacs, archive):
    study, _ = stored_study(archive, 2, PatientName="Grün^Änne", StudyDescription="[bold]Head")
    peer = pacs()

    table = hilum("find", peer, "-k", f"StudyInstanceUID={study}", "-k", "PatientName=gr*")
    found = hilum("find", peer, "--level", "series", "--json", "-k", f"StudyInstanceUID={study}")
    nothing = hilum("find", peer, "-k", "PatientID=nobody at all")
    wrong = hilum("find", peer, "-k", "PatientsName=x")

    assert table.exit_code == 0, table.output
    assert "Grün^Änne" in table.output
    assert "[bold]Head" in table.output
    series = json.loads(found.output[found.output.index("[\n") :])
    assert series[0]["00201209"]["Value"] == [2]
    assert "nothing found" in nothing.output
    assert wrong.exit_code == 1
    assert "no DICOM attribute 'PatientsName'" in wrong.output


def test_retrieve_fetches_into_a_folder_or_moves(pacs, archive, tmp_path):
    study, uids = stored_study(archive, 3)
    with receiver() as found:
        peer = pacs(found.peer)
        folder = tmp_path / "out"

        got = hilum("retrieve", peer, "--study", study, "--out", folder)
        moved = hilum("retrieve", peer, "--study", study, "--move-to", "RECV")
        unknown = hilum("retrieve", peer, "--study", study, "--move-to", "NOBODY")
        nothing = hilum("retrieve", peer, "--study", "1.2.3.4.5", "--out", folder)
        both = hilum("retrieve", peer, "--study", study, "--move-to", "A", "--out", folder)

        assert got.exit_code == 0, got.output
        assert "3 retrieved, 0 failed" in got.output
        assert sorted(path.stem for path in folder.rglob("*.dcm")) == sorted(uids)
        assert moved.exit_code == 0, moved.output
        assert len(found.requests) == 3
        assert unknown.exit_code == 1
        assert "does not know the AE title" in unknown.output
        assert nothing.exit_code == 1
        assert "nothing there" in nothing.output
        assert both.exit_code == 1


def test_one_instance_can_be_retrieved(pacs, archive, tmp_path):
    study, uids = stored_study(archive, 3)
    series = archive.study_instances(study)[0].key.series
    words = ["--series", series, "--instance", uids[1], "--out", tmp_path / "out"]

    got = hilum("retrieve", pacs(), "--study", study, *words)

    assert got.exit_code == 0, got.output
    assert [path.stem for path in (tmp_path / "out").rglob("*.dcm")] == [uids[1]]


def test_send_uses_several_associations(pacs, archive, tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.dcm").write_bytes(bytes_of(slice_of()))
    with receiver() as found:
        peer = f"RECV@127.0.0.1:{found.peer.port}"

        sent = hilum("send", folder, "--to", peer, "--associations", "3")

        assert sent.exit_code == 0, sent.output
        assert "6 of 6 instances stored" in sent.output
        assert len(found.associations) == 3
