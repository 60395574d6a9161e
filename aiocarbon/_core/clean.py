"""When to run so that it emits least: the start, or the blocks of time, of least integral of the carbon intensity.

Guarantees:
- what counts is the whole duration, not the lowest instant: the integral over all of it is least;
- one block is exact: with an intensity of steps the integral is piecewise linear in the start, so its least value lies
  where the begin or the end of the work meets a border of a step or of the window, and all of these are tried;
- several blocks are the best of all that begin and end on a grid, which is told, and never worse than one block;
- of equals, the fewest blocks and the earliest start count: sums are whole numbers, so equals are equal;
- a range is 90 %: errors of one stretch are common to all of it, hours that both sides of a comparison share cancel,
  and what is left of the two is taken as independent.

Resolution: a millisecond and a millionth of a gram per kWh.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from aiocarbon._core.blocks import best
from aiocarbon._core.intensity import IntensityValue
from aiocarbon._core.profile import Step
from aiocarbon._core.units import S_PER_DAY, S_PER_HOUR, kwh_from_j

MS_PER_S: Final = 1000
PER_G: Final = 1_000_000
"""Parts of a gram per kWh that are told apart."""

DIGITS: Final = 9
"""Decimals of a difference of means: what is beyond is noise of their sums."""

MOST_BLOCKS: Final = 24
CELLS: Final = 120_000
"""Size of the table that several blocks are found by: some 50 ms."""

GRIDS_S: Final = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, S_PER_DAY)
"""Grids that are tried, the finest first that keeps the table small: all divide a day, so full hours lie on them."""

LOWEST_S: Final = float(S_PER_HOUR)
"""What is looked for where nobody says how long the work takes: the lowest hour."""


class RefusedError(ValueError):
    """What was asked for cannot be planned.

    Attributes:
        field: What is wrong: "duration", "deadline", "blocks", "least", "power_w", "pue" or "steps".
        value: What was given.
        accepted: What would be accepted, in words.
    """

    def __init__(self, field: str, value: object, accepted: str) -> None:
        self.field = field
        self.value = value
        self.accepted = accepted
        super().__init__(f"{field}={value!r} is not accepted: expected {accepted}")


class Range(NamedTuple):
    """A quantity and its 90 % range."""

    central: float
    low: float
    high: float

    def times(self, factor: float) -> Range:
        """It, multiplied by something known, at least 0."""
        return Range(self.central * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A stretch of time without a pause.

    Attributes:
        begins_s: UTC seconds.
        ends_s: UTC seconds.
        g_per_kwh: Mean intensity, gCO2eq/kWh.
    """

    begins_s: float
    ends_s: float
    g_per_kwh: Range


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When to run.

    Attributes:
        now_s: When it was planned, UTC seconds.
        until_s: By when all of it is to be done, UTC seconds.
        duration_s: How long the work takes, without pauses.
        blocks: When to run; at least one, ascending, none touches the next.
        g_per_kwh: Mean intensity over the blocks.
        now: The same work begun at once.
        window: The whole time up to `until_s`.
        saved_g_per_kwh: What the blocks save against beginning at once; 0 where that is the plan.
        saved_of_mean_g_per_kwh: What they save against the mean of the window: against a start by chance.
        energy_kwh: What the work takes at its power draw, times PUE; None where the power was not given.
        grid_s: Seconds of the grid on which several blocks are best; None where no other plan is better.
    """

    now_s: float
    until_s: float
    duration_s: float
    blocks: tuple[Block, ...]
    g_per_kwh: Range
    now: Block
    window: Block
    saved_g_per_kwh: Range
    saved_of_mean_g_per_kwh: Range
    energy_kwh: float | None
    grid_s: float | None

    @property
    def begins_s(self) -> float:
        """When to begin, UTC seconds."""
        return self.blocks[0].begins_s

    @property
    def is_now(self) -> bool:
        """True if nothing is better than to begin at once."""
        return self.begins_s <= self.now_s + 1.0 / MS_PER_S

    @property
    def saved_share(self) -> Range | None:
        """What is saved against beginning at once, as a share of that; None where that emits nothing."""
        emitted = self.now.g_per_kwh.central
        return self.saved_g_per_kwh.times(1.0 / emitted) if emitted > 0.0 else None

    @property
    def saved_of_mean_share(self) -> Range | None:
        """What is saved against the window's mean, as a share of that; None where that emits nothing."""
        emitted = self.window.g_per_kwh.central
        return self.saved_of_mean_g_per_kwh.times(1.0 / emitted) if emitted > 0.0 else None

    def co2eq_g(self, of: Range) -> Range | None:
        """Grams that the work emits, or saves, at a mean intensity; None where its power was not given."""
        return None if self.energy_kwh is None else of.times(self.energy_kwh)


