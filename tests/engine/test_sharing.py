"""Whose energy it was, through the whole engine on a clock that is moved by hand: the parts make the run, always."""

from __future__ import annotations

import contextvars
import math
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest

from aiocarbon._core.identity import alone
from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.reading import DeviceKind, Quantity
from aiocarbon._core.units import J_PER_KWH, NS_PER_S
from aiocarbon._engine.engine import Engine
from aiocarbon._engine.session import Session
from aiocarbon._engine.tape import Tape
from aiocarbon.errors import MeterLostError
from aiocarbon.meters.simulated import Constant, SimulatedMeter, Square
from aiocarbon.settings import check_arguments
from aiocarbon.span import Span
from aiocarbon.testing import FakeClock
from tests.engines import closed, running


class Rig:
    """An engine in this loop, one open session, and what its user's tasks would have in their hands."""

    def __init__(self, engine: Engine, session: Session, clock: FakeClock) -> None:
        self.engine = engine
        self.session = session
        self.clock = clock
        self.begin_ns = clock.monotonic_ns()
        self.tape = session.sharing.tape = Tape(
            lambda: None, lambda: None, clock.monotonic_ns, lambda t_ns: engine.group.start_soon(engine.look, t_ns)
        )
        self.tape.devices = lambda: [track.device for track in session.tracks]
        self.tape.begin()

    def span(self, name: str, *, owner: str = "", weight: Any = None, device: Any = None, **tags: Any) -> Span:
        return Span(self.tape, name, weight, device, tags, owner)

    def opened(self, name: str, **fields: Any) -> Span:
        """A span that lies in none."""
        span = self.span(name, **fields)
        contextvars.Context().run(span.__enter__)
        return span

    def closed(self, span: Span) -> None:
        span.__exit__(None, None, None)

    async def until(self, at_s: float) -> None:
        await self.clock.sleep_until(self.begin_ns + round(at_s * NS_PER_S))

    async def ended(self, at_ns: int | None = None) -> Any:
        """The final report; the clock is moved on while the end waits for it."""
        self.tape.end()
        return await closed(self.engine, self.session, self.clock, at_ns)


def run(
    meters: Sequence[Any], clock: FakeClock, body: Callable[[Rig], Awaitable[None]], *, poller: Any = None, **more: Any
) -> None:
    """Run a body inside an engine with one open session, all in this loop."""

    async def main() -> None:
        engine = Engine(clock=clock, poller=poller)
        async with running(engine):
            told = {"location": "DK", "pue": 1.0, "intensity": 100.0, **more, "meters": tuple(meters)}
            session = await engine.open(check_arguments(told), alone("run"))
            await body(Rig(engine, session, clock))

    anyio.run(main)


def watts(clock: FakeClock, power_w: float = 300.0, device_id: str = "simulated-0", **fields: Any) -> SimulatedMeter:
    return SimulatedMeter(
        wave=Constant(power_w), refresh_s=0.001, device_id=device_id, clock=clock.monotonic_ns, **fields
    )


def joules(part: Any) -> float:
    return float(part.it_energy_kwh) * J_PER_KWH


def by_name(report: Any) -> dict[str, Any]:
    return {span.name: span for span in report.spans}


def adds_up(report: Any) -> bool:
    """Whether spans and what no span owns make the run, by the report's own figures."""
    for field in ("it_energy_kwh", "energy_kwh", "co2eq_g"):
        parts = math.fsum(getattr(part, field) for part in (*report.spans, report.unattributed))
        if parts != pytest.approx(getattr(report, field), rel=1e-9, abs=1e-15):
            return False
        if any(getattr(part, field) < 0.0 for part in (*report.spans, report.unattributed)):
            return False
    return True


async def split_behind(rig: Rig) -> int:
    """An instant behind which energy was split already."""
    rig.opened("left open")
    await rig.clock.advance(5.0)
    at_ns = rig.clock.monotonic_ns()
    await rig.clock.advance(0.1)
    await rig.engine.snapshot(rig.session)
    return at_ns


def test_an_end_that_is_told_late_lies_where_energy_was_split_up_to_and_the_parts_make_the_run() -> None:
    """On a busy machine the user's thread stands still between the stamp of the end and its telling."""
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        report = await rig.ended(await split_behind(rig))
        assert adds_up(report)
        assert report.duration_s == pytest.approx(5.1)

    run([watts(clock)], clock, body)


