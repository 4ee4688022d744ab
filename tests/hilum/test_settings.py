"""Settings: typed, from file and environment, with errors that say what to do."""

import pytest

from hilum import settings as module
from hilum.settings import SettingsError, as_environment, load, rows


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    import os

    for name in [name for name in os.environ if name.startswith("HILUM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_the_environment_overrides_the_file(monkeypatch, tmp_path):
    (tmp_path / "hilum.toml").write_text("[http]\nport = 9000\n[dimse]\nport = 9001\n")
    monkeypatch.setenv("HILUM_HTTP__PORT", "9002")

    found = load()

    assert (found.http.port, found.dimse.port) == (9002, 9001)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[http]\nport = 'x'\n", "HILUM_HTTP__PORT"),
        ("[http]\nprot = 80\n", "http.prot"),
        ("[http\n", "hilum.toml"),
        ("[publish]\nquiet_s = 0\n", "publish.quiet_s"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, word):
    (tmp_path / "hilum.toml").write_text(text)

    with pytest.raises(SettingsError, match=word):
        load()


def test_a_settings_file_that_is_not_there_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv(module.SETTINGS_FILE, str(tmp_path / "none.toml"))

    with pytest.raises(SettingsError, match=r"none\.toml"):
        load()


def test_a_child_process_reads_the_same_settings(monkeypatch):
    found = load(http={"port": 1234, "cors_origins": ("https://a.example",)}, internal_secret="s")

    for name, value in as_environment(found).items():
        monkeypatch.setenv(name, value)

    assert load() == found


def test_every_setting_says_what_it_means_and_no_secret_is_shown():
    found = rows(load(internal_secret="hidden", database={"url": "postgresql://u:hidden@h/d"}))

    assert all(row.description for row in found)
    assert not [row for row in found if "hidden" in row.value]
