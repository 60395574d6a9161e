"""A counter that refreshes more seldom than was assumed: its ranges hold the truth all the same."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from aiocarbon._core.curve import State
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity, Reading
from aiocarbon._core.units import NS_PER_MS, NS_PER_S, ns_from_s
from aiocarbon._engine.known import PROBED_NS, SETTLE_NS
from aiocarbon._engine.slowness import MOST_PROBE_NS, MOST_REFRESH_NS, PROBE_NS, note_stand, settle_probe
from aiocarbon._engine.track import Track, make_track

BEGIN = 100 * NS_PER_S
STEP = 5 * NS_PER_MS
POWER_W = 100.0


def states(refresh_s: float, phase_s: float, marks: list[int]) -> list[State]:
    """The curve of 100 W at some instants, each when a mark is frozen: a second later while the refresh is probed."""
    found, refresh, frozen = track(), ns_from_s(refresh_s), []
    t_ns = found.probed_from_ns = BEGIN
    while len(frozen) < len(marks):
        if not found.is_probed or (t_ns - BEGIN) % NS_PER_S == 0 or t_ns in marks:
            value = round((t_ns + ns_from_s(phase_s)) // refresh * refresh * POWER_W / 1000)
            before = found.derivation.last_value
            found.derivation.add(Reading(t_ns, t_ns, value))
            if not found.is_probed and before not in (None, value):
                found.changed_ns.append(t_ns)
        if not found.is_probed and t_ns > BEGIN and (t_ns - BEGIN) % PROBE_NS == 0:
            settle_probe(found, t_ns)
        elif found.is_probed and (t_ns - BEGIN) % NS_PER_S == 0:
            note_stand(found)
        if t_ns >= marks[len(frozen)] + (SETTLE_NS if found.is_probed else PROBED_NS):
            frozen.append(found.derivation.curve.state_at(marks[len(frozen)]))
        t_ns += STEP
    return frozen


@pytest.mark.parametrize("refresh_s", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("phase_s", [0.0, 0.05, 0.25, 0.45, 0.65, 0.95])
@pytest.mark.parametrize("epoch_s", [0.5, 0.72, 1.5])
def test_epochs_beside_a_slow_counter_have_ranges_that_hold_the_truth(
    refresh_s: float, phase_s: float, epoch_s: float
) -> None:
    marks = [BEGIN + i * ns_from_s(epoch_s) for i in range(12)]
    for a, b in itertools.pairwise(states(refresh_s, phase_s, marks)):
        off_j = abs(b.energy_j - a.energy_j - POWER_W * epoch_s)
        assert off_j <= a.slack_j + b.slack_j + 1e-6


def track(quantity: Quantity = Quantity.ENERGY) -> Track:
    meter: Any = None
    basis = Basis.COUNTER if quantity is Quantity.ENERGY else Basis.POWER
    return make_track(
        Device(id="d", kind=DeviceKind.GPU, name="d", quantity=quantity, basis=basis), meter, "s", NS_PER_S
    )


def probed(found: Track, changes_ms: list[int], upto_ms: int) -> int:
    """The refresh that is found, milliseconds, by reads every 5 ms of a value that changes at some instants."""
    found.probed_from_ns = NS_PER_S
    for at in range(0, upto_ms + 1, 5):
        t_ns = NS_PER_S + at * NS_PER_MS
        found.derivation.add(Reading(t_ns, t_ns, 10**6 * (1 + sum(change <= at for change in changes_ms))))
    found.changed_ns[:] = [NS_PER_S + change * NS_PER_MS for change in changes_ms]
    settle_probe(found, NS_PER_S + upto_ms * NS_PER_MS)
    return found.derivation.curve.refresh_ns // NS_PER_MS


def test_a_probe_that_saw_a_whole_period_is_over_and_one_that_saw_a_part_goes_on() -> None:
    found = track()
    assert probed(found, [100, 400], 500) == 300
    assert found.is_probed
    for changes, refresh_ms in (([], 500), ([200], 300)):
        found = track()
        assert probed(found, changes, 500) == refresh_ms
        assert not found.is_probed
        assert len(found.changed_ns) == len(changes)


def test_a_probe_ends_also_where_the_counter_stands_or_does_not_answer() -> None:
    found = track()
    assert probed(found, [], MOST_PROBE_NS // NS_PER_MS) == MOST_PROBE_NS // NS_PER_MS
    assert found.is_probed
    silent = track()
    silent.probed_from_ns = NS_PER_S
    settle_probe(silent, 2 * NS_PER_S)
    assert silent.is_probed
    assert silent.derivation.curve.refresh_ns == 100 * NS_PER_MS


def test_a_power_sensor_that_shows_one_value_is_not_taken_for_slow() -> None:
    found = track(Quantity.POWER)
    assert probed(found, [], 500) == 20
    assert found.is_probed


def test_a_counter_found_standing_at_ticks_is_slow_and_one_that_stands_for_long_stands_still() -> None:
    found = track()

    def ticked(at_s: float, value: int) -> float:
        t_ns = round(at_s * NS_PER_S)
        found.derivation.add(Reading(t_ns, t_ns, value))
        note_stand(found)
        return found.derivation.curve.refresh_ns / NS_PER_S

    assert ticked(1, 100) == ticked(2, 200) == 0.1
    assert ticked(3, 200) == pytest.approx(1.1)
    assert ticked(4, 300) == pytest.approx(1.1)
    assert ticked(6, 300) == pytest.approx(2.2)
    assert ticked(5 + 2 * MOST_REFRESH_NS / NS_PER_S, 300) == pytest.approx(2.2)