def test_a_report_of_an_instant_before_that_up_to_which_energy_is_split_adds_up() -> None:
    """A snapshot that waited for its readings publishes what it was asked for, and a tick came in between."""
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        rig.session.publish(await split_behind(rig))
        assert adds_up(rig.session.published)

    run([watts(clock)], clock, body)


# -- the case that everybody knows --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "joules_of"), [("even", (9000.0, 9000.0, 0.0)), ("even,floor_w=50", (7500.0, 7500.0, 3000.0))]
)
def test_two_tasks_that_overlap_share_what_the_device_drew(rule: str, joules_of: tuple[float, ...]) -> None:
    """A from 0 s to 40 s, B from 20 s to 60 s, at 300 W."""
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        async def task(name: str, begin_s: float, end_s: float) -> None:
            await rig.until(begin_s)
            with rig.span(name):
                await rig.until(end_s)

        async with anyio.create_task_group() as group:
            group.start_soon(task, "A", 0.0, 40.0)
            group.start_soon(task, "B", 20.0, 60.0)
            await clock.advance(60.0)
        report = await rig.ended()
        found = by_name(report)
        assert (joules(found["A"]), joules(found["B"])) == pytest.approx(joules_of[:2], rel=1e-6)
        idle = report.unattributed.idle
        assert (0.0 if idle is None else joules(idle)) == pytest.approx(joules_of[2], rel=1e-6)
        assert joules(report.unattributed) == pytest.approx(joules_of[2], rel=1e-6, abs=1e-6)
        assert (found["A"].duration_s, found["B"].duration_s) == pytest.approx((40.0, 40.0))
        assert joules(report) == pytest.approx(18_000.0, rel=1e-6)
        assert adds_up(report)

    run([watts(clock)], clock, body, attribution=rule)


# -- bad days of devices ------------------------------------------------------------------------------------------


class Troubled(SimulatedMeter):
    """A counter that is lost, hangs or opens late, by the clock."""

    def __init__(
        self,
        clock: FakeClock,
        power_w: float,
        *,
        lost_s: float = math.inf,
        hangs_s: tuple[float, float] = (math.inf, math.inf),
        opens_s: float = 0.0,
    ) -> None:
        super().__init__(wave=Constant(power_w), refresh_s=0.001, device_id="troubled", clock=clock.monotonic_ns)
        self._made_ns = clock.monotonic_ns()
        self._fake = clock
        self._lost_s, self._hangs_s, self._opens_s = lost_s, hangs_s, opens_s

    def _wait_until(self, at_s: float) -> None:
        self._fake.wait(threading.Event(), self._made_ns + round(at_s * NS_PER_S))

    def open(self, covered: Any = frozenset()) -> Any:
        self._wait_until(self._opens_s)
        return super().open(covered)

    def read(self, device: Any) -> Any:
        now_s = (self._fake.monotonic_ns() - self._made_ns) / NS_PER_S
        if now_s >= self._lost_s:
            raise MeterLostError("fell off the bus", device=device.id)
        if self._hangs_s[0] <= now_s < self._hangs_s[1]:
            self._wait_until(self._hangs_s[1])
        return super().read(device)


async def slow(rig: Rig) -> None:
    """The clock stands until the engine has set the device that hangs apart, which takes a quarter of a real second."""
    while not any(track.is_slow for track in rig.session.tracks):  # noqa: ASYNC110  # the engine tells nobody
        await anyio.sleep(0.01)


async def watched(rig: Rig, to_s: float) -> None:
    """Move the clock second by second; each published report adds up."""
    while rig.clock.monotonic_ns() < rig.begin_ns + round(to_s * NS_PER_S):
        await rig.clock.advance(1.0)
        assert adds_up(rig.session.published)


def test_a_lost_device_leaves_shares_that_add_up() -> None:
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        a = rig.opened("A")
        await watched(rig, 5.0)
        b = rig.opened("B")
        await watched(rig, 20.0)
        rig.closed(a)
        rig.closed(b)
        report = await rig.ended()
        assert adds_up(report)
        # The lost one was read for the last time at 9 s, and the other goes on.
        assert joules(by_name(report)["B"]) == pytest.approx(4 * 150.0 + 11 * 50.0, rel=1e-2)
        assert joules(report.unattributed) == pytest.approx(0.0, abs=1.0)
        assert any("was lost" in warning for warning in report.warnings)

    run([watts(clock, 100.0), Troubled(clock, 200.0, lost_s=10.0)], clock, body)


