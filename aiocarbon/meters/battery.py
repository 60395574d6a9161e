"""A laptop's battery: what the whole machine draws while it runs on it, for comparison with the other meters.

Guarantees: never counted, since it holds what the others measure; read only while it discharges, since on mains it
says nothing of the machine. Linux, Documentation/ABI/testing/sysfs-class-power: power in uW, voltage in uV, current in
uA, the sign left to the driver. Gauges refresh every few seconds at best, and a read asks the embedded controller.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity, Reading
from aiocarbon._core.units import W_PER_PW, W_PER_UW
from aiocarbon.errors import MeterLostError, MeterUnavailableError, ReadError
from aiocarbon.meters.base import Inventory, Stopwatch
from aiocarbon.meters.sysfs import number, text

REFRESH_S: Final = 5.0
"""Assumed: gauges refresh between every second and every half a minute, and none says how often."""

_FACTORS: Final = (0.90, 1.10)
"""Assumed: no maker of a laptop publishes its gauge's accuracy."""

_DISCHARGING: Final = "Discharging"
_CHARGING: Final = "Charging"

_DEVICE: Final = Device(
    id="battery",
    kind=DeviceKind.BATTERY,
    name="battery (the whole machine)",
    quantity=Quantity.POWER,
    basis=Basis.POWER,
    covers=frozenset({Part.CPU, Part.MEMORY, Part.GPU, Part.BOARD}),
    counted=False,
    refresh_s=REFRESH_S,
    low_factor=_FACTORS[0],
    high_factor=_FACTORS[1],
    note="the whole machine, read only while on battery; shown for comparison, not added",
)


@dataclass(frozen=True, slots=True)
class _Battery:
    """A battery that feeds the machine (a mouse's has the scope "Device")."""

    path: Path

    @property
    def status(self) -> str | None:
        return text(self.path / "status")

    def power_w(self) -> float | None:
        """Watts drawn from it, at least 0; None if it does not say."""
        power = number(self.path / "power_now")
        if power is not None:
            return abs(power) * W_PER_UW
        voltage, current = number(self.path / "voltage_now"), number(self.path / "current_now")
        return None if voltage is None or current is None else abs(voltage * current) * W_PER_PW


class BatteryMeter:
    """Reads what a laptop draws from its batteries, added up.

    Args:
        root: The power_supply class directory.
        clock: Monotonic nanoseconds.
    """

    name = "battery"

    def __init__(self, *, root: Path = Path("/sys/class/power_supply"), clock: Stopwatch = time.monotonic_ns) -> None:
        self._root = root
        self._clock = clock
        self._batteries: tuple[_Battery, ...] = ()

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Find the machine's batteries.

        Args:
            covered: Not heeded.

        Raises:
            MeterUnavailableError: There is none, it says nothing of its power, or the machine runs on mains.
        """
        self.close()
        batteries = self._find()
        if not batteries:
            raise MeterUnavailableError(f"battery: none in {self._root}")
        try:
            self._power_w(batteries)
        except ReadError as error:
            raise MeterUnavailableError(str(error), device=_DEVICE.id) from error
        self._batteries = batteries
        return Inventory(devices=(_DEVICE,))

    def _find(self) -> tuple[_Battery, ...]:
        try:
            entries = sorted(self._root.iterdir())
        except OSError:
            return ()
        return tuple(
            _Battery(path)
            for path in entries
            if text(path / "type") == "Battery" and text(path / "scope") != "Device" and text(path / "present") != "0"
        )

    def _power_w(self, batteries: tuple[_Battery, ...]) -> float:
        """Watts of all that discharge; one of two may rest, but none may be charging."""
        states = {battery.path.name: battery.status for battery in batteries}
        if _CHARGING in states.values() or _DISCHARGING not in states.values():
            said = ", ".join(f"{name} {status or 'unknown'}" for name, status in states.items())
            raise ReadError(f"battery: on mains ({said})", device=_DEVICE.id)
        total = 0.0
        for battery in batteries:
            if states[battery.path.name] != _DISCHARGING:
                continue
            power = battery.power_w()
            if not power:
                said = "states no power" if power is None else "states 0 W while it discharges"
                raise ReadError(f"battery: {battery.path.name} {said}", device=_DEVICE.id)
            total += power
        return total

    def read(self, device: Device) -> Reading:
        """Read the power drawn from the batteries now.

        Args:
            device: The inventory's.

        Returns:
            Watts of the whole machine.

        Raises:
            ReadError: The machine runs on mains, or a gauge did not answer.
            MeterLostError: The batteries are gone.
        """
        if not self._batteries:
            raise MeterLostError("battery: this meter is not open", device=device.id)
        if not any(battery.path.exists() for battery in self._batteries):
            raise MeterLostError("battery: it was removed", device=device.id)
        t0_ns = self._clock()
        power_w = self._power_w(self._batteries)
        return Reading(t0_ns, self._clock(), power_w)

    def close(self) -> None:
        """Forget the batteries; no descriptor is held. Safe to call twice."""
        self._batteries = ()
