"""What users do wrong, or late, around predictions and budgets: it is told, and neither stops the training nor lies."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time
from typing import Any

import anyio
import pytest

from aiocarbon import Tracker, sync
from aiocarbon._core.report import Prediction
from aiocarbon.meters.simulated import Constant, SimulatedMeter

KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.0, "intensity": 100, "interval_s": 0.02}


def watts() -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(250.0), refresh_s=0.001)


def is_ready(tracker: Any) -> bool:
    """What predicts is loaded behind the entering."""
    return tracker._handle._session.foresight._predictor is not None


async def ready(tracker: Tracker) -> None:
    while not is_ready(tracker):  # noqa: ASYNC110  # the engine's thread sets it, and tells nobody
        await anyio.sleep(0.002)


@pytest.mark.parametrize(
    ("n", "total"),
    [
        *((n, 3) for n in (-5, math.nan, math.inf, 10**400, "a", None, 1.5)),
        *((0, total) for total in ("x", -3, math.nan, 10**400, [1, 2])),
    ],
)
def test_steps_that_are_no_counts_are_told_and_stop_neither_the_training_nor_the_engine(n: Any, total: Any) -> None:
    async def main() -> Any:
        async with Tracker(meters=[watts()], epochs=3, **KNOWN) as tracker:
            await ready(tracker)
            for _ in range(3):
                tracker.step(n, total=total)
                await tracker.snapshot()  # the engine looks at the progress
                await tracker.epoch()
        return tracker.report()

    report = asyncio.run(main())
    assert [epoch.steps for epoch in report.epochs] == [0, 0, 0]
    assert len(report.warnings) == 1
    assert report.warnings[0].startswith("step(): a ")
    json.dumps(report.to_dict(), allow_nan=False)


def test_whole_numbers_of_other_types_are_steps() -> None:
    numpy = pytest.importorskip("numpy")
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        with tracker.epoch():
            counts: list[Any] = [numpy.int64(2), numpy.array(3), 4.0, True]
            for n in counts:
                tracker.step(n, total=numpy.int32(20))
    report = tracker.report()
    assert [(type(epoch.steps), epoch.steps) for epoch in report.epochs] == [(int, 10)]
    assert not report.warnings


def test_what_marks_nothing_asks_nobody() -> None:
    asked: list[Prediction] = []

    async def main() -> None:
        async with Tracker(meters=[watts()], epochs=3, on_prediction=asked.append, **KNOWN) as tracker:
            await ready(tracker)
            async with tracker.epoch():
                await anyio.sleep(0.01)
            await tracker.epoch()  # this run's epochs are entered
        await tracker.epoch()
        async for _ in tracker.epochs(2):
            pass
        async with tracker.epoch():
            pass

    asyncio.run(main())
    assert [prediction.epochs_seen for prediction in asked] == [1]
    asked.clear()
    with sync.Tracker(meters=[watts()], epochs=3, on_prediction=asked.append, **KNOWN) as tracker:
        while not is_ready(tracker):
            time.sleep(0.002)
        with tracker.epoch():
            time.sleep(0.01)
        tracker.epoch_end()  # none is open
    tracker.epoch_end()
    for _ in tracker.epochs(2):
        pass
    assert [prediction.epochs_seen for prediction in asked] == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_asks_nobody() -> None:
    asked: list[Prediction] = []
    with sync.Tracker(meters=[watts()], epochs=3, on_prediction=asked.append, **KNOWN) as tracker:
        while not is_ready(tracker):
            time.sleep(0.002)
        with tracker.epoch():
            time.sleep(0.01)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            with tracker.epoch():
                pass
            os._exit(len(asked))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