def test_spans_wait_for_a_device_that_hangs_and_get_what_it_tells_afterwards() -> None:
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        await rig.clock.advance(4.0)
        during = rig.opened("during")
        await rig.clock.advance(2.0)
        await slow(rig)
        await watched(rig, 10.0)
        rig.closed(during)
        after = rig.opened("after")
        await watched(rig, 20.0)
        rig.closed(after)
        report = await rig.ended()
        assert adds_up(report)
        assert joules(by_name(report)["during"]) == pytest.approx(6 * 300.0, rel=1e-3)
        assert joules(by_name(report)["after"]) == pytest.approx(10 * 300.0, rel=1e-3)

    run([watts(clock, 100.0), Troubled(clock, 200.0, hangs_s=(5.0, 15.0))], clock, body)


def test_what_a_device_tells_after_a_hang_that_nobody_waited_for_is_in_no_span() -> None:
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        rig.closed(rig.opened("first"))
        await rig.clock.advance(6.0)
        await slow(rig)
        await watched(rig, 89.0)
        late = rig.opened("late")
        await watched(rig, 100.0)
        rig.closed(late)
        report = await rig.ended()
        assert adds_up(report)
        assert joules(report) == pytest.approx(100 * 300.0, rel=1e-3)
        # In the quiet before it the other device drew 100 W, which is its idle floor.
        # A second of it passed until the hanging read was over, and one until the next.
        assert 9 * 200.0 <= joules(by_name(report)["late"]) <= 11 * 200.0 + 1.0
        assert report.unattributed.idle is not None
        assert any("came after their time was settled" in warning for warning in report.warnings)

    run([watts(clock, 100.0), Troubled(clock, 200.0, hangs_s=(5.0, 90.0))], clock, body)


def test_a_device_that_opens_late_has_shares_from_then_on() -> None:
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        span = rig.opened("A")
        await watched(rig, 10.0)
        rig.closed(span)
        report = await rig.ended()
        assert adds_up(report)
        assert len(report.devices) == 2
        assert joules(by_name(report)["A"]) == pytest.approx(10 * 100.0 + 5 * 200.0, rel=1e-3)

    run([watts(clock, 100.0), Troubled(clock, 200.0, opens_s=5.0)], clock, body)


# -- intensities that become known later, and clocks that are set -------------------------------------------------


class Late:
    """Follows no intensity, and says at the run's end, after two seconds, what it was."""

    def __init__(self, rig_clock: FakeClock, session: Session, told: Sequence[tuple[float, float]]) -> None:
        self._clock = rig_clock
        self._session = session
        self._told = told

    async def run(self) -> None:
        """Nothing."""

    def tell(self) -> None:
        ledger = self._session.ledger
        zero_s = ledger.wall.wall_s(self._session._begin.mark.t_ns)
        made = [
            (
                zero_s + at_s,
                IntensityValue(
                    g_per_kwh=g, low_g_per_kwh=g, high_g_per_kwh=g, source="late", zone="DK", quality=Quality.LIVE
                ),
            )
            for at_s, g in self._told
        ]
        ledger.intensity.replace(made[0][0], made)

    async def finish(self, wait_s: float) -> None:
        await self._clock.sleep_until(self._clock.monotonic_ns() + 2 * NS_PER_S)
        if self._told:
            self.tell()


def run_late(told: Sequence[tuple[float, float]], body: Callable[[Rig], Awaitable[None]], **arguments: Any) -> None:
    """Run a body at 300 W whose intensity is known at its end."""
    clock = FakeClock()
    run(
        [watts(clock)],
        clock,
        body,
        poller=lambda exchange, session, settings, place: Late(clock, session, told),
        intensity=None,
        **arguments,
    )


def test_a_span_left_open_ends_with_the_run_however_long_the_end_waits() -> None:
    """Ticks go on while sources are asked for what is missing."""

    async def body(rig: Rig) -> None:
        rig.opened("A")
        await rig.clock.advance(6.0)
        report = await rig.ended()
        assert report.duration_s == pytest.approx(6.0)
        assert by_name(report)["A"].duration_s == pytest.approx(6.0)
        assert joules(by_name(report)["A"]) == pytest.approx(6 * 300.0)
        assert adds_up(report)
        assert any("still open at the end" in warning for warning in report.warnings)

    run_late([], body)


