"""From readings to points: the energy curve as a pure function of the set of its readings.

How a reading becomes a point. A sensor's value changes every `refresh`; a value read at `t` was true at some instant
of `t - refresh .. t`. The point therefore lies at `t - refresh/2`, with half a refresh of slack. Where two reads less
than a refresh apart show different values, the change itself was seen: the point lies between the two, and the point
before it one refresh earlier. Watching a counter to its next change thus places an instant to a fraction of a refresh.
Where a sensor stamps its values itself, a point lies at the stamp.

The order of readings and their repetition do not matter. In the usual case they come in order and each costs O(1);
one that comes late makes the newest stretch of the curve be derived again, from the last checkpoint.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator
from dataclasses import replace

from aiocarbon._core.counters import StepKind, least_garbage, step, without_sleep
from aiocarbon._core.curve import Curve, Point
from aiocarbon._core.reading import DEFAULT_REFRESH_NS, Device, Quantity, Reading
from aiocarbon._core.standing import Carried, Checkpoint, Progress
from aiocarbon._core.units import J_PER_UJ, S_PER_NS, ns_from_s

VOUCHED_INTERVALS = 3
"""A power sensor vouches for gaps of at most this many of its reading intervals."""

HIDDEN_SHARE = 0.5
"""Variance of the energy between two samples of a power, as a share of the square of their difference times their
distance. It is 1/12 where the power jumped once, at any instant between them, and 1/2 where it jumps so often that
each sample is a draw of its own: n draws of variance s2 err by n s2 dt2 in their sum, and the squares of their
differences have the mean 2 s2. Nobody sees which it is, so the larger one is taken: `python -m benchmarks ranges`
tells how often the ranges then hold the truth. A load in step with the samples is not bounded by it."""

CHECKPOINT_EVERY = 256
"""Readings between two checkpoints; a late reading is welcome for one to two of these."""


class Derivation:
    """Derives one device's curve from its readings.

    Attributes:
        curve: The curve so far.
        pace_ns: Intended time between two readings; tells a gap of a power sensor.
        jitter_ns: How irregularly the sensor's value changes.
        too_late: Readings that came after their stretch of the curve was closed.
    """

    def __init__(self, device: Device, *, pace_ns: int = 1_000_000_000) -> None:
        refresh_ns = DEFAULT_REFRESH_NS if device.refresh_s is None else ns_from_s(device.refresh_s)
        self.device = device
        self.curve = Curve(device, refresh_ns=refresh_ns)
        self.pace_ns = pace_ns
        self.jitter_ns = refresh_ns // 10
        self.too_late = 0
        self._is_energy = device.quantity is Quantity.ENERGY
        self._most = least_garbage(device)
        self._t = array("q")
        self._half = array("q")
        self._value = array("q" if self._is_energy else "d")
        self._closed_ns = -(2**63)
        self._breaks: list[int] = []
        self._sleeps: list[tuple[int, int]] = []
        self._now = Progress()
        self._base = Checkpoint(Progress(), 0, None, 0)
        self._next = Checkpoint(Progress(), 0, None, 0)

    def add(self, reading: Reading) -> None:
        """Take one reading; late ones and repetitions are welcome.

        Args:
            reading: Of this curve's device.

        Raises:
            ValueError: The value is negative or not finite, or a sum beyond what 63 bits hold.
        """
        if not 0.0 <= reading.value < self._most:
            raise ValueError(f"{self.device.id}: {reading.value} is no {self.device.quantity} value")
        entry = (reading.t_ns, reading.half_ns, int(reading.value) if self._is_energy else float(reading.value))
        if entry[0] <= self._closed_ns:
            self.too_late += 1
        elif not self._t or entry > self._entry(-1):
            self._insert(len(self._t), entry)
            self._derive(*entry)
            self._checkpoint()
        else:
            i = bisect.bisect_left(range(len(self._t)), entry, key=self._entry)
            if self._entry(i) != entry:
                self._insert(i, entry)
                self._again()

    def lose(self, at_ns: int) -> None:
        """State that the device was lost at an instant: a power sensor's curve is not bridged across it."""
        if at_ns not in self._breaks:
            bisect.insort(self._breaks, at_ns)
            if self._t and at_ns < self._t[-1]:
                self._again()

    def slept(self, from_ns: int, to_ns: int) -> None:
        """State that the machine slept at some instant of a stretch: what a counter counted meanwhile is in no run."""
        if self._is_energy:
            self._sleeps.append((from_ns, to_ns))
            if self._t and from_ns < self._t[-1]:
                self._again()

    def set_refresh(self, refresh_ns: int, jitter_ns: int) -> None:
        """State how often the sensor's value really changes, as probed; the newest points are placed anew."""
        self.curve.refresh_ns = refresh_ns
        self.jitter_ns = jitter_ns
        self._again()

    @property
    def last_read_ns(self) -> int | None:
        """Instant of the newest reading; None while there is none."""
        return self._now.read_ns if self._now.started else None

    @property
    def last_value(self) -> float | None:
        """Value of the newest reading, microjoules or watts; None while there is none."""
        return self._now.value if self._now.started else None

    @property
    def resets(self) -> int:
        """How often the counter was seen to start anew, or to jump."""
        return self._now.resets

    @property
    def gaps(self) -> int:
        """How often a power sensor was silent for too long."""
        return self._now.gaps

    def folded(self, count: int) -> None:
        """Be told that the curve folded `count` points away from before the checkpoint."""
        self._base.points -= count
        self._next.points -= count

    @property
    def open_from_ns(self) -> int:
        """Points before this instant are final and may be folded."""
        return self._base.newest.t_ns if self._base.newest else -(2**63)

    # -- handing over ------------------------------------------------------------------------------------------

    @property
    def carried(self) -> Carried | None:
        """Where the readings kept begin; None while all readings since the first are kept."""
        base, was = self._base, self._base.progress
        if base.newest is None:
            return None
        return Carried(
            point=base.newest,
            value=was.value,
            read_ns=was.read_ns,
            total_uj=was.total_uj,
            is_edge=was.is_edge,
            slack_ns=was.slack_ns,
            resets=was.resets,
            gaps=was.gaps,
            min_w=base.power_range_w[0],
            max_w=base.power_range_w[1],
        )

    def kept(self) -> Iterator[tuple[int, int, float]]:
        """The readings since `carried`: instant, half the duration (nanoseconds) and value.

        With `carried` they are all that another derivation needs to make the same curve from there on.
        """
        return (self._entry(i) for i in range(len(self._t)))

    def resume(self, carried: Carried) -> None:
        """Go on from where another derivation of this device stood, behind all readings of this one."""
        point, curve = carried.point, self.curve
        while len(curve) and curve[-1].t_ns >= point.t_ns:
            curve.truncate(len(curve) - 1)
        curve.append(point)
        curve.min_w = min(curve.min_w, carried.min_w)
        curve.max_w = max(curve.max_w, carried.max_w)
        if not self._is_energy:
            curve.tail_power_w = carried.value
        for column in (self._t, self._half, self._value):
            del column[:]
        self._closed_ns = carried.read_ns
        self._now = Progress(
            started=True,
            value=carried.value,
            read_ns=carried.read_ns,
            total_uj=carried.total_uj,
            is_edge=carried.is_edge,
            slack_ns=carried.slack_ns,
            resets=carried.resets,
            gaps=carried.gaps,
        )
        self._base = self._snapshot(0)
        self._next = self._snapshot(0)

    # -- the readings kept -------------------------------------------------------------------------------------

    def _entry(self, i: int) -> tuple[int, int, float]:
        return self._t[i], self._half[i], self._value[i]

    def _insert(self, i: int, entry: tuple[int, int, float]) -> None:
        self._t.insert(i, entry[0])
        self._half.insert(i, entry[1])
        self._value.insert(i, entry[2])  # type: ignore[arg-type]  # made an int above where the column holds ints

    def _checkpoint(self) -> None:
        if len(self._t) - self._next.readings < CHECKPOINT_EVERY:
            return
        done = self._next.readings
        if done:
            self._closed_ns = self._t[done - 1]
            for column in (self._t, self._half, self._value):
                del column[:done]
        self._base = replace(self._next, readings=0)
        self._next = self._snapshot(len(self._t))

    def _snapshot(self, readings: int) -> Checkpoint:
        power_range_w = (self.curve.min_w, self.curve.max_w)
        return Checkpoint(replace(self._now), len(self.curve), self.curve[-1], readings, power_range_w)

    def _again(self) -> None:
        """Derive everything since the base checkpoint again."""
        self.curve.truncate(self._base.points)
        if self._base.newest is not None:
            self.curve.replace_last(self._base.newest)
        self.curve.min_w, self.curve.max_w = self._base.power_range_w
        self._now = replace(self._base.progress)
        # The next checkpoint is taken again where it stood, or a late reading now and then would keep it off forever.
        checkpoint_at = self._next.readings
        self._next = replace(self._base, progress=replace(self._base.progress))
        for i in range(len(self._t)):
            self._derive(*self._entry(i))
            if i + 1 == checkpoint_at:
                self._next = self._snapshot(checkpoint_at)

    # -- one reading -------------------------------------------------------------------------------------------

    def _derive(self, t: int, half: int, value: float) -> None:
        now = self._now
        if self._is_energy:
            self._derive_energy(now, t, half, int(value))
        else:
            self._derive_power(now, t, half, value)
        now.started = True
        now.value = value
        now.read_ns = t

    @property
    def _age_ns(self) -> int:
        """How old a value is on average when it is read."""
        return 0 if self.device.is_stamped else self.curve.refresh_ns // 2

    def _derive_energy(self, now: Progress, t: int, half: int, value: int) -> None:
        curve, refresh, age = self.curve, self.curve.refresh_ns, self._age_ns
        if not now.started:
            self._first(t - age, age + half)
            return
        if value == now.value:
            return  # not refreshed yet, or standing still: the point stays where the value was new
        since_read = t - now.read_ns
        is_edge = since_read <= refresh and not self.device.is_stamped
        if is_edge:
            at, slack = t - since_read // 2, since_read // 2 + half
            if not now.is_edge:
                self._settle(at - refresh, slack + self.jitter_ns)
        else:
            at, slack = t - age, age + half
        last = curve[-1]
        at = max(at, last.t_ns + 1)
        moved = step(
            int(now.value),
            value,
            at - last.t_ns + 2 * refresh,
            range_uj=self.device.counter_range_uj,
            max_power_w=self.device.max_power_w,
            last_power_w=curve.power_w,
        )
        if self._sleeps and any(now.read_ns <= end and begin <= t for begin, end in self._sleeps):
            moved = without_sleep(moved, at - last.t_ns, last_power_w=curve.power_w)
        now.total_uj += moved.delta_uj
        now.is_edge = is_edge
        now.resets += moved.kind in (StepKind.RESET, StepKind.JUMP)
        energy = now.total_uj * J_PER_UJ
        power = (energy - last.energy_j) / ((at - last.t_ns) * S_PER_NS)
        if moved.is_vouched and (at - last.t_ns) * 2 >= refresh:
            curve.see_power(power)
        missing = 0 if moved.is_vouched else at - last.t_ns
        self._append(at, energy, 0.0, moved.over_j, missing, slack, power)

    def _settle(self, at: int, slack_ns: int) -> None:
        """Move the newest point to where its value was new, once the next change has told it."""
        last = self.curve[-1]
        floor = self.curve[-2].t_ns + 1 if len(self.curve) > 1 else at
        at = max(floor, last.t_ns - self.curve.refresh_ns, min(at, last.t_ns + self.curve.refresh_ns))
        if len(self.curve) == 1:
            slack_j = last.slack_j
        else:
            before = self.curve[-2]
            slack_j = slack_ns * (last.energy_j - before.energy_j) / (at - before.t_ns)
        self.curve.replace_last(last._replace(t_ns=at, slack_j=slack_j))
        self._now.slack_ns = slack_ns

    def _derive_power(self, now: Progress, t: int, half: int, value: float) -> None:
        curve = self.curve
        at = t - self._age_ns - curve.lag_ns
        slack = self._age_ns + half
        curve.see_power(value)
        curve.tail_power_w = value
        if not now.started:
            curve.head_power_w = value
            self._first(at, slack)
            return
        last = curve[-1]
        at = max(at, last.t_ns + 1)
        dt = at - last.t_ns
        dt_s = dt * S_PER_NS
        energy = (now.value + value) / 2 * dt_s
        under = over = hidden_j2 = 0.0
        missing = 0
        if self._is_broken(now.read_ns, t):
            energy, over, missing = 0.0, curve.max_w * dt_s, dt
            now.gaps += 1
        elif dt > VOUCHED_INTERVALS * self.pace_ns:
            under, over = max(energy - curve.min_w * dt_s, 0.0), max(curve.max_w * dt_s - energy, 0.0)
            missing = dt
            now.gaps += 1
        else:
            # Read more often than it refreshes, a sensor shows a change at one read; it came in a refresh all the same.
            hidden_j2 = HIDDEN_SHARE * ((value - now.value) * max(dt, curve.refresh_ns) * S_PER_NS) ** 2
        # A shift of a power sample in time moves energy only where the power changes.
        self._append(at, last.energy_j + energy, under, over, missing, slack, curve.max_w - curve.min_w, hidden_j2)

    def _is_broken(self, from_ns: int, to_ns: int) -> bool:
        i = bisect.bisect_right(self._breaks, from_ns)
        return i < len(self._breaks) and self._breaks[i] <= to_ns

    def _first(self, at: int, slack_ns: int) -> None:
        # No power is known yet: until the second point comes, the device's limit bounds what the edge may be off.
        slack_j = slack_ns * (self.device.max_power_w or 0.0) * S_PER_NS
        self.curve.append(Point(at, 0.0, 0.0, 0.0, 0.0, slack_j))
        self._now.slack_ns = slack_ns

    def _append(
        self,
        at: int,
        energy: float,
        under: float,
        over: float,
        missing: int,
        slack_ns: int,
        slack_w: float,
        hidden_j2: float = 0.0,
    ) -> None:
        """Append a point; the sums are of the stretch that ends there; `slack_w` turns its slack into joules."""
        last = self.curve[-1]
        per_ns = slack_w * S_PER_NS
        slack_j = self._now.slack_ns * per_ns
        if len(self.curve) > 1 or self._base.newest is not None:  # of the very first point no slack was known
            slack_j = max(last.slack_j, slack_j)
        self.curve.replace_last(last._replace(slack_j=slack_j))
        self.curve.append(
            Point(
                at,
                energy,
                last.under_j + under,
                last.over_j + over,
                last.missing_ns + missing,
                slack_ns * per_ns,
                last.hidden_j2 + hidden_j2,
            )
        )
        self._now.slack_ns = slack_ns
