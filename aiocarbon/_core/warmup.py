"""Progress inside the first epoch: which part of it is warm-up, and what an epoch of the steady state will take.

The first epoch lies: it compiles, fills caches, starts workers, and runs on a cold device. Without looking inside it, a
prediction that is made from it alone is wrong by what the warm-up took times all epochs (+30 % in the first epoch makes
N x mean wrong by 30 %; with the warm-up cut off, by the noise only).

Progress is kept as at most `MOST` cumulative points; when there are more, every other one goes, so memory and cost are
bounded whatever the number of steps. Cumulative points lose nothing but resolution by that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MOST: Final = 24
"""Points kept of an epoch."""

FEWEST: Final = 4
"""Chunks without which nothing is said of an epoch that has not ended."""

LONGEST_WARMUP: Final = 0.6
"""Share of an epoch's chunks that may be taken for warm-up. A longer one is met by the next epochs."""

CUT_Z: Final = 4.0
"""Standard errors by which the chunks before a cut must differ from those after it."""

CUT_SHARE: Final = 0.04
"""Share by which they must differ: a difference that is smaller than the model's own floor is not worth the data."""

CUT_CHUNKS: Final = 0.6
"""Share of the chunks before a cut that must lie on that side: one slow chunk in mid-epoch is no warm-up."""

NOISE: Final = 0.03
"""Standard deviation of a chunk's rate that is assumed beside what is seen, as a share: a handful of equal chunks does
not prove that there is no noise."""


class Point(NamedTuple):
    """Progress in an epoch: seconds and joules since its begin (None: unknown), and steps done."""

    t_s: float
    energy_j: float | None
    done: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """What is known of an epoch without its warm-up.

    Attributes:
        s_per_step: Seconds a step takes.
        s_per_step_sd: Standard error of that.
        power_w: Power draw while stepping; None where no energy is known.
        power_sd_w: Standard error of that.
        warmup_s: Seconds by which the warm-up made the steps so far take longer; below 0 if it made them shorter.
        warmup_j: Joules likewise; None where no energy is known.
    """

    s_per_step: float
    s_per_step_sd: float
    power_w: float | None
    power_sd_w: float
    warmup_s: float
    warmup_j: float | None


class Progress:
    """The points of one epoch."""

    def __init__(self) -> None:
        self._points: list[Point] = [Point(0.0, 0.0, 0.0)]
        self._spacing = 0.0
        self._borders = 0  # how often a chunk was begun
        self._known: tuple[int, Steady | None] = (-1, None)
        self.total: float | None = None

    def add(self, t_s: float, energy_j: float | None, done: float, total: float | None) -> None:
        """Take a point; one at which nothing was done since the one before moves that one's end of time.

        Args:
            t_s: Seconds since the epoch's begin.
            energy_j: Joules since then; None where unknown.
            done: Steps done since then.
            total: Steps of the whole epoch as far as known.
        """
        self.total = total if total is not None and total > 0 else self.total
        last = self._points[-1]
        if t_s < last.t_s or done <= last.done:
            return
        point = Point(t_s, energy_j, done)
        # The newest point is always the newest progress; it becomes a border once it is far enough from the last one.
        if len(self._points) > 1 and last.done - self._points[-2].done < self._spacing:
            self._points[-1] = point
        else:
            self._points.append(point)
            self._borders += 1
        if len(self._points) > MOST:
            self._points = [*self._points[:-1:2], point]
            self._spacing = max(2 * self._spacing, 2 * done / MOST)

    @property
    def last(self) -> Point:
        """The newest point."""
        return self._points[-1]

    @property
    def share(self) -> float | None:
        """Share of the epoch's steps that is done, 0..1; None where the epoch's total is unknown."""
        if self.total is None:
            return None
        return min(self.last.done / self.total, 1.0)

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return len(self._points) - 1

    def so_far(self) -> Steady | None:
        """As `steady`, as it was when the newest chunk was begun: cheap between chunks."""
        if self._known[0] != self._borders:
            self._known = (self._borders, self.steady())
        return self._known[1]

    def steady(self) -> Steady | None:
        """What the steps take without the warm-up; None while there are too few of them."""
        pairs = list(zip(self._points, self._points[1:], strict=False))
        if len(pairs) > FEWEST and (pairs[-1][1].done - pairs[-1][0].done) < 0.5 * self._spacing:
            pairs.pop()  # a stub of a chunk is mostly noise
        if len(pairs) < FEWEST:
            return None
        steps = [b.done - a.done for a, b in pairs]
        times = [b.t_s - a.t_s for a, b in pairs]
        cut, rate, rate_sd = steady_part(times, steps)
        done = self.last.done
        warm_s = self.last.t_s - rate * done
        joules = [_difference(a, b) for a, b in pairs]
        if sum(times) <= 0 or any(j is None for j in joules):
            return Steady(
                s_per_step=rate, s_per_step_sd=rate_sd, power_w=None, power_sd_w=0.0, warmup_s=warm_s, warmup_j=None
            )
        known = [j for j in joules if j is not None]
        _, power, power_sd = steady_part(known, times, least=cut)
        return Steady(
            s_per_step=rate,
            s_per_step_sd=rate_sd,
            power_w=power,
            power_sd_w=power_sd,
            warmup_s=warm_s,
            warmup_j=(self.last.energy_j or 0.0) - rate * done * power,
        )


