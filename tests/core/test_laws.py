"""The laws of the pure core: what must hold for any readings, marks, intensities and clocks."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon._core.counters import StepKind, estimate_refresh, step
from aiocarbon._core.curve import Curve, Point
from aiocarbon._core.derive import CHECKPOINT_EVERY, Derivation
from aiocarbon._core.intensity import IntensityCurve, IntensityValue, Pue, Quality
from aiocarbon._core.ledger import Cut, Ledger, add_cuts
from aiocarbon._core.reading import UNKNOWN_MAX_POWER_W, Basis, Device, DeviceKind, Quantity, Reading
from aiocarbon._core.report import Quantities, quantities
from aiocarbon._core.units import Z_90
from aiocarbon._core.wallclock import Anchor, WallClock
from benchmarks import ranges

S = 1_000_000_000
MS = 1_000_000


def device(quantity: Quantity = Quantity.ENERGY, **fields: object) -> Device:
    basis = Basis.COUNTER if quantity is Quantity.ENERGY else Basis.POWER
    made = Device(id="d", kind=DeviceKind.GPU, name="d", quantity=quantity, basis=basis, refresh_s=0.02)
    return dataclasses.replace(made, **fields)  # type: ignore[arg-type]


def value_of(g: float) -> IntensityValue:
    return IntensityValue(
        g_per_kwh=g, low_g_per_kwh=g, high_g_per_kwh=g, source="test", zone="XX", quality=Quality.LIVE
    )


def rows(derivation: Derivation) -> list[Point]:
    return [derivation.curve[i] for i in range(len(derivation.curve))]


counter_readings = st.lists(
    st.tuples(st.integers(1, 200 * MS), st.integers(0, 50_000_000)), min_size=1, max_size=60
).map(
    lambda steps: [
        Reading(
            sum(dt for dt, _ in steps[: i + 1]),
            sum(dt for dt, _ in steps[: i + 1]) + 2_000,
            sum(e for _, e in steps[: i + 1]),
        )
        for i in range(len(steps))
    ]
)
power_readings = st.lists(
    st.tuples(st.integers(1 * MS, 200 * MS), st.floats(0, 500, allow_nan=False)), min_size=1, max_size=60
).map(
    lambda steps: [
        Reading(sum(dt for dt, _ in steps[: i + 1]), sum(dt for dt, _ in steps[: i + 1]) + 2_000, steps[i][1])
        for i in range(len(steps))
    ]
)


@pytest.mark.parametrize("quantity", list(Quantity))
@given(data=st.data())
def test_order_and_repetition_of_readings_do_not_matter(quantity: Quantity, data: st.DataObject) -> None:
    readings = data.draw(counter_readings if quantity is Quantity.ENERGY else power_readings)
    shuffled = data.draw(st.permutations([*readings, *readings[::3]]))
    in_order, mixed = Derivation(device(quantity)), Derivation(device(quantity))
    for reading in readings:
        in_order.add(reading)
    for reading in shuffled:
        mixed.add(reading)
    assert rows(in_order) == rows(mixed)


@pytest.mark.parametrize("quantity", list(Quantity))
@given(data=st.data())
def test_a_curve_never_falls(quantity: Quantity, data: st.DataObject) -> None:
    readings = data.draw(counter_readings if quantity is Quantity.ENERGY else power_readings)
    derivation = Derivation(device(quantity))
    for reading in readings:
        derivation.add(reading)
    at = data.draw(st.lists(st.integers(-S, 14 * S), min_size=2, max_size=20).map(sorted))
    states = [derivation.curve.state_at(t) for t in at]
    for a, b in itertools.pairwise(states):
        assert b.energy_j >= a.energy_j - 1e-9 * max(abs(a.energy_j), 1)
        assert b.under_j >= a.under_j - 1e-9
        assert b.over_j >= a.over_j - 1e-9 * max(abs(a.over_j), 1)
        assert b.missing_ns >= a.missing_ns - 1
        assert b.hidden_j2 >= a.hidden_j2 * (1 - 1e-12)


def ledger(derivations: list[Derivation], steps: list[tuple[float, float]] = [], pue: float = 1.0) -> Ledger:  # noqa: B006  # read only
    intensity = IntensityCurve(value_of(100.0))
    for at_s, g in steps:
        intensity.set(value_of(g), at_s)
    curves = {f"d{i}": d.curve for i, d in enumerate(derivations)}
    return Ledger(curves, intensity=intensity, pue=Pue(value=pue, source="test"), wall=WallClock(Anchor(0, 0)))


def two_devices(data: st.DataObject) -> list[Derivation]:
    made = []
    for i, strategy in enumerate((counter_readings, power_readings)):
        quantity = list(Quantity)[i]
        derivation = Derivation(device(quantity, id=f"d{i}", low_factor=0.9, high_factor=1.2))
        for reading in data.draw(strategy):
            derivation.add(reading)
        made.append(derivation)
    return made


@given(data=st.data())
def test_cuts_add_up_and_splitting_never_changes_the_sum(data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.tuples(st.floats(0.1, 12), st.floats(0, 1500)), max_size=5))
    book = ledger(two_devices(data), steps, pue=1.3)
    at = data.draw(st.lists(st.integers(0, 13 * S), min_size=2, max_size=8).map(sorted))
    marks = [book.mark(t) for t in at]
    whole = book.cut(marks[0], marks[-1])
    parts = [book.cut(a, b) for a, b in itertools.pairwise(marks)]
    close = {"rel": 1e-9, "abs": 1e-9}
    assert math.fsum(p.energy_j for p in parts) == pytest.approx(whole.energy_j, **close)
    assert math.fsum(p.carbon.co2eq_g for p in parts) == pytest.approx(whole.carbon.co2eq_g, **close)
    assert math.fsum(d.missing_ns for p in parts for d in p.devices) == pytest.approx(
        math.fsum(d.missing_ns for d in whole.devices), rel=1e-9, abs=1
    )
    joined = add_cuts(parts)
    assert joined.energy_j == pytest.approx(whole.energy_j, **close)
    assert joined.duration_s == pytest.approx(whole.duration_s)
    for cut in (whole, *parts):
        assert 0.0 <= cut.coverage <= 1.0
        low, high = cut.bounds_j
        assert low <= cut.energy_j * (1 + 1e-9) + 1e-9
        assert high >= cut.energy_j * (1 - 1e-9) - 1e-9


@given(
    g=st.lists(st.floats(0, 2000), min_size=3, max_size=3),
    watts=st.floats(1, 1000),
    pue=st.floats(1, 3),
    jump_s=st.one_of(st.just(0.0), st.floats(0.1, 2), st.floats(-2, -0.1)),
)
def test_co2eq_is_the_integral_of_energy_and_intensity(g: list[float], watts: float, pue: float, jump_s: float) -> None:
    derivation = Derivation(device(Quantity.POWER, refresh_s=0.001), pace_ns=10 * S)
    for second in range(12):
        derivation.add(Reading(second * S, second * S, watts))
    book = ledger([derivation], [(3.0, g[1]), (7.0, g[2])], pue)
    book.intensity.set(value_of(g[0]), -100.0)
    book.wall.look(Anchor(5 * S, round((5 + jump_s) * S)))
    cut = book.cut(book.mark(1 * S), book.mark(10 * S))
    # By the wall: 1..3 at g0, 3..5 at g1, then the clock is set by jump_s and the rest follows the new wall.
    after = [(5 + jump_s, 10 + jump_s)]
    expected = 0.0
    for begin, end in [(1.0, 5.0), *after]:
        for low, high, value in ((-100.0, 3.0, g[0]), (3.0, 7.0, g[1]), (7.0, 1e9, g[2])):
            expected += max(min(end, high) - max(begin, low), 0.0) * watts * value
    assert cut.carbon.co2eq_g == pytest.approx(expected * pue / 3.6e6, rel=1e-6, abs=1e-12)


def test_a_wrap_is_told_from_a_reset() -> None:
    asked = {"range_uj": 1_000_000_000, "max_power_w": 400.0, "last_power_w": 100.0}
    wrapped = step(999_000_000, 99_000_000, S, **asked)  # type: ignore[arg-type]
    assert (wrapped.kind, wrapped.delta_uj) == (StepKind.WRAP, 100_000_000)
    reset = step(500_000_000, 20_000_000, S, **asked)  # type: ignore[arg-type]
    assert (reset.kind, reset.delta_uj) == (StepKind.RESET, 20_000_000)
    assert reset.over_j == pytest.approx(80.0)
    assert not reset.is_vouched
    long = step(0, 10_000_000, 100 * S, **asked)  # type: ignore[arg-type]
    assert long.kind is StepKind.AMBIGUOUS
    never = step(10, 5, S, range_uj=None, max_power_w=None, last_power_w=0.0)
    assert (never.kind, never.delta_uj) == (StepKind.RESET, 5)


@pytest.mark.parametrize("garbage_uj", [0, 2**53], ids=["zero", "far too much"])
def test_garbage_in_one_reading_of_a_counter_counts_nothing(garbage_uj: int) -> None:
    derivation = Derivation(device(max_power_w=400.0))
    for n in range(100):
        told_uj = garbage_uj if n in (50, 51) else 9_000_000_000_000 + n * 30_000_000
        derivation.add(Reading(n * 100 * MS, n * 100 * MS, told_uj))
    energy_j, _, over_j, missing_ns, *_ = derivation.curve.state_at(9900 * MS)
    assert 96 * 30.0 <= energy_j <= 99 * 30.0 <= energy_j + over_j <= 110 * 30.0
    assert 200 * MS <= missing_ns <= 300 * MS
    assert derivation.curve.max_w == pytest.approx(300.0, rel=0.01)
    assert derivation.resets == 2


def test_a_counter_that_stood_and_catches_up_has_not_jumped() -> None:
    derivation = Derivation(device(max_power_w=400.0))
    for n in range(400):
        stands = 100 <= n < 300
        derivation.add(Reading(n * S, n * S, (100 if stands else n) * 390_000_000))
    assert derivation.curve[-1].energy_j == pytest.approx(399 * 390.0)
    assert derivation.resets == 0


def test_where_no_power_and_no_limit_is_known_the_upper_bound_is_that_of_any_device() -> None:
    derivation = Derivation(device())
    derivation.add(Reading(0, 0, 10**9))
    energy_j, _, over_j, missing_ns, *_ = derivation.curve.state_at(2 * S)
    assert (energy_j, over_j) == (0.0, pytest.approx(UNKNOWN_MAX_POWER_W * missing_ns / S))
    assert missing_ns >= 2 * S


@pytest.mark.parametrize("sensor", ranges.SENSORS, ids=lambda sensor: sensor.name)
@pytest.mark.parametrize("dwell_s", ranges.DWELLS.values())
def test_nine_ranges_of_ten_hold_the_truth_of_a_load_that_jumps(sensor: ranges.Sensor, dwell_s: float) -> None:
    found = [window for seed in range(5) for window in ranges.World(sensor, dwell_s, seed).windows()]
    assert sum(window.is_outside for window in found) <= 0.1 * len(found)


def test_what_samples_of_a_power_hide_adds_in_quadrature_and_is_nothing_where_it_is_steady() -> None:
    def half_j(power_w: Callable[[int], float], seconds: int) -> float:
        sensor = Derivation(device(Quantity.POWER, refresh_s=0.1), pace_ns=S // 10)
        for tenths in range(seconds * 10 + 20):
            sensor.add(Reading(tenths * S // 10, tenths * S // 10, power_w(tenths)))
        book = ledger([sensor])
        (cut,) = book.cut(book.mark(S), book.mark((seconds + 1) * S)).counted
        return cut.edge_j

    assert half_j(lambda _: 200.0, 60) == pytest.approx(half_j(lambda _: 200.0, 6), rel=1e-9)  # the edges' alone
    jumps = [half_j(lambda tenths: 300.0 if tenths % 2 else 100.0, seconds) for seconds in (100, 400)]
    assert jumps[0] == pytest.approx(
        Z_90 * math.sqrt(1000 * 0.5 * 20.0**2), rel=0.05
    )  # a thousand steps of 200 W x 0.1 s
    assert jumps[1] / jumps[0] == pytest.approx(2.0, rel=0.05)


def test_a_sensor_read_more_often_than_it_refreshes_hides_no_less() -> None:
    def hidden_j2(reads: int) -> float:
        sensor = Derivation(device(Quantity.POWER, refresh_s=0.1), pace_ns=S // 10)
        for n in range(100 * reads):
            at_ns = n * S // (10 * reads)
            sensor.add(Reading(at_ns, at_ns, 300.0 if n // reads % 2 else 100.0))
        return sensor.curve[-1].hidden_j2

    assert hidden_j2(5) == pytest.approx(hidden_j2(1), rel=0.02)


def test_a_power_beyond_all_that_a_device_can_draw_is_refused() -> None:
    derivation = Derivation(device(Quantity.POWER, max_power_w=400.0))
    derivation.add(Reading(0, 0, 390.0))
    with pytest.raises(ValueError, match=r"65535.0 is no power value"):
        derivation.add(Reading(S, S, 65535.0))
    assert derivation.curve.max_w == 390.0


def test_the_refresh_is_estimated_from_changes() -> None:
    assert estimate_refresh([0, 20, 41, 60]) == (20, 1)
    assert estimate_refresh([0, 20]) is None


def test_late_readings_now_and_then_do_not_keep_everything_forever() -> None:
    derivation = Derivation(device())
    for i in range(10 * CHECKPOINT_EVERY):
        derivation.add(Reading(i * S, i * S, i * 1_000_000))
        if i % 100 == 99:
            derivation.add(Reading(i * S - S // 2, i * S - S // 2, i * 1_000_000 - 500_000))
        assert len(derivation._t) <= 2 * CHECKPOINT_EVERY + 10
    assert derivation.too_late == 0


def test_nothing_that_is_no_value_is_taken() -> None:
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="is no"):
            Derivation(device()).add(Reading(0, 1, value))


def test_time_after_a_loss_is_missing_and_only_in_the_upper_bound() -> None:
    derivation = Derivation(device(refresh_s=0.001))
    for second in range(11):
        derivation.add(Reading(second * S, second * S, second * 100_000_000))
    book = ledger([derivation])
    cut = book.cut(book.mark(0), book.mark(20 * S))
    assert cut.energy_j == pytest.approx(1000.0, rel=1e-3)
    assert cut.bounds_j[1] == pytest.approx(2000.0, rel=1e-2)
    assert cut.coverage == pytest.approx(0.5, abs=0.01)


def test_a_device_lost_while_it_draws_little_may_have_drawn_the_most_that_was_seen() -> None:
    sensor = Derivation(device(Quantity.POWER), pace_ns=S // 10)
    for tenths in range(101):
        sensor.add(Reading(tenths * S // 10, tenths * S // 10, 300.0 if tenths < 50 else 50.0))
    book = ledger([sensor])
    cut = book.cut(book.mark(10 * S), book.mark(20 * S))
    assert cut.coverage < 0.05
    assert cut.bounds_j[1] > 300.0 * 9.8


def test_a_power_gap_lowers_coverage_and_a_break_gets_no_energy() -> None:
    for is_lost in (False, True):
        derivation = Derivation(device(Quantity.POWER, refresh_s=0.001), pace_ns=S)
        for second in (0, 1, 2, 12, 13, 14):
            derivation.add(Reading(second * S, second * S, 100.0))
        if is_lost:
            derivation.lose(5 * S)
        book = ledger([derivation])
        cut = book.cut(book.mark(0), book.mark(14 * S))
        assert cut.coverage == pytest.approx(4 / 14, abs=0.01)
        assert cut.energy_j == pytest.approx(400.0 if is_lost else 1400.0, rel=1e-3)
        assert cut.bounds_j[1] >= 1399.0


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_folding_keeps_the_instants_it_was_told_to(seed: int) -> None:
    chance = random.Random(seed)
    full, folded = Derivation(device(refresh_s=0.001)), Derivation(device(refresh_s=0.001))
    energy = 0
    keep = sorted(chance.randrange(1, 1000) * S // 2 for _ in range(5))
    expected = {}
    for i in range(1200):
        energy += chance.randrange(0, 10**9)
        for derivation in (full, folded):
            derivation.add(Reading(i * S, i * S, energy))
    expected = {k: full.curve.state_at(k) for k in keep}
    while gone := folded.curve.fold(min(700 * S, folded.open_from_ns), keep):
        folded.folded(gone)
    assert len(folded.curve) < 600
    for k in keep:
        assert folded.curve.state_at(k) == pytest.approx(expected[k])
    late = Reading(5, 5, 1)
    folded.add(late)
    assert folded.too_late == 1
    folded.add(Reading(1200 * S, 1200 * S, energy + 5))
    full.add(Reading(1200 * S, 1200 * S, energy + 5))
    assert folded.curve.state_at(1200 * S) == pytest.approx(full.curve.state_at(1200 * S))


def test_the_true_energy_lies_within_the_bounds() -> None:
    """Random refresh, marks and square waves, sampled each second and watched behind each mark, as the engine does."""
    chance = random.Random(7)
    inside = total = 0
    worst = 0.0
    for _ in range(60):
        refresh = chance.choice([1, 5, 20, 50, 100]) * MS
        period, low, high = chance.uniform(0.5, 4), chance.uniform(20, 100), chance.uniform(150, 500)

        def energy(t_s: float, p: float = period, lo: float = low, hi: float = high) -> float:
            laps, rest = divmod(t_s, p)
            return laps * p * (lo + hi) / 2 + (hi * rest if rest < p / 2 else hi * p / 2 + lo * (rest - p / 2))

        def read(t: int, r: int = refresh) -> Reading:
            return Reading(t, t + 20_000, round(energy((t // r * r) / S) * 1e6))

        derivation = Derivation(device(refresh_s=refresh / S))
        marks, t = [], S
        polls = set()
        while t < 20 * S:
            marks.append(t)
            polls.add(t + 300_000)
            polls.update(range(t + 5 * MS, t + 120 * MS, 5 * MS))
            t += round(chance.uniform(0.5, 4) * S)
        polls.update(range(S // 2, 21 * S, S))
        for poll in sorted(polls):
            derivation.add(read(poll))
        book = ledger([derivation])
        frozen = [book.mark(m) for m in marks]
        for a, b in itertools.pairwise(frozen):
            truth = energy(b.t_ns / S) - energy(a.t_ns / S)
            cut = book.cut(a, b)
            inside += cut.bounds_j[0] <= truth <= cut.bounds_j[1]
            total += 1
            worst = max(worst, abs(cut.energy_j - truth))
    assert inside / total >= 0.9
    assert worst < 500 * 0.05  # half of the slowest refresh at full power


def test_the_weakest_basis_that_counts_names_the_whole_and_views_are_not_added() -> None:
    derivations = []
    for ident, basis, watts, counted in (
        ("a", Basis.COUNTER, 94, True),
        ("b", Basis.MODEL, 6, True),
        ("c", Basis.ASSUMED, 3, True),
        ("d", Basis.COUNTER, 1000, False),
    ):
        derivation = Derivation(device(id=ident, basis=basis, counted=counted))
        for second in range(5):
            derivation.add(Reading(second * S, second * S, second * watts * 1_000_000))
        derivations.append(derivation)
    book = ledger(derivations)
    cut = book.cut(book.mark(0), book.mark(4 * S))
    assert cut.energy_j == pytest.approx(412, rel=0.01)
    assert cut.basis is Basis.MODEL
    assert math.fsum(cut.basis_shares.values()) == pytest.approx(1.0)
    assert len(cut.devices) == 4


def test_quantities_are_plain_json_and_frozen() -> None:
    derivation = Derivation(device())
    derivation.add(Reading(0, 0, 0))
    derivation.add(Reading(S, S, 5_000_000))
    book = ledger([derivation])
    made = Quantities(**quantities(book.cut(book.mark(0), book.mark(S)), 1.5))
    again = json.loads(json.dumps(made.to_dict()))
    assert again["basis"] == "counter"
    assert again["energy_kwh"] == pytest.approx(1.5 * again["it_energy_kwh"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.coverage = 0.5  # type: ignore[misc]
    empty = Quantities(**quantities(add_cuts(()), 1.0))
    assert empty.power_w is None


def test_intensity_steps_fill_a_window_and_can_be_corrected() -> None:
    curve = IntensityCurve(value_of(1.0))
    curve.set(value_of(2.0), 10.0)
    curve.set(value_of(3.0), 20.0)
    pieces = list(curve.steps(5.0, 25.0))
    assert [(a, b, v.g_per_kwh) for a, b, v in pieces] == [(5.0, 10.0, 1.0), (10.0, 20.0, 2.0), (20.0, 25.0, 3.0)]
    curve.set(value_of(9.0), 10.0)
    assert curve.value_at(15.0).g_per_kwh == 9.0
    assert [v.g_per_kwh for _, _, v in curve.steps(12.0, 12.0)] == [9.0]


def test_a_cut_of_no_length_is_whole() -> None:
    derivation = Derivation(device())
    derivation.add(Reading(0, 0, 0))
    book = ledger([derivation])
    cut: Cut = book.cut(book.mark(0), book.mark(0))
    assert (cut.energy_j, cut.coverage, cut.duration_s) == (0.0, 1.0, 0.0)


def test_a_curve_without_points_says_so() -> None:
    with pytest.raises(LookupError, match="no reading yet"):
        Curve(device(), refresh_ns=1).state_at(0)
