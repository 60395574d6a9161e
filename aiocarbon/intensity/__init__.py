"""Carbon intensity and what turns energy into CO2eq: where the machine is, the zone's intensity, the PUE.

A source of live values is one file of this folder and one line of `sources.REGISTRY`, or a plug-in: a package whose
entry point of the group `aiocarbon.intensity` is an object with `URL` (its base URL) and `bind(place, access)`, which
gives `Source`s for a place. `make_answer` checks what a source was sent. Values of the user's own and the bundled
yearly averages need no network.

The functions may read a bundled file or a file of the system the first time: call them in a worker thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.intensity import (
    FactorBasis,
    IntensityCurve,
    IntensityKind,
    IntensityValue,
    Location,
    Pue,
    Quality,
)

if TYPE_CHECKING:
    from aiocarbon._core.answer import Answer, Sample
    from aiocarbon._core.report import Equivalent
    from aiocarbon.intensity.base import Access, Row, Source, Traits, make_answer, utc_s
    from aiocarbon.intensity.client import Client
    from aiocarbon.intensity.location import find as find_location
    from aiocarbon.intensity.pue import find as find_pue
    from aiocarbon.intensity.table import average, given, parse_zone

__all__ = [
    "Access",
    "Answer",
    "Client",
    "Equivalent",
    "FactorBasis",
    "IntensityCurve",
    "IntensityKind",
    "IntensityValue",
    "Location",
    "Pue",
    "Quality",
    "Row",
    "Sample",
    "Source",
    "Traits",
    "average",
    "find_location",
    "find_pue",
    "given",
    "make_answer",
    "parse_zone",
    "utc_s",
]

_LAZY: Final = {
    "Access": ("intensity.base", "Access"),
    "Answer": ("_core.answer", "Answer"),
    "Client": ("intensity.client", "Client"),
    "Equivalent": ("_core.report", "Equivalent"),
    "Row": ("intensity.base", "Row"),
    "Sample": ("_core.answer", "Sample"),
    "Source": ("intensity.base", "Source"),
    "Traits": ("intensity.base", "Traits"),
    "average": ("intensity.table", "average"),
    "find_location": ("intensity.location", "find"),
    "find_pue": ("intensity.pue", "find"),
    "given": ("intensity.table", "given"),
    "make_answer": ("intensity.base", "make_answer"),
    "parse_zone": ("intensity.table", "parse_zone"),
    "utc_s": ("intensity.base", "utc_s"),
}
"""Public name -> module of aiocarbon and name there; loaded on use, since importing aiocarbon has a time budget."""


def __getattr__(name: str) -> Any:  # Any: what a module hands out by name has no narrower type
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    value = globals()[name] = getattr(import_module(f"aiocarbon.{module}"), attribute)
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | __all__)
