"""What a tracker says now, for those who come and ask: counters that never go back, and figures of this moment.

Guarantees:
- no I/O and no reading of a meter: what is told is the newest published report, at most one interval old;
- a counter never falls. A figure that is revised downwards (an intensity of the past that was a guess, a mark that the
  next reading did not confirm) holds its counter until it has caught up; the newest figure stands beside it as a gauge.
  What a device used counts under the basis that it was told under, also where that changes;
- a device that is lost, an engine that is dead and a run that has ended have no power: not zero, and not the last one.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from aiocarbon._core.metrics import is_known
from aiocarbon._core.units import j_from_kwh
from aiocarbon._logging import get_logger
from aiocarbon.errors import AiocarbonError

if TYPE_CHECKING:
    from aiocarbon._core.intensity import IntensityValue
    from aiocarbon._core.reading import Basis, DeviceKind
    from aiocarbon._core.report import DeviceReport, RunReport
    from aiocarbon._engine.life import Life
    from aiocarbon.integrations._sink import Reporting

__all__ = ["DeviceNow", "Live", "Lives", "Now"]

log = get_logger("live")

ANSWER_S: Final = 0.5
"""The engine tells the intensity of now in a fraction of a millisecond; one that takes longer is as good as dead."""

OLD_S: Final = 30.0
"""A report of somebody whose engine cannot be asked, such as a cluster's, is one of now for so long."""

LEAST_WINDOW_S: Final = 0.5
"""Power over less would be the noise of a counter that refreshes every 0.1 s; several who ask at once see the same."""

