"""Devices that are not there: waves whose energy is known exactly, for tests and for "what if".

Every wave has a closed-form integral, so the true joules between two instants are known to rounding, and an
instrument that reads a simulated device can be held to them. `Device.note` says "simulated" or "replayed": nobody
shall take the figure for a measurement, whatever basis the device was told to claim.

A wave's time begins when the meter is opened (or at `epoch_ns`); processes of one machine that name one wave at one
time share its device, as they share real ones, and its time began with the first of them. As text, `simulated:WAVE`, a
wave is `250` (watts), `square:2,0.5,50,400` or `ramp:50,400,60`; `aiocarbon/meters/waves.py` has the grammar.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity, Reading
from aiocarbon._core.units import UJ_PER_J, ns_from_s, s_from_ns
from aiocarbon.errors import ConfigError, MeterLostError, MeterUnavailableError
from aiocarbon.meters.base import Inventory, Stopwatch
from aiocarbon.meters.waves import WAVES, Constant, Ramp, Square, Trace, Wave, parse_wave

__all__ = ["Constant", "Ramp", "ReplayedMeter", "SimulatedMeter", "Square", "Trace", "Wave"]

_COVERS: Final = {
    DeviceKind.GPU: frozenset({Part.GPU}),
    DeviceKind.CPU: frozenset({Part.CPU}),
    DeviceKind.DRAM: frozenset({Part.MEMORY}),
    DeviceKind.PLATFORM: frozenset({Part.CPU, Part.MEMORY, Part.BOARD}),
}


class SimulatedMeter:
    """Devices that draw what a wave says.

    More parameters than our constructors have elsewhere: a test turns one of them and leaves the others.

    Args:
        wave: One wave, or several by device id.
        device_id: The id of the one device.
        kind: What the devices pretend to be; decides which parts of the machine they hold.
        quantity: Whether they are counters (microjoules) or power sensors (watts).
        refresh_s: Seconds between two changes of the value, counted from the wave's beginning, as real sensors
            refresh; None for a value that is always fresh.
        counted: False for views of energy that other devices hold.
        clock: Monotonic nanoseconds.
        epoch_ns: The clock's value at the wave's instant 0; None for the moment of opening. Before it, power and
            energy are those of instant 0.
        basis: Where the joules are said to come from; by default what the quantity is on real hardware.

    Raises:
        ConfigError: No wave, or a refresh that is not above 0 s.
    """

    name = "simulated"
    _note = "simulated: nothing was measured"

    def __init__(
        self,
        *,
        wave: Wave | Mapping[str, Wave] | None = None,
        device_id: str = "simulated-0",
        kind: DeviceKind = DeviceKind.OTHER,
        quantity: Quantity = Quantity.ENERGY,
        refresh_s: float | None = None,
        counted: bool = True,
        clock: Stopwatch = time.monotonic_ns,
        epoch_ns: int | None = None,
        basis: Basis | None = None,
    ) -> None:
        if not wave:
            raise ConfigError("meters", self.name, f"{self.name}:WAVE, where WAVE is {WAVES}")
        if refresh_s is not None and not (math.isfinite(refresh_s) and refresh_s >= 1e-9):
            raise ConfigError("refresh_s", refresh_s, "seconds, a nanosecond or more, or None")
        self._waves = dict(wave) if isinstance(wave, Mapping) else {device_id: wave}
        self._kind = kind
        self._quantity = quantity
        self._refresh_s = refresh_s
        self._counted = counted
        self._clock = clock
        self._given_epoch_ns = epoch_ns
        self._basis = basis or (Basis.COUNTER if quantity is Quantity.ENERGY else Basis.POWER)
        self._epoch_ns: int | None = None

    @classmethod
    def from_argument(cls, argument: str) -> SimulatedMeter:
        """A simulated counter from what stands behind "simulated:".

        Args:
            argument: A wave in the grammar of `aiocarbon.meters.waves`.

        Raises:
            ConfigError: The argument is not such a wave.
        """
        try:
            return cls(wave=parse_wave(argument))
        except ConfigError as error:
            raise ConfigError("meters", f"{cls.name}:{argument}", f"{cls.name}:WAVE, where WAVE is {WAVES}") from error

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Begin the waves, unless `epoch_ns` set their beginning."""
        self._epoch_ns = self._clock() if self._given_epoch_ns is None else self._given_epoch_ns
        return Inventory(devices=tuple(self._device(device_id) for device_id in self._waves))

    @property
    def zero_ns(self) -> int | None:
        """Where the wave's time begins, monotonic nanoseconds; None before it does.

        Processes of one machine that name one wave share its devices, which begin with the first process.
        """
        return self._epoch_ns

    @zero_ns.setter
    def zero_ns(self, zero_ns: int) -> None:
        self._epoch_ns = zero_ns

    def read(self, device: Device) -> Reading:
        """What the device's wave says now.

        Raises:
            MeterLostError: The meter is closed, or has no such device.
        """
        wave = self._waves.get(device.id)
        if self._epoch_ns is None or wave is None:
            raise MeterLostError(f"{self.name} device {device.id} is not open", device=device.id)
        t0_ns = self._clock()
        t1_ns = self._clock()
        wave_ns = max(0, (t0_ns + t1_ns) // 2 - self._epoch_ns)
        if self._refresh_s is not None:  # whole nanoseconds, so that no rounding skips a refresh
            wave_ns -= wave_ns % ns_from_s(self._refresh_s)
        return Reading(t0_ns, t1_ns, self._value(wave, s_from_ns(wave_ns)))

    def ahead_of(self, device: Device, zero_ns: int) -> float:
        """By how much this counter is ahead, now, of one of the same wave that began at another instant.

        Args:
            device: One of this meter's.
            zero_ns: The other one's `zero_ns`.

        Returns:
            Microjoules; 0 for a power sensor, which holds no sum, and for a meter that is closed.
        """
        wave = self._waves.get(device.id)
        if self._epoch_ns is None or wave is None or self._quantity is not Quantity.ENERGY:
            return 0.0
        own, other = (max(0, self._clock() - zero) for zero in (self._epoch_ns, zero_ns))
        return self._value(wave, s_from_ns(own)) - self._value(wave, s_from_ns(other))

    def close(self) -> None:
        """End the waves."""
        self._epoch_ns = None

    def _value(self, wave: Wave, t_s: float) -> float:
        return round(wave.energy_j(t_s) * UJ_PER_J) if self._quantity is Quantity.ENERGY else wave.power_w(t_s)

    def _device(self, device_id: str) -> Device:
        return Device(
            id=device_id,
            kind=self._kind,
            name=f"{self.name} {device_id}",
            quantity=self._quantity,
            basis=self._basis,
            covers=_COVERS.get(self._kind, frozenset()),
            counted=self._counted,
            refresh_s=self._refresh_s or 0.0,  # without steps the value is of the read itself
            note=self._note,
        )


class ReplayedMeter(SimulatedMeter):
    """Devices that draw what was recorded, played from opening on.

    The last reading stands at the trace's last instant; after it the device is lost: nothing says what it drew then.

    Args:
        traces: Recorded powers by device id, at least one.
        clock: Monotonic nanoseconds.
        epoch_ns: The clock's value at the traces' instant 0; None for the moment of opening.
    """

    name = "replayed"
    _note = "replayed from a recording: nothing was measured now"

    def __init__(
        self,
        *,
        traces: Mapping[str, Trace] | None = None,
        clock: Stopwatch = time.monotonic_ns,
        epoch_ns: int | None = None,
    ) -> None:
        if not traces:
            raise ConfigError("meters", self.name, f"{self.name}:FILE, a CSV file with the header {_HEADER}")
        super().__init__(wave=traces, clock=clock, epoch_ns=epoch_ns)
        self._traces = dict(traces)
        self._ended: set[str] = set()

    @classmethod
    def from_argument(cls, argument: str) -> ReplayedMeter:
        """Devices from a CSV file with the header `time_s,power_w` or `time_s,power_w,device`.

        Args:
            argument: The file's path. Times ascend for each device and begin at 0 or later; lines in seconds and watts.

        Raises:
            ConfigError: There is no such file, or it holds no such trace; the message names the line.
        """
        return cls(traces=_read_traces(Path(argument)))

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Play the traces from their beginning.

        Raises:
            MeterUnavailableError: Every trace ended before `epoch_ns` let it begin.
        """
        self._ended.clear()
        inventory = super().open(covered)
        now_ns = self._clock()
        left = tuple(device for device in inventory.devices if now_ns <= self._end_ns(device.id))
        if not left:
            self.close()
            raise MeterUnavailableError("every replayed trace has ended")
        return Inventory(devices=left)

    def read(self, device: Device) -> Reading:
        """What the recording says of now; once after its end, what it said then.

        Raises:
            MeterLostError: The trace has ended, or the meter is closed.
        """
        reading = super().read(device)
        end_ns = self._end_ns(device.id)
        if reading.t1_ns <= end_ns:
            return reading
        if device.id in self._ended:
            raise MeterLostError(f"the replayed trace of {device.id} has ended", device=device.id)
        self._ended.add(device.id)
        trace = self._traces[device.id]
        return Reading(end_ns, end_ns, self._value(trace, trace.end_s))

    def _end_ns(self, device_id: str) -> int:
        return (self._epoch_ns or 0) + ns_from_s(self._traces[device_id].end_s)


_HEADER: Final = "time_s,power_w[,device]"


def _read_traces(path: Path) -> dict[str, Trace]:
    def refuse(what: str) -> ConfigError:
        return ConfigError("meters", f"replayed:{path}", f"a CSV file with the header {_HEADER}; {what}")

    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            points = _points(lines, refuse)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise refuse(f"it could not be read: {error}") from error
    if not points:
        raise refuse("it holds no line of data")
    traces = {}
    for device_id, pairs in points.items():
        try:
            traces[device_id] = Trace(tuple(t for t, _ in pairs), tuple(p for _, p in pairs))
        except ConfigError as error:
            raise refuse(f"device {device_id!r} needs {error.accepted}") from error
    return traces


def _points(lines: Iterable[str], refuse: Callable[[str], ConfigError]) -> dict[str, list[tuple[float, float]]]:
    """The file's points by device, in its order."""
    table = csv.DictReader(lines, strict=True)
    header = [name.strip() for name in table.fieldnames or ()]
    if header not in (["time_s", "power_w"], ["time_s", "power_w", "device"]):
        raise refuse(f"its first line is {','.join(header)!r}")
    table.fieldnames = header
    points: dict[str, list[tuple[float, float]]] = {}
    for row in table:
        try:
            point = float(row["time_s"]), float(row["power_w"])
        except (TypeError, ValueError) as error:
            raise refuse(f"line {table.line_num} has no two numbers") from error
        points.setdefault((row.get("device") or "replayed-0").strip(), []).append(point)
    return points
