"""RAPL: the energy counters of Intel and AMD processors, through Linux's powercap tree.

Guarantees: no joule is counted twice (core and uncore lie inside package and are left out, psys is shown but not
counted, a copy of a domain under a second control type is dropped), none is left out without a finding, and a zone
that this user may not read is a finding with the line that mends it, never 0.

Which zone holds what follows from the zones' names and not from their directories: the dram zone is a child of package
in the tree, yet its energy lies beside it; psys stands beside package, yet holds it (Linux,
Documentation/power/powercap/powercap.rst and drivers/powercap/intel_rapl_common.c; AMD and Hygon use the same driver,
with package and core only). Zone ids end in hexadecimal (powercap_sys.c: "%s:%x").
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from aiocarbon._core.reading import Device, DeviceKind, Finding, Part, Reading
from aiocarbon.errors import ConfigError, MeterLostError, MeterPermissionError, MeterUnavailableError, ReadError
from aiocarbon.meters.base import Inventory, Stopwatch
from aiocarbon.meters.counter_watch import Mirrors, Stillness
from aiocarbon.meters.hwmon_rules import Sleep
from aiocarbon.meters.rapl_zones import INSIDE_PACKAGE, REFRESH_S, Zone, describe, scan
from aiocarbon.meters.sysfs import HeldFile, Pread

PERMISSION: Final = "meter.permission"
DUPLICATE: Final = "meter.duplicate"
MIRRORED: Final = "meter.mirrored"
STUCK: Final = "meter.stuck"
UNREADABLE: Final = "meter.unreadable"
EXCLUDED: Final = "meter.excluded"

GROUP_REMEDY: Final = (
    'sudo groupadd -f aiocarbon && sudo usermod -aG aiocarbon "$(id -un)" && '
    """echo 'SUBSYSTEM=="powercap", KERNEL=="*:*", ACTION=="add|change", TEST=="energy_uj", """
    """RUN+="/bin/chgrp aiocarbon /sys%p/energy_uj", RUN+="/bin/chmod g+r /sys%p/energy_uj"' | """
    "sudo tee /etc/udev/rules.d/70-aiocarbon.rules >/dev/null && sudo udevadm control --reload && "
    "sudo udevadm trigger --subsystem-match=powercap"
)
"""Lets one group read the counters, now and after each boot. Not everyone (0444): unprivileged energy readings leak
secrets (PLATYPUS, CVE-2020-8694), which is why Linux made them root's own in 5.10."""

CONTAINER_REMEDY: Final = "docker run --security-opt systempaths=unconfined ..."
"""Docker hides /sys/devices/virtual/powercap from containers for the same reason; the links to it then dangle."""

_MOVE_TRIES: Final = 20
_MOVE_WAIT_S: Final = REFRESH_S
_COUNT_TRIES: Final = 110
_COUNT_WAIT_S: Final = 10 * REFRESH_S
"""Where all counters say 0 and stand, they have 1.1 s to count at all: a guest's may refresh once a second."""


@dataclass(slots=True)
class _Counter:
    """A zone that is being read."""

    device: Device
    file: HeldFile
    first: int | None = None  # its value when it was opened; None if it did not answer then
    still: Stillness = field(default_factory=Stillness)


