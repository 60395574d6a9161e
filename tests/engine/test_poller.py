"""A run's intensity through the whole engine on simulated time: sources that are late, fail, hang, lie in the past."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from aiocarbon._core.answer import Answer
from aiocarbon._core.curve import Curve, Point
from aiocarbon._core.identity import alone
from aiocarbon._core.intensity import Location, Quality
from aiocarbon._engine.engine import Engine
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.opening import make_session
from aiocarbon._engine.poller import FORECAST_AFTER_S, Poller
from aiocarbon._engine.session import Session
from aiocarbon._engine.surroundings import Surroundings, placed
from aiocarbon._engine.whereabouts import chain_of
from aiocarbon.budget import Budget
from aiocarbon.errors import ConfigError, NoDataError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.base import Row
from aiocarbon.intensity.cache import Cache
from aiocarbon.intensity.client import Client
from aiocarbon.journal import load
from aiocarbon.settings import Settings
from aiocarbon.testing import FakeClock, ScriptedMeter, ScriptedSource
from aiocarbon.tracker import Tracker
from tests.engines import running

STEP_S = 300.0
START_S = 1_800_000_000.0  # of FakeClock: a full hour
G_PER_WS = 1.0 / 3.6e6
EXACT = 1e-9
FOR_EVER_S = 1e6
DOWN = SourceDownError("no route to host")

Body = Callable[["Rig"], Awaitable[None]]


def level(at_s: float, step_s: float = STEP_S) -> float:
    """The true intensity of the step that holds an instant: no two neighbours are alike."""
    return 100.0 + 50.0 * (math.floor(at_s / step_s) % 7)


class World(ScriptedSource):
    """A source of the true intensity, in the mood that the test gives it.

    Attributes:
        mood: An error to raise, an event to wait for, or None for neither.
        back: How many steps before the newest one it tells with it.
    """

    def __init__(
        self,
        level_of: Callable[[float], float] = level,
        *,
        mood: Exception | anyio.Event | None = None,
        back: int = 3,
        has_past: bool = False,
        has_forecast: bool = False,
        quality: Quality = Quality.LIVE,
        off: float = 0.0,
        **traits: Any,
    ) -> None:
        step_s = traits.get("step_s", STEP_S)

        def rows(first_s: float, last_s: float, quality: Quality, off: float = 0.0) -> Iterator[Row]:
            for n in range(math.floor(first_s / step_s), math.ceil(last_s / step_s)):
                yield n * step_s, (n + 1) * step_s, level_of(n * step_s) + off, quality

        def now(now_s: float) -> Iterable[Row]:
            return rows(now_s - back * step_s, math.floor(now_s / step_s) * step_s + step_s, quality, off)

        def past(begin_s: float, end_s: float) -> Iterable[Row]:
            return rows(begin_s, end_s, Quality.LIVE)

        def forecast(now_s: float, hours: float) -> Iterable[Row]:
            return rows(now_s, now_s + hours * 3600.0, Quality.FORECAST, 500.0)

        super().__init__(now, past=past if has_past else None, forecast=forecast if has_forecast else None, **traits)
        self.mood = mood

    async def now(self, client: object, now_s: float) -> Answer:
        await self._feel("now", now_s)
        return await super().now(client, now_s)

    async def past(self, client: object, begin_s: float, end_s: float, now_s: float) -> Answer:
        await self._feel("past", begin_s, end_s)
        return await super().past(client, begin_s, end_s, now_s)

    async def forecast(self, client: object, now_s: float, hours: float) -> Answer:
        await self._feel("forecast", now_s, hours)
        return await super().forecast(client, now_s, hours)

    async def _feel(self, kind: str, a: float, b: float = 0.0) -> None:
        mood = self.mood
        if mood is not None:
            self.asked.append((kind, a, b))
        if isinstance(mood, anyio.Event):
            await mood.wait()
            self.asked.pop()
        elif mood is not None:
            raise mood

    def count(self, kind: str) -> int:
        return sum(1 for asked in self.asked if asked[0] == kind)


class Load:
    """A load in watts that the test turns, and its true energy."""

    def __init__(self, clock: FakeClock, watts: float = 100.0) -> None:
        self._clock = clock
        self._turns = [(clock.monotonic_ns(), watts)]

    def turn(self, watts: float) -> None:
        self._turns.append((self._clock.monotonic_ns(), watts))

    def pieces(self, end_ns: int | None = None) -> Iterator[tuple[float, float, float]]:
        """Begin and end (seconds since the start), watts."""
        ends = [*(at for at, _ in self._turns[1:]), self._clock.monotonic_ns() if end_ns is None else end_ns]
        first_ns = self._turns[0][0]
        for (at, watts), end in zip(self._turns, ends, strict=True):
            yield (at - first_ns) / 1e9, (end - first_ns) / 1e9, watts

    def energy_j(self, begin_s: float, end_s: float) -> float:
        return math.fsum(w * max(min(b, end_s) - max(a, begin_s), 0.0) for a, b, w in self.pieces())

    def co2eq_g(self, begin_s: float, end_s: float, level_of: Callable[[float], float] = level) -> float:
        """Closed form: step by step, watts x seconds x g/kWh."""
        borders = [begin_s, *(n * STEP_S for n in range(10_000) if begin_s < n * STEP_S < end_s), end_s]
        return math.fsum(
            self.energy_j(a, b) * level_of(START_S + (a + b) / 2) * G_PER_WS for a, b in itertools.pairwise(borders)
        )

    def meter(self) -> ScriptedMeter:
        return ScriptedMeter(energy_uj=[lambda: self.energy_j(0.0, 1e9) * 1e6], clock=self._clock.monotonic_ns)


async def at_once(function: Callable[..., Any], *args: object) -> Any:
    """In the place of a worker: what is asked on simulated time is answered before that goes on."""
    return function(*args)


class Rig:
    """The engine inline, with one open run."""

    def __init__(self, clock: FakeClock, sources: Sequence[ScriptedSource], folder: Path | None, make: Any) -> None:
        self.clock = clock
        self.sources = sources
        self.exchange = Exchange(clock, Client(at_once), Cache(folder), at_once, chance=lambda: 0.5)
        self.engine = Engine(clock=clock, poller=make or self._poller)
        self.load = Load(clock)
        self.session: Session

    def _poller(self, exchange: Exchange, session: Session, settings: Settings, place: Surroundings) -> Poller:
        mine = exchange if exchange.client is None else self.exchange
        return Poller(mine, session, settings, place, sources=tuple(self.sources))

    async def open(self, **arguments: Any) -> Session:
        meters = (self.load.meter(),)
        defaults = {"location": "DK", "pue": 1.0, "meters": meters, "offline": False, "interval_s": 20.0}
        return await self.engine.open({**defaults, **arguments}, alone("run"))

    async def mark(self) -> Any:
        t_ns = self.clock.monotonic_ns()
        return await self.engine.mark(self.session, lambda: self.session.border(t_ns, steps=0))

    async def until(self, is_so: Callable[[], bool], step_s: float = 0.01) -> None:
        while not is_so():
            await self.clock.advance(step_s)

    async def ended(self, session: Session | None = None, **more: Any) -> Any:
        """The final report; simulated time goes on while the end waits for it."""
        made: list[Any] = []

        async def close() -> None:
            now_ns = self.clock.monotonic_ns()
            made.append(await self.engine.close(session or self.session, now_ns, 0, ended_well=True, **more))

        async with anyio.create_task_group() as group:
            group.start_soon(close)
            await self.until(lambda: bool(made), 0.05)
        return made[0]

    async def report(self) -> Any:
        """As of now, with a reading of now: what is extrapolated would not be exact."""
        return await self.engine.snapshot(self.session)

    @property
    def known(self) -> list[str]:
        """The qualities of the intensity up to now."""
        steps = self.session.ledger.intensity.steps(START_S, max(self.exchange.now_s, START_S + 1.0))
        return [value.quality.value for _, _, value in steps]


def run(
    body: Body,
    *sources: ScriptedSource,
    clock: FakeClock | None = None,
    folder: Path | None = None,
    make: Any = None,
    **arguments: Any,
) -> None:
    async def main() -> None:
        rig = Rig(clock or FakeClock(), sources, folder, make)
        async with running(rig.engine):
            rig.session = await rig.open(**arguments)
            await body(rig)

    anyio.run(main)


def uses(report: Any) -> dict[str, tuple[str, float]]:
    return {f"{use.source} {use.quality}": (use.quality, use.share) for use in report.intensity_sources}


def qualities(report: Any) -> list[str]:
    return [use.quality for use in report.intensity_sources]


def parts_g(report: Any) -> float:
    return math.fsum((*(epoch.co2eq_g for epoch in report.epochs), report.outside.co2eq_g))


def told(report: Any, *words: str) -> list[str]:
    return [warning for warning in report.warnings if all(word in warning for word in words)]


# -- budgets ---------------------------------------------------------------------------------------------------------


def test_a_co2eq_budget_is_not_broken_by_the_average_while_the_first_answer_is_under_way() -> None:
    gate = anyio.Event()
    source = World(mood=gate, back=20)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(3.0)
        early = await rig.report()
        assert early.co2eq_g > 1e-6
        assert not rig.session.budget_broken
        gate.set()
        source.mood = None
        await rig.until(lambda: rig.known == ["live"])
        await rig.clock.advance(2.0)
        assert "CO2eq budget" in rig.session.budget_broken

    run(body, source, budget=Budget(co2eq_g=1e-6), interval_s=0.5)


# -- the integral ----------------------------------------------------------------------------------------------------


def test_co2eq_is_the_integral_of_energy_times_intensity_not_energy_times_the_mean() -> None:
    def dirty(at_s: float) -> float:
        return 900.0 if START_S + 600.0 <= at_s < START_S + 900.0 else 30.0

    async def body(rig: Rig) -> None:
        await rig.clock.advance(660.0)
        rig.load.turn(5000.0)  # while the electricity is dirty
        await rig.mark()
        await rig.clock.advance(180.0)
        rig.load.turn(100.0)
        await rig.mark()
        await rig.clock.advance(960.0)
        await rig.mark()
        await rig.clock.advance(60.0)
        report = await rig.ended()
        exact_g = rig.load.co2eq_g(0.0, 1860.0, dirty)
        assert report.co2eq_g == pytest.approx(exact_g, rel=EXACT)
        assert parts_g(report) == pytest.approx(report.co2eq_g, rel=EXACT)
        assert report.epochs[1].co2eq_g == pytest.approx(5000.0 * 180.0 * 900.0 * G_PER_WS, rel=1e-4)
        mean = math.fsum(dirty(START_S + n) for n in range(1860)) / 1860
        assert rig.load.energy_j(0.0, 1860.0) * mean * G_PER_WS < 0.5 * exact_g
        assert qualities(report) == ["live"]

    run(body, World(dirty))


def test_what_comes_late_counts_since_the_begin_and_epochs_add_up_again() -> None:
    gate = anyio.Event()
    source = World(mood=gate, back=20)

    async def body(rig: Rig) -> None:
        for watts in (300.0, 50.0, 700.0, 90.0):
            await rig.clock.advance(7.0)
            rig.load.turn(watts)
            await rig.mark()
        early = await rig.report()
        assert qualities(early) == ["average"]
        gate.set()
        source.mood = None
        await rig.until(lambda: rig.known == ["live"])
        at_s = (rig.clock.monotonic_ns() - 1_000_000_000) / 1e9
        late = await rig.report()
        assert late.co2eq_g == pytest.approx(late.it_energy_kwh * level(START_S), rel=EXACT)
        assert late.co2eq_g == pytest.approx(
            rig.load.co2eq_g(0.0, at_s), rel=1e-3
        )  # a counter tells edges to a refresh
        assert parts_g(late) == pytest.approx(late.co2eq_g, rel=EXACT)
        assert len(late.epochs) == 4
        for before, after in zip(early.epochs, late.epochs, strict=True):
            assert after.it_energy_kwh == before.it_energy_kwh
            assert after.co2eq_g == pytest.approx(after.it_energy_kwh * level(START_S), rel=EXACT)
            assert before.co2eq_g != pytest.approx(after.co2eq_g, rel=0.01)
        assert late.co2eq_g_before is None  # nobody asked for the past
        report = await rig.ended()
        assert report.location.zone == "DK"
        assert parts_g(report) == pytest.approx(report.co2eq_g, rel=EXACT)

    run(body, source)


def test_two_hundred_epochs_add_up_although_the_run_ends_while_an_answer_is_being_learnt() -> None:
    """Cutting so many again takes several turns; the end must not come between them."""
    gate = anyio.Event()
    source = World(mood=gate, back=20)

    async def body(rig: Rig) -> None:
        for n in range(200):
            rig.clock.skip(0.05)
            rig.session.border(rig.clock.monotonic_ns(), steps=n)
        await rig.clock.advance(1.0)

        gate.set()
        report = await rig.engine.close(
            rig.session, rig.clock.monotonic_ns(), 0, ended_well=True, intensity_wait_s=FOR_EVER_S
        )
        assert qualities(report) == ["live"]
        assert parts_g(report) == pytest.approx(report.co2eq_g, rel=EXACT)

    run(body, source)


# -- entering and ending wait for nobody -----------------------------------------------------------------------------


def test_a_source_that_never_answers_holds_neither_entering_nor_the_end() -> None:
    source = World(mood=anyio.Event())

    async def body(rig: Rig) -> None:
        assert rig.clock.monotonic_ns() == 1_000_000_000  # no simulated time was needed to enter
        await rig.until(lambda: source.count("now") == 1)
        await rig.clock.advance(5.0)
        began_ns = rig.clock.monotonic_ns()
        report = await rig.ended()
        assert 2.0 <= (rig.clock.monotonic_ns() - began_ns) / 1e9 < 2.5
        assert qualities(report) == ["average"]
        assert report.is_final
        assert report.co2eq_g > 0.0

    run(body, source)


def test_a_source_that_never_answers_does_not_hold_the_next_of_the_chain() -> None:
    hanging, second = World(mood=anyio.Event(), name="hanging"), World(name="second", back=40)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(300.0)
        report = await rig.ended()
        assert qualities(report) == ["live"]
        assert report.intensity_sources[0].source == "second"
        assert len(told(report, "hanging is not used", "30 s")) == 1

    run(body, hanging, second)


def test_a_source_that_hangs_when_the_past_is_asked_for_ends_with_what_was_used() -> None:
    source = World(mood=DOWN, has_past=True)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(900.0)
        source.mood = anyio.Event()
        began_ns = rig.clock.monotonic_ns()
        report = await rig.ended()
        assert (rig.clock.monotonic_ns() - began_ns) / 1e9 < 2.5
        assert qualities(report) == ["average"]
        assert report.co2eq_g_before is None
        assert told(report, "scripted is not used", "no route to host")

    run(body, source)


def test_a_chain_that_throws_what_it_should_not_costs_no_report() -> None:
    class Broken(World):
        @property
        def traits(self) -> Any:
            if self.asked:
                raise ZeroDivisionError("a plug-in")
            return self._kept

        @traits.setter
        def traits(self, traits: Any) -> None:
            self._kept = traits

    async def body(rig: Rig) -> None:
        await rig.clock.advance(10.0)
        report = await rig.ended()
        assert report.is_final
        assert told(report, "not followed any more", "ZeroDivisionError: a plug-in")

    run(body, Broken())


# -- a source fails in mid-run ---------------------------------------------------------------------------------------


def test_the_steps_down_the_chain_are_taken_in_order_and_each_is_told_once() -> None:
    first = World(name="first", back=0, has_forecast=True, stale_s=900.0)
    second = World(lambda _: 777.0, name="second", back=0, stale_s=1200.0)

    async def body(rig: Rig) -> None:
        seen: list[str] = []

        async def look(for_s: float) -> None:
            for _ in range(round(for_s / 60.0)):
                await rig.clock.advance(60.0)
                value = rig.session.ledger.intensity.value_at(rig.exchange.now_s)
                step = f"{value.source} {value.quality}"
                if not seen or seen[-1] != step:
                    seen.append(step)

        await rig.clock.advance(600.0)
        first.mood = DOWN
        await look(1200.0)
        second.mood = NoDataError("nothing for DK")
        await look(1200.0)
        # While the successor of its newest value is not due, its own forecast; in the end what is left of that.
        assert seen == ["first forecast", "second live", "first forecast"]
        report = await rig.report()
        assert len(told(report, "first is not used", "no route to host")) == 1
        assert len(told(report, "second is not used", "nothing for DK")) == 1
        assert len(report.warnings) == len(set(report.warnings))
        assert len([w for w in report.warnings if "is not used" in w]) == 2
        first.mood = None
        await look(1200.0)
        assert "first live" in seen
        assert len((await rig.report()).warnings) == len(report.warnings)

    run(body, first, second, interval_s=60.0)


def test_without_a_forecast_the_last_value_is_carried_on_up_to_its_limit_and_then_the_average_counts() -> None:
    source = World(back=0, stale_s=1500.0)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(60.0)
        source.mood = DOWN
        await rig.clock.advance(3000.0)
        steps = list(rig.session.ledger.intensity.steps(START_S, START_S + 3000.0))
        assert [(round(at - START_S), value.quality.value) for at, _, value in steps] == [
            (0, "live"),
            (600, "cached"),  # the value's own time, and until its successor is due
            (1500, "average"),
        ]
        assert steps[1][2].g_per_kwh == level(START_S)
        report = await rig.report()
        assert qualities(report) == ["live", "cached", "average"]
        shares = [use.share for use in report.intensity_sources]
        seconds = (rig.clock.monotonic_ns() - 1e9) / 1e9
        assert shares == pytest.approx([600 / seconds, 900 / seconds, 1 - 1500 / seconds], rel=1e-6)
        assert len(told(report, "scripted is not used")) == 1

    run(body, source)


def test_a_source_that_refuses_is_told_once_although_it_is_passed_by_for_hours() -> None:
    refused = World(mood=SourceRefusedError("401", status=401, remedy="export TOKEN=..."), name="refused")

    async def body(rig: Rig) -> None:
        await rig.clock.advance(2 * 3600.0)
        assert (await rig.report()).warnings.count(
            "carbon intensity: refused is not used: 401. To mend it: export TOKEN=..."
        ) == 1
        assert len(told(await rig.report(), "refused is not used")) == 1
        assert refused.count("now") <= 3  # once an hour

    run(body, refused, World(name="second"), interval_s=60.0)


def test_the_circuit_opens_and_half_opens() -> None:
    source = World(mood=DOWN)

    async def body(rig: Rig) -> None:
        await rig.until(lambda: source.count("now") == 3)  # at once, and twice again
        await rig.clock.advance(20.0)
        assert source.count("now") == 3
        await rig.clock.advance(3600.0)
        # After 30, 60, 120, ... 900 s, one each.
        assert 3 + 5 <= source.count("now") <= 3 + 8
        source.mood = None
        before = len(source.asked)
        await rig.clock.advance(960.0)
        answered = [now_s for _, now_s, _ in source.asked[before:]]
        assert answered
        assert len({now_s // STEP_S for now_s in answered}) == len(answered)
        assert rig.session.ledger.intensity.value_at(rig.exchange.now_s).quality is Quality.LIVE

    run(body, source, interval_s=60.0)


# -- the past mended -------------------------------------------------------------------------------------------------


def test_when_the_network_returns_the_missing_stretch_is_asked_for_and_told() -> None:
    source = World(back=0, has_past=True, stale_s=600.0)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(310.0)
        await rig.mark()
        source.mood = DOWN
        await rig.clock.advance(2400.0)
        await rig.mark()
        guessed = await rig.report()
        assert "average" in qualities(guessed)
        source.mood = None
        await rig.until(lambda: source.count("past") > 0, 30.0)
        at_s = (rig.clock.monotonic_ns() - 1_000_000_000) / 1e9
        assert len((await rig.report()).epochs) == 2
        mended = await rig.report()
        assert qualities(mended) == ["live"]
        assert mended.co2eq_g == pytest.approx(rig.load.co2eq_g(0.0, at_s), rel=EXACT)
        assert parts_g(mended) == pytest.approx(mended.co2eq_g, rel=EXACT)
        assert mended.co2eq_g_before is not None
        ((_, begin_s, end_s),) = [asked for asked in source.asked if asked[0] == "past"]
        assert START_S + 300.0 <= begin_s < end_s <= START_S + at_s  # guesses, and what was carried on before them
        report = await rig.ended()
        assert source.count("past") == 1
        assert report.co2eq_g - report.co2eq_g_before == pytest.approx(mended.co2eq_g - mended.co2eq_g_before)

    run(body, source)


def test_the_end_of_a_run_asks_for_what_was_estimated_and_shows_before_and_after() -> None:
    source = World(has_past=True, quality=Quality.ESTIMATED, off=30.0)
    source.traits = replace(source.traits, corrects=True)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(650.0)
        await rig.mark()
        before = await rig.report()
        assert qualities(before) == ["estimated"]
        report = await rig.ended(intensity_wait_s=FOR_EVER_S)
        assert [asked for asked in source.asked if asked[0] == "past"] == [("past", START_S, START_S + 600.0)]
        assert qualities(report) == ["live", "estimated"]  # of the newest step no measurement is published
        mended_g = -30.0 * 600.0 * 100.0 * G_PER_WS
        assert report.co2eq_g - report.co2eq_g_before == pytest.approx(mended_g, rel=1e-6)
        assert report.co2eq_g_before == pytest.approx(before.co2eq_g, rel=1e-3)  # a settling time longer
        exact_g = rig.load.co2eq_g(0.0, 650.0) + 30.0 * 50.0 * 100.0 * G_PER_WS
        assert report.epochs[0].co2eq_g == pytest.approx(exact_g, rel=1e-6)
        assert parts_g(report) == pytest.approx(report.co2eq_g, rel=EXACT)

    run(body, source)


def average_g(report: Any) -> float:
    (use,) = report.intensity_sources
    assert use.quality == "average"
    return float(use.g_per_kwh)


def test_what_was_measured_is_not_asked_for_again() -> None:
    source = World(has_past=True)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(1200.0)
        report = await rig.ended()
        assert source.count("past") == 0
        assert report.co2eq_g_before is None

    run(body, source)


def test_what_the_first_source_does_not_know_of_the_past_the_second_is_asked_for() -> None:
    first = World(name="first", mood=DOWN, has_past=True, stale_s=600.0)
    second = World(name="second", mood=DOWN, has_past=True, stale_s=600.0)
    first._past = lambda begin_s, end_s: [(begin_s, begin_s + 600.0, 10.0, Quality.LIVE)]  # no more than that

    async def body(rig: Rig) -> None:
        await rig.clock.advance(3000.0)
        first.mood = second.mood = None
        await rig.clock.advance(1800.0)
        assert first.count("past") == 1
        assert second.count("past") == 0  # it was left alone as the first came back
        assert "average" in rig.known
        report = await rig.ended(intensity_wait_s=FOR_EVER_S)
        assert second.count("past") == 1
        assert "average" not in qualities(report)
        values = [value for _, _, value in rig.session.ledger.intensity.steps(START_S, rig.exchange.now_s)]
        assert {value.source for value in values} == {"first", "second"}

    run(body, first, second, interval_s=60.0)


def test_a_mend_at_the_return_and_one_at_the_end_are_counted_once() -> None:
    """Both wait for the same answer; what it changes must not be told twice."""
    source = World(has_past=True, mood=DOWN, back=0, stale_s=300.0)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(1800.0)
        guess_g = average_g(await rig.report())
        gate = anyio.Event()
        source.mood = None
        answer_past, source.past = source.past, None  # type: ignore[assignment,method-assign] # the past hangs, the present does not

        async def past(*args: Any) -> Answer:
            await gate.wait()
            return await answer_past(*args)

        source.past = past  # type: ignore[method-assign,assignment]
        await rig.until(lambda: not rig.exchange.is_left_alone(source), 5.0)
        await rig.clock.advance(1.0)
        made: list[Any] = []

        async def close() -> None:
            now_ns = rig.clock.monotonic_ns()
            made.append(await rig.engine.close(rig.session, now_ns, 0, ended_well=True, intensity_wait_s=FOR_EVER_S))

        async with anyio.create_task_group() as group:
            group.start_soon(close)
            await rig.clock.advance(1.0)
            gate.set()
            await rig.until(lambda: bool(made), 0.05)
        (report,) = made
        live = [use for use in report.intensity_sources if use.quality == "live"]
        newest_s = report.duration_s % STEP_S
        assert live[0].share > 0.9
        guessed_kwh = report.it_energy_kwh * (1.0 - newest_s / report.duration_s)
        mended_g = report.co2eq_g - report.co2eq_g_before
        exact_g = rig.load.co2eq_g(0.0, report.duration_s - newest_s) - guessed_kwh * guess_g
        assert mended_g == pytest.approx(exact_g, rel=1e-6)

    run(body, source)


def test_a_forecast_stands_in_for_what_is_missing_and_is_replaced_by_what_was_measured() -> None:
    source = World(back=0, has_past=True, has_forecast=True, stale_s=600.0)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(60.0)
        source.mood = DOWN
        await rig.clock.advance(3000.0)
        guessed = await rig.report()
        assert set(qualities(guessed)) == {"live", "forecast"}
        assert guessed.co2eq_g > 2 * rig.load.co2eq_g(0.0, guessed.duration_s)  # it was wrong by 500 g/kWh
        source.mood = None
        await rig.until(lambda: source.count("past") > 0, 30.0)
        mended = await rig.report()
        assert set(qualities(mended)) == {"live"}
        assert mended.co2eq_g == pytest.approx(rig.load.co2eq_g(0.0, mended.duration_s), rel=EXACT)
        assert mended.co2eq_g_before > 2 * mended.co2eq_g

    run(body, source)


# -- months ----------------------------------------------------------------------------------------------------------


class Leaping:
    """A clock for one sleeper: its sleep is over at once, and the time is then what it waited for."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.end: anyio.Event | None = None
        self.until_ns = 0
        self.wall_ns_off = round(START_S * 1e9) - self.now_ns

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return self.now_ns + self.wall_ns_off

    def boot_ns(self) -> int:
        return self.now_ns

    async def sleep_until(self, t_ns: int) -> None:
        if t_ns >= self.until_ns and self.end is not None:
            self.end.set()
            await anyio.sleep_forever()
        self.now_ns = max(self.now_ns, t_ns)
        await anyio.lowlevel.checkpoint()

    def wait(self, event: Any, until_ns: int) -> bool:
        raise AssertionError("no worker waits here")


