"""What work will use and emit, before it runs: from operations or device-hours to grams, step by step.

The chain is that of the example in the appendix of arXiv:2007.03051 (Anthony, Kanding, Selvan, 2020): time = operations
/ rate; energy = power x time x PUE; CO2eq = energy x intensity; and a distance by car. It is computed twice, in decimal
arithmetic: exactly, and as the paper prints it, where each step takes the printed, rounded value of the step before.
Nothing of it is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any, Final

from aiocarbon._core.intensity import IntensityValue, Location
from aiocarbon._core.units import G_PER_KG, J_PER_KWH, S_PER_DAY, S_PER_HOUR

__all__ = ["Chain", "Estimate", "Given", "as_printed", "co2eq_g", "distance_km", "exact", "printed"]

SCHEMA: Final = "aiocarbon.estimate/1"

LEAST_DECIMALS: Final = 2
"""As the paper prints its steps."""

LEAST_DIGITS: Final = 6
"""Significant digits of a step below 1000, where two decimals would lose more than 1 in 1e6: 0.000158 kWh, not 0.00."""

PRECISION: Final = 100
"""Digits of the arithmetic: more than the largest step has before its last decimal, and far more than JSON shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What an estimate starts from; all amounts above 0, except an intensity, which may be 0.

    Attributes:
        work_flop: Operations to be done; None if the device-hours are given instead.
        rate_flop_per_s: Operations per second of one device, before `utilization`; None if not known.
        utilization: Share of the rate that is reached, at most 1; None if nobody said: then the rate itself counts.
        device_hours: Hours of all devices together; None if the operations are given instead.
        devices: How many share the work, at least 1.
        power_w: Power draw of one device, watts.
        pue: Power usage effectiveness, at least 1.
        g_per_kwh: Carbon intensity, gCO2eq/kWh.
        low_g_per_kwh: Lower end of its 90 % range.
        high_g_per_kwh: Upper end.
        g_per_km: What a car emits, gCO2eq/km.
    """

    work_flop: Decimal | None
    rate_flop_per_s: Decimal | None
    utilization: Decimal | None
    device_hours: Decimal | None
    devices: int
    power_w: Decimal
    pue: Decimal
    g_per_kwh: Decimal
    low_g_per_kwh: Decimal
    high_g_per_kwh: Decimal
    g_per_km: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The steps of an estimate.

    Attributes:
        reached_flop_per_s: Rate of one device that is reached: rate x utilization; None without a rate.
        device_s: Time of all devices together, seconds.
        device_d: The same in days.
        wall_s: Time until the work is done, if the devices share it without loss, seconds.
        wall_d: The same in days.
        energy_j: Power x device time x PUE, joules.
        energy_kwh: The same in kWh.
        co2eq_g: gCO2eq.
        co2eq_g_low: With the lower end of the intensity alone.
        co2eq_g_high: With its upper end.
        co2eq_kg: kgCO2eq.
        car_km: Kilometres by car that emit as much.
        work_flop: Operations; computed where device-hours were given and a rate is known; None if it is not.
    """

    reached_flop_per_s: Decimal | None
    device_s: Decimal
    device_d: Decimal
    wall_s: Decimal
    wall_d: Decimal
    energy_j: Decimal
    energy_kwh: Decimal
    co2eq_g: Decimal
    co2eq_g_low: Decimal
    co2eq_g_high: Decimal
    co2eq_kg: Decimal
    car_km: Decimal
    work_flop: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An estimate with where each of its inputs comes from.

    Attributes:
        given: What it starts from.
        printed: The steps, each from the printed value of the one before.
        exact: The steps, unrounded.
        device: Name of the accelerator; empty if none was named.
        device_source: The vendor's page, and who quotes it; empty if none was named.
        precision: Number format of the rate; empty if the rate was given or is not needed.
        rate_source: Who says the rate; empty without one.
        power_source: Who says the power.
        pue_source: Who says the PUE.
        intensity: The intensity with its origin.
        location: Whose yearly average it is; None if a number was given.
        car_source: Who says what a car emits.
        is_lower_bound: True if the rate is the device's peak, which is never reached.
        notes: What a reader of the figures must know.
    """

    given: Given
    printed: Chain
    exact: Chain
    device: str = ""
    device_source: str = ""
    precision: str = ""
    rate_source: str = ""
    power_source: str
    pue_source: str
    intensity: IntensityValue
    location: Location | None
    car_source: str
    is_lower_bound: bool
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the schema of `aiocarbon estimate --json`: the exact chain, and the printed one."""
        given, value, place = self.given, self.intensity, self.location
        return {
            "schema": SCHEMA,
            "basis": "assumed",
            "is_lower_bound": self.is_lower_bound,
            "inputs": {
                "work_flop": _number(given.work_flop),
                "rate_flop_per_s": _number(given.rate_flop_per_s),
                "rate_source": self.rate_source,
                "precision": self.precision,
                "utilization": _number(given.utilization),
                "device": self.device,
                "device_source": self.device_source,
                "device_hours": _number(given.device_hours),
                "devices": given.devices,
                "power_w": _number(given.power_w),
                "power_source": self.power_source,
                "pue": _number(given.pue),
                "pue_source": self.pue_source,
                "g_per_kwh": _number(given.g_per_kwh),
                "g_per_kwh_low": _number(given.low_g_per_kwh),
                "g_per_kwh_high": _number(given.high_g_per_kwh),
                "intensity_source": value.source,
                "intensity_quality": value.quality.value,
                "intensity_zone": value.zone,
                "factor_basis": value.factor_basis.value,
                "intensity_note": value.note,
                "location": None if place is None else place.zone,
                "location_how": "" if place is None else place.how,
                "g_per_km": _number(given.g_per_km),
                "car_source": self.car_source,
            },
            "exact": _steps(self.exact),
            "printed": _steps(self.printed),
            "notes": list(self.notes),
        }


