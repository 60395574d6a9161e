"""`aiocarbon run --resume`: a command that was killed with its tracker, or by its scheduler, goes on as one run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiocarbon.cli.resume import with_resume
from aiocarbon.journal import load

KILLED = "import os, signal, time; time.sleep(0.3); os.kill(os.getppid(), signal.SIGKILL)"
DONE = "import time; time.sleep(0.2)"


def run(folder: Path, *options: str, command: str = DONE, **environ: str) -> subprocess.CompletedProcess[str]:
    known = ("--meters", "simulated:300", "--location", "DK", "--interval-s", "0.05", "--json", str(folder / "out"))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    return subprocess.run(
        [sys.executable, "-m", "aiocarbon", "run", *known, *options, "--", sys.executable, "-c", command],
        cwd=folder,
        env=clean | {"PYTHONPATH": os.pathsep.join(sys.path)} | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_alone_it_goes_on_with_the_newest_run_that_was_broken_off(tmp_path: Path) -> None:
    first = run(tmp_path, "--name", "bert", "--resume", command=KILLED)
    assert first.returncode == -signal.SIGKILL
    assert "no run called bert in aiocarbon_runs was broken off: a new one begins" in first.stderr
    other = run(tmp_path, "--name", "other", "--resume")
    assert "a new one begins" in other.stderr
    second = run(tmp_path, "--name", "bert", "--resume")
    assert second.returncode == 0
    assert "goes on" in second.stderr
    report = json.loads((tmp_path / "out").read_text())
    assert [attempt["ended_well"] for attempt in report["attempts"]] == [False, True]
    assert report["paused_s"] > 0.0
    assert "in which nothing of it ran" in second.stderr
    loaded = load(tmp_path / "aiocarbon_runs")
    assert sorted(len(run.attempts) for run in loaded.runs) == [0, 2]
    (read,) = (run for run in loaded.runs if run.name == "bert")
    assert read.it_energy_kwh == pytest.approx(report["it_energy_kwh"], rel=1e-6)
    # Where the kill came late behind the newest reading, none vouches for the milliseconds between.
    assert read.it_energy_kwh * 3.6e6 == pytest.approx(300.0 * read.duration_s * read.coverage, rel=0.005)
    third = run(tmp_path, "--name", "bert", "--resume")  # that one has ended well by now
    assert "a new one begins" in third.stderr


def test_a_command_that_a_signal_ended_goes_on_too(tmp_path: Path) -> None:
    killed = run(tmp_path, "--resume", command="import os; os.kill(os.getpid(), 15)")
    assert killed.returncode == 128 + signal.SIGTERM
    assert "goes on" in run(tmp_path, "--resume").stderr
    (read,) = load(tmp_path / "aiocarbon_runs").runs
    assert read.ended_well


def test_a_requeued_job_goes_on_with_its_own_run(tmp_path: Path) -> None:
    for restart, command in (("0", KILLED), ("1", DONE)):
        done = run(tmp_path, "--resume", command=command, SLURM_JOB_ID="7", SLURM_RESTART_COUNT=restart)
    assert done.returncode == 0
    report = json.loads((tmp_path / "out").read_text())
    assert report["run_id"] == "slurm-7"
    assert len(report["attempts"]) == 2
    (read,) = load(tmp_path / "aiocarbon_runs").runs
    assert read.it_energy_kwh == pytest.approx(report["it_energy_kwh"], rel=1e-6)


@pytest.mark.parametrize("said", ["job", "elsewhere/job"])
def test_a_run_is_named_by_its_id_or_folder(tmp_path: Path, said: str) -> None:
    folder = Path(said).parent if "/" in said else Path("aiocarbon_runs")
    run(tmp_path, "--run-id", "job", "--journal", str(folder), command=KILLED)
    done = run(tmp_path, "--resume", said)
    assert done.returncode == 0
    assert len(json.loads((tmp_path / "out").read_text())["attempts"]) == 2
    assert [entry.name for entry in (tmp_path / folder).iterdir()] == ["job"]


def test_what_is_no_run_is_wrong_usage_and_nothing_starts(tmp_path: Path) -> None:
    done = run(tmp_path, "--resume", "no word", command="open('started', 'w')")
    assert done.returncode == 2
    assert "resume" in done.stderr
    assert not (tmp_path / "started").exists()


def put(run: Path, file: str = "x-1-0.jsonl", **header: Any) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    (run / file).write_text(json.dumps(header) + "\n")
    return run


def test_what_is_kept_beside_a_journal_and_a_copy_make_no_run_newer(tmp_path: Path) -> None:
    for number, run_id in enumerate(("old", "new", "older"), 1):  # written in an order of its own, as copies are
        wall_ns = 10**18 + 10**9 * (number % 3)
        run = put(tmp_path / run_id, run_id=run_id, name="bert", pid=1, wall_ns=wall_ns, boot_id="else")
        os.utime(run / "x-1-0.jsonl", (1e9 + number, 1e9 + number))
    (tmp_path / "old" / "x-1-0.intensity").touch()  # as `report --refresh` does
    settings, word = with_resume({"resume": True}, tmp_path, "", "bert")
    assert settings["run_id"] == "new"
    assert "new goes on" in word


@pytest.mark.parametrize("foreign", [{"pid": None}, {"pid": "x", "wall_ns": {}}, {"pid": 1e999, "run_id": "else"}])
def test_a_foreign_file_beside_a_journal_is_passed_by(tmp_path: Path, foreign: dict[str, Any]) -> None:
    put(tmp_path / "job", run_id="job", name="", pid=1, wall_ns=10**18)
    put(tmp_path / "job", "y.jsonl", **foreign)
    settings, _ = with_resume({"resume": True}, tmp_path, "", "")
    assert settings["run_id"] == "job"


@pytest.mark.parametrize("bad", [{"pid": None}, {"pid": 1e999}, {"wall_ns": [1]}, {"wall_ns": "x"}])
def test_a_run_with_a_journal_that_is_none_is_passed_by(tmp_path: Path, bad: dict[str, Any]) -> None:
    put(tmp_path / "job", **{"run_id": "job", "name": "", "pid": 1, "wall_ns": 10**18, **bad})
    settings, word = with_resume({"resume": True}, tmp_path, "", "")
    assert "resume" not in settings
    assert "a new one begins" in word


def test_folders_that_hold_no_run_are_passed_by(tmp_path: Path) -> None:
    runs = tmp_path / "aiocarbon_runs"
    for name, content in (("torn", b'{"schema":'), ("empty", b""), ("other", b'{"run_id":"else","name":""}\n')):
        (runs / name).mkdir(parents=True)
        (runs / name / "x-1-0.jsonl").write_bytes(content)
    (runs / "no-files").mkdir()
    done = run(tmp_path, "--resume")
    assert done.returncode == 0
    assert "a new one begins" in done.stderr