def plan(
    steps: Sequence[Step],
    *,
    now_s: float,
    until_s: float,
    duration_s: float,
    blocks: int = 1,
    least_s: float = 0.0,
    power_w: float | None = None,
    pue: float = 1.0,
) -> Plan:
    """The start of least emission, or the blocks.

    Args:
        steps: The intensity; ascending, gapless, from `now_s` or before up to `until_s` or later.
        now_s: The earliest start, UTC seconds.
        until_s: When all has to be done, UTC seconds.
        duration_s: How long the work takes, above 0.
        blocks: Into how many blocks it may be cut at most, 1 to 24.
        least_s: The shortest block, seconds; 0: any.
        power_w: Power draw of the work, constant; None: not known.
        pue: Power usage effectiveness, at least 1.

    Raises:
        RefusedError: An argument is not accepted.
    """
    _check(steps, now_s, until_s, duration_s, blocks, least_s, power_w, pue)
    # Whole milliseconds, so that a start at a full hour is told as that and not as the instant before it.
    now_s, until_s = (math.ceil(at_s * MS_PER_S) / MS_PER_S for at_s in (now_s, until_s))
    curve, span = _Curve(steps, now_s), _ms(until_s - now_s)
    length = min(_ms(duration_s), span)
    found = _Found(curve.single(length, span), None)
    if blocks > 1:
        found = min((found, *_gridded(curve, length, span, blocks, _ms(least_s))), key=lambda one: one.rank(curve))
    origin, mean = _ms(now_s), curve.mean
    chosen = [((origin + begin) / MS_PER_S, (origin + end) / MS_PER_S) for begin, end in found.blocks]
    at_once, whole = [(now_s, (origin + length) / MS_PER_S)], [(now_s, until_s)]
    return Plan(
        now_s=now_s,
        until_s=until_s,
        duration_s=duration_s,
        blocks=tuple(Block(begins_s=at, ends_s=to, g_per_kwh=mean([(at, to)])) for at, to in chosen),
        g_per_kwh=mean(chosen),
        now=Block(begins_s=now_s, ends_s=now_s + duration_s, g_per_kwh=mean(at_once)),
        window=Block(begins_s=now_s, ends_s=until_s, g_per_kwh=mean(whole)),
        saved_g_per_kwh=curve.difference(at_once, chosen),
        saved_of_mean_g_per_kwh=curve.difference(whole, chosen),
        energy_kwh=None if power_w is None else kwh_from_j(power_w * duration_s) * pue,
        grid_s=found.grid_s,
    )


def _check(
    steps: Sequence[Step],
    now_s: float,
    until_s: float,
    duration_s: float,
    blocks: int,
    least_s: float,
    power_w: float | None,
    pue: float,
) -> None:
    """Refuse what has no plan.

    Raises:
        RefusedError: An argument is not accepted.
    """
    if not math.isfinite(now_s):
        raise RefusedError("now_s", now_s, "UTC seconds")
    if not math.isfinite(until_s) or _ms(until_s - now_s) <= 0:
        raise RefusedError("deadline", until_s, f"an instant after now ({now_s:.0f} s UTC)")
    if not math.isfinite(duration_s) or _ms(duration_s) <= 0:
        raise RefusedError("duration", duration_s, "a time above 0 s")
    if _ms(duration_s) > _ms(until_s - now_s):
        window = f"the window of {until_s - now_s:g} s"
        raise RefusedError("duration", duration_s, f"seconds, at most {window}, or a later deadline")
    if isinstance(blocks, bool) or not isinstance(blocks, int) or not 1 <= blocks <= MOST_BLOCKS:
        raise RefusedError("blocks", blocks, f"a whole number from 1 to {MOST_BLOCKS}")
    if not 0.0 <= least_s <= duration_s:
        raise RefusedError("least", least_s, f"seconds from 0 up to the duration, {duration_s:g} s")
    if power_w is not None and not 0.0 < power_w < math.inf:
        raise RefusedError("power_w", power_w, "watts above 0, or None")
    if not 1.0 <= pue < math.inf:
        raise RefusedError("pue", pue, "a ratio of at least 1")
    is_gapless = all(a[1] == b[0] for a, b in itertools.pairwise(steps))
    is_covering = bool(steps) and steps[0][0] <= now_s and steps[-1][1] >= until_s
    if not is_gapless or not is_covering or any(from_s >= to_s for from_s, to_s, _ in steps):
        raise RefusedError("steps", f"{len(steps)} steps", "an intensity for all of the window, without a gap")


