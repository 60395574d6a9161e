"""AMD and Intel GPUs, NVIDIA Grace and NVIDIA Jetson, through Linux's hardware monitors.

Guarantees: no watt is counted twice among the devices of this meter (`hwmon_rules` says what holds what); a reading of
0 W from a device that cannot draw none is an error and so a gap, not a zero; a device that sleeps is not woken.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiocarbon._core.reading import Device, DeviceKind, Finding, Part, Quantity, Reading
from aiocarbon._core.units import W_PER_UW
from aiocarbon.errors import MeterError, MeterLostError, MeterPermissionError, MeterUnavailableError, ReadError
from aiocarbon.meters.base import Inventory, Stopwatch
from aiocarbon.meters.counter_watch import Stillness
from aiocarbon.meters.hwmon_rules import Chip, Sensor, Sleep, acpi_meters, amdgpu, find_chips, intel_gpu, jetson
from aiocarbon.meters.sysfs import HeldFile, Pread, text

PERMISSION: Final = "meter.permission"
UNREADABLE: Final = "meter.unreadable"
INCOMPLETE: Final = "meter.incomplete"
SCOPE: Final = "meter.scope"
STUCK: Final = "meter.stuck"

_HIDING: Final = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
"""Variables that hide AMD GPUs from a process. Their numbers count in ROCm's own order, which sysfs does not tell."""


@dataclass(slots=True)
class _Held:
    """A sensor that is being read."""

    sensor: Sensor
    files: list[HeldFile]
    still: Stillness = field(default_factory=Stillness)

    def close(self) -> None:
        for file in self.files:
            file.close()


