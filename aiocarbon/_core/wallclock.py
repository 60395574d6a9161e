"""From monotonic instants to UTC: only to look intensity up and to print, never to measure a duration."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import NamedTuple

from aiocarbon._core.units import NS_PER_MS, S_PER_NS

STEP_NS = 50 * NS_PER_MS
"""A wall clock that leaves the line by more than this between two looks was set."""


class Anchor(NamedTuple):
    """One look at both clocks."""

    mono_ns: int
    wall_ns: int


class WallClock:
    """A piecewise line through looks at both clocks: a new piece begins where the wall clock was set."""

    def __init__(self, first: Anchor) -> None:
        self._anchors = [first]

    def look(self, anchor: Anchor) -> int:
        """Take a look at both clocks.

        Returns:
            Nanoseconds by which the wall clock was set since the last look; 0 if it was not.
        """
        off = anchor.wall_ns - self.wall_ns(anchor.mono_ns)
        if abs(off) <= STEP_NS:
            return 0
        self._anchors.append(anchor)
        return off

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """The beginnings of all pieces."""
        return tuple(self._anchors)

    def _piece(self, mono_ns: int) -> int:
        return max(bisect.bisect_right(self._anchors, mono_ns, key=lambda a: a.mono_ns) - 1, 0)

    def wall_ns(self, mono_ns: int) -> int:
        """UTC nanoseconds since 1970 at a monotonic instant."""
        anchor = self._anchors[self._piece(mono_ns)]
        return anchor.wall_ns + mono_ns - anchor.mono_ns

    def wall_s(self, mono_ns: int) -> float:
        """UTC seconds since 1970 at a monotonic instant."""
        return self.wall_ns(mono_ns) * S_PER_NS

    def wall_span_s(self, begin_ns: int, end_ns: int) -> tuple[float, float]:
        """The earliest and the latest UTC second of a window, which lie within it where the clock was set meanwhile."""
        rows = [(from_ns + offset, to_ns + offset) for from_ns, to_ns, offset in self.pieces(begin_ns, end_ns)]
        return min(row[0] for row in rows) * S_PER_NS, max(row[1] for row in rows) * S_PER_NS

    def pieces(self, begin_ns: int, end_ns: int) -> Iterator[tuple[int, int, int]]:
        """The stretches `(from_ns, to_ns, wall - monotonic)` of a window in which the wall clock was not set."""
        at = begin_ns
        i = self._piece(begin_ns)
        while True:
            anchor = self._anchors[i]
            last = i + 1 == len(self._anchors) or self._anchors[i + 1].mono_ns >= end_ns
            to = end_ns if last else max(self._anchors[i + 1].mono_ns, at)
            yield at, to, anchor.wall_ns - anchor.mono_ns
            if last:
                return
            at, i = to, i + 1
