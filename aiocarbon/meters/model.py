"""What cannot be read is modelled: a CPU from its load, memory beside a CPU counter that leaves it out.

Guarantees: every device here says `model` or `assumed` and has bounds; nothing is modelled that another meter holds;
a load that could not be read is a `ReadError`, never an idle machine.

The CPU: idle watts for every thread that is ours, all the time, and the rest up to full watts for each thread-second
worked. The watts are medians of whole servers at the wall (`data/cpu_power.csv`), so they hold memory, board and
supply, and no memory is added beside them. Linear between idle and full: real servers lie above the line at mid load
(the Teads curve is concave), which the band covers.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiocarbon._core.reading import Basis, Device, DeviceKind, Finding, Part, Quantity, Reading
from aiocarbon._core.units import UJ_PER_J, s_from_ns
from aiocarbon.errors import MeterLostError, MeterUnavailableError, ReadError
from aiocarbon.meters.base import Inventory, Stopwatch
from aiocarbon.meters.cpu_family import CpuFamily, CpuIdentity, identify, parse_cpuinfo
from aiocarbon.meters.cpu_load import CpuLoad, find_load

__all__ = ["CpuPower", "ModelMeter", "cpu_power"]

CPU_ID: Final = "model:cpu"
MEMORY_ID: Final = "model:memory"
TWICE: Final = "meter.twice"

FAMILY_BAND: Final = (0.65, 1.35)
"""Ends of the band around a family's median: 91 % of the 679 servers behind the table lie within it at half load
(SPECpower_ssj2008 results to March 2026, see `data/cpu_power.csv`)."""
UNKNOWN_BAND: Final = (0.5, 2.0)
"""A factor of 2 either way for a CPU that no row names: holds 79 % of the servers published since 2020 (same file);
laptops and desktops are not among them, so it is an assumption."""

_LOAD_STEP_S: Final = 0.01
"""/proc/stat counts in clock ticks of 10 ms (proc(5)); control groups are finer."""
_JITTER_S: Final = 1.0
"""The kernel's busy times may step back by a few ticks; more than this is another counter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuPower:
    """Watts of a server per hardware thread.

    Attributes:
        family: The family they belong to.
        label: What a person would call it.
        idle_w: Watts per thread of an idle machine.
        full_w: Watts per thread of a fully loaded one.
        low_factor: Lower end (90 %) of the true watts as a multiple of these.
        high_factor: Upper end.
        basis: `model` for a family that was measured, `assumed` for a CPU that no row names.
    """

    family: CpuFamily
    label: str
    idle_w: float
    full_w: float
    low_factor: float
    high_factor: float
    basis: Basis


def cpu_power(family: CpuFamily) -> CpuPower:
    """The watts of a family, from `data/cpu_power.csv`.

    Args:
        family: A family; `CpuFamily.UNKNOWN` gives the median of all servers published since 2020, assumed.
    """
    from aiocarbon.data import rows

    row = next(row for row in rows("cpu_power") if row["family"] == family)
    is_known = family is not CpuFamily.UNKNOWN
    low, high = FAMILY_BAND if is_known else UNKNOWN_BAND
    return CpuPower(
        family=family,
        label=row["label"],
        idle_w=float(row["idle_w_per_thread"]),
        full_w=float(row["full_w_per_thread"]),
        low_factor=low,
        high_factor=high,
        basis=Basis.MODEL if is_known else Basis.ASSUMED,
    )


