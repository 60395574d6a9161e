"""The windows of a run: they add up whatever is learnt, in whatever order they are cut, wherever the clock was set."""

from __future__ import annotations

import itertools
import math

import pytest

from aiocarbon._core.curve import Curve, Point
from aiocarbon._core.intensity import IntensityCurve, IntensityValue, Pue, Quality
from aiocarbon._core.ledger import Ledger, Mark
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity
from aiocarbon._core.wallclock import Anchor, WallClock
from aiocarbon._engine.windows import Border, Past, Window

S = 1_000_000_000
T0_S = 1_800_000_000
STEP_S = 300
DEVICE = Device(id="d", kind=DeviceKind.GPU, name="d", quantity=Quantity.ENERGY, basis=Basis.COUNTER, refresh_s=0.001)


def value_of(g: float) -> IntensityValue:
    return IntensityValue(
        g_per_kwh=g, low_g_per_kwh=g, high_g_per_kwh=g, source="test", zone="DK", quality=Quality.LIVE
    )


def ledger_of(hours: int, power_w: float = 360.0) -> Ledger:
    curve = Curve(DEVICE, refresh_ns=1_000_000)
    for at_s in range(0, hours * 3600 + 1, 60):
        curve.append(Point(at_s * S, power_w * at_s, 0.0, 0.0, 0.0, 0.0))
    intensity = IntensityCurve(value_of(100.0))
    for n in range(hours * 12):
        intensity.set(value_of(100.0 + 50.0 * (n % 7)), T0_S + n * STEP_S)
    wall = WallClock(Anchor(0, T0_S * S))
    return Ledger({"d": curve}, intensity=intensity, pue=Pue(value=1.0, source="test"), wall=wall)


def frozen(book: Ledger, t_ns: int, off_j: float) -> Mark:
    """A mark that was frozen on what was known when it was set, which later readings did not confirm."""
    state = book.mark(t_ns).states["d"]
    return Mark(t_ns, {"d": state._replace(energy_j=state.energy_j + off_j)})


def windows_of(book: Ledger, at_s: list[int], off_j: float = 0.3) -> list[Window]:
    marks = [frozen(book, at * S, off_j * (-1) ** n) for n, at in enumerate(at_s)]
    borders = [Border(n, mark, is_final=True) for n, mark in enumerate(marks)]
    return [Window(a, b, n) for n, (a, b) in enumerate(itertools.pairwise(borders))]


@pytest.mark.parametrize("is_run_first", [True, False])
def test_epochs_add_up_to_the_run_whichever_is_cut_first(is_run_first: bool) -> None:
    """The sums that are kept begin where the first long window does, and its mark is not on the curve."""
    book = ledger_of(6)
    windows = windows_of(book, [30, 90, 4000, 9010, 12100, 21500])
    whole = [(windows[0].begin.mark, windows[-1].end.mark)]
    parts = [(window.begin.mark, window.end.mark) for window in windows]
    order = [*whole, *parts] if is_run_first else [*parts, *whole]
    cuts = {marks[0].t_ns + marks[1].t_ns: book.cut(*marks).carbon for marks in order}
    run = cuts[whole[0][0].t_ns + whole[0][1].t_ns]
    each = [cuts[a.t_ns + b.t_ns] for a, b in parts]
    assert math.fsum(part.co2eq_g for part in each) == pytest.approx(run.co2eq_g, rel=1e-12)
    for carbon, (a, b) in zip(each, parts, strict=True):
        energy_j = b.states["d"].energy_j - a.states["d"].energy_j
        assert sum(use.energy_j for use in carbon.uses.values()) == pytest.approx(energy_j, rel=1e-12)
    assert sum(use.energy_j for use in run.uses.values()) == pytest.approx(360.0 * 21470.0, rel=1e-4)
    again = book.cut(*whole[0]).carbon  # by the sums that are kept
    assert again.co2eq_g == pytest.approx(run.co2eq_g, rel=1e-12)
    assert again.uses.keys() == run.uses.keys()


def test_a_correction_reaches_the_epochs_of_its_time_and_no_others() -> None:
    book = ledger_of(2)
    past = Past(book, "host")
    for window in windows_of(book, [0, 600, 1200, 1800, 2400]):
        past.add(window)
    before = list(past.epochs)
    book.intensity.replace(T0_S + 1300, [(T0_S + 1300, value_of(2000.0))])
    for _ in past.recut(T0_S + 1300):
        pass
    after = list(past.epochs)
    assert [a is b for a, b in zip(before, after, strict=True)] == [True, True, False, False]
    assert after[3].co2eq_g == pytest.approx(2000.0 * after[3].it_energy_kwh)


def test_a_correction_reaches_the_epochs_of_its_time_although_later_ones_lie_before_it() -> None:
    """The wall clock was set back by an hour between the third epoch and the fourth."""
    book = ledger_of(2)
    book.wall.look(Anchor(1800 * S, (T0_S + 1800 - 3600) * S))
    past = Past(book, "host")
    for window in windows_of(book, [0, 600, 1200, 1800, 2400], off_j=0.0):
        past.add(window)
    book.intensity.replace(T0_S + 1300, [(T0_S + 1300, value_of(2000.0))])
    for _ in past.recut(T0_S + 1300):
        pass
    whole = book.cut(past._windows[0].begin.mark, past._windows[-1].end.mark)
    assert whole.carbon.co2eq_g > 30.0
    assert math.fsum(epoch.co2eq_g for epoch in past.epochs) == pytest.approx(whole.carbon.co2eq_g, rel=1e-12)


def test_what_settles_while_the_rest_is_cut_again_is_cut_with_what_is_known() -> None:
    book = ledger_of(2)
    past = Past(book, "host")
    gaps = [Window(w.begin, w.end, None) for w in windows_of(book, [0, 600, 1200, 1800])]
    past.settle(gaps[:2])
    book.intensity.replace(T0_S, [(T0_S, value_of(700.0))])
    turns = past.recut(T0_S)
    next(turns)
    past.settle(gaps[2:])
    for _ in turns:
        pass
    whole = book.cut(gaps[0].begin.mark, gaps[-1].end.mark)
    assert past.outside.carbon.co2eq_g == pytest.approx(whole.carbon.co2eq_g, rel=1e-12)
    assert past.outside.duration_s == 1800.0


@pytest.mark.parametrize(("by_s", "span"), [(-3600, (-2600, 1000)), (3600, (0, 5600)), (0, (0, 2000))])
def test_the_utc_span_of_a_window_holds_all_of_it_wherever_the_clock_was_set(by_s: int, span: tuple[int, int]) -> None:
    wall = WallClock(Anchor(0, T0_S * S))
    wall.look(Anchor(1000 * S, (T0_S + 1000 + by_s) * S))
    assert wall.wall_span_s(0, 2000 * S) == (T0_S + span[0], T0_S + span[1])
