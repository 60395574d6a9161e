"""A derivation that goes on where another stood makes the same curve, whoever took the readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.curve import Curve, Point
from aiocarbon._core.derive import Derivation
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity, Reading

MS = 1_000_000
RANGE_UJ = 262_143_328_850


def device(quantity: Quantity, refresh_s: float = 0.02) -> Device:
    basis = Basis.COUNTER if quantity is Quantity.ENERGY else Basis.POWER
    return Device(
        id="d",
        kind=DeviceKind.GPU,
        name="d",
        quantity=quantity,
        basis=basis,
        refresh_s=refresh_s,
        counter_range_uj=RANGE_UJ if quantity is Quantity.ENERGY else None,
        max_power_w=700.0,
    )


@st.composite
def readings(draw: st.DrawFn, quantity: Quantity) -> list[Reading]:
    """Readings in the order of time: a counter that wraps at most once, or a power."""
    count = draw(st.integers(1, 700))
    gaps = draw(st.lists(st.integers(1, 50), min_size=7, max_size=13))
    watts = draw(st.lists(st.integers(0, 650), min_size=3, max_size=11))
    t, total, found = 0, draw(st.integers(0, RANGE_UJ - 1)), []
    for n in range(count):
        dt = gaps[n % len(gaps)] * MS
        w = watts[n % len(watts)]
        t, total = t + dt, (total + w * dt // 1000) % RANGE_UJ
        found.append(Reading(t, t + 1000, total if quantity is Quantity.ENERGY else float(w)))
    return found


def points(curve: Curve, from_ns: int) -> list[Point]:
    return [curve[i] for i in range(len(curve)) if curve[i].t_ns >= from_ns]


def heir_of(holder: Derivation) -> Derivation:
    """Another process's derivation, out of what lies in a ring."""
    heir = Derivation(holder.device, pace_ns=holder.pace_ns)
    if holder.carried is not None:
        heir.resume(holder.carried)
    for t_ns, half_ns, value in holder.kept():
        heir.add(Reading(t_ns - half_ns, t_ns + half_ns, value))
    return heir


@pytest.mark.parametrize("quantity", list(Quantity))
def test_the_heir_s_curve_is_the_holder_s(quantity: Quantity) -> None:
    @given(readings(quantity), st.floats(0.0, 1.0))
    def check(taken: list[Reading], when: float) -> None:
        cut = int(when * len(taken))
        holder = Derivation(device(quantity), pace_ns=100 * MS)
        for reading in taken[:cut]:
            holder.add(reading)
        heir = heir_of(holder)
        for reading in taken[cut:]:
            holder.add(reading)
            heir.add(reading)
        if len(heir.curve):
            begin = heir.curve[0].t_ns
            first, own = heir.curve[0], points(holder.curve, begin)[0]
            # What lies before its first point the heir does not know: where that point is moved, its edge stays wide.
            assert first.slack_j >= own.slack_j
            assert first._replace(slack_j=0.0) == own._replace(slack_j=0.0)
            assert points(heir.curve, begin)[1:] == points(holder.curve, begin)[1:]
            assert (heir.curve.min_w, heir.curve.max_w) == (holder.curve.min_w, holder.curve.max_w)
            assert (heir.resets, heir.gaps) == (holder.resets, holder.gaps)
            assert heir.last_value == holder.last_value

    check()


def test_an_heir_of_an_heir_is_on_the_line_too() -> None:
    first = Derivation(device(Quantity.ENERGY))
    taken = [Reading(n * 10 * MS, n * 10 * MS, n * 2_500_000) for n in range(2000)]
    for reading in taken[:900]:
        first.add(reading)
    second = heir_of(first)
    for reading in taken[900:1500]:
        second.add(reading)
    third = heir_of(second)
    for reading in taken[1500:]:
        third.add(reading)
    assert third.curve[-1].energy_j == pytest.approx(1999 * 2.5, rel=1e-12)


def test_readings_that_come_twice_from_two_rings_count_once() -> None:
    holder = Derivation(device(Quantity.POWER), pace_ns=20 * MS)
    for n in range(600):
        holder.add(Reading(n * 20 * MS, n * 20 * MS, 100.0))
    heir = heir_of(holder)
    before = points(heir.curve, 0)
    for t_ns, half_ns, value in holder.kept():
        heir.add(Reading(t_ns - half_ns, t_ns + half_ns, value))
    assert points(heir.curve, 0) == before


def test_one_that_missed_a_stretch_takes_the_holder_s_line_up_again() -> None:
    holder = Derivation(device(Quantity.POWER), pace_ns=20 * MS)
    follower = Derivation(device(Quantity.POWER), pace_ns=20 * MS)
    for n in range(2000):
        reading = Reading(n * 20 * MS, n * 20 * MS, 100.0 + n % 7)
        holder.add(reading)
        if n < 100:
            follower.add(reading)
    assert holder.carried is not None
    follower.resume(holder.carried)
    for t_ns, half_ns, value in holder.kept():
        follower.add(Reading(t_ns - half_ns, t_ns + half_ns, value))
    assert follower.curve[-1] == holder.curve[-1]
    assert follower.curve[-1].missing_ns == 0
    times = [follower.curve[i].t_ns for i in range(len(follower.curve))]
    assert times == sorted(set(times))


def test_resuming_behind_the_newest_point_leaves_no_point_out_of_order() -> None:
    holder = Derivation(device(Quantity.ENERGY, refresh_s=0.1))
    for n in range(600):
        holder.add(Reading(n * 5 * MS, n * 5 * MS, (n // 20) * 25_000_000))
    assert holder.carried is not None
    follower = Derivation(device(Quantity.ENERGY, refresh_s=0.1))
    for n in range(250):
        follower.add(Reading(n * 5 * MS, n * 5 * MS, (n // 20) * 25_000_000))
    follower.resume(holder.carried)
    times = [follower.curve[i].t_ns for i in range(len(follower.curve))]
    assert times == sorted(set(times))
