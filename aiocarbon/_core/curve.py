"""The energy curve of a device: joules used so far over time, monotone, with gaps and an error bound.

Every point carries cumulative sums, so that a cut between two instants is a difference and cuts always add up:
`energy_j` (central), `under_j` and `over_j` (what bridged or lost time may have used less or more), `missing_ns` (time
that no reading vouches for), `hidden_j2` (variance of what a power sensor's samples hide). `slack_j` is the point's own
error, which only the edges of a cut feel.

Points come from readings (`derive.py`) or from a journal.
"""

from __future__ import annotations

import bisect
import copy
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aiocarbon._core.reading import UNKNOWN_MAX_POWER_W, Device
from aiocarbon._core.units import NS_PER_MS, S_PER_NS, ns_from_s

EDGE_GRACE_NS = 5 * NS_PER_MS
"""Extrapolation beyond the newest point that is allowed on top of the sensor's own refresh and lag."""

POWER_MARGIN = 0.2
"""Share by which the power range seen so far is widened when an interpolation's error is bounded."""

TAIL_NS = 200 * NS_PER_MS
"""Stretch over which "the power now" of a counter is taken; at least two refreshes."""


class State(NamedTuple):
    """The curve at one instant: cumulative joules, nanoseconds and square joules, and its own error in joules."""

    energy_j: float
    under_j: float
    over_j: float
    missing_ns: float
    slack_j: float
    hidden_j2: float = 0.0


class Point(NamedTuple):
    """One point of a curve as it is stored and journalled."""

    t_ns: int
    energy_j: float
    under_j: float
    over_j: float
    missing_ns: float
    slack_j: float
    hidden_j2: float = 0.0