class HwmonMeter:
    """Reads energy counters and power sensors of hardware monitors.

    Args:
        root: The hwmon class directory.
        model: The file in which the device tree names the machine.
        environ: Environment variables.
        clock: Monotonic nanoseconds.
        sleep: Waits, at most 50 ms for each AMD GPU that has an energy counter, to see whether it moves.
        pread: Reads a held descriptor.
    """

    name = "hwmon"

    def __init__(
        self,
        *,
        root: Path = Path("/sys/class/hwmon"),
        model: Path = Path("/proc/device-tree/model"),
        environ: Mapping[str, str] = os.environ,
        clock: Stopwatch = time.monotonic_ns,
        sleep: Sleep = time.sleep,
        pread: Pread = os.pread,
    ) -> None:
        self._root = root
        self._model = model
        self._environ = environ
        self._clock = clock
        self._sleep = sleep
        self._pread = pread
        self._held: dict[str, _Held] = {}

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Find the sensors and hold those that can be read.

        Args:
            covered: Not heeded: a sensor measures whatever others do.

        Raises:
            MeterUnavailableError: There is no sensor that this meter knows, or none that can be read.
            MeterPermissionError: There are some, but this user may read none.
        """
        self.close()
        denied: list[str] = []
        findings: list[Finding] = []
        for sensor in self._sensors(find_chips(self._root)):
            self._hold(sensor, denied, findings)
        if not self._held:
            if denied:
                raise MeterPermissionError(f"hwmon: this user may not read {', '.join(denied)}")
            reasons = "; ".join(finding.message for finding in findings)
            raise MeterUnavailableError(f"hwmon: {reasons or f'no sensor in {self._root} that is known'}")
        if denied:
            findings.append(Finding(event=PERMISSION, message=f"this user may not read {', '.join(denied)}"))
        devices = tuple(held.sensor.device for held in self._held.values())
        return Inventory(devices=devices, findings=(*findings, *self._remarks(devices)))

    def _sensors(self, chips: list[Chip]) -> list[Sensor]:
        sensors: list[Sensor] = []
        for chip in chips:
            if chip.name == "amdgpu":
                sensors += amdgpu(chip, self._sleep)
            elif chip.name in ("i915", "xe"):
                sensors += intel_gpu(chip)
        sensors += acpi_meters([chip for chip in chips if chip.name == "power_meter"])
        model = (text(self._model) or "").rstrip("\0")
        sensors += jetson([chip for chip in chips if chip.name in ("ina3221", "ina238")], model)
        return sensors

    def _hold(self, sensor: Sensor, denied: list[str], findings: list[Finding]) -> None:
        """Keep a sensor that answers, sleeps, or failed only this time."""
        device = sensor.device
        files: list[HeldFile] = []
        try:
            files += [HeldFile(path, pread=self._pread) for path in sensor.files]
        except PermissionError:
            denied.append(device.id)
            return
        except OSError as error:
            message = f"left out: {device.id}: {error.filename} cannot be opened: {error.strerror}"
            findings.append(Finding(event=UNREADABLE, message=message, device=device.id))
            return
        held = _Held(sensor, files)
        try:
            if not _is_asleep(sensor):
                self._value(held)
        except MeterError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EACCES:
                held.close()
                denied.append(device.id)
                return
            # A file that answers with an error may answer later (amdgpu says EPERM while it resets), but one that
            # holds no number or says 0 W will not: an MI250's second die does, whose first die reports both.
            if isinstance(error, MeterLostError) or error.__cause__ is None:
                held.close()
                findings.append(Finding(event=UNREADABLE, message=f"left out: {error}", device=device.id))
                return
        self._held[device.id] = held

    def _remarks(self, devices: tuple[Device, ...]) -> list[Finding]:
        """What is right in each device by itself, but not the whole story."""
        remarks = []
        amd = [device.id for device in devices if device.id.startswith("amdgpu:") and device.counted]
        hiding = [f"{name}={self._environ[name]}" for name in _HIDING if name in self._environ]
        if hiding and len(amd) > 1:
            message = f"all {len(amd)} AMD GPUs of this node are counted: {', '.join(hiding)} cannot be told from sysfs"
            remarks.append(Finding(event=SCOPE, message=message))
        rails = [device for device in devices if device.id.startswith("jetson:")]
        if rails and not any(device.kind is DeviceKind.PLATFORM for device in rails):
            names = ", ".join(device.id for device in rails if device.counted) or "none"
            message = f"this Jetson has no sensor for the whole module; counted of its rails: {names}"
            remarks.append(Finding(event=INCOMPLETE, message=message))
        return remarks

    def _value(self, held: _Held) -> float:
        """Microjoules or watts, now."""
        device = held.sensor.device
        values = [file.read(device.id) for file in held.files]
        if device.quantity is Quantity.ENERGY:
            value: float = values[0]
        else:
            value = (values[0] if len(values) == 1 else values[0] * values[1]) * W_PER_UW
            if value == 0 and not held.sensor.may_be_zero:
                raise ReadError(f"{device.id}: {held.files[0].path} states 0 W, which it cannot draw", device=device.id)
        if value < 0:
            raise ReadError(f"{device.id}: {held.files[0].path} states {value}, less than 0", device=device.id)
        return value

    def read(self, device: Device) -> Reading:
        """Read one sensor now.

        Args:
            device: One of the inventory's.

        Returns:
            Microjoules since the driver was loaded, or watts, as the device's `quantity` says.

        Raises:
            ReadError: This read failed, its value is none that the device can have, a counter has not moved for 2 s,
                or the device sleeps and a read would wake it.
            MeterLostError: The sensor is gone.
        """
        held = self._held.get(device.id)
        if held is None:
            raise MeterLostError(f"{device.id}: this meter is not open", device=device.id)
        if _is_asleep(held.sensor):
            raise ReadError(f"{device.id} sleeps; a read would wake it", device=device.id)
        t0_ns = self._clock()
        value = self._value(held)
        t1_ns = self._clock()
        if device.quantity is Quantity.ENERGY:
            held.still.note(t1_ns, int(value))
            if held.still.is_stuck:
                raise ReadError(_stuck(held), device=device.id)
        return Reading(t0_ns, t1_ns, value)

    def check(self) -> tuple[Finding, ...]:
        """What the readings so far say against the counters, each thing once; reads nothing, costs microseconds."""
        findings = []
        for held in list(self._held.values()):
            device = held.sensor.device
            if device.counted and held.still.is_stuck and not held.still.told:
                held.still.told = True
                findings.append(Finding(event=STUCK, message=_stuck(held), device=device.id))
        return tuple(findings)

    def close(self) -> None:
        """Give the descriptors back; safe to call twice and after a failed `open`."""
        all_held, self._held = self._held, {}
        for held in all_held.values():
            held.close()


def _is_asleep(sensor: Sensor) -> bool:
    return sensor.asleep is not None and text(sensor.asleep) == "suspended"


def _stuck(held: _Held) -> str:
    seconds = held.still.still_s
    return f"{held.sensor.device.id}: {held.files[0].path} has not moved for {seconds:.0f} s and is not trusted"
