"""Unit conversions, and what makes 90 % ranges of variances; the only place where such factors are written.

Inside aiocarbon everything is SI (J, W, s) and gCO2eq; counters are integer microjoules, instants integer nanoseconds.
"""

from __future__ import annotations

from typing import Final

J_PER_KWH: Final = 3.6e6
"""Joules in a kilowatt-hour (1000 W x 3600 s)."""

J_PER_UJ: Final = 1e-6
J2_PER_MJ2: Final = 1e-6
"""Square joules in a square millijoule."""
W_PER_MW: Final = 1e-3
W_PER_UW: Final = 1e-6
W_PER_PW: Final = 1e-12
"""Watts in a microvolt times a microampere."""
UJ_PER_J: Final = 1_000_000
UJ_PER_MJ: Final = 1_000
NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
S_PER_NS: Final = 1e-9
S_PER_MIN: Final = 60
S_PER_HOUR: Final = 3600
S_PER_DAY: Final = 86_400
G_PER_KG: Final = 1e3
NG_PER_G: Final = 1_000_000_000
G_PER_NG: Final = 1e-9
KG_PER_LB: Final = 0.45359237
WH_PER_KWH: Final = 1e3
M_PER_KM: Final = 1e3
Z_90: Final = 1.6448536269514722
"""Quantile of the normal distribution that 5 % lie above: with it on both sides, 90 % lie between."""
SI_PREFIXES: Final = (("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0), ("m", 1e-3), ("µ", 1e-6))
"""Prefixes of units with their factors, the largest first (SI Brochure, 9th edition, table 7); used in printing."""


def kwh_from_j(energy_j: float) -> float:
    """Kilowatt-hours of an energy in joules."""
    return energy_j / J_PER_KWH


def j_from_kwh(energy_kwh: float) -> float:
    """Joules of an energy in kilowatt-hours."""
    return energy_kwh * J_PER_KWH


def ns_from_s(duration_s: float) -> int:
    """Nanoseconds, rounded, of a duration in seconds."""
    return round(duration_s * NS_PER_S)


def s_from_ns(duration_ns: int) -> float:
    """Seconds of a duration in nanoseconds."""
    return duration_ns * S_PER_NS
