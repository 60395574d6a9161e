"""Awkward moments: devices that hang while the pace changes, workers that have no turn, disks that stall."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiocarbon import Tracker
from aiocarbon._core.identity import alone
from aiocarbon._core.reading import Finding
from aiocarbon._engine.clock import SystemClock
from aiocarbon._engine.engine import Engine
from aiocarbon._engine.hops import READ_DEADLINE_S, Ticker
from aiocarbon._engine.session import Session
from aiocarbon._engine.ticking import Ticking
from aiocarbon.testing import FakeClock, ScriptedMeter
from tests.engines import running

KNOWN = {"location": "DK", "pue": 1.0, "intensity": 100.0}


def run(
    meter: Any, body: Callable[[Engine, Session], Awaitable[None]], clock: SystemClock | None = None, **arguments: Any
) -> None:
    """Run a body inside an engine with one open session, on the machine's clock."""

    async def main() -> None:
        engine = Engine(clock=clock)
        async with running(engine):
            session = await engine.open({**KNOWN, "meters": (meter,), **arguments}, alone("run"))
            await body(engine, session)

    anyio.run(main)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  # what is waited for happens in workers
        await anyio.sleep(0.001)


async def keep_busy(engine: Engine, session: Session) -> None:
    """Let no worker begin anything any more."""
    await engine._behind._begun[session].wait()
    await until(lambda: engine.limiter.borrowed_tokens == 1)  # the ticks'
    engine.limiter.total_tokens = 1


class Hanging:
    """Answers of a device that hangs while it is held."""

    def __init__(self) -> None:
        self.is_held = False
        self.hangs = threading.Event()
        self.release = threading.Event()

    def __iter__(self) -> Iterator[Callable[[], float]]:
        while True:
            yield self._answer

    def _answer(self) -> float:
        if self.is_held:
            self.hangs.set()
            self.release.wait()
        return time.monotonic_ns() // 10_000_000


def test_a_power_sensor_that_hangs_in_a_burst_stays_set_apart_until_it_answers() -> None:
    answers = Hanging()

    async def body(engine: Engine, session: Session) -> None:
        (track,) = session.tracks
        await until(lambda: len(track.derivation.curve) > 5)
        answers.is_held = True
        await until(lambda: any("did not answer" in text for text in session.warnings))
        for _ in range(20):  # what it answered before it hung comes now, if ever
            await anyio.sleep(0.001)
            assert track.is_slow
        answers.is_held = False
        answers.release.set()
        await until(lambda: not track.is_slow)
        await engine.close(session, time.monotonic_ns(), 0, ended_well=True)

    run(ScriptedMeter(power_w=answers), body, interval_s=0.2)


def test_a_device_that_hangs_while_the_pace_changes_is_found_all_the_same() -> None:
    answers = Hanging()

    async def body(engine: Engine, session: Session) -> None:
        answers.is_held = True
        await until(answers.hangs.is_set)
        other = await engine.open({**KNOWN, "meters": (ScriptedMeter(energy_uj=[0]),), "interval_s": 0.05}, alone("b"))
        await until(lambda: any("did not answer" in text for text in session.warnings))
        answers.is_held = False
        answers.release.set()
        for one in (other, session):
            await engine.close(one, time.monotonic_ns(), 0, ended_well=True)

    run(ScriptedMeter(energy_uj=answers), body, interval_s=0.1)