@pytest.mark.parametrize("g", [[1000.0, 1000.0], [1.0, 2000.0], [2000.0, 1.0], [0.0, 0.0]])
def test_co2eq_of_shares_adds_up_when_the_intensity_is_corrected_afterwards(g: list[float]) -> None:
    async def body(rig: Rig) -> None:
        a = rig.opened("A")
        await rig.clock.advance(5.0)
        b = rig.opened("B")
        await rig.clock.advance(5.0)
        rig.closed(a)
        await rig.clock.advance(1.0)
        rig.closed(b)
        report = await rig.ended()
        assert report.co2eq_g == pytest.approx(joules(report) / J_PER_KWH * (g[0] * 5 + g[1] * 6) / 11, rel=1e-3)
        assert adds_up(report)

    run_late([(0.0, g[0]), (5.0, g[1])], body)


def test_co2eq_adds_up_also_between_a_correction_and_the_next_account() -> None:
    """A live report is published with intensities that its account of the shares does not know yet."""

    async def body(rig: Rig) -> None:
        rig.opened("A")
        await rig.clock.advance(5.0)
        Late(rig.clock, rig.session, [(0.0, 1.0)]).tell()
        report = rig.session.made(rig.clock.monotonic_ns())
        assert report.co2eq_g == pytest.approx(joules(report) / J_PER_KWH, rel=1e-3)
        assert by_name(report)["A"].co2eq_g > 0.0
        assert adds_up(report)
        await rig.ended()

    run_late([], body)


@pytest.mark.parametrize("by_s", [7200.0, -7200.0])
def test_shares_add_up_when_the_wall_clock_is_set(by_s: float) -> None:
    """Every second another intensity, and the clock jumps in the middle of a span."""
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        Late(clock, rig.session, [(n - 8000.0, 10.0 + n % 7) for n in range(16_000)]).tell()
        a = rig.opened("A")
        await watched(rig, 4.0)
        b = rig.opened("B")
        clock.set_wall(by_s)
        await watched(rig, 8.0)
        rig.closed(a)
        await watched(rig, 10.0)
        rig.closed(b)
        report = await rig.ended()
        assert adds_up(report)
        assert joules(by_name(report)["A"]) == pytest.approx(300.0 * 6, rel=1e-3)

    run([watts(clock)], clock, body)


# -- together with epochs, floors and looks in between ------------------------------------------------------------


def test_the_quiet_before_the_first_span_tells_its_floor() -> None:
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        await clock.advance(10.0)
        rig.opened("A")
        await clock.advance(5.0)
        report = await rig.ended()
        assert adds_up(report)
        # All that a constant device draws is its idle floor, in the span's first second too.
        assert joules(by_name(report)["A"]) == pytest.approx(0.0, abs=1e-3)
        assert joules(report.unattributed.idle) == pytest.approx(5 * 300.0, rel=0.02)

    run([watts(clock)], clock, body, interval_s=5.0)


def test_a_floor_that_was_given_is_kept_apart_between_devices_by_what_they_draw() -> None:
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        await clock.advance(10.0)
        rig.opened("A")
        await clock.advance(20.0)
        report = await rig.ended()
        assert adds_up(report)
        assert joules(report.unattributed.idle) == pytest.approx(30 * 50.0, rel=1e-3)
        assert joules(by_name(report)["A"]) == pytest.approx(20 * 350.0, rel=1e-3)
        assert not any("idle floor" in warning for warning in report.warnings)

    meters = [watts(clock, 300.0, "big"), watts(clock, 100.0, "small")]
    run(meters, clock, body, attribution="even,floor_w=50")


def test_each_snapshot_has_shares_up_to_its_own_instant() -> None:
    """An account is made the more rarely the more it costs, but for who asks."""
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        span = rig.opened("A")
        for n in range(1, 6):
            await clock.advance(1.0)
            made: list[Any] = []

            async def look(into: list[Any] = made) -> None:
                into.append(await rig.engine.snapshot(rig.session))

            async with anyio.create_task_group() as group:
                group.start_soon(look)
                while not made:
                    await clock.advance(0.001)
            (report,) = made
            assert adds_up(report)
            assert by_name(report)["A"].duration_s == pytest.approx(n, abs=0.1)
            assert joules(by_name(report)["A"]) == pytest.approx(joules(report), rel=1e-6)
        rig.closed(span)
        await rig.ended()

    run([watts(clock)], clock, body)


