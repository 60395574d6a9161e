"""Electricity Maps: some 350 zones of the world, with a token.

What it says is average, consumption-based and flow-traced, with life-cycle factors unless the answer says otherwise.
The newest hours are nearly always estimates that are corrected later. A free token has the newest value and the last 24
hours of one zone; forecast and older values are paid for, and a question that was refused is not asked again.

Without a zone the service answers for the caller's address, so a zone or coordinates are always sent, and an answer for
another zone than the one asked is no answer. Coordinates are sent to two decimals (1 km): a zone needs no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.answer import Answer
from aiocarbon._core.intensity import FactorBasis, Location, Quality
from aiocarbon.errors import BadAnswerError, IntensityError, NoDataError, SourceRefusedError
from aiocarbon.intensity.base import Access, Row, Source, Traits, make_answer, shown, utc_s
from aiocarbon.intensity.wording import hidden, quoted

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client

__all__ = ["URL", "ElectricityMaps", "bind"]

NAME: Final = "electricitymaps"
TITLE: Final = "Electricity Maps"

URL: Final = "https://api.electricitymaps.com"
"""Base URL; one that ends in a version ("/v3") is used as it is."""

VERSIONS: Final = ("/v4", "/v3", "")
"""Tried in this order after a base URL without a version, the next one on a 404: v3 is legacy and still answered."""

LATEST: Final = "carbon-intensity/latest"
HISTORY: Final = "carbon-intensity/history"
PAST_RANGE: Final = "carbon-intensity/past-range"
FORECAST: Final = "carbon-intensity/forecast"

PAID: Final = frozenset({PAST_RANGE, FORECAST})
"""Questions that a plan may lack. The others are asked again: too many at once were seen to bring a 401, too."""

HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S
PIECE_S: Final = 10 * DAY_S
"""Longest time that `past-range` takes for hourly values."""

STEPS_S: Final = {"5_minutes": 300.0, "15_minutes": 900.0, "hourly": HOUR_S}
HORIZONS: Final = (6, 24, 48, 72)
"""What `horizonHours` may be."""

BASES: Final = {"lifecycle": FactorBasis.LIFE_CYCLE, "direct": FactorBasis.DIRECT}
METHOD: Final = "consumption-based, flow-traced"

REMEDY: Final = "export AIOCARBON_ELECTRICITYMAPS_TOKEN=...  # free at https://www.electricitymaps.com"
PLAN_REMEDY: Final = "check AIOCARBON_ELECTRICITYMAPS_TOKEN, and that its plan has this zone and this kind of question"
SANDBOX_REMEDY: Final = (
    "AIOCARBON_ELECTRICITYMAPS_TOKEN holds a sandbox token, whose values are made up: take another one"
)

_WHOLE_GB: Final = frozenset({"GB-ENG", "GB-SCT", "GB-WLS", "GB-GBN", "GB-EAW"})
_NO_ZONE: Final = re.compile("(US|CN)-(?!AK$)[A-Z0-9]{1,3}")
"""States and provinces that are no zones there: those of the US are three-part (US-CAL-CISO), but for Alaska."""


def bind(place: Location, access: Access) -> tuple[Source, ...]:
    """The source for any place that is known; none for states of the US and provinces of China without coordinates.

    Raises:
        SourceRefusedError: There is no token.
    """
    query = _query(place)
    if not query:
        return ()
    if not access.token:
        raise SourceRefusedError(f"{TITLE} wants a token", source=NAME, remedy=REMEDY)
    zone = query.get("zone", place.zone)
    traits = Traits(
        name=NAME,
        title=TITLE,
        zone=zone,
        factor_basis=FactorBasis.LIFE_CYCLE,
        step_s=HOUR_S,
        offset_s=600.0,
        stale_s=3 * HOUR_S,
        has_past=True,
        corrects=True,
        has_forecast=True,
        asked_at=" ".join((shown(access.url), place.zone, *query.values())),  # the note names the zone
    )
    note = METHOD if zone == place.zone else f"{METHOD}; values of all {zone}: there are none of {place.zone}"
    return (ElectricityMaps(traits=traits, access=access, query=query, note=note),)


def _query(place: Location) -> dict[str, str]:
    """The place as it is sent; empty if it has no name there."""
    if place.latitude is not None and place.longitude is not None:
        at = {"lat": f"{place.latitude:.2f}", "lon": f"{place.longitude:.2f}"}
        # Only here could it fall back to the caller's address unseen: which zone to expect is not known.
        return {**at, "shouldUseFallbackCallerLookup": "false"}
    zone = _zone(place.zone)
    return {"zone": zone} if zone else {}


def _zone(zone: str) -> str:
    """The zone's name there; empty if it has none."""
    if zone.startswith("GB:"):
        return "GB-NIR" if zone.startswith("GB:BT") else "GB"
    if zone == "WORLD" or _NO_ZONE.fullmatch(zone):
        return ""
    return "GB" if zone in _WHOLE_GB else zone


