"""Energi Data Service of Energinet: Denmark's two price areas by five minutes, and a forecast to the end of the day.

Facts: energidataservice.dk/guides/api-guides and the pages of the data sets `CO2Emis`, `CO2EmisProg` and
`PowerSystemRightNow`. Average, direct emissions of what is consumed (production and exchange, 125 % method for heat).
Its columns `...UTC` are UTC without saying so; those of Danish time, whose October night repeats an hour, are not used.
One question a data set and minute is allowed, so one brings both areas.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.answer import Answer
from aiocarbon._core.intensity import FactorBasis, Location, Quality
from aiocarbon.errors import BadAnswerError, NoDataError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.base import Access, Row, Source, Traits, joined, make_answer, shown, utc_s

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client

__all__ = ["URL", "EnergiDataService", "bind"]

NAME: Final = "energidataservice"
TITLE: Final = "Energi Data Service (Energinet)"
URL: Final = "https://api.energidataservice.dk"

AREAS: Final = {"DK-DK1": "DK1", "DK-DK2": "DK2", "DK": ""}
"""Price areas by zone; the whole country has a data set of its own."""

STEP_S: Final = 300.0
OFFSET_S: Final = 150.0
"""Assumed: a five minutes' value is there two to three minutes into it; what comes later is brought by later answers,
each of which holds the last half hour."""

STALE_S: Final = 1800.0
FORECAST_EVERY_S: Final = 900.0
PIECE_S: Final = 2 * 86400.0
"""576 records an area, some 75 kB."""

THROTTLED_S: Final = 300.0
"""Pause after a 403, which the service sends those who ask too often (MTrab/energidataservice, issues 772, 784)."""

MEAN_NOTE: Final = "the forecast is the mean of the two price areas'"


def bind(place: Location, access: Access) -> tuple[Source, ...]:
    """The source of a price area or of Denmark; none elsewhere, and none for Bornholm, which has a feed of its own."""
    if place.zone not in AREAS:
        return ()
    traits = Traits(
        name=NAME,
        title=TITLE,
        zone=place.zone,
        factor_basis=FactorBasis.DIRECT,
        step_s=STEP_S,
        offset_s=OFFSET_S,
        stale_s=STALE_S,
        has_past=True,
        has_forecast=True,
        forecast_every_s=FORECAST_EVERY_S,
        asked_at=shown(access.url),
    )
    return (EnergiDataService(traits, access),)


@dataclass(frozen=True)
class EnergiDataService:
    """The service for one zone.

    Attributes:
        traits: What it is.
        access: How it is reached.
    """

    traits: Traits
    access: Access = field(repr=False)

    @property
    def _area(self) -> str:
        return AREAS[self.traits.zone]

    async def now(self, client: Client, now_s: float) -> Answer:
        """The values of the last half hour and the newest one."""
        oldest_s = now_s - self.traits.stale_s
        if self._area:
            params = {"start": "now-PT30M", "sort": "Minutes5UTC desc", "limit": "12"}
            said = await self._asked(client, "CO2Emis", params)
            return make_answer(self.traits, self._of_area(said, Quality.LIVE), now_s=now_s, oldest_s=oldest_s)
        said = await self._asked(client, "PowerSystemRightNow", {"sort": "Minutes1UTC desc", "limit": "30"})
        return make_answer(self.traits, self._of_country(said), now_s=now_s, oldest_s=oldest_s)

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        """All values of a window."""
        answer: Answer | None = None
        at = begin_s
        # The country's records are of single minutes: a fifth of the time in one answer.
        longest_s = PIECE_S if self._area else PIECE_S / 5.0
        while at < end_s:
            to = min(at + longest_s, end_s)
            window = {
                "start": _stamp(at),
                "end": _stamp(math.ceil(to / STEP_S) * STEP_S),
                "timezone": "UTC",
                "limit": "0",
            }
            if self._area:
                where = json.dumps({"PriceArea": [self._area]}, separators=(",", ":"))
                said = await self._asked(client, "CO2Emis", {**window, "filter": where, "sort": "Minutes5UTC asc"})
                rows = list(self._of_area(said, Quality.LIVE))
            else:
                columns = {"columns": "Minutes1UTC,CO2Emission", "sort": "Minutes1UTC asc"}
                rows = list(self._of_country(await self._asked(client, "PowerSystemRightNow", {**window, **columns})))
            piece = make_answer(self.traits, rows, now_s=now_s)
            answer = piece if answer is None else joined(answer, piece)
            at = to
        if answer is None:
            raise NoDataError(f"{TITLE} was asked for an empty window", source=NAME)
        return answer

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        """Five minutes' values to the end of the day, at least nine hours."""
        params = {"start": "now", "sort": "Minutes5UTC asc", "limit": "0"}
        said = await self._asked(client, "CO2EmisProg", params)
        end_s = now_s + hours * 3600.0
        if self._area:
            rows = self._of_area(said, Quality.FORECAST)
            return make_answer(self.traits, [row for row in rows if row[0] < end_s], now_s=now_s)
        return make_answer(
            self.traits, [row for row in self._means(said) if row[0] < end_s], now_s=now_s, note=MEAN_NOTE
        )

    async def _asked(self, client: Client, dataset: str, params: dict[str, str]) -> list[dict[str, Any]]:
        """The records of a data set.

        Raises:
            SourceDownError: It does not answer, or was asked too often.
            NoDataError: It has none.
            BadAnswerError: It sent something else.
        """
        try:
            said = await client.json(f"{self.access.url}/dataset/{dataset}", source=NAME, params=params)
        except SourceRefusedError as error:
            if error.status != 403:
                raise
            raise SourceDownError(
                f"{TITLE} was asked too often: {error}", source=NAME, status=403, retry_after_s=THROTTLED_S
            ) from error
        records = said.get("records") if isinstance(said, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise BadAnswerError(f"{TITLE} sent an answer of an unknown shape", source=NAME)
        return records

    def _of_area(self, records: list[dict[str, Any]], quality: Quality) -> Iterator[Row]:
        for record in records:
            if record.get("PriceArea") == self._area:
                from_s = utc_s(record.get("Minutes5UTC"), self.traits)
                yield from_s, from_s + STEP_S, record.get("CO2Emission"), quality

    def _of_country(self, records: list[dict[str, Any]]) -> Iterator[Row]:
        """The records on borders of five minutes, and the newest one."""
        found = sorted((utc_s(r.get("Minutes1UTC"), self.traits), n) for n, r in enumerate(records))
        for at, n in found:
            if at % STEP_S == 0.0 or (at, n) == found[-1]:
                yield at, (at // STEP_S + 1.0) * STEP_S, records[n].get("CO2Emission"), Quality.LIVE

    def _means(self, records: list[dict[str, Any]]) -> Iterator[Row]:
        """The mean of both areas, where both have a number."""
        both: dict[float, list[float]] = {}
        for record in records:
            value = record.get("CO2Emission")
            if isinstance(value, int | float) and not isinstance(value, bool):
                both.setdefault(utc_s(record.get("Minutes5UTC"), self.traits), []).append(float(value))
        for from_s, values in both.items():
            if len(values) == 2:
                yield from_s, from_s + STEP_S, sum(values) / 2.0, Quality.FORECAST


def _stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M")
