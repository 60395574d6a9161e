"""Numbers for people: a fitting unit, and only the digits that the quantity's own range supports."""

from __future__ import annotations

import math

from aiocarbon._core.report import Quantities
from aiocarbon._core.units import NS_PER_MS, SI_PREFIXES, WH_PER_KWH, ns_from_s

__all__ = [
    "co2eq",
    "co2eq_range",
    "duration",
    "energy",
    "energy_range",
    "is_nothing",
    "latency",
    "percent",
    "plain",
    "power",
    "rounded",
]

T_PER_MEGAGRAM = "t"
"""A megagram is called a tonne."""


def is_nothing(told: Quantities) -> bool:
    """Whether nothing was measured or modelled at all: its zeros are no figures."""
    return not told.basis_shares or (told.coverage == 0.0 and told.it_energy_kwh == 0.0)


def rounded(value: float, digits: int = 3) -> str:
    """A number with so many significant digits and no exponent: "0.0123", "12.3", "12,300"."""
    if not math.isfinite(value):
        return "unknown"
    if value == 0.0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    value = round(value, decimals)
    decimals = digits - 1 - math.floor(math.log10(abs(value)))  # 0.9996 has become 1.000: a digit less
    return f"{value:,.{min(max(decimals, 0), 12)}f}"


def plain(value: float, digits: int = 6) -> str:
    """A number for other programs: so many significant digits, no separators; an exponent only where it is tiny."""
    return (
        f"{value:.{digits}g}"
        if 1e-4 <= abs(value) < 10.0**digits or value == 0.0
        else repr(float(f"{value:.{digits}g}"))
    )


def supported_digits(value: float, low: float, high: float) -> int:
    """Significant digits (2 to 4) that a value deserves whose 90 % range is `low..high`.

    Half the range then has one or two of the digits shown (GUM, JCGM 100:2008, 7.2.6): more would be fake precision.
    """
    if value <= 0.0:
        return 2
    spread = (high - low) / 2.0 / value
    if spread > 0.2:
        return 2
    return 3 if spread > 0.005 else 4


def _scaled(value: float, unit: str) -> tuple[float, str]:
    """The factor to divide by, and the prefixed unit, by which the value is at least 1 (or in the smallest unit)."""
    for prefix, factor in SI_PREFIXES:
        # 999.95 and the like would round up to 1000 of the smaller unit.
        if abs(value) >= factor * 0.99995:
            return factor, prefix + unit
    if value == 0.0:
        return 1.0, unit
    prefix, factor = SI_PREFIXES[-1]
    return factor, prefix + unit


def _with_unit(value: float, unit: str, digits: int) -> str:
    factor, name = _scaled(value, unit)
    return f"{rounded(value / factor, digits)} {_mass_name(name)}"


def _range(value: float, low: float, high: float, unit: str) -> tuple[str, str]:
    digits = supported_digits(value, low, high)
    if value > 0.0 and high > 10.0 * value:
        return _with_unit(value, unit, digits), f"{_with_unit(low, unit, 2)} to {_with_unit(high, unit, 2)}"
    factor, name = _scaled(value if value > 0.0 else high, unit)
    # The ends stand at the value's own decimal place: a longer tail on them would claim more than the value does.
    scaled = value / factor
    decimals = 2 if scaled <= 0.0 else min(max(digits - 1 - math.floor(math.log10(scaled)), 0), 12)
    ends = f"{low / factor:,.{decimals}f} to {high / factor:,.{decimals}f} {_mass_name(name)}"
    return f"{rounded(scaled, digits)} {_mass_name(name)}", ends


def _mass_name(unit: str) -> str:
    return T_PER_MEGAGRAM if unit == "Mg" else "kt" if unit == "Gg" else unit


def energy(kwh: float, digits: int = 3) -> str:
    """An energy in kWh with a fitting unit: "1.23 Wh", "4.56 kWh"."""
    return _with_unit(kwh * WH_PER_KWH, "Wh", digits)


def energy_range(kwh: float, low_kwh: float, high_kwh: float) -> tuple[str, str]:
    """An energy in kWh and its 90 % range, as two texts in the same unit."""
    return _range(kwh * WH_PER_KWH, low_kwh * WH_PER_KWH, high_kwh * WH_PER_KWH, "Wh")


def co2eq(grams: float, digits: int = 3) -> str:
    """A mass in grams with a fitting unit: "123 mg", "4.56 kg", "7.89 t"."""
    return _with_unit(grams, "g", digits)


def co2eq_range(grams: float, low_g: float, high_g: float) -> tuple[str, str]:
    """A mass in grams and its 90 % range, as two texts in the same unit."""
    return _range(grams, low_g, high_g, "g")


def power(watts: float | None, digits: int = 3) -> str:
    """A power draw: "250 W", "1.20 kW"; "-" where there is none."""
    return "-" if watts is None else _with_unit(watts, "W", digits)


def percent(share: float) -> str:
    """A share in 0..1: "100 %", "99.95 %", "3 %"; never 100 where something lacks, nor 0 where something is."""
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    hundredths = min(max(share * 100.0, 0.01), 99.99)
    decimals = 2 if hundredths < 0.1 or hundredths > 99.9 else 1 if hundredths < 10.0 or hundredths > 99.0 else 0
    return f"{hundredths:.{decimals}f} %"


def duration(seconds: float) -> str:
    """A duration: "0.532 s", "12.3 s", "4 min 05 s", "3 h 02 min", "2 d 05 h"."""
    if seconds < 59.95:
        return f"{rounded(seconds, 3)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    if minutes < 1440:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02} h"


def latency(seconds: float) -> str:
    """How long somebody took to answer: "3 ms", "1.2 s"; at least a millisecond."""
    milliseconds = max(round(ns_from_s(seconds) / NS_PER_MS), 1)
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{seconds:.1f} s"
