"""The command line's grammar."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aiocarbon import sync
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


INTERRUPTS = """
import os, signal, sys
def hook(event, args):
    if event == "import" and args[0] == os.environ["INTERRUPTED_AT"]:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(hook)
"""
"""A module that Python imports first: Ctrl-C comes where a certain module begins to be imported."""


@pytest.mark.parametrize(
    ("module", "codes"),
    [
        ("aiocarbon.cli.main", (-signal.SIGINT,)),
        ("argparse", (-signal.SIGINT,)),
        ("aiocarbon.cli.options", (-signal.SIGINT,)),
        ("aiocarbon.journal.read", (130,)),
        ("aiocarbon.no_such", (0,)),
    ],
)
@pytest.mark.parametrize("program", [["-m", "aiocarbon"], ["-c", "from aiocarbon.cli import entry; entry()"]], ids=len)
def test_an_interrupt_while_it_is_imported_ends_it_quietly(
    program: list[str], module: str, codes: tuple[int, ...], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS)
    with sync.Tracker(meters="simulated:250", location="DK", journal=tmp_path / "runs"):
        pass
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]), "INTERRUPTED_AT": module}
    words = [sys.executable, *program, "report", str(tmp_path / "runs")]
    done = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode in codes
    # Who is told to be left alone by it (nohup, a script's background) goes on.
    ignoring = ["/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *words]
    done = subprocess.run(ignoring, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
