"""Judging counters by what was read from them anyway: one that stands still, and two that are the same one.

Pure bookkeeping, a few dictionary writes a reading; no read is made for its sake.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final

from aiocarbon._core.units import NS_PER_MS, NS_PER_S, S_PER_NS

STILL_LIMIT_NS: Final = 2 * NS_PER_S
"""A live processor or board moves its counter within milliseconds; one that stood for this long is not trusted."""


class Stillness:
    """For how long a counter was seen at one value.

    Attributes:
        told: True once a user was told of it; false again when the counter moves.
    """

    __slots__ = ("_last_ns", "_since_ns", "_value", "told")

    def __init__(self) -> None:
        self._value: int | None = None
        self._since_ns = 0
        self._last_ns = 0
        self.told = False

    def note(self, t_ns: int, value: int) -> None:
        """Take a reading into account: monotonic nanoseconds, counter value."""
        if value != self._value:
            self._value = value
            self._since_ns = t_ns
            self.told = False
        self._last_ns = t_ns

    @property
    def is_stuck(self) -> bool:
        """True if the counter stood at one value for at least 2 s of reads."""
        return self._last_ns - self._since_ns >= STILL_LIMIT_NS

    @property
    def still_s(self) -> float:
        """Seconds between the first and the last read of the newest value."""
        return (self._last_ns - self._since_ns) * S_PER_NS


class Mirrors:
    """Finds counters that show the same energy twice, as the dies of some processors do.

    Two counters are called mirrors when their energies agree within 0.1 % over five windows in a row. A window lasts
    at least 10 s and both its ends are rounds in which all counters were read within 3 ms, so that neither the
    counters' refresh (1 ms) nor the time between two reads makes up 0.1 % by itself.
    """

    WINDOWS: Final = 5
    WINDOW_NS: Final = 10 * NS_PER_S
    ROUND_NS: Final = 3 * NS_PER_MS
    TOLERANCE: Final = 0.001

    def __init__(self, ranges_uj: Mapping[str, int | None]) -> None:
        """Watch these counters.

        Args:
            ranges_uj: Id of each counter, and the value at which it wraps.
        """
        self._ranges = dict(ranges_uj)
        self._latest: dict[str, tuple[int, int]] = {}
        self._base: dict[str, int] = {}
        self._base_ns = 0
        self._streaks = dict.fromkeys(itertools.combinations(sorted(self._ranges), 2), 0)
        self._told: set[tuple[str, str]] = set()

    def note(self, counter: str, t_ns: int, value: int) -> None:
        """Take a reading into account: id, monotonic nanoseconds, microjoules; of a counter not watched, nothing."""
        if counter not in self._ranges:
            return
        self._latest[counter] = (t_ns, value)
        if self._base and t_ns - self._base_ns < self.WINDOW_NS:
            return
        if len(self._latest) < len(self._ranges):
            return
        if t_ns - min(t for t, _ in self._latest.values()) > self.ROUND_NS:
            return
        if self._base:
            self._compare()
        self._base = {known: newest for known, (_, newest) in self._latest.items()}
        self._base_ns = t_ns

    def _compare(self) -> None:
        deltas = {}
        for counter, (_, value) in self._latest.items():
            delta = value - self._base[counter]
            deltas[counter] = delta + (self._ranges[counter] or 0) if delta < 0 else delta
        for pair in self._streaks:
            a, b = deltas[pair[0]], deltas[pair[1]]
            agree = a > 0 and b > 0 and abs(a - b) <= self.TOLERANCE * max(a, b)
            self._streaks[pair] = self._streaks[pair] + 1 if agree else 0

    def found(self) -> list[tuple[str, str]]:
        """Pairs of ids that were found to be mirrors since the last call; each is told once."""
        new = [pair for pair, streak in self._streaks.items() if streak >= self.WINDOWS and pair not in self._told]
        self._told.update(new)
        return new
