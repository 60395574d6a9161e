"""From curves to increments: what each counted device used, in pieces of constant power, to be split among spans."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator
from typing import Final

from aiocarbon._core.curve import Curve
from aiocarbon._core.intensity import IntensityValue
from aiocarbon._core.ledger import Ledger, Mark
from aiocarbon._core.supply import Increment
from aiocarbon._core.units import J_PER_KWH, NS_PER_MS

FINEST_NS: Final = 20 * NS_PER_MS
"""Readings closer than this are taken together: no power sensor refreshes faster (Yang et al. 2023)."""

ARREARS_S: Final = 1.0
"""What a device tells of time that is split already goes to the spans of now up to so many seconds of its most power:
as much as a mark's extrapolation may miss. More was used while nobody waited for the device, and is in no span."""

MOST_PIECES: Final = 100
"""Pieces of a device's curve in one window, at most."""

Step = tuple[int, int, IntensityValue]


class Feed:
    """What the counted devices of a run used, window after window.

    The sum of a device's increments up to an instant is what a cut of the run up to there says, whatever its curve
    learns later: what it then turns out to have used in time that is told already comes with the next window, or, where
    that is much, as an increment without length, which is in no span.

    Args:
        ledger: The run's curves, intensity and PUE.
        at_ns: Where the run began, monotonic.
        floor_w: Idle watts of all devices together; each gets a part in proportion to what it draws. None: not given.
        floored: Devices whose own idle watts are given: what their meter says of them does not count.

    Attributes:
        at_ns: Up to where all is told.
    """

    def __init__(self, ledger: Ledger, at_ns: int, floor_w: float | None = None, floored: Container[str] = ()) -> None:
        self.at_ns = at_ns
        self._ledger = ledger
        self._floor_w = floor_w
        self._floored_devices = floored
        self._told_j: dict[str, float] = {}

    def upto(self, begin: Mark, mark: Mark) -> list[Increment]:
        """What was used since the last call, or since the begin.

        Args:
            begin: Where the run began.
            mark: Up to where; all devices' readings are behind it, or will not come.
        """
        found: list[Increment] = []
        at_ns = min(self.at_ns, mark.t_ns)
        steps = list(self._ledger.pieces(at_ns, mark.t_ns))
        for curve in list(self._ledger.curves.values()):
            if curve.device.counted and len(curve):
                found += self._of(curve, at_ns, begin, mark, steps)
        self.at_ns = mark.t_ns
        return self._floored(found)

    def _of(self, curve: Curve, at_ns: int, begin: Mark, mark: Mark, steps: list[Step]) -> Iterator[Increment]:
        ident, start_j = curve.device.id, begin.state_of(curve).energy_j
        floor_w = None if ident in self._floored_devices else curve.device.idle_w
        told = self._told_j.get(ident, 0.0)
        whole = max(mark.state_of(curve).energy_j - start_j, 0.0)
        per_j = self._ledger.pue.value / J_PER_KWH
        borders = [to for _, to, _ in steps[:-1]]
        before = min(curve.state_at(at_ns).energy_j - start_j, whole) - told
        if before > ARREARS_S * max(curve.power_w, curve.max_w):
            g = before * steps[0][2].g_per_kwh * per_j if steps else 0.0
            yield Increment(ident, at_ns, at_ns, before, g)
            told += before
        points = [(t, curve.state_at(t).energy_j) for t in borders]
        spacing = max(FINEST_NS, (mark.t_ns - at_ns) // MOST_PIECES)
        points += curve.between(at_ns, mark.t_ns, spacing)
        points.sort()
        step = 0
        for t_ns, energy_j in [*points, (mark.t_ns, math.inf)]:
            while step + 1 < len(steps) and t_ns > steps[step][1]:
                step += 1
            upto = max(min(energy_j - start_j, whole), told)
            if upto > told:
                g = (upto - told) * steps[step][2].g_per_kwh * per_j if steps else 0.0
                yield Increment(ident, at_ns, t_ns, upto - told, g, floor_w)
                told = upto
            at_ns = t_ns
        self._told_j[ident] = told

    def _floored(self, told: list[Increment]) -> list[Increment]:
        """With a given floor, each device's part of it."""
        if self._floor_w is None or not told:
            return told
        energy: dict[str, float] = {}
        for one in told:
            energy[one.device] = energy.get(one.device, 0.0) + one.energy_j
        total = math.fsum(energy.values())
        return [one._replace(floor_w=self._floor_w * energy[one.device] / total) for one in told]
