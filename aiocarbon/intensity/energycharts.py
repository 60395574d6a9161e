"""Energy-Charts of Fraunhofer ISE: most European countries, every 15 minutes, without a key.

One question gives the whole day: what was measured and, for the quarter hours after it, a forecast. Times are UNIX
seconds, so no clock change touches them. What is not documented and therefore not relied on: which countries it has
(an unknown one is a 400), whether its factors count building and fuel supply, and how late a value comes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.answer import Answer
from aiocarbon._core.intensity import FactorBasis, Location, Quality
from aiocarbon.errors import BadAnswerError, NoDataError
from aiocarbon.intensity.base import Access, Row, Source, Traits, in_pieces, make_answer, shown
from aiocarbon.intensity.table import OWN_CODES

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client

__all__ = ["URL", "EnergyCharts", "bind"]

NAME: Final = "energycharts"
TITLE: Final = "Energy-Charts"

URL: Final = "https://api.energy-charts.info"
"""Base URL (seen in recorded requests of 2026-10-04, country `xx`)."""

COUNTRIES: Final = (
    "AL AT BA BE BG CH CY CZ DE DK EE ES FI FR GE GR HR HU IE IT LT LU LV MD ME MK MT NL NO PL PT RO RS SE SI SK UA XK"
)
"""Those on the European grid's transparency platform, on whose data the service stands. Its own list was not found: a
country too many costs a 400. Great Britain is left out: its operator publishes itself; Northern Ireland is "nie"."""

ISLANDS: Final = (
    *("DK-BHM", "ES-CE", "ES-CN", "ES-ML", "FR-20R", "FR-2A", "FR-2B", "FR-COR"),
    *("GR-IS", "PT-20", "PT-30", "PT-AC", "PT-MA"),
)
"""Grids of their own, or nearly so, of which the country's value says nothing."""

STEP_S: Final = 900.0
LONGEST_STEP_S: Final = 3600.0
"""Quarter hours, and the longest step that a wider spacing is taken for; beyond it lies a gap."""

OFFSET_S: Final = 300.0
"""Assumed, since how late a value comes was not found: five minutes into a quarter hour the one before it is measured.
Of the quarter hour that runs nothing can be; the forecast of the same answer stands in for it."""

STALE_S: Final = 2 * 3600.0
PIECE_S: Final = 7 * 86400.0
"""Longest time asked for at once: 672 quarter hours in three arrays."""


