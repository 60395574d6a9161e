"""What the verbs of the async tracker promise, one by one; runs as a whole are in test_runs.py."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import time
import warnings
from typing import Any

import pytest

from aiocarbon import ConfigError, Tracker, UsageError, sync
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.testing import ScriptedMeter

KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.0}


def watts(refresh_s: float = 0.001) -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(250.0), refresh_s=refresh_s)


# -- epochs -----------------------------------------------------------------------------------------------------


def test_a_provisional_epoch_is_refined_to_its_counter_s_next_change() -> None:
    async def run() -> Any:
        async with Tracker(meters=[watts(refresh_s=0.1)], **KNOWN) as tracker:
            await asyncio.sleep(0.25)
            live = await tracker.epoch()
            while live.is_final:  # the machine stood still behind the mark
                live = await tracker.epoch()
            while not (refined := (await tracker.snapshot()).epochs[live.index]).is_final:
                pass
            return live, refined

    live, refined = asyncio.run(run())
    assert (refined.index, refined.duration_s) == (live.index, live.duration_s)
    truth_kwh = 250 * refined.duration_s / 3.6e6
    assert refined.it_energy_kwh_low <= truth_kwh <= refined.it_energy_kwh_high
    assert live.it_energy_kwh_low <= truth_kwh <= live.it_energy_kwh_high
    assert (refined.it_energy_kwh_high - refined.it_energy_kwh_low) < (live.it_energy_kwh_high - live.it_energy_kwh_low)


def test_neighbours_telescope_in_every_figure_and_device() -> None:
    async def run() -> Any:
        meters = [watts(), SimulatedMeter(wave=Constant(40.0), device_id="other", refresh_s=0.02)]
        async with Tracker(meters=meters, **KNOWN) as tracker:
            for _ in range(5):
                await asyncio.sleep(0.02)
                await tracker.epoch()
        return tracker.report()

    report = asyncio.run(run())
    for device in report.devices:
        parts = math.fsum(d.it_energy_kwh for e in report.epochs for d in e.devices if d.id == device.id)
        assert 0 < parts <= device.it_energy_kwh * (1 + 1e-9)
    total = math.fsum(e.it_energy_kwh for e in report.epochs) + report.outside.it_energy_kwh
    assert total == pytest.approx(math.fsum(d.it_energy_kwh for d in report.devices), rel=1e-9)


def test_marks_called_at_once_are_set_in_the_order_of_their_calls() -> None:
    async def run() -> Any:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            marks = [tracker.epoch() for _ in range(20)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_await(mark)) for mark in marks]
            return [task.result() for task in tasks]

    assert [e.index for e in asyncio.run(run())] == list(range(20))


async def _await(mark: Any) -> Any:
    return await mark


def test_steps_belong_to_the_epoch_in_which_they_were_told() -> None:
    async def run() -> Any:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            tracker.step()
            tracker.step(4, total=10)
            await tracker.epoch()
            await tracker.epoch()
            tracker.step(2)
            await tracker.epoch()
        return tracker.report()

    assert [e.steps for e in asyncio.run(run()).epochs] == [5, 0, 2]


def test_epoch_start_moves_the_begin_and_what_came_before_is_outside() -> None:
    async def run() -> Any:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            await tracker.epoch()
            await asyncio.sleep(0.05)  # validation, say
            tracker.epoch_start()
            return await tracker.epoch(), await tracker.snapshot()

    epoch, run_report = asyncio.run(run())
    assert epoch.duration_s < 0.05
    assert run_report.outside.duration_s >= 0.05


def test_epochs_that_are_left_at_the_end_of_the_run_are_partial() -> None:
    async def run() -> Any:
        tracker = Tracker(meters=[watts()], **KNOWN)
        await tracker.start()
        await tracker.epoch().__aenter__()
        await asyncio.sleep(0.02)
        await tracker.aclose()
        await tracker.aclose()
        return tracker.report()

    report = asyncio.run(run())
    assert [e.is_partial for e in report.epochs] == [True]
    assert report.epochs[0].duration_s >= 0.02


def test_an_epoch_object_that_marked_something_does_not_warn_when_it_is_collected() -> None:
    async def run() -> None:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            await tracker.epoch()
            gc.collect()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(run())


def test_nothing_happens_at_the_call_of_epoch() -> None:
    async def run() -> Any:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            mark = tracker.epoch()
            await asyncio.sleep(0.05)
            assert (await tracker.snapshot()).epochs_total == 0
            return await mark

    assert asyncio.run(run()).duration_s >= 0.05


# -- entering, reports ------------------------------------------------------------------------------------------


def test_every_verb_before_entering_is_a_usage_error() -> None:
    async def run() -> None:
        tracker = Tracker(meters=[watts()], **KNOWN)
        for verb in (tracker.report, tracker.epoch_start, tracker.step):
            with pytest.raises(UsageError):
                verb()
        for coroutine in (tracker.snapshot(), _await(tracker.epoch()), tracker.epoch().__aenter__()):
            with pytest.raises(UsageError):
                await coroutine
        async with tracker:
            with pytest.raises(UsageError, match="once"):
                await tracker.start()
            assert not tracker.report().is_final  # the failed start has not harmed the run

    asyncio.run(run())


def test_an_end_before_the_begin_ends_nothing() -> None:
    async def run() -> Any:
        tracker = Tracker(meters=[watts()], **KNOWN)
        await tracker.aclose()  # as of what failed before it began
        async with tracker:
            await tracker.epoch()
        return tracker.report()

    assert asyncio.run(run()).epochs_total == 1
    tracker = sync.Tracker(meters=[watts()], **KNOWN)
    tracker.stop()
    with tracker:
        assert not tracker.report().is_final
    assert tracker.report().is_final
    with pytest.raises(UsageError, match="once"):
        tracker.start()


def test_after_the_end_every_verb_is_harmless() -> None:
    async def run() -> None:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            await tracker.epoch()
        final = tracker.report()
        tracker.step()
        tracker.epoch_start()
        async with tracker.epoch():
            pass
        assert [i async for i in tracker.epochs(2)] == [0, 1]
        assert await tracker.snapshot() is final
        assert tracker.report() is final

    asyncio.run(run())


def test_reports_during_the_run_only_grow() -> None:
    async def run() -> None:
        async with Tracker(meters=[watts()], interval_s=0.02, **KNOWN) as tracker:
            seen = []
            for _ in range(10):
                seen.append(await tracker.snapshot())
                await asyncio.sleep(0.01)
        seen.append(tracker.report())
        for before, after in itertools.pairwise(seen):
            assert before.duration_s <= after.duration_s
            assert before.it_energy_kwh <= after.it_energy_kwh * (1 + 1e-9)
        assert [r.is_final for r in seen] == [False] * 10 + [True]

    asyncio.run(run())


@pytest.mark.parametrize("interval_s", [0, -1, float("nan"), 61, "soon"])
def test_a_stream_at_a_pace_that_is_not_accepted_is_a_config_error(interval_s: Any) -> None:
    async def run() -> None:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            with pytest.raises(ConfigError, match="interval_s"):
                await anext(tracker.stream(interval_s))

    asyncio.run(run())


def test_two_trackers_with_settings_of_their_own_share_a_meter_and_end_in_any_order() -> None:
    async def run() -> None:
        meter = watts()
        first = Tracker(meters=[meter], intensity=100, pue=1.0)
        second = Tracker(meters=[meter], intensity=400, pue=2.0)
        await first.start()
        await second.start()
        await asyncio.sleep(0.05)
        await first.aclose()  # the one that opened the meter ends first
        await asyncio.sleep(0.05)
        await second.epoch()
        await second.aclose()
        for tracker, factor in ((first, 100.0), (second, 800.0)):
            report = tracker.report()
            assert report.coverage > 0.9
            assert report.co2eq_g == pytest.approx(report.it_energy_kwh * factor)
            assert report.it_energy_kwh * 3.6e6 == pytest.approx(250 * report.duration_s, rel=0.05)
        assert second.report().ended_at > first.report().ended_at

    asyncio.run(run())


def test_a_mark_lies_where_device_sync_returned() -> None:
    returned, resumed = [], []

    def wait() -> None:
        time.sleep(0.03)  # queued work of a device
        returned.append(time.monotonic_ns())

    async def run() -> Any:
        async with Tracker(meters=[watts()], device_sync=wait, **KNOWN) as tracker:
            for _ in range(3):
                await tracker.epoch()
                resumed.append(time.monotonic_ns())
        return tracker.report()

    report = asyncio.run(run())
    for n, epoch in enumerate(report.epochs[1:], start=1):
        # Both marks lie between the return of their wait and the user's next line, however long a machine takes.
        assert returned[n] - resumed[n - 1] <= epoch.duration_s * 1e9 + 1 <= resumed[n] - returned[n - 1] + 2


def test_a_meter_that_is_handed_in_is_closed_with_the_last_run() -> None:
    meter = ScriptedMeter(energy_uj=range(0, 10**9, 1000))

    async def run() -> None:
        async with Tracker(meters=[meter], **KNOWN):
            assert meter.is_open

    asyncio.run(run())
    from aiocarbon._engine import host

    assert host._host is None
