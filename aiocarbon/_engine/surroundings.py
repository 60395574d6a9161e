"""Where a run takes place and who is asked for its intensity: a first answer at once, a better one afterwards.

The first answer reads small files in a worker. The second asks the cloud's metadata, else two geolocation services,
where the first one was a guess and the user allows packets; what the services agreed on is kept for a day.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.intensity import IntensityValue, Location, Pue
from aiocarbon.settings import Settings, origin

if TYPE_CHECKING:
    from aiocarbon._engine.exchange import Exchange
    from aiocarbon.intensity.sources import Link

PLACE_KEPT_S: Final = 86400.0
"""How long it is believed that a machine is where it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a run takes place, as far as small files tell.

    Attributes:
        location: Where; a guess where nobody said so.
        intensity: What counts until a source has answered, and where none does.
        pue: Power usage effectiveness.
        cloud: The provider that the firmware names; None if none.
    """

    location: Location
    intensity: IntensityValue
    pue: Pue
    cloud: str | None = None


def surroundings(
    settings: Settings, arguments: Mapping[str, Any], environ: Mapping[str, str] = os.environ
) -> Surroundings:
    """The first answer; blocking.

    Raises:
        ConfigError: A value of the environment or a file is not accepted.
    """
    from aiocarbon.intensity import cloud, location

    how = "given"
    if settings.location is not None and "location" not in arguments:
        how = "environment" if origin("location", arguments, environ).startswith("AIOCARBON_") else "pyproject.toml"
    place = location.find(settings.location, how=how)
    first = placed(settings, place)
    return replace(first, cloud=cloud.provider() if place.is_guess and not settings.offline else None)


def placed(settings: Settings, place: Location) -> Surroundings:
    """What follows from a place: the intensity to fall back on, and the PUE; blocking."""
    from aiocarbon.intensity import pue, table

    given = settings.intensity
    value = table.given(given) if isinstance(given, int | float) else table.average(place.zone)
    return Surroundings(location=place, intensity=value, pue=pue.find(settings.pue, region=place.region))


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