class Impatient(Exchange):
    """An exchange on a clock on which deadlines would be over at once: its sources answer at once too."""

    async def _once(self, source: Any, question: Any) -> Answer:
        now_s = self.now_s
        if question.kind.value == "now":
            return await source.now(None, now_s)  # type: ignore[no-any-return]
        return await source.forecast(None, now_s, question.hours)  # type: ignore[no-any-return]


def follow(clock: Leaping, days: float, *sources: ScriptedSource, exchange: Exchange | None = None) -> Session:
    """A session whose intensity was followed for days, without meters."""
    settings = Settings(location="DK")
    place = placed(settings, Location(zone="DK", name="Denmark", how="given", is_guess=False))
    session = make_session(settings, alone("run"), place, clock, lambda: None)  # type: ignore[arg-type,return-value] # costs nothing
    session.begin(clock.monotonic_ns())
    session.publish = lambda *_, **__: None  # type: ignore[method-assign] # nobody reads it, and a month has thousands
    asks = exchange or Impatient(clock, Client(at_once), Cache(None), at_once)

    async def main() -> None:
        poller = Poller(asks, session, settings, place, sources=sources)
        clock.end, clock.until_ns = anyio.Event(), clock.monotonic_ns() + round(days * 86400e9)
        async with anyio.create_task_group() as group:
            group.start_soon(poller.run)
            await clock.end.wait()
            group.cancel_scope.cancel()

    anyio.run(main)
    return session


