"""A training that goes on from a checkpoint: its epochs keep their numbers, and what is done again is rework."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import pytest

from aiocarbon import ConfigError, Tracker, sync
from aiocarbon._core.report import RunReport
from aiocarbon.journal import load

KNOWN = {"meters": "simulated:300", "location": "DK", "pue": 1.0, "run_id": "job"}


def start(folder: Path, count: int, *, breaks_off: bool = False, **settings: object) -> RunReport:
    """One start of the run that does some epochs, and breaks off inside the next where it shall."""
    tracker = sync.Tracker(**KNOWN, journal=folder, **settings)  # type: ignore[arg-type]
    try:
        with tracker:
            for _ in range(count):
                with tracker.epoch():
                    time.sleep(0.02)
            if breaks_off:
                with tracker.epoch():
                    raise InterruptedError
    except InterruptedError:
        pass
    return tracker.report()


def test_a_start_that_says_its_first_epoch_numbers_from_there(tmp_path: Path) -> None:
    report = start(tmp_path, 2, resume=7)
    assert [epoch.index for epoch in report.epochs] == [7, 8]
    assert report.epochs_total == 9
    (read,) = load(tmp_path).runs
    assert [epoch.index for epoch in read.epochs] == [7, 8]


def test_a_start_goes_on_where_the_journal_says_and_nothing_is_rework(tmp_path: Path) -> None:
    start(tmp_path, 3, breaks_off=True)
    again = start(tmp_path, 2, resume=True)
    assert [epoch.index for epoch in again.epochs] == [0, 1, 2, 3, 4]  # the third was not complete
    (read,) = load(tmp_path).runs
    assert [epoch.index for epoch in read.epochs] == [0, 1, 2, 3, 4]
    assert read.epochs_total == 5


def test_epochs_done_again_from_an_older_checkpoint_are_rework(tmp_path: Path) -> None:
    start(tmp_path, 3, breaks_off=True)
    start(tmp_path, 3, resume=1)
    (read,) = load(tmp_path).runs
    assert [epoch.index for epoch in read.epochs] == [0, 1, 2, 3]
    assert read.rework is not None
    parts = [epoch.it_energy_kwh for epoch in read.epochs]
    whole = sum(parts) + read.outside.it_energy_kwh + read.rework.it_energy_kwh
    assert whole == pytest.approx(read.it_energy_kwh, rel=1e-9)
    assert read.rework.it_energy_kwh * 3.6e6 > 0.99 * 300.0 * 2 * 0.02  # two epochs of at least so long


def test_nothing_to_resume_is_the_first_epoch(tmp_path: Path) -> None:
    assert [epoch.index for epoch in start(tmp_path, 1, resume=True).epochs] == [0]
    with sync.Tracker(meters="simulated:300", location="DK", resume=True) as tracker, tracker.epoch() as epoch:
        pass  # no journal at all
    assert epoch.report is not None
    assert epoch.report.index == 0


@pytest.mark.anyio
async def test_epochs_to_iterate_are_those_that_are_left_and_the_prediction_is_of_them() -> None:
    seen = []
    async with Tracker(meters="simulated:300", location="DK", epochs=10, resume=7) as tracker:
        async for i in tracker.epochs(10):
            seen.append(i)
            await anyio.sleep(0.02)
    assert seen == [7, 8, 9]


def test_the_blocking_twin_likewise() -> None:
    plain = []
    with sync.Tracker(meters="simulated:300", location="DK", resume=8) as blocking:
        for i in blocking.epochs(10):
            plain.append(i)
            time.sleep(0.05)
    assert plain == [8, 9]
    prediction = blocking.prediction
    assert prediction is None or prediction.epochs == 2


@pytest.mark.parametrize("value", [-1, 1.5, "no word", "-1", "nan", "", "1e3", [], 10**12])
def test_what_cannot_be_resumed_with_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="resume"):
        Tracker(resume=value)  # type: ignore[arg-type]


def test_what_the_environment_says_of_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIOCARBON_RESUME", "5")  # the environment is what is tested
    assert [epoch.index for epoch in start(tmp_path, 1).epochs] == [5]
