"""An amount of CO2eq told as something people know: kilometres by car, a flight, the growth of a tree."""

from __future__ import annotations

import math

from aiocarbon import data
from aiocarbon._core.report import Equivalent

__all__ = ["equivalents"]


def equivalents(co2eq_g: float) -> tuple[Equivalent, ...]:
    """What emits as much as `co2eq_g`, each with its source, in the order of the bundled table.

    The first two are new cars of the EU: 120.4 g/km (2018), the figure of the carbontracker paper, and the newest.
    Reads a bundled file the first time.

    Args:
        co2eq_g: gCO2eq, at least 0.

    Returns:
        One entry a row of `data/equivalents.csv`; none at all for an amount that is negative or not finite.
    """
    if not math.isfinite(co2eq_g) or co2eq_g < 0.0:
        return ()
    return tuple(_equivalent(row, co2eq_g) for row in data.rows("equivalents"))


def _equivalent(row: dict[str, str], co2eq_g: float) -> Equivalent:
    g_per_unit = float(row["g_per_unit"])
    return Equivalent(
        id=row["id"],
        amount=co2eq_g / g_per_unit,
        unit=row["unit"],
        g_per_unit=g_per_unit,
        year=int(row["year"]) if row["year"] else None,
        source=row["source"],
    )
