"""Where this machine is, asked of others, and whom to ask for its intensity.

The cloud's metadata, else two geolocation services, are asked where the first answer was a guess and the user allows
packets; what the services agreed on is kept for a day. Where one of them failed, they are left alone for growing pauses
(30 s to 15 min), by all processes of the user.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.intensity import Location
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.surroundings import Surroundings
from aiocarbon.errors import SourceDownError
from aiocarbon.settings import Settings

if TYPE_CHECKING:
    from aiocarbon.intensity.sources import Link

PLACE_KEPT_S: Final = 86400.0
"""How long it is believed that a machine is where it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What others said of where this machine is.

    Attributes:
        location: Where; still a guess if nobody said.
        notice: What the user should know of how it was found out; empty if nothing.
        is_asked: True if packets were sent for it just now, beyond the cloud's metadata service.
        again_in_s: Seconds until it is worth asking again; infinite where it is not: it is known, or the services
            answered and did not agree.
    """

    location: Location
    notice: str = ""
    is_asked: bool = False
    again_in_s: float = math.inf


async def locate(exchange: Exchange, first: Surroundings, environ: Mapping[str, str] = os.environ) -> Found:
    """The second answer: by the cloud's metadata, else by two geolocation services that agree.

    Args:
        exchange: The way out; without one nothing is asked.
        first: The first answer; one that is no guess is all there is to say.
        environ: Where base URLs are looked up.
    """
    place, client = first.location, exchange.client
    if not place.is_guess or client is None:
        return Found(location=place)
    if first.cloud is not None:
        from aiocarbon.intensity import cloud

        region = await cloud.region(client, first.cloud, environ=environ)
        found = None
        if region is not None:
            found = await exchange.blocking(cloud.place_of, region.provider, region.name, region.note)
        if found is not None:
            return Found(location=found)
    return await geolocate(exchange, place, environ)


async def geolocate(exchange: Exchange, guess: Location, environ: Mapping[str, str] = os.environ) -> Found:
    """Where two geolocation services agree that this machine is; the guess where they do not.

    Args:
        exchange: The way out, which is there.
        guess: What is known without them.
        environ: Where base URLs are looked up.
    """
    from aiocarbon.intensity import geolocation, table

    async def find() -> tuple[str, str]:
        assert exchange.client is not None
        said = await geolocation.country(exchange.client, environ=environ)
        if said.has_failed:
            raise SourceDownError(said.why)
        return "" if said.place is None else said.place.zone, said.why

    entry, is_fresh = await exchange.remembered(f"place {geolocation.asked(environ)}", PLACE_KEPT_S, find)
    asked = "its country was asked of two web services (geojs.io, ipinfo.io)"
    notice = f"where this machine is was not said, so {asked}; give location=, or offline=True to send nothing"
    if entry.is_left_alone(exchange.now_s):
        when = "" if is_fresh else f" at {_time(entry.failed_s)}"
        return Found(
            location=guess,
            notice=f"{notice}; they did not settle it{when}: {entry.why}; they are asked again from "
            f"{_time(entry.not_before_s)} on",
            is_asked=is_fresh,
            again_in_s=entry.not_before_s - exchange.now_s,
        )
    if not entry.place:
        return Found(location=guess, notice=f"{notice}; they did not settle it: {entry.why}", is_asked=is_fresh)
    known = await exchange.blocking(table.parse_zone, entry.place)
    known = replace(known, how="geolocation", note="two web services agreed: geojs.io, ipinfo.io")
    return Found(location=known, notice=notice if is_fresh else "", is_asked=is_fresh)


def _time(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M:%S} UTC"


def is_own(settings: Settings) -> bool:
    """True if the user's own file or URL says the intensity, wherever the machine is."""
    named = settings.intensity
    return isinstance(named, str) and ("/" in named or os.sep in named)


def chain_of(
    settings: Settings, place: Location, blocking: Any, environ: Mapping[str, str] = os.environ
) -> tuple[Link, ...]:
    """The sources that a run asks, in their order; blocking.

    Raises:
        ConfigError: The user's own file cannot be read.
    """
    from aiocarbon.intensity import sources

    named = settings.intensity
    if isinstance(named, str) and named not in sources.names():
        from aiocarbon.intensity.own import open_own

        own = sources.Link(name="own", source=open_own(named, place, blocking))
        return (own, *sources.chain(place, environ=environ))
    return sources.chain(place, named if isinstance(named, str) else None, environ=environ)