def exact(given: Given) -> Chain:
    """The steps, unrounded."""
    return _chain(given, lambda value: value)


def as_printed(given: Given) -> Chain:
    """The steps as the paper prints them: each takes the printed, rounded value of the one before."""
    return _chain(given, printed)


def printed(value: Decimal) -> Decimal:
    """A step's value as it is printed: two decimals, or as many as give six significant digits; half is rounded up."""
    if value == 0:
        return Decimal("0.00")
    decimals = max(LEAST_DECIMALS, LEAST_DIGITS - 1 - value.adjusted())
    with localcontext() as context:
        context.prec = PRECISION
        rounded = value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
        while -int(rounded.as_tuple().exponent) > LEAST_DECIMALS and rounded.as_tuple().digits[-1] == 0:
            decimals -= 1
            rounded = rounded.quantize(Decimal(1).scaleb(-decimals))
    return rounded


def co2eq_g(energy_kwh: Decimal, g_per_kwh: Decimal) -> Decimal:
    """gCO2eq of an energy (kWh, PUE included) at an intensity (gCO2eq/kWh): equation 3 of the paper."""
    return energy_kwh * g_per_kwh


def distance_km(mass_g: Decimal, g_per_km: Decimal) -> Decimal:
    """Kilometres by a car of `g_per_km` (gCO2eq/km) that emit as much as a mass (gCO2eq)."""
    return mass_g / g_per_km


def _chain(given: Given, keep: Callable[[Decimal], Decimal]) -> Chain:
    with localcontext() as context:
        context.prec = PRECISION
        reached = _reached(given)
        work = given.work_flop
        if work is not None:
            assert reached is not None, "operations without a rate give no time"
            device_s = keep(work / reached)
        else:
            assert given.device_hours is not None, "neither operations nor device-hours"
            device_s = keep(given.device_hours * S_PER_HOUR)
            work = None if reached is None else device_s * reached
        wall_s = keep(device_s / given.devices)
        energy_j = keep(given.power_w * device_s * given.pue)
        energy_kwh = keep(energy_j / Decimal(J_PER_KWH))
        mass_g = keep(co2eq_g(energy_kwh, given.g_per_kwh))
        return Chain(
            reached_flop_per_s=reached,
            device_s=device_s,
            device_d=keep(device_s / S_PER_DAY),
            wall_s=wall_s,
            wall_d=keep(wall_s / S_PER_DAY),
            energy_j=energy_j,
            energy_kwh=energy_kwh,
            co2eq_g=mass_g,
            co2eq_g_low=keep(co2eq_g(energy_kwh, given.low_g_per_kwh)),
            co2eq_g_high=keep(co2eq_g(energy_kwh, given.high_g_per_kwh)),
            co2eq_kg=keep(mass_g / Decimal(G_PER_KG)),
            car_km=keep(distance_km(mass_g, given.g_per_km)),
            work_flop=work,
        )


def _reached(given: Given) -> Decimal | None:
    """The rate is an input's product, not a step: its digits are the inputs' own, and it is not rounded."""
    if given.rate_flop_per_s is None:
        return None
    return given.rate_flop_per_s * (Decimal(1) if given.utilization is None else given.utilization)


def _steps(chain: Chain) -> dict[str, float | None]:
    return {name: _number(getattr(chain, name)) for name in Chain.__dataclass_fields__}


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
