"""Frozen marks: whatever lies between two of them adds up, in whatever order marks are set and curves learn."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.body import NO_OVERHEAD, Facts
from aiocarbon._core.curve import Curve, Point, State
from aiocarbon._core.intensity import IntensityCurve, IntensityValue, Location, Pue, Quality
from aiocarbon._core.ledger import Ledger, Mark
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity
from aiocarbon._core.wallclock import Anchor, WallClock
from aiocarbon._engine.frozen import Frozen
from aiocarbon._engine.session import Session

S = 1_000_000_000
MS = 1_000_000


def mark(t_ns: int, energy_j: float) -> Mark:
    return Mark(t_ns, {"d": State(energy_j, 0.0, 0.0, 0.0, 0.0)})


def joules(of: Mark) -> float:
    return of.states["d"].energy_j


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.floats(0.0, 1e6)), min_size=2, max_size=60),
)
def test_marks_in_any_order_are_monotone_and_an_instant_has_one(told: list[tuple[int, float]]) -> None:
    frozen = Frozen()
    made = []
    for t_ns, energy_j in told:
        made.append(frozen.between(mark(t_ns, energy_j)))
        frozen.add(made[-1], earliest_ns=0)
    made.sort(key=lambda one: one.t_ns)
    for a, b in itertools.pairwise(made):
        assert joules(a) == joules(b) if a.t_ns == b.t_ns else joules(a) <= joules(b)


def test_a_device_that_one_mark_does_not_know_is_bounded_by_none() -> None:
    frozen = Frozen()
    frozen.add(Mark(10, {}), earliest_ns=0)
    frozen.add(mark(30, 5.0), earliest_ns=0)
    assert joules(frozen.between(mark(20, 3.0))) == 3.0
    assert joules(frozen.between(mark(20, 9.0))) == 5.0
    assert joules(frozen.between(mark(40, 4.0))) == 5.0
    assert frozen.between(Mark(20, {})).states == {}


def test_marks_of_a_run_of_weeks_without_a_border_are_not_all_kept() -> None:
    frozen = Frozen()
    frozen.add(mark(0, 7.0), earliest_ns=0)
    for n in range(1, 100_000):
        frozen.add(frozen.between(mark(n * S, float(n))), earliest_ns=0)
    assert len(frozen._marks) < 1000
    assert joules(frozen.between(mark(1, 0.0))) == 7.0  # the border's own mark stays, however long ago it was


def session_of(curve: Curve) -> Session:
    value = IntensityValue(
        g_per_kwh=100.0, low_g_per_kwh=100.0, high_g_per_kwh=100.0, source="test", zone="DK", quality=Quality.LIVE
    )
    curves = {"d": curve}
    ledger = Ledger(
        curves,
        intensity=IntensityCurve(value),
        pue=Pue(value=1.0, source="test"),
        wall=WallClock(Anchor(0, 1_800_000_000 * S)),
    )
    facts = Facts(
        run_id="r", name="", host="h", location=Location(zone="DK", name="", how="given", is_guess=False), version="0"
    )
    return Session(facts, ledger, curves, overhead=lambda: NO_OVERHEAD, equivalents=lambda _: ())


@pytest.mark.parametrize("seed", range(5))
def test_epochs_add_up_where_borders_come_later_than_shares_were_split(seed: int) -> None:
    """A border's call may wait for others: shares are split, and a mark frozen, at instants behind its stamp."""
    rng = random.Random(seed)
    device = Device(id="d", kind=DeviceKind.GPU, name="d", quantity=Quantity.ENERGY, basis=Basis.COUNTER, refresh_s=0.1)
    curve = Curve(device, refresh_ns=100 * MS)
    curve.append(Point(0, 0.0, 0.0, 0.0, 0.0, 0.0))
    curve.append(Point(100 * MS, 30.0, 0.0, 0.0, 0.0, 0.0))
    session = session_of(curve)
    session.begin(0)
    session.settle(10 * S)
    now, energy_j = 100 * MS, 30.0
    for _ in range(60):
        now += 100 * MS
        session.known(now, now - 20 * MS)  # on an extrapolation, which the next reading does not confirm
        session.border(now - 60 * MS, steps=0)  # was called before that
        session.settle(now + 10 * S)
        session.known(now, now - 5 * MS)
        energy_j += rng.choice([0.0, 1.0, 60.0])
        curve.append(Point(now, energy_j, 0.0, 0.0, 0.0, 0.0))
    session.end(now, steps=0)
    session.settle(now + 10 * S)
    report = session.made(now, is_final=True)
    parts = math.fsum(epoch.it_energy_kwh for epoch in report.epochs) + report.outside.it_energy_kwh
    assert parts == pytest.approx(report.it_energy_kwh, rel=1e-12)
