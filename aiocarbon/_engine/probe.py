"""One source of the chain, asked what holds now and what will: how it answered, for people who want to know."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.answer import Answer
from aiocarbon._core.grid import Layer
from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.units import S_PER_NS
from aiocarbon._engine.exchange import Exchange, NotYetError, State
from aiocarbon._engine.poller import FORECAST_HOURS
from aiocarbon._engine.questions import NOW, Kind, Question
from aiocarbon.errors import IntensityError, SourceDownError
from aiocarbon.intensity.base import Access, Source, Traits, shown

if TYPE_CHECKING:
    from aiocarbon.intensity.client import Client
    from aiocarbon.intensity.sources import Link

LACKS: Final = "lacks"
SILENT: Final = "does not answer"
TO_MEND: Final = ". To mend it: "
"""How a link of the chain joins what it lacks and the remedy."""

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
        why: Why there is no answer; empty if there is one.
        remedy: What to type or do about it; empty where nothing helps.
        url: Base URL that is asked, without anything secret; empty where it is not known.
        is_asked: True if a packet was sent to it now.
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
    remedy: str = ""
    url: str = ""
    is_asked: bool = False
    latency_s: float | None = None
    value: IntensityValue | None = None
    has_forecast: bool = False
    forecast_until_s: float | None = None
    forecast_why: str = ""


class _Witness:
    """A source that remembers how its last question went, for who could not wait for the exchange's next attempt."""

    def __init__(self, source: Source, exchange: Exchange) -> None:
        self._source = source
        self._clock = exchange.clock
        self.is_asked = False
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
        self.is_asked = True
        return await self._source.forecast(client, now_s, hours)

    async def _seen(self, question: Any) -> Answer:  # Any: a coroutine of an answer
        self.is_asked = True
        began_ns = self._clock.monotonic_ns()
        try:
            answer: Answer = await question
        except IntensityError as error:
            self.error = error
            raise
        finally:
            self.took_s = (self._clock.monotonic_ns() - began_ns) * S_PER_NS
        return answer


class Probe:
    """One link of the chain while it is asked.

    Args:
        link: The link.
        exchange: Asks.

    Attributes:
        answers: What is known of it: what was answered last, then what is answered now.
    """

    def __init__(self, link: Link, exchange: Exchange) -> None:
        self._link = link
        self._witness = None if link.source is None else _Witness(link.source, exchange)
        self.answers: list[Answer] = []
        self._newest: Answer | None = None
        self._state: State | None = None
        self._forecast: Answer | None = None
        self._forecast_why = ""

    @property
    def traits(self) -> Traits | None:
        """What the source is; None where there is none."""
        return None if self._witness is None else self._witness.traits

    async def ask(self, exchange: Exchange, hours: float | None) -> None:
        """Ask it for what holds now and, where so many hours are wanted, for its forecast; may be cancelled."""
        witness = self._witness
        if witness is None:
            return
        ahead = None if hours is None else Question(Kind.FORECAST, hours=max(hours, FORECAST_HOURS))
        for question in (NOW, *((ahead,) if ahead else ())):
            known = await exchange.last(witness, question)
            if known is not None:
                self.answers.append(known)
        try:
            self._newest = await exchange.ask(witness)
        except IntensityError as error:
            self._state = _failed(exchange, witness, error)
        else:
            self.answers.append(self._newest)
            self._state = replace(exchange.state(witness), why="")
        if ahead is not None and witness.traits.has_forecast:
            await self._look_ahead(exchange, witness, ahead)

    async def _look_ahead(self, exchange: Exchange, witness: _Witness, ahead: Question) -> None:
        if self._newest is None and exchange.is_left_alone(witness):
            self._forecast_why = "it was not asked, since it does not say what holds now"
            return
        self._forecast_why = "no forecast came in time"
        try:
            self._forecast = await exchange.ask(witness, ahead)
        except IntensityError as error:
            self._forecast_why = _with_remedy(error)
        else:
            self._forecast_why = ""
            self.answers.append(self._forecast)

    def told(self, now_s: float, limit_s: float) -> Told:
        """What it said, so far.

        Args:
            now_s: Present, UTC seconds.
            limit_s: How long it was waited for, seconds.
        """
        witness, link = self._witness, self._link
        if witness is None:
            why, _, remedy = link.why.partition(TO_MEND)
            return Told(name=link.name, title=link.name, zone="", word=LACKS, why=why, remedy=remedy)
        traits = witness.traits
        state = self._state
        if state is None:
            late = f"no answer within {limit_s:g} s"
            state = State(SILENT, late if witness.error is None else f"{witness.error}; tried again for {limit_s:g} s")
        newest = self._newest or next(iter(self.answers), None)
        why, _, remedy = state.why.partition(TO_MEND)
        return Told(
            name=link.name,
            title=traits.title,
            zone=newest.zone if newest is not None else traits.zone,
            word=state.word,
            why=why,
            remedy=remedy,
            url=_url_of(link.source),
            is_asked=witness.is_asked and traits.is_remote,
            latency_s=witness.took_s if state.word == "answered" else None,
            value=None if newest is None else _newest(newest, now_s),
            has_forecast=traits.has_forecast,
            forecast_until_s=None if self._forecast is None else self._forecast.samples[-1].to_s,
            forecast_why=self._forecast_why,
        )


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
    if isinstance(error, NotYetError):
        return State("not asked", str(error))
    why = _with_remedy(error)
    if witness.took_s is None and isinstance(error, SourceDownError) and error.retry_after_s is not None:
        why = f"{why}; it is left alone for another {error.retry_after_s:.0f} s"
    return State(state.word if state.word != "not asked" else SILENT, why)


def _with_remedy(error: IntensityError) -> str:
    return f"{error}{TO_MEND}{error.remedy}" if error.remedy else str(error)


def _url_of(source: Source | None) -> str:
    access = getattr(source, "access", None)
    return shown(access.url) if isinstance(access, Access) else ""
