"""Where the command line writes: paths that cannot be, streams that are gone, and text that has no form in a file."""

from __future__ import annotations

import io
import json
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiocarbon import sync
from aiocarbon.cli.main import main
from aiocarbon.cli.output import Shown, coloured, folder_problem, write_json, write_text
from aiocarbon.render.escape import harmless

LONG = "x" * 300
"""No file may be called so."""


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o000)
    if os.access(folder, os.X_OK):
        pytest.skip("root may search everywhere")
    yield folder
    folder.chmod(0o700)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "--json", LONG, "--", "true"], 2, f"--json {LONG} cannot be written: File name too long"),
        (["run", "--json", f"{LONG}/x", "--", "true"], 2, "cannot be written: File name too long"),
        (["intensity", "--json", LONG], 2, "cannot be written: File name too long"),
        (["report", "--html", LONG], 2, "cannot be written: File name too long"),
        (["dash", LONG], 2, f"{LONG} cannot be looked at: File name too long"),
        (["import", "codecarbon", LONG], 1, f"{LONG} cannot be looked at: File name too long"),
        (["compare", LONG, LONG], 1, f"{LONG} is not there, and there is no folder aiocarbon_runs"),
    ],
    ids=lambda value: " ".join(value).replace(LONG, "long") if isinstance(value, list) else "",
)
def test_a_path_that_is_too_long_is_told_in_a_line(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # the default folder is the process's own
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("before", "behind", "code"),
    [
        ("run --json", "-- true", 2),
        ("intensity --json", "", 2),
        ("report --html", "", 2),
        ("dash", "", 2),
        ("import codecarbon", "", 1),
        ("compare", "x", 1),
    ],
)
def test_a_path_in_a_folder_that_may_not_be_searched_is_told_in_a_line(
    before: str, behind: str, code: int, closed_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*before.split(), str(closed_folder / "x"), *behind.split()]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "closed/x cannot be " in err
    assert err.endswith("Permission denied\n")
    assert err.count("\n") == 1


def test_a_name_that_is_too_long_for_a_path_is_looked_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the default folder is the process's own
    name = "\u6f22" * 100
    with sync.Tracker(name=name, meters="simulated:250", location="DK", journal="aiocarbon_runs"):
        pass
    assert main(["compare", name, name, "--json", "-"]) == 0
    assert name in capsys.readouterr().out


def test_a_file_may_be_written_where_there_is_a_folder(tmp_path: Path) -> None:
    assert folder_problem(str(tmp_path / "new")) == folder_problem("-") == folder_problem(None) == ""
    assert "is a folder" in folder_problem(str(tmp_path))
    assert "there is no folder" in folder_problem(str(tmp_path / "no" / "x"))


def test_bytes_of_a_name_that_are_no_utf_8_are_written_by_number(tmp_path: Path) -> None:
    path = tmp_path / "x"
    value = {"name": "a\udcff\u00b5"}
    assert write_json(str(path), value) == ""
    assert json.loads(path.read_text(encoding="utf-8")) == value
    assert write_text(str(path), "a\udcff\u00b5") == ""
    assert path.read_text(encoding="utf-8") == "a\\udcff\u00b5\n"


@pytest.mark.parametrize(("encoding", "seen"), [("utf-8", "a?\u00b5"), ("latin-1", "a?\u00b5"), ("ascii", "a??")])
def test_a_stream_shows_what_it_can(encoding: str, seen: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    shown = Shown(stream)
    shown.write("a\udcff\u00b5")
    stream.seek(0)
    assert (stream.read(), shown.problem) == (seen, "")


def test_what_a_closed_stream_does_not_take_is_kept_as_its_problem() -> None:
    stream = io.StringIO()
    shown = Shown(stream)
    shown.write("a")
    assert (stream.getvalue(), shown.problem) == ("a", "")
    stream.close()
    for out in (shown, Shown(None)):
        assert out.write("b") == 1
        out.flush()
        assert not out.isatty()
        assert out.problem == "stdout cannot be written: it is closed"


FOREIGN = "\x1b]0;mine\x07\x1b[2J\x9b31m\x7f\r\u202e\u2066\u2028"
"""What a terminal would obey: a title, a cleared screen, colours by C1, a line begun again, letters turned round."""

FREE = {"name", "host", "text", "note", "source", "zone", "how", "region", "version", "job", "rules"}
"""Fields of a journal's records that hold whatever somebody wrote there."""


def defaced(value: object, key: str = "") -> object:
    """A record whose free texts are commands to a terminal, and try to begin a line of their own."""
    if isinstance(value, dict):
        return {name: defaced(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [defaced(one, key) for one in value]
    return f"{value}{FOREIGN}\n  energy      0 Wh" if isinstance(value, str) and key in FREE else value


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    for run_id in ("a", "b"):
        with sync.Tracker(name="x", run_id=run_id, meters="simulated:250", location="DK", journal=folder) as tracker:
            with tracker.epoch(), tracker.span(f"roll{FOREIGN}"):
                pass
    for file in folder.rglob("*.jsonl"):
        records = [defaced(json.loads(line)) for line in file.read_bytes().splitlines()]
        records.insert(-1, {"k": "warning", "t": 0, "text": f"see{FOREIGN}\n  energy      0 Wh"})
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--by", "name"],
        *([form, "-"] for form in ("--statement", "--markdown", "--latex", "--csv", "--html", "--json")),
    ],
    ids=" ".join,
)
def test_a_foreign_journal_commands_no_terminal(
    words: list[str], foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (foreign / "a", foreign):
        assert main(["report", str(path), *words]) == 0
        out, err = capsys.readouterr()
        assert "simulated-0" in out or words
        assert "mine" in out
        assert not [
            letter for letter in out + err if letter != "\n" and unicodedata.category(letter) in ("Cc", "Cf", "Zl")
        ]
        if words == ["--json", "-"]:  # the names are what they were
            assert {run["name"].partition("\n")[0] for run in json.loads(out)["runs"]} == {f"x{FOREIGN}"}
        if not words:
            assert len([one for one in out.splitlines() if one.startswith("  energy      ")]) == (
                1 if path.name == "a" else 3
            )


def test_two_foreign_runs_side_by_side_command_no_terminal(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(foreign / "a"), str(foreign / "b")]) == 0
    assert all(letter.isprintable() or letter == "\n" for letter in capsys.readouterr().out)


def test_of_what_is_painted_only_the_paint_is_a_command() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    text = f"aiocarbon: a\x1b[5mb\n  warning     \x9b2J{FOREIGN[:1]}"
    assert coloured(text, Terminal(), {}) == (
        "\x1b[1maiocarbon: a\\u001b[5mb\x1b[0m\n\x1b[33m  warning     \\u009b2J\\u001b\x1b[0m"
    )
    assert harmless("tab\tbreak\n\u00e4\u2212\U0001f331") == "tab\tbreak\n\u00e4\u2212\U0001f331"
