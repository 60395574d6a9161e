"""Adds cuts of different machines and runs: each with its own intensity and PUE, each device once."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from aiocarbon._core.carbon import CarbonCut, Use, UseKey, add_uses
from aiocarbon._core.ledger import Cut, DeviceCut, add_cuts, coverage
from aiocarbon._core.report import DeviceReport, device_reports, quantities


class Pool:
    """Cuts of single devices, by host and device, that become one set of quantities.

    The caller sees to it that no instant of a device is added twice.
    """

    def __init__(self) -> None:
        self._cuts: dict[tuple[str, str], list[Cut]] = defaultdict(list)
        self._facility_j = 0.0
        self._it_j = 0.0
        self._pues: list[float] = []

    def add(self, host: str, cut: Cut, pue: float) -> None:
        """Add the cut of one device.

        Args:
            host: The machine it is in.
            cut: Of exactly that device; without any, nothing happens.
            pue: With which its CO2eq was reckoned.
        """
        for part in cut.devices:
            self._cuts[(host, part.device.id)].append(cut)
            self._pues.append(pue)
            if part.device.counted:
                self._it_j += part.energy_j
                self._facility_j += part.energy_j * pue

    @property
    def pue(self) -> float:
        """The ratio of the facility's energy to that of the machines; their mean where there was no energy."""
        if self._it_j > 0.0:
            return self._facility_j / self._it_j
        return math.fsum(self._pues) / len(self._pues) if self._pues else 1.0

    def _sums(self) -> dict[tuple[str, str], Cut]:
        return {key: add_cuts(cuts) for key, cuts in self._cuts.items()}

    def cut(self, duration_ns: int) -> Cut:
        """Everything, as one cut of a given length."""
        sums = self._sums().values()
        devices: tuple[DeviceCut, ...] = tuple(part for cut in sums for part in cut.devices)
        energy = math.fsum(cut.energy_j for cut in sums)
        weighed = math.fsum(cut.energy_j * cut.carbon.intensity_g_per_kwh for cut in sums)
        if energy > 0.0:
            mean = weighed / energy
        else:
            mean = math.fsum(cut.carbon.intensity_g_per_kwh for cut in sums) / max(len(sums), 1)
        uses: dict[UseKey, Use] = {}
        for one in sums:
            add_uses(uses, one.carbon.uses)
        carbon = CarbonCut(
            co2eq_g=math.fsum(cut.carbon.co2eq_g for cut in sums),
            low_g=math.fsum(cut.carbon.low_g for cut in sums),
            high_g=math.fsum(cut.carbon.high_g for cut in sums),
            edge_g=math.hypot(*(cut.carbon.edge_g for cut in sums)),
            intensity_g_per_kwh=mean,
            uses=uses,
        )
        return Cut(begin_ns=0, end_ns=duration_ns, devices=devices, carbon=carbon)

    def quantities(self, duration_ns: int) -> dict[str, Any]:
        """The fields of `Quantities`: of windows whose union is `duration_ns` long.

        `coverage` weighs each counted device by the length of its own windows.
        """
        fields = quantities(self.cut(duration_ns), self.pue)
        counted = [cut for cut in self._sums().values() if cut.counted]
        missing = math.fsum(part.missing_ns for cut in counted for part in cut.devices)
        fields["coverage"] = coverage(missing, sum(cut.end_ns for cut in counted)) if counted else 0.0
        return fields

    def devices(self) -> tuple[DeviceReport, ...]:
        """Each device's part, over its own windows."""
        return tuple(report for (host, _), cut in self._sums().items() for report in device_reports(cut, host))
