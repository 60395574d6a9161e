"""What users do wrong, or late, around predictions and budgets: it is told, and neither stops the training nor lies."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiocarbon import Budget, ConfigError, Tracker, TrainingStoppedError, UsageError, sync, track
from aiocarbon._core.report import Prediction
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.settings import UNSET

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


# -- epochs ------------------------------------------------------------------------------------------------------------


def test_epoch_start_of_the_async_tracker_moves_the_first_begin_and_fixes_no_style() -> None:
    async def main() -> Any:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            await anyio.sleep(0.05)  # preparation
            tracker.epoch_start()
            first = await tracker.epoch()
        return first, tracker.report()

    first, report = asyncio.run(main())
    assert report.epochs_total == 1
    assert first.duration_s < 0.05
    assert report.outside.duration_s >= 0.05
    assert not report.warnings

    async def entered() -> Any:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            tracker.epoch_start()
            async with tracker.epoch():
                pass
            tracker.epoch_start()  # nothing could end what it would open
            async with tracker.epoch():
                pass
        return tracker.report()

    report = asyncio.run(entered())
    assert [epoch.is_partial for epoch in report.epochs] == [False, False]
    assert len(report.warnings) == 1
    assert "moves nothing" in report.warnings[0]


@pytest.mark.parametrize("n", [1.5, math.nan, "many", True, 10**10])
def test_numbers_of_epochs_that_are_none_are_refused(n: Any) -> None:
    for tracker in (Tracker(meters=[watts()], **KNOWN), sync.Tracker(meters=[watts()], **KNOWN)):
        with pytest.raises(ConfigError, match="epochs"):
            tracker.epochs(n)


def test_epochs_are_counted_as_by_range() -> None:
    numpy = pytest.importorskip("numpy")
    counted: Any = ((0, 0), (-1, 0), (numpy.int64(0), 0), (numpy.int64(2), 2), (2.0, 2))
    for n, count in counted:
        with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
            assert list(tracker.epochs(n)) == list(range(count))


# -- waiting in the middle ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_pause_that_is_cancelled_lies_in_no_epoch_either_and_is_told(backend: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    rows = "".join(f"{(now + timedelta(hours=n)).isoformat()},{300 if n < 20 else 100}\n" for n in range(-2, 40))
    (tmp_path / "dirty.csv").write_text("time,value\n" + rows)

    async def main() -> Any:
        async with Tracker(meters=[watts()], **{**KNOWN, "intensity": tmp_path / "dirty.csv"}) as tracker:
            await tracker.epoch()
            with anyio.move_on_after(1.1) as scope:
                await tracker.clean(below_g_per_kwh=150)
            assert scope.cancelled_caught
            return await tracker.epoch(), await tracker.snapshot()

    epoch, report = anyio.run(main, backend=backend)
    assert epoch.duration_s < 1.0
    assert report.outside.duration_s >= 1.0
    assert any("paused for 1 s" in warning and "broken off" in warning for warning in report.warnings)


# -- callbacks ---------------------------------------------------------------------------------------------------------


async def coroutine_function(*_: object) -> bool:
    return True


class Callable_:
    async def __call__(self, _: object) -> bool:
        return True

    async def method(self, _: object) -> bool:
        return True


COROUTINE_FUNCTIONS = [
    coroutine_function,
    functools.partial(coroutine_function, 1),
    Callable_(),
    Callable_().method,
]


@pytest.mark.parametrize("call", COROUTINE_FUNCTIONS)
def test_coroutine_functions_are_refused_where_nothing_awaits_them_before_anything_starts(call: Any) -> None:
    with pytest.raises(ConfigError, match=r"budget\.action"):
        Budget(energy_kwh=1.0, action=call)
    tracker = sync.Tracker(meters=[watts()], on_prediction=call, **KNOWN)
    with pytest.raises(UsageError, match="async tracker"):
        tracker.start()
    with pytest.raises(UsageError, match="before the tracker was entered"):
        tracker.report()


def test_a_coroutine_that_a_budget_makes_is_closed_and_told() -> None:
    budget = Budget(energy_kwh=1e-12, action=lambda report: coroutine_function(report))
    with sync.Tracker(meters=[watts()], budget=budget, **KNOWN) as tracker:
        for _ in tracker.epochs(2):
            time.sleep(0.01)
        assert "nobody awaits" in " ".join(tracker.snapshot().warnings)


def test_the_false_of_an_array_library_ends_the_run_and_other_arrays_do_not() -> None:
    numpy = pytest.importorskip("numpy")

    def run(said: Any) -> None:
        with sync.Tracker(meters=[watts()], epochs=2, on_prediction=lambda _: said, **KNOWN) as tracker:
            while not is_ready(tracker):
                time.sleep(0.002)
            for _ in tracker.epochs(2):
                time.sleep(0.01)

    for false in (numpy.False_, numpy.float64(2.0) < 1.0, numpy.array(False)):
        with pytest.raises(TrainingStoppedError):
            run(false)
    for said in (numpy.True_, numpy.int64(0), numpy.array([False, False]), numpy.array([]), numpy.float64(0)):
        run(said)


def test_the_time_somebody_takes_to_answer_is_a_pause_and_no_epoch_to_come_is_predicted_to_take_it() -> None:
    def question() -> Any:
        def ask(_: Prediction) -> bool:
            time.sleep(1.1)  # somebody reads
            return True

        ask.asks_once = True  # type: ignore[attr-defined]  # as of confirm_on_terminal
        return ask

    async def awaited() -> tuple[Any, Any]:
        async with Tracker(meters=[watts()], epochs=10, on_prediction=question(), **KNOWN) as tracker:
            await ready(tracker)
            for _ in range(3):
                await anyio.sleep(0.01)
                await tracker.epoch()
        return tracker.prediction, tracker.report()

    async def iterated() -> tuple[Any, Any]:
        async with Tracker(meters=[watts()], on_prediction=question(), **KNOWN) as tracker:
            await ready(tracker)
            async for i in tracker.epochs(10):
                await anyio.sleep(0.01)
                if i == 3:
                    break
        return tracker.prediction, tracker.report()

    def entered() -> tuple[Any, Any]:
        with sync.Tracker(meters=[watts()], epochs=10, on_prediction=question(), **KNOWN) as tracker:
            while not is_ready(tracker):
                time.sleep(0.002)
            for _ in range(3):
                with tracker.epoch():
                    time.sleep(0.01)
        return tracker.prediction, tracker.report()

    def blocking() -> tuple[Any, Any]:
        with sync.Tracker(meters=[watts()], on_prediction=question(), **KNOWN) as tracker:
            while not is_ready(tracker):
                time.sleep(0.002)
            for i in tracker.epochs(10):
                time.sleep(0.01)
                if i == 3:
                    break
        return tracker.prediction, tracker.report()

    for prediction, report in (asyncio.run(awaited()), asyncio.run(iterated()), entered(), blocking()):
        assert max(epoch.duration_s for epoch in report.epochs[1:]) < 1.0
        assert report.outside.duration_s > 1.0
        assert prediction.remaining_duration_s < 1.0
        assert any("paused for 1 s for an answer" in warning for warning in report.warnings)


def test_track_refuses_at_the_decoration_and_shows_the_error_of_a_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="async tracker"):
        track(on_prediction=coroutine_function)(lambda: None)

    @track(meters=[watts()], **{**KNOWN, "pue": UNSET})
    def work() -> int:
        return 1

    monkeypatch.setenv("AIOCARBON_PUE", "many")  # read at the begin
    with pytest.raises(ConfigError, match="AIOCARBON_PUE"):
        work()
    assert work.last_report is None  # type: ignore[attr-defined]  # functions take attributes
