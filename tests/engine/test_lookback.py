"""The days behind a run, asked for once a day where its prediction needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.answer import Answer, Sample
from aiocarbon._core.grid import Grid
from aiocarbon._core.intensity import FactorBasis, IntensityCurve, IntensityKind, Pue, Quality
from aiocarbon._core.ledger import Ledger
from aiocarbon._core.units import NS_PER_S, S_PER_DAY
from aiocarbon._core.wallclock import Anchor, WallClock
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.foresight import SLOT_S, Foresight
from aiocarbon._engine.lookback import DAYS, LookBack, half_hours
from aiocarbon.errors import SourceDownError
from aiocarbon.intensity import table
from aiocarbon.intensity.base import Row, make_answer
from aiocarbon.intensity.cache import Cache
from aiocarbon.intensity.client import Client
from aiocarbon.testing import FakeClock, ScriptedSource


async def at_once(function: Callable[..., Any], *args: object) -> Any:
    return function(*args)


def nothing(now_s: float) -> Iterator[Row]:
    yield now_s - 10.0, now_s + 10.0, 1.0, Quality.LIVE


def hours(begin_s: float, end_s: float) -> Iterator[Row]:
    at = begin_s
    while at < end_s:
        yield at, at + 3600.0, (at % S_PER_DAY) / 3600.0, Quality.LIVE
        at += 3600.0


class Run:
    """What of a run is looked at and told."""

    def __init__(self, clock: FakeClock) -> None:
        self.told: list[list[Any]] = []
        self.newest: Any = None
        self._clock = clock

    def days_before(self, days: list[Any]) -> None:
        self.told.append(days)

    def lasts(self, seconds: float) -> None:
        now = datetime.fromtimestamp(self._clock.wall_ns() * 1e-9, UTC)
        self.newest = SimpleNamespace(ends_at=now + timedelta(seconds=seconds))


def look(clock: FakeClock, run: Run, *sources: ScriptedSource, ahead_s: float, times: int = 1) -> None:
    async def main() -> None:
        session: Any = SimpleNamespace(foresight=run)
        back = LookBack(Exchange(clock, Client(at_once), Cache(None), at_once), session)
        for _ in range(times):
            await back.look(sources, clock.wall_ns() * 1e-9 + ahead_s)

    anyio.run(main)


def test_a_run_that_ends_within_what_is_known_asks_nothing() -> None:
    clock = FakeClock()
    run, source = Run(clock), ScriptedSource(nothing, past=hours)
    look(clock, run, source, ahead_s=3600.0)  # no prediction yet
    run.newest = SimpleNamespace(ends_at=None)  # a run without a declared end
    look(clock, run, source, ahead_s=3600.0)
    run.lasts(3500.0)
    look(clock, run, source, ahead_s=3600.0)
    assert source.asked == []


def test_a_longer_run_asks_once_a_day_for_whole_days() -> None:
    clock = FakeClock()
    run, source = Run(clock), ScriptedSource(nothing, past=hours, step_s=3600.0)
    run.lasts(10 * 3600.0)
    look(clock, run, source, ahead_s=3600.0, times=3)
    ((kind, begin_s, end_s),) = source.asked
    assert (kind, end_s - begin_s, end_s % S_PER_DAY) == ("past", DAYS * S_PER_DAY, 0.0)
    assert end_s <= clock.wall_ns() * 1e-9 < end_s + S_PER_DAY
    (told,) = run.told
    assert len(told) == DAYS * 48
    assert [value.g_per_kwh for _, value in told[:5]] == [0.0, 0.0, 1.0, 1.0, 2.0]


def test_a_source_that_fails_is_followed_by_the_next_one() -> None:
    def down(*_: float) -> Iterator[Row]:
        raise SourceDownError("no route to host", source="scripted", retry_after_s=3600.0)

    clock = FakeClock()
    run = Run(clock)
    run.lasts(10 * 3600.0)
    without, failing, good = (
        ScriptedSource(nothing, name="without"),
        ScriptedSource(nothing, past=down, name="failing"),
        ScriptedSource(nothing, past=hours, name="good", step_s=3600.0),
    )
    look(clock, run, without, failing, good, ahead_s=0.0)
    assert without.asked == []
    assert len(failing.asked) == len(good.asked) == len(run.told) == 1


def test_the_hours_from_midnight_to_the_run_s_begin_are_as_on_the_days_before() -> None:
    """Whole days are asked for: what lies behind the last of them, and before the run, nobody has told."""
    midnight_s = 1.79e9 - 1.79e9 % S_PER_DAY
    now_s = midnight_s + 15 * 3600.0
    fallback = replace(table.given(400.0), quality=Quality.AVERAGE)
    curve, grid = IntensityCurve(fallback), Grid(fallback)
    live = Sample(now_s - SLOT_S, now_s + SLOT_S, 15.0, Quality.LIVE)
    of_grid = Answer(
        samples=(live,),
        source=TRAITS.name,
        title=TRAITS.title,
        zone="DE",
        kind=IntensityKind.AVERAGE,
        factor_basis=FactorBasis.DIRECT,
    )
    grid.learn(0, of_grid, grace_s=SLOT_S, stale_s=3600.0)
    curve.replace(now_s, list(grid.steps(now_s)))
    wall = WallClock(Anchor(0, round(now_s) * NS_PER_S))
    foresight = Foresight(Ledger({}, intensity=curve, pue=Pue(value=1.0, source="test"), wall=wall))
    days = tuple(Sample(*row) for row in hours(midnight_s - DAYS * S_PER_DAY, midnight_s))  # type: ignore[arg-type]
    foresight.days_before(half_hours(replace(of_grid, samples=days)))
    horizon = foresight.ahead(now_s + 60.0)
    for hour in (0, 5, 12, 14, 23):
        assert horizon.mean(midnight_s + S_PER_DAY + hour * 3600.0, 3600.0).g_per_kwh == pytest.approx(float(hour))


TRAITS = ScriptedSource(nothing).traits


@given(
    st.lists(st.sampled_from([300.0, 900.0, 1800.0, 3600.0]), min_size=1, max_size=60),
    st.integers(0, 5),
    st.data(),
)
def test_half_hours_are_the_means_of_what_an_answer_holds_whole(steps: list[float], offset: int, data: Any) -> None:
    at, rows = 1.79e9 - 1.79e9 % 3600.0 + 300.0 * offset, []
    for step_s in steps:
        value = data.draw(st.none() | st.floats(0.0, 1000.0))
        rows.append((at, at + step_s, value, Quality.LIVE))
        at += step_s
    if all(row[2] is None for row in rows):
        return
    found = dict(half_hours(make_answer(TRAITS, rows, now_s=at)))
    slot = rows[0][0] // SLOT_S * SLOT_S
    while slot < at:
        inside = [(max(a, slot), min(b, slot + SLOT_S), g) for a, b, g, _ in rows if a < slot + SLOT_S and b > slot]
        whole = sum(b - a for a, b, g in inside if g is not None) == SLOT_S
        assert (slot in found) is whole
        if whole:
            assert found[slot].g_per_kwh == pytest.approx(sum((b - a) * g for a, b, g in inside) / SLOT_S)
        slot += SLOT_S
