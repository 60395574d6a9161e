"""What every meter is: opened once, read often, closed once; always blocking, always in a worker thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from aiocarbon._core.reading import Device, Finding, Part, Reading

Stopwatch = Callable[[], int]
"""Monotonic nanoseconds; `time.monotonic_ns` outside tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What opening a meter found.

    Attributes:
        devices: The devices that can be read; never empty (a meter with none raises `MeterUnavailableError`).
        findings: What a user should know beside them.
    """

    devices: tuple[Device, ...]
    findings: tuple[Finding, ...] = ()


@runtime_checkable
class Meter(Protocol):
    """A blocking reader of one kind of sensor, with one device or several.

    No method is called from the event loop, none is called twice at once for one device, and each may be called
    from a different thread than the one before.
    """

    name: str
    """The registry's name: "nvml", "rapl"."""

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Find the devices and probe, once, what each can tell.

        Args:
            covered: Parts of the machine that other meters hold already; only models, which fill what is left, heed it.

        Raises:
            MeterUnavailableError: This host has no such device.
            MeterPermissionError: It has, but this user may not read it.
        """
        ...

    def read(self, device: Device) -> Reading:
        """Read one device now, stamping the monotonic clock immediately before and after.

        Raises:
            ReadError: This read failed; the next may not.
            MeterLostError: The device is gone.
        """
        ...

    def close(self) -> None:
        """Give everything back; safe to call twice and after a failed `open`."""
        ...
