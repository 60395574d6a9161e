"""Lengths of time as people write them: "90 s", "30min", "8h", "1.5 d"; no unit, no guess."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Final

from aiocarbon._core.units import S_PER_DAY, S_PER_HOUR, S_PER_MIN

SECONDS_OF: Final = {"s": 1.0, "min": float(S_PER_MIN), "h": float(S_PER_HOUR), "d": float(S_PER_DAY)}

MOST_S: Final = 366.0 * S_PER_DAY
"""Longer is taken for a slip: nothing is planned a year ahead."""

ACCEPTED: Final = f'a time above 0 in {", ".join(SECONDS_OF)}, such as "90min", "8h" or "1.5d"'


def seconds_of_text(text: str) -> float:
    """Seconds of a text.

    Raises:
        ValueError: It is no number with a unit, or not above 0, or above a year; the message says what is accepted.
    """
    found = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)\s*", text, re.ASCII)
    seconds = float(found[1]) * SECONDS_OF.get(found[2], math.nan) if found else math.nan
    return _checked(seconds)


def seconds_of(value: object) -> float:
    """Seconds of a number (of seconds), a timedelta or a text.

    Raises:
        ValueError: As of `seconds_of_text`.
    """
    if isinstance(value, str):
        return seconds_of_text(value)
    if isinstance(value, timedelta):
        return _checked(value.total_seconds())
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{ACCEPTED}; a number of seconds; or a timedelta")
    return _checked(float(value))


def _checked(seconds: float) -> float:
    if not 0.0 < seconds <= MOST_S:
        raise ValueError(f"{ACCEPTED}; at most a year")
    return seconds
