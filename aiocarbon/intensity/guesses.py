"""Which intensities of the past a source may know better by now, and of which windows it is asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon.intensity.base import Traits

__all__ = ["GUESSES", "guessed", "guessed_stretch", "is_guess", "knows_better", "stands_over"]

GUESSES: Final = frozenset(quality for quality in Quality if not quality.is_measured)
"""What is asked for again once it is past."""


def is_guess(value: IntensityValue, traits: Traits) -> bool:
    """Whether a source may know better, afterwards, than a value that is used."""
    if value.quality is Quality.ESTIMATED:
        return traits.corrects and value.source == traits.title
    return value.quality in GUESSES


def stands_over(new: IntensityValue, old: IntensityValue) -> bool:
    """Whether what was learnt afterwards counts in the place of what was used: where it is surer, or a new estimate."""
    return new.quality.is_surer_than(old.quality) or new.quality is old.quality is Quality.ESTIMATED


def knows_better(new: IntensityValue, old: IntensityValue, traits: Traits) -> bool:
    """Whether what a source says afterwards is to stand in the place of what was used.

    Args:
        new: What it says.
        old: What was used.
        traits: The source.
    """
    if not is_guess(old, traits) or not stands_over(new, old):
        return False
    return replace(new, valid_from_s=None, valid_to_s=None) != replace(old, valid_from_s=None, valid_to_s=None)


def guessed(
    steps: Iterable[tuple[float, float, IntensityValue]], traits: Traits, now_s: float
) -> list[tuple[float, float]]:
    """The windows that hold all guesses, in whole steps of a source that are over and published.

    Args:
        steps: The intensity that is used: from, to (UTC seconds), value; ascending.
        traits: The source.
        now_s: Present, UTC seconds.

    Returns:
        Ascending; none touches the next.
    """
    step_s = traits.step_s
    published_s = math.floor((now_s - traits.offset_s) / step_s) * step_s
    windows: list[tuple[float, float]] = []
    for at, to, value in steps:
        first_s = math.floor(at / step_s) * step_s
        last_s = min(math.ceil(to / step_s) * step_s, published_s)
        if to <= at or last_s <= first_s or not is_guess(value, traits):
            continue
        if windows and first_s <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(last_s, windows[-1][1]))
        else:
            windows.append((first_s, last_s))
    return windows


def guessed_stretch(
    steps: Sequence[tuple[float, float, IntensityValue]], traits: Traits, now_s: float
) -> tuple[float, float] | None:
    """The one window that holds all guesses of a run, in whole steps of a source; None if there is none.

    Before a source fell silent, its last value counted until its successor was due: that one is asked for too.

    Args:
        steps: As for `guessed`; the first begins with the run.
        traits: The source.
        now_s: Present, UTC seconds.
    """
    windows = guessed(steps, traits, now_s)
    if not windows:
        return None
    first_s = windows[0][0]
    for at, to, value in steps:
        if at < first_s <= to and value.valid_to_s is not None and value.valid_to_s < first_s:
            overdue_s = max(value.valid_to_s, steps[0][0])
            first_s = math.floor(overdue_s / traits.step_s) * traits.step_s
            break
    return first_s, windows[-1][1]
