"""From curves to increments: what is told to be split is what the cuts say, whatever a curve learns later."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.curve import Curve, Point
from aiocarbon._core.feed import ARREARS_S, MOST_PIECES, Feed
from aiocarbon._core.intensity import IntensityCurve, IntensityValue, Pue, Quality
from aiocarbon._core.ledger import Ledger, Mark
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity
from aiocarbon._core.supply import Increment
from aiocarbon._core.units import J_PER_KWH
from aiocarbon._core.wallclock import Anchor, WallClock
from aiocarbon._engine.frozen import Frozen

S = 1_000_000_000
MS = 1_000_000
T0_S = 1_800_000_000


def value_of(g: float) -> IntensityValue:
    return IntensityValue(
        g_per_kwh=g, low_g_per_kwh=g, high_g_per_kwh=g, source="test", zone="DK", quality=Quality.LIVE
    )


def curve_of(ident: str, *points: tuple[float, float], counted: bool = True) -> Curve:
    """A curve by points of seconds and joules."""
    device = Device(
        id=ident,
        kind=DeviceKind.GPU,
        name=ident,
        quantity=Quantity.ENERGY,
        basis=Basis.COUNTER,
        refresh_s=0.1,
        counted=counted,
    )
    curve = Curve(device, refresh_ns=100 * MS)
    for at_s, energy_j in points:
        append(curve, round(at_s * S), energy_j)
    return curve


def append(curve: Curve, t_ns: int, energy_j: float) -> None:
    curve.append(Point(t_ns, energy_j, 0.0, 0.0, 0.0, 0.0))


def ledger_of(*curves: Curve, pue: float = 1.25) -> Ledger:
    return Ledger(
        {curve.device.id: curve for curve in curves},
        intensity=IntensityCurve(value_of(100.0)),
        pue=Pue(value=pue, source="test"),
        wall=WallClock(Anchor(0, T0_S * S)),
    )


def sums(told: list[Increment]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for one in told:
        found.setdefault(one.device, []).append(one.energy_j)
    return {ident: math.fsum(parts) for ident, parts in found.items()}


def is_in_order(told: list[Increment]) -> bool:
    """Whether no increment of a device overlaps another, and none is negative."""
    for ident in {one.device for one in told}:
        mine = [one for one in told if one.device == ident]
        if any(one.energy_j <= 0.0 or one.co2eq_g < 0.0 or one.end_ns < one.begin_ns for one in mine):
            return False
        if any(a.end_ns > b.begin_ns for a, b in itertools.pairwise(mine)):
            return False
    return True


class Run:
    """A run whose energy is fed step by step, as the engine does it."""

    def __init__(self, ledger: Ledger, at_ns: int = 0, floor_w: float | None = None) -> None:
        self.ledger = ledger
        self.frozen = Frozen()
        self.begin = ledger.mark(at_ns)
        self.frozen.add(self.begin, earliest_ns=at_ns)
        self.feed = Feed(ledger, at_ns, floor_w)
        self.told: list[Increment] = []

    def split(self, at_s: float) -> Mark:
        mark = self.frozen.between(self.ledger.mark(round(at_s * S)))
        self.frozen.add(mark, earliest_ns=0)
        self.told += self.feed.upto(self.begin, mark)
        return mark


# What happens to a device: it tells more, its newest point is placed anew, or its energy is split up to an instant
# that may lie beyond its newest point; and by how much.
steps = st.lists(
    st.tuples(
        st.sampled_from(["tell", "tell", "replace", "split"]),
        st.integers(0, 1),
        st.floats(0.001, 5.0),
        st.floats(0.0, 1000.0),
    ),
    max_size=40,
)


@given(steps)
def test_increments_make_what_the_cut_says_whatever_the_curves_learn(told: list[tuple[str, int, float, float]]) -> None:
    curves = [curve_of("a", (0.0, 0.0), (0.5, 50.0)), curve_of("b", (0.0, 10.0), (0.5, 10.0))]
    run = Run(ledger_of(*curves))
    at_s = 0.5
    for what, n, by_s, energy_j in [*told, ("split", 0, 1.0, 0.0)]:
        curve = curves[n]
        last = curve[-1]
        if what == "tell":
            append(curve, last.t_ns + round(by_s * S), last.energy_j + energy_j)
        elif what == "replace" and len(curve) > 2:
            before = curve[-2]
            at_ns = before.t_ns + max(round((last.t_ns - before.t_ns) * min(by_s, 1.0)), 1)
            curve.replace_last(Point(at_ns, before.energy_j + energy_j, 0.0, 0.0, 0.0, 0.0))
        elif what == "split":
            at_s += by_s
            mark = run.split(at_s)
            cut = run.ledger.cut(run.begin, mark)
            found = sums(run.told)
            for part in cut.devices:
                assert found.get(part.device.id, 0.0) == pytest.approx(part.energy_j, rel=1e-9, abs=1e-9)
            assert is_in_order(run.told)
            assert run.feed.at_ns == mark.t_ns


@given(
    st.lists(st.floats(0.0, 2000.0), min_size=1, max_size=12),
    st.lists(st.floats(0.01, 20.0), min_size=1, max_size=12),
    st.floats(-7200.0, 7200.0),
)
def test_co2eq_of_increments_is_that_of_the_cut_where_nothing_is_corrected(
    grams: list[float], gaps_s: list[float], by_s: float
) -> None:
    """Intensities change inside of windows, and the wall clock is set in the middle of the run."""
    curve = curve_of("a", *((n * 0.7, 70.0 * n + 30.0 * (n % 3)) for n in range(400)))
    ledger = ledger_of(curve)
    for n, g in enumerate(grams):
        ledger.intensity.set(value_of(g), T0_S + 3.3 * n)
    ledger.wall.look(Anchor(20 * S, T0_S * S + round((20.0 + by_s) * S)))
    run, at_s = Run(ledger), 0.0
    for gap_s in gaps_s:
        at_s += gap_s
        mark = run.split(at_s)
    whole = ledger.cut(run.begin, mark)
    assert math.fsum(one.co2eq_g for one in run.told) == pytest.approx(whole.carbon.co2eq_g, rel=1e-9, abs=1e-12)
    assert sums(run.told)["a"] == pytest.approx(whole.energy_j, rel=1e-9)
    assert is_in_order(run.told)


def test_power_is_that_of_the_readings_and_not_of_the_window() -> None:
    """A minute is split at once: what was used in its last second is told of its last second."""
    run = Run(ledger_of(curve_of("a", (0.0, 0.0), (59.0, 59.0), (60.0, 1059.0))))
    run.split(60.0)
    late = math.fsum(one.energy_j for one in run.told if one.begin_ns >= 59 * S)
    assert late == pytest.approx(1000.0)


def test_a_window_of_many_readings_is_told_in_few_pieces() -> None:
    run = Run(ledger_of(curve_of("a", *((n / 1000, n / 10) for n in range(60_001)))))
    run.split(60.0)
    assert MOST_PIECES / 2 < len(run.told) <= MOST_PIECES + 1
    assert sums(run.told)["a"] == pytest.approx(6000.0)


def test_what_an_extrapolation_said_too_much_is_made_up_for_before_more_is_told() -> None:
    curve = curve_of("a", (0.0, 0.0), (1.0, 300.0))
    run = Run(ledger_of(curve))
    run.split(1.1)
    assert sums(run.told)["a"] == pytest.approx(330.0)
    append(curve, 2 * S, 310.0)
    run.split(2.0)
    assert sums(run.told)["a"] == pytest.approx(330.0)
    append(curve, 3 * S, 340.0)
    run.split(3.0)
    assert sums(run.told)["a"] == pytest.approx(340.0)
    assert is_in_order(run.told)


@pytest.mark.parametrize(("silent_s", "is_late"), [(0.9 * ARREARS_S, False), (60.0, True)])
def test_what_comes_long_after_its_time_was_split_has_no_length(silent_s: float, is_late: bool) -> None:
    """Nobody waited for a device that was silent: those whose spans are open when it speaks did not use that."""
    curve = curve_of("a", (0.0, 0.0), (1.0, 100.0))
    run = Run(ledger_of(curve))
    run.split(1.0)
    run.split(1.0 + silent_s)
    append(curve, round((2.0 + silent_s) * S), 200.0 + 100.0 * silent_s)
    run.split(2.0 + silent_s)
    assert sums(run.told)["a"] == pytest.approx(200.0 + 100.0 * silent_s)
    late = [one for one in run.told if one.begin_ns == one.end_ns]
    assert len(late) == is_late
    if is_late:
        assert late[0].energy_j == pytest.approx(100.0 * (silent_s - 0.105))  # but for an extrapolation
        assert late[0].co2eq_g == pytest.approx(late[0].energy_j * 100.0 * 1.25 / J_PER_KWH)
    assert is_in_order(run.told)


def test_devices_that_do_not_count_or_have_told_nothing_are_left_out() -> None:
    run = Run(ledger_of(curve_of("seen", (0.0, 0.0), (9.0, 90.0), counted=False), curve_of("silent")))
    run.split(9.0)
    assert run.told == []


def test_a_device_that_comes_late_is_told_from_its_first_reading_on() -> None:
    early = curve_of("early", (0.0, 0.0), (9.0, 90.0))
    ledger = ledger_of(early)
    run = Run(ledger)
    run.split(4.0)
    ledger.curves["late"] = curve_of("late", (5.0, 1000.0), (9.0, 1400.0))  # type: ignore[index]  # a dict, here
    mark = run.split(9.0)
    assert sums(run.told) == {"early": pytest.approx(90.0), "late": pytest.approx(400.0)}
    assert min(one.begin_ns for one in run.told if one.device == "late") >= 4 * S
    assert run.ledger.cut(run.begin, mark).energy_j == pytest.approx(490.0)


def test_no_time_is_no_energy_and_an_instant_behind_takes_nothing_back() -> None:
    run = Run(ledger_of(curve_of("a", (0.0, 0.0), (9.0, 90.0))))
    run.split(5.0)
    run.split(5.0)
    run.split(3.0)
    assert sums(run.told)["a"] == pytest.approx(50.0)
    run.split(9.0)
    assert sums(run.told)["a"] == pytest.approx(90.0)


def test_a_floor_of_all_is_divided_by_what_each_draws() -> None:
    run = Run(ledger_of(curve_of("a", (0.0, 0.0), (9.0, 900.0)), curve_of("b", (0.0, 0.0), (9.0, 2700.0))), 0, 80.0)
    run.split(9.0)
    assert {one.device: one.floor_w for one in run.told} == {"a": pytest.approx(20.0), "b": pytest.approx(60.0)}
    run.split(9.0)  # nothing to divide by


def test_a_floor_that_a_meter_knows_comes_with_the_energy_unless_one_is_given() -> None:
    curve = curve_of("cpu", (0, 0.0), (2, 20.0))
    curve.device = dataclasses.replace(curve.device, idle_w=3.0)
    ledger = ledger_of(curve)
    begin, end = ledger.mark(0), ledger.mark(2 * S)
    assert {one.floor_w for one in Feed(ledger, 0).upto(begin, end)} == {3.0}
    assert {one.floor_w for one in Feed(ledger, 0, None, {"cpu": 1.0}).upto(begin, end)} == {None}
    assert {one.floor_w for one in Feed(ledger, 0, 5.0).upto(begin, end)} == {5.0}
