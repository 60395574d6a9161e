"""What a meter says: devices and readings.

A device is one physical domain with an energy of its own. A reading is one statement about it: at an instant between
`t0_ns` and `t1_ns` its counter stood at so many microjoules, or its power draw was so many watts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aiocarbon._core.units import NS_PER_MS


class Basis(StrEnum):
    """Where a joule comes from, the strongest first."""

    COUNTER = "counter"
    POWER = "power"
    MODEL = "model"
    ASSUMED = "assumed"


class Quantity(StrEnum):
    """What the values of a device's readings are."""

    ENERGY = "energy"
    """Cumulative microjoules since an origin of the device's own (hardware counters, load models)."""
    POWER = "power"
    """Watts at the instant of the reading; integrated by the curve."""


class DeviceKind(StrEnum):
    """What a device is."""

    GPU = "gpu"
    CPU = "cpu"
    DRAM = "dram"
    PLATFORM = "platform"
    BATTERY = "battery"
    OTHER = "other"


class Part(StrEnum):
    """A part of the machine that a device's energy holds; decides what is modelled or missing."""

    CPU = "cpu"
    MEMORY = "memory"
    GPU = "gpu"
    ACCELERATOR = "accelerator"
    BOARD = "board"


class Role(StrEnum):
    """Which part of a physical device's energy a device of a scoped run stands for."""

    OWN = "own"
    """What this process tree or control group used; the only one that is counted."""
    IDLE = "idle"
    """What the device draws whoever uses it."""
    UNKNOWN = "unknown"
    """Used by somebody, and nobody can tell by whom."""
    WHOLE = "whole"
    """All of it: the others, and what other users of the machine used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareOf:
    """Says that a device stands for a part of a physical one.

    Attributes:
        scope: "process" or "cgroup".
        role: Which part.
        device: Id of the physical device.
        holder: Names, on its machine, whose part it is, so that shares of different holders add up and those of one
            holder, told by two trackers, count once; empty where the part is nobody's.
        how: How the share was found, in words.
        within: Holders of which this one is a part: a process's parents, the control groups around it.
    """

    scope: str
    role: Role
    device: str
    holder: str = ""
    how: str = ""
    within: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One physical domain with an energy of its own.

    Attributes:
        id: Unique and stable on its host: an NVML UUID, "rapl:package-0", "rapl:package-0/dram".
        kind: What it is.
        name: What a person would call it.
        quantity: What its readings' values are: cumulative microjoules, or watts.
        basis: Where its joules come from.
        covers: The parts of the machine whose energy it holds.
        counted: False for a view of energy that other devices hold already (psys, a module, a battery).
        refresh_s: Seconds between two changes of the sensor's value, 0 if it is made at the read; None: unknown, to be
            probed. A value read is on average half of that old.
        is_stamped: True if the stamps of a reading are those of its value, as a stream of samples with their own times
            has them: then it is not old.
        lag_s: Seconds by which a power value lies in the past on average beyond `refresh_s` (half the averaging
            window of an averaged sensor); 0 for counters.
        low_factor: Lower end (90 %) of the true energy as a multiple of the stated one, in 0..1: sensor gain or
            model error, common to all windows.
        high_factor: Upper end, likewise, at least 1.
        counter_range_uj: Value at which the counter wraps to 0; None if it never wraps (a decrease is then a reset).
        max_power_w: The most it can draw; tells a wrap from a reset. None if unknown.
        origin: Names the zero point of the counter where several processes share it (a driver's counter since
            load); empty where it is this sampler's own.
        note: What a user should know about this figure; empty if nothing.
        idle_w: What it draws when nobody uses it, watts; None if its meter does not know.
        share: What part of a physical device's energy it stands for; None for the device itself.
    """

    id: str
    kind: DeviceKind
    name: str
    quantity: Quantity
    basis: Basis
    covers: frozenset[Part] = frozenset()
    counted: bool = True
    refresh_s: float | None = None
    is_stamped: bool = False
    lag_s: float = 0.0
    low_factor: float = 1.0
    high_factor: float = 1.0
    counter_range_uj: int | None = None
    max_power_w: float | None = None
    origin: str = ""
    note: str = ""
    idle_w: float | None = None
    share: ShareOf | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One statement of a meter about one device.

    Attributes:
        t0_ns: Monotonic nanoseconds immediately before the read.
        t1_ns: Monotonic nanoseconds immediately after it.
        value: Cumulative microjoules (integer) or watts, as the device's `quantity` says.
    """

    t0_ns: int
    t1_ns: int
    value: float

    @property
    def t_ns(self) -> int:
        """The middle of the read."""
        return (self.t0_ns + self.t1_ns) // 2

    @property
    def half_ns(self) -> int:
        """Half the duration of the read."""
        return (self.t1_ns - self.t0_ns + 1) // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something a meter found that a user should know: a device left out, a permission missing.

    Attributes:
        event: Dotted constant name, such as "meter.permission".
        message: What was found, on which device.
        remedy: The exact line that mends it; empty where nothing does.
        device: Id of the device concerned, if one.
        is_warning: True if it belongs into the report's warnings, False if only `doctor` tells it.
    """

    event: str
    message: str
    remedy: str = ""
    device: str | None = None
    is_warning: bool = True


UNKNOWN_MAX_POWER_W = 1000.0
"""The most that a device draws that states no limit of its own: a counter's decrease that needs more is a reset, and it
bounds what a device may have used of which one reading alone is known."""

DEFAULT_REFRESH_NS = 100 * NS_PER_MS
"""Assumed refresh of a sensor until it was probed (NVML counters: 20 to 100 ms; the slowest is assumed)."""