class ModelMeter:
    """Models what no sensor holds: the CPU from its load, or memory beside a CPU counter without it.

    Its devices count from their opening: cumulative microjoules, 0 at the first instant.

    Args:
        proc: Where procfs is mounted.
        cgroup: Where control groups are mounted.
        edac: Where the kernel lists memory modules.
        platform: As `sys.platform`; elsewhere than on Linux psutil tells load and memory.
        clock: Monotonic nanoseconds.
    """

    name = "model"

    def __init__(
        self,
        *,
        proc: Path = Path("/proc"),
        cgroup: Path = Path("/sys/fs/cgroup"),
        edac: Path = Path("/sys/devices/system/edac/mc"),
        platform: str = sys.platform,
        clock: Stopwatch = time.monotonic_ns,
    ) -> None:
        self._proc = proc
        self._cgroup = cgroup
        self._edac = edac
        self._platform = platform
        self._clock = clock
        self._energy: dict[str, _CpuEnergy | _ConstantEnergy] = {}

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Decide what is left to model, and begin to count.

        Args:
            covered: Parts that other meters hold. Without `Part.CPU` the whole server is modelled from its CPU's
                load, and where `Part.MEMORY` is held a finding says that it counts twice; with it but without
                `Part.MEMORY`, memory is.

        Raises:
            MeterUnavailableError: Nothing is left to model, or there is no load to read.
        """
        self.close()
        if Part.CPU not in covered:
            return Inventory(devices=(self._open_cpu(),), findings=_findings(covered))
        if Part.MEMORY not in covered:
            return Inventory(devices=(self._open_memory(),))
        raise MeterUnavailableError("nothing left to model: other meters hold CPU and memory")

    def read(self, device: Device) -> Reading:
        """The device's energy since it was opened, from the load until now.

        Raises:
            ReadError: The load could not be read; the next read makes up for it.
            MeterLostError: The meter is closed, or the load's counter began anew.
        """
        energy = self._energy.get(device.id)
        if energy is None:
            raise MeterLostError(f"the model of {device.id} is not open", device=device.id)
        return energy.read(self._clock)

    def close(self) -> None:
        """Forget the devices; nothing is held open."""
        self._energy = {}

    def _open_cpu(self) -> Device:
        load = find_load(proc=self._proc, cgroup=self._cgroup, platform=self._platform)
        cpu = parse_cpuinfo(self._describe_cpu())
        power = cpu_power(identify(cpu))
        try:
            self._energy[CPU_ID] = _CpuEnergy(load=load, power=power, clock=self._clock)
        except ReadError as error:
            raise MeterUnavailableError(f"no CPU load to read: {error}", device=CPU_ID) from error
        return Device(
            id=CPU_ID,
            kind=DeviceKind.CPU,
            name=cpu.brand or power.label,
            quantity=Quantity.ENERGY,
            basis=power.basis,
            covers=frozenset({Part.CPU, Part.MEMORY, Part.BOARD}),
            refresh_s=_LOAD_STEP_S,
            low_factor=power.low_factor,
            high_factor=power.high_factor,
            max_power_w=load.threads * power.full_w * power.high_factor,
            idle_w=load.threads * power.idle_w,
            note=_cpu_note(cpu, power, load),
        )

    def _open_memory(self) -> Device:
        from aiocarbon.meters.memory_model import find_memory  # 1.5 ms that few machines need

        memory = find_memory(proc=self._proc, edac=self._edac, platform=self._platform)
        self._energy[MEMORY_ID] = _ConstantEnergy(power_w=memory.power_w, start_ns=self._clock())
        return Device(
            id=MEMORY_ID,
            kind=DeviceKind.DRAM,
            name=f"{memory.total_gb:.0f} GB of memory",
            quantity=Quantity.ENERGY,
            basis=Basis.ASSUMED,
            covers=frozenset({Part.MEMORY}),
            refresh_s=_LOAD_STEP_S,
            low_factor=memory.low_w / memory.power_w,
            high_factor=memory.high_w / memory.power_w,
            max_power_w=memory.high_w,
            note=memory.note,
        )

    def _describe_cpu(self) -> str:
        """`/proc/cpuinfo`, or what the platform says; empty where nobody says anything: an unknown CPU."""
        if self._platform.startswith("linux"):
            try:
                return (self._proc / "cpuinfo").read_text(encoding="utf-8", errors="replace")
            except OSError:
                return ""
        import platform

        return platform.processor()


def _findings(covered: frozenset[Part]) -> tuple[Finding, ...]:
    """What is to be said of a CPU's model beside what other meters hold.

    What memory draws of a server's power at the wall is not known well enough to be taken off.
    """
    if Part.MEMORY not in covered:
        return ()
    message = (
        f"memory counts twice: {CPU_ID} is a model of whole servers and holds it, and another meter counts it too; "
        'leave its counter out as well (as in "rapl:without=package-0+package-0/dram") or measure the CPU beside it'
    )
    return (Finding(event=TWICE, message=message, device=CPU_ID),)


class _CpuEnergy:
    """Joules of the threads that are ours since this was made."""

    def __init__(self, *, load: CpuLoad, power: CpuPower, clock: Stopwatch) -> None:
        self._load = load
        self._power = power
        self._start_ns = clock()
        self._first_busy_s = self._last_busy_s = load.busy_s()

    def read(self, clock: Stopwatch) -> Reading:
        t0_ns = clock()
        busy_s = self._load.busy_s()
        t1_ns = clock()
        if busy_s < self._last_busy_s - _JITTER_S:
            raise MeterLostError("the CPU's load began anew; open the model again", device=CPU_ID)
        self._last_busy_s = max(self._last_busy_s, busy_s)
        elapsed_s = s_from_ns((t0_ns + t1_ns) // 2 - self._start_ns)
        idle_j = self._power.idle_w * self._load.threads * elapsed_s
        work_j = (self._power.full_w - self._power.idle_w) * (self._last_busy_s - self._first_busy_s)
        return Reading(t0_ns, t1_ns, round((idle_j + work_j) * UJ_PER_J))


@dataclass(frozen=True, slots=True, kw_only=True)
class _ConstantEnergy:
    """Joules of something that draws the same all the time."""

    power_w: float
    start_ns: int

    def read(self, clock: Stopwatch) -> Reading:
        now_ns = clock()
        return Reading(now_ns, now_ns, round(self.power_w * s_from_ns(now_ns - self.start_ns) * UJ_PER_J))


def _cpu_note(cpu: CpuIdentity, power: CpuPower, load: CpuLoad) -> str:
    watts = f"{power.idle_w:g} W idle to {power.full_w:g} W full per thread"
    place = f"{load.scope}{' of a virtual machine' if cpu.is_virtual else ''}"
    if power.basis is Basis.ASSUMED:
        return (
            f"assumed from load: no measured family is known for this CPU, so {watts}, the median of servers published "
            f"since 2020 (SPECpower_ssj2008), within a factor of 2; {place}"
        )
    return (
        f"modelled from load: {watts}, the median of {power.label} servers at the wall with memory and supply "
        f"(SPECpower_ssj2008), ±35 %; {place}"
    )
