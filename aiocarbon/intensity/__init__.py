"""Carbon intensity and what turns energy into CO2eq: where the machine is, the zone's intensity, the PUE, equivalents.

Everything in here so far works without a network: a number of the user's, or the bundled yearly averages. A source of
live values is one file more in this folder; it extends and corrects the same `IntensityCurve` with `set`.

All functions may read a bundled file or a file of the system the first time: call them in a worker thread.
"""

from __future__ import annotations

from aiocarbon._core.intensity import (
    Equivalent,
    FactorBasis,
    IntensityCurve,
    IntensityKind,
    IntensityValue,
    Location,
    Pue,
    Quality,
)
from aiocarbon.intensity.location import find as find_location
from aiocarbon.intensity.pue import find as find_pue
from aiocarbon.intensity.table import average, given, parse_zone

__all__ = [
    "Equivalent",
    "FactorBasis",
    "IntensityCurve",
    "IntensityKind",
    "IntensityValue",
    "Location",
    "Pue",
    "Quality",
    "average",
    "find_location",
    "find_pue",
    "given",
    "parse_zone",
]
