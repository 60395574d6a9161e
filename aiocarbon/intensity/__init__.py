"""Carbon intensity and what turns energy into CO2eq: where the machine is, the zone's intensity, the PUE.

Everything in here so far works without a network: a number of the user's, or the bundled yearly averages. A source of
live values is one file more in this folder; it extends and corrects the same `IntensityCurve` with `set`.

The functions may read a bundled file or a file of the system the first time: call them in a worker thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
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

_LAZY: Final = {
    "average": ("table", "average"),
    "find_location": ("location", "find"),
    "find_pue": ("pue", "find"),
    "given": ("table", "given"),
    "parse_zone": ("table", "parse_zone"),
}
"""Public name -> module of this folder and name there; loaded on use, since importing aiocarbon has a time budget."""


def __getattr__(name: str) -> Any:  # Any: what a module hands out by name has no narrower type
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | __all__)
