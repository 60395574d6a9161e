"""The command line's grammar."""

from __future__ import annotations

import dataclasses

import pytest

from aiocarbon._version import __version__
from aiocarbon.cli.main import main
from aiocarbon.cli.options import make_parser, settings_of, split
from aiocarbon.errors import ConfigError
from aiocarbon.settings import Settings


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["run", "ls"], "-- is required before the command"),
        (["run", "ls", "-c", "x"], "-- is required before the command"),
        (["run", "--name", "x"], "-- is required before the command"),
        (["run", "--"], "the command behind -- is missing"),
        (["run", "stray", "--", "ls"], "unrecognized arguments: stray"),
        (["run", "--nam", "x", "--", "ls"], "unrecognized arguments"),
        (["run", "--json", "no/such/folder/f", "--", "ls"], "there is no folder no/such/folder"),
        (["run", "--json", "/", "--", "ls"], "is a folder"),
        (["doctor", "--", "ls"], "-- belongs to run alone"),
        (["report", "--nosuch"], "--nosuch"),
        (["report", "--json", "no/such/folder/f"], "there is no folder no/such/folder"),
        (["nosuch"], "nosuch"),
        ([], "COMMAND"),
    ],
)
def test_wrong_usage_is_one_line_that_says_how(argv: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert word in err
    assert err.count("\n") == 1


def test_help_and_version_are_no_failures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out
    assert main(["run", "--help"]) == 0
    assert "aiocarbon run [options] -- COMMAND..." in capsys.readouterr().out


def test_every_setting_is_an_option_of_the_same_name(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "--help"])
    text = capsys.readouterr().out
    for field in dataclasses.fields(Settings):
        assert f"--{field.name.replace('_', '-')}" in text


def test_only_the_first_separator_is_ours() -> None:
    assert split(["run", "--", "git", "log", "--", "path"]) == (["run"], ["git", "log", "--", "path"])
    assert split(["run"]) == (["run"], None)


def test_only_what_was_given_is_set_and_it_is_converted() -> None:
    parse = make_parser().parse_args
    assert settings_of(parse(["run"])) == {}
    given = settings_of(
        parse(["run", "--pue", "1.2", "--no-offline", "--strict", "--location", "none", "--epochs", "3"])
    )
    assert given == {"pue": 1.2, "offline": False, "strict": True, "location": None, "epochs": 3}


def test_error_of_a_value_names_the_option() -> None:
    with pytest.raises(ConfigError, match=r"interval_s='0' \(from --interval-s\)"):
        settings_of(make_parser().parse_args(["run", "--interval-s", "0"]))
