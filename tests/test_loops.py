"""Cancellation on every loop, other tasks' time, and what must stay untouched in the user's process."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import signal
import subprocess
import sys
import threading
import time
import warnings
from typing import Any

import anyio
import pytest

from aiocarbon import Tracker, sync
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.testing import ScriptedMeter
from tests.deadly import kill_engine

KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.0}
BACKENDS = ["asyncio", "trio"]


def watts() -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(250.0), refresh_s=0.001)


# -- cancellation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_scope_leaves_with_the_final_report_and_is_still_cancelled(backend: str) -> None:
    async def run() -> None:
        tracker = Tracker(meters=[watts()], **KNOWN)
        with anyio.CancelScope() as scope:
            async with tracker:
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert tracker.report().is_final
        assert not tracker.report().ended_well

    anyio.run(run, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_epoch_keeps_its_mark(backend: str) -> None:
    slow = threading.Event()

    def answer() -> int:
        if slow.is_set():
            slow.clear()
            time.sleep(0.03)  # a driver that takes its time, once: the mark is still awaited when it is cancelled
        return time.monotonic_ns() // 10_000

    async def run() -> None:
        async with Tracker(meters=[ScriptedMeter(energy_uj=[answer])], **KNOWN) as tracker:
            slow.set()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await tracker.epoch()
            assert scope.cancelled_caught
            last = await tracker.epoch()
        assert last.index == 1
        assert tracker.report().epochs_total == 2

    anyio.run(run, backend=backend)


def test_an_epoch_left_by_an_exception_keeps_its_length_when_the_next_begins_at_once() -> None:
    """The next one begins while the border of the first still waits for a slow reading."""
    slow = threading.Event()

    def answer() -> int:
        if slow.is_set():
            slow.clear()
            time.sleep(0.03)  # a driver that takes its time, once
        return time.monotonic_ns() // 10_000

    async def run() -> Any:
        async with Tracker(meters=[ScriptedMeter(energy_uj=[answer])], **KNOWN) as tracker:
            with pytest.raises(ValueError, match="body"):
                async with tracker.epoch():
                    await asyncio.sleep(0.1)
                    slow.set()
                    raise ValueError("body")
            async with tracker.epoch():
                pass
        return tracker.report()

    report = asyncio.run(run())
    assert [e.is_partial for e in report.epochs] == [True, False]
    assert report.epochs[0].duration_s >= 0.1


def test_a_cancelled_task_is_cancelled_as_if_nothing_had_been_measured() -> None:
    async def run() -> None:
        tracker = Tracker(meters=[watts()], **KNOWN)
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(asyncio.CancelledError, match="by the test"):
            async with tracker:
                task.cancel("by the test")
                await asyncio.sleep(3600)
        assert task.uncancel() == 0
        assert tracker.report().is_final
        await asyncio.sleep(0)  # nothing of the cancellation is left

    asyncio.run(run())


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_tasks_run_while_an_epoch_waits_for_a_slow_reading(backend: str) -> None:
    async def run() -> None:
        release = threading.Event()

        async with Tracker(meters=[watts()], device_sync=lambda: release.wait(30), **KNOWN) as tracker:
            marked: list[Any] = []

            async def mark() -> None:
                marked.append(await tracker.epoch())

            async with anyio.create_task_group() as group:
                group.start_soon(mark)
                for _ in range(10):
                    await anyio.lowlevel.checkpoint()
                assert not marked  # the loop goes on although the device has not ended its work
                release.set()
            assert len(marked) == 1

    anyio.run(run, backend=backend)


def test_a_tracker_entered_in_one_loop_is_left_in_another() -> None:
    tracker = Tracker(meters=[watts()], **KNOWN)
    asyncio.run(tracker.start())
    anyio.run(tracker.aclose, backend="trio")
    asyncio.run(tracker.aclose())
    assert tracker.report().is_final
    assert tracker.report().ended_well


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, ValueError])
def test_what_the_body_raises_comes_out_as_the_same_object(error: type[BaseException]) -> None:
    raised = error("the training's")

    async def run() -> None:
        tracker = Tracker(meters=[watts()], **KNOWN)
        with pytest.raises(error) as seen:
            async with tracker:
                raise raised
        assert seen.value is raised
        assert seen.value.__context__ is None
        assert tracker.report().is_final
        assert not tracker.report().ended_well

    asyncio.run(run())


# -- nothing blocks ---------------------------------------------------------------------------------------------


def test_nothing_blocks_the_loop_between_entering_and_leaving() -> None:
    """Blocking calls in the loop are forbidden by blockbuster.

    It runs in a process of its own, since it patches the interpreter. What is imported on first use is imported by
    a first run, outside the check: an import reads files, and the issue allows it 15 ms once.
    """
    pytest.importorskip("blockbuster")
    code = """
