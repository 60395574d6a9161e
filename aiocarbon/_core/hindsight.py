"""What a run's own earlier predictions turned out to be wrong by, and how wide that makes the next interval.

As in conformal prediction, the spread is taken from errors that were made and not from a model of them: the logarithm
of what came over what was predicted, on horizons that grow with the run. What no past error can show is the floor.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from aiocarbon._core.units import Z_90

FLOOR: Final = 0.03
"""Standard deviation of what no model of the past knows, as a share of what remains. With it, 90 % intervals of the
Monte-Carlo held 88-100 % where the regime held, and as little as 19 % without (thermal rise)."""

FLOOR_COUNT: Final = 3.0
"""How many of this run's own earlier errors the floor counts as: they narrow it where the run proves steady."""


class Forecast(NamedTuple):
    """What was predicted at an earlier epoch, to be held against what came."""

    epochs: int
    seconds: float
    joules: float
    epoch_s: float
    power_w: float | None


class Spread(NamedTuple):
    """Errors of earlier forecasts: how many, and the sum of squares of their logarithms."""

    made: int
    squares: float

    @property
    def half(self) -> float:
        """The half width, as a share, that they ask for."""
        return math.expm1(min(Z_90 * math.sqrt(self.squares / self.made), 3.0)) if self.made else 0.0

    @property
    def floor(self) -> float:
        """The floor among them, as a share (one standard deviation)."""
        return math.sqrt((FLOOR_COUNT * FLOOR**2 + min(self.squares, 1.0)) / (FLOOR_COUNT + self.made))


NO_ERRORS: Final = Spread(0, 0.0)


class Hindsight:
    """This run's own earlier errors, on horizons that grow with the run: about three forecasts kept a doubling."""

    def __init__(self) -> None:
        self._forecasts: list[Forecast] = []
        self._next = 1
        self.seconds = NO_ERRORS
        self.joules = NO_ERRORS

    def clear(self) -> None:
        """Forget all: what was predicted before a change of regime says nothing of the errors in this one."""
        self._forecasts.clear()
        self.seconds = self.joules = NO_ERRORS

    def score(self, epochs: int, seconds: float, joules: float) -> None:
        """Hold the forecasts whose horizon is at least half of what they were made from against what came."""
        errors_s, errors_j = [], []
        for made in self._forecasts:
            ahead = epochs - made.epochs
            if ahead < max(1.0, 0.5 * made.epochs):
                continue
            came_s, came_j = (seconds - made.seconds) / ahead, (joules - made.joules) / ahead
            if came_s > 0 and made.epoch_s > 0:
                errors_s.append(math.log(came_s / made.epoch_s) ** 2)
            if came_j > 0 and made.power_w and made.epoch_s > 0:
                errors_j.append(math.log(came_j / (made.epoch_s * made.power_w)) ** 2)
        self.seconds = Spread(len(errors_s), sum(errors_s))
        self.joules = Spread(len(errors_j), sum(errors_j))

    def is_due(self, epochs: int) -> bool:
        """Whether it is time to keep a forecast."""
        return epochs >= self._next

    def keep(self, forecast: Forecast) -> None:
        """Keep a forecast."""
        self._forecasts.append(forecast)
        self._next = max(forecast.epochs + 1, math.ceil(forecast.epochs * 1.25))
