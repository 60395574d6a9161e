"""Do the 90 % ranges hold the truth? Epochs and spans of a load that jumps at random, seen through coarse sensors.

The pure core alone, in simulated time, so that there are thousands of windows from seeds: sensors refresh as theirs do
and are read as the engine reads them, a counter every second and behind a mark to its next change, a power sensor at
every refresh. Nothing but the refresh errs: gains and models have bands of their own.
"""

from __future__ import annotations

import bisect
import math
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from aiocarbon._core.derive import Derivation
from aiocarbon._core.intensity import IntensityCurve, IntensityValue, Pue, Quality
from aiocarbon._core.ledger import Ledger
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity, Reading
from aiocarbon._core.units import NS_PER_S, UJ_PER_J, ns_from_s
from aiocarbon._core.wallclock import Anchor, WallClock
from aiocarbon._engine.sampler import POWER_JITTER, WATCH_NS, WATCH_PERIOD_NS
from benchmarks.result import Row, at_most

NAME: Final = "ranges"
QUESTION: Final = "how often does the 90 % range of an epoch or span not hold the truth, under a load that jumps?"

LOW_W: Final = 100.0
HIGH_W: Final = 400.0
DWELLS: Final = {"twice a second": 0.5, "20 times a second": 0.05, "200 times a second": 0.005}
"""Mean seconds at one of the two powers, exponentially distributed."""

WINDOW_S: Final = (0.25, 8.0)
"""Shortest and longest window; the logarithm is uniform."""

WORLD_S: Final = 60.0
WARM_S: Final = 5.0
READ_NS: Final = 100_000
"""How long a read takes."""

LIMIT_PERCENT: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A sensor, and when it is read.

    Attributes:
        name: In the table.
        quantity: What it shows.
        refresh_s: How often its value changes.
        is_marked: True for windows that are epochs, with a reading behind each mark; False for spans without.
    """

    name: str
    quantity: Quantity
    refresh_s: float
    is_marked: bool


SENSORS: Final = tuple(
    Sensor(
        name=f"{'counter' if quantity is Quantity.ENERGY else 'power sensor'} {refresh_s * 1e3:g} ms, "
        f"{'epochs' if is_marked else 'spans'}",
        quantity=quantity,
        refresh_s=refresh_s,
        is_marked=is_marked,
    )
    for quantity in Quantity
    for refresh_s in (0.02, 0.1)
    for is_marked in (True, False)
)


class Window(NamedTuple):
    """A window's energy as it is, and the ends of the range that is told, joules."""

    true_j: float
    low_j: float
    high_j: float

    @property
    def is_outside(self) -> bool:
        """Whether the range does not hold the truth."""
        return not self.low_j <= self.true_j <= self.high_j

    @property
    def half_percent(self) -> float:
        """Half of the range's width, of the truth."""
        return 50.0 * (self.high_j - self.low_j) / self.true_j


class Load:
    """Power that jumps between two levels: its truth, and what a sensor shows of it.

    Args:
        dice: Where its chance comes from.
        dwell_s: Mean time at one level, seconds.
    """

    def __init__(self, dice: random.Random, dwell_s: float) -> None:
        self._jumps_s, self._watts = [0.0], [dice.choice((LOW_W, HIGH_W))]
        while self._jumps_s[-1] < WORLD_S:
            self._jumps_s.append(self._jumps_s[-1] + dice.expovariate(1.0 / dwell_s))
            self._watts.append(LOW_W + HIGH_W - self._watts[-1])
        steps = (watts * (b - a) for watts, (a, b) in zip(self._watts, pairwise(self._jumps_s), strict=False))
        self._joules = list(accumulate(steps, initial=0.0))

    def power_w(self, t_s: float) -> float:
        """Watts at an instant."""
        return self._watts[bisect.bisect_right(self._jumps_s, t_s) - 1]

    def energy_j(self, t_s: float) -> float:
        """Joules up to an instant."""
        i = bisect.bisect_right(self._jumps_s, t_s) - 1
        return self._joules[i] + self._watts[i] * (t_s - self._jumps_s[i])


