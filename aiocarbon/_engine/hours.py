"""What is known of the intensity of the hours ahead, as far as a plan needs it: forecast, then profile or average."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.clean import Plan, RefusedError, horizon_s, plan
from aiocarbon._core.grid import Layer
from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.profile import Filler, Step, continued
from aiocarbon._core.units import S_PER_HOUR
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.lookback import days_before
from aiocarbon._engine.poller import FORECAST_HOURS
from aiocarbon._engine.survey import LIMIT_S, Survey, survey
from aiocarbon._engine.whereabouts import chain_of
from aiocarbon.errors import ConfigError

if TYPE_CHECKING:
    from aiocarbon.intensity.base import Source
    from aiocarbon.settings import Settings

MOST_FORECAST_HOURS: Final = 96.0
"""No source forecasts further ahead."""

PAST_EVERY_S: Final = 6.0 * S_PER_HOUR
"""How often the past is asked for anew during a wait."""

PAST_AGAIN_S: Final = 120.0
"""The same where nobody told it: whose turn had not come has had it by then."""

PAST_LIMIT_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """The intensity of the hours ahead.

    Attributes:
        found: What the sources said.
        steps: From now on, gapless, up to the instant that was wanted.
        until_s: That instant, UTC seconds.
        known_until_s: UTC seconds up to which a source says something.
        filler: What stands behind that.
        days: Of how many days the profile is the mean; 0 where there is none.
    """

    found: Survey
    steps: tuple[Step, ...]
    until_s: float
    known_until_s: float
    filler: Filler
    days: int

    @property
    def now(self) -> IntensityValue:
        """What holds now: by a source, else by the profile, else the average."""
        said = self.found.now
        return self.steps[0][2] if said.quality is Quality.AVERAGE else said

    @property
    def is_known(self) -> bool:
        """True if more than a yearly average is known of the time ahead."""
        return self.known_until_s > self.found.now_s or self.filler is Filler.PROFILE

    def is_mixed(self, until_s: float) -> bool:
        """True if what is known up to an instant counts different things, which makes borders that are none."""
        counted = {(value.kind, value.factor_basis) for at, _, value in self.steps if at < until_s}
        return len(counted) > 1

    def plan(
        self,
        duration_s: float,
        *,
        now_s: float | None = None,
        blocks: int = 1,
        least_s: float = 0.0,
        power_w: float | None = None,
    ) -> Plan:
        """The best start of a work, or its blocks; behind a forecast, an average is not waited for.

        Args:
            duration_s: How long it takes.
            now_s: The earliest start, UTC seconds; by default when the sources were asked.
            blocks: Into how many blocks it may be cut at most.
            least_s: The shortest block, seconds.
            power_w: Its power draw; None: not known.

        Raises:
            ConfigError: An argument is not accepted.
        """
        begin_s = self.found.now_s if now_s is None else now_s
        until_s = self.until_s
        if self.filler is Filler.AVERAGE and duration_s <= until_s - begin_s:
            until_s = horizon_s(self.known_until_s, now_s=begin_s, until_s=until_s, duration_s=duration_s)
        try:
            return plan(
                self.steps,
                now_s=begin_s,
                until_s=until_s,
                duration_s=duration_s,
                blocks=blocks,
                least_s=least_s,
                power_w=power_w,
                pue=self.found.pue.value,
            )
        except RefusedError as error:
            raise ConfigError(error.field, error.value, error.accepted) from error


class Outlooker:
    """Looks ahead, again and again; what was measured in the last days is asked for only where it is needed.

    Args:
        exchange: Asks; the engine's.
        settings: Location, intensity, and whether packets may be sent.
        arguments: What of them was given as an argument.
        limit_s: Longest time that sources have, seconds, a look.
        environ: Where base URLs and tokens are looked up.
    """

    def __init__(
        self,
        exchange: Exchange,
        settings: Settings,
        arguments: Mapping[str, Any],
        *,
        limit_s: float = LIMIT_S,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._exchange = exchange
        self._settings = settings
        self._arguments = arguments
        self._limit_s = limit_s
        self._environ = environ
        self._past: list[Step] = []
        self._past_due_s = -math.inf
        self._sources: tuple[Source, ...] = ()

    async def look(self, until_s: float | None = None, *, ahead_s: float = 0.0) -> Hours:
        """Ask the sources for what they know of the time ahead.

        Args:
            until_s: Up to which instant, UTC seconds; None for a time from when they have answered on.
            ahead_s: That time, seconds.

        Raises:
            ConfigError: A value of the environment or a file is not accepted, or the user's own file cannot be read.
        """
        exchange = self._exchange
        wanted_h = (ahead_s if until_s is None else until_s - exchange.now_s) / S_PER_HOUR
        # Only two questions, however far ahead: others would each be asked and kept for themselves.
        hours = FORECAST_HOURS if wanted_h <= FORECAST_HOURS else MOST_FORECAST_HOURS
        found = await survey(
            exchange, self._settings, self._arguments, hours=hours, limit_s=self._limit_s, environ=self._environ
        )
        now_s = found.now_s
        end_s = now_s + ahead_s if until_s is None else max(until_s, now_s + 1.0)
        steps: list[Step] = [(piece.from_s, piece.to_s, piece.value) for piece in found.curve]
        if not steps:  # the user's number
            steps = [(now_s, end_s, found.now)]
        known = continued(steps, end_s, found.fallback)
        if known.filler is not Filler.NOTHING:
            await self._remember(found)
            begin_s = steps[0][0]
            past = [(at, min(to, begin_s), value) for at, to, value in self._past if at < begin_s]
            known = continued([*past, *steps], end_s, found.fallback)
        ahead = tuple(step for step in known.steps if step[1] > now_s)
        return Hours(
            found=found,
            steps=ahead,
            until_s=end_s,
            known_until_s=known.known_until_s,
            filler=known.filler,
            days=known.days,
        )

    async def _remember(self, found: Survey) -> None:
        """Ask the first source that tells it for what was measured in the last days."""
        exchange = self._exchange
        if found.now_s < self._past_due_s:
            return
        end_s = found.now_s // S_PER_HOUR * S_PER_HOUR
        answer = await days_before(exchange, await self._chain(found), end_s, PAST_LIMIT_S)
        self._past_due_s = found.now_s + (PAST_AGAIN_S if answer is None else PAST_EVERY_S)
        if answer is not None:
            layer = Layer(answer, 0.0, 0.0)
            self._past = [(s.from_s, min(s.to_s, end_s), layer.value(s)) for s in answer.samples if s.from_s < end_s]

    async def _chain(self, found: Survey) -> tuple[Source, ...]:
        blocking = self._exchange.blocking
        links = await blocking(chain_of, self._settings, found.location, blocking, self._environ)
        self._sources = tuple(link.source for link in links if link.source is not None)
        return self._sources

    async def due_s(self, found: Survey) -> float:
        """UTC seconds at which a source has something new; infinite where none is asked."""
        if not found.told:
            return math.inf
        sources = self._sources or await self._chain(found)
        return min((self._exchange.due_s(source) for source in sources), default=math.inf)
