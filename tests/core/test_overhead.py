"""What the instrument cost: of several processes together, energy is known if it is of all that cost CPU time."""

from __future__ import annotations

from aiocarbon._core.body import NO_OVERHEAD, Overhead

ONE = Overhead(cpu_s=1.0, readings=10, missed_ticks=1, it_energy_kwh=2e-6)


def test_costs_add_up() -> None:
    both = ONE + ONE
    assert both == Overhead(cpu_s=2.0, readings=20, missed_ticks=2, it_energy_kwh=4e-6)


def test_who_cost_nothing_changes_nothing() -> None:
    assert NO_OVERHEAD + ONE == ONE
    assert NO_OVERHEAD + NO_OVERHEAD == NO_OVERHEAD


def test_energy_that_one_does_not_know_is_not_known_together() -> None:
    unknown = Overhead(cpu_s=0.5, readings=5, missed_ticks=0)
    assert (ONE + unknown).it_energy_kwh is None
    assert (ONE + unknown).cpu_s == 1.5