def _ms(seconds: float) -> int:
    return round(seconds * MS_PER_S)


class _Found(NamedTuple):
    """Blocks, as milliseconds from now on, and the grid on which they are best; None if they are best of all."""

    blocks: tuple[tuple[int, int], ...]
    grid_s: float | None

    def rank(self, curve: _Curve) -> tuple[int, int, tuple[tuple[int, int], ...]]:
        """Orders plans, the best first."""
        return sum(curve.between(begin, end) for begin, end in self.blocks), len(self.blocks), self.blocks


class _Curve:
    """An intensity from now on, with its integral up to any millisecond as a whole number."""

    def __init__(self, steps: Sequence[Step], now_s: float) -> None:
        self._now_s = now_s
        self._steps = [step for step in steps if step[1] > now_s]
        self._at = [0, *(_ms(to_s - now_s) for _, to_s, _ in self._steps)]
        self._height = [round(value.g_per_kwh * PER_G) for _, _, value in self._steps]
        lengths = (to - at for at, to in itertools.pairwise(self._at))
        pieces = (length * height for length, height in zip(lengths, self._height, strict=True))
        self._sum = list(itertools.accumulate(pieces, initial=0))

    def upto(self, at: int) -> int:
        """The integral from now up to a millisecond."""
        i = min(max(bisect.bisect_right(self._at, at) - 1, 0), len(self._height) - 1)
        return self._sum[i] + (at - self._at[i]) * self._height[i]

    def between(self, begin: int, end: int) -> int:
        """The integral between two milliseconds."""
        return self.upto(end) - self.upto(begin)

    def single(self, length: int, span: int) -> tuple[tuple[int, int], ...]:
        """The one block of least integral, the earliest of equals."""
        latest = span - length
        starts = {0, latest, *self._at, *(at - length for at in self._at)}
        _, start = min((self.between(at, at + length), at) for at in starts if 0 <= at <= latest)
        return ((start, start + length),)

    def mean(self, blocks: Sequence[tuple[float, float]]) -> Range:
        """The mean over blocks, UTC seconds."""
        pieces = [(weight, value) for weight, value in self._weights(blocks, ()) if weight > 0.0]
        return Range(
            math.fsum(weight * value.g_per_kwh for weight, value in pieces),
            math.fsum(weight * value.low_g_per_kwh for weight, value in pieces),
            math.fsum(weight * value.high_g_per_kwh for weight, value in pieces),
        )

    def difference(self, of: Sequence[tuple[float, float]], less: Sequence[tuple[float, float]]) -> Range:
        """The mean over some blocks less that over others, with the range of what they do not share."""
        pieces = [(weight, value) for weight, value in self._weights(of, less) if abs(weight) > 1e-12]
        central = round(math.fsum(weight * value.g_per_kwh for weight, value in pieces), DIGITS)
        parts = [[weight * (value.g_per_kwh - value.low_g_per_kwh), weight * (value.high_g_per_kwh - value.g_per_kwh)]
                 for weight, value in pieces]  # fmt: skip
        ours_low, ours_high = (math.fsum(part[i] for part in parts if part[i] > 0.0) for i in (0, 1))
        theirs_low, theirs_high = (math.fsum(part[i] for part in parts if part[i] < 0.0) for i in (0, 1))
        return Range(central, central - math.hypot(ours_low, theirs_high), central + math.hypot(ours_high, theirs_low))

    def _weights(
        self, of: Sequence[tuple[float, float]], less: Sequence[tuple[float, float]]
    ) -> Iterator[tuple[float, IntensityValue]]:
        """How much each stretch counts in the mean over some blocks, less that over others."""
        of_s, less_s = (math.fsum(to - at for at, to in blocks) for blocks in (of, less))
        ends = {end for blocks in (of, less) for block in blocks for end in block}
        borders = sorted(ends | {to for _, to, _ in self._steps if min(ends) < to < max(ends)})
        tos = [to for _, to, _ in self._steps]
        for at, to in itertools.pairwise(borders):
            middle = (at + to) / 2.0
            weight = sum(begin < middle < end for begin, end in of) / of_s
            if less:
                weight -= sum(begin < middle < end for begin, end in less) / less_s
            i = min(bisect.bisect_right(tos, middle), len(tos) - 1)
            yield weight * (to - at), self._steps[i][2]

    def slots(self, begin: int, each: int, n: int) -> list[int]:
        """The integrals of so many neighbouring stretches of one length."""
        sums = [self.upto(begin + i * each) for i in range(n + 1)]
        return [b - a for a, b in itertools.pairwise(sums)]

    def offset(self, grid: int) -> int:
        """Milliseconds from now up to the next full multiple of so many milliseconds, UTC."""
        return -_ms(self._now_s % (grid / MS_PER_S)) % grid


