"""Energi Data Service of Energinet: Denmark's two price areas by five minutes, and a forecast to the end of the day.

Facts: energidataservice.dk/guides/api-guides and the pages of the data sets `CO2Emis`, `CO2EmisProg` and
`PowerSystemRightNow`. Average, direct emissions of what is consumed (production and exchange, 125 % method for heat).
Its columns `...UTC` are UTC without saying so; those of Danish time, whose October night repeats an hour, are not used.
Since 2025-08-26 it allows one question a data set, minute and address (MTrab/energidataservice, issue 784): so one
brings both areas, a failure is not followed by another try within the minute, and the past is asked for in pieces as
long as the client's limits on an answer allow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.answer import Answer
from aiocarbon._core.intensity import MAX_G_PER_KWH, FactorBasis, Location, Quality
from aiocarbon.errors import BadAnswerError, IntensityError, SourceDownError, SourceRefusedError
from aiocarbon.intensity.base import Access, Row, Source, Traits, in_pieces, make_answer, shown, utc_s

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
SPACING_S: Final = 61.0
"""One question a data set, minute and address is allowed (MTrab/energidataservice, issue 784); a second to be sure."""

PIECE_S: Final = 7 * 86400.0
"""Asked for at once of an area: 2,016 records of three columns, 170 kB, 8,100 values."""

COUNTRY_MINUTES: Final = 35
"""Asked for of the country: the last half hour in whole five minutes."""

COUNTRY_PIECE_S: Final = 36 * 3600.0
"""Asked for at once of the country, whose records are of single minutes: 2,160 of two columns, 140 kB, 6,500 values."""

THROTTLED_S: Final = 300.0
"""Least pause after a 429 or 403, which the service sends those who ask too often (MTrab/energidataservice, issues 772,
784, 786)."""

MINUTE_S: Final = 60.0
"""Least pause after any other failure that it answered with."""

MEAN_NOTE: Final = "the forecast is the mean of the two price areas' forecasts"


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
        spacing_s=SPACING_S,
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
        """The values of the last half hour.

        Raises:
            IntensityError: It could not answer, or its newest value is older than `stale_s`.
        """
        if self._area:
            params = {"start": "now-PT30M", "sort": "Minutes5UTC desc", "limit": "12"}
            rows = list(self._of_area(await self._asked(client, "CO2Emis", params), Quality.LIVE))
        else:
            params = {"sort": "Minutes1UTC desc", "limit": f"{COUNTRY_MINUTES}"}
            minutes = await self._asked(client, "PowerSystemRightNow", params)
            # Of the five minutes that the oldest is amid, the first ones were not sent; a better mean is known.
            oldest_s = min((at for _, at, _ in self._read(minutes, "Minutes1UTC", has_area=False)), default=now_s)
            rows = [row for row in self._of_country(minutes) if row[0] >= oldest_s]
        # A machine's clock may be slow by a little; nothing later can have been measured.
        begun = [row for row in rows if row[0] <= now_s + STEP_S]
        return make_answer(self.traits, begun, now_s=now_s, oldest_s=now_s - self.traits.stale_s)

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        """All values of a window; asked for in pieces, of which the service may allow one a minute.

        Raises:
            IntensityError: It could not answer, or has nothing of that time.
        """

        async def ask(at: float, to: float) -> Answer:
            over = [row for row in await self._between(client, at, to) if at <= row[0] < min(to, now_s)]
            return make_answer(self.traits, over, now_s=now_s)

        return await in_pieces(self.traits, begin_s, end_s, PIECE_S if self._area else COUNTRY_PIECE_S, ask)

    async def _between(self, client: Client, begin_s: float, end_s: float) -> list[Row]:
        # The end is exclusive, and both would be Danish time if it were not said.
        window = {"start": _stamp(begin_s), "end": _stamp(end_s), "timezone": "UTC", "limit": "0"}
        if self._area:
            where = json.dumps({"PriceArea": [self._area]}, separators=(",", ":"))
            columns = {"columns": "Minutes5UTC,PriceArea,CO2Emission", "sort": "Minutes5UTC asc", "filter": where}
            return list(self._of_area(await self._asked(client, "CO2Emis", {**window, **columns}), Quality.LIVE))
        columns = {"columns": "Minutes1UTC,CO2Emission", "sort": "Minutes1UTC asc"}
        return list(self._of_country(await self._asked(client, "PowerSystemRightNow", {**window, **columns})))

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        """Five minutes' values from now on to the end of the day, at least nine hours.

        Raises:
            IntensityError: It could not answer, or has no forecast.
        """
        # From five minutes ago: from now it would begin with the next five minutes, not with those that run.
        params = {"start": "now-PT5M", "sort": "Minutes5UTC asc", "limit": "0"}
        said = await self._asked(client, "CO2EmisProg", params)
        rows = self._of_area(said, Quality.FORECAST) if self._area else self._means(said)
        end_s = now_s + hours * 3600.0
        ahead = [row for row in rows if row[1] > now_s and row[0] < end_s]
        return make_answer(self.traits, ahead, now_s=now_s, note="" if self._area else MEAN_NOTE)

    async def _asked(self, client: Client, dataset: str, params: dict[str, str]) -> list[dict[str, Any]]:
        """The records of a data set.

        Raises:
            SourceDownError: It does not answer, or was asked too often.
            SourceRefusedError: It refuses for another reason.
            BadAnswerError: It sent something else.
        """
        try:
            said = await client.json(f"{self.access.url}/dataset/{dataset}", source=NAME, params=params)
        except SourceRefusedError as error:
            if error.status != 403:
                raise
            raise _down(error, 403, THROTTLED_S) from error
        except SourceDownError as error:
            if error.status is None:  # nothing was answered: it may not have been reached at all
                raise
            pause_s = THROTTLED_S if error.status == 429 else MINUTE_S
            raise _down(error, error.status, max(pause_s, error.retry_after_s or 0.0)) from error
        except BadAnswerError as error:
            # Whatever it was, it counts as this minute's answer.
            raise BadAnswerError(str(error), source=NAME) from error
        records = said.get("records") if isinstance(said, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise BadAnswerError(f"{TITLE} sent an answer of an unknown shape", source=NAME)
        return records

    def _of_area(self, records: list[dict[str, Any]], quality: Quality) -> Iterator[Row]:
        for area, from_s, value in self._read(records, "Minutes5UTC"):
            if area == self._area:
                yield from_s, from_s + STEP_S, value, quality

    def _of_country(self, records: list[dict[str, Any]]) -> Iterator[Row]:
        """The means of the minutes of each five, as far as they are there."""
        slots: dict[float, list[object]] = {}
        for _, at, value in self._read(records, "Minutes1UTC", has_area=False):
            slots.setdefault(at // STEP_S * STEP_S, []).append(value)
        for from_s, values in slots.items():
            yield from_s, from_s + STEP_S, _mean(values), Quality.LIVE

    def _means(self, records: list[dict[str, Any]]) -> Iterator[Row]:
        """The mean of both areas, where both have a value."""
        both: dict[float, dict[str, object]] = {}
        for area, from_s, value in self._read(records, "Minutes5UTC"):
            if area in AREAS.values():
                both.setdefault(from_s, {})[area] = value
        for from_s, values in both.items():
            if len(values) == 2 and None not in values.values():
                yield from_s, from_s + STEP_S, _mean(list(values.values())), Quality.FORECAST

    def _read(
        self, records: list[dict[str, Any]], time: str, *, has_area: bool = True
    ) -> Iterator[tuple[str, float, object]]:
        """Area, begin (UTC seconds) and value of each record."""
        for record in records:
            area = record.get("PriceArea") if has_area else ""
            if not isinstance(area, str) or "CO2Emission" not in record:
                raise BadAnswerError(f"{TITLE} sent a record of an unknown shape", source=NAME)
            yield area, utc_s(record.get(time), self.traits), record["CO2Emission"]


def _mean(values: list[object]) -> object:
    """The mean of those that are there; what is no intensity is given back as it is, to be refused as that."""
    numbers: list[float] = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= MAX_G_PER_KWH:
            if value is not None:
                return value
        else:
            numbers.append(float(value))
    return sum(numbers) / len(numbers) if numbers else None


def _down(error: IntensityError, status: int, pause_s: float) -> SourceDownError:
    why = f"{TITLE} was asked too often: {error}" if pause_s >= THROTTLED_S else str(error)
    return SourceDownError(why, source=NAME, status=status, retry_after_s=pause_s)


def _stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M")