class RaplMeter:
    """Reads the energy counters of CPU packages, their memory and the platform.

    As `rapl:without=package-0-die-1` in the setting `meters` (several names joined by "+") it leaves domains out.

    Attributes:
        without: Domains to leave out, as in their ids behind "rapl:".

    Args:
        root: The powercap class directory.
        without: Likewise.
        clock: Monotonic nanoseconds.
        sleep: Waits to see how quickly the counters move: 1 ms on most machines, 20 ms at most where one of them does
            or says more than 0.
        pread: Reads a held descriptor.
    """

    name = "rapl"

    def __init__(
        self,
        *,
        root: Path = Path("/sys/class/powercap"),
        without: frozenset[str] = frozenset(),
        clock: Stopwatch = time.monotonic_ns,
        sleep: Sleep = time.sleep,
        pread: Pread = os.pread,
    ) -> None:
        self._root = root
        self.without = without
        self._clock = clock
        self._sleep = sleep
        self._pread = pread
        self._counters: dict[str, _Counter] = {}
        self._mirrors = Mirrors({})

    @classmethod
    def from_argument(cls, argument: str) -> Self:
        """A meter from what stands behind "rapl:" in the setting `meters`.

        Args:
            argument: "without=NAME", several names joined by "+".

        Raises:
            ConfigError: It is something else.
        """
        key, _, names = argument.partition("=")
        without = frozenset(names.split("+"))
        if key != "without" or "" in without:
            raise ConfigError("meters", f"rapl:{argument}", '"rapl" or "rapl:without=NAME[+NAME...]"')
        return cls(without=without)

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Find the zones and hold the counters that can be read.

        Args:
            covered: Not heeded: a counter measures whatever others do.

        Raises:
            MeterUnavailableError: There is no zone, or none that can be read.
            MeterPermissionError: There are zones, but this user may read none.
        """
        self.close()
        zones, dangling = scan(self._root)
        denied: list[str] = []
        findings: list[Finding] = []
        for zone in zones:
            self._open_zone(zone, denied, findings)
        findings += self._not_found(zones, findings)
        standing = self._slow()
        findings += self._leave_out(standing)
        if not self._counters:
            raise self._nothing(denied, dangling, findings)
        if denied:
            findings.append(Finding(event=PERMISSION, message=_denial(denied), remedy=GROUP_REMEDY))
        for counter in standing:
            counter.device = replace(counter.device, refresh_s=None)
        devices = tuple(counter.device for counter in self._counters.values())
        packages = {d.id: d.counter_range_uj for d in devices if d.kind is DeviceKind.CPU}
        self._mirrors = Mirrors(packages if len(packages) > 1 else {})
        return Inventory(devices=devices, findings=tuple(findings))

    def _open_zone(self, zone: Zone, denied: list[str], findings: list[Finding]) -> None:
        """Hold one zone's counter, or say why not."""
        device_id = f"rapl:{zone.domain}"
        if zone.name in INSIDE_PACKAGE:
            return
        if zone.domain in self.without:
            findings.append(_excluded(device_id))
            return
        if known := self._counters.get(device_id):
            if known.file.path.parent.name.partition(":")[0] != zone.control:
                message = f"{zone.id} shows {device_id} a second time; it is left out"
                findings.append(Finding(event=DUPLICATE, message=message, device=device_id, is_warning=False))
                return
            device_id += f"@{zone.id}"  # one control type never shows a domain twice: an older kernel names dies alike
            if device_id.removeprefix("rapl:") in self.without:
                findings.append(_excluded(device_id))
                return
        try:
            file = HeldFile(zone.path / "energy_uj", pread=self._pread)
        except PermissionError:
            denied.append(device_id)
            return
        except OSError as error:
            findings.append(_unreadable(device_id, f"{zone.path / 'energy_uj'} cannot be opened: {error.strerror}"))
            return
        self._hold(describe(zone, device_id), file, denied, findings)

    def _not_found(self, zones: list[Zone], findings: list[Finding]) -> list[Finding]:
        """What says that a name in `without` is none of this machine's, if one is."""
        known = {zone.domain for zone in zones} | {f.device.removeprefix("rapl:") for f in findings if f.device}
        if not zones or not (strangers := sorted(self.without - known)):
            return []
        names = ", ".join(sorted({zone.domain for zone in zones if zone.name not in INSIDE_PACKAGE}))
        message = f"rapl:without names {', '.join(strangers)}, which this machine has not: it has {names}"
        return [Finding(event=EXCLUDED, message=message)]

    def _hold(self, device: Device, file: HeldFile, denied: list[str], findings: list[Finding]) -> None:
        """Keep a counter that answers, or one that failed only this time."""
        first = None
        try:
            first = file.read(device.id)
        except (ReadError, MeterLostError) as error:
            is_denied = isinstance(error.__cause__, PermissionError)
            may_recover = isinstance(error, ReadError) and error.__cause__ is not None
            if is_denied or not may_recover:
                file.close()
                if is_denied:
                    denied.append(device.id)
                else:
                    findings.append(_unreadable(device.id, str(error)))
                return
        self._counters[device.id] = _Counter(device, file, first)

    def _slow(self) -> list[_Counter]:
        """The counters that are not seen to move within 20 ms: they refresh more seldom, or stand still."""
        standing = [counter for counter in self._counters.values() if counter.first is not None]
        for _ in range(_MOVE_TRIES):
            if not standing:
                break
            self._sleep(_MOVE_WAIT_S)
            standing = [counter for counter in standing if not _has_moved(counter)]
        return standing

    def _leave_out(self, standing: list[_Counter]) -> Iterator[Finding]:
        """Close those of them that have never counted, as in virtual machines: they say 0 and go on to do so."""
        idle = [counter for counter in standing if counter.first == 0]
        some_move = len(standing) < sum(counter.first is not None for counter in self._counters.values())
        if not some_move and (len(idle) < len(standing) or self._moves(idle)):
            return  # a guest's, each of which may count yet
        for counter in idle:
            device = self._counters.pop(counter.device.id).device
            counter.file.close()
            message = f"left out: {device.id}: {counter.file.path} says 0 and does not move"
            yield Finding(event=STUCK, message=message, device=device.id, is_warning=device.counted)

    def _moves(self, counters: list[_Counter]) -> bool:
        """Whether any of these counters is seen to move within 1.1 s; they are watched no longer than that takes."""
        for _ in range(_COUNT_TRIES if counters else 0):
            self._sleep(_COUNT_WAIT_S)
            if any(map(_has_moved, counters)):
                return True
        return False

    def _nothing(self, denied: list[str], dangling: int, findings: list[Finding]) -> MeterUnavailableError:
        """Why there is no device, in the words of the strongest reason."""
        if denied:
            return MeterPermissionError(_denial(denied), remedy=GROUP_REMEDY)
        if dangling:
            message = f"RAPL: {dangling} zones of {self._root} lead nowhere: a container hides them"
            return MeterUnavailableError(message, remedy=CONTAINER_REMEDY)
        if findings:
            return MeterUnavailableError("RAPL: no zone can be read: " + "; ".join(f.message for f in findings))
        return MeterUnavailableError(f"RAPL: no energy counter in {self._root} (a virtual machine, or no driver)")

    def read(self, device: Device) -> Reading:
        """Read one counter now.

        Args:
            device: One of the inventory's.

        Returns:
            Microjoules since an origin of the counter's own, wrapping at the device's range.

        Raises:
            ReadError: This read failed, gave no number, or the counter has not moved for 2 s: what does not move is
                not trusted, and time without a reading is a gap, not 0 W.
            MeterLostError: The zone is gone.
        """
        counter = self._counters.get(device.id)
        if counter is None:
            raise MeterLostError(f"{device.id}: this meter is not open", device=device.id)
        t0_ns = self._clock()
        value = counter.file.read(device.id)
        t1_ns = self._clock()
        if value < 0:
            raise ReadError(f"{device.id}: {counter.file.path} states {value} uJ", device=device.id)
        counter.still.note(t1_ns, value)
        if device.kind is DeviceKind.CPU:
            self._mirrors.note(device.id, t1_ns, value)
        if counter.still.is_stuck:
            raise ReadError(_stuck(device.id, counter), device=device.id)
        return Reading(t0_ns, t1_ns, value)

    def check(self) -> tuple[Finding, ...]:
        """What the readings so far say against the counters, each thing once; reads nothing, costs microseconds."""
        findings = []
        for device_id, counter in list(self._counters.items()):
            if counter.device.counted and counter.still.is_stuck and not counter.still.told:
                counter.still.told = True
                findings.append(Finding(event=STUCK, message=_stuck(device_id, counter), device=device_id))
        for first, second in self._mirrors.found():
            domain = second.removeprefix("rapl:")
            message = (
                f"{first} and {second} counted the same energy within 0.1 % in {Mirrors.WINDOWS} windows of 10 s: one "
                f'probably mirrors the other, and the CPU counts twice; "rapl:without={domain}" in place of "rapl" in '
                "the setting meters leaves one out"
            )
            remedy = f"export AIOCARBON_METERS=nvml,rapl:without={domain},hwmon,model"
            findings.append(Finding(event=MIRRORED, message=message, remedy=remedy, device=second))
        return tuple(findings)

    def close(self) -> None:
        """Give the descriptors back; safe to call twice and after a failed `open`."""
        counters, self._counters = self._counters, {}
        for counter in counters.values():
            counter.file.close()


def _has_moved(counter: _Counter) -> bool:
    """Whether a counter shows another value than at its opening, or none any more."""
    try:
        return counter.file.read(counter.device.id) != counter.first
    except (ReadError, MeterLostError):
        return True  # it is judged by its readings


def _excluded(device_id: str) -> Finding:
    message = f"{device_id} is left out, as the setting meters asks"
    return Finding(event=EXCLUDED, message=message, device=device_id, is_warning=False)


def _denial(denied: list[str]) -> str:
    return (
        f"this user may not read energy_uj of {', '.join(denied)} (root only since Linux 5.10, CVE-2020-8694); the "
        "remedy lets members of a group of its own read it, from their next login on"
    )


def _unreadable(device_id: str, message: str) -> Finding:
    return Finding(event=UNREADABLE, message=f"left out: {message}", device=device_id)


def _stuck(device_id: str, counter: _Counter) -> str:
    return (
        f"{device_id}: {counter.file.path} has not moved for {counter.still.still_s:.0f} s and is not trusted (virtual "
        "machines show such counters)"
    )
