"""WattTime: marginal intensity, every five minutes, with an account.

What it gives (`co2_moer`) is what one more kilowatt-hour causes at the plant that answers it: direct CO2, not to be
compared with averages and no footprint. So it is asked only where the user names it, and every answer says "marginal".

The account is `user:password`, which is exchanged for a token of 30 minutes, or such a token itself. Neither, nor the
password or a token that an answer repeats, gets into an error's text. Coordinates are sent to two decimals (1 km).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiocarbon import data
from aiocarbon._core.answer import Answer
from aiocarbon._core.intensity import FactorBasis, IntensityKind, Location, Quality
from aiocarbon._core.units import KG_PER_LB
from aiocarbon.errors import BadAnswerError, IntensityError, NoDataError, SourceRefusedError
from aiocarbon.intensity.base import Access, Row, Source, Traits, in_pieces, make_answer, shown, utc_s

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client

__all__ = ["URL", "WattTime", "bind"]

NAME: Final = "watttime"
TITLE: Final = "WattTime"

URL: Final = "https://api.watttime.org"
"""Base URL, of `/login` and of `/v3`."""

SIGNAL: Final = "co2_moer"
UNITS: Final = "lbs_co2_per_mwh"
G_PER_KWH_PER_LB_PER_MWH: Final = KG_PER_LB
"""The thousand grams of a kilogram and the thousand kilowatt-hours of a megawatt-hour cancel."""

MOST_LB_PER_MWH: Final = 1e6
"""Above it nothing is converted: an integer of JSON may be too large for a float."""

STEP_S: Final = 300.0
STALE_S: Final = 1800.0
HOUR_S: Final = 3600.0
PIECE_S: Final = 2 * 86400.0
"""Longest time asked for at once: 577 values, a fourth of what an answer may hold; the service would give 32 days."""

MOST_HOURS: Final = 72
BEARER_S: Final = 25 * 60.0
"""A token of 30 minutes is used for 25, so that none runs out under way."""

NOTE: Final = "marginal: what one more kWh causes"
MOST_WARNING: Final = 200

REMEDY: Final = "export AIOCARBON_WATTTIME_TOKEN=user:password  # how to register: https://watttime.org"
PLAN_REMEDY: Final = "a free account has values of CAISO_NORTH only: https://watttime.org"
PLACE_REMEDY: Final = "give coordinates as the location, such as 37.77,-122.42"


def bind(place: Location, access: Access) -> tuple[Source, ...]:
    """The source for a place with coordinates, or in a zone of the bundled table.

    Raises:
        SourceRefusedError: There is no account, or the place's region is not known; it is asked for only by name, so
            the user is to know why it does not answer.
    """
    if not access.token:
        raise SourceRefusedError(f"{TITLE} wants an account", source=NAME, remedy=REMEDY)
    coordinates: dict[str, str] = {}
    region = ""
    if place.latitude is not None and place.longitude is not None:
        coordinates = {"latitude": f"{place.latitude:.2f}", "longitude": f"{place.longitude:.2f}"}
    else:
        region = _region_of(place.zone)
        if not region:
            raise SourceRefusedError(
                f"the region of {TITLE} is not known for {place.zone}", source=NAME, remedy=PLACE_REMEDY
            )
    traits = Traits(
        name=NAME,
        title=TITLE,
        zone=region or place.zone,
        kind=IntensityKind.MARGINAL,
        factor_basis=FactorBasis.DIRECT,
        step_s=STEP_S,
        offset_s=STEP_S,
        stale_s=STALE_S,
        has_past=True,
        corrects=True,
        has_forecast=True,
        forecast_every_s=STEP_S,
        asked_at=" ".join((shown(access.url), *coordinates.values())),
    )
    return (WattTime(traits=traits, access=access, coordinates=coordinates, region=region),)


def _region_of(zone: str) -> str:
    """The region of a zone; empty if it is not in the table. Reads a bundled file the first time."""
    if zone.startswith("GB:") and not zone.startswith("GB:BT"):
        zone = "GB"
    return next((row["region"] for row in data.rows("watttime_regions") if row["zone"] == zone), "")


@dataclass(slots=True)
class _Memory:
    """What was learnt from answers: the tokens of the last two logins, and the region of the coordinates."""

    bearer: str = ""
    bearer_before: str = ""
    since_s: float = 0.0
    region: str = ""
    lock: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(frozen=True, slots=True, kw_only=True)
class WattTime:
    """WattTime, bound to a region or to coordinates.

    Attributes:
        traits: What it is; its zone is the region, or, with coordinates, that of the place until an answer names it.
        access: How it is reached.
        coordinates: Of the place, as they are sent; empty if the region is known.
        region: Its name for the region; empty if coordinates tell it.
    """

    traits: Traits
    access: Access = field(repr=False)
    coordinates: Mapping[str, str]
    region: str
    _memory: _Memory = field(default_factory=_Memory, repr=False, compare=False)

    async def now(self, client: Client, now_s: float) -> Answer:
        """What was found for the last hour; where there is nothing of it, the forecast of the next.

        The past goes first, because it is what `past` will say of this time later, and not a guess. Which of the two an
        account has differs, so the other one stands in.

        Raises:
            IntensityError: It could not answer.
        """
        region = await self._region(client, now_s)
        try:
            return await self._found(client, region, now_s - HOUR_S, now_s, now_s, oldest_s=now_s - STALE_S)
        except NoDataError:
            pass
        except SourceRefusedError as error:
            if error.status != 403:
                raise
        return await self.forecast(client, now_s, 1.0)

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        """What was found between two instants; asked for in pieces of two days.

        Raises:
            IntensityError: It could not answer, or has nothing of that time.
        """
        region = await self._region(client, now_s)

        async def ask(at: float, to: float) -> Answer:
            return await self._found(client, region, max(at, begin_s), min(to, end_s, now_s), now_s)

        return await in_pieces(self.traits, begin_s, min(end_s, now_s), PIECE_S, ask)

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        """The forecast from now on, for at most 72 hours.

        Raises:
            IntensityError: It could not answer, or has no forecast.
        """
        region = await self._region(client, now_s)
        horizon = min(max(-int(-hours // 1), 1), MOST_HOURS)
        body = await self._asked(client, "v3/forecast", {"region": region, "horizon_hours": str(horizon)}, now_s)
        rows = self._rows(body, region, (now_s, now_s + horizon * HOUR_S), Quality.FORECAST)
        return make_answer(self.traits, rows, now_s=now_s, zone=region, note=self._note(body))

    async def _found(
        self,
        client: Client,
        region: str,
        begin_s: float,
        end_s: float,
        now_s: float,
        *,
        oldest_s: float | None = None,
    ) -> Answer:
        """One piece of the past."""
        times = {"start": _iso(begin_s // STEP_S * STEP_S), "end": _iso(end_s)}
        body = await self._asked(client, "v3/historical", {"region": region, **times}, now_s)
        rows = self._rows(body, region, (begin_s, end_s), Quality.LIVE)
        return make_answer(self.traits, rows, now_s=now_s, zone=region, note=self._note(body), oldest_s=oldest_s)

    async def _region(self, client: Client, now_s: float) -> str:
        if self.region:
            return self.region
        if not self._memory.region:
            body = await self._asked(client, "v3/region-from-loc", self.coordinates, now_s)
            region = body.get("region")
            if not isinstance(region, str) or not region.strip():
                raise BadAnswerError(f"{TITLE} named no region for the coordinates", source=NAME)
            self._memory.region = region
        return self._memory.region

    # -- asking ------------------------------------------------------------------------------------------------

    async def _asked(self, client: Client, path: str, params: Mapping[str, str], now_s: float) -> dict[str, Any]:
        """The body of an answer; where a login's token is not taken any more, after one new login."""
        params = {**params, "signal_type": SIGNAL}
        bearer = await self._bearer(client, now_s)
        try:
            return await self._got(client, path, params, f"Bearer {bearer}")
        except SourceRefusedError as error:
            if error.status != 401 or bearer == self.access.token:
                raise
        bearer = await self._bearer(client, now_s, spent=bearer)
        return await self._got(client, path, params, f"Bearer {bearer}")

    async def _bearer(self, client: Client, now_s: float, *, spent: str = "") -> str:
        """A token that is not `spent`: the user's own, that of the last login, or that of a new one."""
        if ":" not in self.access.token:
            return self.access.token
        memory = self._memory
        async with memory.lock:
            if not memory.bearer or memory.bearer == spent or not 0.0 <= now_s - memory.since_s < BEARER_S:
                basic = f"Basic {_in_base64(self.access.token)}"  # RFC 7617
                token = (await self._got(client, "login", {}, basic)).get("token")
                if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token.strip():
                    raise BadAnswerError(f"{TITLE} sent no token", source=NAME)
                memory.bearer, memory.bearer_before, memory.since_s = token, memory.bearer, now_s
            return memory.bearer

    async def _got(self, client: Client, path: str, params: Mapping[str, str], authorization: str) -> dict[str, Any]:
        url = f"{self.access.url.rstrip('/').removesuffix('/v3')}/{path}"
        try:
            body = await client.json(url, source=NAME, params=params, headers={"Authorization": authorization})
        except IntensityError as error:
            error.args = (self._cleared(str(error), authorization.partition(" ")[2]),)
            if isinstance(error, SourceRefusedError):
                error.remedy = {401: REMEDY, 403: REMEDY if path == "login" else PLAN_REMEDY}.get(error.status or 0, "")
            raise
        if not isinstance(body, dict):
            raise BadAnswerError(f"{TITLE} sent no object", source=NAME)
        return body

    def _cleared(self, text: str, credentials: str = "") -> str:
        """A text of the service's without what it may have repeated of the account."""
        account, memory = self.access.token, self._memory
        known = (account, account.partition(":")[2], _in_base64(account), memory.bearer, memory.bearer_before)
        for secret in (credentials, *known):
            text = text.replace(secret, "...") if secret else text
        return text

    # -- reading -----------------------------------------------------------------------------------------------

    def _rows(
        self, body: Mapping[str, Any], region: str, window: tuple[float, float], quality: Quality
    ) -> Iterator[Row]:
        meta, points = body.get("meta"), body.get("data")
        if not isinstance(meta, dict) or not isinstance(points, list):
            raise BadAnswerError(f"{TITLE} sent no list of values", source=NAME)
        for key, wanted in (("units", UNITS), ("region", region), ("signal_type", SIGNAL)):
            if meta.get(key) != wanted:
                said = self._cleared(str(meta.get(key)))[:40]
                raise BadAnswerError(f"{TITLE} sent values with {key} {said!r}, not {wanted!r}", source=NAME)
        step_s = _step_s(meta.get("data_point_period_seconds"))
        for point in points:
            if not isinstance(point, dict):
                raise BadAnswerError(f"{TITLE} sent no list of values", source=NAME)
            from_s = utc_s(point.get("point_time"), self.traits)
            if from_s < window[1] and from_s + step_s > window[0]:
                is_imputed = quality is Quality.LIVE and bool(point.get("imputed_data_used"))
                how = Quality.ESTIMATED if is_imputed else quality
                yield from_s, from_s + step_s, _g_per_kwh(point.get("value")), how

    def _note(self, body: Mapping[str, Any]) -> str:
        """That it is marginal, and what the service warns of, on one line."""
        meta = body.get("meta")
        warnings = meta.get("warnings") if isinstance(meta, dict) else None
        found = [w for w in warnings if isinstance(w, dict)] if isinstance(warnings, list) else []
        said = [w.get("message") or w.get("type") for w in found]
        text = " ".join(self._cleared("; ".join(str(message) for message in said if message)).split())
        return f"{NOTE}; {text[:MOST_WARNING]}" if text else NOTE


def _in_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode("ascii")


def _g_per_kwh(value: object) -> object:
    """A value in lb/MWh as g/kWh; what is no number, or an absurd one, as it came: it is refused with all others."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if not -MOST_LB_PER_MWH < value < MOST_LB_PER_MWH:
        raise BadAnswerError(f"{TITLE} sent an absurd value", source=NAME)
    return value * G_PER_KWH_PER_LB_PER_MWH


def _step_s(said: object) -> float:
    is_step = isinstance(said, int | float) and not isinstance(said, bool) and 60 <= said <= HOUR_S
    return float(said) if is_step and isinstance(said, int | float) else STEP_S


def _iso(at_s: float) -> str:
    """To the minute before, as the documented examples have it."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%MZ")
