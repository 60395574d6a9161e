"""Keeps one run's intensity curve: goes along the chain of sources, each at its own rhythm, and mends what was a guess.

The run waits for none of this. Its curve begins as the yearly average and is corrected from the run's begin on as soon
as a source answers; where none does, it degrades by itself (`_core/grid.py`), and each step down is told with its
reason. A place that had to be guessed is asked for again too, and what was counted for the guess is mended.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

import anyio
import anyio.lowlevel

from aiocarbon._core.answer import Answer
from aiocarbon._core.grid import Grid
from aiocarbon._core.units import NS_PER_S, S_PER_NS
from aiocarbon._engine.deadline import within
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.lookback import LookBack
from aiocarbon._engine.placing import Placing
from aiocarbon._engine.questions import NOW, Kind, Question
from aiocarbon._engine.surroundings import Surroundings
from aiocarbon._logging import get_logger
from aiocarbon.errors import IntensityError, SourceDownError
from aiocarbon.intensity.guesses import guessed_stretch

if TYPE_CHECKING:
    from aiocarbon._engine.session import Session
    from aiocarbon.intensity.base import Source, Traits
    from aiocarbon.settings import Settings

T = TypeVar("T")
log = get_logger("poller")

LOOK_MOST_S: Final = 60.0
"""The wall clock may be set and machines sleep: no wait for an instant of the wall clock is longer than this."""

LEAST_REST_S: Final = 1.0
"""Between two looks along the chain, whatever is said to be due."""

OFFLINE_REST_S: Final = 60.0
"""Where no packet may be sent, only what other processes put into the cache can be new."""

CLOCK_OFF_S: Final = 120.0
"""Less than this is told by nobody: a value holds for five minutes at least."""

FORECAST_AFTER_S: Final = 20.0
"""A run that ends before this needs no forecast, unless it is predicted to."""

FORECAST_EVERY_S: Final = 3 * 3600.0
FORECAST_HOURS: Final = 48.0
HURRY_AFTER_S: Final = 0.7
"""Most sources answer sooner; so most runs that end before the first answer ask one source only."""

SLICE: Final = 50
"""Steps or epochs worked on before others get their turn: some 0.3 ms."""


class Poller:
    """The intensity of one run.

    Args:
        exchange: Asks, for all runs of this process.
        session: The run.
        settings: Its settings.
        first: What small files told of where it is.
        sources: The chain, where it is not that of the place.
        environ: Where base URLs and tokens are looked up.
    """

    def __init__(
        self,
        exchange: Exchange,
        session: Session,
        settings: Settings,
        first: Surroundings,
        *,
        sources: tuple[Source, ...] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._exchange = exchange
        self._session = session
        self._placing = Placing(exchange, session, settings, first, environ)
        self._sources: tuple[Source, ...] = sources or ()
        self._is_settled = sources is not None
        self._grid = Grid(first.intensity)
        self._first = anyio.Event()
        self._answering: int | None = None
        self._asking: int | None = None
        self._is_ending = False
        self._was_down = False
        self._told: set[tuple[str, str]] = set()
        self._is_clock_told = False
        self._laid_from_s = session.begin_s
        self._learning = anyio.Lock()
        self._lookback = LookBack(exchange, session)
        self._forecast_due_s = exchange.now_s + FORECAST_AFTER_S
        self._has_looked_ahead = False
        self._scope = anyio.CancelScope()
        self._nap = anyio.CancelScope()
        session.foresight.made = self._foreseen
        session.foresight.awaits_intensity = lambda: not self._first.is_set()

    async def run(self) -> None:
        """Poll until `finish`."""
        with self._scope:
            try:
                await self._settle_place()
                await self._remember()
                while True:
                    if self._placing.is_due and await self._settle_place(is_again=True):
                        await self._remember()
                    await self._look()
                    self._first.set()
                    await self._look_ahead()
                    await self._lookback.look(self._sources, self._grid.until_s)
                    await self._rest()
            except Exception as error:  # an error of ours costs the curve its next values, not the run
                self._give_up(error)
            finally:
                self._first.set()

    async def finish(self, limit_s: float) -> None:
        """Wait, shortly, for the first answer and for what mends the guesses of a run that has ended; then stop."""
        self._is_ending = True

        async def mend() -> None:
            await self._hurry()
            await self._first.wait()
            await self._mend()

        try:
            with contextlib.suppress(TimeoutError):
                await within(self._exchange.clock, limit_s, mend)
        except Exception as error:  # as above: the run ends with what is known
            self._give_up(error)
        finally:  # also where nobody waits for it any more
            self._scope.cancel()
        if self._asking is not None and not self._first.is_set():
            source = self._sources[self._asking]
            why = self._exchange.state(source).why or "it had not answered when the run ended"
            self._tell(source, SourceDownError(why, source=source.traits.name))
        if self._placing.is_asking:
            self._session.warn(
                "where this machine is was still being asked of others when the run ended; give location=, or "
                "offline=True to send nothing"
            )
        async with self._learning:  # what is just being learnt is cut to its end
            self._placing.tell_guess()

    def _give_up(self, error: Exception) -> None:
        log.warning("intensity.poller", why=f"{type(error).__name__}: {error}")
        self._session.warn(f"the carbon intensity is not followed any more: {type(error).__name__}: {error}")

    # -- the place ---------------------------------------------------------------------------------------------

    async def _settle_place(self, *, is_again: bool = False) -> bool:
        """Find out where the run takes place, while that is a guess, and whom to ask there; whether that is new."""
        if self._is_settled:
            return False
        place = await self._placing.ask()
        if place is None and is_again:
            return False
        sources = await self._placing.chain(place or self._placing.place)
        with anyio.CancelScope(shield=True):
            async with self._learning:
                if is_again and self._is_ending:
                    return False  # its guesses are being mended, by the sources that were asked all along
                self._sources = sources
                if place is not None:
                    await self._relocate(place, is_again=is_again)
        self._placing.tell_guess()
        return True

    async def _relocate(self, place: Surroundings, *, is_again: bool) -> None:
        """Take another place for the whole run; with `is_again`, what was counted by now is mended like a guess."""
        exchange, session, forever = self._exchange, self._session, float("-inf")
        now_ns = exchange.clock.monotonic_ns()
        with session.mending(now_ns) if is_again else contextlib.nullcontext():
            self._grid = Grid(place.intensity)
            session.relocate(place.location, place.pue)
            session.ledger.intensity.replace(forever, [(forever, place.intensity)])
        if is_again:
            self._placing.tell_found()
            self._answering, self._was_down = None, True  # so that the first answer has the past asked for
            self._forecast_due_s, self._lookback = exchange.now_s, LookBack(exchange, session)
        self._placing.place = place
        await self._cut_again(session.begin_s)

    # -- the present -------------------------------------------------------------------------------------------

    async def _remember(self) -> None:
        """Begin with what was answered last, to this or another process: the chain's third step."""
        for rank, source in enumerate(self._sources):
            for question in (NOW, self._ahead):
                known = await self._exchange.last(source, question)
                if known is not None:
                    await self._learn(rank, known)

    async def _look(self) -> None:
        """Go along the chain up to the first source that answers."""
        for rank, source in enumerate(self._sources):
            was_left_alone = self._exchange.is_left_alone(source)
            self._asking = rank
            try:
                answer = await self._exchange.ask(source)
            except IntensityError as error:
                self._tell(source, error, is_known=was_left_alone)
                continue
            self._asking = None
            self._tell_clock(source)
            has_returned = self._was_down
            self._was_down = False
            self._answering = rank
            await self._learn(rank, answer)
            if has_returned:
                await self._mend()
            return
        self._was_down = True
        self._answering = self._asking = None

    def _tell_clock(self, source: Source) -> None:
        """Say, once, that this machine's clock is wrong: intensities are looked up by it."""
        off_s = self._exchange.clock_off_s
        if abs(off_s) >= CLOCK_OFF_S and not self._is_clock_told:
            self._is_clock_told = True
            way = "ahead of" if off_s > 0.0 else "behind"
            self._session.warn(
                f"this machine's clock is {abs(off_s) / 60.0:.0f} min {way} that of {source.traits.title}: intensities "
                "are looked up at wrong times. To mend it: timedatectl set-ntp true"
            )

    async def _hurry(self) -> None:
        """Ask those behind a source that has not answered yet: the run has ended and does not wait for its turn."""
        with contextlib.suppress(TimeoutError):
            await within(self._exchange.clock, HURRY_AFTER_S, self._first.wait)
        if self._first.is_set() or self._asking is None:
            return

        async def ask(rank: int) -> None:
            try:
                answer = await self._exchange.ask(self._sources[rank])
            except IntensityError as error:
                self._tell(self._sources[rank], error)
                return
            await self._learn(rank, answer)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for rank in range(self._asking + 1, len(self._sources)):
                group.start_soon(ask, rank)

    async def _rest(self) -> None:
        """Sleep until any source up to the one that answered has something new, or may be tried again.

        The wall clock may be set meanwhile, so what is left is looked at anew every minute. Another run may have asked
        meanwhile, so it never becomes later.
        """
        exchange, clock = self._exchange, self._exchange.clock
        awaited = self._sources if self._answering is None else self._sources[: self._answering + 1]
        is_cut_off = exchange.client is None and any(source.traits.is_remote for source in awaited)
        least_s = OFFLINE_REST_S if is_cut_off else LEAST_REST_S
        began_ns, due_s = clock.monotonic_ns(), math.inf
        while True:
            now_ns, now_s = clock.monotonic_ns(), exchange.now_s
            self._forecast_due_s = min(self._forecast_due_s, now_s + FORECAST_EVERY_S)
            due_s = min([due_s, *(exchange.due_s(source) for source in awaited)])
            left_s = min(min(due_s, self._forecast_due_s) - now_s, (self._placing.due_ns - now_ns) * S_PER_NS)
            left_s = max(left_s, least_s - (now_ns - began_ns) * S_PER_NS)
            if left_s <= 0.0:
                return
            with anyio.CancelScope() as self._nap:
                await clock.sleep_until(now_ns + round(min(left_s, LOOK_MOST_S) * NS_PER_S))

    def _tell(self, source: Source, error: IntensityError, *, is_known: bool = False) -> None:
        """Say, once a kind of failure, why a source is not what is used.

        One that is left alone fails with the words of the failure before, which are told already.
        """
        key = (source.traits.title, type(error).__name__)
        if key in self._told or (self._exchange.client is None and source.traits.is_remote):
            return  # told, or the user's own wish
        if is_known and any(title == source.traits.title for title, _ in self._told):
            return
        self._told.add(key)
        remedy = f". To mend it: {error.remedy}" if error.remedy else ""
        log.warning("intensity.fallback", source=source.traits.name, why=str(error))
        self._session.warn(f"carbon intensity: {source.traits.title} is not used: {error}{remedy}")

    # -- the future --------------------------------------------------------------------------------------------

    @property
    def _ahead(self) -> Question:
        return Question(Kind.FORECAST, hours=FORECAST_HOURS)

    def _foreseen(self) -> None:
        """Have the forecast asked for, once, as soon as a prediction outlasts what is known."""
        if not self._has_looked_ahead and self._lookback.is_outlasting(self._grid.until_s):
            self._forecast_due_s = self._exchange.now_s
            self._nap.cancel()

    async def _look_ahead(self) -> None:
        """Ask for the forecast now and then: it is what counts if the source falls silent, and what predictions use."""
        now_s = self._exchange.now_s
        if now_s < self._forecast_due_s:
            return
        self._forecast_due_s, self._has_looked_ahead = now_s + FORECAST_EVERY_S, True
        for rank, source in enumerate(self._sources):
            if not source.traits.has_forecast or self._exchange.is_left_alone(source):
                continue
            try:
                answer = await self._exchange.ask(source, self._ahead)
            except IntensityError as error:
                log.debug("intensity.forecast", source=source.traits.name, why=str(error))
                continue
            await self._learn(rank, answer)
            return

    # -- the past ----------------------------------------------------------------------------------------------

    async def _mend(self) -> None:
        """Ask the sources that know the past, in their order, for the stretches of this run that are still guesses."""
        for rank, source in enumerate(self._sources):
            traits = source.traits
            if not traits.has_past or self._exchange.is_left_alone(source):
                continue
            # A file may have been mended since it was looked at; to see that costs no question.
            window = self._guessed(traits) if traits.is_remote else self._window
            if window is None:
                continue
            try:
                answer = await self._exchange.ask(source, Question(Kind.PAST, *window))
            except IntensityError as error:
                self._tell(source, error)
                continue
            await self._learn(rank, answer, is_mending=True)

    def _guessed(self, traits: Traits) -> tuple[float, float] | None:
        """The window that a source is to be asked for, so that no guess of the run stays; None if there is none."""
        return guessed_stretch(list(self._session.ledger.intensity.steps(*self._window)), traits, self._exchange.now_s)

    @property
    def _window(self) -> tuple[float, float]:
        """The run up to now, or to its end (UTC seconds)."""
        now_s, begin_s = self._exchange.now_s, self._session.begin_s
        return begin_s, max(min(self._session.until_s(now_s), now_s), begin_s)

    # -- the curve ---------------------------------------------------------------------------------------------

    async def _learn(self, rank: int, answer: Answer, *, is_mending: bool = False) -> None:
        """Take what a source said into the curve, and cut again what it changes.

        One answer at a time, and to its end: of half of it, epochs would not add up to the run.
        """
        traits = self._sources[rank].traits
        grace_s = min(traits.step_s + traits.offset_s, traits.stale_s)
        with anyio.CancelScope(shield=True):
            async with self._learning:
                changed_s = self._grid.learn(rank, answer, grace_s=grace_s, stale_s=traits.stale_s)
                self._session.look_at_clocks()  # what was asked by a new clock is not laid by the old one
                begin_s = self._session.begin_s
                if begin_s < self._laid_from_s:  # the wall clock was set back to before the run
                    changed_s, self._laid_from_s = begin_s, begin_s
                if changed_s is None:
                    return
                from_s = max(changed_s, begin_s)
                steps = [step async for step in _paced(self._grid.steps(from_s))]
                now_ns = self._exchange.clock.monotonic_ns()
                with self._session.mending(now_ns) if is_mending else contextlib.nullcontext():
                    self._session.ledger.intensity.replace(from_s, steps)
                await self._cut_again(from_s)

    async def _cut_again(self, from_s: float) -> None:
        async for _ in _paced(self._session.recut(from_s)):
            pass
        self._session.publish(self._exchange.clock.monotonic_ns())


async def _paced(items: Iterator[T]) -> AsyncIterator[T]:
    """An iterator's items, with a turn for others after every few."""
    for n, item in enumerate(items, start=1):
        yield item
        if n % SLICE == 0:
            await anyio.lowlevel.checkpoint()
