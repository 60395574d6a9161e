"""Predictions in the tracker: live, at each epoch, asked about, and heeded by budgets."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiocarbon import Budget, BudgetExceededError, ConfigError, Tracker, TrainingStoppedError, UsageError, sync
from aiocarbon._core.report import Prediction
from aiocarbon._engine.windows import KEPT_PREDICTIONS
from aiocarbon.journal import load
from aiocarbon.meters.simulated import Constant, SimulatedMeter

WATTS = 250.0
KWH_PER_S = WATTS / 3.6e6
KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.0, "intensity": 100, "interval_s": 0.02}


def watts() -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(WATTS), refresh_s=0.001)


def is_ready(tracker: Any) -> bool:
    """What predicts is loaded behind the entering."""
    return tracker._handle._session.foresight._predictor is not None


async def ready(tracker: Tracker) -> None:
    while not is_ready(tracker):  # noqa: ASYNC110  # the engine's thread sets it, and tells nobody
        await anyio.sleep(0.002)


def run(body: Any, **settings: Any) -> Any:
    async def main() -> Any:
        async with Tracker(meters=[watts()], **{**KNOWN, **settings}) as tracker:
            await ready(tracker)
            await body(tracker)
        return tracker.report()

    return asyncio.run(main())


def test_what_lies_between_entered_epochs_is_predicted_at_the_power_that_it_has() -> None:
    told: list[Any] = []
    with sync.Tracker(meters=[watts()], epochs=6, **{**KNOWN, "interval_s": 60.0}) as tracker:
        while not is_ready(tracker):
            time.sleep(0.002)
        for _ in range(6):
            with tracker.epoch() as epoch:
                time.sleep(0.02)
            assert epoch.report is not None
            told.append(epoch.report.prediction)
            with tracker.span("validation", every=1):
                time.sleep(0.2)
            time.sleep(0.2)
    for prediction in told[3:]:  # no reading falls into such a gap but that behind an epoch's end
        assert prediction.energy_kwh == pytest.approx(prediction.duration_s * KWH_PER_S, rel=0.1)
    over = tracker.prediction
    assert over is not None
    assert over.remaining_duration_s == over.remaining_energy_kwh == 0.0


def test_each_epoch_predicts_the_whole_run_and_the_last_one_what_it_used() -> None:
    epochs: list[Any] = []

    async def body(tracker: Tracker) -> None:
        for _ in range(4):
            await anyio.sleep(0.03)
            epochs.append(await tracker.epoch())

    report = run(body, epochs=4, interval_s=60.0)  # no tick between the last epoch and the end
    for n, epoch in enumerate(epochs, 1):
        prediction = epoch.prediction
        assert prediction.epochs_seen == n
        assert prediction.is_bounded
        assert prediction.energy_kwh_low <= prediction.energy_kwh <= prediction.energy_kwh_high
        assert prediction.energy_kwh == pytest.approx(prediction.duration_s * KWH_PER_S, rel=0.05)
        assert prediction.co2eq_g == pytest.approx(prediction.energy_kwh * 100.0, rel=1e-6)
        json.dumps(prediction.to_dict(), allow_nan=False)
    last = epochs[-1].prediction
    assert last.remaining_energy_kwh == 0.0
    assert last.energy_kwh == pytest.approx(report.energy_kwh, rel=0.1)
    assert [epoch.prediction.epochs_seen for epoch in report.epochs] == [1, 2, 3, 4]  # kept where epochs are refined
    # The final one is of the whole run, what lay behind the last epoch included.
    assert report.prediction.energy_kwh == pytest.approx(report.energy_kwh)
    assert report.prediction.co2eq_g == pytest.approx(report.co2eq_g)
    assert (report.prediction.epochs_seen, report.prediction.remaining_energy_kwh) == (4, 0.0)
    json.dumps(report.to_dict(), allow_nan=False)


def test_steps_with_a_total_predict_inside_the_first_epoch() -> None:
    seen: list[Prediction] = []

    async def body(tracker: Tracker) -> None:
        assert tracker.prediction is None
        for _ in range(1000):
            tracker.step(total=1000)
            await anyio.sleep(0.002)
            if tracker.prediction is not None:
                seen.append(tracker.prediction)
                return
        raise AssertionError("a thousand steps and no prediction")

    run(body, epochs=10)
    assert seen[0].rests_on == "steps"
    assert seen[0].epochs_seen == 0
    assert seen[0].energy_kwh is not None


def test_a_run_without_a_declared_end_tells_rates() -> None:
    async def body(tracker: Tracker) -> None:
        for _ in range(3):
            await anyio.sleep(0.03)
            prediction = (await tracker.epoch()).prediction
        assert not prediction.is_bounded
        assert (prediction.energy_kwh, prediction.co2eq_g, prediction.duration_s, prediction.ends_at) == (None,) * 4
        assert prediction.energy_kwh_per_hour == pytest.approx(WATTS / 1000.0, rel=0.05)
        assert prediction.co2eq_g_per_hour == pytest.approx(WATTS / 10.0, rel=0.05)

    run(body)


def test_an_iterator_with_a_number_declares_the_end() -> None:
    async def body(tracker: Tracker) -> None:
        async for _ in tracker.epochs(3):
            await anyio.sleep(0.02)
            if tracker.prediction is not None and tracker.prediction.epochs_seen:
                assert tracker.prediction.epochs == 3
        assert tracker.prediction is not None

    run(body)
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        while not is_ready(tracker):
            time.sleep(0.002)
        for _ in tracker.epochs(3):
            time.sleep(0.02)
        assert tracker.prediction is not None
        assert tracker.prediction.epochs == 3


def test_predict_after_waits_and_monitor_epochs_stops_looking() -> None:
    async def body(tracker: Tracker) -> None:
        told = []
        for _ in range(3):
            await anyio.sleep(0.02)
            told.append((await tracker.epoch()).prediction)
        assert told[0] is None
        assert told[1].epochs_seen == 2

    run(body, epochs=5, predict_after=2)

    async def slower(tracker: Tracker) -> None:
        await anyio.sleep(0.02)
        first = (await tracker.epoch()).prediction
        await anyio.sleep(0.4)
        later = (await tracker.epoch()).prediction
        assert later.epoch_s == pytest.approx(first.epoch_s)  # the second one counts as used, not as a rate

    run(slower, epochs=5, monitor_epochs=1)


@pytest.mark.parametrize("field", ["predict_after", "monitor_epochs", "on_prediction"])
@pytest.mark.parametrize("value", [-1, 1.5, "many", math.nan])
def test_bad_settings_are_refused_before_anything_starts(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        Tracker(**{field: value})


def test_more_epochs_than_declared_are_told_and_predict_nothing_more() -> None:
    async def body(tracker: Tracker) -> None:
        for _ in range(3):
            await anyio.sleep(0.01)
            prediction = (await tracker.epoch()).prediction
        assert prediction.remaining_energy_kwh == 0.0
        assert any("declared" in note for note in prediction.notes)

    run(body, epochs=1)


def test_only_the_newest_epochs_keep_their_prediction() -> None:
    async def body(tracker: Tracker) -> None:
        for _ in range(KEPT_PREDICTIONS + 20):
            tracker.step()
            await tracker.epoch()

    report = run(body, epochs=1000)
    kept = [epoch.index for epoch in report.epochs if epoch.prediction is not None]
    assert kept == list(range(20, KEPT_PREDICTIONS + 20))


def test_nothing_measured_predicts_time_and_no_energy() -> None:
    async def main() -> Any:
        async with Tracker(meters=["rapl"], epochs=4, **KNOWN) as tracker:
            await ready(tracker)
            await anyio.sleep(0.02)
            return (await tracker.epoch()).prediction

    prediction = asyncio.run(main())
    if prediction is not None and prediction.energy_kwh is None:  # a machine with RAPL measures something
        assert prediction.co2eq_g is None
        assert prediction.duration_s > 0.0


# -- the callback ------------------------------------------------------------------------------------------------------


def test_false_ends_the_run_with_a_final_report_and_anything_else_does_not() -> None:
    for said in (None, True, 0, "", math.nan, [], "no"):

        async def go_on(tracker: Tracker) -> None:
            for _ in range(2):
                await tracker.epoch()

        assert run(go_on, epochs=2, on_prediction=lambda _, said=said: said).epochs_total == 2
    asked: list[Prediction] = []

    def no(prediction: Prediction) -> bool:
        asked.append(prediction)
        return False

    async def main() -> Tracker:
        tracker = Tracker(meters=[watts()], epochs=5, on_prediction=no, **KNOWN)
        with pytest.raises(TrainingStoppedError, match="on_prediction"):
            async with tracker:
                await ready(tracker)
                for _ in range(5):
                    await anyio.sleep(0.01)
                    await tracker.epoch()
        return tracker

    report = asyncio.run(main()).report()
    assert len(asked) == 1
    assert report.is_final
    assert report.epochs_total == 1


def test_a_coroutine_function_is_awaited_on_asyncio_and_trio_in_the_users_task() -> None:
    asked: list[int] = []

    async def callback(prediction: Prediction) -> bool:
        await anyio.sleep(0.002)
        asked.append(prediction.epochs_seen)
        return prediction.epochs_seen < 2

    async def main() -> None:
        async with Tracker(meters=[watts()], epochs=5, on_prediction=callback, **KNOWN) as tracker:
            await ready(tracker)
            async for _ in tracker.epochs(5):
                pass

    for backend in ("asyncio", "trio"):
        asked.clear()
        with pytest.raises(TrainingStoppedError):
            anyio.run(main, backend=backend)
        assert asked == [1, 2]


def test_an_error_of_the_callback_is_the_users_own_and_passes() -> None:
    def broken(_: Prediction) -> bool:
        raise ZeroDivisionError

    async def body(tracker: Tracker) -> None:
        await anyio.sleep(0.01)
        await tracker.epoch()

    with pytest.raises(ZeroDivisionError):
        run(body, epochs=3, on_prediction=broken)


def test_a_plain_script_takes_a_plain_function_and_refuses_a_coroutine_function() -> None:
    async def callback(_: Prediction) -> bool:
        return True

    tracker = sync.Tracker(meters=[watts()], epochs=3, on_prediction=callback, **KNOWN)
    with pytest.raises(UsageError, match="coroutine"), tracker:
        while not is_ready(tracker):
            time.sleep(0.002)
        with tracker.epoch():
            time.sleep(0.01)
    tracker = sync.Tracker(meters=[watts()], epochs=3, on_prediction=lambda _: False, **KNOWN)
    with pytest.raises(TrainingStoppedError), tracker:
        while not is_ready(tracker):
            time.sleep(0.002)
        with tracker.epoch():
            time.sleep(0.01)
    assert tracker.report().is_final


# -- budgets -----------------------------------------------------------------------------------------------------------


def prediction(**fields: Any) -> Prediction:
    from datetime import UTC, datetime

    return Prediction(as_of=datetime.now(UTC), is_bounded=True, epochs=10, epochs_seen=1, **fields)


@pytest.mark.parametrize("field", ["co2eq_g", "energy_kwh", "duration_s"])
def test_a_limit_is_endangered_by_the_upper_end_and_broken_by_the_lower(field: str) -> None:
    budget = Budget(**{field: 100.0})

    def told(low: float, central: float, high: float) -> tuple[bool, bool]:
        made = prediction(**{field: central, f"{field}_low": low, f"{field}_high": high})
        return bool(budget.endangered_by(made)), bool(budget.broken_ahead(made))

    assert told(50.0, 80.0, 100.0) == (False, False)
    assert told(50.0, 80.0, 101.0) == (True, False)
    assert told(100.0, 120.0, 150.0) == (True, False)
    assert told(101.0, 120.0, 150.0) == (True, True)
    assert budget.endangered_by(None) == budget.broken_ahead(None) == ""
    assert budget.endangered_by(prediction()) == budget.broken_ahead(prediction()) == ""


def test_a_budget_that_will_surely_be_broken_ends_the_run_long_before_it_is() -> None:
    limit_kwh = 0.3 * KWH_PER_S  # of 20 epochs of 0.05 s: a second

    async def main() -> Tracker:
        tracker = Tracker(meters=[watts()], epochs=20, budget=Budget(energy_kwh=limit_kwh), **KNOWN)
        with pytest.raises(BudgetExceededError, match="will not hold"):
            async with tracker:
                await ready(tracker)
                for _ in range(20):
                    await anyio.sleep(0.05)
                    await tracker.epoch()
        assert tracker.exceeded.is_set()
        return tracker

    report = asyncio.run(main()).report()
    assert report.is_final
    assert report.energy_kwh < limit_kwh
    assert any("will not hold" in warning for warning in report.warnings)


def test_a_budget_that_may_be_broken_is_told_once_and_nothing_else() -> None:
    async def body(tracker: Tracker) -> None:
        for _ in range(4):
            await anyio.sleep(0.05)
            await tracker.epoch()

    report = run(body, epochs=4, budget=Budget(duration_s=60.0))
    assert not [w for w in report.warnings if "budget" in w]
    used_s = report.duration_s
    # A limit a little above what is used: the upper end of the first epochs' ranges passes it.
    report = run(body, epochs=4, budget=Budget(duration_s=used_s * 1.04, action="warn"))
    assert len([w for w in report.warnings if "may not hold" in w]) <= 1


def test_a_budget_that_is_broken_already_at_the_start_raises_with_the_first_verb() -> None:
    async def main() -> None:
        async with Tracker(meters=[watts()], budget=Budget(duration_s=1e-9), **KNOWN) as tracker:
            await tracker.exceeded.wait()
            tracker.step()

    with pytest.raises(BudgetExceededError, match="time budget"):
        asyncio.run(main())


# -- pauses ------------------------------------------------------------------------------------------------------------


def grid_of(folder: Path, *grams: float) -> Path:
    """A file of intensities that change each second or two from now on."""
    path = folder / "grid.csv"
    now = time.time()
    rows = [f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(now - 3600 + n))},{g}" for n, g in enumerate(grams)]
    path.write_text("\n".join(["time,value", *rows]) + "\n")
    return path


def test_a_pause_that_is_none_is_not_told_and_lies_in_no_epoch(tmp_path: Path) -> None:
    path = grid_of(tmp_path, 300.0, 50.0)

    async def body(tracker: Tracker) -> None:
        await anyio.sleep(0.02)
        await tracker.epoch()
        came = await tracker.clean(below_g_per_kwh=100.0, deadline="1h")
        assert came.waited_s < 1.0
        await anyio.sleep(0.02)
        await tracker.epoch()

    report = run(body, epochs=2, intensity=str(path), offline=True)
    assert not [w for w in report.warnings if "paused" in w]
    with pytest.raises(UsageError, match="clean"):
        asyncio.run(Tracker().clean(below_g_per_kwh=100.0))
    with pytest.raises(ConfigError):
        run(lambda tracker: tracker.clean(below_g_per_kwh=-1.0), epochs=1)


def test_a_pause_lies_in_no_epoch_is_told_and_predicts_no_further_one(tmp_path: Path) -> None:
    """The wait itself is tested elsewhere; here one of 1.2 s is handed in."""
    from aiocarbon.tracker import wait_for

    async def body(tracker: Tracker) -> None:
        for _ in range(2):
            await anyio.sleep(0.03)
            await tracker.epoch()
        await anyio.sleep(1.2)
        handle = tracker._handle
        await wait_for(handle, handle.paused(time.monotonic_ns(), 1.2, "for clean electricity: it came"))
        await anyio.sleep(0.03)
        prediction = (await tracker.epoch()).prediction
        assert prediction is not None
        assert prediction.remaining_duration_s < 1.0  # seven epochs of 0.03 s and no other pause

    report = run(body, epochs=10, journal=tmp_path)
    assert max(epoch.duration_s for epoch in report.epochs) < 1.0
    assert report.outside.duration_s > 1.2
    assert math.fsum(e.energy_kwh for e in report.epochs) + report.outside.energy_kwh == pytest.approx(
        report.energy_kwh, rel=1e-9
    )
    told = [w for w in report.warnings if "paused for 1 s for clean electricity" in w]
    assert len(told) == 1
    (read,) = load(tmp_path).runs
    assert told[0] in read.warnings
    assert read.outside.duration_s == pytest.approx(report.outside.duration_s)


def test_a_prediction_is_a_frozen_value() -> None:
    made = prediction(energy_kwh=1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.energy_kwh = 2.0  # type: ignore[misc]
    assert made.to_dict()["energy_kwh"] == 1.0


def test_an_error_of_the_predictor_costs_the_predictions_and_nothing_else() -> None:
    async def body(tracker: Tracker) -> None:
        def broken(*_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("a defect of ours")

        tracker._handle._session.foresight._predictor.outlook = broken  # type: ignore[union-attr, method-assign]
        for _ in range(3):
            await anyio.sleep(0.01)
            assert (await tracker.epoch()).prediction is None

    report = run(body, epochs=3)
    assert report.is_final
    assert report.epochs_total == 3
    assert report.prediction is None
    assert [w for w in report.warnings if "not predicted any more" in w and "a defect of ours" in w]


def test_a_span_that_is_declared_as_work_of_its_own_pace_is_predicted_apart() -> None:
    epochs: list[Any] = []

    async def body(tracker: Tracker) -> None:
        for i in range(6):
            await anyio.sleep(0.03)
            if i == 4:
                with tracker.span("validate", every=5):
                    await anyio.sleep(0.3)
            epochs.append(await tracker.epoch())

    report = run(body, epochs=20)
    before, after = epochs[3].prediction, epochs[5].prediction
    assert 20 * 0.03 <= before.duration_s < 4 * 0.3
    assert after.duration_s >= 20 * 0.03 + 4 * 0.3  # four validations
    assert after.energy_kwh == pytest.approx(after.duration_s * KWH_PER_S, rel=0.05)
    assert [span.name for span in report.spans] == ["validate"]
