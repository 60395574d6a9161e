"""Runs whose begin or end is broken off, asked for twice, or late: they end once, and keep what was measured."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from aiocarbon import EngineError, Tracker, sync
from aiocarbon._core.identity import alone
from aiocarbon._engine.device_sync import DeviceSync
from aiocarbon._engine.engine import Engine
from aiocarbon._engine.life import Life
from aiocarbon.meters.base import Inventory
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.testing import FakeClock, ScriptedMeter
from tests.deadly import kill_engine
from tests.engines import closed, running

KNOWN = {"location": "DK", "intensity": 100.0, "pue": 1.0, "interval_s": 0.02}


def watts() -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(250.0), refresh_s=0.001)


class Slow(ScriptedMeter):
    """Opens once it may."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__(energy_uj=range(0, 10**12, 1000))
        self._release = release

    def open(self, covered: Any = frozenset()) -> Inventory:
        self._release.wait(30)
        return super().open(covered)


def engines() -> set[Any]:
    return {thread for thread in threading.enumerate() if thread.name == "aiocarbon-engine"}


def gone(threads: set[Any]) -> bool:
    for thread in threads:
        thread.join(20)
    return not any(thread.is_alive() for thread in threads)


# -- the begin --------------------------------------------------------------------------------------------------


def test_a_start_that_is_cancelled_and_then_closed_leaves_no_engine_behind() -> None:
    release = threading.Event()
    others = engines()

    async def run() -> None:
        tracker = Tracker(meters=[Slow(release)], **KNOWN)  # type: ignore[arg-type]
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await tracker.start()
        finally:
            await tracker.aclose()

    try:
        asyncio.run(run())
        begun = engines() - others
        assert begun
    finally:
        release.set()
    assert gone(begun)


@pytest.mark.parametrize("is_left_early", [False, True])
def test_a_run_that_begins_late_is_measured_from_then_on_and_ends(
    monkeypatch: pytest.MonkeyPatch, is_left_early: bool
) -> None:
    monkeypatch.setattr(Life, "open_limit_s", 0.01)  # ten seconds are long for a test
    release = threading.Event()
    others = engines()
    with sync.Tracker(meters=[Slow(release), watts()], **KNOWN) as tracker:  # type: ignore[arg-type]
        begun = engines() - others
        with tracker.epoch():  # told to nobody
            assert any("could not begin" in text for text in tracker.report().warnings)
        if not is_left_early:
            release.set()
            while not any("began late" in text for text in tracker.report().warnings):
                time.sleep(0.001)
            with tracker.epoch(), tracker.span("work"):
                time.sleep(0.02)
    release.set()
    report = tracker.report()
    assert report.is_final
    assert gone(begun)
    assert tracker.report() is report
    if is_left_early:
        assert report.coverage == 0.0
        return
    assert report.epochs_total == 1
    assert report.it_energy_kwh > 0.0
    assert [span.count for span in report.spans] == [1]


def test_a_strict_run_that_does_not_begin_in_time_raises_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Life, "open_limit_s", 0.01)
    release = threading.Event()
    others = engines()
    tracker = sync.Tracker(meters=[Slow(release)], strict=True, **KNOWN)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="did not"):
        tracker.start()
    begun = engines() - others
    release.set()
    assert gone(begun)


