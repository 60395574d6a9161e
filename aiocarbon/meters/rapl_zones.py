"""The zones of Linux's powercap tree that count energy, and which device each of them is; see `rapl.py`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiocarbon._core.reading import UNKNOWN_MAX_POWER_W, Basis, Device, DeviceKind, Part, Quantity
from aiocarbon._core.units import W_PER_UW
from aiocarbon.meters.sysfs import number, text

REFRESH_S: Final = 0.001
"""Seconds between two updates of a RAPL counter: about 1 ms, with jitter (Haehnel et al., Measuring energy
consumption for short code paths using RAPL, 2012). A guest's may be a thousand times that: QEMU makes it once a second
(target/i386/kvm/vmsr_energy.h)."""

INSIDE_PACKAGE: Final = frozenset({"core", "uncore"})
"""Domains whose energy the package's holds."""

# No published figure says how far a package counter may be off: Intel states none, and studies compare trends. The
# bands are therefore assumed: 5 % for packages, twice that for dram, where Desrochers et al. (A validation of DRAM
# RAPL power measurements, MEMSYS 2016) found the measured power followed at a constant offset, worst when idle.
_PACKAGE_FACTORS: Final = (0.95, 1.05)
_DRAM_FACTORS: Final = (0.90, 1.10)

_ZONE: Final = re.compile(r"(?P<control>[A-Za-z][\w-]*)(?P<path>(?::[0-9a-f]+)+)")
_PACKAGE: Final = re.compile(r"package-(\d+)(?:-die-(\d+))?")
_PSYS: Final = re.compile(r"psys(-\d+)?")
_CONSTRAINTS: Final = 3
_PEAK_OVER_MEAN: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """A powercap zone that counts energy: where it is, its domain's name, and that of the zone above it, if one."""

    id: str
    control: str
    path: Path
    name: str
    parent: str

    @property
    def domain(self) -> str:
        """The physical domain, whatever control type shows it: "package-0", "package-0/dram"."""
        return f"{self.parent}/{self.name}" if self.parent else self.name


def _order(zone_id: str) -> tuple[int, str, list[int]]:
    """MSR zones first, since perf agrees with them, MMIO copies last; then by number."""
    control, *numbers = zone_id.split(":")
    rank = 0 if control == "intel-rapl" else 2 if control.endswith("-mmio") else 1
    return rank, control, [int(n, 16) for n in numbers]


def scan(root: Path) -> tuple[list[Zone], int]:
    """The zones that have a counter, in the order in which they are preferred, and how many links lead nowhere."""
    try:
        ids = [entry.name for entry in root.iterdir() if _ZONE.fullmatch(entry.name)]
    except OSError:
        return [], 0
    zones = []
    dangling = 0
    for zone_id in sorted(ids, key=_order):
        path = root / zone_id
        if not path.exists():
            dangling += 1
            continue
        name = text(path / "name")
        if not name or not os.path.lexists(path / "energy_uj"):
            continue  # a zone that limits power without counting energy (the dtpm control type)
        control, *numbers = zone_id.split(":")
        above = ":".join([control, *numbers[:-1]])
        parent = (text(root / above / "name") or above) if len(numbers) > 1 else ""
        zones.append(Zone(id=zone_id, control=control, path=path, name=name, parent=parent))
    return zones, dangling


def _max_power_w(path: Path) -> float:
    """The most that a zone can draw by the limits it states, in watts; 1000 W where it states none.

    The first constraint is a limit of long means (it is doubled), the others are of milliseconds and of peaks. A limit
    beyond 1000 W is a firmware's way to say that there is none.
    """
    limits_w = []
    for i in range(_CONSTRAINTS):
        for kind in ("max_power", "power_limit"):
            limit_w = (number(path / f"constraint_{i}_{kind}_uw") or 0) * W_PER_UW
            if 0 < limit_w <= UNKNOWN_MAX_POWER_W:
                limits_w.append(limit_w if i else limit_w * _PEAK_OVER_MEAN)
    return max(limits_w, default=UNKNOWN_MAX_POWER_W)


def describe(zone: Zone, device_id: str) -> Device:
    """The device that a zone is, told by its domain's name."""
    low, high = _PACKAGE_FACTORS
    kind, name, covers, counted, note = DeviceKind.OTHER, zone.domain, frozenset[Part](), False, ""
    if package := _PACKAGE.fullmatch(zone.name):
        kind, covers, counted = DeviceKind.CPU, frozenset({Part.CPU}), True
        name = f"CPU package {package[1]}" + (f", die {package[2]}" if package[2] else "")
    elif zone.name == "dram":
        kind, covers, counted = DeviceKind.DRAM, frozenset({Part.MEMORY}), True
        low, high = _DRAM_FACTORS
        name = f"memory of {zone.parent}" if zone.parent else "memory"
    elif _PSYS.fullmatch(zone.name):
        kind, covers = DeviceKind.PLATFORM, frozenset({Part.CPU, Part.MEMORY, Part.BOARD})
        name, note = f"platform ({zone.name})", "holds the CPU packages; shown for comparison, not added"
    else:
        note = "it is not known what this domain holds; shown for comparison, not added"
    return Device(
        id=device_id,
        kind=kind,
        name=name,
        quantity=Quantity.ENERGY,
        basis=Basis.COUNTER,
        covers=covers,
        counted=counted,
        refresh_s=REFRESH_S,
        low_factor=low,
        high_factor=high,
        counter_range_uj=number(zone.path / "max_energy_range_uj") or None,
        max_power_w=_max_power_w(zone.path),
        note=note,
    )
