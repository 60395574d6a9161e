"""One device as the engine knows it: its meter, its curve, and how it is doing."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from aiocarbon._core.derive import Derivation
from aiocarbon._core.reading import Basis, Device, Quantity
from aiocarbon._core.units import NS_PER_MS, ns_from_s
from aiocarbon._engine.share import Role, Share
from aiocarbon.meters.base import Meter

POWER_PACE_NS = 20 * NS_PER_MS
"""Pace of power sensors whose refresh is not known: the fastest of NVIDIA's (reference: Yang et al. 2023)."""

MOST_POWER_PACE_NS = 100 * NS_PER_MS
SLOW_POWER_NS = 500 * NS_PER_MS
"""A power sensor that refreshes this slowly is read at ticks."""

QUICK_NS = 5 * NS_PER_MS
"""A counter refreshed at least this often needs no watching: a read at the mark places it well enough."""


@dataclass(eq=False, slots=True)
class Track:
    """A device being read.

    Attributes:
        device: What is read.
        meter: What reads it; another instance after it was opened again.
        derivation: Its curve.
        lock: Held while a read is in flight, so that there is one at most.
        is_slow: True after a read overran its deadline: it gets a hop of its own until it answers in time.
        is_lost: True after the meter said that it is gone, until it was opened again.
        is_probed: True once its sensor's refresh is known, or was sought in vain.
        is_in_burst: True while a burst reads it.
        failures: Reads that failed in a row.
        wanted_ns: A mark waits for this counter to change after this instant; None if none does.
        changed_ns: Instants at which its value was seen to change while it was watched.
        segment: Names this sampler's life on the device in journals.
        probed_from_ns: When its probe began; None before.
        stood_at: The value that was its newest at the last tick.
        stood_from_ns: Since when, at ticks.
        share: Who of the machine's processes reads it; None: each for itself.
    """

    device: Device
    meter: Meter
    derivation: Derivation
    segment: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_slow: bool = False
    is_lost: bool = False
    is_probed: bool = False
    is_in_burst: bool = False
    failures: int = 0
    wanted_ns: int | None = None
    changed_ns: list[int] = field(default_factory=list)
    probed_from_ns: int | None = None
    stood_at: float | None = None
    stood_from_ns: int = 0
    share: Share | None = None

    @property
    def is_power(self) -> bool:
        """True if it must be read often, because its energy is integrated here."""
        return self.device.quantity is Quantity.POWER

    @property
    def is_quick(self) -> bool:
        """True if it is read in bursts, between the ticks; a battery's gauge or a board's sensor is read at ticks."""
        return self.is_power and self.derivation.pace_ns < SLOW_POWER_NS

    @property
    def needs_watch(self) -> bool:
        """True if its value refreshes so slowly that a mark is watched to the next change."""
        is_counter = self.device.basis is Basis.COUNTER  # a load model's value is made at the read
        return is_counter and not self.is_power and self.derivation.curve.refresh_ns > QUICK_NS

    @property
    def is_readable(self) -> bool:
        """True if it takes part in the common hop."""
        return not self.is_lost and not self.is_slow and self.is_own

    @property
    def is_own(self) -> bool:
        """True if this process reads it, False if it follows the readings of another."""
        return self.share is None or (self.share.role is Role.READS and not self.share.is_replaced)


def make_track(device: Device, meter: Meter, segment: str, interval_ns: int) -> Track:
    """A track with its curve, paced as its sensor needs it."""
    pace = interval_ns
    if device.quantity is Quantity.POWER:
        known = ns_from_s(device.refresh_s) if device.refresh_s else POWER_PACE_NS
        pace = max(known, interval_ns) if known >= SLOW_POWER_NS else min(max(known, POWER_PACE_NS), MOST_POWER_PACE_NS)
    derivation = Derivation(device, pace_ns=pace)
    if device.quantity is Quantity.POWER and device.refresh_s is None:
        derivation.set_refresh(POWER_PACE_NS, POWER_PACE_NS // 10)
    return Track(
        device=device, meter=meter, derivation=derivation, segment=segment, is_probed=device.refresh_s is not None
    )
