"""What the hardware monitors of Linux say, and which of them hold one another: files in, descriptions out.

A chip is told by its driver's name, never by its number (hwmonN changes from boot to boot). Where several sensors see
the same watts, one is counted and the others are shown beside it. Units are those of the hwmon ABI (Linux,
Documentation/hwmon/sysfs-interface.rst): energies in uJ, powers in uW, voltages in mV, currents in mA.

No maker publishes how far these sensors may be off, except where an ACPI power meter states its accuracy; their bands
are assumed, and wide.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon._core.units import NS_PER_MS, W_PER_UW, s_from_ns
from aiocarbon.meters.sysfs import number, text

Sleep = Callable[[float], None]

_MODULE: Final = frozenset({Part.CPU, Part.MEMORY, Part.GPU})
_MACHINE: Final = _MODULE | {Part.BOARD}
_ASSUMED: Final = (0.90, 1.10)
_ASSUMED_AMD: Final = (0.85, 1.15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A device and the files that tell of it.

    Attributes:
        device: The device.
        files: One file with microjoules or microwatts, or two whose values, in mV and mA, multiply to microwatts.
        may_be_zero: False if 0 W is no value that the device can have, so that it means "not known".
        asleep: The file that says "suspended" while reading a sensor would wake the device; None if none could.
    """

    device: Device
    files: tuple[Path, ...]
    may_be_zero: bool = False
    asleep: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A hardware monitor.

    Attributes:
        name: Its driver's name.
        path: The directory of its files.
        address: Name of the device it belongs to: a PCI or I2C address, an ACPI path.
        owner: The directory of that device.
    """

    name: str
    path: Path
    address: str
    owner: Path


def find_chips(root: Path) -> list[Chip]:
    """The hardware monitors below the class directory, ordered by name and address.

    Drivers that predate the hwmon API's second form (acpi_power_meter up to now) keep all files in the device's own
    directory.
    """
    try:
        entries = sorted(root.iterdir())
    except OSError:
        return []
    chips = []
    for entry in entries:
        for path in (entry, entry / "device"):
            if name := text(path / "name"):
                owner = entry / "device"
                address = os.path.basename(os.path.realpath(owner)) if owner.exists() else entry.name
                chips.append(Chip(name=name, path=path, address=address, owner=owner))
                break
    return sorted(chips, key=lambda chip: (chip.name, chip.address))


_power = partial(Device, quantity=Quantity.POWER, basis=Basis.POWER)
"""A device whose readings are watts."""


def _energy(device_id: str, name: str, chip: Chip, factors: tuple[float, float], *, counted: bool, note: str) -> Device:
    """A GPU whose readings are microjoules that a driver accumulates since it was loaded."""
    return Device(
        id=device_id,
        kind=DeviceKind.GPU,
        name=name,
        quantity=Quantity.ENERGY,
        basis=Basis.COUNTER,
        covers=frozenset({Part.GPU}),
        counted=counted,
        low_factor=factors[0],
        high_factor=factors[1],
        max_power_w=_max_power_w(chip),
        note=note,
    )


def _max_power_w(chip: Chip) -> float | None:
    """The most that a GPU can draw, watts: twice the limits that it states, which are of means; None without one."""
    stated_uw = [number(chip.path / f"power1_{kind}") or 0 for kind in ("rated_max", "max", "cap_max")]
    return 2 * max(stated_uw) * W_PER_UW or None


# --- AMD GPUs ---------------------------------------------------------------------------------------------------------

_MOVE_TRIES: Final = 5
_MOVE_WAIT_S: Final = s_from_ns(10 * NS_PER_MS)


def _moves(path: Path, sleep: Sleep) -> bool:
    """True if a counter is seen to move within 50 ms; some are there and stand (ROCm/amdsmi#38, rocm_smi_lib#180)."""
    first = number(path)
    if first is None:
        return False
    for _ in range(_MOVE_TRIES):
        sleep(_MOVE_WAIT_S)
        if number(path) != first:
            return True
    return False


def is_apu(owner: Path) -> bool:
    """True if an amdgpu device is a processor's own graphics.

    Its metrics table says so: format 1 is of boards, 2 and 3 are of APUs (Linux, kgd_pp_interface.h: the third byte of
    `struct metrics_table_header`).
    """
    try:
        with (owner / "gpu_metrics").open("rb") as file:
            header = file.read(4)
    except OSError:
        return False
    return len(header) == 4 and header[2] in (2, 3)


def amdgpu(chip: Chip, sleep: Sleep = time.sleep) -> Iterator[Sensor]:
    """An AMD GPU: its energy counter if it has one that moves, else its mean power, else its power.

    The power is that of the socket, which on an APU holds the CPU (Linux, amdgpu_pm.c, "hwmon interfaces for GPU
    power"); RAPL has that already. How long the mean is is not published, so no lag is corrected.
    """
    name = text(chip.owner / "product_name") or f"AMD GPU {chip.address}"
    device_id = f"amdgpu:{chip.address}"
    asleep = chip.owner / "power" / "runtime_status"
    apu = is_apu(chip.owner)
    note = "an APU's power holds its CPU, which RAPL counts; shown, not added" if apu else ""
    energy = chip.path / "energy1_input"
    if not apu and text(asleep) != "suspended" and energy.exists() and _moves(energy, sleep):
        device = _energy(device_id, name, chip, _ASSUMED_AMD, counted=True, note=note)
        yield Sensor(device=device, files=(energy,), asleep=asleep)
        return
    for file in (chip.path / "power1_average", chip.path / "power1_input"):
        if file.exists():
            device = _power(
                id=device_id,
                kind=DeviceKind.GPU,
                name=name,
                covers=frozenset({Part.GPU, Part.CPU} if apu else {Part.GPU}),
                counted=not apu,
                low_factor=_ASSUMED_AMD[0],
                high_factor=_ASSUMED_AMD[1],
                max_power_w=_max_power_w(chip),
                note=note,
            )
            yield Sensor(device=device, files=(file,), asleep=asleep)
            return


# --- Intel GPUs -------------------------------------------------------------------------------------------------------


def intel_gpu(chip: Chip) -> Iterator[Sensor]:
    """An Intel GPU: the card's counter, which holds the package's; the package's alone where the card has none.

    Linux, Documentation/ABI/testing/sysfs-driver-intel-{i915,xe}-hwmon. The chips "i915_gtN" are parts of "i915". The
    register behind has 32 bits of 2^-14 J; the driver accumulates it when read, which at 1000 W must be at least every
    262 s (i915_hwmon.c), so these values do not wrap, provided that the meter is read about once a minute.
    """
    name = f"Intel GPU {chip.address}"
    asleep = chip.owner / "power" / "runtime_status"
    card, package = chip.path / "energy1_input", chip.path / "energy2_input"
    if card.exists():
        device = _energy(f"{chip.name}:{chip.address}", name, chip, _ASSUMED, counted=True, note="")
        yield Sensor(device=device, files=(card,), asleep=asleep)
    if package.exists():
        alone = not card.exists()
        note = "the GPU's package without the rest of the card" if alone else "part of the card's energy; not added"
        device = _energy(
            f"{chip.name}:{chip.address}/package", f"{name} package", chip, _ASSUMED, counted=alone, note=note
        )
        yield Sensor(device=device, files=(package,), asleep=asleep)


# --- ACPI power meters: NVIDIA Grace, and servers ---------------------------------------------------------------------

_SOCKET: Final = re.compile(r"(module|grace|cpu|sysio) power socket (\d+)", re.IGNORECASE)
_ACCURACY: Final = re.compile(r"(\d+\.\d+)%")
_GRACE_REFRESH_S: Final = s_from_ns(50 * NS_PER_MS)
"""Sampling time in NVIDIA's firmware tables (edk2-nvidia: PWR_METER_MEASUREMENT_SAMPLING_TIME_50MS)."""
_SERVER_REFRESH_S: Final = 1.0
"""Assumed: firmware asks a management controller, which is slow; asking more often tells nothing more."""

_GRACE_PARTS: Final[dict[str, tuple[DeviceKind, str, frozenset[Part]]]] = {
    "module": (DeviceKind.PLATFORM, "NVIDIA Grace Hopper module", _MODULE),
    "grace": (DeviceKind.CPU, "NVIDIA Grace socket", frozenset({Part.CPU, Part.MEMORY})),
    "cpu": (DeviceKind.CPU, "NVIDIA Grace CPU rail", frozenset({Part.CPU})),
    "sysio": (DeviceKind.OTHER, "NVIDIA Grace SysIO rail", frozenset()),
}
"""What each sensor is, and holds (NVIDIA Grace Performance Tuning Guide, "Power Telemetry")."""


def _accuracy(chip: Chip) -> tuple[float, float]:
    """The band an ACPI power meter states. Firmware that states 100 % has not measured it: the assumed one then."""
    stated = _ACCURACY.fullmatch(text(chip.path / "power1_accuracy") or "")
    share = float(stated[1]) / 100 if stated else 1.0
    return (share, 2 - share) if 0.5 <= share < 1 else _ASSUMED


def _grace_counted(kind: str, siblings: set[str]) -> tuple[bool, str]:
    """Module holds Grace and the GPU, which NVML counts; Grace holds CPU, SysIO, memory and regulators."""
    if kind == "module":
        return False, "holds the CPU socket and the GPU, which are counted by themselves"
    if kind == "grace":
        return True, ""
    if "grace" in siblings:
        return False, "part of the Grace socket's power; not added"
    return True, "the rail only, without memory and regulators"


def acpi_meters(chips: list[Chip]) -> Iterator[Sensor]:
    """ACPI power meters: NVIDIA Grace's by socket, the outermost that holds no GPU counted; a server's own shown.

    The value is a mean over `power1_average_interval` (Linux, drivers/hwmon/acpi_power_meter.c).
    """
    sockets: dict[str, set[str]] = {}
    found = []
    for chip in chips:
        match = _SOCKET.fullmatch(text(chip.path / "power1_oem_info") or "")
        kind, socket = (match[1].lower(), match[2]) if match else ("", "")
        sockets.setdefault(socket, set()).add(kind)
        found.append((chip, kind, socket))
    for chip, kind, socket in found:
        low, high = _accuracy(chip)
        lag_s = s_from_ns((number(chip.path / "power1_average_interval") or 0) * NS_PER_MS) / 2
        if kind:
            device_kind, name, covers = _GRACE_PARTS[kind]
            device_id, name, refresh_s = f"grace:{kind}-{socket}", f"{name} {socket}", _GRACE_REFRESH_S
            counted, note = _grace_counted(kind, sockets[socket])
        else:
            device_kind, name, covers = DeviceKind.PLATFORM, "the server, by its ACPI power meter", _MACHINE
            device_id, refresh_s = f"acpi:{chip.address}", _SERVER_REFRESH_S
            counted, note = False, "the whole machine's power by its firmware; shown for comparison, not added"
        device = _power(
            id=device_id,
            kind=device_kind,
            name=name,
            covers=covers,
            counted=counted,
            refresh_s=refresh_s,
            lag_s=lag_s,
            low_factor=low,
            high_factor=high,
            note=note,
        )
        yield Sensor(device=device, files=(chip.path / "power1_average",))


# --- NVIDIA Jetson ----------------------------------------------------------------------------------------------------

_WHOLE: Final = frozenset({"VDD_IN", "POM_5V_IN"})
"""Rails that feed the whole module (NVIDIA's forum: 200883, "VDD_IN is the total power of module"; 73608/8, the same
of POM_5V_IN)."""

_RAILS: Final = frozenset({
    "VDD_CPU_GPU_CV", "VDD_SOC", "VDD_CPU", "VDD_GPU", "POM_5V_GPU", "POM_5V_CPU",
    "VDD_SYS_GPU", "VDD_SYS_CPU", "VDD_SYS_SOC", "VDD_SYS_DDR", "VDD_4V0_WIFI",
    "VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO", "VDD_CPU_SOC_MSS",
})  # fmt: skip
"""Rails inside a module that boards name (device trees and the power chapters of NVIDIA's Jetson developer guide)."""

_DISJOINT: Final = {
    "VDD_GPU_SOC": (DeviceKind.GPU, frozenset({Part.GPU})),
    "VDD_CPU_CV": (DeviceKind.CPU, frozenset({Part.CPU})),
}
"""Rails of Jetson AGX Orin, which has none for the whole, that feed different parts of the chip. What its 5 V and
memory rails share is not published, so those are shown only."""

_CHANNELS: Final = (1, 2, 3)
"""in4 to in6 are shunt voltages and in7 their sum, in uV (Linux, Documentation/hwmon/ina3221.rst)."""


def _rail(chip: Chip, files: tuple[Path, ...], label: str, *, has_whole: bool) -> Sensor:
    kind, covers, counted, note = DeviceKind.OTHER, frozenset[Part](), False, "a rail of the module; not added"
    if label in _WHOLE or label == "VIN":
        kind, covers, counted, note = DeviceKind.PLATFORM, _MACHINE, True, "the whole module, GPU included"
    elif label in _DISJOINT and not has_whole:
        kind, covers = _DISJOINT[label]
        counted, note = True, "this rail only; the module's other rails are shown, not added"
    interval_ms = number(chip.path / "update_interval") or 0
    device = _power(
        id=f"jetson:{label}",
        kind=kind,
        name=f"Jetson {label}",
        covers=covers,
        counted=counted,
        refresh_s=s_from_ns(interval_ms * NS_PER_MS) or None,
        low_factor=_ASSUMED[0],
        high_factor=_ASSUMED[1],
        note=note,
    )
    return Sensor(device=device, files=files, may_be_zero=not counted)


def jetson(chips: list[Chip], model: str) -> list[Sensor]:
    """A Jetson's rails: the one that feeds the module counted, those inside shown; unknown labels left alone.

    Args:
        chips: The monitors called ina3221 and ina238.
        model: The device tree's name for the machine; an INA238, which has no label, is the supply of a Jetson's
            carrier (AGX Thor; rbonghi/jetson_stats#900) and could be anything elsewhere.
    """
    found: list[tuple[Chip, tuple[Path, ...], str]] = []
    for chip in chips:
        if chip.name == "ina238" and "jetson" in model.lower() and (chip.path / "power1_input").exists():
            found.append((chip, (chip.path / "power1_input",), "VIN"))
        for n in _CHANNELS if chip.name == "ina3221" else ():
            label = text(chip.path / f"in{n}_label") or ""
            if label in _WHOLE | _RAILS:
                found.append((chip, (chip.path / f"in{n}_input", chip.path / f"curr{n}_input"), label))
    labels = {label for _, _, label in found}
    has_whole = bool(labels & (_WHOLE | {"VIN"}))
    return [_rail(chip, files, label, has_whole=has_whole) for chip, files, label in found]
