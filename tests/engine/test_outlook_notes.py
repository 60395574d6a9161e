"""What is foreseen comes into the journal: predictions while they change, the first forecast once."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from aiocarbon._core.intensity import IntensityCurve, IntensityValue, Quality
from aiocarbon._core.report import Prediction
from aiocarbon._engine.outlook_notes import OutlookNotes
from aiocarbon._engine.session import Session
from aiocarbon.journal.read import gather
from aiocarbon.sync import Tracker

BEGIN_S = 1_790_000_000.0


def value(g_per_kwh: float, quality: Quality) -> IntensityValue:
    return IntensityValue(
        g_per_kwh=g_per_kwh, low_g_per_kwh=g_per_kwh, high_g_per_kwh=g_per_kwh, source="a source", zone="DK",
        quality=quality,
    )  # fmt: skip


class Told:
    """As much of a session as the notes look at."""

    def __init__(self) -> None:
        self.curve = IntensityCurve(value(100.0, Quality.AVERAGE))
        self.foresight = SimpleNamespace(newest=None)
        session = SimpleNamespace(
            foresight=self.foresight, begin_s=BEGIN_S, ledger=SimpleNamespace(intensity=self.curve)
        )
        self.notes = OutlookNotes(cast(Session, session))

    def predict(self, at_s: float, **more: Any) -> None:
        at = datetime.fromtimestamp(BEGIN_S + at_s, UTC)
        self.foresight.newest = Prediction(as_of=at, **{"is_bounded": True, "epochs": 9, "epochs_seen": 1} | more)

    def kinds(self, at_s: float, *, is_last: bool = False) -> list[str]:
        return [record["k"] for record in self.notes.new(BEGIN_S + at_s, is_last=is_last)]


def test_a_prediction_is_written_once_and_again_when_the_run_has_grown() -> None:
    told = Told()
    told.predict(100.0)
    assert told.kinds(100.0) == ["prediction"]
    assert told.kinds(101.0) == []
    told.predict(103.0)
    assert told.kinds(103.0) == []
    told.predict(106.0)
    assert told.kinds(106.0) == ["prediction"]


def test_the_last_one_is_written_whatever_was_before() -> None:
    told = Told()
    told.predict(100.0)
    told.kinds(100.0)
    told.predict(100.5)
    assert told.kinds(100.5, is_last=True) == ["prediction"]
    assert told.kinds(100.5, is_last=True) == []


def test_a_run_without_an_end_has_no_totals_to_write() -> None:
    told = Told()
    told.predict(100.0, is_bounded=False, epochs=None)
    assert told.kinds(100.0, is_last=True) == []


def test_a_day_takes_few_predictions() -> None:
    told = Told()
    written = 0
    for at_s in range(1, 86_400, 5):
        told.predict(float(at_s))
        written += len(told.kinds(float(at_s)))
    assert 50 < written < 300


def test_the_first_forecast_is_written_and_no_later_one() -> None:
    told = Told()
    assert told.kinds(0.0) == []
    steps = [(BEGIN_S + 1800.0 * n, value(100.0 + n, Quality.FORECAST)) for n in range(4)]
    told.curve.replace(BEGIN_S, [*steps, (BEGIN_S + 7200.0, value(150.0, Quality.AVERAGE))])
    (record,) = told.notes.new(BEGIN_S + 60.0)
    assert record["k"] == "ahead"
    assert [g for _, g in record["steps"]] == [100.0, 101.0, 102.0, 103.0]
    assert record["until_s"] == BEGIN_S + 7200.0
    told.curve.set(value(500.0, Quality.FORECAST), BEGIN_S + 1800.0)
    assert told.kinds(120.0) == []


def test_a_value_that_is_carried_on_is_no_forecast() -> None:
    told = Told()
    told.curve.replace(BEGIN_S, [(BEGIN_S, value(100.0, Quality.LIVE))])
    assert told.kinds(1.0) == []
    told.curve.replace(BEGIN_S, [(BEGIN_S, value(100.0, Quality.FORECAST))])  # for ever: no end is known
    assert told.kinds(2.0) == []


def test_a_real_run_leaves_its_predictions(tmp_path: Path) -> None:
    with Tracker(epochs=3, meters="simulated:250", location="DK", journal=tmp_path, interval_s=0.02) as tracker:
        for _ in range(3):
            with tracker.epoch():
                time.sleep(0.05)  # of training, whose length nothing depends on
    (process,) = gather([tmp_path], [])
    made = process.outlooks.predictions
    assert made
    assert made[-1].epochs == 3
    assert made[-1].energy_kwh is not None
    assert made[-1].energy_kwh.low <= made[-1].energy_kwh.value <= made[-1].energy_kwh.high
    (path,) = tmp_path.rglob("*.jsonl")
    for line in path.read_text(encoding="utf-8").splitlines():
        json.loads(line)
