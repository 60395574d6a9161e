"""Blocks with and without, in turn: their order, the ratio that they show, and when there have been enough.

Pure: everything random comes from a seed, so that a result can be computed again from its blocks.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

ROUNDS: Final = 2000
"""Draws of a bootstrap."""

EVERY: Final = 5
"""Pairs between two looks whether there are enough: fewer looks, fewer lucky ones."""


def order(pairs: int, seed: int) -> list[tuple[bool, bool]]:
    """Which of each pair's two blocks is tracked: a fair coin says which comes first, so that no drift falls on one.

    Args:
        pairs: How many, at least 0.
        seed: Of the coin.
    """
    coin = random.Random(f"order {seed}")
    return [(True, False) if coin.random() < 0.5 else (False, True) for _ in range(pairs)]


def bootstrap(
    values: Sequence[float],
    *,
    seed: int,
    share: float = 0.95,
    rounds: int = ROUNDS,
    of: Callable[[Sequence[float]], float] = statistics.median,
) -> tuple[float, float]:
    """Percentile interval of a statistic (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Args:
        values: At least 1; one value has an interval without an end, since it tells nothing of the spread.
        seed: Of the draws.
        share: How often such an interval shall hold the truth, 0..1.
        rounds: Draws.
        of: The statistic.

    Returns:
        Its lower and upper end.
    """
    if len(values) < 2:
        return -math.inf, math.inf
    dice = random.Random(f"bootstrap {seed}")
    drawn = sorted(of(dice.choices(values, k=len(values))) for _ in range(rounds))
    outside = round(rounds * (1.0 - share) / 2.0)
    return drawn[outside], drawn[-1 - outside]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """By how much something changes with a tracker, from pairs of blocks.

    Attributes:
        percent: Median of the changes, %.
        low_percent: Lower end of its 95 % interval.
        high_percent: Upper end.
        lower_quartile: Of the changes themselves, %: their spread.
        upper_quartile: Likewise.
        pairs: How many there were.
    """

    percent: float
    low_percent: float
    high_percent: float
    lower_quartile: float
    upper_quartile: float
    pairs: int

    @property
    def half_width(self) -> float:
        """Of the interval, %."""
        return (self.high_percent - self.low_percent) / 2.0

    @property
    def is_from_zero(self) -> bool:
        """True if the interval lies on one side of zero: a change that can be told from none."""
        return self.low_percent > 0.0 or self.high_percent < 0.0

    def story(self, unit: str = "pairs") -> str:
        """The interval in words."""
        if not math.isfinite(self.half_width):
            return f"{self.pairs} {unit}: too few for an interval"
        return (
            f"95 % interval {self.low_percent:+.2f} to {self.high_percent:+.2f} (±{self.half_width:.2f}), half of the "
            f"{self.pairs} {unit} {self.lower_quartile:+.2f} to {self.upper_quartile:+.2f}"
        )


def ratio(pairs: Sequence[tuple[float, float]], *, seed: int) -> Ratio:
    """What tracking changes.

    Args:
        pairs: (without, with) of each pair, above 0; at least 1.
        seed: Of the bootstrap.
    """
    changes = [(tracked / bare - 1.0) * 100.0 for bare, tracked in pairs]
    low, high = bootstrap(changes, seed=seed)
    first, _, third = statistics.quantiles(changes, n=4) if len(changes) > 1 else (changes[0],) * 3
    return Ratio(
        percent=statistics.median(changes),
        low_percent=low,
        high_percent=high,
        lower_quartile=first,
        upper_quartile=third,
        pairs=len(changes),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """When there are enough pairs: once the interval is narrow, or there are as many as are allowed.

    Attributes:
        half_width: That the 95 % interval of the change shall have, %.
        least: Pairs that are taken in any case.
        most: Pairs that are never exceeded.
    """

    half_width: float = 0.4
    least: int = 10
    most: int = 300

    def is_enough(self, pairs: Sequence[tuple[float, float]], *, seed: int) -> bool:
        """Whether no more pairs are needed; it looks at every fifth only."""
        count = len(pairs)
        if count >= self.most:
            return True
        if count < max(self.least, 2) or (count - self.least) % EVERY:
            return False
        return ratio(pairs, seed=seed).half_width <= self.half_width

    def is_narrow(self, found: Ratio) -> bool:
        """Whether the width was reached; where it was not, nothing passes."""
        return found.half_width <= self.half_width
