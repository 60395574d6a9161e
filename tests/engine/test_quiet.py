"""Ticks that nobody waits for are told to the engine a few at a time: nothing is lost by it, and whoever needs a tick
hears of it at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon import Budget, sync
from aiocarbon._core.identity import alone
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity
from aiocarbon._core.units import NS_PER_S
from aiocarbon._engine.engine import Engine
from aiocarbon._engine.quiet import BATCH, BEGUN_NS, LOOKED_NS, QUIET_NS, Quiet
from aiocarbon._engine.session import Session
from aiocarbon._engine.track import Track, make_track
from aiocarbon.errors import MeterLostError, ReadError
from aiocarbon.testing import FakeClock, ScriptedMeter
from tests.engines import closed, driven, running

J_PER_KWH = 3.6e6
WATTS = 100
KNOWN = {"location": "DK", "pue": 1.0, "intensity": 100.0, "offline": True}

Body = Callable[[Engine, Session, FakeClock], Awaitable[None]]


def run(meter: Any, clock: FakeClock, body: Body, **arguments: Any) -> None:
    async def main() -> None:
        engine = Engine(clock=clock)
        async with running(engine):
            session = await engine.open({**KNOWN, "meters": (meter,), **arguments}, alone("run"))
            await body(engine, session, clock)

    anyio.run(main)


def counting(clock: FakeClock) -> Callable[[], float]:
    """What a counter says that grows by 100 W."""
    return lambda: clock.monotonic_ns() // 1000 * WATTS


def counter(clock: FakeClock, answers: Iterator[Any] | None = None, refresh_s: float = 0.001) -> ScriptedMeter:
    device = Device(
        id="scripted-0",
        kind=DeviceKind.OTHER,
        name="counter",
        quantity=Quantity.ENERGY,
        basis=Basis.COUNTER,
        refresh_s=refresh_s,
    )
    return ScriptedMeter(energy_uj=answers or [counting(clock)], device=device, clock=clock.monotonic_ns)


def published_ns(session: Session) -> int:
    """As of when the newest figures are."""
    assert session.newest is not None
    return session.newest[0].end.t_ns


async def seen(session: Session, clock: FakeClock, seconds: int) -> list[float]:
    """How old the newest figures are, second by second."""
    ages = []
    for _ in range(seconds):
        await clock.advance(1.0)
        ages.append((clock.monotonic_ns() - published_ns(session)) / NS_PER_S)
    return ages


def test_ticks_at_rest_are_heard_a_few_at_a_time_and_each_is_read() -> None:
    clock = FakeClock()
    meter = counter(clock)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        assert max(await seen(session, clock, BEGUN_NS // NS_PER_S)) <= 1.0
        reads = meter.reads
        ages = await seen(session, clock, 30)
        assert meter.reads == reads + 30
        assert 4.0 <= max(ages) <= QUIET_NS / NS_PER_S
        assert sum(age < 1.0 for age in ages) <= 30 / (QUIET_NS / NS_PER_S) + 1
        report = await closed(engine, session, clock)
        assert report.overhead.readings == meter.reads
        assert report.overhead.missed_ticks == 0
        assert report.coverage == pytest.approx(1.0)
        assert report.it_energy_kwh * J_PER_KWH == pytest.approx(WATTS * report.duration_s, rel=1e-6)

    run(meter, clock, body)


def test_a_look_has_the_engine_catch_up_and_hear_each_tick_for_a_while() -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await seen(session, clock, 10)
        while clock.monotonic_ns() - published_ns(session) < 2 * NS_PER_S:
            await clock.advance(1.0)
        assert session.looked_at()
        await engine.catch_up()
        assert published_ns(session) == clock.monotonic_ns()
        assert not session.looked_at()  # there is nothing to catch up with
        assert max(await seen(session, clock, LOOKED_NS // NS_PER_S)) <= 1.0
        assert max(await seen(session, clock, 10)) > 1.0
        await closed(engine, session, clock)

    run(counter(clock), clock, body)


def test_a_mark_at_rest_has_all_readings_before_it_also_where_none_is_taken_for_it() -> None:
    clock, answers = FakeClock(), []

    def script() -> Iterator[Any]:
        while True:
            answers.append(counting(clock)())
            yield answers[-1]

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await seen(session, clock, 12)
        engine.limiter.total_tokens = 1  # the ticks': no worker comes to read for the mark
        at_ns = clock.monotonic_ns()
        marks: list[Any] = []

        async def mark() -> None:
            marks.append(await engine.mark(session, lambda: session.border(at_ns, steps=0)))

        async with anyio.create_task_group() as group:
            group.start_soon(mark)
            while not marks:
                await clock.advance(0.01)
        assert marks[0].it_energy_kwh * J_PER_KWH == pytest.approx(WATTS * 12.0, rel=1e-3)
        engine.limiter.total_tokens = 64
        await closed(engine, session, clock)

    run(counter(clock, script()), clock, body)


@pytest.mark.parametrize("what", ["set", "slept"])
def test_a_clock_that_is_set_at_rest_is_seen_at_the_next_tick(what: str) -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await seen(session, clock, 9)
        if what == "set":
            clock.set_wall(3600.0)
        else:
            clock.suspend(3600.0)
        await clock.advance(1.0)
        assert [text for text in session.warnings if "3600 s" in text]
        anchors = session.ledger.wall.anchors
        assert clock.monotonic_ns() - anchors[-1].mono_ns <= NS_PER_S
        await closed(engine, session, clock)

    run(counter(clock), clock, body)


def test_what_a_sleep_at_rest_makes_unsure_is_one_tick() -> None:
    clock = FakeClock()

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await seen(session, clock, 9)
        clock.suspend(3600.0)
        await clock.advance(1.0)
        (stretch,) = session.tracks[0].derivation._sleeps
        assert stretch[1] - stretch[0] <= 1.1 * NS_PER_S
        await closed(engine, session, clock)

    run(counter(clock), clock, body)


@pytest.mark.parametrize("error", [ReadError("EIO", device="scripted-0"), MeterLostError("gone", device="scripted-0")])
def test_a_device_that_fails_at_rest_is_heard_of_at_once(error: Exception) -> None:
    clock = FakeClock()

    def script() -> Iterator[Any]:
        for _ in range(10):
            yield counting(clock)()
        yield from itertools.repeat(error)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(8.5)
        while not session.tracks[0].failures:
            await clock.advance(1.0)
        assert clock.monotonic_ns() - published_ns(session) <= NS_PER_S
        failures = session.tracks[0].failures
        await clock.advance(2.0)
        is_lost = isinstance(error, MeterLostError)
        assert session.tracks[0].is_lost if is_lost else session.tracks[0].failures == failures + 2
        await closed(engine, session, clock)

    run(counter(clock, script()), clock, body)


def test_a_run_that_comes_at_rest_loses_no_reading_of_another_one() -> None:
    clock = FakeClock()
    meter = counter(clock)

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await seen(session, clock, 12)
        other = await engine.open({**KNOWN, "meters": (meter,), "interval_s": 0.2}, alone("other"))
        await clock.advance(1.0)
        await closed(engine, other, clock)
        await clock.advance(8.0)
        report = await closed(engine, session, clock)
        assert report.overhead.readings == meter.reads

    run(meter, clock, body)


# -- the same figures, whether ticks are heard one by one or a few at a time ------------------------------------------


class Script:
    """A counter that does what it is told: it fails, or begins anew."""

    def __init__(self, clock: FakeClock) -> None:
        self.fails = False
        self._clock = clock
        self._begun_uj = 0

    def begin_anew(self) -> None:
        self._begun_uj = counting(self._clock)()

    def __iter__(self) -> Iterator[Any]:
        while True:
            is_failing = self.fails
            yield ReadError("EIO", device="scripted-0") if is_failing else counting(self._clock)() - self._begun_uj


STEPS = st.lists(
    st.tuples(st.sampled_from(["wait", "epoch", "fail", "begin anew", "set", "sleep", "look"]), st.integers(1, 9)),
    min_size=1,
    max_size=10,
)


def lived(steps: list[tuple[str, int]], *, is_loud: bool) -> Any:
    """The report of a run in which these things happen, each followed by so many times 0.7 s."""
    clock = FakeClock()
    script = Script(clock)
    reports: list[Any] = []

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(4.0)
        for what, count in steps:
            script.fails = what == "fail"
            if what == "epoch":
                await driven(clock, lambda: engine.mark(session, lambda: session.border(clock.monotonic_ns(), steps=0)))
            elif what == "begin anew":
                script.begin_anew()
            elif what == "set":
                clock.set_wall(60.0 * count)
            elif what == "sleep":
                clock.suspend(60.0 * count)
            elif what == "look":
                session.looked_at()
                await engine.catch_up()
            await clock.advance(0.7 * count)
        script.fails = False
        await clock.advance(3.0)
        reports.append(await closed(engine, session, clock))

    run(counter(clock, iter(script)), clock, body, **({"budget": Budget(energy_kwh=1e6)} if is_loud else {}))
    return reports[0]


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_a_run_has_the_same_figures_whether_its_ticks_are_heard_one_by_one_or_not(steps: list[tuple[str, int]]) -> None:
    loud, quiet = lived(steps, is_loud=True), lived(steps, is_loud=False)
    assert quiet.warnings == loud.warnings
    assert quiet.overhead.readings == loud.overhead.readings
    assert quiet.duration_s == loud.duration_s
    for field in ("it_energy_kwh", "it_energy_kwh_low", "it_energy_kwh_high", "co2eq_g", "coverage"):
        assert getattr(quiet, field) == pytest.approx(getattr(loud, field), rel=1e-9), field
        for epoch, other in zip(quiet.epochs, loud.epochs, strict=True):
            assert getattr(epoch, field) == pytest.approx(getattr(other, field), rel=1e-9), field


@pytest.mark.parametrize("what", ["journal", "budget", "slow counter"])
def test_where_somebody_waits_for_ticks_each_is_heard(what: str, tmp_path: Path) -> None:
    clock = FakeClock()
    arguments: dict[str, Any] = {
        "journal": {"journal": tmp_path},
        "budget": {"budget": Budget(energy_kwh=1.0)},
        "slow counter": {},
    }[what]

    async def body(engine: Engine, session: Session, clock: FakeClock) -> None:
        await clock.advance(10.0)
        assert max(await seen(session, clock, 10)) <= 1.0
        await closed(engine, session, clock)

    run(counter(clock, refresh_s=2.0 if what == "slow counter" else 0.001), clock, body, **arguments)


def track(refresh_s: float = 0.1, **fields: Any) -> Track:
    meter: Any = None
    device = Device(
        id="d", kind=DeviceKind.GPU, name="d", quantity=Quantity.ENERGY, basis=Basis.COUNTER, refresh_s=refresh_s
    )
    made = make_track(device, meter, "s", NS_PER_S)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def session(*, is_settled: bool = True, is_wanted: bool = False, budget: Any = None, scope: str = "machine") -> Any:
    return SimpleNamespace(
        is_settled=is_settled,
        sharing=SimpleNamespace(is_wanted=is_wanted),
        budget=budget,
        scope=SimpleNamespace(name=scope),
    )


def quiet_s(
    sessions: list[Any], tracks: list[Track], interval_s: float = 1.0, wanted_ns: int | None = None, recorded: int = 0
) -> float:
    """For how long ticks may go untold, seconds."""
    clock, mates = FakeClock(), SimpleNamespace(wanted_ns=wanted_ns)
    untold: Any = Quiet(clock, sessions, [session()] * recorded, mates)  # type: ignore[arg-type]  # what it looks at
    until_ns = untold.until_ns(round(interval_s * NS_PER_S), tracks)
    return (until_ns - clock.monotonic_ns()) / NS_PER_S if until_ns else 0.0


def test_ticks_go_untold_where_nothing_waits_for_them() -> None:
    assert quiet_s([session()], [track()]) == QUIET_NS / NS_PER_S
    assert quiet_s([session(), session()], []) == QUIET_NS / NS_PER_S


@pytest.mark.parametrize(
    "waiting",
    [
        session(is_settled=False),
        session(is_wanted=True),
        session(budget=Budget(energy_kwh=1.0)),
        session(scope="process"),
    ],
    ids=["mark", "span", "budget", "scope"],
)
def test_a_run_that_waits_for_ticks_hears_of_each(waiting: Any) -> None:
    assert quiet_s([session(), waiting], [track()]) == 0.0


@pytest.mark.parametrize("fields", [{"is_slow": True}, {"is_lost": True}, {"is_probed": False}])
def test_a_device_that_is_looked_after_at_ticks_has_each_told(fields: dict[str, bool]) -> None:
    assert quiet_s([session()], [track(), track(**fields)]) == 0.0


def test_a_journal_and_a_process_that_follows_have_each_tick_told() -> None:
    assert quiet_s([session()], [track()], recorded=1) == 0.0
    assert quiet_s([session()], [track()], wanted_ns=NS_PER_S) == 0.0


def test_so_many_readings_wait_at_most() -> None:
    assert quiet_s([session()], [track()] * (BATCH // 3), 1.0) == pytest.approx(3.0)
    assert quiet_s([session()], [track()] * (BATCH // 2 + 1), 1.0) == 0.0
    assert quiet_s([session()], [track(refresh_s=0.001)], 0.02) == pytest.approx(BATCH * 0.02)
    assert quiet_s([session()], [track()], 4.0) == 0.0  # a tick that is told at the next one is told late


def test_the_report_of_a_tracker_at_rest_is_caught_up_with() -> None:
    with sync.Tracker(meters="simulated:100", interval_s=60.0, **KNOWN) as tracker:  # type: ignore[arg-type]
        begun = tracker._handle.begun("")
        before = tracker.report().duration_s
        begun.looked_at = lambda: True  # as if ticks had gone unheard: there is none within a minute
        while tracker.report().duration_s == before:
            pass
        assert tracker.prediction is None
