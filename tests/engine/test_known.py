"""When a mark is final: never before a process that is late has told for the one that follows its readings."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity, Reading
from aiocarbon._core.units import NS_PER_MS
from aiocarbon._engine.known import PATIENCE_NS, SETTLE_NS, has_told, is_waiting_over
from aiocarbon._engine.share import Role, Share
from aiocarbon._engine.track import Track, make_track

DEVICE = Device(
    id="d",
    kind=DeviceKind.CPU,
    name="d",
    quantity=Quantity.ENERGY,
    basis=Basis.COUNTER,
    covers=frozenset({Part.CPU}),
    refresh_s=0.0,
)


def track(role: Role | None) -> Track:
    meter: Any = None
    found = make_track(DEVICE, meter, "s", 1000 * NS_PER_MS)
    if role is not None:
        found.share = Share("d")
        found.share.role = role
    for at in (0, 1000):
        found.derivation.add(Reading(at * NS_PER_MS, at * NS_PER_MS, at * 250_000.0))
    return found


@pytest.mark.parametrize(("role", "is_over"), [(None, True), (Role.READS, True), (Role.FOLLOWS, False)])
def test_a_mark_waits_for_a_late_reading_of_another_process(role: Role | None, is_over: bool) -> None:
    at_ns = 1200 * NS_PER_MS
    late = track(role)
    assert not has_told(late, at_ns)
    assert is_waiting_over([late], at_ns, at_ns + 2 * SETTLE_NS, may_hang=True) is is_over
    assert is_waiting_over([late], at_ns, at_ns + 2 * SETTLE_NS, may_hang=False)
    late.derivation.add(Reading(1300 * NS_PER_MS, 1300 * NS_PER_MS, 1300 * 250_000.0))
    assert has_told(late, at_ns)


def test_a_counter_that_is_lost_is_waited_for_a_minute() -> None:
    late = track(Role.FOLLOWS)
    late.is_lost = True
    at_ns = 1200 * NS_PER_MS
    assert has_told(late, 900 * NS_PER_MS)  # its last reading lies behind that
    assert not has_told(late, at_ns)
    assert not is_waiting_over([late], at_ns, at_ns + PATIENCE_NS - 1, may_hang=True)
    assert is_waiting_over([late], at_ns, at_ns + PATIENCE_NS, may_hang=True)
    assert is_waiting_over([late], at_ns, at_ns + SETTLE_NS, may_hang=False)


def test_nobody_waits_for_a_power_sensor_that_is_lost() -> None:
    meter: Any = None
    power = dataclasses.replace(DEVICE, quantity=Quantity.POWER, basis=Basis.POWER)
    late = make_track(power, meter, "s", 1000 * NS_PER_MS)
    late.is_lost = True
    assert has_told(late, 1200 * NS_PER_MS)
    assert is_waiting_over([late], 1200 * NS_PER_MS, 2000 * NS_PER_MS, may_hang=True)
