"""Numbers out of a journal's JSON, taken only if they can be what they stand for, so that sums of them are numbers too.

JSON knows integers of any length, 1e400 and true; a line with one of these where a number belongs is a bad line.
"""

from __future__ import annotations

from typing import Any, Final

from aiocarbon._core.units import NS_PER_S, S_PER_NS

__all__ = ["LARGEST", "count", "number", "seconds", "whole"]

LARGEST: Final = 1 << 63
"""Instants in nanoseconds and energies in microjoules stay below it."""

MOST: Final = 1e24
"""No number is larger; products of several stay finite."""


def whole(value: Any) -> int:
    """The value, which is an integer of sane size.

    Raises:
        TypeError, ValueError: It is not.
    """
    if type(value) is not int:
        raise TypeError(f"{value!r} is no integer")
    if not -LARGEST < value < LARGEST:
        raise ValueError("an integer too large")
    return value


def count(value: Any) -> int:
    """The value, which is a whole number from 0 on.

    Raises:
        TypeError, ValueError: It is not.
    """
    if whole(value) < 0:
        raise ValueError(f"{value} is no count")
    return int(value)


def number(value: Any) -> float:
    """The value, which is a finite number of sane size.

    Raises:
        TypeError, ValueError: It is not.
    """
    if type(value) is not int and type(value) is not float:
        raise TypeError(f"{value!r} is no number")
    if not abs(value) <= MOST:  # nor is one that is not a number
        raise ValueError("a number too large")
    return float(value)


def seconds(value: Any) -> float:
    """The value, which is a duration of up to some centuries; less than a nanosecond is none.

    Raises:
        TypeError, ValueError: It is not.
    """
    duration_s = number(value)
    if not -S_PER_NS < duration_s <= LARGEST / NS_PER_S:
        raise ValueError(f"{value} s are no duration")
    return duration_s if duration_s >= S_PER_NS else 0.0
