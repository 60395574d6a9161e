"""Where this machine is, asked of others, and whom to ask for its intensity.

The cloud's metadata, else two geolocation services, are asked where the first answer was a guess and the user allows
packets; what the services agreed on is kept for a day.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.intensity import Location
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.surroundings import Surroundings
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
    """

    location: Location
    notice: str = ""


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
    return await _geolocated(exchange, place, environ)


async def _geolocated(exchange: Exchange, place: Location, environ: Mapping[str, str]) -> Found:
    from aiocarbon.intensity import geolocation, table

    whys: list[str] = []

    async def find() -> str:
        assert exchange.client is not None
        said = await geolocation.country(exchange.client, environ=environ)
        whys.append(said.why)
        return "" if said.place is None else said.place.zone

    zone, is_fresh = await exchange.remembered(f"place {geolocation.asked(environ)}", PLACE_KEPT_S, find)
    asked = "its country was asked of two web services (geojs.io, ipinfo.io)"
    notice = f"where this machine is was not said, so {asked}; give location=, or offline=True to send nothing"
    if not zone:
        why = f": {whys[0]}" if whys and whys[0] else ""
        return Found(location=place, notice=f"{notice}; they did not settle it{why}" if is_fresh else "")
    known = await exchange.blocking(table.parse_zone, zone)
    known = replace(known, how="geolocation", note="two web services agreed: geojs.io, ipinfo.io")
    return Found(location=known, notice=notice if is_fresh else "")


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
