"""Shares of a device's energy: whatever is told, the parts make the whole, and what nobody knows is nobody's."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon._core.derive import Derivation
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity, Reading, Role
from aiocarbon._core.scope import SETTLED_NS, SharedDevice, Usage, parts_of
from aiocarbon._core.units import NS_PER_MS, NS_PER_S, UJ_PER_J

DEVICE = Device(
    id="rapl:package-0",
    kind=DeviceKind.CPU,
    name="package-0",
    quantity=Quantity.ENERGY,
    basis=Basis.COUNTER,
    covers=frozenset({Part.CPU}),
    refresh_s=0.001,
)


class Machine:
    """A device that is read and whose users are looked at, each when a test says so."""

    def __init__(self, device: Device = DEVICE) -> None:
        self.derivation = Derivation(device)
        self.shared = SharedDevice(
            device, self.derivation.curve, scope="process", holder="process 1 (7)", how="by time"
        )

    def read(self, t_s: float, value: float) -> None:
        t_ns = round(t_s * NS_PER_S)
        is_counter = self.derivation.device.quantity is Quantity.ENERGY
        self.derivation.add(Reading(t_ns, t_ns, round(value * UJ_PER_J) if is_counter else value))

    def look(self, t_s: float, own: float | None, total: float | None, capacity: float | None = 2.0) -> None:
        self.shared.look(Usage(t_ns=round(t_s * NS_PER_S), own=own, total=total, capacity=capacity))

    def joules(self, role: Role, begin_s: float, end_s: float) -> float:
        self.shared.update()
        curve = self.shared.curves[role]
        begin, end = (curve.state_at(round(t_s * NS_PER_S)) for t_s in (begin_s, end_s))
        return end.energy_j - begin.energy_j

    def bounds(self, end_s: float) -> tuple[float, float, float]:
        """Own joules since the first look, and what they may be too many and too few."""
        self.shared.update()
        state = self.shared.curves[Role.OWN].state_at(round(end_s * NS_PER_S))
        return state.energy_j, state.under_j, state.over_j

    def run(self, seconds: int, *, power_w: float, own: float, total: float, from_s: int = 0) -> Machine:
        """Read and look once a second."""
        for t in range(from_s, from_s + seconds + 1):
            self.read(t, power_w * t)
            self.look(t, own * t, total * t)
        return self


# -- bad days ----------------------------------------------------------------------------------------------------------


def test_a_counter_of_use_that_goes_back_makes_the_time_unknown_and_nothing_negative() -> None:
    machine = Machine()
    for t, own in enumerate([0.0, 0.5, 0.2, 0.7]):
        machine.read(t, 100.0 * t)
        machine.look(t, own, float(t))
    assert machine.joules(Role.OWN, 0.1, 2.9) == pytest.approx(50.0 * 0.9 + 50.0 * 0.9)
    assert machine.joules(Role.UNKNOWN, 0.1, 2.9) == pytest.approx(100.0)
    state = machine.shared.curves[Role.OWN].state_at(3 * NS_PER_S)
    assert state.missing_ns == pytest.approx(NS_PER_S, rel=1e-3)


def test_a_total_that_goes_back_is_unknown_as_well() -> None:
    before, after = Usage(t_ns=0, own=1.0, total=9.0), Usage(t_ns=NS_PER_S, own=2.0, total=8.0)
    parts = parts_of(100.0, NS_PER_S, before, after, floor_w=20.0, least_w=30.0)
    assert parts[:5] == (0.0, 0.0, 80.0, 20.0, 80.0)


@pytest.mark.parametrize("own", [None, math.nan, math.inf])
def test_a_use_that_nobody_tells_is_unknown_and_bounds_the_share_from_above(own: float | None) -> None:
    machine = Machine()
    for t in range(4):
        machine.read(t, 100.0 * t)
        machine.look(t, own, float(t))
    energy, under, over = machine.bounds(3.0)
    assert (energy, under) == (0.0, 0.0)
    assert over == pytest.approx(300.0, rel=1e-3)
    assert machine.joules(Role.UNKNOWN, 0.1, 2.9) == pytest.approx(280.0)


def test_without_any_use_all_is_idle_and_no_share_is_divided_by_zero() -> None:
    machine = Machine().run(5, power_w=40.0, own=0.0, total=0.0)
    assert machine.joules(Role.IDLE, 0.1, 4.9) == pytest.approx(40.0 * 4.8)
    assert machine.joules(Role.OWN, 0.1, 4.9) == 0.0


def test_our_use_above_everybodys_is_all_of_it_and_no_more() -> None:
    # Two accounts of the kernel's: one exact, one in ticks of 10 ms.
    machine = Machine().run(5, power_w=40.0, own=1.01, total=1.0)
    assert machine.joules(Role.OWN, 0.1, 4.9) == pytest.approx(40.0 * 4.8)


def test_a_device_without_readings_or_looks_has_no_share() -> None:
    machine = Machine()
    machine.look(0.0, 0.0, 0.0)
    machine.shared.update()
    assert not any(len(curve) for curve in machine.shared.curves.values())
    other = Machine()
    other.read(0.0, 0.0)
    other.shared.update()
    assert not any(len(curve) for curve in other.shared.curves.values())


def test_a_device_that_stands_still_while_looks_go_on_takes_no_memory() -> None:
    machine = Machine()
    machine.read(0.0, 0.0)
    for t in range(5000):
        machine.look(float(t), float(t), float(t))
    machine.shared.update()
    assert len(machine.shared._usages) <= 1001
    machine.read(5000.0, 500.0)
    machine.look(5000.0, 5000.0, 5000.0)
    assert machine.joules(Role.OWN, 0.0, 4999.9) == pytest.approx(500.0, rel=1e-3)


def test_looks_that_stop_leave_the_time_after_them_missing() -> None:
    machine = Machine().run(5, power_w=40.0, own=1.0, total=2.0)
    for t in range(6, 20):
        machine.read(t, 40.0 * t)
    machine.shared.update()
    state = machine.shared.curves[Role.OWN].state_at(15 * NS_PER_S)
    assert state.missing_ns > 9.9 * NS_PER_S
    assert state.energy_j <= 20.2 * 5
    assert state.over_j >= 20.0 * 9.9


# -- what is right -----------------------------------------------------------------------------------------------------


def test_the_share_is_of_what_is_above_the_floor() -> None:
    machine = Machine(dataclasses.replace(DEVICE, idle_w=30.0)).run(10, power_w=110.0, own=0.5, total=2.0)
    assert machine.joules(Role.IDLE, 1.0, 9.0) == pytest.approx(240.0)
    assert machine.joules(Role.OWN, 1.0, 9.0) == pytest.approx(160.0)
    assert machine.joules(Role.WHOLE, 1.0, 9.0) == pytest.approx(880.0)


def test_a_floor_that_the_user_gave_goes_before_the_meter_s() -> None:
    device = dataclasses.replace(DEVICE, idle_w=30.0)
    shared = SharedDevice(device, Derivation(device).curve, scope="cgroup", holder="x", how="y", floor_w=50.0)
    assert shared.floor_w == 50.0


def test_a_floor_above_the_power_is_lowered_to_it() -> None:
    machine = Machine(dataclasses.replace(DEVICE, idle_w=500.0)).run(10, power_w=110.0, own=0.5, total=2.0)
    assert machine.joules(Role.IDLE, 1.0, 9.0) == pytest.approx(880.0)
    assert machine.joules(Role.OWN, 1.0, 9.0) == 0.0


def test_the_floor_is_the_least_mean_of_five_seconds_in_which_hardly_anybody_used_the_device() -> None:
    machine = Machine().run(20, power_w=35.0, own=0.01, total=0.05)
    machine.shared.update()
    assert machine.shared.floor_w == pytest.approx(35.0)
    busy = Machine().run(20, power_w=35.0, own=0.5, total=1.0)
    busy.shared.update()
    assert busy.shared.floor_w is None


def test_a_floor_that_was_learnt_counts_from_then_on() -> None:
    machine = Machine().run(20, power_w=35.0, own=0.01, total=0.05)
    energy = 35.0 * 20
    for t in range(21, 31):
        energy += 95.0
        machine.read(t, energy)
        machine.look(t, 0.2 + t - 20, 1.0 + 2.0 * (t - 20))
        machine.shared.update()
    assert machine.joules(Role.IDLE, 21.0, 29.0) == pytest.approx(35.0 * 8, rel=1e-3)
    assert machine.joules(Role.OWN, 21.0, 29.0) == pytest.approx(30.0 * 8, rel=1e-2)


def test_without_a_floor_the_lower_end_leaves_out_the_least_power_seen() -> None:
    energy, under, over = Machine().run(10, power_w=100.0, own=1.0, total=1.0).bounds(10.0)
    assert energy == pytest.approx(1000.0, rel=1e-3)
    assert under == pytest.approx(energy, rel=1e-3)  # all of it may have been idle power
    assert over == 0.0  # nobody else used it


def test_alone_on_a_device_with_a_known_floor_the_share_is_sure() -> None:
    machine = Machine(dataclasses.replace(DEVICE, idle_w=30.0)).run(10, power_w=110.0, own=1.5, total=1.5)
    energy, under, over = machine.bounds(10.0)
    assert energy == pytest.approx(800.0, rel=1e-3)
    assert (under, over) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_a_second_of_ours_may_be_worth_half_or_twice_one_of_theirs() -> None:
    before, after = Usage(t_ns=0, own=0.0, total=0.0), Usage(t_ns=NS_PER_S, own=0.5, total=1.0)
    parts = parts_of(90.0, NS_PER_S, before, after, floor_w=0.0, least_w=90.0)
    assert (parts.low, parts.own, parts.high) == pytest.approx((30.0, 45.0, 60.0))


def test_the_share_is_an_estimate_whatever_the_device_is_and_keeps_its_id() -> None:
    shared = Machine().shared
    own = shared.curves[Role.OWN].device
    assert (own.id, own.basis, own.counted) == (DEVICE.id, Basis.MODEL, True)
    assert own.share is not None
    assert own.share.holder == "process 1 (7)"
    assert "measured by its energy counter" in own.note
    others = [shared.curves[role].device for role in Role if role is not Role.OWN]
    assert not any(device.counted for device in others)
    assert len({device.id for device in (own, *others)}) == 4
    assumed = Machine(dataclasses.replace(DEVICE, basis=Basis.ASSUMED)).shared
    assert assumed.curves[Role.OWN].device.basis is Basis.ASSUMED


def test_a_late_reading_moves_the_parts_with_the_whole() -> None:
    machine = Machine()
    for t, energy in ((0.0, 0.0), (1.0, 100.0), (3.0, 300.0)):
        machine.read(t, energy)
    for t in range(4):
        machine.look(float(t), 0.5 * t, 1.0 * t)
    assert machine.joules(Role.OWN, 1.0, 2.0) == pytest.approx(50.0, rel=1e-2)
    machine.read(2.0, 280.0)  # most of it came in the second second
    machine.read(4.0, 400.0)
    machine.look(4.0, 2.0, 4.0)
    assert machine.joules(Role.OWN, 1.0, 2.0) == pytest.approx(90.0, rel=1e-2)


def test_what_was_folded_keeps_its_sums() -> None:
    machine = Machine().run(400, power_w=100.0, own=0.5, total=1.0)
    machine.shared.update()
    before = [curve.state_at(300 * NS_PER_S) for curve in machine.shared.curves.values()]
    points = len(machine.shared.curves[Role.OWN])
    machine.shared.fold(350 * NS_PER_S, [300 * NS_PER_S], at_most=10_000)
    assert len(machine.shared.curves[Role.OWN]) < points / 2
    machine.run(20, power_w=100.0, own=0.5, total=1.0, from_s=401)
    machine.shared.update()
    after = [curve.state_at(300 * NS_PER_S) for curve in machine.shared.curves.values()]
    assert [state.energy_j for state in after] == pytest.approx([state.energy_j for state in before])
    assert machine.joules(Role.OWN, 300.0, 419.0) == pytest.approx(50.0 * 119, rel=1e-3)


# -- laws --------------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.integers(1, 3000),  # milliseconds since the step before
        st.floats(0.0, 500.0),  # watts
        st.one_of(st.none(), st.floats(-0.5, 4.0)),  # busy seconds of ours
        st.floats(-0.5, 4.0),  # of others
        st.booleans(),  # the device is read
        st.booleans(),  # its users are looked at
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=150)
@given(steps=STEPS, idle_w=st.one_of(st.none(), st.floats(0.0, 300.0)), order=st.randoms(use_true_random=False))
def test_the_parts_make_the_whole_whatever_is_told_and_in_whatever_order(steps, idle_w, order) -> None:  # type: ignore[no-untyped-def]
    machine = Machine(dataclasses.replace(DEVICE, idle_w=idle_w))
    machine.read(0.0, 0.0)
    machine.look(0.0, 0.0, 0.0)
    t_ms, energy, own, others = 0, 0.0, 0.0, 0.0
    late = []
    for length_ms, watts, used, theirs, is_read, is_looked in steps:
        t_ms += length_ms
        energy += watts * length_ms / 1000
        own, others = own + (used or 0.0), others + theirs
        if is_read:
            reading = (t_ms / 1000, energy)
            if late and late[-1][0] < reading[0] - SETTLED_NS / NS_PER_S / 2:
                machine.read(*late.pop())
            (late.append if order.random() < 0.2 else lambda r: machine.read(*r))(reading)
        if is_looked:
            machine.look(t_ms / 1000, None if used is None else own, own + others)
        if order.random() < 0.5:
            machine.shared.update()
    machine.shared.update()
    curves = machine.shared.curves
    count = {len(curve) for curve in curves.values()}
    assert len(count) == 1
    last = None
    for i in range(count.pop()):
        points = {role: curve[i] for role, curve in curves.items()}
        assert len({point.t_ns for point in points.values()}) == 1
        parts = [points[role].energy_j for role in (Role.OWN, Role.IDLE, Role.UNKNOWN)]
        assert points[Role.WHOLE].energy_j - math.fsum(parts) >= -1e-9 * max(points[Role.WHOLE].energy_j, 1.0)
        if last is not None:
            for role, point in points.items():
                grows = zip(point[1:5], last[role][1:5], strict=True)
                assert all(now >= before - 1e-9 * max(abs(before), 1.0) for now, before in grows), role
        last = points


@settings(deadline=None, max_examples=100)
@given(
    powers=st.lists(st.floats(0.0, 500.0), min_size=2, max_size=30),
    shares=st.lists(st.floats(0.0, 1.0), min_size=2, max_size=3).filter(lambda s: sum(s) > 0.01),
    idle_w=st.floats(0.0, 100.0),
)
def test_the_shares_of_all_users_idle_included_make_the_device_exactly(powers, shares, idle_w) -> None:  # type: ignore[no-untyped-def]
    device = dataclasses.replace(DEVICE, idle_w=idle_w)
    users = [Machine(device) for _ in shares]
    for user, share in zip(users, shares, strict=True):
        energy = 0.0
        for t, power in enumerate([0.0, *powers]):
            energy += power
            user.read(t, energy)
            user.look(t, share * t, sum(shares) * t)
    end = float(len(powers))
    own = math.fsum(user.bounds(end)[0] for user in users)
    whole, idle = (
        users[0].shared.curves[role].state_at(round(end * NS_PER_S)).energy_j for role in (Role.WHOLE, Role.IDLE)
    )
    assert own + idle == pytest.approx(whole, rel=1e-9, abs=1e-9)
    reading = users[0].derivation.curve
    first = users[0].shared.curves[Role.WHOLE][0].t_ns
    expected = reading.state_at(round(end * NS_PER_S)).energy_j - reading.state_at(first).energy_j
    assert whole == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_power_sensor_keeps_its_shape_inside_a_stretch() -> None:
    machine = Machine(dataclasses.replace(DEVICE, quantity=Quantity.POWER, basis=Basis.POWER, refresh_s=0.02))
    for t_ms in range(0, 2001, 20):
        t_ns = t_ms * NS_PER_MS
        machine.derivation.pace_ns = 20 * NS_PER_MS
        machine.derivation.add(Reading(t_ns, t_ns, 300.0 if t_ms < 1000 else 100.0))
    machine.look(0.0, 0.0, 0.0)
    machine.look(2.1, 1.0, 2.0)
    assert machine.joules(Role.OWN, 0.1, 0.9) == pytest.approx(150.0 * 0.8, rel=1e-2)
    assert machine.joules(Role.OWN, 1.1, 1.9) == pytest.approx(50.0 * 0.8, rel=1e-2)