def test_a_mark_that_no_worker_came_to_in_time_is_read_as_soon_as_one_can() -> None:
    meter = ScriptedMeter(energy_uj=[lambda: time.monotonic_ns() // 1000])

    async def body(engine: Engine, session: Session) -> None:
        await keep_busy(engine, session)
        reads, now = meter.reads, time.monotonic_ns()
        await engine.mark(session, lambda: session.border(now, steps=0))
        assert meter.reads == reads
        engine.limiter.total_tokens = 64
        await until(lambda: meter.reads > reads)
        await engine.close(session, time.monotonic_ns(), 0, ended_well=True)

    run(meter, body, interval_s=60.0)


def test_an_end_that_the_disk_takes_late_is_written_and_told(tmp_path: Path) -> None:
    async def body(engine: Engine, session: Session) -> None:
        await until(lambda: bool(list(tmp_path.rglob("*.jsonl"))))
        await keep_busy(engine, session)
        report = await engine.close(session, time.monotonic_ns(), 0, ended_well=True)
        assert any("the disk is slow" in text for text in report.warnings)
        engine.limiter.total_tokens = 64

    run(ScriptedMeter(energy_uj=[lambda: time.monotonic_ns() // 1000]), body, journal=tmp_path, interval_s=60.0)
    (journal,) = (tmp_path / "run").glob("*.jsonl")
    assert json.loads(journal.read_text().splitlines()[-1])["k"] == "end"


def test_a_check_that_hangs_is_not_begun_again() -> None:
    release, begun = threading.Event(), []

    class Checked(ScriptedMeter):
        def check(self) -> list[Finding]:
            begun.append(1)
            release.wait()
            return []

    async def body(engine: Engine, session: Session) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(engine._bank.check)
            await until(lambda: bool(begun))
            await engine._bank.check()
            release.set()
        assert len(begun) == 1
        await engine.close(session, time.monotonic_ns(), 0, ended_well=True)

    run(Checked(energy_uj=[lambda: time.monotonic_ns() // 1000]), body)


def test_a_loop_that_was_kept_from_running_blames_no_device() -> None:
    begun, release = threading.Event(), threading.Event()

    def answer() -> int:
        if held[0]:
            begun.set()
            release.wait()
        return time.monotonic_ns() // 10

    held = [False]

    async def body(engine: Engine, session: Session) -> None:
        held[0] = True
        await until(begun.is_set)
        until_s = time.monotonic() + 2 * READ_DEADLINE_S
        while time.monotonic() < until_s:  # as a process that is stopped amid a read
            pass
        await anyio.sleep(0.01)
        held[0] = False
        release.set()
        report = await engine.close(session, time.monotonic_ns(), 0, ended_well=True)
        assert not any("did not answer" in text for text in report.warnings)

    run(ScriptedMeter(energy_uj=iter(lambda: answer, None)), body, interval_s=0.05)


class Counted(SystemClock):
    """Counts how often it is asked for the time of day, which each tick does once."""

    def __init__(self) -> None:
        self.looks = 0

    def wall_ns(self) -> int:
        self.looks += 1
        return super().wall_ns()


def test_a_loop_that_is_behind_hears_of_many_ticks_at_once() -> None:
    clock = Counted()
    meter = ScriptedMeter(energy_uj=[lambda: time.monotonic_ns() // 10])

    async def body(engine: Engine, session: Session) -> None:
        await until(lambda: meter.reads >= 5)
        reads, readings, looks = meter.reads, session.made(time.monotonic_ns()).overhead.readings, clock.looks
        while meter.reads < reads + 20:  # the loop does something else while the worker reads
            pass
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        assert clock.looks - looks <= 2
        assert session.made(time.monotonic_ns()).overhead.readings >= readings + 19
        await engine.close(session, time.monotonic_ns(), 0, ended_well=True)

    run(meter, body, clock, interval_s=0.02)


# -- ticks -----------------------------------------------------------------------------------------------------------


def ticks(clock: Any, body: Callable[[Ticking, list[Ticker]], Awaitable[None]]) -> list[Ticker]:
    """Run a body with ticks of no device; what was heard."""
    heard: list[Ticker] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            limiter = anyio.CapacityLimiter(4)
            if isinstance(clock, FakeClock):
                clock.workers = lambda: limiter.borrowed_tokens
            ticking = Ticking(
                clock=clock, group=group, limiter=limiter, tracks=list, heard=heard.append, hung=lambda ticker: None
            )
            await body(ticking, heard)
            ticking.stop()

    anyio.run(main)
    return heard


def test_a_pace_that_changes_again_and_again_puts_no_tick_off() -> None:
    clock = FakeClock()

    async def body(ticking: Ticking, _: list[Ticker]) -> None:
        for n in range(20):
            ticking.begin(10**9 - n)
            await clock.advance(0.4)

    assert len(ticks(clock, body)) == 8


class Odd(SystemClock):
    """Waits by the wall clock, which is set: too short the first time, far too long the second."""

    def __init__(self) -> None:
        self.pauses = 0

    def pause(self, event: threading.Event, until_ns: int) -> bool:
        self.pauses += 1
        if self.pauses == 1:
            return event.is_set()
        return event.wait() if self.pauses == 2 else super().pause(event, until_ns)


def test_a_wall_clock_that_is_set_neither_stops_nor_miscounts_ticks() -> None:
    async def body(ticking: Ticking, heard: list[Ticker]) -> None:
        ticking.begin(20_000_000)
        await until(lambda: len(heard) >= 3)
        assert all(ticker.missed.total >= 0 for ticker in heard)

    ticks(Odd(), body)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_stream_whose_reader_is_slower_than_it_goes_on(backend: str) -> None:
    async def main() -> None:
        seen = 0
        async with Tracker(meters="simulated:250", **KNOWN) as tracker:  # type: ignore[arg-type]
            async with aclosing(tracker.stream(0.02)) as stream:
                async for _ in stream:
                    await anyio.sleep(0.03)
                    seen += 1
                    if seen == 3:
                        break
        assert seen == 3

    anyio.run(main, backend=backend)
