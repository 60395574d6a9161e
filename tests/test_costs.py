"""What the instrument costs, counted and not timed: calls of its own functions, modules it loads, lines it writes.

A count is the same on every machine, so that these hold where a time would not. A figure here is an upper bound a
little above what was found; a change that needs more has to say why.
"""

from __future__ import annotations

import asyncio
import json
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiocarbon
from aiocarbon import sync
from aiocarbon._core.identity import alone
from aiocarbon._engine.engine import Engine
from aiocarbon.meters import Quantity
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.testing import FakeClock
from tests.engines import closed, running

OURS = str(Path(aiocarbon.__file__).parent)
MEASURED = (str(Path(OURS, "testing.py")), str(Path(OURS, "meters", "simulated.py")))
"""The fakes: what they do is no cost."""


class Calls:
    """Counts calls of the package's own Python functions, in this thread and in those that begin meanwhile."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    def _told(self, frame: Any, event: str, _: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(OURS) and file not in MEASURED:
            with self._lock:
                self.count += 1

    def __enter__(self) -> Calls:
        threading.setprofile(self._told)
        sys.setprofile(self._told)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)


def counted(act: Callable[[], object], times: int = 50) -> float:
    """Calls that one `act` takes, after a first one: the least of rounds, for a worker may begin amid one."""
    act()
    rounds = []
    for _ in range(3):
        with Calls() as calls:
            for _ in range(times):
                act()
        rounds.append(calls.count / times)
    return min(rounds)


def in_engine(devices: int, seconds: float, folder: Path | None = None, **arguments: Any) -> int:
    """Calls that an engine needs for so many seconds of ticks, its workers' included; begin and end left out."""
    clock, found = FakeClock(), []
    waves = {f"sensor-{i}": Constant(100.0 + i) for i in range(devices)}
    meter = SimulatedMeter(wave=waves, refresh_s=0.02, quantity=Quantity.ENERGY, clock=clock.monotonic_ns)
    settings = {"location": "DK", "pue": 1.0, "meters": (meter,), "offline": True, "journal": folder, **arguments}

    async def main() -> None:
        engine = Engine(clock=clock)
        async with running(engine):
            session = await engine.open(settings, alone("run", "node"))
            await clock.advance(30.0)
            before = calls.count
            await clock.advance(seconds)
            found.append(calls.count - before)
            await closed(engine, session, clock)

    with Calls() as calls:
        anyio.run(main)
    return int(found[0])


@pytest.mark.parametrize(("devices", "most"), [(1, 90), (8, 400)])
def test_a_tick_takes_so_many_calls(devices: int, most: int) -> None:
    assert in_engine(devices, 60.0) / 60.0 <= most


@pytest.mark.parametrize(("devices", "most"), [(1, 320), (8, 830)])
def test_a_tick_that_is_written_to_a_journal_takes_so_many_calls(devices: int, most: int, tmp_path: Path) -> None:
    assert in_engine(devices, 60.0, tmp_path) / 60.0 <= most


def test_calls_grow_with_devices_and_pace_and_not_with_time() -> None:
    minute = in_engine(1, 60.0)
    assert in_engine(9, 60.0) - minute <= 8 * 60 * 100
    assert in_engine(1, 60.0, interval_s=0.5) <= 2.1 * minute
    assert in_engine(1, 240.0) <= 4.2 * minute


def test_marks_take_so_many_calls_of_the_training() -> None:
    with sync.Tracker(meters="simulated:250", intensity=100.0, location="DK", offline=True) as tracker:

        def span() -> None:
            with tracker.span("rollout"):
                pass

        assert counted(tracker.step) <= 3
        assert counted(span) <= 6
        assert counted(tracker.snapshot) <= 9


@pytest.mark.parametrize(("code", "most"), [("import aiocarbon", 31), ("from aiocarbon import sync", 32)])
def test_an_import_loads_so_many_modules_of_ours(code: str, most: int) -> None:
    told = f"import sys\n{code}\nprint(sum(name.partition('.')[0] == 'aiocarbon' for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= most


def test_ten_minutes_of_a_journal_are_so_many_lines_and_bytes(tmp_path: Path) -> None:
    in_engine(2, 600.0, tmp_path, interval_s=10.0)
    (path,) = tmp_path.rglob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    ticks = [line for line in lines if json.loads(line).get("k") == "tick"]
    assert 9 <= len(ticks) <= 11  # one write a minute
    assert sum(map(len, ticks)) <= 11 * 90
    assert len(lines) <= len(ticks) + 10  # what is written once a run


class Waking(selectors.DefaultSelector):
    """Counts how often its loop slept."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events."""
        self.sleeps += timeout is None or timeout > 0
        return super().select(timeout)


def test_a_tick_wakes_the_engine_s_loop_once() -> None:
    selector, ticks = Waking(), 40
    meter = SimulatedMeter(wave=Constant(100.0), refresh_s=0.001, quantity=Quantity.ENERGY)

    async def main() -> float:
        engine = Engine()
        async with running(engine):
            given = {"location": "DK", "pue": 1.0, "intensity": 100.0, "meters": (meter,), "interval_s": 0.02}
            session = await engine.open(given, alone("run"))
            cost, sleeps = session.made(time.monotonic_ns()).overhead, selector.sleeps
            await anyio.sleep(ticks * 0.02)
            now = session.made(time.monotonic_ns()).overhead
            woken = selector.sleeps - sleeps
            read = now.readings - cost.readings
            await engine.close(session, time.monotonic_ns(), 0, ended_well=True)
        assert read >= ticks / 4  # else there was nothing to count
        return woken / read

    woken = anyio.run(main, backend_options={"loop_factory": lambda: asyncio.SelectorEventLoop(selector)})
    assert woken <= 1.3  # two and more, where each tick is a timer of the loop and a hop of its own