@dataclass(slots=True)
class _Memory:
    """What was learnt from answers: where they come from, and what was refused for good."""

    base: str | None = None
    refused: dict[str, tuple[str, int | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectricityMaps:
    """Electricity Maps, bound to a zone or to coordinates.

    Attributes:
        traits: What it is; the zone of coordinates is a guess there, and in an answer what the service says.
        access: How it is reached.
        query: The place, as it is sent.
        note: Stands with every answer.
    """

    traits: Traits
    access: Access = field(repr=False)
    query: Mapping[str, str]
    note: str
    _memory: _Memory = field(default_factory=_Memory, repr=False, compare=False)

    async def now(self, client: Client, now_s: float) -> Answer:
        """The newest value, measured or estimated; it may be that of the hour that begins next.

        Raises:
            IntensityError: It could not answer.
        """
        body = await self._asked(client, LATEST, {})
        answer = self._answer(body, [body], now_s, oldest_s=now_s - self.traits.stale_s)
        if answer.samples[0].from_s > now_s + HOUR_S:
            raise BadAnswerError(f"{TITLE} sent a value for a time to come as its newest", source=NAME)
        return answer

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        """Values between two instants; of the last 24 hours alone where the token's plan has no more.

        Raises:
            IntensityError: It could not answer, or has nothing of that time.
        """
        window = (begin_s, end_s)
        if begin_s < now_s - DAY_S:
            try:
                return await self._past_range(client, window, now_s)
            except SourceRefusedError:
                if end_s <= now_s - DAY_S:
                    raise
        body = await self._asked(client, HISTORY, {})
        return self._answer(body, _points(body), now_s, window=window)

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        """The forecast from the current hour on, for 6, 24, 48 or 72 hours: the first that is enough, at most 72.

        Raises:
            IntensityError: It could not answer; `SourceRefusedError` where the token's plan has no forecast.
        """
        horizon = next((h for h in HORIZONS if h >= hours), HORIZONS[-1])
        body = await self._asked(client, FORECAST, {"horizonHours": str(horizon)})
        points = _points(body)
        answer = self._answer(body, points, now_s, window=(now_s, float("inf")), quality=Quality.FORECAST)
        values = [point.get("carbonIntensity") for point in points]
        if len(values) >= 48 and values[:24] == values[24:48]:
            answer = replace(answer, note=f"{answer.note}; its second day repeats the first")
        return answer

    async def _past_range(self, client: Client, window: tuple[float, float], now_s: float) -> Answer:
        body: dict[str, Any] = {}
        points: list[dict[str, Any]] = []
        from_s = window[0] // HOUR_S * HOUR_S
        while from_s < window[1]:
            to_s = min(from_s + PIECE_S, -(-window[1] // HOUR_S) * HOUR_S)
            body = await self._asked(client, PAST_RANGE, {"start": _iso(from_s), "end": _iso(to_s)})
            self._zone_of(body)
            points += _points(body)
            from_s = to_s
        if not points:
            raise NoDataError(f"{TITLE} has no value of that time for {self.traits.zone}", source=NAME)
        return self._answer(body, points, now_s, window=window)

    async def _asked(self, client: Client, path: str, params: Mapping[str, str]) -> dict[str, Any]:
        """The body of an answer, an object.

        Raises:
            IntensityError: It could not answer; without the token in its text, whatever the service said.
        """
        if path in self._memory.refused:
            message, status = self._memory.refused[path]
            raise SourceRefusedError(message, source=NAME, remedy=PLAN_REMEDY, status=status)
        try:
            body = await self._asked_of_versions(client, path, params)
        except IntensityError as error:
            error.args = (str(error).replace(self.access.token, "..."),)
            if isinstance(error, SourceRefusedError) and error.status in (401, 403):
                error.remedy = PLAN_REMEDY
                if path in PAID:
                    self._memory.refused[path] = (str(error), error.status)
            raise
        if not isinstance(body, dict):
            raise BadAnswerError(f"{TITLE} sent no object", source=NAME)
        return dict(body)

    async def _asked_of_versions(self, client: Client, path: str, params: Mapping[str, str]) -> Any:
        url = self.access.url.rstrip("/")
        bases = [url + version for version in VERSIONS] if re.search(r"/v\d+$", url) is None else [url]
        if self._memory.base is not None:
            bases = [self._memory.base]
        for base in bases[:-1]:
            try:
                return await self._asked_at(client, base, path, params)
            except SourceRefusedError as error:
                if error.status != 404:
                    raise
        return await self._asked_at(client, bases[-1], path, params)

    async def _asked_at(self, client: Client, base: str, path: str, params: Mapping[str, str]) -> Any:
        body = await client.json(
            f"{base}/{path}",
            source=NAME,
            # The default, said so that no default of an account can stand in for it.
            params={**self.query, "emissionFactorType": "lifecycle", **params},
            headers={"auth-token": self.access.token},
        )
        self._memory.base = base
        return body

    def _answer(
        self,
        body: dict[str, Any],
        points: list[dict[str, Any]],
        now_s: float,
        *,
        window: tuple[float, float] = (float("-inf"), float("inf")),
        oldest_s: float | None = None,
        quality: Quality | None = None,
    ) -> Answer:
        zone = self._zone_of(body)
        rows = [row for row in self._rows(body, points, quality) if row[0] < window[1] and row[1] > window[0]]
        answer = make_answer(self.traits, rows, now_s=now_s, zone=zone, note=self.note, oldest_s=oldest_s)
        return replace(answer, factor_basis=_basis(body, points))

    def _rows(self, body: dict[str, Any], points: list[dict[str, Any]], quality: Quality | None) -> Iterator[Row]:
        for point in points:
            if "SANDBOX_MODE_DATA" in (point.get("estimationMethod"), body.get("estimationMethod")):
                raise BadAnswerError(f"{TITLE} sent values of its sandbox", source=NAME, remedy=SANDBOX_REMEDY)
            from_s = utc_s(point.get("datetime"), self.traits)
            granularity = point.get("temporalGranularity", body.get("temporalGranularity")) or "hourly"
            if not isinstance(granularity, str) or granularity not in STEPS_S:
                raise BadAnswerError(f"{TITLE} sent values of {quoted(granularity)!r}, not of hours", source=NAME)
            how = quality or (Quality.ESTIMATED if point.get("isEstimated") else Quality.LIVE)
            yield from_s, from_s + STEPS_S[granularity], point.get("carbonIntensity"), how

    def _zone_of(self, body: dict[str, Any]) -> str:
        """The zone that an answer is for.

        Raises:
            BadAnswerError: It is none, or not the one that was asked for.
        """
        zone, asked = body.get("zone"), self.query.get("zone")
        # What comes back of what was sent is no zone, unless a zone was sent.
        is_other = isinstance(zone, str) and (hidden(zone) != zone if asked is None else zone.upper() != asked)
        if not isinstance(zone, str) or not zone or is_other:
            raise BadAnswerError(f"{TITLE} answered for {quoted(zone)!r}, not for {self.traits.zone}", source=NAME)
        return zone.upper()


def _points(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The list of an answer, which has another name with each question and version."""
    points = next((body[key] for key in ("data", "history", "forecast") if key in body), None)
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise BadAnswerError(f"{TITLE} sent no list of values", source=NAME)
    return points


def _basis(body: dict[str, Any], points: list[dict[str, Any]]) -> FactorBasis:
    """The one factor basis of all values; life-cycle, which was asked for, where the answer does not say."""
    said = {str(item["emissionFactorType"]) for item in (body, *points) if item.get("emissionFactorType") is not None}
    if len(said) > 1:
        raise BadAnswerError(f"{TITLE} sent values of several factor bases as one", source=NAME)
    return BASES.get(said.pop(), FactorBasis.UNKNOWN) if said else FactorBasis.LIFE_CYCLE


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
