"""`aiocarbon report` over journals that real runs left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aiocarbon.cli.main import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("one", "two"):
        options = [
            "--meters",
            "simulated:250",
            "--location",
            "DK",
            "--quiet",
            "--run-id",
            name,
            "--journal",
            str(folder),
        ]
        code = "import time; time.sleep(0.1)"
        command = [sys.executable, "-m", "aiocarbon", "run", *options, "--", sys.executable, "-c", code]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    return folder


def test_one_run_is_told_as_it_was_at_its_end(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs / "one")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("aiocarbon: one on ")
    assert "simulated-0" in out
    assert "together" not in out
    assert err == ""


def test_several_runs_are_followed_by_their_total(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs)]) == 0
    out, _ = capsys.readouterr()
    assert [line for line in out.splitlines() if line.startswith("aiocarbon: ")][-1] == "aiocarbon: 2 runs together"


@pytest.mark.parametrize("names", [("one",), ("one", "two")])
def test_json_has_always_the_same_form(runs: Path, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *(str(runs / name) for name in names), "--json", "-"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {"schema", "runs", "total"} <= set(data)
    assert [run["run_id"] for run in data["runs"]] == list(names)
    assert data["total"]["it_energy_kwh"] == pytest.approx(sum(run["it_energy_kwh"] for run in data["runs"]))


def test_what_cannot_be_read_is_said_beside_what_can(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs / "one"), str(runs / "nix")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("aiocarbon: one on ")
    assert "nix is not there" in err


def test_nothing_readable_is_a_failure_with_a_clear_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.jsonl").write_text("no journal\n")
    for path in (tmp_path, tmp_path / "nix"):
        assert main(["report", str(path)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert "nothing could be read" in err


def test_output_that_cannot_be_written_is_a_failure(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs), "--json", "/dev/full"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert main(["report", str(runs), "--json", str(runs / "no" / "x")]) == 2


def test_reader_that_goes_away_is_no_traceback(runs: Path) -> None:
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    command = [sys.executable, "-m", "aiocarbon", "report", str(runs)]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, stdout=write_fd, stderr=subprocess.PIPE, text=True, env=environ, check=False)
    os.close(write_fd)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