LEAST_VOUCHED: Final = 0.5
"""So much of a window readings must vouch for, for its power to be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceNow:
    """One counted device.

    Attributes:
        host: Its machine.
        id: Stable on its host.
        name: What a person would call it.
        kind: What it is.
        basis: Where its joules come from now.
        energy_j: IT joules since the run began, by the basis they were told under; none of them ever falls.
        power_w: Mean since the question before (or the run's begin), of 0.5 s at least; None where it is not known.
        coverage: Share of the run that its readings vouch for, 0..1.
    """

    host: str
    id: str
    name: str
    kind: DeviceKind
    basis: Basis
    energy_j: dict[Basis, float]
    power_w: float | None
    coverage: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """One run.

    Attributes:
        label: What tells it from other runs of this process: its name, with a number if another has that too.
        report: Its newest report.
        devices: Those counted of which anything is known.
        co2eq_g: Grams since the run began, never falling; None where nothing is known.
        intensity: What weighs the energy of now; None once the run is over or its engine dead.
        power_w: IT power of all counted devices together; None unless that of each is known.
    """

    label: str
    report: RunReport
    devices: tuple[DeviceNow, ...]
    co2eq_g: float | None
    intensity: IntensityValue | None
    power_w: float | None


class Live:
    """One tracker, as those see it who ask now and then; thread-safe.

    Args:
        tracker: What has a report.
    """

    def __init__(self, tracker: Reporting) -> None:
        self.tracker = tracker
        self._lock = threading.Lock()
        self._energy_j: dict[tuple[str, str], dict[Basis, float]] = {}
        self._co2eq_g: float | None = None
        self._before: RunReport | None = None  # the report that power is told since
        self._power_w: dict[tuple[str, str], float] = {}
        self._newest: RunReport | None = None
        self._came_at = 0.0

    def look(self) -> Now | None:
        """What it says now, without a label; None before it has begun."""
        with self._lock:
            try:
                report = self.tracker.report()
            except AiocarbonError:
                return None
            intensity, is_alive = self._grid(report)
            counted = [d for d in report.devices if d.counted and is_known(d.it_energy_kwh, d.coverage)]
            for device in counted:
                self._count(device)
            if is_known(report.it_energy_kwh, report.coverage):
                self._co2eq_g = max(self._co2eq_g or 0.0, report.co2eq_g)
            self._time(report)
            power_w = {} if report.is_final or not is_alive else self._power_w
            devices = tuple(self._now(device, power_w) for device in counted)
            whole_w = [device.power_w for device in devices if device.power_w is not None]
            is_whole = len(whole_w) == sum(1 for device in report.devices if device.counted) > 0
            return Now(
                label="",
                report=report,
                devices=devices,
                co2eq_g=self._co2eq_g,
                intensity=intensity,
                power_w=sum(whole_w) if is_whole else None,
            )

    def _grid(self, report: RunReport) -> tuple[IntensityValue | None, bool]:
        """The intensity of now, and whether the report is of now, as far as anybody can tell."""
        now = time.monotonic()
        if self._newest is None or self._newest.as_of != report.as_of:
            self._came_at = now
        self._newest = report
        handle: Life | None = getattr(self.tracker, "_handle", None)
        if handle is None:
            return None, now - self._came_at < OLD_S
        try:
            asked = handle.grid()
            return (None, False) if asked is None else (asked.result(ANSWER_S), True)
        except (AiocarbonError, TimeoutError, CancelledError) as error:
            log.debug("live.grid", why=str(error))
            return None, False

    def _count(self, device: DeviceReport) -> None:
        told = self._energy_j.setdefault((device.host, device.id), {})
        more = j_from_kwh(device.it_energy_kwh) - sum(told.values())
        told[device.basis] = told.get(device.basis, 0.0) + max(more, 0.0)

    def _time(self, report: RunReport) -> None:
        """Tell power anew, if the newest report is old enough a follower of the one before."""
        begin_s = 0.0 if self._before is None else self._before.duration_s
        if report.duration_s - begin_s < LEAST_WINDOW_S:
            return
        before = {} if self._before is None else {(d.host, d.id): d for d in self._before.devices}
        self._power_w = {}
        for device in report.devices:
            was = before.get((device.host, device.id))
            power_w = _power_w(device, report.duration_s, was, begin_s)
            if power_w is not None:
                self._power_w[device.host, device.id] = power_w
        self._before = report

    def _now(self, device: DeviceReport, power_w: dict[tuple[str, str], float]) -> DeviceNow:
        key = (device.host, device.id)
        return DeviceNow(
            host=device.host,
            id=device.id,
            name=device.name,
            kind=device.kind,
            basis=device.basis,
            energy_j=dict(self._energy_j[key]),
            power_w=power_w.get(key),
            coverage=device.coverage,
        )


def _power_w(device: DeviceReport, upto_s: float, was: DeviceReport | None, from_s: float) -> float | None:
    """Mean power of a device between two reports, over the time that readings vouch for; None where that is little."""
    vouched_s = device.coverage * upto_s - (0.0 if was is None else was.coverage * from_s)
    energy_j = j_from_kwh(device.it_energy_kwh - (0.0 if was is None else was.it_energy_kwh))
    if vouched_s <= 0.0 or vouched_s < LEAST_VOUCHED * (upto_s - from_s) or energy_j < 0.0:
        return None
    return energy_j / vouched_s


class Lives:
    """Several trackers of one process, each with a label of its own; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lives: list[Live] = []
        self._labels: dict[Live, str] = {}

    def add(self, tracker: Reporting) -> None:
        """Take a tracker in, once."""
        with self._lock:
            if all(live.tracker is not tracker for live in self._lives):
                self._lives.append(Live(tracker))

    def clear(self) -> None:
        """Let all go."""
        with self._lock:
            self._lives.clear()
            self._labels.clear()

    def look(self) -> list[Now]:
        """What those say that have begun."""
        with self._lock:
            lives = list(self._lives)
        found = []
        for live in lives:
            now = live.look()
            if now is not None:
                found.append(replace(now, label=self._label(live, now.report.name)))
        return found

    def _label(self, live: Live, name: str) -> str:
        with self._lock:
            label, taken, n = name, set(self._labels.values()), 1
            if live in self._labels:
                return self._labels[live]
            while label in taken:
                n += 1
                label = f"{name}-{n}" if name else str(n)
            self._labels[live] = label
            return label
