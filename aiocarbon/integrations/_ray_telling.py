"""What a node's meter tells beside its journal: its totals, to who asks for them, and figures in Ray's own metrics.

Only the meter of a node emits them: sums over workers in PromQL count each joule once.
"""

from __future__ import annotations

import math
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.metrics import is_known
from aiocarbon._core.units import j_from_kwh
from aiocarbon._logging import get_logger
from aiocarbon.errors import AiocarbonError
from aiocarbon.integrations._ray_accounts import Told

if TYPE_CHECKING:
    from aiocarbon._core.report import DeviceReport, RunReport
    from aiocarbon.tracker import Tracker

log = get_logger("ray")

DEVICE: Final = ("host", "device", "kind", "basis")
HOST: Final = ("host",)

COUNTERS: Final = {
    "aiocarbon_energy_joules_total": ("IT energy of a counted device since its node's meter began.", DEVICE),
    "aiocarbon_co2eq_grams_total": ("CO2 equivalent since then, PUE counted; holds where it is revised down.", HOST),
}
GAUGES: Final = {
    "aiocarbon_power_watts": ("Mean IT power of a device since the word before.", DEVICE),
    "aiocarbon_grid_carbon_intensity_grams_per_kilowatt_hour": ("Mean that weighs the energy so far.", HOST),
}
ENERGY, CO2EQ = COUNTERS
POWER, INTENSITY = GAUGES


async def told_by(tracker: Tracker, node_id: str) -> Told | None:
    """What a node's tracker has counted since it began, after a reading of its meters.

    Args:
        tracker: The tracker.
        node_id: Ray's id of the node.

    Returns:
        Its totals; None while it has not begun.
    """
    try:
        report = await tracker.snapshot()
    except AiocarbonError as error:
        log.debug("ray.no_totals", why=str(error), node=node_id)
        return None
    session = tracker._handle._session
    ahead = []
    if session is not None:
        steps = session.ledger.intensity.steps(report.as_of.timestamp(), math.inf)
        ahead = [(at, value) for at, _, value in steps]
    return Told.of(report, node_id, f"{os.getpid()}-{report.started_at.timestamp()}", ahead)


class Gauges:
    """A node's figures in `ray.util.metrics`, by the names that `aiocarbon.integrations.prometheus` has.

    Args:
        kinds: The module that has `Counter` and `Gauge`; None: `ray.util.metrics`.
    """

    def __init__(self, kinds: Any = None) -> None:
        self._kinds = kinds
        self._emitters: dict[str, Any] = {}
        self._counted: dict[tuple[str, ...], float] = {}
        self._last: dict[str, tuple[float, float]] = {}
        self._has_failed = False

    def tell(self, report: RunReport) -> None:
        """Set them; whatever goes wrong costs the figures only.

        Args:
            report: The newest report of the node's tracker.
        """
        if self._has_failed:
            return
        try:
            self._tell(report)
        except Exception as error:  # Ray's metrics may fail as they like: the measuring goes on
            self._has_failed = True
            log.warning("ray.no_metrics", why=f"{type(error).__name__}: {error}")

    def _tell(self, report: RunReport) -> None:
        host = {"host": report.host}
        for device in report.devices:
            if device.counted and is_known(device.it_energy_kwh, device.coverage):
                self._tell_device(device, report.duration_s)
        if is_known(report.it_energy_kwh, report.coverage):
            self._count(CO2EQ, report.co2eq_g, host)
            self._emitter(INTENSITY).set(report.intensity_g_per_kwh, host)

    def _tell_device(self, device: DeviceReport, at_s: float) -> None:
        tags = {"host": device.host, "device": device.id, "kind": str(device.kind), "basis": str(device.basis)}
        joules, covered_s = j_from_kwh(device.it_energy_kwh), device.coverage * at_s
        self._count(ENERGY, joules, tags)
        then_s, then_j = self._last.get(device.id, (covered_s, joules))
        if covered_s > then_s:  # a device that told nothing new has no power
            self._emitter(POWER).set(max(joules - then_j, 0.0) / (covered_s - then_s), tags)
        self._last[device.id] = covered_s, joules

    def _emitter(self, name: str) -> Any:
        if name not in self._emitters:
            kinds = self._kinds or import_module("ray.util.metrics")
            text, tags = (COUNTERS | GAUGES)[name]
            self._emitters[name] = (kinds.Counter if name in COUNTERS else kinds.Gauge)(name, text, tags)
        return self._emitters[name]

    def _count(self, name: str, total: float, tags: dict[str, str]) -> None:
        key = name, *tags.values()
        more = total - self._counted.get(key, 0.0)
        if more > 0.0:  # a counter never goes back: what was revised down is waited for
            self._emitter(name).inc(more, tags)
            self._counted[key] = total
