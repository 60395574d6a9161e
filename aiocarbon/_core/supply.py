"""Energy on its way to the spans: increments of curves, cut into segments in which every device's power is constant.

All sums are integers, in quanta of 2**-160 J and 2**-160 g: a difference of sums of weeks is as exact as one of a
millisecond, and parts that were taken from a whole add up to it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from aiocarbon._core.units import NS_PER_S, S_PER_NS

QUANTUM: Final = 2.0**-160
"""Joules, or grams, of one unit of the integer sums."""

PER_UNIT: Final = 2.0**160
"""Quanta in a joule or gram."""

FLOOR_WINDOW_NS: Final = 5 * NS_PER_S
"""The idle floor is the least mean power over such a stretch (KubeWatt, arXiv 2504.10702, measures idle in quiet time;
a mean of some seconds leaves out what a sensor's noise would make of a minimum)."""


class Increment(NamedTuple):
    """What one counted device used between two instants of its curve, where its power is taken as constant.

    Attributes:
        device: Id of the device.
        begin_ns: Earlier instant, monotonic.
        end_ns: Later instant.
        energy_j: IT energy, joules, >= 0.
        co2eq_g: Its CO2eq with PUE counted, grams, >= 0.
        floor_w: Idle floor, watts; None to take the one given at the begin, or the estimated one.
    """

    device: str
    begin_ns: int
    end_ns: int
    energy_j: float
    co2eq_g: float
    floor_w: float | None = None


def check_increment(told: Increment) -> None:
    """Refuse an increment that cannot be.

    Raises:
        ValueError: With what is accepted.
    """
    floor = 0.0 if told.floor_w is None else told.floor_w
    for what, value in (("energy_j", told.energy_j), ("co2eq_g", told.co2eq_g), ("floor_w", floor)):
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{what}={value!r} of {told.device} is not accepted: expected a finite number >= 0")
    if told.end_ns < told.begin_ns:
        raise ValueError(f"an increment of {told.device} ends before it begins")


class DeviceSums:
    """Where one device's energy went, in quanta; the rest of `energy` is unattributed.

    Attributes:
        id: The device.
        energy: All of it.
        co2eq: All of its CO2eq.
        idle: The part that is idle floor.
        idle_co2eq: Likewise.
        spans: The part that spans own.
        spans_co2eq: Likewise.
    """

    __slots__ = ("co2eq", "energy", "id", "idle", "idle_co2eq", "spans", "spans_co2eq")

    def __init__(self, ident: str) -> None:
        self.id = ident
        self.energy = self.co2eq = 0
        self.idle = self.idle_co2eq = 0
        self.spans = self.spans_co2eq = 0


class Row(NamedTuple):
    """One device's power in a segment, in quanta per nanosecond.

    Attributes:
        sums: Its device's sums.
        rate: Of its energy.
        rate_co2eq: Of its CO2eq.
        floor: Of its idle floor; at most `rate`.
        floor_co2eq: Likewise.
    """

    sums: DeviceSums
    rate: int
    rate_co2eq: int
    floor: int
    floor_co2eq: int


class Segment(NamedTuple):
    """A stretch in which every device's power is constant; it begins where the one before ends."""

    end_ns: int
    rows: tuple[Row, ...]


class IdleFloor:
    """What each device draws when it does nothing: given, or the least 5 s mean seen while no span was open.

    Args:
        given_w: Watts by device id, finite and >= 0; the others are estimated.

    Raises:
        ValueError: A given floor is not accepted.
    """

    def __init__(self, given_w: Mapping[str, float] | None = None) -> None:
        self.given_w = dict(given_w or {})
        for device, watts in self.given_w.items():
            if not (math.isfinite(watts) and watts >= 0.0):
                raise ValueError(f"idle floor {watts!r} of {device} is not accepted: expected watts, finite and >= 0")
        self.estimated_w: dict[str, float] = {}
        self._quiet: dict[str, tuple[int, int, float]] = {}  # begin and end of the stretch, its joules
        self._told: dict[str, tuple[int, float]] = {}  # instant and watts of the newest one that came with the energy

    def floor_w(self, device: str) -> float | None:
        """Watts of a device; None where it is not known."""
        return self.given_w.get(device, self.estimated_w.get(device))

    def newest_w(self, device: str) -> float | None:
        """Watts of a device for a report: those that came with its newest energy, else as `floor_w`."""
        return self._told[device][1] if device in self._told else self.floor_w(device)

    def tell(self, told: Increment) -> None:
        """Take a floor that comes with energy; it counts for that energy."""
        if told.floor_w is not None:
            self._told[told.device] = max(self._told.get(told.device, (0, 0.0)), (told.end_ns, told.floor_w))

    def see(self, device: str, begin_ns: int, end_ns: int, energy_j: float) -> None:
        """Learn from a stretch in which no span was open."""
        begin, end, energy = self._quiet.get(device, (begin_ns, begin_ns, 0.0))
        if end != begin_ns:
            begin, energy = begin_ns, 0.0  # something happened in between
        energy += energy_j
        if end_ns - begin < FLOOR_WINDOW_NS:
            self._quiet[device] = (begin, end_ns, energy)
            return
        mean = energy / ((end_ns - begin) * S_PER_NS)
        self.estimated_w[device] = min(mean, self.estimated_w.get(device, math.inf))
        self._quiet[device] = (end_ns, end_ns, 0.0)


class Supply:
    """Increments that wait until time is settled, and what became of each device's energy.

    Attributes:
        floor: The idle floors.
        devices: Sums by device id, in the order in which they were first told.
        late_j: Joules that came for time that was settled already; they are in no span.
    """

    def __init__(self, floor: IdleFloor) -> None:
        self.floor = floor
        self.devices: dict[str, DeviceSums] = {}
        self.late_j = 0.0
        self._waiting: list[Increment] = []
        self._weighed_length = 0.0
        self._energy_j = 0.0

    @property
    def resolution_s(self) -> float | None:
        """Length of an increment, mean weighed by energy, seconds: what is shorter is interpolated. None before any."""
        return self._weighed_length * S_PER_NS / self._energy_j if self._energy_j > 0.0 else None

    def add(self, told: Increment) -> None:
        """Take an increment.

        Raises:
            ValueError: It cannot be.
        """
        check_increment(told)
        self.floor.tell(told)
        self._waiting.append(told)
        self._weighed_length += told.energy_j * (told.end_ns - told.begin_ns)
        self._energy_j += told.energy_j

    def segments(self, begin_ns: int, end_ns: int) -> list[Segment]:
        """Take what waits up to an instant, as segments that fill the window.

        Args:
            begin_ns: Up to where time is settled; what was used before it is put down as unattributed.
            end_ns: Up to where it shall be; what comes after it waits on.
        """
        parts: list[tuple[int, int, Row]] = []
        waiting = []
        for told in self._waiting:
            if told.end_ns > end_ns:
                waiting.append(told)
            if told.begin_ns < end_ns or told.end_ns <= end_ns:
                parts += self._parts(told, begin_ns, end_ns)
        # What reaches beyond the window goes on at its end, with the same power.
        self._waiting = [self._after(told, end_ns) for told in waiting]
        return _segments(parts, begin_ns, end_ns)

    def _after(self, told: Increment, at_ns: int) -> Increment:
        if told.begin_ns >= at_ns:
            return told
        share = (told.end_ns - at_ns) / (told.end_ns - told.begin_ns)
        return told._replace(begin_ns=at_ns, energy_j=told.energy_j * share, co2eq_g=told.co2eq_g * share)

    def _parts(self, told: Increment, begin_ns: int, end_ns: int) -> Iterable[tuple[int, int, Row]]:
        sums = self.devices.get(told.device)
        if sums is None:
            sums = self.devices[told.device] = DeviceSums(told.device)
        energy, co2eq = int(told.energy_j * PER_UNIT), int(told.co2eq_g * PER_UNIT)
        length = told.end_ns - told.begin_ns
        before = max(min(begin_ns, told.end_ns) - told.begin_ns, 0) if length else 1
        if before:
            sums.energy += energy * before // (length or 1)
            sums.co2eq += co2eq * before // (length or 1)
            self.late_j += told.energy_j * before / (length or 1)
        at, to = max(told.begin_ns, begin_ns), min(told.end_ns, end_ns)
        if to <= at:
            return ()
        floor_w = told.floor_w if told.floor_w is not None else self.floor.floor_w(told.device)
        rate, rate_co2eq = energy // length, co2eq // length
        # Where the device draws less than its floor, the floor is lowered: nothing can be used negatively.
        floor = min(int((floor_w or 0.0) * S_PER_NS * PER_UNIT), rate)
        return ((at, to, Row(sums, rate, rate_co2eq, floor, rate_co2eq * floor // rate if rate else 0)),)


def _segments(parts: list[tuple[int, int, Row]], begin_ns: int, end_ns: int) -> list[Segment]:
    if begin_ns == end_ns:
        return [Segment(end_ns, ())]  # late edges alone
    borders = sorted({begin_ns, end_ns, *(at for at, _, _ in parts), *(to for _, to, _ in parts)})
    held: list[list[Row]] = [[] for _ in borders[1:]]
    for at, to, row in parts:
        for i in range(bisect.bisect_left(borders, at), bisect.bisect_left(borders, to)):
            held[i].append(row)
    return [Segment(end, tuple(rows)) for end, rows in zip(borders[1:], held, strict=True)]
