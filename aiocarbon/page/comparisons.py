"""The same energy under other intensities: the yearly average, what was forecast at the start, other countries.

Figures 2 and 4 of Anthony, Kanding, Selvan 2020 (arXiv:2007.03051) for one run. Nothing here is what the run emitted:
only its report says that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aiocarbon._core.intensity import FactorBasis, IntensityCurve, IntensityKind, IntensityValue, Pue, Quality
from aiocarbon._core.ledger import Ledger
from aiocarbon._core.report import RunReport
from aiocarbon._core.units import S_PER_HOUR
from aiocarbon.intensity import places, table
from aiocarbon.journal.outlooks import Ahead
from aiocarbon.page.series import Part

__all__ = ["Method", "countries", "methods"]

EU_28: Final = frozenset(
    ("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR",
     "HU", "IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK")
)  # fmt: skip
"""The countries of figure 2 of the paper: the members of the European Union of 2016."""


class Method(NamedTuple):
    """What a run would have emitted with another intensity.

    Attributes:
        name: Of the method.
        co2eq_g: Grams, PUE counted.
        low_g: Lower end (90 %).
        high_g: Upper end (90 %).
        source: Whose intensity it is.
        note: What a reader must know.
    """

    name: str
    co2eq_g: float
    low_g: float
    high_g: float
    source: str
    note: str


def methods(report: RunReport, parts: Sequence[Part]) -> list[Method]:
    """The run as it is reported, by the yearly average, and by the forecast at its start where one is known."""
    found = [_as_reported(report)]
    if report.it_energy_kwh <= 0.0:
        return found
    averages = {part.view.process.ident: table.average(part.view.process.facts.location.zone) for part in parts}
    said = ", ".join(dict.fromkeys(f"{value.source} for {value.zone}" for value in averages.values()))
    basis = ", ".join(dict.fromkeys(value.factor_basis.value for value in averages.values()))
    flat = [(part, IntensityCurve(averages[part.view.process.ident])) for part in parts]
    found.append(Method("Yearly average", *_emitted(flat), said, f"{basis} factors"))
    ahead = {part.view.process.ident: part.view.process.outlooks.ahead for part in parts}
    known = [one for one in ahead.values() if one is not None]
    if known:
        foreseen = []
        for part in parts:
            ident = part.view.process.ident
            # What another process of the run was told counts where this one was told nothing.
            foreseen.append((part, _curve(ahead[ident] or known[0], averages[ident])))
        found.append(Method("Forecast at the start", *_emitted(foreseen), *_words(known, parts)))
    return found


def _as_reported(report: RunReport) -> Method:
    uses = report.intensity_sources
    qualities = ", ".join(dict.fromkeys(use.quality for use in uses))
    is_live = any(Quality(use.quality).is_measured for use in uses)
    bases = ", ".join(dict.fromkeys(use.factor_basis for use in uses))
    return Method(
        "Live, hour by hour" if is_live else "As reported",
        report.co2eq_g,
        report.co2eq_g_low,
        report.co2eq_g_high,
        "; ".join(dict.fromkeys(use.source for use in uses)),
        f"as in the report; intensities: {qualities}; {bases} factors",
    )


def _emitted(parts: Sequence[tuple[Part, IntensityCurve]]) -> tuple[float, float, float]:
    """Grams, with their range, of all parts with other intensities."""
    sums = [0.0, 0.0, 0.0]
    for part, curve in parts:
        ledger = part.ledger
        other = Ledger(ledger.curves, intensity=curve, pue=ledger.pue, wall=ledger.wall)
        carbon = other.cut(other.mark(part.begin_ns), other.mark(part.end_ns)).carbon
        told = (carbon.co2eq_g, max(carbon.low_g - carbon.edge_g, 0.0), carbon.high_g + carbon.edge_g)
        sums = [a + b for a, b in zip(sums, told, strict=True)]
    return sums[0], sums[1], sums[2]


def _curve(ahead: Ahead, average: IntensityValue) -> IntensityCurve:
    """A forecast, and behind its end the yearly average."""
    curve = IntensityCurve(_value(ahead, ahead.steps[0][1]))
    steps = [(from_s, _value(ahead, g)) for from_s, g in ahead.steps]
    curve.replace(float("-inf"), [*steps, (ahead.until_s, average)])
    return curve


def _value(ahead: Ahead, g_per_kwh: float) -> IntensityValue:
    from aiocarbon._core.grid import SPREAD

    spread = SPREAD[Quality.FORECAST]
    return IntensityValue(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=g_per_kwh * (1.0 - spread),
        high_g_per_kwh=g_per_kwh * (1.0 + spread),
        source=ahead.source,
        zone=ahead.zone,
        quality=Quality.FORECAST,
        kind=IntensityKind(ahead.kind) if ahead.kind in set(IntensityKind) else IntensityKind.AVERAGE,
        factor_basis=FactorBasis(ahead.factor_basis) if ahead.factor_basis in set(FactorBasis) else FactorBasis.UNKNOWN,
    )


def _words(known: Sequence[Ahead], parts: Sequence[Part]) -> tuple[str, str]:
    first = known[0]
    until_s = max(ahead.until_s for ahead in known)
    begin_s, end_s = min(part.begin_s for part in parts), max(part.end_s for part in parts)
    reach = f"it reached {(first.until_s - begin_s) / S_PER_HOUR:.1f} h ahead"
    beyond = "; the yearly average counts for what came after it" if until_s < end_s else ""
    return f"{first.source} for {first.zone}", f"{first.factor_basis} factors; {reach}{beyond}"


def countries() -> list[list[Any]]:
    """The countries of the tables by their yearly averages, lowest first.

    Returns:
        A row each: code, name, gCO2eq/kWh, its low and high end (90 %), year, and 1 for those of figure 2.
    """
    plain = Pue(value=1.0, source="none")
    found = [place for place in places.places(plain) if place.kind == "country"]
    return [
        [place.code, place.name, place.value.g_per_kwh, round(place.value.low_g_per_kwh, 2),
         round(place.value.high_g_per_kwh, 2), place.year, int(place.code in EU_28)]
        for place in sorted(found, key=lambda place: (place.value.g_per_kwh, place.name))
        if place.value.factor_basis is FactorBasis.LIFE_CYCLE
    ]  # fmt: skip
