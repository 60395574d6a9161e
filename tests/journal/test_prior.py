"""What earlier runs tell a next one of the same name, out of journals that may be torn, huge, foreign or gone."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any

import pytest

from aiocarbon.journal.prior import LAST_BYTES, RUNS, prior_of
from aiocarbon.sync import Tracker


def put(folder: Path, run: str, *, name: str = "job", end: Any = None, age: int = 0, rank: int = 0) -> Path:
    path = folder / run / f"host-1-{rank}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"schema": "aiocarbon.journal/1", "name": name}), json.dumps({"k": "tick"})]
    if end is not None:
        lines.append(end if isinstance(end, str) else json.dumps({"k": "end", "rate": end}))
    path.write_text("\n".join(lines) + "\n")
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def rate(epoch_s: Any, power_w: Any = 100.0) -> dict[str, Any]:
    return {"epochs": 3, "epoch_s": epoch_s, "power_w": power_w}


def test_no_folder_no_name_and_no_journal_tell_nothing(tmp_path: Path) -> None:
    assert prior_of(tmp_path / "not there", "job") is None
    assert prior_of(tmp_path, "job") is None
    put(tmp_path, "nameless", name="", end=rate(10.0))
    assert prior_of(tmp_path, "") is None
    assert prior_of(tmp_path, "job") is None


@pytest.mark.parametrize(
    "end",
    [
        None,
        '{"k": "end", "rate": {"epoch_s": 1',
        "",
        "[]",
        "null",
        {},
        rate("ten"),
        rate(0),
        rate(-1.0),
        rate(float("nan")),
        rate(True),
        {"epoch_s": 3.0},
        [1, 2],
    ],
)
def test_what_cannot_be_read_tells_nothing_and_hides_no_other_run(tmp_path: Path, end: Any) -> None:
    put(tmp_path, "torn", end=end)
    assert prior_of(tmp_path, "job") is None
    put(tmp_path, "good", end=rate(10.0, None), age=5)
    found = prior_of(tmp_path, "job")
    assert found is not None
    assert (found.epoch_s, found.epoch_s_sd, found.power_w, found.power_w_sd, found.runs) == (10.0, None, None, None, 1)


def test_the_newest_runs_of_the_name_count_once_each(tmp_path: Path) -> None:
    for age in range(RUNS + 3):
        put(tmp_path, f"run-{age}", end=rate(10.0 + age, 100.0 + age), age=age)
        put(tmp_path, f"run-{age}", end=rate(1e6), age=age, rank=1)  # another process of the same run
        put(tmp_path, f"other-{age}", name="other", end=rate(1.0), age=age)
    found = prior_of(tmp_path, "job", "run-0")
    assert found is not None
    seconds = [10.0 + age for age in range(1, RUNS + 1)]
    assert found.runs == RUNS
    assert found.epoch_s == pytest.approx(statistics.fmean(seconds))
    assert found.epoch_s_sd == pytest.approx(statistics.stdev(seconds))
    assert found.power_w == pytest.approx(statistics.fmean(seconds) + 90.0)


def test_what_is_put_beside_a_journal_later_makes_its_run_no_newer(tmp_path: Path) -> None:
    for age in range(RUNS + 1):
        run = put(tmp_path, f"run-{age}", end=rate(10.0 + age), age=age).parent
        os.utime(run, (1e9 + age, 1e9 + age))  # the oldest was refreshed last
    (tmp_path / "no journal").mkdir()
    found = prior_of(tmp_path, "job")
    assert found is not None
    assert found.epoch_s == pytest.approx(statistics.fmean(10.0 + age for age in range(RUNS)))


def test_an_end_larger_than_what_is_read_tells_nothing(tmp_path: Path) -> None:
    put(tmp_path, "huge", end=json.dumps({"k": "end", "x": "y" * LAST_BYTES, "rate": rate(10.0)}))
    assert prior_of(tmp_path, "job") is None


def test_a_run_leaves_its_rate_and_the_next_one_begins_with_it(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 4, "name": "job", "journal": tmp_path, "pue": 1, "intensity": 100}
    firsts = []
    for turn in range(2):
        with Tracker(meters="simulated:250", interval_s=0.02, **settings) as tracker:
            while turn and tracker.prediction is None:
                sum(range(10_000))  # the journals are read behind the entering
            firsts.append(tracker.prediction)
            for _ in tracker.epochs(4):
                sum(range(200_000))
    first = firsts[1]
    found = prior_of(tmp_path, "job")
    assert found is not None
    assert found.runs == 2
    assert found.power_w == pytest.approx(250.0, rel=0.01)
    assert first is not None
    assert first.rests_on == "prior"
    assert first.epochs_seen == 0
    assert first.energy_kwh is not None
