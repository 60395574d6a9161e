"""Waits, on the engine's clock, for clean electricity: below a limit, or for the best start of a work.

Guarantees: the plan is made anew as sources say new things; a network that fails costs no exception, the wait goes by
what is known; where nothing is known it ends at once, since then there is nothing to wait for; it never spins, may be
cancelled at any instant, and no wait for an instant of the wall clock is longer than a minute.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.clean import Plan, RefusedError, below
from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.units import NS_PER_S, s_from_ns
from aiocarbon._core.waited import SOON_S, CleanWait, WaitEnd, Wish, check, instant_of
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.hours import Hours, Outlooker
from aiocarbon._engine.poller import LOOK_MOST_S
from aiocarbon._logging import get_logger
from aiocarbon.errors import ConfigError

if TYPE_CHECKING:
    from aiocarbon.settings import Settings

log = get_logger("waiting")

AHEAD_S: Final = 48.0 * 3600.0
"""How far is looked ahead where there is no deadline."""

LEAST_REST_S: Final = 60.0
"""Between two looks, whatever is said to be due."""

TOLD_APART_S: Final = 60.0
"""A planned start that moves by less is not told again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What is waited for at present.

    Attributes:
        now_s: UTC seconds.
        until_s: When the wait will end, as far as is known; None where nobody can say.
        intensity: What holds now.
        hours: What is known of the time ahead.
        plan: The plan of the start; None where there is none.
    """

    now_s: float
    until_s: float | None
    intensity: IntensityValue
    hours: Hours
    plan: Plan | None


class Waiter:
    """One wait.

    Args:
        exchange: Asks; the engine's.
        settings: Location, intensity, and whether packets may be sent.
        arguments: What of them was given as an argument.
        wish: What is waited for.
        told: Called with what is waited for, at the begin and whenever that changes; must not block.
        limit_s: Longest time that sources have, seconds, a look.
        environ: Where base URLs and tokens are looked up.
    """

    def __init__(
        self,
        exchange: Exchange,
        settings: Settings,
        arguments: Mapping[str, Any],
        wish: Wish,
        *,
        told: Callable[[Waiting], object] = lambda _: None,
        limit_s: float = 5.0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._exchange = exchange
        self._wish = wish
        self._told = told
        self._ahead = Outlooker(exchange, settings, arguments, limit_s=limit_s, environ=environ)
        self._began_ns = exchange.clock.boot_ns()
        self._hours: Hours | None = None
        self._plan: Plan | None = None
        self._told_until_s: float | None = math.nan

    async def wait(self) -> CleanWait:
        """Wait.

        Raises:
            ConfigError: The wish cannot come true, or a value of the environment or a file is not accepted.
        """
        try:
            # One that became late while the engine began is none that cannot come true: its time has come.
            check(self._wish, min(self._exchange.now_s, self._wish.latest_s - SOON_S))
        except RefusedError as error:
            raise ConfigError(error.field, error.value, error.accepted) from error
        while True:
            hours = await self._look()
            now_s = self._exchange.now_s
            ended = self._ended(hours, now_s)
            if ended is not None:
                reason, note = ended
                return self._outcome(reason, note, hours)
            until_s = self._expected_s(hours, now_s)
            self._tell(hours, now_s, until_s)
            due_s = max(await self._ahead.due_s(hours.found), now_s + LEAST_REST_S)
            await self._sleep_until(min(due_s, until_s or math.inf, self._wish.latest_s))

    async def _look(self) -> Hours:
        """What is known now; what was known before where the looking fails."""
        wish, now_s = self._wish, self._exchange.now_s
        until_s = now_s + AHEAD_S if wish.deadline_s is None else max(wish.deadline_s, now_s)
        try:
            self._hours = await self._ahead.look(until_s)
        except ConfigError as error:
            if self._hours is None:
                raise
            log.warning("waiting.look", why=str(error))  # a file that was changed meanwhile, say
        return self._hours

    def _ended(self, hours: Hours, now_s: float) -> tuple[WaitEnd, str] | None:
        """Why there is nothing more to wait for, in words; None if there is."""
        wish, value = self._wish, hours.now
        limit = wish.below_g_per_kwh
        if limit is not None and value.g_per_kwh < limit and (hours.is_known or value.quality is not Quality.AVERAGE):
            return WaitEnd.CLEAN, f"{value.g_per_kwh:.0f} gCO2eq/kWh is below {limit:g}"
        if now_s >= wish.latest_s + SOON_S:
            return WaitEnd.DEADLINE, "the deadline has come"
        if not hours.is_known:
            return WaitEnd.NO_FORECAST, "nobody says what the intensity will be: nothing to wait for"
        if wish.duration_s is not None and now_s <= wish.latest_s:
            self._plan = hours.plan(wish.duration_s, now_s=now_s)
            if self._plan.begins_s <= now_s + SOON_S:
                return WaitEnd.CLEAN, "no later start within the deadline is known to be cleaner"
        elif now_s >= wish.latest_s:
            return WaitEnd.DEADLINE, "the deadline has come"
        elif not hours.found.told:
            return WaitEnd.NO_FORECAST, "the intensity was given as a number: it will not change"
        return None

    def _expected_s(self, hours: Hours, now_s: float) -> float | None:
        """When the wait will end, as far as is known; None where nobody can say."""
        wish = self._wish
        ends = [] if self._plan is None else [self._plan.begins_s]
        if wish.below_g_per_kwh is not None:
            at_s = below(hours.steps, wish.below_g_per_kwh, now_s)
            # A value that is said to hold now and is not what counts now comes, if it does, with the next look.
            ends += [at_s] if at_s is not None and at_s > now_s else []
        ends += [wish.latest_s] if wish.latest_s < math.inf else []
        return min(ends, default=None)

    def _tell(self, hours: Hours, now_s: float, until_s: float | None) -> None:
        before = self._told_until_s
        if before is None or until_s is None:
            is_new = before is not until_s
        else:
            is_new = not abs(before - until_s) < TOLD_APART_S  # not a number before the first time
        if is_new:
            self._told_until_s = until_s
            self._told(Waiting(now_s=now_s, until_s=until_s, intensity=hours.now, hours=hours, plan=self._plan))

    async def _sleep_until(self, at_s: float) -> None:
        clock = self._exchange.clock
        while (left_s := at_s - self._exchange.now_s) > 0.0:
            await clock.sleep_until(clock.monotonic_ns() + math.ceil(min(left_s, LOOK_MOST_S) * NS_PER_S))

    def _outcome(self, reason: WaitEnd, note: str, hours: Hours) -> CleanWait:
        wish = self._wish
        return CleanWait(
            reason=reason,
            note=note,
            waited_s=s_from_ns(self._exchange.clock.boot_ns() - self._began_ns),
            below_g_per_kwh=wish.below_g_per_kwh,
            duration_s=wish.duration_s,
            deadline=None if wish.deadline_s is None else instant_of(wish.deadline_s),
            intensity=hours.now,
            plan=self._plan,
        )