class World:
    """A load, a sensor of it, and windows, all from one seed.

    Args:
        sensor: The sensor.
        dwell_s: Of the load.
        seed: Of its chance.
    """

    def __init__(self, sensor: Sensor, dwell_s: float, seed: int) -> None:
        self._sensor = sensor
        self._dice = random.Random(f"{sensor.name} {dwell_s} {seed}")
        self.load = Load(self._dice, dwell_s)
        self._phase_s = self._dice.uniform(0.0, sensor.refresh_s)
        self.marks_s = [WARM_S]
        while self.marks_s[-1] < WORLD_S - WINDOW_S[1] - WARM_S:
            length_s = math.exp(self._dice.uniform(*map(math.log, WINDOW_S)))
            self.marks_s.append(self.marks_s[-1] + length_s)

    def shown(self, t_s: float) -> float:
        """What the sensor shows at an instant: microjoules or watts, as they were at its last refresh."""
        at_s = max(math.floor((t_s - self._phase_s) / self._sensor.refresh_s) * self._sensor.refresh_s, 0.0)
        at_s += self._phase_s if t_s >= self._phase_s else 0.0
        is_energy = self._sensor.quantity is Quantity.ENERGY
        return round(self.load.energy_j(at_s) * UJ_PER_J) if is_energy else self.load.power_w(at_s)

    def reads_s(self) -> list[float]:
        """When the engine reads."""
        is_energy = self._sensor.quantity is Quantity.ENERGY
        period_s = 1.0 if is_energy else self._sensor.refresh_s
        reads = [self._dice.uniform(0.0, period_s)]
        while reads[-1] < WORLD_S - period_s * 2:
            wobble = 0.0 if is_energy else POWER_JITTER * self._dice.uniform(-1.0, 1.0)
            reads.append(reads[-1] + period_s * (1.0 + wobble))
        for mark_s in self.marks_s if self._sensor.is_marked else ():
            reads += self._behind(mark_s) if is_energy else (mark_s,)
        return sorted(reads)

    def _behind(self, mark_s: float) -> Iterator[float]:
        """The reads behind a mark, to the counter's next change."""
        for turn in range(WATCH_NS // WATCH_PERIOD_NS):
            at_s = mark_s + turn * WATCH_PERIOD_NS / NS_PER_S
            yield at_s
            if self.shown(at_s) != self.shown(mark_s):
                return

    def windows(self) -> list[Window]:
        """What is said of each window, and what is true."""
        device = Device(
            id="d",
            kind=DeviceKind.GPU,
            name="simulated",
            quantity=self._sensor.quantity,
            basis=Basis.COUNTER if self._sensor.quantity is Quantity.ENERGY else Basis.POWER,
            refresh_s=self._sensor.refresh_s,
        )
        pace_s = 1.0 if self._sensor.quantity is Quantity.ENERGY else self._sensor.refresh_s
        derivation = Derivation(device, pace_ns=ns_from_s(pace_s))
        for t_s in self.reads_s():
            t_ns = ns_from_s(t_s)
            derivation.add(Reading(t_ns - READ_NS // 2, t_ns + READ_NS // 2, self.shown(t_s)))
        value = IntensityValue(
            g_per_kwh=0.0, low_g_per_kwh=0.0, high_g_per_kwh=0.0, source="none", zone="XX", quality=Quality.LIVE
        )
        ledger = Ledger(
            {device.id: derivation.curve},
            intensity=IntensityCurve(value),
            pue=Pue(value=1.0, source="none"),
            wall=WallClock(Anchor(0, 0)),
        )
        found = []
        for begin_s, end_s in pairwise(self.marks_s):
            cut = ledger.cut(ledger.mark(ns_from_s(begin_s)), ledger.mark(ns_from_s(end_s)))
            found.append(Window(self.load.energy_j(end_s) - self.load.energy_j(begin_s), *cut.bounds_j))
        return found


def run(*, quick: bool) -> list[Row]:
    """The share of windows of each sensor under each load."""
    worlds = 5 if quick else 100
    rows = []
    for often, dwell_s in DWELLS.items():
        for sensor in SENSORS:
            found = [window for seed in range(worlds) for window in World(sensor, dwell_s, seed).windows()]
            wide = statistics.median(window.half_percent for window in found)
            note = (
                f"of {len(found)} windows of {WINDOW_S[0]:g} to {WINDOW_S[1]:g} s; the range is ±{wide:.2g} %, median"
            )
            percent = 100.0 * sum(window.is_outside for window in found) / len(found)
            rows.append(at_most(f"jumps {often}, {sensor.name}", percent, "%", LIMIT_PERCENT, note))
    return rows
