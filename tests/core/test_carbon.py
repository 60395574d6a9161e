"""CO2eq as the integral of energy and intensity: against closed forms, at any length, with corrections afterwards."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.assemble import mixtures, uses
from aiocarbon._core.carbon import SETTLED_NS
from aiocarbon._core.curve import Curve, Point
from aiocarbon._core.intensity import FactorBasis, IntensityCurve, IntensityKind, IntensityValue, Pue, Quality
from aiocarbon._core.ledger import Ledger
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity
from aiocarbon._core.wallclock import Anchor, WallClock

S = 1_000_000_000
DAY_S = 86400
J_PER_KWH = 3.6e6
T0_S = 1_800_000_000


def value_of(g: float, source: str = "test", **more: object) -> IntensityValue:
    fields: dict[str, object] = {"zone": "DK", "quality": Quality.LIVE, **more}
    return IntensityValue(g_per_kwh=g, low_g_per_kwh=g * 0.9, high_g_per_kwh=g * 1.1, source=source, **fields)  # type: ignore[arg-type]  # written by field


def curve_of(powers_w: list[float], every_s: int, ident: str = "d") -> Curve:
    """A device that draws each power for so long, with a point at each change."""
    device = Device(
        id=ident, kind=DeviceKind.GPU, name="d", quantity=Quantity.ENERGY, basis=Basis.COUNTER, refresh_s=0.001
    )
    curve = Curve(device, refresh_ns=1_000_000)
    energy = 0.0
    curve.append(Point(0, 0.0, 0.0, 0.0, 0.0, 0.0))
    for n, power in enumerate(powers_w, start=1):
        energy += power * every_s
        curve.append(Point(n * every_s * S, energy, 0.0, 0.0, 0.0, 0.0))
    return curve


def ledger_of(curve: Curve, intensity: IntensityCurve, pue: float = 1.0) -> Ledger:
    wall = WallClock(Anchor(0, T0_S * S))
    return Ledger({"d": curve}, intensity=intensity, pue=Pue(value=pue, source="test"), wall=wall)


def steps_of(values: list[float], every_s: int) -> IntensityCurve:
    intensity = IntensityCurve(value_of(values[0]))
    for n, g in enumerate(values[1:], start=1):
        intensity.set(value_of(g), T0_S + n * every_s)
    return intensity


def test_a_burst_in_a_dirty_hour_weighs_what_it_used() -> None:
    powers = [100.0] * 20 + [3000.0] + [100.0] * 3  # an hour each
    dirty = [50.0] * 20 + [900.0] + [50.0] * 3
    book = ledger_of(curve_of(powers, 3600), steps_of(dirty, 3600), pue=1.3)
    carbon = book.cut(book.mark(0), book.mark(24 * 3600 * S)).carbon
    exact = math.fsum(p * 3600 * g for p, g in zip(powers, dirty, strict=True)) / J_PER_KWH * 1.3
    mean_times_total = sum(dirty) / 24 * sum(powers) * 3600 / J_PER_KWH * 1.3
    assert carbon.co2eq_g == pytest.approx(exact, rel=1e-9)
    assert abs(mean_times_total - exact) > 0.5 * exact
    assert carbon.low_g == pytest.approx(exact * 0.9, rel=1e-9)
    assert carbon.high_g == pytest.approx(exact * 1.1, rel=1e-9)


@pytest.mark.parametrize("days", [1, 30])
def test_a_month_of_five_minutes_is_exact_and_telescopes(days: int) -> None:
    count = days * 288
    powers = [100.0 + (n * 37) % 251 for n in range(count)]
    dirty = [20.0 + (n * 91) % 613 for n in range(count)]
    book = ledger_of(curve_of(powers, 300), steps_of(dirty, 300))
    end = count * 300 * S
    exact = math.fsum(p * 300 * g for p, g in zip(powers, dirty, strict=True)) / J_PER_KWH
    # Grown as a run grows: the sums behind are kept from one report to the next.
    for share in (0.1, 0.35, 0.36, 1.0):
        whole = book.cut(book.mark(0), book.mark(round(end * share)))
    assert whole.carbon.co2eq_g == pytest.approx(exact, rel=1e-9)
    at = [0, 7 * S, end // 7, end // 3 + 1, end]
    parts = [book.cut(book.mark(a), book.mark(b)).carbon for a, b in itertools.pairwise(at)]
    assert math.fsum(part.co2eq_g for part in parts) == pytest.approx(exact, rel=1e-9)
    assert sum(use.energy_j for use in whole.carbon.uses.values()) == pytest.approx(whole.energy_j, rel=1e-9)


@given(
    correct=st.lists(st.tuples(st.integers(0, 287), st.floats(0, 2000)), max_size=6),
    cuts=st.lists(st.integers(0, DAY_S), min_size=2, max_size=5).map(sorted),
)
def test_sums_that_were_kept_are_those_made_anew_after_any_correction(
    correct: list[tuple[int, float]], cuts: list[int]
) -> None:
    powers = [100.0 + (n * 37) % 251 for n in range(288)]
    book = ledger_of(curve_of(powers, 300), steps_of([100.0 + n for n in range(288)], 300))
    for n, g in correct:
        book.cut(book.mark(0), book.mark(DAY_S * S))
        book.intensity.set(value_of(g, source="corrected"), T0_S + n * 300)
    fresh = ledger_of(book.curves["d"], book.intensity)
    for a, b in itertools.pairwise(cuts):
        kept = book.cut(book.mark(a * S), book.mark(b * S)).carbon
        anew = fresh.cut(fresh.mark(a * S), fresh.mark(b * S)).carbon
        assert kept.co2eq_g == pytest.approx(anew.co2eq_g, rel=1e-9, abs=1e-12)
        assert kept.uses.keys() == anew.uses.keys()
    whole, again = (one.cut(one.mark(0), one.mark(DAY_S * S)).carbon for one in (book, fresh))
    for key, use in whole.uses.items():
        assert use.energy_j == pytest.approx(again.uses[key].energy_j, rel=1e-9, abs=1e-6)


def test_a_correction_of_long_ago_reaches_the_sums_that_were_kept() -> None:
    book = ledger_of(curve_of([100.0] * 24, 3600), steps_of([100.0] * 24, 3600))
    before = book.cut(book.mark(0), book.mark(DAY_S * S)).carbon.co2eq_g
    book.intensity.replace(T0_S + 3600, [(T0_S + 3600.0, value_of(700.0)), (T0_S + 7200.0, value_of(100.0))])
    after = book.cut(book.mark(0), book.mark(DAY_S * S)).carbon.co2eq_g
    assert after - before == pytest.approx(600.0 * 0.1, rel=1e-9)


def test_a_wall_clock_that_is_set_moves_the_steps_behind_it() -> None:
    book = ledger_of(curve_of([100.0] * 4, 3600), steps_of([100.0, 100.0, 500.0, 500.0], 3600))
    book.cut(book.mark(0), book.mark(4 * 3600 * S))
    book.wall.look(Anchor(3600 * S, (T0_S + 7200) * S))  # an hour was left out: the dirty ones come sooner
    carbon = book.cut(book.mark(0), book.mark(4 * 3600 * S)).carbon
    assert carbon.co2eq_g == pytest.approx(0.1 * (100 + 3 * 500), rel=1e-9)


def test_a_device_that_joins_late_counts_in_what_lies_behind() -> None:
    one = curve_of([100.0] * 24, 3600)
    book = ledger_of(one, steps_of([100.0 + n for n in range(24)], 3600))
    book.cut(book.mark(0), book.mark(DAY_S * S))
    curves = dict(book.curves, e=curve_of([50.0] * 24, 3600, "e"))
    book.curves = curves
    exact = math.fsum(0.15 * (100 + n) for n in range(24))
    assert book.cut(book.mark(0), book.mark(DAY_S * S)).carbon.co2eq_g == pytest.approx(exact, rel=1e-9)


def test_what_readings_may_still_move_is_not_kept() -> None:
    curve = curve_of([100.0] * 2, 3600)
    book = ledger_of(curve, steps_of([100.0] * 48, 150))
    end = 7200 * S
    book.cut(book.mark(0), book.mark(end))
    moved = curve[len(curve) - 1]
    curve.truncate(len(curve) - 1)
    curve.append(Point(end - SETTLED_NS // 2, 720_000.0, 0.0, 0.0, 0.0, 0.0))
    curve.append(moved._replace(energy_j=1_440_000.0))
    later = book.cut(book.mark(0), book.mark(end)).carbon.co2eq_g
    # Up to the border that is settled the sums stay those of before; the rest is as the curve has it now.
    settled = (end - SETTLED_NS) // (150 * S) * 150 * S
    fixed = settled / S * 100.0 / J_PER_KWH * 100.0
    rest = (1_440_000.0 - curve.state_at(settled).energy_j) / J_PER_KWH * 100.0
    assert later == pytest.approx(fixed + rest, rel=1e-2)


# -- what is told ----------------------------------------------------------------------------------------------------


def test_each_source_is_told_with_its_share_and_its_own_mean() -> None:
    intensity = IntensityCurve(value_of(300.0, "Table", quality=Quality.AVERAGE, factor_basis=FactorBasis.LIFE_CYCLE))
    intensity.set(value_of(100.0, "Web", factor_basis=FactorBasis.DIRECT), T0_S + 3600)
    intensity.set(value_of(200.0, "Web", factor_basis=FactorBasis.DIRECT), T0_S + 7200)
    intensity.set(value_of(900.0, "Never", quality=Quality.FORECAST), T0_S + 90_000)
    book = ledger_of(curve_of([100.0, 100.0, 300.0], 3600), intensity)
    carbon = book.cut(book.mark(0), book.mark(3 * 3600 * S)).carbon
    told = {use.source: use for use in uses(carbon)}
    assert set(told) == {"Table", "Web"}
    assert told["Table"].share == pytest.approx(0.2)
    assert told["Web"].share == pytest.approx(0.8)
    assert told["Web"].g_per_kwh == pytest.approx((100 * 100 + 300 * 200) / 400)
    assert sum(use.share for use in told.values()) == pytest.approx(1.0)


def test_where_nothing_was_used_the_time_tells_the_shares() -> None:
    intensity = IntensityCurve(value_of(300.0, "Table"))
    intensity.set(value_of(100.0, "Web"), T0_S + 1)
    book = ledger_of(curve_of([0.0], 4), intensity)
    carbon = book.cut(book.mark(0), book.mark(4 * S)).carbon
    assert {use.source: use.share for use in uses(carbon)} == {"Table": 0.25, "Web": 0.75}
    assert carbon.intensity_g_per_kwh == pytest.approx(150.0)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"factor_basis": FactorBasis.LIFE_CYCLE}, ["direct (50%", "life-cycle (50%", "factors"]),
        ({"factor_basis": FactorBasis.DIRECT, "kind": IntensityKind.MARGINAL}, ["average (50%", "marginal (50%"]),
    ],
)
def test_a_sum_of_kinds_that_cannot_be_compared_is_told(second: dict[str, object], words: list[str]) -> None:
    intensity = IntensityCurve(value_of(100.0, "A", factor_basis=FactorBasis.DIRECT))
    intensity.set(value_of(100.0, "B", **second), T0_S + 3600)
    book = ledger_of(curve_of([100.0, 100.0], 3600), intensity)
    (text,) = mixtures(book.cut(book.mark(0), book.mark(7200 * S)).carbon)
    assert all(word in text for word in words)
    (alone,) = [book.cut(book.mark(0), book.mark(3600 * S)).carbon]
    assert list(mixtures(alone)) == []
