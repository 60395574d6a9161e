"""The engine inline, on a clock that is moved by hand: ticks, jumps of the wall clock, a machine that slept."""

from __future__ import annotations

import functools
import itertools
import os
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from aiocarbon._core.identity import alone
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity, Reading
from aiocarbon._engine.engine import Engine
from aiocarbon._engine.scoping import Machine
from aiocarbon._engine.session import Session
from aiocarbon.errors import ReadError
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.meters.waves import Square
from aiocarbon.testing import FakeClock, ScriptedMeter
from tests.engines import closed, running

J_PER_KWH = 3.6e6

Body = Callable[[Engine, Session, FakeClock], Awaitable[None]]


def run(meter: Any, clock: FakeClock, body: Body, **arguments: Any) -> None:
    """Run a body inside an engine with one open session, all in this loop."""

    async def main() -> None:
        engine = Engine(clock=clock)
        async with running(engine):
            session = await engine.open({"location": "DK", "pue": 1.0, "meters": (meter,), **arguments}, alone("run"))
            await body(engine, session, clock)

    anyio.run(main)


def watts(clock: FakeClock) -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(100.0), refresh_s=0.001, clock=clock.monotonic_ns)


def test_energy_of_a_minute_is_exact_whatever_the_ticks() -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(60.0)
        report = await closed(engine, session, clock)
        assert report.duration_s == pytest.approx(60.0)
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(6000.0, rel=1e-4)
        assert report.overhead.missed_ticks == 0
        assert report.coverage == pytest.approx(1.0)

    run(watts(clock), clock, body, interval_s=5.0)


@pytest.mark.parametrize("by_s", [3600.0, -3600.0])
def test_a_wall_clock_that_jumps_an_hour_changes_no_duration_and_is_told(by_s: float) -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(5.0)
        clock.set_wall(by_s)
        await clock.advance(5.0)
        report = await closed(engine, session, clock)
        assert report.duration_s == pytest.approx(10.0)
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(1000.0, rel=1e-3)
        assert [w for w in report.warnings if "wall clock" in w] == [
            f"the wall clock was set by {by_s:+.0f} s; durations are not affected"
        ]

    run(watts(clock), clock, body)


def test_a_machine_that_slept_is_told_once_and_its_sleep_is_not_in_the_run() -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(5.0)
        clock.suspend(1800.0)
        await clock.advance(5.0)
        report = await closed(engine, session, clock)
        assert report.duration_s == pytest.approx(10.0)
        assert [w for w in report.warnings if "slept" in w] == [
            "the machine slept for 1800 s; that time is not in the run"
        ]
        assert not any("wall clock" in w for w in report.warnings)

    run(watts(clock), clock, body)


def test_when_a_counter_began_anew_is_told_in_the_run_s_own_time() -> None:
    clock = FakeClock()
    begun_ns = clock.monotonic_ns()

    def answer() -> int:
        awake_ns = clock.monotonic_ns() - begun_ns
        return 10**10 + awake_ns // 10 if awake_ns < 8 * 10**9 else awake_ns // 10

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(5.0)
        clock.suspend(1800.0)
        clock.set_wall(3600.0)
        await clock.advance(5.0)
        report = await closed(engine, session, clock)
        (told,) = [text for text in report.warnings if "its counter began anew" in text]
        found = re.search(r"([0-9.]+) s into the run", told)
        assert found is not None
        assert 8.0 <= float(found[1]) <= 10.0

    run(ScriptedMeter(energy_uj=itertools.repeat(answer), clock=clock.monotonic_ns), clock, body)


@pytest.mark.parametrize("sleep_s", [60.0, 8 * 3600.0])
def test_what_a_counter_went_on_to_count_in_a_sleep_is_in_no_run(sleep_s: float) -> None:
    clock = FakeClock()

    def answer() -> int:  # 100 W awake, 3 W asleep (s2idle)
        awake_ns = clock.monotonic_ns()
        return 10**10 + awake_ns // 10 + (clock.boot_ns() - awake_ns) * 3 // 1000

    device = Device(
        id="rapl:package-0",
        kind=DeviceKind.CPU,
        name="CPU package 0",
        quantity=Quantity.ENERGY,
        basis=Basis.COUNTER,
        refresh_s=0.001,
        max_power_w=300.0,
    )

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(5.0)
        clock.suspend(sleep_s)
        await clock.advance(5.0)
        report = await closed(engine, session, clock)
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(1000.0, rel=1e-3)
        assert report.it_energy_kwh_high * J_PER_KWH < 1500.0
        assert report.coverage < 1.0

    run(ScriptedMeter(energy_uj=itertools.repeat(answer), device=device, clock=clock.monotonic_ns), clock, body)


