"""What a node's meter tells beside its journal: its totals, to who asks for them, and figures in Ray's own metrics.

Only the meter of a node emits them: sums over workers in PromQL count each joule once.
"""

from __future__ import annotations

import math
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.units import J_PER_KWH
from aiocarbon._logging import get_logger
from aiocarbon.errors import AiocarbonError
from aiocarbon.integrations._ray_accounts import Told

if TYPE_CHECKING:
    from aiocarbon._core.report import RunReport
    from aiocarbon.tracker import Tracker

log = get_logger("ray")

ENERGY: Final = "aiocarbon_energy_joules_total"
EMISSIONS: Final = "aiocarbon_emissions_grams_total"
POWER: Final = "aiocarbon_power_watts"
INTENSITY: Final = "aiocarbon_grid_carbon_intensity_grams_per_kilowatt_hour"


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
    """A node's figures in `ray.util.metrics`.

    Joules, grams and watts are those of the IT energy of the meters: PUE is not counted, and emissions are at
    `aiocarbon_grid_carbon_intensity_grams_per_kilowatt_hour` x PUE.
    """

    def __init__(self) -> None:
        self._meters: dict[str, Any] | None = {}
        self._counted: dict[tuple[str, ...], float] = {}
        self._last: tuple[float, float] | None = None

    def tell(self, report: RunReport) -> None:
        """Set them; whatever goes wrong costs the figures only.

        Args:
            report: The newest report of the node's tracker.
        """
        if self._meters is None:
            return
        try:
            self._tell(report)
        except Exception as error:  # Ray's metrics may fail as they like: the measuring goes on
            self._meters = None
            log.warning("ray.no_metrics", why=f"{type(error).__name__}: {error}")

    def _tell(self, report: RunReport) -> None:
        node = report.host
        for device in report.devices:
            if device.counted and (device.coverage > 0.0 or device.it_energy_kwh > 0.0):
                tags = {"node": node, "device": device.id, "basis": str(device.basis)}
                self._count(ENERGY, "Energy that the devices used, joules.", device.it_energy_kwh * J_PER_KWH, tags)
        if report.coverage <= 0.0 and report.it_energy_kwh <= 0.0:
            return
        self._count(EMISSIONS, "CO2eq of the energy, PUE counted, grams.", report.co2eq_g, {"node": node})
        self._set(INTENSITY, "Carbon intensity of the run so far, gCO2eq/kWh.", report.intensity_g_per_kwh, node)
        now = report.duration_s, report.it_energy_kwh * J_PER_KWH
        if self._last is not None and now[0] > self._last[0]:
            power_w = (now[1] - self._last[1]) / (now[0] - self._last[0])
            self._set(POWER, "Power draw of the counted devices since the last word, watts.", power_w, node)
        self._last = now

    def _made(self, kind: str, name: str, text: str, keys: tuple[str, ...]) -> Any:
        assert self._meters is not None  # who calls has looked
        if name not in self._meters:
            self._meters[name] = getattr(import_module("ray.util.metrics"), kind)(name, text, keys)
        return self._meters[name]

    def _count(self, name: str, text: str, total: float, tags: dict[str, str]) -> None:
        key = name, *tags.values()
        more = total - self._counted.get(key, 0.0)
        if more > 0.0:  # a correction downwards is waited out: counters never go back
            self._made("Counter", name, text, tuple(tags)).inc(more, tags)
            self._counted[key] = total

    def _set(self, name: str, text: str, value: float, node: str) -> None:
        self._made("Gauge", name, text, ("node",)).set(value, {"node": node})
