"""Keeps a ticker going: hears of its ticks, each of which wakes the loop once at most, and sees where one overruns."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable

import anyio.abc
from anyio import to_thread

from aiocarbon._core.units import s_from_ns
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.hops import READ_DEADLINE_S, Ticker
from aiocarbon._engine.track import Track


class Ticking:
    """Ticks of one pace after another.

    All is done in plain callbacks of the loop: a task that waits for each tick, with a deadline, would double what
    waking the loop takes.

    Args:
        clock: The engine's.
        group: Where its worker is waited for, and where an error of `heard` ends up.
        limiter: Of the engine's workers.
        tracks: All devices.
        heard: Takes what was read at a tick.
        hung: Told of a ticker in which a device hangs, which it is to abandon; another one takes its place.
        quiet_to_ns: Up to when it need not hear of ticks.
        is_urgent: Asked in the worker, whether it must all the same.

    Attributes:
        ticker: The present one; None before `begin` and behind `stop`.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        group: anyio.abc.TaskGroup,
        limiter: anyio.CapacityLimiter,
        tracks: Callable[[], list[Track]],
        heard: Callable[[Ticker], None],
        hung: Callable[[Ticker], None],
        quiet_to_ns: Callable[[], int] = lambda: 0,
        is_urgent: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock = clock
        self._group = group
        self._limiter = limiter
        self._tracks = tracks
        self._heard = heard
        self._hung = hung
        self._quiet_to_ns = quiet_to_ns
        self._is_urgent = is_urgent
        self.ticker: Ticker | None = None
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        """True between `begin` and `stop`."""
        return self.ticker is not None

    def begin(self, interval_ns: int) -> None:
        """Tick at a pace from now on, in nanoseconds.

        The first tick comes after the first interval, or when it would have come at the pace before: runs that come and
        go more quickly than that do not put it off.
        """
        before, now_ns = self.ticker, self._clock.monotonic_ns()
        self.stop()
        self._go_on(now_ns + interval_ns if before is None else min(before.due_ns, now_ns + interval_ns), interval_ns)
        if before is not None and before.current is not None:  # it may hang there
            asyncio.get_running_loop().call_later(READ_DEADLINE_S, self._look, before, before.current)

    def stop(self) -> None:
        """Tick no more."""
        if self.ticker is not None:
            self.ticker.stop.set()
            self.ticker = None
        if self._alarm is not None:
            self._alarm.cancel()

    def hasten(self) -> bool:
        """Hear of the next tick, whatever was said before; from any thread. True if some may have gone unheard."""
        ticker = self.ticker
        if ticker is None or not ticker.quiet_to_ns:
            return False
        ticker.quiet_to_ns = 0
        return True

    def hear(self) -> None:
        """Hear now of the ticks that were not told."""
        if self.ticker is not None:
            self._told(self.ticker)

    def refresh(self) -> None:
        """Read other devices from the next tick on."""
        if self.ticker is not None:
            self.ticker.all = self._tracks()

    def _go_on(self, due_ns: int, interval_ns: int) -> None:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()

        def tell() -> None:
            loop.call_soon_threadsafe(self._told, ticker, context=context)  # in the worker

        ticker = self.ticker = Ticker(
            self._tracks(),
            clock=self._clock,
            due_ns=due_ns,
            interval_ns=interval_ns,
            tell=tell,
            is_urgent=self._is_urgent,
        )
        self._group.start_soon(self._run, ticker)
        self._expect(ticker)

    async def _run(self, ticker: Ticker) -> None:
        try:
            await to_thread.run_sync(ticker.run, abandon_on_cancel=True, limiter=self._limiter)
        finally:
            ticker.stop.set()
            if ticker is self.ticker:
                self.stop()  # the engine dies, and nothing can be begun any more

    def _told(self, ticker: Ticker) -> None:
        if not self.is_on:
            return
        ticker.is_told = False
        try:
            self._heard(ticker)
            self.refresh()
            ticker.quiet_to_ns = self._quiet_to_ns()
        except Exception as error:  # asyncio would log it and go on
            self._group.start_soon(_raise, error)
        if ticker is self.ticker:  # else the pace has changed since
            self._expect(ticker)

    def _expect(self, ticker: Ticker, found: Track | Ticker | None = None) -> None:
        """Look after the next tick's deadline what has become of it; where something was found, a deadline from now."""
        if self._alarm is not None:
            self._alarm.cancel()
        told_ns = max(ticker.due_ns, ticker.quiet_to_ns)  # by when: a look at each tick would cost half of hearing it
        wait_s = 0.0 if found else s_from_ns(max(told_ns - self._clock.monotonic_ns(), 0))
        self._alarm = asyncio.get_running_loop().call_later(wait_s + READ_DEADLINE_S, self._look, ticker, found)

    def _look(self, ticker: Ticker, found: Track | Ticker | None) -> None:
        """See whether a ticker hangs: it does if it is found twice in the same read, or asleep when it should not be.

        Once is not yet its fault: who was stopped, or kept from running, finds any wait over.
        """
        if not self.is_on:
            return
        is_asleep = ticker.current is None and ticker.due_ns < self._clock.monotonic_ns()
        now_found = ticker if is_asleep else ticker.current
        if now_found is not None and now_found is found:
            self._replace(ticker, is_asleep=is_asleep)
        elif ticker is self.ticker:
            self._expect(ticker, now_found)

    def _replace(self, ticker: Ticker, *, is_asleep: bool) -> None:
        if is_asleep:  # some Pythons wait by the wall clock, which was set back
            ticker.stop.set()
        else:
            self._hung(ticker)
            self._told(ticker)  # what came before the one that hangs, and what else a tick brings
        if ticker is self.ticker:
            self._go_on(ticker.due_ns, ticker.interval_ns)


async def _raise(error: Exception) -> None:
    raise error
