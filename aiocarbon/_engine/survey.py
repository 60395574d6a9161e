"""Asks every source of a place at once, within a few seconds, and tells what each said: for people who want to know.

A run goes along the chain up to the first source that answers (`poller.py`); this asks all of them, by the same
exchange, so that what is asked here need not be asked again by a run. What has not answered in time is told as such.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiocarbon._core.grid import Grid, Layer
from aiocarbon._core.intensity import Answer, IntensityValue, Location, Pue, Quality
from aiocarbon._core.units import S_PER_NS
from aiocarbon._engine.exchange import NOW, Exchange, Kind, Question, State
from aiocarbon._engine.poller import FORECAST_HOURS
from aiocarbon._engine.surroundings import Found, Surroundings, chain_of, locate, placed, surroundings
from aiocarbon.errors import IntensityError, SourceDownError
from aiocarbon.intensity.base import Source, Traits, shown

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client
    from aiocarbon.intensity.sources import Link
    from aiocarbon.settings import Settings

LIMIT_S: Final = 5.0
"""Longest time for all of it: a person waits."""

LOCATE_SHARE: Final = 0.7
"""Of it, for finding the place: above the 3 s that a geolocation service gets."""

PAST_S: Final = 86400.0
"""How far back the curve may begin."""

LACKS: Final = "lacks"
SILENT: Final = "does not answer"
OFFLINE: Final = "no packet may be sent (offline)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one source of the chain said.

    Attributes:
        name: Its name in the registry.
        title: For people; the name where it lacks something.
        zone: The zone it answers for; empty where it lacks something.
        word: "answered", "from the cache", "does not answer", "refuses", "has no data", "answers nonsense",
            "not asked", "lacks".
        why: Why there is no answer, with the remedy where there is one; empty if there is an answer.
        latency_s: Seconds that its last answer took; None if nothing was asked now.
        value: Its newest value, however old; None if it never had one.
        has_forecast: True if it can be asked for a forecast.
        forecast_until_s: UTC seconds up to which its forecast goes; None if there is none, or it was not wanted.
        forecast_why: Why there is no forecast that was wanted.
    """

    name: str
    title: str
    zone: str
    word: str
    why: str = ""
    latency_s: float | None = None
    value: IntensityValue | None = None
    has_forecast: bool = False
    forecast_until_s: float | None = None
    forecast_why: str = ""


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


class _Witness:
    """A source that remembers of its last question how long it took and how it failed, for who could not wait."""

    def __init__(self, source: Source, exchange: Exchange) -> None:
        self._source = source
        self._clock = exchange.clock
        self.took_s: float | None = None
        self.error: IntensityError | None = None

    @property
    def traits(self) -> Traits:
        return self._source.traits

    async def now(self, client: Client, now_s: float) -> Answer:
        return await self._seen(self._source.now(client, now_s))

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        return await self._seen(self._source.past(client, begin_s, end_s, now_s))

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        return await self._source.forecast(client, now_s, hours)

    async def _seen(self, question: Any) -> Answer:  # Any: a coroutine of an answer
        began_ns = self._clock.monotonic_ns()
        try:
            answer: Answer = await question
        except IntensityError as error:
            self.error = error
            raise
        finally:
            self.took_s = (self._clock.monotonic_ns() - began_ns) * S_PER_NS
        return answer