def test_epochs_and_spans_each_add_up_to_the_run() -> None:
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        begin = {"t": rig.clock.monotonic_ns()}

        async def mark() -> None:
            await rig.engine.mark(rig.session, lambda: rig.session.border(begin["t"], steps=0))

        for n in range(8):
            span = rig.opened(f"span-{n % 3}")
            await clock.advance(0.7)
            begin["t"] = clock.monotonic_ns()
            async with anyio.create_task_group() as group:
                group.start_soon(mark)
                await clock.advance(0.3)
            assert adds_up(rig.session.published)
            rig.closed(span)
        report = await rig.ended()
        assert adds_up(report)
        assert len(report.epochs) == 8
        parts = math.fsum(part.it_energy_kwh for part in (*report.epochs, report.outside))
        assert parts == pytest.approx(report.it_energy_kwh, rel=1e-9)

    square = SimulatedMeter(
        wave=Square(0.5, 0.5, 50.0, 400.0), refresh_s=0.1, device_id="square", clock=clock.monotonic_ns
    )
    power = SimulatedMeter(
        wave=Constant(100.0), quantity=Quantity.POWER, refresh_s=0.05, device_id="power", clock=clock.monotonic_ns
    )
    run([square, power], clock, body)


def test_a_span_bound_to_a_gpu_that_opens_late_has_its_energy_from_then_on() -> None:
    """The number of a GPU is looked up where a span opens, also by a decorator that was made before."""
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        learn = rig.span("learn", device=0)
        assert learn._device == "0"
        with learn:
            await clock.advance(2.0)
        while len(rig.session.tracks) < 2 or not len(rig.session.tracks[1].derivation.curve):
            await clock.advance(1.0)
        gpu = rig.opened("learn", device="cuda")
        other = rig.opened("other")
        await clock.advance(10.0)
        rig.closed(gpu)
        rig.closed(other)
        report = await rig.ended()
        assert adds_up(report)
        assert joules(by_name(report)["other"]) == pytest.approx(10 * 100.0, rel=0.02)
        assert joules(by_name(report)["learn"]) == pytest.approx(2 * 100.0 + 10 * 300.0, rel=0.15)

    class LateGpu(SimulatedMeter):
        def open(self, covered: Any = frozenset()) -> Any:
            clock.wait(threading.Event(), opens_ns)
            return super().open(covered)

    opens_ns = clock.monotonic_ns() + 4 * NS_PER_S
    gpu = LateGpu(
        wave=Constant(300.0), refresh_s=0.001, device_id="GPU-1", kind=DeviceKind.GPU, clock=clock.monotonic_ns
    )
    run([watts(clock, 100.0), gpu], clock, body, attribution="device")


def test_tasks_in_turn_under_a_load_that_jumps_have_what_they_used() -> None:
    """Readings come once a second, and at the tasks' borders: between two of them energy is taken as evenly used."""
    clock = FakeClock()
    wave = Square(1.3, 0.5, 100.0, 400.0)
    truth = {"A": 0.0, "B": 0.0}

    async def body(rig: Rig) -> None:
        for name in "ABAB":
            begin_ns = clock.monotonic_ns()
            with rig.span(name):
                await clock.advance(1.9)
            instants = [(t_ns - meter.zero_ns) / NS_PER_S for t_ns in (begin_ns, clock.monotonic_ns())]
            truth[name] += wave.energy_j(instants[1]) - wave.energy_j(instants[0])
            await clock.advance(0.01)
        report = await rig.ended()
        assert adds_up(report)
        assert {name: joules(span) for name, span in by_name(report).items()} == pytest.approx(truth, rel=0.005)

    meter = SimulatedMeter(wave=wave, refresh_s=0.001, clock=clock.monotonic_ns)
    run([meter], clock, body)


def test_nothing_behind_the_end_is_split_although_the_engine_comes_to_it_late() -> None:
    """The end is stamped where the user's code ends; until the engine gets to it, ticks and snapshots go on."""
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        rig.opened("A")
        await clock.advance(5.0)
        end_ns = clock.monotonic_ns()
        rig.session.sharing.ends(end_ns)
        await clock.advance(5.0)
        report = await rig.ended(end_ns)
        assert adds_up(report)
        assert report.duration_s == pytest.approx(5.0)
        assert joules(by_name(report)["A"]) == pytest.approx(joules(report), rel=1e-9)
        (device,) = report.attribution.devices
        assert device.rest_it_energy_kwh == pytest.approx(0.0, abs=1e-9)

    run([watts(clock)], clock, body)