class Curve:
    """Energy of one device over monotonic time, as points with straight lines between them.

    Attributes:
        device: The device.
        refresh_ns: How often its sensor's value changes.
        min_w: Least power seen, watts; bounds what an interpolation can miss.
        max_w: Most power seen, watts.
        tail_power_w: Power at the newest point where the sensor said it, else None and derived from the points.
    """

    def __init__(self, device: Device, *, refresh_ns: int) -> None:
        self.device = device
        self.refresh_ns = refresh_ns
        self.lag_ns = ns_from_s(device.lag_s)
        self.min_w = float("inf")
        self.max_w = 0.0
        self.tail_power_w: float | None = None
        self.head_power_w: float | None = None
        self._folded = 0  # points before this index stay whatever their age: they are the instants kept by folds
        self._t = array("q")
        self._energy = array("d")
        self._under = array("d")
        self._over = array("d")
        self._missing = array("d")
        self._slack = array("d")
        self._hidden = array("d")
        self._sums = (self._energy, self._under, self._over, self._missing, self._slack, self._hidden)

    def told_by(self, device: Device) -> Curve:
        """The same points, of the device as somebody else describes it; they are not to grow any more."""
        if device == self.device:
            return self
        other = copy.copy(self)
        other.device = device
        return other

    # -- building (by derive.py and the journal's reader) ------------------------------------------------------

    def append(self, point: Point) -> None:
        """Append a point later than all others."""
        self._t.append(point.t_ns)
        for column, value in zip(self._sums, point[1:], strict=True):
            column.append(value)

    def extend(self, times: array[int], *columns: array[float]) -> None:
        """Append points by columns, in the order of `Point`'s fields; the first is later than all others."""
        self._t.extend(times)
        for own, more in zip(self._sums, columns, strict=True):
            own.extend(more)

    def replace_last(self, point: Point) -> None:
        """Put another point in the place of the newest."""
        self._t[-1] = point.t_ns
        for column, value in zip(self._sums, point[1:], strict=True):
            column[-1] = value

    def truncate(self, count: int) -> None:
        """Forget all points but the first `count`."""
        del self._t[count:]
        for column in self._sums:
            del column[count:]

    def see_power(self, power_w: float) -> None:
        """Widen the power range seen."""
        if power_w < self.min_w:
            self.min_w = power_w
        if power_w > self.max_w:
            self.max_w = power_w

    # -- asking ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._t)

    def __getitem__(self, i: int) -> Point:
        energy_j, under_j, over_j, missing_ns, slack_j, hidden_j2 = self._sums
        return Point(self._t[i], energy_j[i], under_j[i], over_j[i], missing_ns[i], slack_j[i], hidden_j2[i])

    def rows(self) -> Iterator[tuple[float, ...]]:
        """All points, as plain tuples in the order of `Point`'s fields."""
        return zip(self._t, *self._sums, strict=True)

    def around(self, t_ns: int) -> tuple[Point, Point]:
        """The last point up to an instant and the first from it on, which are one where a point lies there.

        Raises:
            LookupError: The instant lies outside the curve.
        """
        i = bisect.bisect_left(self._t, t_ns)
        if i == len(self._t) or (i == 0 and self._t[0] != t_ns):
            raise LookupError(f"{self.device.id}: nothing is known of this instant")
        return self[i if self._t[i] == t_ns else i - 1], self[i]

    @property
    def power_w(self) -> float:
        """Power draw at the newest point, watts; 0.0 while one point or none is known."""
        if self.tail_power_w is not None:
            return self.tail_power_w
        if len(self._t) < 2:
            return 0.0
        span = max(2 * self.refresh_ns, TAIL_NS)
        i = max(bisect.bisect_right(self._t, self._t[-1] - span) - 1, 0)
        return (self._energy[-1] - self._energy[i]) / ((self._t[-1] - self._t[i]) * S_PER_NS)

    def _first_power_w(self) -> float:
        if self.head_power_w is not None:
            return self.head_power_w
        if len(self._t) < 2:
            return 0.0
        i = min(bisect.bisect_left(self._t, self._t[0] + TAIL_NS), len(self._t) - 1)
        return (self._energy[i] - self._energy[0]) / ((self._t[i] - self._t[0]) * S_PER_NS)

    def state_at(self, t_ns: int) -> State:
        """The curve at an instant.

        Between two points it is interpolated, and its error is bounded by the power range seen so far. Beyond the
        newest point it is extrapolated by the sensor's refresh and lag at most; what lies further is missing, and so
        is all before the first point.

        Args:
            t_ns: Monotonic nanoseconds.

        Raises:
            LookupError: There is no point at all.
        """
        if not self._t:
            raise LookupError(f"{self.device.id}: no reading yet")
        i = bisect.bisect_right(self._t, t_ns) - 1
        if i < 0:
            return self._beyond(0, t_ns, self._first_power_w())
        if self._t[i] == t_ns:
            return State(*self[i][1:])
        if i + 1 == len(self._t):
            return self._beyond(i, t_ns, self.power_w)
        a, b = self[i], self[i + 1]
        f = (t_ns - a.t_ns) / (b.t_ns - a.t_ns)
        return State(
            a.energy_j + f * (b.energy_j - a.energy_j),
            a.under_j + f * (b.under_j - a.under_j),
            a.over_j + f * (b.over_j - a.over_j),
            a.missing_ns + f * (b.missing_ns - a.missing_ns),
            a.slack_j + f * (b.slack_j - a.slack_j) + self._bend_j(a, b, f),
            a.hidden_j2 + f * (b.hidden_j2 - a.hidden_j2),
        )

    def between(self, after_ns: int, before_ns: int, spacing_ns: int) -> list[tuple[int, float]]:
        """Instants and joules of points inside a window, at least so far apart.

        Args:
            after_ns: Begin of the window; points there are left out.
            before_ns: Its end, likewise.
            spacing_ns: Least distance of two, nanoseconds.
        """
        found = []
        due = after_ns + spacing_ns
        for i in range(bisect.bisect_right(self._t, after_ns), bisect.bisect_left(self._t, before_ns)):
            if self._t[i] >= due:
                found.append((self._t[i], self._energy[i]))
                due = self._t[i] + spacing_ns
        return found

    def _bend_j(self, a: Point, b: Point, f: float) -> float:
        """The most by which the true curve between two points can leave the straight line, given its power range."""
        if self.max_w == 0.0:
            return 0.0
        span_s = (b.t_ns - a.t_ns) * S_PER_NS
        mean = (b.energy_j - a.energy_j) / span_s
        up = max(self.max_w * (1 + POWER_MARGIN) - mean, 0.0)
        down = max(mean - self.min_w * (1 - POWER_MARGIN), 0.0)
        return span_s * max(min(f * up, (1 - f) * down), min(f * down, (1 - f) * up))

    def _beyond(self, i: int, t_ns: int, power: float) -> State:
        away = t_ns - self._t[i]
        allowed = self.refresh_ns + self.lag_ns + EDGE_GRACE_NS
        # A single point knows no power, and nobody knows what was before the first: neither is vouched for.
        knows_power = len(self._t) > 1 or self.tail_power_w is not None
        within = min(away, allowed) if away > 0 and knows_power else 0
        bend = 0.0
        if self.max_w:
            spread = max(self.max_w * (1 + POWER_MARGIN) - power, power - self.min_w * (1 - POWER_MARGIN), 0.0)
            bend = spread * within * S_PER_NS
        # What unmeasured time may have drawn: the most that was seen, or the device's limit where nothing was.
        likely = max(power, self.max_w) or self.device.max_power_w or (0.0 if knows_power else UNKNOWN_MAX_POWER_W)
        return State(
            self._energy[i] + power * within * S_PER_NS,
            self._under[i],
            self._over[i] + likely * (away - within) * S_PER_NS,
            self._missing[i] + (away - within),
            self._slack[i] + bend,
            self._hidden[i],
        )

    @property
    def folded_ns(self) -> int:
        """Instant (monotonic nanoseconds) up to which points were folded; that of the first point while none were."""
        return self._t[max(self._folded, 1) - 1] if self._t else 0

    # -- memory ------------------------------------------------------------------------------------------------

    def fold(self, before_ns: int, keep_ns: Iterable[int], *, at_most: int = 512) -> int:
        """Forget points before an instant, except the states at the instants to keep: memory stays flat over weeks.

        Args:
            before_ns: Points before it are folded.
            keep_ns: Instants, ascending, whose state must stay exact.
            at_most: Points folded in one call, so that a call stays short.

        Returns:
            How many points went.
        """
        first = max(self._folded, 1)  # the very first point stays: the curve begins there
        last = min(bisect.bisect_left(self._t, before_ns) - 1, first + at_most)
        if last - first < 2:
            return 0
        begin, end = self._t[first - 1], self._t[last]
        kept = [Point(k, *self.state_at(k)) for k in keep_ns if begin < k < end]
        self._t[first:last] = array("q", [row.t_ns for row in kept])
        for c, column in enumerate(self._sums, start=1):
            column[first:last] = array("d", [row[c] for row in kept])
        self._folded = first + len(kept)
        return last - first - len(kept)
