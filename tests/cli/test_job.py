"""What the first rank of a job prints: the whole job, as far as it can be read in a bounded time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from aiocarbon._core.identity import decide
from aiocarbon.cli import job
from aiocarbon.cli.job import whole_job
from aiocarbon.journal import load
from aiocarbon.sync import Tracker

WHO = decide(
    {"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURMD_NODENAME": "n1"},
    hostname="h",
    own="own",
)


class Waits:
    """A clock that goes on by what is slept; `then` happens at the second sleep."""

    def __init__(self, then: Any = None) -> None:
        self.now = 0.0
        self.slept = 0
        self._then = then

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1
        if self._then is not None and self.slept == 2:
            self._then()


@pytest.fixture
def mine(tmp_path: Path) -> Any:
    with Tracker(meters="simulated:250", location="DK", run_id=WHO.run_id, journal=tmp_path) as tracker:
        pass
    return tracker.report()


def being_written(folder: Path, attempt: str) -> Path:
    """The files of a process that goes on."""
    path = folder / WHO.run_id / "n2-1-0.jsonl"
    path.write_text(json.dumps({"attempt": attempt}) + "\n")
    path.with_suffix(".tail").write_text("")
    return path


def told(mine: Any, folder: Path | None, waits: Waits, who: Any = WHO) -> Any:
    return whole_job(
        mine, who, folder, clock=waits, wall=lambda: os.stat(__file__).st_mtime + waits.now, sleep=waits.sleep
    )


def test_without_others_or_a_folder_a_process_reports_itself(mine: Any, tmp_path: Path) -> None:
    waits = Waits()
    assert told(mine, None, waits) is mine
    assert told(mine, tmp_path, waits, decide({}, hostname="h", own="own")) is mine
    assert waits.slept == 0


def test_the_job_is_read_from_its_folder(mine: Any, tmp_path: Path) -> None:
    found = told(mine, tmp_path, Waits())
    assert found.run_id == WHO.run_id
    assert found.it_energy_kwh == load(tmp_path).runs[0].it_energy_kwh


def test_others_of_the_attempt_are_waited_for_until_they_end_and_not_for_ever(mine: Any, tmp_path: Path) -> None:
    path = being_written(tmp_path, WHO.attempt)
    age = path.with_suffix(".tail")
    os.utime(age, (os.stat(__file__).st_mtime,) * 2)
    waits = Waits(then=age.unlink)
    told(mine, tmp_path, waits)
    assert waits.slept == 2
    age.write_text("")
    os.utime(age, (os.stat(__file__).st_mtime,) * 2)
    waits = Waits()
    told(mine, tmp_path, waits)
    assert waits.now == pytest.approx(job.PATIENCE_S, abs=2 * job.LOOK_S)


@pytest.mark.parametrize(("attempt", "age_s"), [("another", 0.0), (WHO.attempt, 60.0)])
def test_nobody_waits_for_another_attempt_or_for_one_that_was_killed(
    mine: Any, tmp_path: Path, attempt: str, age_s: float
) -> None:
    path = being_written(tmp_path, attempt)
    os.utime(path.with_suffix(".tail"), (os.stat(__file__).st_mtime - age_s,) * 2)
    waits = Waits()
    told(mine, tmp_path, waits)
    assert waits.slept == 0


def test_a_job_too_large_to_be_read_at_its_end_says_where_it_is(
    mine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "MOST_BYTES", 10)  # the limit is what is tested; files of 64 MB would be the other way
    found = told(mine, tmp_path, Waits())
    assert found.it_energy_kwh == mine.it_energy_kwh
    assert f"aiocarbon report {tmp_path / WHO.run_id}" in found.warnings[-1]


def test_journals_that_cannot_be_read_cost_the_job_s_report_and_not_one_s_own(mine: Any, tmp_path: Path) -> None:
    for path in (tmp_path / WHO.run_id).iterdir():
        path.write_text("no journal\n")
    found = told(mine, tmp_path, Waits())
    assert found.it_energy_kwh == mine.it_energy_kwh
    assert "alone" in found.warnings[-1]
