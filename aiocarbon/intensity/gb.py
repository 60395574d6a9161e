"""Carbon Intensity GB of the National Energy System Operator: Great Britain, its nations and postcodes, by half hours.

Facts: github.com/carbon-intensity/api-definitions, docs/index.html. All times are UTC, so neither change-over night
touches them. Emissions of generation only (direct); imports and grid losses are included. Nationally each half hour has
a forecast and, once it is metered, an actual; regions have forecasts alone. An outward postcode's or nation's region is
asked first, Great Britain as a whole behind it.

Not relied on, since they differ with what was seen: whether `/intensity` is the half hour that runs or the last one
that is over (api-definitions, issue 6), whether a range asked for from a border brings the half hour before it too (it
did: issue 17), whether one region comes as an object or as a list of one. Of a half hour that comes twice (issue 17)
the later one counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.answer import Answer
from aiocarbon._core.intensity import FactorBasis, Location, Quality
from aiocarbon.errors import BadAnswerError
from aiocarbon.intensity.base import Access, Row, Source, Traits, in_pieces, make_answer, shown, utc_s

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client

__all__ = ["URL", "CarbonIntensityGB", "bind"]

NAME: Final = "carbonintensity_gb"
TITLE: Final = "Carbon Intensity GB (NESO)"
REGIONAL_TITLE: Final = "Carbon Intensity GB regions (NESO)"
"""Another than the nation's: what was metered nationally corrects no region's estimate."""

URL: Final = "https://api.carbonintensity.org.uk"

NATIONS: Final = {"GB-ENG": 15, "GB-SCT": 16, "GB-WLS": 17}
"""Region ids of the service by ISO 3166-2."""

ELSEWHERE: Final = ("GB-NIR", "GB:BT", "GB:GY", "GB:IM", "GB:JE")
"""Northern Ireland belongs to another grid, and so do Guernsey, Man and Jersey, whose postcodes look British."""

STEP_S: Final = 1800.0
OFFSET_S: Final = 60.0
STALE_S: Final = 5400.0
LONGEST_STEP_S: Final = 3600.0
"""A value for longer than this is not believed."""

PIECE_S: Final = 13 * 86400.0
"""Asked for at once; the service answers ranges of 14 days at most. 624 half hours, 70 kB, 4,400 values."""

REGIONAL_PIECE_S: Final = 5 * 86400.0
"""A region's half hour brings its mix of nine fuels along: 240 of them, 90 kB, 8,200 values."""

BEYOND_S: Final = 60.0
"""Asked for beyond a range's end, so that its last half hour is in it whether or not the service counts the end in."""

PAGE_HOURS: Final = (24, 48)
"""Forecasts it has: fw24h and fw48h."""

FORECAST_NOTE: Final = "the half hour's forecast counts until its actual value is published"
REGIONAL_NOTE: Final = "the service estimates regions by its own model and publishes no actual values for them"


def bind(place: Location, access: Access) -> tuple[Source, ...]:
    """The region's source, if the place is one, and the nation's; none outside Great Britain."""
    if place.country != "GB" or place.zone.startswith(ELSEWHERE):
        return ()
    national = CarbonIntensityGB(_traits("GB", access), access)
    if place.zone.startswith("GB:"):
        return (CarbonIntensityGB(_traits(place.zone, access), access, f"postcode/{place.zone[3:]}"), national)
    if place.zone in NATIONS:
        return (CarbonIntensityGB(_traits(place.zone, access), access, f"regionid/{NATIONS[place.zone]}"), national)
    return (national,)


def _traits(zone: str, access: Access) -> Traits:
    return Traits(
        name=NAME,
        title=TITLE if zone == "GB" else REGIONAL_TITLE,
        zone=zone,
        factor_basis=FactorBasis.DIRECT,
        step_s=STEP_S,
        offset_s=OFFSET_S,
        stale_s=STALE_S,
        has_past=True,
        corrects=zone == "GB",
        has_forecast=True,
        forecast_every_s=STEP_S,
        asked_at=shown(access.url),
    )