def test_where_no_thread_can_be_started_the_training_runs_unmeasured() -> None:
    code = """
import threading
from aiocarbon import sync
def refuse(self): raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
with sync.Tracker(location="DK") as tracker:
    with tracker.epoch():
        pass
report = tracker.report()
assert report.coverage == 0.0, report
assert any("could be read" in text for text in report.warnings), report.warnings
came = sync.wait_until_clean(below_g_per_kwh=1.0, location="DK", offline=True)
print("trained", came.reason)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("trained")


# -- the end ----------------------------------------------------------------------------------------------------


def test_an_end_that_nobody_waits_for_is_made_once_when_the_process_ends(tmp_path: Path) -> None:
    """As with a second Ctrl-C while sources of a silent network are waited for."""
    clock = FakeClock()
    is_finishing = anyio.Event()

    class Silent:
        async def run(self) -> None:
            await anyio.sleep_forever()

        async def finish(self, limit_s: float) -> None:
            is_finishing.set()
            await anyio.sleep_forever()

    async def main() -> None:
        engine = Engine(clock=clock, poller=lambda *_: Silent())  # type: ignore[arg-type, return-value]
        meter = SimulatedMeter(wave=Constant(100.0), refresh_s=0.001, clock=clock.monotonic_ns)
        reports: list[Any] = []
        async with running(engine) as group:
            arguments = {"location": "DK", "pue": 1.0, "meters": (meter,), "journal": tmp_path}
            session = await engine.open(arguments, alone("run"))
            await clock.advance(3.0)
            end_ns = clock.monotonic_ns()

            async def close() -> None:
                reports.append(await engine.close(session, end_ns, 0, ended_well=True))

            async def at_exit() -> None:
                await is_finishing.wait()
                await engine.close_all()
                reports.append(session.published)

            group.start_soon(close)
            group.start_soon(at_exit)
            while len(reports) < 2:
                await clock.advance(0.01)
            assert not engine.sessions
        first, second = reports
        assert first is second
        assert first.is_final
        assert first.ended_well
        assert first.duration_s == pytest.approx(3.0)

    anyio.run(main)
    (journal,) = (tmp_path / "run").glob("*.jsonl")
    assert json.loads(journal.read_text().splitlines()[-1])["k"] == "end"


def minutes_of(
    folder: Path, clock: FakeClock, meters: tuple[Any, ...], seconds: float, interval_s: float
) -> list[float]:
    """Run so long, and give the minutes of UTC that its journal has records of; its last line is the end."""
    header_ns = clock.wall_ns()

    async def main() -> None:
        engine = Engine(clock=clock)
        async with running(engine):
            arguments = {"location": "DK", "pue": 1.0, "meters": meters, "journal": folder, "intensity": 100.0}
            session = await engine.open({**arguments, "interval_s": interval_s}, alone("run"))
            await clock.advance(seconds)
            await closed(engine, session, clock)

    anyio.run(main)
    (journal,) = (folder / "run").glob("*.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert lines[-1]["k"] == "end"  # a journal that has another there is taken for one of a run that broke off
    header = lines[0]
    assert header["wall_ns"] >= header_ns
    return [(line["t"] - header["t"] + header["wall_ns"]) / 60e9 for line in lines if line.get("k") == "tick"]


@pytest.mark.parametrize("offset_ns", [0, 1, 123_456_789])
@pytest.mark.parametrize(("seconds", "interval_s"), [(130.0, 1.0), (3.0, 10.0), (63.0, 60.0)])
def test_each_minute_is_written_once_and_nothing_behind_the_end(
    tmp_path: Path, offset_ns: int, seconds: float, interval_s: float
) -> None:
    clock = FakeClock(wall_ns=1_800_000_000 * 10**9 - 10**9 + offset_ns)  # just before a minute
    meter = SimulatedMeter(wave=Constant(100.0), refresh_s=0.001, clock=clock.monotonic_ns)
    found = minutes_of(tmp_path, clock, (meter,), seconds, interval_s)
    assert found == [30_000_000 + i for i in range(1 + int((seconds - 1.0) // 60.0))]


@pytest.mark.parametrize("interval_s", [1.0, 30.0, 60.0])
def test_a_counter_that_stands_still_keeps_no_minute_from_being_written(tmp_path: Path, interval_s: float) -> None:
    clock = FakeClock(wall_ns=1_800_000_000 * 10**9 - 3 * 10**9)
    meter = SimulatedMeter(wave=Constant(100.0), refresh_s=0.001, clock=clock.monotonic_ns)
    still = ScriptedMeter(energy_uj=[1000], clock=clock.monotonic_ns)
    found = minutes_of(tmp_path, clock, (meter, still), 200.0, interval_s)
    assert [minute for minute in found if minute == int(minute)] == [30_000_000 + i for i in range(4)]


def test_what_an_engine_cost_that_died_is_not_the_training_s_own_time() -> None:
    class Deadly(ScriptedMeter):
        def read(self, device: Any) -> Any:
            if self.reads > 5:
                kill_engine()
            return super().read(device)

    with sync.Tracker(meters=[Deadly(energy_uj=range(0, 10**9, 1000))], **KNOWN) as tracker:  # type: ignore[arg-type]
        while not any("engine died" in text for text in tracker.report().warnings):
            tracker.snapshot()
        began = time.thread_time()
        while time.thread_time() < began + 0.3:
            pass
    assert tracker.report().overhead.cpu_s < 0.3


# -- queued work of a device ------------------------------------------------------------------------------------


def test_a_mark_that_waits_for_a_device_when_the_run_ends_lies_where_it_was_called() -> None:
    release = threading.Event()

    async def run() -> Any:
        async with Tracker(meters=[watts()], device_sync=lambda: release.wait(30), **KNOWN) as tracker:  # type: ignore[arg-type]
            await asyncio.sleep(0.02)
            with anyio.move_on_after(0.02):
                await tracker.epoch()
            await asyncio.sleep(0.05)
        return tracker.report()

    try:
        report = asyncio.run(run())
    finally:
        release.set()
    (epoch,) = report.epochs
    assert 0.02 <= epoch.duration_s <= report.duration_s - 0.05
    parts = epoch.it_energy_kwh + report.outside.it_energy_kwh
    assert parts == pytest.approx(report.it_energy_kwh, rel=1e-9)


def test_a_device_sync_that_hangs_is_left_out_from_then_on() -> None:
    told: list[str] = []
    release = threading.Event()
    waits = DeviceSync(told.append, limit_s=0.01)
    waits.how = lambda: release.wait(30)

    async def run() -> int:
        async def blocking(function: Any) -> None:
            await anyio.to_thread.run_sync(function, abandon_on_cancel=True)

        engine: Any = SimpleNamespace(blocking=blocking, clock=SimpleNamespace(monotonic_ns=lambda: 7))
        return await waits.waited(engine, waits.prepare(), 5)

    try:
        assert anyio.run(run) == 7
    finally:
        release.set()
    assert waits.how is None
    assert waits.prepare() is None
    assert "did not return" in told[0]


def test_a_failed_device_keeps_no_mark_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        def record(self, stream: object) -> None:
            raise RuntimeError("CUDA error: device-side assert triggered")

    cuda = SimpleNamespace(
        is_initialized=lambda: True, device_count=lambda: 1, Event=Event, current_stream=lambda index: None
    )
    torch = SimpleNamespace(cuda=cuda, _C=SimpleNamespace(_cuda_hasPrimaryContext=lambda index: True))
    monkeypatch.setitem(sys.modules, "torch", torch)
    with (
        pytest.raises(ValueError, match="the training's own"),
        sync.Tracker(meters=[watts()], device_sync="torch", **KNOWN) as tracker,  # type: ignore[arg-type]
        tracker.epoch(),
    ):
        raise ValueError("the training's own")
    report = tracker.report()
    assert report.epochs_total == 1
    assert any("device-side assert" in text for text in report.warnings)


# -- streams ----------------------------------------------------------------------------------------------------


def held(tracker: Any) -> threading.Event:
    """End a run whose engine does nothing until it may."""
    release = threading.Event()

    async def hold(_: Any) -> None:
        release.wait(30)

    tracker._handle.call(hold)
    tracker._handle.close(time.monotonic_ns(), ended_well=True)
    return release


def test_a_stream_waits_for_the_final_report_of_a_run_that_is_ending() -> None:
    with ThreadPoolExecutor(1) as pool, sync.Tracker(meters=[watts()], **KNOWN) as tracker:  # type: ignore[arg-type]
        stream = tracker.stream(0.02)
        assert not next(stream).is_final
        release = held(tracker)
        last = pool.submit(next, stream)
        wait([last], 0.05)  # it has nothing to tell before
        release.set()
        assert last.result(30).is_final
        assert list(stream) == []


def test_an_async_stream_waits_for_the_final_report_too() -> None:
    async def run() -> None:
        async with Tracker(meters=[watts()], **KNOWN) as tracker:  # type: ignore[arg-type]
            stream = tracker.stream(0.02)
            assert not (await anext(stream)).is_final
            release = held(tracker)
            asyncio.get_running_loop().call_later(0.05, release.set)  # it has nothing to tell before
            assert (await anext(stream)).is_final
            assert [report async for report in stream] == []

    asyncio.run(run())
