"""Operator tokens: bounded, and refused when they would grant nothing."""

import pytest

from hilum.commands.minting import mint, seconds_of
from hilum.settings import load
from hilum.wiring import token_authority


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("8h", 28_800), ("30d", 2_592_000)]
)
def test_a_lifetime_is_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "0s", "31d", "-1h", "1w", "1.5h"])
def test_a_lifetime_that_is_wrong_or_too_long_is_refused(text):
    with pytest.raises(ValueError, match="lifetime"):
        seconds_of(text)


def test_a_minted_token_is_accepted_and_means_what_was_asked(tmp_path):
    settings = load(data=tmp_path)

    text = mint(settings, subject="me", scope="system/Patient.r", lifetime="1m", studies=["1.2"])
    caller = token_authority(settings).verify(text)

    assert caller.may("Patient", "r")
    assert not caller.may("Patient", "s")
    assert not caller.may_see_study("1.3")


def test_a_scope_that_grants_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="grants nothing"):
        mint(load(data=tmp_path), subject="me", scope="nonsense", lifetime="1m")


def test_keys_are_readable_by_us_alone(tmp_path):
    mint(load(data=tmp_path), subject="me", scope="system/*.r", lifetime="1m")

    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()}

    assert modes == {0o600}