def test_each_epoch_of_a_gap_has_its_part_once_the_counter_tells_again() -> None:
    clock = FakeClock()
    t0_ns = clock.monotonic_ns()

    def answer() -> int:
        if 2.5 < (clock.monotonic_ns() - t0_ns) / 1e9 < 5.5:
            raise ReadError("no answer")
        return clock.monotonic_ns() // 10

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        for _ in range(8):
            await clock.advance(1.0)
            t_ns = clock.monotonic_ns()
            await engine.mark(session, functools.partial(session.border, t_ns, steps=0))
        report = await closed(engine, session, clock)
        assert len(report.epochs) == 8
        for epoch in report.epochs:
            assert epoch.it_energy_kwh * J_PER_KWH == pytest.approx(100.0 * epoch.duration_s, rel=1e-3)
        assert report.coverage == 1.0

    run(ScriptedMeter(energy_uj=itertools.repeat(answer), clock=clock.monotonic_ns), clock, body)


def test_ticks_that_came_too_late_are_counted_and_not_replayed() -> None:
    clock = FakeClock()
    reads_at: list[int] = []

    def values() -> Iterator[Callable[[], int]]:
        def answer() -> int:
            if len(reads_at) == 4:
                clock.skip(5.5)  # a read that takes 5.5 s
            reads_at.append(clock.monotonic_ns())
            return clock.monotonic_ns() // 10

        while True:
            yield answer

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        while len(reads_at) < 5:
            await clock.advance(1.0)
        before = len(reads_at)
        await clock.advance(3.0)
        assert len(reads_at) - before <= 4
        report = await closed(engine, session, clock)
        assert report.overhead.missed_ticks == 4  # of the five that fell into the read, the first was taken late
        assert not any("anew" in w for w in report.warnings)

    run(ScriptedMeter(energy_uj=values(), clock=clock.monotonic_ns), clock, body)


def test_two_sessions_share_the_shortest_interval_and_give_it_back() -> None:
    clock = FakeClock()
    meter = ScriptedMeter(energy_uj=iter(range(0, 10**9, 1000)), clock=clock.monotonic_ns)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        other = await engine.open({"location": "FR", "pue": 2.0, "meters": (meter,), "interval_s": 0.1}, alone("other"))
        before = meter.reads
        await clock.advance(2.0)
        assert meter.reads - before >= 19
        assert (await closed(engine, other, clock)).is_final
        before = meter.reads
        await clock.advance(2.0)
        assert meter.reads - before <= 3
        report = await closed(engine, session, clock)
        assert report.location.zone == "DK"
        assert report.pue.value == 1.0

    run(meter, clock, body)


class SlowAtFirst(SimulatedMeter):
    """Its first reading takes long, as that of a management controller that was asleep."""

    def __init__(self, clock: FakeClock, takes_s: float) -> None:
        super().__init__(wave=Constant(50.0), refresh_s=0.001, device_id="slow", clock=clock.monotonic_ns)
        self._hand, self._takes_ns = clock, round(takes_s * 1e9)

    def read(self, device: Device) -> Reading:
        until_ns, self._takes_ns = self._hand.monotonic_ns() + self._takes_ns, 0
        self._hand.wait(threading.Event(), until_ns)
        return super().read(device)


async def opening(engine: Engine, clock: FakeClock, group: Any, opened: list[Session]) -> None:
    """Begin to open another run, and leave it in the midst of that."""

    async def open_it() -> None:
        meters = (SlowAtFirst(clock, takes_s=3.5),)
        opened.append(await engine.open({"location": "DK", "pue": 1.0, "meters": meters}, alone("other")))

    group.start_soon(open_it)
    await clock.advance(0.0)
    assert len(engine.sessions) == 2
    assert not opened


