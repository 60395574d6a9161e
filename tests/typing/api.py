"""What users see, to the type checker; checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import assert_type

from aiocarbon import Budget, Tracker, exit_on_signals, load, sync, track, wait_until_clean
from aiocarbon._core.compare import Comparison
from aiocarbon._core.groups import GroupReport
from aiocarbon._core.nodes import Attempt
from aiocarbon._core.report import EpochReport, RunReport
from aiocarbon._core.waited import CleanWait
from aiocarbon.journal import Loaded, compare


async def use_async() -> None:
    async with Tracker(epochs=3, name="n", location="DK", budget=Budget(co2eq_g=5.0)) as tracker:
        assert_type(await tracker.epoch(), EpochReport)
        async with tracker.epoch() as epoch:
            tracker.step(2, total=10)
        assert_type(epoch.report, EpochReport | None)
        async for i in tracker.epochs(3):
            assert_type(i, int)
        async for live in tracker.stream(1.0):
            assert_type(live, RunReport)
        assert_type(await tracker.snapshot(), RunReport)
        assert_type(tracker.exceeded.is_set(), bool)
        tracker.epoch_start()
    assert_type(tracker.report(), RunReport)
    assert_type(tracker.report().energy_kwh, float)
    assert_type(tracker.report().power_w, float | None)
    assert_type(tracker.report().metrics(devices=True, spans=True), dict[str, float])


async def use_clean_hours() -> None:
    assert_type(await wait_until_clean(below_g_per_kwh=150, deadline="6h"), CleanWait)
    assert_type(sync.wait_until_clean(duration="8h", deadline=86400.0, location="DK", offline=True), CleanWait)


def use_sync() -> None:
    with sync.Tracker(intensity=400, pue=1.2, meters=["nvml", "rapl"], scope="process", journal="runs") as tracker:
        with tracker.epoch() as epoch:
            pass
        assert_type(epoch.report, EpochReport | None)
        assert_type(tracker.epochs(3), Iterator[int])
        assert_type(tracker.stream(1.0), Iterator[RunReport])
        assert_type(tracker.exceeded.wait(1.0), bool)
        tracker.epoch_start()
        assert_type(tracker.epoch_end(), EpochReport)
    tracker.stop()


@track
def plain(x: int) -> str:
    return str(x)


@track(location="DK")
async def items() -> AsyncIterator[int]:
    yield 1


assert_type(plain(1), str)


def ends_in_order() -> None:
    with exit_on_signals(), exit_on_signals("SIGTERM", "SIGUSR1"):
        pass


def use_journals() -> None:
    loaded = load("runs", name="bert", by="day")
    assert_type(loaded, Loaded)
    assert_type(loaded.runs[0].attempts, tuple[Attempt, ...])
    assert_type(loaded.groups["day"][0], GroupReport)
    assert_type(compare(loaded, loaded), Comparison)
    Tracker(resume="runs/bert-1")
    sync.Tracker(resume=Path("runs") / "bert-1")