def _gridded(curve: _Curve, length: int, span: int, blocks: int, least: int) -> Iterator[_Found]:
    """The best blocks on a grid that begins now, and on one of full hours, quarters and the like."""
    blocks = min(blocks, length // least) if least else blocks
    if blocks < 2:
        return
    grid, n = _grid(length, span, blocks)
    if n < 2:
        return
    each = length // n
    shortest = max(-(-least // each), 1)
    offsets = {0, curve.offset(grid)} if each == grid else {0}
    for offset in sorted(offsets):
        slots = (span - offset) // each
        if slots < n or shortest > n:
            continue
        runs = best(curve.slots(offset, each, slots), n, blocks, shortest)
        found = [(offset + begin * each, offset + end * each) for begin, end in runs]
        yield _Found(tuple(_filled(found, length - n * each, span)), each / MS_PER_S)


def _filled(blocks: list[tuple[int, int]], lack: int, span: int) -> list[tuple[int, int]]:
    """Blocks that are some milliseconds too short, the last one that has room behind it made longer."""
    for i in range(len(blocks) - 1, -1, -1):
        begin, end = blocks[i]
        room = (blocks[i + 1][0] if i + 1 < len(blocks) else span) - end
        if room >= lack:
            return [*blocks[:i], (begin, end + lack), *blocks[i + 1 :]]
    (begin, end), *later = blocks
    return [(begin - lack, end), *later]  # all of the room is in front


def _grid(length: int, span: int, blocks: int) -> tuple[int, int]:
    """The finest grid, milliseconds, for which the table stays small, and how many of its slots the work takes.

    Work that takes but one slot of it is not cut: no shorter than a minute, or shorter than the table allows.
    """
    doubled = (GRIDS_S[-1] * 2**n for n in itertools.count(1))
    for grid_s in itertools.chain(GRIDS_S, doubled):
        n = -(-length // (grid_s * MS_PER_S))
        if n == 1 or blocks * n * (span * n // length) <= CELLS:
            return grid_s * MS_PER_S, n
    raise AssertionError("no grid is the coarsest")


def horizon_s(known_until_s: float, *, now_s: float, until_s: float, duration_s: float) -> float:
    """By when work should be done that is planned where behind the sources there is nothing but a yearly average.

    An average has no clean hours to wait for, and often counts otherwise than the source: the window ends with what is
    known. Work that is longer than that begins at once.

    Args:
        known_until_s: UTC seconds up to which a source says something.
        now_s: The earliest start.
        until_s: When all has to be done.
        duration_s: How long the work takes.
    """
    return min(until_s, max(known_until_s, now_s + duration_s))


def below(steps: Iterable[Step], limit_g_per_kwh: float, now_s: float) -> float | None:
    """UTC seconds from which, now or later, the intensity is below a limit; None if nowhere."""
    return next((max(at, now_s) for at, to, value in steps if to > now_s and value.g_per_kwh < limit_g_per_kwh), None)