@dataclass(frozen=True)
class CarbonIntensityGB:
    """The service for one zone.

    Attributes:
        traits: What it is.
        access: How it is reached.
        region: The end of a regional path: "postcode/N1", "regionid/15"; empty for the nation.
    """

    traits: Traits
    access: Access = field(repr=False)
    region: str = ""

    async def now(self, client: Client, now_s: float) -> Answer:
        """The half hour that runs, or the last one that is over.

        Raises:
            IntensityError: It could not answer, or its newest half hour is older than `stale_s`.
        """
        rows = await self._asked(client, f"regional/{self.region}" if self.region else "intensity", now_s)
        # A machine's clock may be slow by a little; the value of a later time is not that of now.
        begun = [row for row in rows if row[0] <= now_s + STEP_S]
        return self._answer(begun, now_s, oldest_s=now_s - self.traits.stale_s)

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        """All half hours that share time with a window; asked for in pieces.

        Raises:
            IntensityError: It could not answer, or has nothing of that time.
        """

        async def ask(at: float, to: float) -> Answer:
            window = f"{_stamp(at)}/{_stamp(to + BEYOND_S)}"
            path = f"regional/intensity/{window}/{self.region}" if self.region else f"intensity/{window}"
            rows = await self._asked(client, path, now_s)
            over = [row for row in rows if at <= row[0] < to and row[3] is not Quality.FORECAST]
            return self._answer(over, now_s)

        found = await in_pieces(self.traits, begin_s, end_s, REGIONAL_PIECE_S if self.region else PIECE_S, ask)
        return replace(found, note=self._note(sample.quality for sample in found.samples))

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        """The half hours to come, and the one that runs; 48 hours at most.

        Raises:
            IntensityError: It could not answer, or has no forecast.
        """
        begin_s, end_s = math.floor(now_s / STEP_S) * STEP_S, now_s + hours * 3600.0
        page = next((page for page in PAGE_HOURS if end_s <= begin_s + page * 3600.0), PAGE_HOURS[-1])
        # Asked exactly on a border it begins with the half hour before; asked inside one, with that one (seen in cats).
        stamp = f"{_stamp(begin_s + 60.0)}/fw{page}h"
        path = f"regional/intensity/{stamp}/{self.region}" if self.region else f"intensity/{stamp}"
        rows = await self._asked(client, path, now_s)
        ahead = [row for row in rows if row[1] > now_s and row[0] < end_s]
        # No word on estimates: it would stay with the metered values that are learnt beside this.
        return make_answer(self.traits, ahead, now_s=now_s, note=REGIONAL_NOTE if self.region else "")

    async def _asked(self, client: Client, path: str, now_s: float) -> list[Row]:
        said = await client.json(f"{self.access.url}/{path}", source=NAME)
        try:
            return list(self._rows(said, now_s))
        except (KeyError, TypeError, AttributeError) as error:
            raise BadAnswerError(f"{TITLE} sent an answer of an unknown shape", source=NAME) from error

    def _answer(self, rows: list[Row], now_s: float, *, oldest_s: float | None = None) -> Answer:
        note = self._note(row[3] for row in rows)
        return make_answer(self.traits, rows, now_s=now_s, note=note, oldest_s=oldest_s)

    def _note(self, qualities: Iterable[Quality]) -> str:
        if self.region:
            return REGIONAL_NOTE
        return FORECAST_NOTE if Quality.ESTIMATED in qualities else ""

    def _rows(self, said: Any, now_s: float) -> Iterator[Row]:
        for item in self._items(said["data"]):
            intensity = item["intensity"]
            from_s, to_s = utc_s(item["from"], self.traits), utc_s(item["to"], self.traits)
            if not 0.0 < to_s - from_s <= LONGEST_STEP_S:
                raise BadAnswerError(f"{TITLE} sent a value for {to_s - from_s:g} s", source=NAME)
            actual = intensity.get("actual")
            if actual is not None and from_s <= now_s + STEP_S:  # nothing later can have been metered
                yield from_s, to_s, actual, Quality.LIVE
            else:
                yield from_s, to_s, intensity["forecast"], Quality.ESTIMATED if from_s <= now_s else Quality.FORECAST

    def _items(self, data: Any) -> Iterator[Any]:
        """The half hours: a list of them, or a region that holds them, or a list of one such."""
        parts = data if isinstance(data, list) else [data]
        if not self.region:
            yield from parts
            return
        if len(parts) > 1:
            raise BadAnswerError(f"{TITLE} sent several regions", source=NAME)
        for part in parts:
            kind, _, asked = self.region.partition("/")
            # Not so for postcodes: whether one comes back as it was asked for ("SW1A") or shorter is not documented.
            if kind == "regionid" and str(part.get(kind, asked)) != asked:
                raise BadAnswerError(f"{TITLE} answered for another region than {self.region}", source=NAME)
            if not isinstance(part["data"], list):
                raise BadAnswerError(f"{TITLE} sent no list of half hours", source=NAME)
            yield from part["data"]


def _stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%MZ")
