"""Software Carbon Intensity (ISO/IEC 21031:2024): SCI = (E x I + M) per R, its operational part O = E x I alone.

M, the embodied emissions of the hardware, needs figures that no meter tells: it is not counted, and said to be so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from aiocarbon._core.report import Quantities, RunReport
from aiocarbon._core.units import S_PER_HOUR

__all__ = ["COUNTED", "Sci", "sci_of", "units_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sci:
    """The operational part of the SCI score, and its terms.

    Attributes:
        unit: The functional unit: "epoch", "image".
        units: R: how many of them.
        operational_g_per_unit: O / R, gCO2eq a unit.
        operational_g_per_unit_low: Lower end (90 %).
        operational_g_per_unit_high: Upper end.
        operational_g: O = E x I, gCO2eq.
        energy_kwh: E: of the hardware with the facility's share (PUE), kWh.
        it_energy_kwh: E without PUE.
        intensity_g_per_kwh: I: location-based, weighed by energy; None where nothing was used.
        embodied_g: M: None, not counted.
    """

    unit: str
    units: float
    operational_g_per_unit: float
    operational_g_per_unit_low: float
    operational_g_per_unit_high: float
    operational_g: float
    energy_kwh: float
    it_energy_kwh: float
    intensity_g_per_kwh: float | None
    embodied_g: None = None


def sci_of(total: Quantities, unit: str, units: float) -> Sci:
    """The score of some work.

    Args:
        total: What the work used.
        unit: The functional unit.
        units: How many of it the work made, above 0.

    Raises:
        ValueError: `units` is not above 0.
    """
    if not 0.0 < units < float("inf"):
        raise ValueError(f"{units} {unit}: a functional unit needs a number above 0")
    return Sci(
        unit=unit,
        units=units,
        operational_g_per_unit=total.co2eq_g / units,
        operational_g_per_unit_low=total.co2eq_g_low / units,
        operational_g_per_unit_high=total.co2eq_g_high / units,
        operational_g=total.co2eq_g,
        energy_kwh=total.energy_kwh,
        it_energy_kwh=total.it_energy_kwh,
        intensity_g_per_kwh=total.co2eq_g / total.energy_kwh if total.energy_kwh > 0.0 else None,
    )


def units_of(runs: Sequence[RunReport], total: Quantities, unit: str) -> float:
    """How many of a unit that reports count themselves some runs made.

    Args:
        runs: The runs.
        total: Their sum.
        unit: One of `COUNTED`.

    Raises:
        KeyError: It is none of these.
        ValueError: The reports do not hold all of it.
    """
    return COUNTED[unit](runs, total)


def _epochs(runs: Sequence[RunReport], _: Quantities) -> float:
    return sum(run.epochs_total - sum(epoch.is_partial for epoch in run.epochs) for run in runs)


def _steps(runs: Sequence[RunReport], _: Quantities) -> float:
    cut = [run.run_id for run in runs if run.epochs_total > len(run.epochs)]
    if cut:
        raise ValueError(f"{cut[0]} holds the last of its epochs alone, so its steps are not known: say how many")
    return sum(epoch.steps for run in runs for epoch in run.epochs)


COUNTED: Final[dict[str, Callable[[Sequence[RunReport], Quantities], float]]] = {
    "run": lambda runs, _: len(runs),
    "epoch": _epochs,
    "step": _steps,
    "hour": lambda _, total: total.duration_s / S_PER_HOUR,
}
"""Functional units that reports count: complete epochs, steps told in epochs, hours in which at least one run ran."""
