"""Asks for the days behind a run: where no forecast reaches its end, its prediction goes by the days' profile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import anyio

from aiocarbon._core.grid import Layer
from aiocarbon._core.intensity import IntensityValue
from aiocarbon._core.units import S_PER_DAY
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.foresight import SLOT_S, mean_of
from aiocarbon._engine.questions import Kind, Question
from aiocarbon._logging import get_logger
from aiocarbon.errors import IntensityError

if TYPE_CHECKING:
    from aiocarbon._core.answer import Answer
    from aiocarbon._engine.session import Session
    from aiocarbon.intensity.base import Source

log = get_logger("lookback")

DAYS: Final = 3
"""How far back: three days make a profile with a spread. A run asks for whole ones (UTC), as all of a machine do."""


class LookBack:
    """What one run asks of the days behind it, once a day and only if its prediction needs it.

    Args:
        exchange: Asks.
        session: The run.
    """

    def __init__(self, exchange: Exchange, session: Session) -> None:
        self._exchange = exchange
        self._session = session
        self._asked_day: int | None = None

    def is_outlasting(self, known_until_s: float) -> bool:
        """True if the run is predicted to go on for longer than is known (UTC seconds)."""
        ahead = self._session.foresight.newest
        return ahead is not None and ahead.ends_at is not None and ahead.ends_at.timestamp() > known_until_s

    async def look(self, sources: Sequence[Source], known_until_s: float) -> None:
        """Ask, if the run is predicted to go on for longer than anything is known.

        Args:
            sources: The chain.
            known_until_s: UTC seconds up to which a source says something.
        """
        foresight, day = self._session.foresight, int(self._exchange.now_s // S_PER_DAY)
        if self._asked_day == day or not self.is_outlasting(known_until_s):
            return
        self._asked_day = day
        end_s = float(day * S_PER_DAY)
        answer = await days_before(self._exchange, sources, end_s)
        if answer is not None:
            foresight.days_before(await self._exchange.blocking(lambda: list(half_hours(answer))))


async def days_before(
    exchange: Exchange, sources: Sequence[Source], end_s: float, limit_s: float | None = None
) -> Answer | None:
    """What was measured in the days before an instant, by the first source of a chain that tells; None if none does.

    Args:
        exchange: Asks.
        sources: The chain.
        end_s: The instant, UTC seconds.
        limit_s: How long each source has, seconds; None: as long as the exchange lets it.
    """
    question = Question(Kind.PAST, end_s - DAYS * S_PER_DAY, end_s)
    for source in sources:
        if not source.traits.has_past or exchange.is_left_alone(source):
            continue
        try:
            with anyio.fail_after(limit_s):
                return await exchange.ask(source, question)
        except (IntensityError, TimeoutError) as error:
            log.debug("lookback.failed", source=source.traits.name, why=str(error))
    return None


def half_hours(answer: Answer) -> Iterator[tuple[float, IntensityValue]]:
    """The means of the half hours that an answer holds whole, by their begins (UTC seconds)."""
    layer = Layer(answer, 0.0, 0.0)
    steps = [(sample.from_s, sample.to_s, layer.value(sample)) for sample in answer.samples]
    pieces = (
        (at, min(to, (at // SLOT_S + 1.0) * SLOT_S), value) for begin, to, value in steps for at in _borders(begin, to)
    )
    for slot, inside in itertools.groupby(pieces, key=lambda piece: piece[0] // SLOT_S):
        held = list(inside)
        if sum(to - at for at, to, _ in held) < SLOT_S:
            continue  # not the whole of it
        mean = mean_of(held)
        if mean is not None:
            yield slot * SLOT_S, mean


def _borders(begin_s: float, end_s: float) -> Iterator[float]:
    """A step's begin, and the half hours that begin inside it."""
    yield begin_s
    at = (begin_s // SLOT_S + 1.0) * SLOT_S
    while at < end_s:
        yield at
        at += SLOT_S