def test_ticks_while_another_run_is_being_opened_harm_neither() -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        opened: list[Session] = []
        async with anyio.create_task_group() as group:
            await opening(engine, clock, group, opened)
            await clock.advance(3.0)
            assert not opened
            await clock.advance(3.0)
        (other,) = opened
        report, theirs = await closed(engine, session, clock), await closed(engine, other, clock)
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(100.0 * report.duration_s, rel=1e-3)
        assert theirs.it_energy_kwh * J_PER_KWH == pytest.approx(50.0 * theirs.duration_s, rel=1e-3)

    run(watts(clock), clock, body)


def test_a_process_that_ends_while_another_run_is_being_opened_ends_the_one_that_had_begun() -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        async with anyio.create_task_group() as group:
            await opening(engine, clock, group, [])
            group.start_soon(engine.close_all)
            await clock.advance(10.0)
        report = session.published
        assert report is not None
        assert report.is_final

    run(watts(clock), clock, body)


def test_a_counter_that_never_answers_is_asked_at_ticks_only() -> None:
    clock = FakeClock()
    device = replace(ScriptedMeter(energy_uj=[0]).device, refresh_s=0.1)
    meter = ScriptedMeter(energy_uj=[ReadError("EIO")], device=device, clock=clock.monotonic_ns)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(5.0)
        reads = meter.reads
        await clock.advance(20.0)
        assert meter.reads - reads <= 21
        report = await closed(engine, session, clock)
        assert report.coverage == 0.0

    run(meter, clock, body)


def test_what_the_instrument_used_is_its_cpu_time_at_the_mean_power_of_a_cpu() -> None:
    clock = FakeClock()
    wave = Square(period_s=10.0, duty=0.5, low_w=40.0, high_w=360.0)
    meter = SimulatedMeter(wave=wave, refresh_s=0.001, clock=clock.monotonic_ns, kind=DeviceKind.CPU)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(20.0)
        cost = (await closed(engine, session, clock)).overhead
        assert cost.cpu_s > 0.0
        assert cost.it_energy_kwh * J_PER_KWH == pytest.approx(cost.cpu_s * 200.0 / (os.cpu_count() or 1), rel=0.01)

    run(meter, clock, body)


def test_where_no_processor_is_read_nobody_knows_what_the_instrument_used() -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(5.0)
        assert (await closed(engine, session, clock)).overhead.it_energy_kwh is None

    run(watts(clock), clock, body)


class Broken(Machine):
    """A scope with an error of ours in it, which so many ticks meet."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def want(self, t_ns: int) -> None:
        if self.times:
            self.times -= 1
            raise ZeroDivisionError("at a tick")


def test_an_error_of_ours_at_a_tick_ends_neither_its_run_nor_another() -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        given = {"location": "DK", "pue": 1.0, "meters": (watts(clock),)}
        other = await engine.open(given, alone("other"))
        session.scope = Broken(3)
        await clock.advance(10.0)
        for one, failures in ((session, 1), (other, 0)):
            report = await closed(engine, one, clock)
            assert sum("failed (ZeroDivisionError: at a tick" in text for text in report.warnings) == failures
            assert report.it_energy_kwh * J_PER_KWH == pytest.approx(100.0 * report.duration_s, rel=1e-3)
            assert report.coverage == pytest.approx(1.0, abs=1e-3)

    run(watts(clock), clock, body)


def test_an_error_of_ours_at_a_tick_of_a_strict_run_ends_the_engine() -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        session.scope = Broken(1)
        await clock.advance(10.0)

    with pytest.raises(ExceptionGroup) as caught:
        run(watts(clock), clock, body, strict=True)
    assert caught.group_contains(ZeroDivisionError, match="at a tick")


def test_a_sleep_of_the_machine_before_a_run_is_no_matter_of_it() -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        clock.suspend(1800.0)
        second = await engine.open({"location": "DK", "pue": 1.0, "meters": (watts(clock),)}, alone("second"))
        await clock.advance(3.0)
        assert any("slept" in text for text in session.warnings)
        assert not any("slept" in text for text in second.warnings)

    run(watts(clock), clock, body)