def bind(place: Location, access: Access) -> tuple[Source, ...]:
    """The source for a place in Europe; none elsewhere, in Great Britain and on islands with a grid of their own."""
    zone = "GB-NIR" if place.zone.startswith("GB:BT") else place.zone  # postcodes of Belfast: all Northern Ireland
    country = zone if zone == "GB-NIR" else place.country
    if country not in {*COUNTRIES.split(), "GB-NIR"} or zone.startswith(ISLANDS) or zone in OWN_CODES:
        return ()
    traits = Traits(
        name=NAME,
        title=TITLE,
        zone=country,
        factor_basis=FactorBasis.UNKNOWN,
        step_s=STEP_S,
        offset_s=OFFSET_S,
        stale_s=STALE_S,
        has_past=True,
        corrects=True,
        has_forecast=True,
        asked_at=f"{shown(access.url)} {zone}",  # the note names it
    )
    return (EnergyCharts(traits=traits, access=access, asked_for=zone),)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCharts:
    """Energy-Charts, bound to a country.

    Attributes:
        traits: What it is; its zone is the country's.
        access: How it is reached.
        asked_for: Zone of the place, which may be finer than the country.
    """

    traits: Traits
    access: Access = field(repr=False)
    asked_for: str

    async def now(self, client: Client, now_s: float) -> Answer:
        """What was measured today, and the forecast of the rest of the day.

        Raises:
            NoDataError: The newest measured value is older than `stale_s`, or none holds now in the first hours of a
                day, of which nothing can be measured yet.
            IntensityError: It could not answer.
        """
        rows, note = await self._rows(client, {})
        oldest_s = now_s - STALE_S
        measured = [row for row in rows if row[3] is Quality.LIVE]
        if measured:
            # Of these alone: the forecast of a service that stopped measuring would always be new enough.
            make_answer(self.traits, measured, now_s=now_s, oldest_s=oldest_s)
        elif not (rows and rows[0][0] >= oldest_s and any(row[0] <= now_s < row[1] for row in rows)):
            # Just after midnight nothing of the new day is measured: only then does a forecast do.
            raise NoDataError(f"{TITLE} has no measured value for {self.traits.zone}", source=NAME)
        return make_answer(self.traits, rows, now_s=now_s, note=note)

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        """What was measured between two instants; asked for in pieces of a week.

        Raises:
            IntensityError: It could not answer, or has nothing of that time.
        """

        async def ask(at: float, to: float) -> Answer:
            rows, note = await self._rows(client, {"start": f"{at:.0f}", "end": f"{to:.0f}"})
            over = [row for row in rows if row[3] is Quality.LIVE and at <= row[0] < to]
            return make_answer(self.traits, over, now_s=now_s, note=note)

        return await in_pieces(self.traits, begin_s, end_s, PIECE_S, ask)

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        """The forecast from now on, to the end of the day or of the next.

        Raises:
            IntensityError: It could not answer, or has no forecast.
        """
        rows, note = await self._rows(client, {})
        end_s = now_s + hours * 3600.0
        ahead = [row for row in rows if row[3] is Quality.FORECAST and row[1] > now_s and row[0] < end_s]
        return make_answer(self.traits, ahead, now_s=now_s, note=note)

    async def _rows(self, client: Client, window: dict[str, str]) -> tuple[list[Row], str]:
        """All values of an answer, measured or forecast, and what a user should know of them."""
        country = "nie" if self.traits.zone == "GB-NIR" else self.traits.zone.lower()
        body = await client.json(f"{self.access.url}/co2eq", source=NAME, params={"country": country, **window})
        note = f"values of all {self.traits.zone}: there are none of {self.asked_for}"
        return list(_slots(body)), "" if self.asked_for == self.traits.zone else note


def _slots(body: Any) -> Iterator[Row]:  # Any: what JSON decoded to
    times, measured, ahead = _arrays(body)
    if not all(_is_time(at) for at in times) or any(b <= a for a, b in itertools.pairwise(times)):
        raise BadAnswerError(f"{TITLE} sent times that are none, or out of order", source=NAME)
    spacings = [b - a for a, b in itertools.pairwise(times)]
    step_s = min([*spacings, LONGEST_STEP_S]) if spacings else STEP_S
    for at, was, will_be in zip(times, measured, ahead, strict=True):
        if was is not None:
            yield float(at), float(at + step_s), was, Quality.LIVE
        elif will_be is not None:
            yield float(at), float(at + step_s), will_be, Quality.FORECAST


def _arrays(body: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """The three arrays of an answer, of one length."""
    if not isinstance(body, dict):
        raise BadAnswerError(f"{TITLE} sent no object", source=NAME)
    times, measured, ahead = (body.get(key) for key in ("unix_seconds", "co2eq", "co2eq_forecast"))
    if not (isinstance(times, list) and isinstance(measured, list)):
        raise BadAnswerError(f"{TITLE} sent no list of values", source=NAME)
    if ahead is None:  # only what was measured
        ahead = [None] * len(times)
    if not isinstance(ahead, list) or not len(times) == len(measured) == len(ahead):
        raise BadAnswerError(f"{TITLE} sent lists of different lengths", source=NAME)
    return times, measured, ahead


def _is_time(at: object) -> bool:
    # Bounded before anything is computed with it: an integer of JSON may be too large for a float.
    return isinstance(at, int | float) and not isinstance(at, bool) and 0 <= at < 1e11