@pytest.mark.parametrize("step_s", [300.0, 1800.0, 3600.0])
@pytest.mark.parametrize("offset_s", [0.0, 90.0])
def test_a_month_takes_one_request_a_published_value_and_knows_each(step_s: float, offset_s: float) -> None:
    days = 30

    def true(at_s: float) -> float:
        return level(at_s, step_s)

    has_forecast = step_s > STEP_S  # of five minutes, laying 48 hours anew each time takes the test too long
    source = World(true, step_s=step_s, offset_s=offset_s, back=1, has_forecast=has_forecast)
    clock = Leaping()
    session = follow(clock, days, source)
    asked_s = [now_s for kind, now_s, _ in source.asked if kind == "now"]
    published = [(now_s - offset_s) // step_s for now_s in asked_s]
    assert len(published) == len(set(published))
    assert len(published) == pytest.approx(days * 86400 / step_s, abs=2)
    assert source.count("forecast") <= days * 8 + 1
    end_s = START_S + days * 86400 - step_s
    known = [row for row in session.ledger.intensity.steps(START_S, end_s) if row[0] < end_s]
    assert all(value.g_per_kwh == true(at) and value.quality is Quality.LIVE for at, _, value in known)
    assert all(a.is_integer() and (a - START_S) % step_s == 0.0 for a, _, _ in known)
    assert len(known) == pytest.approx(days * 86400 / step_s, abs=2)  # what is known grows with nothing else
    assert session.warnings == []


def test_a_forecast_is_asked_for_as_soon_as_a_prediction_needs_it_and_else_only_by_longer_runs() -> None:
    source = World(back=0, has_forecast=True)

    async def body(rig: Rig) -> None:
        await rig.until(lambda: source.count("now") > 0, 0.1)
        await rig.clock.advance(2.0)
        assert source.count("forecast") == 0
        ends_at = datetime.fromtimestamp(START_S + 8 * 3600.0, UTC)
        rig.session.foresight.newest = SimpleNamespace(ends_at=ends_at)  # type: ignore[assignment]  # what is looked at
        rig.session.foresight.made()
        await rig.clock.advance(2.0)
        assert source.count("forecast") == 1
        await rig.clock.advance(60.0)
        assert source.count("forecast") == 1
        rig.session.foresight.newest = None

    run(body, source)
    source = World(back=0, has_forecast=True)

    async def unasked(rig: Rig) -> None:
        await rig.clock.advance(FORECAST_AFTER_S - 1.0)
        assert source.count("forecast") == 0
        await rig.clock.advance(3.0)
        assert source.count("forecast") == 1

    run(unasked, source)


def test_a_source_that_is_down_for_a_month_is_asked_every_quarter_of_an_hour_at_most() -> None:
    source = World(mood=DOWN, has_forecast=True)
    session = follow(Leaping(), 30.0, source)
    assert source.count("now") <= 30 * 96 * 4 / 3 + 10
    assert len(session.warnings) == 1
    assert len(session.ledger.intensity) == 1


def test_offline_for_a_day_is_asked_nothing_and_costs_a_look_a_minute() -> None:
    source, looks = World(has_forecast=True), []

    class Counting(Impatient):
        async def ask(self, *args: Any) -> Answer:
            looks.append(args)
            return await super().ask(*args)

    clock = Leaping()
    session = follow(clock, 1.0, source, exchange=Counting(clock, None, Cache(None), at_once))
    assert source.asked == []
    assert len(looks) <= 1440 + 8 + 2
    assert session.warnings == []


# -- what the user said ----------------------------------------------------------------------------------------------


def test_offline_asks_nothing_and_says_what_was_used() -> None:
    source = World(has_past=True, has_forecast=True)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(600.0)
        report = await rig.ended()
        assert source.asked == []
        assert [(use.quality, use.share) for use in report.intensity_sources] == [("average", 1.0)]
        assert not told(report, "is not used")  # it is the user's own wish

    run(body, source, offline=True)


def test_an_intensity_that_is_a_number_is_followed_by_nobody() -> None:
    made: list[Any] = []

    async def body(rig: Rig) -> None:
        await rig.clock.advance(60.0)
        report = await rig.ended()
        assert report.intensity_g_per_kwh == 123.0
        assert qualities(report) == ["given"]
        assert made == []

    run(body, World(), make=lambda *args: made.append(args), intensity=123.0)


def test_a_file_of_the_users_own_is_followed_as_it_grows(tmp_path: Path) -> None:
    rows = tmp_path / "own.csv"

    def write(*values: int) -> None:
        times = (f"2027-01-15T08:{10 * n:02d}:00Z,{value}" for n, value in enumerate(values))
        rows.write_text("\n".join(["time,value", *times]) + "\n")

    write(50, 60)

    def make(exchange: Exchange, session: Session, settings: Settings, place: Surroundings) -> Poller:
        return Poller(exchange, session, settings, place, environ={})

    async def body(rig: Rig) -> None:
        await rig.until(lambda: "given" in rig.known, 0.1)
        await rig.clock.advance(700.0)
        write(50, 60, 800)
        await rig.clock.advance(1000.0)
        report = await rig.ended()
        exact_ws = 600 * 50 + 600 * 60 + (report.duration_s - 1200) * 800
        assert report.co2eq_g == pytest.approx(exact_ws * 100 * G_PER_WS, rel=1e-6)
        assert qualities(report) == ["given"]

    run(body, make=make, intensity=str(rows), offline=True, interval_s=60.0)


@pytest.mark.parametrize("again_s", [1000.0, 1.0])  # in the second case the run's end is the first look
def test_rows_that_are_taken_out_of_a_file_during_the_run_count_no_more(tmp_path: Path, again_s: float) -> None:
    rows = tmp_path / "own.csv"
    good = "time,value\n2027-01-15T08:00:00Z,50\n2027-01-15T10:00:00Z,60\n"
    rows.write_text(good + "2027-01-15T08:01:00Z,2000\n2027-01-15T08:20:00Z,2000\n")

    def make(exchange: Exchange, session: Session, settings: Settings, place: Surroundings) -> Poller:
        return Poller(exchange, session, settings, place, environ={})

    async def body(rig: Rig) -> None:
        await rig.until(lambda: "given" in rig.known, 0.1)
        await rig.clock.advance(300.0)
        rows.write_text(good)
        await rig.clock.advance(again_s)
        report = await rig.ended()
        assert report.intensity_g_per_kwh == pytest.approx(50.0)
        assert qualities(report) == ["given"]

    run(body, make=make, intensity=str(rows), offline=True, interval_s=60.0)


def test_a_name_that_is_no_source_is_refused_before_anything_begins() -> None:
    with pytest.raises(ConfigError, match="energidataservice"):
        Tracker(intensity="energydataservice")


def test_a_source_that_is_named_is_asked_first_and_the_others_of_the_place_behind_it() -> None:
    place = Location(zone="DK", name="Denmark", how="given", is_guess=False)
    usual = [link.name for link in chain_of(Settings(), place, at_once, {})]
    named = [link.name for link in chain_of(Settings(intensity="energycharts"), place, at_once, {})]
    assert usual[0] == "energidataservice"
    assert named[0] == "energycharts"
    assert sorted(named) == sorted(usual)


def test_a_source_that_is_named_and_lacks_something_is_told_with_the_remedy() -> None:
    async def body(rig: Rig) -> None:
        await rig.until(lambda: bool(rig.session.warnings))
        assert told(rig.session, "electricitymaps is not used", "AIOCARBON_ELECTRICITYMAPS_TOKEN")

    def make(exchange: Exchange, session: Session, settings: Settings, place: Surroundings) -> Poller:
        return Poller(exchange, session, settings, place, environ={})

    run(body, make=make, intensity="electricitymaps", offline=True)


# -- a place that is found out later ---------------------------------------------------------------------------------


@asynccontextmanager
async def local_server(answers: dict[str, Any], asked: Counter[str]) -> AsyncIterator[str]:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        asked[request.path] += 1
        body = answers.get(request.path)
        return web.Response(status=404) if body is None else web.Response(text=json.dumps(body))

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


NAMES = ("GEOJS", "IPINFO", "AWS", "GCP", "AZURE", "ENERGIDATASERVICE", "ENERGYCHARTS", "ELECTRICITYMAPS")


def guessing(url: str, cloud: str | None = None, *, is_guess: bool = True, **more: str) -> Any:
    """Makes a poller for a machine of which only a guess is known, whose every question goes to a local server."""
    environ = {**{f"AIOCARBON_{name}_URL": f"{url}/{name.lower()}" for name in NAMES}, **more}

    def make(exchange: Exchange, session: Session, settings: Settings, place: Surroundings) -> Poller:
        guess = Location(zone="FR", name="France", how="time zone", is_guess=is_guess)
        session.facts = replace(session.facts, location=guess)
        place = placed(settings, guess)._replace(cloud=cloud)
        return Poller(exchange, session, settings, place, environ=environ)

    return make


def run_guessing(
    answers: dict[str, Any],
    body: Body,
    *,
    asked: Counter[str] | None = None,
    cloud: str | None = None,
    is_guess: bool = True,
    environ: dict[str, str] | None = None,
    **arguments: Any,
) -> None:
    """Run a body with a server in the loop of the engine."""

    async def main() -> None:
        async with local_server(answers, Counter() if asked is None else asked) as url:
            rig = Rig(FakeClock(), (), None, guessing(url, cloud, is_guess=is_guess, **environ or {}))
            async with running(rig.engine):
                rig.session = await rig.open(**{"location": None, "pue": None, **arguments})
                await body(rig)

    anyio.run(main)


def test_a_place_that_two_services_agree_on_is_that_of_the_whole_run() -> None:
    rows = [{"Minutes1UTC": f"2027-01-15T08:0{n}:00", "CO2Emission": 55.5} for n in range(2)]
    answers = {
        "/geojs/v1/ip/geo.json": {"country_code": "DK", "region": "Capital Region"},
        "/ipinfo/json": {"country": "DK", "region": "Capital Region"},
        "/energidataservice/dataset/PowerSystemRightNow": {"records": rows},
    }

    async def body(rig: Rig) -> None:
        await rig.until(lambda: rig.session.facts.location.zone == "DK", 0.001)
        await rig.until(lambda: "live" in rig.known, 0.001)
        report = await rig.ended()
        assert (report.location.zone, report.location.how, report.location.is_guess) == ("DK", "geolocation", False)
        assert report.co2eq_g == pytest.approx(report.it_energy_kwh * report.pue.value * 55.5, rel=1e-6)
        assert told(report, "geojs.io, ipinfo.io", "offline=True")
        assert not told(report, "is a guess")

    run_guessing(answers, body)


def test_the_pue_and_the_average_follow_what_the_cloud_says() -> None:
    async def body(rig: Rig) -> None:
        await rig.until(lambda: rig.session.facts.location.zone == "SE-SE3", 0.001)
        report = await rig.ended()
        assert report.location.how == "cloud"
        assert report.pue.value == 1.1
        assert "eu-north-1" in report.pue.source
        assert [use.zone[:2] for use in report.intensity_sources] == ["SE"]
        assert qualities(report) == ["average"]
        use = report.intensity_sources[0]
        assert report.co2eq_g == pytest.approx(report.it_energy_kwh * 1.1 * use.g_per_kwh, rel=EXACT)
        assert not told(report, "is a guess")
        assert not told(report, "geojs")

    run_guessing({}, body, cloud="aws", environ={"AWS_REGION": "eu-north-1"})


def test_services_that_disagree_leave_a_guess_that_is_told() -> None:
    answers = {
        "/geojs/v1/ip/geo.json": {"country_code": "DK", "region": ""},
        "/ipinfo/json": {"country": "SE", "region": ""},
    }

    async def body(rig: Rig) -> None:
        await rig.until(lambda: bool(told(rig.session, "is a guess")), 0.001)
        report = await rig.ended()
        assert report.location.zone == "FR"
        assert told(report, "FR is a guess", "time zone", "location=")
        assert told(report, "geojs.io says DK", "ipinfo.io says SE")

    run_guessing(answers, body)


DANISH = {
    "/geojs/v1/ip/geo.json": {"country_code": "DK", "region": ""},
    "/ipinfo/json": {"country": "DK", "region": ""},
}


def test_a_place_is_asked_for_again_when_the_services_are_back_and_the_hours_before_are_mended(tmp_path: Path) -> None:
    rows = [{"Minutes1UTC": f"2027-01-15T{8 + n // 60:02}:{n % 60:02}:00", "CO2Emission": 55.5} for n in range(180)]
    answers: dict[str, Any] = {}
    asked: Counter[str] = Counter()

    async def body(rig: Rig) -> None:
        await rig.until(lambda: bool(told(rig.session, "FR is a guess")), 0.001)
        assert told(rig.session, "they did not settle it", "asked again from")
        for _ in range(120):
            await rig.clock.advance(10.0)
        early = await rig.report()
        assert early.location.zone == "FR"
        assert 5 <= asked["/ipinfo/json"] <= 7  # after 0, 30, 90, 210, 450, 930 s, more or less
        answers.update(DANISH)
        answers["/energidataservice/dataset/PowerSystemRightNow"] = {"records": rows}
        while rig.session.facts.location.zone != "DK":
            await rig.clock.advance(2.0)
        assert rig.exchange.now_s - START_S < 1200.0 + 900.0 * 1.3
        assert told(rig.session, "FR was a guess (time zone) up to 2027-01-15 08:", "Denmark (DK)", "the whole run")
        while "live" not in rig.known or "average" in rig.known:
            await rig.clock.advance(2.0)
        times = asked["/ipinfo/json"]
        await rig.clock.advance(60.0)
        report = await rig.ended()
        assert asked["/ipinfo/json"] == times  # found, so nobody is asked any more
        assert (report.location.zone, report.location.how, report.location.is_guess) == ("DK", "geolocation", False)
        assert {use.zone[:2] for use in report.intensity_sources} == {"DK"}
        assert report.co2eq_g_before is not None

    run_guessing(answers, body, asked=asked, journal=tmp_path)
    (found,) = load(tmp_path).runs
    assert found.location.zone == "DK"
    assert {use.zone[:2] for use in found.intensity_sources} == {"DK"}


@pytest.mark.parametrize("arguments", [{"offline": True}, {"location": "FR"}, {"intensity": "own.csv"}])
def test_a_place_is_never_asked_for_where_the_user_said_enough_or_wants_no_packet(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    asked: Counter[str] = Counter()
    if "intensity" in arguments:
        own = tmp_path / "own.csv"
        own.write_text("time,g_per_kwh\n2027-01-01T00:00Z,111\n")
        arguments = {"intensity": str(own)}

    async def body(rig: Rig) -> None:
        for _ in range(60):
            await rig.clock.advance(60.0)
        await rig.ended()

    run_guessing({}, body, asked=asked, is_guess="location" not in arguments, **arguments)
    assert not [path for path in asked if "geojs" in path or "ipinfo" in path]


def test_services_that_disagree_are_not_asked_again_by_the_run() -> None:
    asked: Counter[str] = Counter()

    async def body(rig: Rig) -> None:
        for _ in range(60):
            await rig.clock.advance(60.0)
        await rig.ended()

    run_guessing({**DANISH, "/ipinfo/json": {"country": "SE", "region": ""}}, body, asked=asked)
    assert asked["/ipinfo/json"] == 1


# -- clocks that are set ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_s", [-7200.0, 7200.0])
def test_a_wall_clock_that_is_set_by_hours_brings_no_storm_and_the_values_of_the_right_hour(by_s: float) -> None:
    source = World(has_forecast=True, has_past=True, back=3)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(630.0)
        await rig.mark()
        rig.clock.set_wall(by_s)
        before = source.count("now")
        await rig.clock.advance(1260.0)
        await rig.mark()
        asked_s = [now_s for kind, now_s, _ in source.asked if kind == "now"][before:]
        assert len(asked_s) <= 6
        assert len({now_s // STEP_S for now_s in asked_s}) == len(asked_s)
        report = await rig.report()
        assert qualities(report) == ["live"]
        # The engine notices at its next tick, within 20 s.
        exact_g = rig.load.co2eq_g(0.0, 630.0) + rig.load.co2eq_g(630.0, 1890.0, lambda at_s: level(at_s + by_s))
        assert report.co2eq_g == pytest.approx(exact_g, rel=0.03)
        assert report.epochs[0].co2eq_g == pytest.approx(rig.load.co2eq_g(0.0, 630.0), rel=1e-6)
        assert parts_g(report) == pytest.approx(report.co2eq_g, rel=EXACT)

    run(body, source)


def test_a_source_that_failed_under_a_wrong_clock_is_tried_again_when_that_is_set_right() -> None:
    """A clock that is hours ahead makes certificates look expired; setting it back must not keep them looking so."""
    source = World(mood=DOWN)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(700.0)
        assert "live" not in rig.known
        rig.clock.set_wall(-5 * 3600.0)
        source.mood = None
        await rig.clock.advance(120.0)
        assert rig.session.ledger.intensity.value_at(rig.exchange.now_s).quality is Quality.LIVE

    run(body, source)


def test_a_machine_that_slept_asks_once_when_it_wakes() -> None:
    source = World(back=0, has_past=True)

    async def body(rig: Rig) -> None:
        await rig.clock.advance(330.0)
        before = source.count("now")
        rig.clock.suspend(6 * 3600.0)
        await rig.clock.advance(240.0)
        assert source.count("now") - before <= 2
        value = rig.session.ledger.intensity.value_at(rig.exchange.now_s)
        assert (value.quality, value.g_per_kwh) == (Quality.LIVE, level(rig.exchange.now_s))
        report = await rig.ended(intensity_wait_s=FOR_EVER_S)
        assert "live" in qualities(report)
        assert parts_g(report) == pytest.approx(report.co2eq_g, rel=EXACT)

    run(body, source)


# -- cancellation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["now", "forecast", "past"])
def test_an_engine_that_stops_while_a_source_hangs_leaves_no_task(kind: str, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    source = World(has_past=True, has_forecast=True, back=0, stale_s=400.0)

    async def body(rig: Rig) -> None:
        if kind == "past":
            source.mood = DOWN
            await rig.clock.advance(1000.0)
        elif kind == "forecast":
            await rig.clock.advance(5.0)
        now, gate = source.now, anyio.Event()

        async def present(client: object, now_s: float) -> Answer:
            source.mood = None
            answer = await now(client, now_s)
            source.mood = gate
            return answer

        if kind == "past":
            source.now = present  # type: ignore[method-assign] # the present answers, the past hangs
        source.mood = gate
        await rig.until(lambda: bool(source.asked) and source.asked[-1][0] == kind, 5.0)

    async def main() -> None:
        rig = Rig(FakeClock(), (source,), tmp_path, None)
        async with running(rig.engine) as group:
            rig.session = await rig.open()
            await body(rig)
            group.cancel_scope.cancel()
        assert [task.name for task in anyio.get_running_tasks()] == [anyio.get_current_task().name]

    anyio.run(main)
    # Another process may ask at once: no lock is held by what was cancelled.
    locks = list(tmp_path.glob("*.lock"))
    assert locks
    for path in locks:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_poller_may_be_cancelled_at_each_of_its_awaits() -> None:
    """However many turns it has had, it ends at once, and the run's parts add up with what it had learnt by then."""
    settings = Settings(location="DK")
    place = placed(settings, Location(zone="DK", name="Denmark", how="given", is_guess=False))
    device = ScriptedMeter(energy_uj=[0.0]).device
    qualities_seen = set()

    async def main() -> None:
        for turns in range(60):
            clock = FakeClock()
            session = make_session(settings, alone("run"), place, clock, lambda: None)  # type: ignore[arg-type,return-value] # costs nothing
            curve = Curve(device, refresh_ns=1_000_000)
            session.ledger.curves[device.id] = curve  # type: ignore[index] # known to be a dict
            for at_s in (0.0, 200.0):
                curve.append(Point(clock.monotonic_ns() + round(at_s * 1e9), 100.0 * at_s, 0.0, 0.0, 0.0, 0.0))
            session.begin(clock.monotonic_ns())
            for _ in range(150):
                clock.skip(1.0)
                session.border(clock.monotonic_ns(), steps=0)
            session.settle(clock.monotonic_ns() + 10**10)
            source = World(has_forecast=True)
            exchange = Exchange(clock, Client(at_once), Cache(None), at_once)
            poller = Poller(exchange, session, settings, place, sources=(source,))
            async with anyio.create_task_group() as group:
                group.start_soon(poller.run)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            report = session.made(clock.monotonic_ns())
            assert len(report.epochs) == 150
            assert parts_g(report) == pytest.approx(report.co2eq_g, rel=EXACT)
            qualities_seen.update(qualities(report))
            assert len(anyio.get_running_tasks()) == 1

    anyio.run(main)
    assert qualities_seen == {"average", "live"}


# -- the journal -----------------------------------------------------------------------------------------------------


def same_uses(a: Any, b: Any) -> None:
    assert [(u.source, u.zone, u.quality) for u in a] == [(u.source, u.zone, u.quality) for u in b]
    for mine, theirs in zip(a, b, strict=True):
        assert mine.g_per_kwh == pytest.approx(theirs.g_per_kwh, rel=EXACT)
        assert mine.share == pytest.approx(theirs.share, rel=EXACT)


def learns_late(journal: Path, then: Body, jump_s: float = 0.0) -> None:
    """A run whose first answer comes after some epochs, and covers them; later comes a border of two values."""
    clock = FakeClock(wall_ns=round((START_S + 250.0) * 1e9))
    gate = anyio.Event()
    source = World(mood=gate, back=20)

    async def body(rig: Rig) -> None:
        for watts in (300.0, 700.0, 90.0):
            await rig.clock.advance(9.0)
            rig.load.turn(watts)
            await rig.mark()
        source.mood = None
        await rig.clock.advance(60.0)
        if jump_s:
            rig.clock.set_wall(jump_s)
            await rig.clock.advance(90.0)
        await rig.mark()
        await rig.clock.advance(30.0)
        await then(rig)

    run(body, source, clock=clock, journal=journal)


@pytest.mark.parametrize("jump_s", [0.0, -3600.0, 3600.0])
def test_a_journal_of_what_was_learnt_late_reads_back_alike(tmp_path: Path, jump_s: float) -> None:
    async def then(rig: Rig) -> None:
        report = await rig.ended()
        (back,) = load(tmp_path).runs
        assert back.co2eq_g == pytest.approx(report.co2eq_g, rel=EXACT)
        assert back.outside.co2eq_g == pytest.approx(report.outside.co2eq_g, rel=EXACT)
        assert [e.co2eq_g for e in back.epochs] == pytest.approx([e.co2eq_g for e in report.epochs], rel=EXACT)
        same_uses(back.intensity_sources, report.intensity_sources)
        assert "live" in qualities(report)

    learns_late(tmp_path, then, jump_s)


def test_a_journal_of_a_crash_reads_back_alike(tmp_path: Path) -> None:
    async def then(rig: Rig) -> None:
        files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
        crashed = tmp_path / "crashed"
        crashed.mkdir()
        for path in files:
            shutil.copy(path, crashed)
        (back,) = load(crashed).runs
        assert not back.ended_well
        live = await rig.report()
        assert len(back.epochs) == len(live.epochs) == 4
        assert [e.co2eq_g for e in back.epochs] == pytest.approx([e.co2eq_g for e in live.epochs], rel=EXACT)
        begin_ns = 1_000_000_000
        ledger = rig.session.ledger
        cut = ledger.cut(ledger.mark(begin_ns), ledger.mark(begin_ns + round(back.duration_s * 1e9)))
        assert back.duration_s > 90.0
        assert back.co2eq_g == pytest.approx(cut.carbon.co2eq_g, rel=1e-7)  # the journal's joules are rounded
        assert {use.quality for use in back.intensity_sources} == {"live"}

    learns_late(tmp_path, then)


# -- two runs in one process -----------------------------------------------------------------------------------------


def test_two_runs_in_two_places_have_their_own_curves() -> None:
    danish, french = World(lambda _: 100.0, zone="DK", name="danish"), World(lambda _: 20.0, zone="FR", name="french")
    exchanges: list[Exchange] = []

    async def body(rig: Rig) -> None:
        exchanges.append(rig.exchange)
        other = await rig.open(location="FR", pue=2.0)
        await rig.clock.advance(400.0)
        theirs, mine = await rig.ended(other), await rig.ended()
        assert mine.co2eq_g == pytest.approx(mine.it_energy_kwh * 100.0, rel=EXACT)
        assert theirs.co2eq_g == pytest.approx(theirs.it_energy_kwh * 2.0 * 20.0, rel=EXACT)
        assert [use.source for use in mine.intensity_sources] == ["danish"]
        assert [use.source for use in theirs.intensity_sources] == ["french"]

    def make(exchange: Exchange, session: Session, settings: Settings, place: Surroundings) -> Poller:
        chain = {"DK": (danish,), "FR": (french,)}[place.location.zone]
        return Poller(exchange, session, settings, place, sources=chain)

    run(body, make=make)


def test_two_runs_in_one_place_ask_once() -> None:
    source = World(has_past=True, has_forecast=True)

    async def body(rig: Rig) -> None:
        other = await rig.open()
        await rig.clock.advance(1000.0)
        theirs, mine = await rig.ended(other), await rig.ended()
        assert theirs.co2eq_g == pytest.approx(rig.load.co2eq_g(0.0, theirs.duration_s), rel=1e-6)
        assert mine.co2eq_g == pytest.approx(rig.load.co2eq_g(0.0, mine.duration_s), rel=1e-6)
        asked_s = [now_s for kind, now_s, _ in source.asked if kind == "now"]
        assert len({now_s // STEP_S for now_s in asked_s}) == len(asked_s) == 4
        assert source.count("forecast") == 1

    run(body, source)
