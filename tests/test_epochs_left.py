"""Loops over `epochs()` that are left: where the epoch that was open ends, and what follows it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from aiocarbon import Tracker, sync
from aiocarbon._core.report import RunReport
from aiocarbon.meters.simulated import Constant, SimulatedMeter

KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.0}


def watts() -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(250.0), refresh_s=0.001)


def told(report: RunReport) -> list[tuple[int, int, bool]]:
    """Of each epoch its index, its steps and whether it is partial; the epochs and the rest are the run."""
    total = math.fsum(e.it_energy_kwh for e in report.epochs) + report.outside.it_energy_kwh
    assert total == pytest.approx(report.it_energy_kwh, rel=1e-9)
    return [(epoch.index, epoch.steps, epoch.is_partial) for epoch in report.epochs]


def pause() -> float:
    """Some time that belongs to no epoch; at least so many seconds."""
    begin_s = time.monotonic()
    time.sleep(0.01)
    return time.monotonic() - begin_s


def plain(tracker: sync.Tracker) -> None:
    for i in tracker.epochs(10):
        tracker.step(i + 1)
        if i == 1:
            break


def held(tracker: sync.Tracker) -> None:
    epochs = tracker.epochs(10)
    tracker.held = epochs  # type: ignore[attr-defined]  # as a progress bar holds what it counts
    for i in epochs:
        tracker.step(i + 1)
        if i == 1:
            break


def wrapped(tracker: sync.Tracker) -> None:
    for n, (i, _) in enumerate(zip(tracker.epochs(), range(100), strict=False)):
        tracker.step(i + 1)
        if n == 1:
            break


def returned(tracker: sync.Tracker) -> None:
    for i in tracker.epochs(10):
        tracker.step(i + 1)
        if i == 1:
            return


def raised(tracker: sync.Tracker) -> None:
    def body() -> None:
        for i in tracker.epochs(10):
            tracker.step(i + 1)
            if i == 1:
                raise ValueError("early")

    with pytest.raises(ValueError, match="early"):
        body()


@pytest.mark.parametrize("leave", [plain, held, wrapped, returned, raised])
def test_an_epoch_whose_loop_is_left_ends_there_and_the_next_ones_are_their_own(
    leave: Callable[[sync.Tracker], None],
) -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        leave(tracker)
        between_s = pause()
        for _ in tracker.epochs(2):
            tracker.step(5)
        leave(tracker)
        between_s += pause()
        with tracker.epoch():
            tracker.step(7)
    report = tracker.report()
    two = [(1, False), (2, True)]
    seen = [*two, (5, False), (5, False), *two, (7, False)]
    assert told(report) == [(index, steps, is_partial) for index, (steps, is_partial) in enumerate(seen)]
    assert report.outside.duration_s >= between_s
    assert not report.warnings


def test_in_the_async_tracker_and_its_children_likewise() -> None:
    async def run() -> tuple[float, RunReport]:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            child = tracker.child("actor")
            kept = tracker.epochs(10)
            between_s = 0.0
            for epochs in (tracker.epochs(10), kept, child.epochs(10)):
                async for i in epochs:
                    tracker.step(i + 1)
                    if i == 1:
                        break
                between_s += pause()
            async with tracker.epoch():
                tracker.step(5)
            async for _ in child.epochs(1):
                pass
        return between_s, tracker.report()

    between_s, report = asyncio.run(run())
    two = [(1, False), (2, True)]
    seen = [*two, *two, (5, False)]
    assert told(report) == [(index, steps, is_partial) for index, (steps, is_partial) in enumerate(seen)]
    assert report.outside.duration_s >= between_s
    assert not [warning for warning in report.warnings if "epoch" in warning]
    (child,) = report.children
    assert [epoch.is_partial for epoch in child.epochs] == [False, True, False]


def test_a_loop_that_goes_on_over_what_was_left_goes_on_behind_it() -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        epochs, seen = tracker.epochs(4), []
        for i in epochs:
            seen.append(i)
            if i == 1:
                break
        seen += list(epochs)
    assert seen == [0, 1, 2, 3]
    report = tracker.report()
    assert [epoch.is_partial for epoch in report.epochs] == [False, True, False, False]
    assert not report.warnings


@pytest.mark.parametrize("is_iterated", [True, False])
def test_where_nothing_tells_that_an_iteration_was_left_its_epoch_is_partial_up_to_the_next(is_iterated: bool) -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        left = tracker.epochs(3)
        for steps in (1, 2):
            next(left)  # no loop: nobody lets go of it
            tracker.step(steps)
        if is_iterated:
            for _ in tracker.epochs(1):
                tracker.step(5)
        else:
            with tracker.epoch():
                tracker.step(5)
    report = tracker.report()
    assert told(report) == [(0, 1, False), (1, 2, True), (2, 5, False)]
    assert len([w for w in report.warnings if "is partial" in w]) == 1


def test_an_epoch_entered_inside_a_loop_that_goes_on_is_one_that_was_marked_twice() -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        for i in tracker.epochs(3):
            with tracker.epoch():
                tracker.step(i + 1)
    report = tracker.report()
    assert told(report) == [(0, 1, False), (1, 2, False), (2, 3, False)]
    assert any("its begin stays" in warning for warning in report.warnings)


def test_loops_inside_one_another_leave_the_outer_epochs_partial_and_the_inner_ones_whole() -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        for _ in tracker.epochs(2):
            tracker.step(1)
            for _ in tracker.epochs(2):
                tracker.step(2)
    report = tracker.report()
    outer_and_inner = [(1, True), (2, False), (2, False)]
    seen = [*outer_and_inner, *outer_and_inner]
    assert told(report) == [(index, steps, is_partial) for index, (steps, is_partial) in enumerate(seen)]


def test_what_is_left_behind_the_end_of_the_run_marks_and_says_nothing() -> None:
    with sync.Tracker(meters=[watts()], **KNOWN) as tracker:
        loop = iter(tracker.epochs(3))
        next(loop)
    report = tracker.report()
    assert [epoch.is_partial for epoch in report.epochs] == [True]
    del loop
    assert tracker.report() is report