# -- all of it at once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["even", "even,floor_w=120", "weight,idle=shared", "device", "cpu"])
@pytest.mark.parametrize("seed", range(2))
def test_whatever_happens_the_parts_make_the_run(rule: str, seed: int) -> None:
    rng = random.Random(f"{rule} {seed}")
    clock = FakeClock()

    async def body(rig: Rig) -> None:
        spans: list[Span] = []
        grams: list[tuple[float, float]] = [(0.0, 50.0)]
        at_s = 0.0

        def act() -> None:
            what = rng.random()
            if what < 0.5 or not spans:
                fields = {
                    "weight": rng.choice([None, 1.0, 1e6, 1e-6, -1.0]),
                    "device": rng.choice([None, None, "lossy", "troubled", "nowhere"]),
                    "owner": rng.choice(["", "", "one", "two"]),
                }
                span = rig.span(rng.choice("ABC"), **fields, **rng.choice([{}, {"i": rng.randrange(3)}]))
                inside(rng.choice([None, *spans]), span)
                spans.append(span)
            elif what < 0.85:
                rig.closed(spans.pop(rng.randrange(len(spans))))
            elif what < 0.9:
                rng.choice(spans).weigh(rng.random() * 10)
            elif what < 0.95:
                grams.append((at_s, rng.choice([0.0, 30.0, 800.0])))
                Late(clock, rig.session, grams).tell()
            else:
                clock.set_wall(rng.choice([-3600.0, 0.5, 3600.0]))

        def inside(around: Span | None, span: Span) -> None:
            def enter() -> None:
                if around is not None:
                    around._step_in()
                span.__enter__()

            contextvars.Context().run(enter)

        for n in range(24):
            for _ in range(rng.randrange(4)):
                act()
            step_s = rng.choice([0.001, 0.1, 0.5, 1.3])
            await clock.advance(step_s)
            at_s += step_s
            if n == 12:
                await border(rig)
            assert adds_up(rig.session.published)
        report = await rig.ended()
        assert adds_up(report)
        for device in report.attribution.devices:
            parts = (device.idle_it_energy_kwh, device.spans_it_energy_kwh, device.rest_it_energy_kwh)
            whole = next(one.it_energy_kwh for one in report.devices if one.id == device.id)
            assert math.fsum(parts) == pytest.approx(whole, rel=1e-9, abs=1e-15)
            assert min(parts) >= -1e-15
        owned = math.fsum(span.it_energy_kwh for span in report.spans)
        spent = math.fsum(device.spans_it_energy_kwh for device in report.attribution.devices)
        assert spent == pytest.approx(owned, rel=1e-9, abs=1e-15)
        assert owned > 0.0 or rule == "cpu"
        epochs = math.fsum(part.it_energy_kwh for part in (*report.epochs, report.outside))
        assert epochs == pytest.approx(report.it_energy_kwh, rel=1e-9)

    async def border(rig: Rig) -> None:
        now = clock.monotonic_ns()
        await rig.engine.mark(rig.session, lambda: rig.session.border(now, steps=0))

    steady = SimulatedMeter(
        wave=Square(0.7, 0.5, 20.0, 150.0), quantity=Quantity.POWER, refresh_s=0.05, clock=clock.monotonic_ns
    )
    lossy = SimulatedMeter(
        wave=Square(0.3, 0.5, 0.0, 400.0), refresh_s=0.1, device_id="lossy", clock=clock.monotonic_ns
    )
    run_late_of([steady, lossy, Troubled(clock, 90.0, lost_s=rng.uniform(3.0, 15.0))], clock, body, attribution=rule)


def run_late_of(
    meters: Sequence[Any], clock: FakeClock, body: Callable[[Rig], Awaitable[None]], **arguments: Any
) -> None:
    """As `run_late`, with what intensities are said in the body."""
    run(
        meters,
        clock,
        body,
        poller=lambda exchange, session, settings, place: Late(clock, session, ()),
        intensity=None,
        **arguments,
    )
