"""What intensity to reckon with where no source says anything any more: the last days' profile, or the average.

The day's course is what repeats: a profile is the mean, by time of the UTC day, of what was measured in the last days.
It is made of what is of one kind only, since sources that count different things would make steps of their own.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from aiocarbon._core.grid import SPREAD
from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.units import S_PER_DAY

Step = tuple[float, float, IntensityValue]
"""From and to (UTC seconds since 1970), and what holds in between."""

PROFILE_DAYS: Final = 7.0
"""How far back a profile reaches at most: a week has every weekday once, and seasons do not matter in it."""

NO_DAYS: Final = 0


class Filler(StrEnum):
    """What stands where the sources end."""

    NOTHING = "nothing"
    PROFILE = "profile"
    AVERAGE = "average"


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """A curve that reaches as far as is wanted.

    Attributes:
        steps: Ascending, gapless, up to the instant that was wanted.
        known_until_s: UTC seconds up to which a source says something; the begin of `steps` where none does.
        filler: What stands behind that.
        days: Of how many days, at least, the profile is the mean; 0 where there is none.
    """

    steps: tuple[Step, ...]
    known_until_s: float
    filler: Filler
    days: int = NO_DAYS


def continued(steps: Sequence[Step], until_s: float, fallback: IntensityValue) -> Continued:
    """Continue what is known: by the daily profile if at least a full day was measured, else by the average.

    Args:
        steps: What is known: past, present and forecast; ascending, gapless, at least one. What its end holds of
            `cached` and `average` values, which are no forecast, is replaced.
        until_s: UTC seconds up to which the curve is wanted, behind the begin of the first step.
        fallback: What counts where there is no profile.
    """
    begin_s = steps[0][0]
    known = [step for step in steps if step[2].quality.is_told]
    known_until_s = min(max((to for _, to, _ in known), default=begin_s), until_s)
    head = [(at, min(to, known_until_s), value) for at, to, value in steps if at < known_until_s]
    if known_until_s >= until_s:
        return Continued(steps=tuple(head), known_until_s=known_until_s, filler=Filler.NOTHING)
    profile = daily_profile(known)
    if not profile:
        tail: list[Step] = [(known_until_s, until_s, fallback)]
        return Continued(steps=(*head, *tail), known_until_s=known_until_s, filler=Filler.AVERAGE)
    days = min(len(values) for _, values in profile)
    tail = _repeated(profile, known[-1][2], known_until_s, until_s)
    return Continued(steps=(*head, *tail), known_until_s=known_until_s, filler=Filler.PROFILE, days=days)


def daily_profile(steps: Sequence[Step]) -> list[tuple[float, list[float]]]:
    """What was measured at each time of the day.

    Args:
        steps: Ascending, none overlaps the next; only what was measured counts, of the last seven days that were, and
            only what is of the newest one's kind and factor basis.

    Returns:
        From (seconds of the UTC day, ascending, the first 0), and the values, g/kWh, of the days; empty if less than
        the whole of a day was measured.
    """
    measured = [step for step in steps if step[2].quality.is_measured and step[1] > step[0]]
    if not measured:
        return []
    newest = steps[-1][2]
    alike = [step for step in measured if _is_alike(step[2], newest)]
    since_s = measured[-1][1] - PROFILE_DAYS * S_PER_DAY
    pieces = [piece for step in alike for piece in _by_day(max(step[0], since_s), step[1], step[2].g_per_kwh)]
    borders = sorted({0.0, *(border for from_s, to_s, _ in pieces for border in (from_s, to_s) if border < S_PER_DAY)})
    values: list[list[float]] = [[] for _ in borders]
    for from_s, to_s, g_per_kwh in pieces:
        for i in range(bisect.bisect_left(borders, from_s), bisect.bisect_left(borders, to_s)):
            values[i].append(g_per_kwh)
    return list(zip(borders, values, strict=True)) if all(values) else []


def _is_alike(a: IntensityValue, b: IntensityValue) -> bool:
    return (a.kind, a.factor_basis) == (b.kind, b.factor_basis)


def _by_day(from_s: float, to_s: float, g_per_kwh: float) -> list[tuple[float, float, float]]:
    """A step, cut at midnights (UTC) and told in seconds of the day."""
    pieces = []
    while from_s < to_s:
        midnight_s = from_s // S_PER_DAY * S_PER_DAY
        end_s = min(to_s, midnight_s + S_PER_DAY)
        pieces.append((from_s - midnight_s, end_s - midnight_s, g_per_kwh))
        from_s = end_s
    return pieces


def _repeated(
    profile: Sequence[tuple[float, list[float]]], like: IntensityValue, begin_s: float, end_s: float
) -> list[Step]:
    """A profile from one instant up to another, day after day."""
    days = min(len(values) for _, values in profile)
    note = f"mean at this time of day over the last {days} days" if days > 1 else "as at this time of the last day"
    values = [_typical(of_days, like, note) for _, of_days in profile]
    froms = [from_s for from_s, _ in profile]
    steps: list[Step] = []
    midnight_s = begin_s // S_PER_DAY * S_PER_DAY
    while midnight_s < end_s:
        for (from_s, to_s), value in zip(itertools.pairwise((*froms, float(S_PER_DAY))), values, strict=True):
            at_s, until_s = max(midnight_s + from_s, begin_s), min(midnight_s + to_s, end_s)
            if until_s > at_s:
                steps.append((at_s, until_s, replace(value, valid_from_s=at_s, valid_to_s=until_s)))
        midnight_s += S_PER_DAY
    return steps


def typical(values: Sequence[float], share: float) -> tuple[float, float, float]:
    """The mean of what was measured at one time of the day, and a range that holds all of it.

    Args:
        values: What was measured, at least one, g/kWh.
        share: Least half width of the range, as a share of the mean.
    """
    mean = sum(values) / len(values)
    return mean, min(mean * (1.0 - share), *values), max(mean * (1.0 + share), *values)


def _typical(values: Sequence[float], like: IntensityValue, note: str) -> IntensityValue:
    """What is typical of one time of the day, as a value, with the range that a guess deserves."""
    mean, low, high = typical(values, SPREAD[Quality.CACHED])
    return replace(
        like,
        g_per_kwh=mean,
        low_g_per_kwh=low,
        high_g_per_kwh=high,
        quality=Quality.AVERAGE,
        note=note,
    )
