"""What a source of carbon intensity is, and how what it says becomes an `Answer`.

A source is one file of this folder and one line in `sources.REGISTRY`. It is asked on the engine's loop, so nothing in
it may block. It raises nothing but `IntensityError`s. When it is asked, how often, what happens when it fails and what
is kept are not its business.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable
from urllib.parse import urlsplit

from aiocarbon._core.answer import Answer, Sample
from aiocarbon._core.intensity import MAX_G_PER_KWH, FactorBasis, IntensityKind, Quality
from aiocarbon.errors import BadAnswerError, IntensityError, NoDataError
from aiocarbon.intensity.wording import quoted

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client

__all__ = ["Access", "Row", "Source", "Traits", "in_pieces", "make_answer", "shown", "utc_s"]

MOST_AHEAD_S: Final = 8 * 86400.0
"""A value for later than this is not believed: no source forecasts beyond four days (Carbon Intensity GB, 96 h)."""

MOST_SAMPLES: Final = 5000
"""More rows than any question here asks for: 17 days of five minutes."""

Row = tuple[float, float, object, Quality]
"""From and to (UTC seconds), the value as it came in g/kWh, its quality. None as value: the source has none there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a source is reached.

    Attributes:
        url: Base URL, without a slash at its end: the source's own, or what `AIOCARBON_<SOURCE>_URL` says.
        token: What `AIOCARBON_<SOURCE>_TOKEN` says; empty if nothing. Never printed, logged or written down.
    """

    url: str
    token: str = ""

    def __repr__(self) -> str:
        """Without any secret."""
        return f"Access(url={shown(self.url)!r}, token={'...' if self.token else ''!r})"


def shown(url: str) -> str:
    """A URL as it may be printed: without user, password and query, any of which may be a secret."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:  # what was taken for a port may be the end of a password
        return "an address that is no URL"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What a source is, bound to a place.

    Attributes:
        name: Name in the registry, which is also that of its environment variables in lower case.
        title: For people, as reports print it.
        zone: The zone it will answer for.
        kind: Average or marginal.
        factor_basis: Direct or life-cycle.
        step_s: Seconds that one value holds.
        offset_s: Seconds after a step's begin at which its value may be asked for.
        stale_s: Seconds after a value's begin up to which it may be carried on where nothing newer is known.
        has_past: True if `past` is answered.
        corrects: True if `past` has measured values where `now` has estimates.
        has_forecast: True if `forecast` is answered.
        forecast_every_s: Seconds after which a new forecast is published.
        spacing_s: Least seconds between two questions for values of this machine, of the same base URL, whatever the
            place; forecasts are apart. 0: the service sets no such limit.
        is_remote: False if no network packet is sent (a file of the user's).
        asked_at: What tells the place that is asked from others, for sharing answers: the base URL, say. No secret.
    """

    name: str
    title: str
    zone: str
    kind: IntensityKind = IntensityKind.AVERAGE
    factor_basis: FactorBasis
    step_s: float
    offset_s: float = 0.0
    stale_s: float
    has_past: bool = False
    corrects: bool = False
    has_forecast: bool = False
    forecast_every_s: float = 3600.0
    spacing_s: float = 0.0
    is_remote: bool = True
    asked_at: str = ""


@runtime_checkable
class Source(Protocol):
    """One source of carbon intensity, bound to a place. All instants are UTC seconds since 1970."""

    @property
    def traits(self) -> Traits:
        """What it is."""
        ...

    async def now(self, client: Client, now_s: float) -> Answer:
        """The newest values: at least the one that holds at `now_s`, or the last one published before it.

        Raises:
            IntensityError: It could not answer.
        """
        ...

    async def past(self, client: Client, begin_s: float, end_s: float, now_s: float) -> Answer:
        """What it says of a time that is over; may hold less than was asked for.

        Raises:
            IntensityError: It could not answer.
        """
        ...

    async def forecast(self, client: Client, now_s: float, hours: float) -> Answer:
        """Values from `now_s` on for some hours; may hold less than was asked for.

        Raises:
            IntensityError: It could not answer.
        """
        ...


def make_answer(
    traits: Traits, rows: Iterable[Row], *, now_s: float, zone: str = "", note: str = "", oldest_s: float | None = None
) -> Answer:
    """Rows as they came, checked for type, range and time, as an answer.

    Args:
        traits: Whose rows they are.
        rows: In any order; of two that begin at one instant the later in order counts.
        now_s: Present, UTC seconds.
        zone: Zone that the source said it answers for; by default that of its traits.
        note: What a user should know.
        oldest_s: The newest row must begin no earlier; None: any age is right (the past).

    Raises:
        NoDataError: There is no row with a value, or none that is new enough.
        BadAnswerError: A value is no number of 0..3000, or a time is none, or lies far ahead.
    """
    found: dict[float, Sample] = {}
    for from_s, to_s, value, quality in rows:
        if value is None:
            continue
        if len(found) >= MOST_SAMPLES:
            raise BadAnswerError(f"{traits.title} sent more than {MOST_SAMPLES} values", source=traits.name)
        g_per_kwh = _grams(value, traits)
        if not (math.isfinite(from_s) and from_s < to_s and 0.0 <= from_s <= now_s + MOST_AHEAD_S):
            raise BadAnswerError(f"{traits.title} sent a value for an impossible time", source=traits.name)
        found[from_s] = Sample(from_s, to_s, g_per_kwh, quality)
    if not found:
        raise NoDataError(f"{traits.title} has no value for {zone or traits.zone}", source=traits.name)
    samples = [found[from_s] for from_s in sorted(found)]
    if oldest_s is not None and samples[-1].from_s < oldest_s:
        newest = datetime.fromtimestamp(samples[-1].from_s, UTC)
        raise NoDataError(
            f"{traits.title}: its newest value for {zone or traits.zone} is of {newest:%Y-%m-%d %H:%M} UTC, too old",
            source=traits.name,
        )
    for i, later in enumerate(samples[1:]):
        if samples[i].to_s > later.from_s:
            samples[i] = samples[i]._replace(to_s=later.from_s)
    return Answer(
        source=traits.name,
        title=traits.title,
        zone=zone or traits.zone,
        kind=traits.kind,
        factor_basis=traits.factor_basis,
        samples=tuple(samples),
        note=note,
    )


async def in_pieces(
    traits: Traits, begin_s: float, end_s: float, piece_s: float, ask: Callable[[float, float], Awaitable[Answer]]
) -> Answer:
    """A window of the past, widened to whole steps and asked for in pieces, as one answer.

    Args:
        traits: Whose past it is.
        begin_s: From where, UTC seconds.
        end_s: Up to where.
        piece_s: Longest piece, in whole steps.
        ask: Gives the values that begin in a piece, from its begin up to before its end.

    Raises:
        IntensityError: It could not answer, or has nothing of that time. Once a piece was answered, a failure ends the
            walk, and what was found is the answer; a piece of which there is nothing never does.
    """
    found: dict[float, Sample] = {}
    newest: Answer | None = None
    step_s = traits.step_s
    at, end_s = math.floor(begin_s / step_s) * step_s, math.ceil(end_s / step_s) * step_s
    while at < end_s:
        to = min(at + piece_s, end_s)
        try:
            newest = await ask(at, to)
            found.update((sample.from_s, sample) for sample in newest.samples)
        except NoDataError:
            pass
        except IntensityError:
            if newest is None:
                raise
            break
        at = to
    if newest is None:
        raise NoDataError(f"{traits.title} has no value of that time for {traits.zone}", source=traits.name)
    return replace(newest, samples=tuple(found[from_s] for from_s in sorted(found)))


def _grams(value: object, traits: Traits) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadAnswerError(f"{traits.title} sent {quoted(value)!r} where a number belongs", source=traits.name)
    if not 0.0 <= value <= MAX_G_PER_KWH:  # NaN fails both comparisons
        raise BadAnswerError(
            f"{traits.title} sent {quoted(value)} gCO2eq/kWh, which is not in 0..{MAX_G_PER_KWH:g}",
            source=traits.name,
        )
    return float(value)


def utc_s(text: object, traits: Traits) -> float:
    """UTC seconds since 1970 of an ISO 8601 text; without an offset it is taken as UTC.

    Raises:
        BadAnswerError: It is none.
    """
    try:
        if not isinstance(text, str):
            raise ValueError(text)
        when = datetime.fromisoformat(text)
    except ValueError:  # which quotes it as it came
        raise BadAnswerError(f"{traits.title} sent {quoted(text)!r} as a time", source=traits.name) from None
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()
