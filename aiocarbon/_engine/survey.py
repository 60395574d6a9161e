"""Asks every source of a place at once, within a few seconds, and tells what each said: for people who want to know.

A run goes along the chain up to the first source that answers (`poller.py`); this asks all of them, by the same
exchange, so that what is asked here need not be asked again by a run. What has not answered in time is told as such.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiocarbon._core.grid import Grid
from aiocarbon._core.intensity import IntensityValue, Location, Pue
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.probe import OFFLINE, Probe, Told
from aiocarbon._engine.surroundings import Surroundings, placed, surroundings
from aiocarbon._engine.whereabouts import Found, chain_of, is_own, locate
from aiocarbon.errors import IntensityError
from aiocarbon.intensity.base import shown

if TYPE_CHECKING:
    from aiocarbon.intensity.sources import Link
    from aiocarbon.settings import Settings

LIMIT_S: Final = 5.0
"""Longest time for all of it: a person waits."""

LOCATE_SHARE: Final = 0.7
"""Of it, for finding the place: above the 3 s that a geolocation service gets."""

PAST_S: Final = 86400.0
"""How far back the curve may begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of the curve.

    Attributes:
        from_s: UTC seconds at which it begins.
        to_s: UTC seconds at which it ends.
        value: What holds in it.
    """

    from_s: float
    to_s: float
    value: IntensityValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found out of a place's intensity.

    Attributes:
        now_s: When, UTC seconds.
        location: Where, and how that is known.
        place_asked: Base URLs of those who were asked where this machine is.
        place_note: What is to be said of that, in words.
        pue: Power usage effectiveness there.
        fallback: What counts where no source says anything.
        now: What a run uses now.
        told: What each source of the chain said, in their order; empty where the user gave a number.
        curve: Past, present and, where wanted, the forecast: what a run would use; gapless, ascending.
    """

    now_s: float
    location: Location
    place_asked: tuple[str, ...]
    place_note: str
    pue: Pue
    fallback: IntensityValue
    now: IntensityValue
    told: tuple[Told, ...]
    curve: tuple[Piece, ...]


async def survey(
    exchange: Exchange,
    settings: Settings,
    arguments: Mapping[str, Any],
    *,
    hours: float | None = None,
    limit_s: float = LIMIT_S,
    environ: Mapping[str, str] = os.environ,
) -> Survey:
    """Ask everybody.

    Args:
        exchange: Asks; the engine's.
        settings: Location, intensity, PUE, and whether packets may be sent.
        arguments: What of them was given as an argument.
        hours: How far ahead a forecast is wanted, 0..96; None for none.
        limit_s: Longest time for all of it, seconds.
        environ: Where base URLs and tokens are looked up.

    Raises:
        ConfigError: A value of the environment or a file is not accepted, or the user's own file cannot be read.
    """
    blocking = exchange.blocking
    deadline = anyio.current_time() + limit_s
    first: Surroundings = await blocking(surroundings, settings, arguments, None, environ)
    if isinstance(settings.intensity, int | float):
        return _surveyed(exchange, first, ((), "nothing was asked: the intensity was given as a number"), (), ())
    await blocking(_load)
    place, asked = await _located(exchange, settings, first, limit_s, environ)
    links: Sequence[Link] = await blocking(chain_of, settings, place.location, blocking, environ)
    probes = [Probe(link, exchange) for link in links]

    async def ask(probe: Probe) -> None:
        with anyio.CancelScope(deadline=deadline):
            await probe.ask(exchange, hours)

    async with anyio.create_task_group() as group:
        for probe in probes:
            group.start_soon(ask, probe)
    now_s = exchange.now_s
    told = tuple(probe.told(now_s, limit_s) for probe in probes)
    grid = Grid(place.intensity)
    known = [(probe.traits, probe.answers) for probe in probes if probe.traits is not None]
    for rank, (traits, answers) in enumerate(known):
        for answer in answers:
            grid.learn(rank, answer, grace_s=traits.step_s + traits.offset_s, stale_s=traits.stale_s)
    froms = [answer.samples[0].from_s for _, answers in known for answer in answers]
    begin_s = min(max(min(froms, default=now_s), now_s - PAST_S), now_s)
    curve = await blocking(_curve, grid, begin_s, now_s + (hours or 0.0) * 3600.0)
    return _surveyed(exchange, place, asked, told, curve, grid.value_at(now_s))


def _surveyed(
    exchange: Exchange,
    place: Surroundings,
    asked: tuple[tuple[str, ...], str],
    told: tuple[Told, ...],
    curve: tuple[Piece, ...],
    now: IntensityValue | None = None,
) -> Survey:
    return Survey(
        now_s=exchange.now_s,
        location=place.location,
        place_asked=asked[0],
        place_note=asked[1],
        pue=place.pue,
        fallback=place.intensity,
        now=place.intensity if now is None else now,
        told=told,
        curve=curve,
    )


async def _located(
    exchange: Exchange, settings: Settings, first: Surroundings, limit_s: float, environ: Mapping[str, str]
) -> tuple[Surroundings, tuple[tuple[str, ...], str]]:
    """Where the machine is, and what was asked of whom to know that."""
    if is_own(settings):
        return first, ((), "nothing was asked: the intensity comes from what the user named")
    if not first.location.is_guess:
        return first, ((), "nothing was asked: the location was given")
    if exchange.client is None:
        return first, ((), f"nothing was asked: {OFFLINE}")
    found = Found(location=first.location)
    with anyio.move_on_after(limit_s * LOCATE_SHARE) as scope:
        found = await locate(exchange, first, environ)
    metadata, geolocation = _services(first.cloud, environ)
    place = first
    if found.location != first.location:
        place = await exchange.blocking(placed, settings, found.location)
    if found.location.how == "cloud":
        return place, (metadata, "the cloud's metadata service was asked")
    if scope.cancelled_caught:
        return place, ((*metadata, *geolocation), "the services that were asked did not answer in time")
    if found.notice:
        return place, ((*metadata, *(geolocation if found.is_asked else ())), found.notice)
    return place, (metadata, "the services that tell a country were asked within the last day; nothing more was asked")


def _services(cloud_name: str | None, environ: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Base URLs of clouds' metadata, where they are asked, and of geolocation services."""
    from aiocarbon.intensity import cloud, geolocation

    metadata = _bases(cloud.URLS.items() if cloud_name in cloud.URLS else (), environ)
    return metadata, _bases(((service.name, service.url) for service in geolocation.SERVICES), environ)


def _bases(services: Iterable[tuple[str, str]], environ: Mapping[str, str]) -> tuple[str, ...]:
    from aiocarbon.intensity.sources import access_of

    found = []
    for name, url in services:
        try:
            found.append(shown(access_of(name, url, environ).url))
        except IntensityError:
            continue  # its variable holds no URL, so it is not asked
    return tuple(dict.fromkeys(found))


def _curve(grid: Grid, begin_s: float, end_s: float) -> tuple[Piece, ...]:
    """The curve between two instants; a last piece that would hold for ever ends with it."""
    steps = [step for step in grid.steps(begin_s) if step[0] < end_s]
    ends = [*(at for at, _ in steps[1:]), end_s][: len(steps)]
    return tuple(Piece(from_s=at, to_s=to, value=value) for (at, value), to in zip(steps, ends, strict=True))


def _load() -> None:
    """Load what asks before anything is asked, or the first source would seem slow."""
    import aiohttp  # noqa: F401  # loading is the purpose, here and below
    import tenacity  # noqa: F401