import asyncio
from blockbuster import blockbuster_ctx
from aiocarbon import Tracker
async def main():
    async with Tracker(meters="simulated:250", location="DK") as tracker:
        tracker.step()
        await tracker.epoch()
        await tracker.snapshot()
        async for live in tracker.stream(0.02):
            break
    async with Tracker(meters="simulated:250", location="DK") as tracker:
        async with tracker.epoch() as epoch:
            await asyncio.sleep(0)
        async for i in tracker.epochs(2):
            pass
    assert tracker.report().epochs_total == 3
asyncio.run(main())
with blockbuster_ctx():
    asyncio.run(main())
    async def blocks():
        import time
        time.sleep(0.01)
    try:
        asyncio.run(blocks())
    except Exception as error:
        print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("BlockingError\n", "")


# -- what is not ours -------------------------------------------------------------------------------------------


def test_no_context_variable_signal_handler_filter_or_log_setting_is_changed() -> None:
    async def run() -> None:
        def state() -> Any:
            root = logging.getLogger()
            return (
                {v.name: value for v, value in contextvars.copy_context().items()},
                {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)},
                list(warnings.filters),
                (root.level, list(root.handlers), logging.root.manager.disable),
                asyncio.get_running_loop().get_exception_handler(),
                sys.excepthook,
                threading.excepthook,
            )

        before = state()
        async with Tracker(meters=[watts()], **KNOWN) as tracker:
            assert state() == before
            async with tracker.epoch():
                assert state() == before
        assert state() == before

    asyncio.run(run())


def test_a_run_prints_nothing_and_leaves_no_thread_behind() -> None:
    code = """
import asyncio, threading
from aiocarbon import Tracker
from aiocarbon.testing import ScriptedMeter
from tests.deadly import kill_engine
async def main():
    meter = ScriptedMeter(energy_uj=[0, 1000, kill_engine])
    async with Tracker(meters=[meter], interval_s=0.02, location="DK") as tracker:
        while not any("engine died" in w for w in tracker.report().warnings):
            await tracker.epoch()
    return tracker
tracker = asyncio.run(main())
assert tracker.report().is_final
engines = [t for t in threading.enumerate() if t.name == "aiocarbon-engine"]
for thread in engines:
    thread.join(20)
assert not any(t.is_alive() for t in engines)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_dead_engine_is_logged_once_with_what_killed_it_and_where(caplog: pytest.LogCaptureFixture) -> None:
    meter = ScriptedMeter(energy_uj=[0, 1000, kill_engine])
    with caplog.at_level(logging.ERROR, logger="aiocarbon"):
        with sync.Tracker(meters=[meter], interval_s=0.02, **KNOWN) as tracker:
            while not any("engine died" in w for w in tracker.report().warnings):
                tracker.snapshot()
            for _ in range(5):
                with tracker.epoch():
                    pass
        engine_dead = [r for r in caplog.records if "engine.dead" in r.getMessage()]
    assert len(engine_dead) == 1
    assert "ZeroDivisionError: the engine's own (deadly.py:" in engine_dead[0].getMessage()
