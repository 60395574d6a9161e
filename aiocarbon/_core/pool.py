"""Adds cuts of different machines and runs: each with its own intensity and PUE, each device once.

A pool keeps sums and no cuts, so that it is as large as what it tells of: its devices, or, where it folds them, the
kinds of its devices, however many machines and windows are added.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aiocarbon._core.carbon import CarbonCut, Use, UseKey, add_uses
from aiocarbon._core.ledger import Cut, DeviceCut, coverage
from aiocarbon._core.reading import Device
from aiocarbon._core.report import DeviceReport, device_reports, quantities

FoldKey = tuple[str, str, str, bool, tuple[str, ...], str]
"""What devices told as one have in common: kind, name, basis, whether they count, what they cover, whose share."""


class Piece(NamedTuple):
    """A window of one device, or of several of one key together.

    Attributes:
        key: What they fold by.
        device: The device, or one of them.
        number: How many there are.
        energy_j: Central value, joules.
        low_j: Lower end without the edges' error.
        high_j: Upper end without the edges' error.
        edge_2: Square of the edges' error.
        missing_ns: Time that no reading vouches for, of all of them.
    """

    key: FoldKey
    device: Device
    number: int
    energy_j: float
    low_j: float
    high_j: float
    edge_2: float
    missing_ns: float


class Lump(NamedTuple):
    """A window of some devices of one machine.

    Attributes:
        pieces: The devices.
        length_ns: Length of the window.
        carbon: CO2eq of those that count.
        energy_j: Joules of those that count.
    """

    pieces: Sequence[Piece]
    length_ns: int
    carbon: CarbonCut
    energy_j: float


def lump_of(cut: Cut) -> Lump:
    """A cut as a lump."""
    pieces = [
        Piece(fold_key(d.device), d.device, 1, d.energy_j, d.low_j, d.high_j, d.edge_j * d.edge_j, d.missing_ns)
        for d in cut.devices
    ]
    return Lump(pieces, cut.end_ns - cut.begin_ns, cut.carbon, cut.energy_j)


def scaled(lump: Lump, by: float) -> Lump:
    """So much of a lump's energy and CO2eq, over the same time.

    Args:
        lump: The lump.
        by: A share, 0..1.
    """
    pieces = [
        piece._replace(
            energy_j=piece.energy_j * by,
            low_j=piece.low_j * by,
            high_j=piece.high_j * by,
            edge_2=piece.edge_2 * by * by,
        )
        for piece in lump.pieces
    ]
    g, uses = lump.carbon, lump.carbon.uses.items()
    carbon = CarbonCut(
        g.co2eq_g * by,
        g.low_g * by,
        g.high_g * by,
        g.edge_g * by,
        g.intensity_g_per_kwh,
        {key: scaled_use(use, by) for key, use in uses},
    )
    return Lump(pieces, lump.length_ns, carbon, lump.energy_j * by)


def scaled_use(use: Use, by: float) -> Use:
    """A use whose energy weighs so many times as much."""
    return use._replace(energy_j=use.energy_j * by, weighed=use.weighed * by)


class Part:
    """The sums of one device of a host, or of all devices of one kind and name.

    Attributes:
        device: The device; of several, what they have in common.
        host: Its machine; empty for several.
        energy_j: Central value, joules.
        low_j: Lower end without the edges' error.
        high_j: Upper end without the edges' error.
        edge_2: Square of the edges' error.
        missing_ns: Time that no reading vouches for.
        window_ns: Length of its windows.
    """

    __slots__ = ("device", "edge_2", "energy_j", "high_j", "host", "low_j", "missing_ns", "window_ns")

    def __init__(self, device: Device, host: str) -> None:
        self.device = device
        self.host = host
        self.energy_j = self.low_j = self.high_j = self.edge_2 = self.missing_ns = 0.0
        self.window_ns = 0

    def add(self, energy_j: float, low_j: float, high_j: float, edge_2: float, missing_ns: float, window: int) -> None:
        """Add a window, or the sum of several."""
        self.energy_j += energy_j
        self.low_j += low_j
        self.high_j += high_j
        self.edge_2 += edge_2
        self.missing_ns += missing_ns
        self.window_ns += window

    def join(self, other: Part) -> None:
        """Add what another part has."""
        self.add(other.energy_j, other.low_j, other.high_j, other.edge_2, other.missing_ns, other.window_ns)

    def cut(self) -> DeviceCut:
        """It as a cut."""
        return DeviceCut(
            device=self.device,
            energy_j=self.energy_j,
            low_j=self.low_j,
            high_j=self.high_j,
            edge_j=math.sqrt(self.edge_2),
            missing_ns=self.missing_ns,
        )


class Pool:
    """Sums of windows of devices, by host and device, that become one set of quantities.

    The caller sees to it that no instant of a device is added twice.

    Args:
        folds: True to keep one part for all devices of a kind and name, whatever their host.
    """

    def __init__(self, *, folds: bool = False) -> None:
        self.folds = folds
        self._parts: dict[object, Part] = {}
        self._co2eq_g = self._low_g = self._high_g = self._edge_2 = 0.0
        self._weighed = self._means = 0.0
        self._cuts = 0
        self._facility_j = self._it_j = self._pues = 0.0
        self._uses: dict[UseKey, Use] = {}

    def add(self, host: str, lump: Lump, pue: float) -> None:
        """Add a window.

        Args:
            host: The machine.
            lump: Some of its devices; without any, nothing happens.
            pue: With which their CO2eq was reckoned.
        """
        if not lump.pieces:
            return
        length = lump.length_ns
        for key, device, number, energy_j, low_j, high_j, edge_2, missing_ns in lump.pieces:
            self._part(key, device, host).add(energy_j, low_j, high_j, edge_2, missing_ns, length * number)
        carbon, energy_j = lump.carbon, lump.energy_j
        self._co2eq_g += carbon.co2eq_g
        self._low_g += carbon.low_g
        self._high_g += carbon.high_g
        self._edge_2 += carbon.edge_g * carbon.edge_g
        self._weighed += energy_j * pue * carbon.intensity_g_per_kwh
        self._means += carbon.intensity_g_per_kwh
        self._cuts += 1
        self._it_j += energy_j
        self._facility_j += energy_j * pue
        self._pues += pue
        if carbon.uses:
            add_uses(self._uses, {key: scaled_use(use, pue) for key, use in carbon.uses.items()})

    def _part(self, key: FoldKey, device: Device, host: str) -> Part:
        # What one process counted another may have shown only, as another view of what it counted: they do not add up.
        own = (host, device.id, device.share and device.share.holder, device.counted)
        at: object = key if self.folds else own
        found = self._parts.get(at)
        if found is None:
            if self.folds:
                device, host = dataclasses.replace(device, id=device.name or device.id, note=FOLDED), ""
            found = self._parts[at] = Part(device, host)
        return found

    def join(self, other: Pool) -> None:
        """Add all that another pool has; one that folds takes one that does not, and not the other way round."""
        for part in other._parts.values():
            self._part(fold_key(part.device), part.device, part.host).join(part)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        add_uses(self._uses, other._uses)

    @property
    def pue(self) -> float:
        """The ratio of the facility's energy to that of the machines; their mean where there was no energy."""
        if self._it_j > 0.0:
            return self._facility_j / self._it_j
        return self._pues / self._cuts if self._cuts else 1.0

    @property
    def energy_j(self) -> float:
        """Joules of what counts."""
        return self._it_j

    @property
    def co2eq_g(self) -> float:
        """Grams of CO2eq."""
        return self._co2eq_g

    def cut(self, duration_ns: int) -> Cut:
        """Everything, as one cut of a given length."""
        # By energy with PUE, as CO2eq is: where machines with several meet, CO2eq is still energy x mean.
        mean = self._weighed / self._facility_j if self._facility_j > 0.0 else self._means / max(self._cuts, 1)
        carbon = CarbonCut(
            co2eq_g=self._co2eq_g,
            low_g=self._low_g,
            high_g=self._high_g,
            edge_g=math.sqrt(self._edge_2),
            intensity_g_per_kwh=mean,
            uses=self._uses,
        )
        devices = tuple(part.cut() for part in self._parts.values())
        return Cut(begin_ns=0, end_ns=duration_ns, devices=devices, carbon=carbon)

    def quantities(self, duration_ns: int) -> dict[str, Any]:
        """The fields of `Quantities`: of windows whose union is `duration_ns` long.

        `coverage` weighs each counted device by the length of its own windows.
        """
        fields = quantities(self.cut(duration_ns), self.pue)
        counted = [part for part in self._parts.values() if part.device.counted]
        missing = math.fsum(part.missing_ns for part in counted)
        fields["coverage"] = coverage(missing, sum(part.window_ns for part in counted)) if counted else 0.0
        return fields

    def devices(self, hosts: int = 0) -> tuple[DeviceReport, ...]:
        """Each device's part, over its own windows; where they are folded, each kind's, on so many hosts."""
        return tuple(self._reports(hosts))

    def _reports(self, hosts: int) -> Iterable[DeviceReport]:
        for part in self._parts.values():
            alone = Cut(begin_ns=0, end_ns=part.window_ns, devices=(part.cut(),), carbon=_NO_CARBON)
            yield from device_reports(alone, part.host or f"{hosts} nodes")


_SUMS = ("_co2eq_g", "_low_g", "_high_g", "_edge_2", "_weighed", "_means", "_cuts", "_it_j", "_facility_j", "_pues")
_NO_CARBON = CarbonCut(0.0, 0.0, 0.0, 0.0, 0.0)


FOLDED = "all of this name together; watts are the mean of one"


def fold_key(device: Device) -> FoldKey:
    """What devices have in common that are told as one."""
    covers = tuple(sorted(part.value for part in device.covers))
    share = "" if device.share is None else f"{device.share.scope} {device.share.role.value}"
    return device.kind.value, device.name or device.id, device.basis.value, device.counted, covers, share