def _difference(a: Point, b: Point) -> float | None:
    return None if a.energy_j is None or b.energy_j is None else max(b.energy_j - a.energy_j, 0.0)


def steady_part(amounts: Sequence[float], weights: Sequence[float], *, least: int = 0) -> tuple[int, float, float]:
    """Cut the warm-up off a series of rates.

    The cut with the greatest standardised difference between what is before and after it is made if that is
    significant, and again in what is left (a warm-up fades out in steps). What is left is not trimmed: a spike in it,
    such as a validation, is a part of each epoch.

    Args:
        amounts: Of each chunk, ascending in time.
        weights: What each amount is divided by to make a rate.
        least: Chunks that are warm-up anyway.

    Returns:
        How many chunks were cut off, the rate of the others, and its standard error.
    """
    n = len(amounts)
    rates = [a / w if w > 0 else 0.0 for a, w in zip(amounts, weights, strict=True)]
    first, last = min(least, n - 1), min(int(LONGEST_WARMUP * n), n - 2)
    for _ in range(4):
        cut = _cut(rates[first:], last - first)
        if not cut:
            break
        first += cut
    weight = sum(weights[first:])
    if weight <= 0:
        return first, 0.0, 0.0
    rate = sum(amounts[first:]) / weight
    left = n - first
    squares = sum([(x - rate) ** 2 for x in rates[first:]])
    sd = math.sqrt((squares + 2 * (NOISE * rate) ** 2) / (left + 1))
    return first, rate, sd / math.sqrt(left)


def _cut(rates: Sequence[float], last: int) -> int:
    """How many of the first rates, at most `last`, the best cut takes off; 0 if none is significant."""
    n, total, squares = len(rates), sum(rates), sum([x * x for x in rates])
    before = 0.0
    found = []
    for i in range(1, last + 1):
        x = rates[i - 1]
        before += x
        squares -= x * x
        after = (total - before) / (n - i)
        shift = before / i - after
        if abs(shift) <= CUT_SHARE * after or shift == 0:
            continue
        # The spread of what is after the cut counts: a warm-up is as uneven as it likes.
        var = max(squares - (n - i) * after * after, 0.0) + 2 * (NOISE * after) ** 2
        error = var * n / ((n - i + 1) * i * (n - i))  # squared; of the difference of two means
        if shift * shift > CUT_Z * CUT_Z * error:
            found.append((shift * shift / max(error, 1e-300), i, after, shift))
    for _, i, after, shift in sorted(found, reverse=True):
        if _is_a_side(rates[:i], after, shift):
            return i
    return 0


def _is_a_side(rates: Sequence[float], after: float, shift: float) -> bool:
    """Whether most of the rates, the first one among them, differ from those after the cut as their mean does."""
    away = [(x - after) / shift > 0.25 for x in rates]
    return away[0] and sum(away) >= CUT_CHUNKS * len(away)