class _Probe:
    """One link of the chain while it is asked.

    Attributes:
        answers: What is known of it: what was answered last, then what is answered now.
        state: How it is; None while that is not known.
    """

    def __init__(self, link: Link, exchange: Exchange) -> None:
        self.link = link
        self.witness = None if link.source is None else _Witness(link.source, exchange)
        self.answers: list[Answer] = []
        self.newest: Answer | None = None
        self.state: State | None = None
        self.forecast: Answer | None = None
        self.forecast_why = ""

    async def ask(self, exchange: Exchange, hours: float | None) -> None:
        witness = self.witness
        if witness is None:
            return
        ahead = None if hours is None else Question(Kind.FORECAST, hours=max(hours, FORECAST_HOURS))
        for question in (NOW, *((ahead,) if ahead else ())):
            known = await exchange.last(witness, question)
            if known is not None:
                self.answers.append(known)
        try:
            self.newest = await exchange.ask(witness)
        except IntensityError as error:
            self.state = _failed(exchange, witness, error)
        else:
            self.answers.append(self.newest)
            self.state = replace(exchange.state(witness), why="")
        if ahead is not None and witness.traits.has_forecast:
            await self._look_ahead(exchange, witness, ahead)

    async def _look_ahead(self, exchange: Exchange, witness: _Witness, ahead: Question) -> None:
        if self.newest is None and exchange.is_left_alone(witness):
            self.forecast_why = "it was not asked, since it does not say what holds now"
            return
        self.forecast_why = "no forecast came in time"
        try:
            self.forecast = await exchange.ask(witness, ahead)
        except IntensityError as error:
            self.forecast_why = _with_remedy(error)
        else:
            self.forecast_why = ""
            self.answers.append(self.forecast)

    def told(self, exchange: Exchange, now_s: float, limit_s: float) -> Told:
        witness, link = self.witness, self.link
        if witness is None:
            return Told(name=link.name, title=link.name, zone="", word=LACKS, why=link.why)
        traits = witness.traits
        state = self.state
        if state is None:
            late = f"no answer within {limit_s:g} s"
            state = State(SILENT, late if witness.error is None else f"{witness.error}; tried again for {limit_s:g} s")
        newest = self.newest or next(iter(self.answers), None)
        return Told(
            name=link.name,
            title=traits.title,
            zone=newest.zone if newest is not None else traits.zone,
            word=state.word,
            why=state.why,
            latency_s=witness.took_s if state.word == "answered" else None,
            value=None if newest is None else _newest(newest, now_s),
            has_forecast=traits.has_forecast,
            forecast_until_s=None if self.forecast is None else self.forecast.samples[-1].to_s,
            forecast_why=self.forecast_why,
        )


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
    first: Surroundings = await blocking(surroundings, settings, arguments, environ)
    if isinstance(settings.intensity, int | float):
        return _surveyed(exchange, first, ((), "nothing was asked: the intensity was given as a number"), (), ())
    await blocking(_load)
    place, asked = await _located(exchange, settings, first, limit_s, environ)
    links: Sequence[Link] = await blocking(chain_of, settings, place.location, blocking, environ)
    probes = [_Probe(link, exchange) for link in links]

    async def ask(probe: _Probe) -> None:
        with anyio.CancelScope(deadline=deadline):
            await probe.ask(exchange, hours)

    async with anyio.create_task_group() as group:
        for probe in probes:
            group.start_soon(ask, probe)
    now_s = exchange.now_s
    told = tuple(probe.told(exchange, now_s, limit_s) for probe in probes)
    grid = Grid(place.intensity)
    known = [probe for probe in probes if probe.witness is not None]
    for rank, probe in enumerate(known):
        assert probe.witness is not None
        traits = probe.witness.traits
        for answer in probe.answers:
            grid.learn(rank, answer, grace_s=traits.step_s + traits.offset_s, stale_s=traits.stale_s)
    froms = [answer.samples[0].from_s for probe in known for answer in probe.answers]
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
    if _is_own(settings.intensity):
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
        return place, ((*metadata, *geolocation), found.notice)
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


def _is_own(intensity: object) -> bool:
    """True if the user's own file or URL says the intensity, wherever the machine is."""
    return isinstance(intensity, str) and ("/" in intensity or os.sep in intensity)


def _curve(grid: Grid, begin_s: float, end_s: float) -> tuple[Piece, ...]:
    """The curve between two instants; a last piece that would hold for ever ends with it."""
    steps = [step for step in grid.steps(begin_s) if step[0] < end_s]
    ends = [*(at for at, _ in steps[1:]), end_s]
    return tuple(Piece(from_s=at, to_s=to, value=value) for (at, value), to in zip(steps, ends, strict=True))


def _newest(answer: Answer, now_s: float) -> IntensityValue:
    """The value of an answer that holds now, else the newest before, else the first."""
    begun = [sample for sample in answer.samples if sample.from_s <= now_s]
    holding = [sample for sample in begun if now_s < sample.to_s]
    measured = [sample for sample in begun if sample.quality is not Quality.FORECAST]
    chosen = next(iter((*measured[-1:], *holding, *begun[-1:], *answer.samples[:1])))
    return Layer(answer, 0.0, 0.0).value(chosen)


def _failed(exchange: Exchange, witness: _Witness, error: IntensityError) -> State:
    state = exchange.state(witness)
    if exchange.client is None and witness.traits.is_remote:
        return State("not asked", OFFLINE)
    why = _with_remedy(error)
    if witness.took_s is None and isinstance(error, SourceDownError) and error.retry_after_s is not None:
        why = f"{why}; it is left alone for another {error.retry_after_s:.0f} s"
    return State(state.word if state.word != "not asked" else SILENT, why)


def _with_remedy(error: IntensityError) -> str:
    return f"{error}. To mend it: {error.remedy}" if error.remedy else str(error)


def _load() -> None:
    """Load what asks before anything is asked, or the first source would seem slow."""
    import aiohttp  # noqa: F401  # loading is the purpose, here and below
    import tenacity  # noqa: F401
