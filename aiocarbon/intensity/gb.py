"""Carbon Intensity GB of the National Energy System Operator: Great Britain, its nations and postcodes, by half hours.

Facts: github.com/carbon-intensity/api-definitions, docs/index.html. All times are UTC, so neither change-over night
touches them. Emissions of generation only (direct); imports and grid losses are included. Nationally each half hour has
a forecast and, once it is metered, an actual; regions have forecasts alone. An outward postcode's or nation's region is
asked first, the nation as a whole behind it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.answer import Answer
from aiocarbon._core.intensity import FactorBasis, Location, Quality
from aiocarbon.errors import BadAnswerError
from aiocarbon.intensity.base import Access, Row, Source, Traits, joined, make_answer, shown, utc_s

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client

__all__ = ["URL", "CarbonIntensityGB", "bind"]

NAME: Final = "carbonintensity_gb"
TITLE: Final = "Carbon Intensity GB (NESO)"
URL: Final = "https://api.carbonintensity.org.uk"

NATIONS: Final = {"GB-ENG": 15, "GB-SCT": 16, "GB-WLS": 17}
"""Region ids of the service by ISO 3166-2; Northern Ireland belongs to another grid."""

STEP_S: Final = 1800.0
OFFSET_S: Final = 60.0
STALE_S: Final = 5400.0
PIECE_S: Final = 14 * 86400.0
"""Longest range that the service answers."""

PAGE_HOURS: Final = (24, 48)
"""Forecasts it has: fw24h and fw48h."""

FORECAST_NOTE: Final = "the half hour's forecast counts until its actual value is published"
REGIONAL_NOTE: Final = "the service estimates regions by its own model and publishes no actual values for them"


def bind(place: Location, access: Access) -> tuple[Source, ...]:
    """The region's source, if the place is one, and the nation's; none outside Great Britain."""
    if place.country != "GB" or place.zone.startswith(("GB-NIR", "GB:BT")):
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
        title=TITLE,
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
        """The half hour that runs."""
        path = f"regional/{self.region}" if self.region else "intensity"
        oldest_s = now_s - self.traits.stale_s
        return self._answer(await self._asked(client, path), now_s, oldest_s=oldest_s)

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        """All half hours that share time with a window."""
        answer: Answer | None = None
        at = begin_s
        while at < end_s:
            to = min(at + PIECE_S - 2 * STEP_S, end_s)
            # Asked exactly on a border it begins with the half hour before; asked inside one, with that one.
            window = f"{_stamp(math.floor(at / STEP_S) * STEP_S + 60.0)}/{_stamp(to)}"
            path = f"regional/intensity/{window}/{self.region}" if self.region else f"intensity/{window}"
            piece = self._answer(await self._asked(client, path), now_s, begin_s=at, end_s=to)
            answer = piece if answer is None else joined(answer, piece)
            at = to
        if answer is None:
            raise BadAnswerError(f"{TITLE} was asked for an empty window", source=NAME)
        return answer

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        """The half hours to come, and the one that runs."""
        page = next((page for page in PAGE_HOURS if hours <= page), PAGE_HOURS[-1])
        begin_s = math.floor(now_s / STEP_S) * STEP_S
        stamp = f"{_stamp(begin_s + 60.0)}/fw{page}h"
        path = f"regional/intensity/{stamp}/{self.region}" if self.region else f"intensity/{stamp}"
        end_s = now_s + hours * 3600.0
        return self._answer(await self._asked(client, path), now_s, begin_s=begin_s, end_s=end_s)

    async def _asked(self, client: Client, path: str) -> Any:
        return await client.json(f"{self.access.url}/{path}", source=NAME)

    def _answer(
        self,
        said: Any,
        now_s: float,
        *,
        begin_s: float = -math.inf,
        end_s: float = math.inf,
        oldest_s: float | None = None,
    ) -> Answer:
        rows = [row for row in self._rows(said, now_s) if row[1] > begin_s and row[0] < end_s]
        note = (
            REGIONAL_NOTE if self.region else FORECAST_NOTE if any(row[3] is Quality.ESTIMATED for row in rows) else ""
        )
        return make_answer(self.traits, rows, now_s=now_s, note=note, oldest_s=oldest_s)

    def _rows(self, said: Any, now_s: float) -> Iterator[Row]:
        try:
            for item in _items(said["data"]):
                intensity = item["intensity"]
                from_s, to_s = utc_s(item["from"], self.traits), utc_s(item["to"], self.traits)
                actual = intensity.get("actual")
                if actual is not None:
                    yield from_s, to_s, actual, Quality.LIVE
                    continue
                has_begun = from_s <= now_s
                yield from_s, to_s, intensity.get("forecast"), Quality.ESTIMATED if has_begun else Quality.FORECAST
        except (KeyError, TypeError, AttributeError) as error:
            raise BadAnswerError(f"{TITLE} sent an answer of an unknown shape", source=NAME) from error


def _items(data: Any) -> Iterator[Any]:
    """The half hours in whatever the service wraps them: a list of them, a region that holds them, a list of one."""
    for part in data if isinstance(data, list) else [data]:
        if "intensity" in part:
            yield part
        else:
            yield from itertools.chain(part["data"])


def _stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%MZ")
