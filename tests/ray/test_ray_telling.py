"""Figures of a node in Ray's own metrics: counters that never fall, no power of a device that tells nothing new."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from aiocarbon import sync
from aiocarbon._core.report import DeviceReport, RunReport
from aiocarbon._core.units import kwh_from_j
from aiocarbon.integrations._ray_telling import CO2EQ, ENERGY, INTENSITY, POWER, Gauges, told_by
from aiocarbon.tracker import Tracker

DEVICE = {"host": "n1", "device": "simulated-0", "kind": "gpu", "basis": "counter"}


class Kinds:
    """What `ray.util.metrics` has, and what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float, dict[str, str]]] = []
        kinds = self

        class Metric:
            def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
                self.name, self.tag_keys = name, tag_keys

            def told(self, value: float, tags: dict[str, str]) -> None:
                assert tuple(tags) == self.tag_keys
                kinds.told.append((self.name, value, tags))

        class Counter(Metric):
            inc = Metric.told

        class Gauge(Metric):
            set = Metric.told

        self.Counter, self.Gauge = Counter, Gauge

    def of(self, name: str) -> list[float]:
        return [value for told, value, _ in self.told if told == name]


def a_report() -> RunReport:
    with sync.Tracker(meters="simulated:100", node="n1", intensity=200.0, pue=1.5, offline=True) as tracker:
        pass
    return tracker.report()


REPORT = a_report()


def after(seconds: float, joules: float, covered_s: float | None = None, co2eq_g: float | None = None) -> RunReport:
    """The report of a node that has used so much."""
    coverage = (seconds if covered_s is None else covered_s) / seconds
    kwh = kwh_from_j(joules)
    (device,) = REPORT.devices
    device = dataclasses.replace(device, it_energy_kwh=kwh, coverage=coverage)
    co2eq_g = kwh * 300.0 if co2eq_g is None else co2eq_g
    return dataclasses.replace(
        REPORT, duration_s=seconds, it_energy_kwh=kwh, coverage=coverage, co2eq_g=co2eq_g, devices=(device,)
    )


def test_counters_grow_by_what_came_and_power_is_that_since_the_word_before() -> None:
    kinds = Kinds()
    gauges = Gauges(kinds)
    for report in (after(1.0, 100.0), after(2.0, 250.0), after(4.0, 250.0)):
        gauges.tell(report)
    assert kinds.of(ENERGY) == pytest.approx([100.0, 150.0])
    assert sum(kinds.of(CO2EQ)) == pytest.approx(kwh_from_j(250.0) * 300.0)
    assert kinds.of(POWER) == pytest.approx([150.0, 0.0])
    assert kinds.of(INTENSITY) == pytest.approx([200.0] * 3)
    told = {name: tags for name, _, tags in kinds.told}
    assert told[ENERGY] == told[POWER] == DEVICE | {"kind": str(REPORT.devices[0].kind)}
    assert told[CO2EQ] == {"host": "n1"}


def test_what_nothing_tells_has_no_figure() -> None:
    kinds = Kinds()
    Gauges(kinds).tell(after(1.0, 0.0, covered_s=0.0))
    assert kinds.told == []
    gauges = Gauges(kinds)
    gauges.tell(after(1.0, 100.0))
    gauges.tell(after(9.0, 100.0, covered_s=1.0))  # the device is lost
    assert kinds.of(POWER) == []


def test_a_view_of_energy_that_others_hold_is_not_told() -> None:
    kinds = Kinds()
    report = after(1.0, 100.0)
    view: DeviceReport = dataclasses.replace(report.devices[0], id="psys", counted=False)
    Gauges(kinds).tell(dataclasses.replace(report, devices=(*report.devices, view)))
    assert kinds.of(ENERGY) == pytest.approx([100.0])


def test_a_counter_holds_where_a_figure_is_revised_down() -> None:
    kinds = Kinds()
    gauges = Gauges(kinds)
    for grams in (10.0, 8.0, 11.0):
        gauges.tell(after(1.0, 100.0, co2eq_g=grams))
    assert kinds.of(CO2EQ) == pytest.approx([10.0, 1.0])


def test_metrics_that_fail_are_told_nothing_more() -> None:
    asked = []

    class Broken:
        def __getattr__(self, name: str) -> Any:
            asked.append(name)
            raise RuntimeError("no metrics here")

    gauges = Gauges(Broken())
    for seconds in (1.0, 2.0):
        gauges.tell(after(seconds, 100.0 * seconds))
    assert asked == ["Counter"]


@pytest.mark.anyio
async def test_a_node_tells_its_totals_once_it_measures() -> None:
    tracker = Tracker(meters="simulated:100", node="n1", intensity=200.0, pue=1.5, offline=True)
    assert await told_by(tracker, "id") is None
    async with tracker:
        first = await told_by(tracker, "id")
        second = await told_by(tracker, "id")
    assert first is not None
    assert second is not None
    assert (first.node_id, first.life) == ("id", second.life)
    assert second.as_of_s > first.as_of_s >= first.began_s
    it_kwh, kwh, grams = second.amounts[:3]
    assert it_kwh * 3.6e6 == pytest.approx(100.0 * (second.as_of_s - second.began_s), rel=0.2)
    assert (kwh, grams) == pytest.approx((it_kwh * 1.5, it_kwh * 1.5 * 200.0))
    assert [value.g_per_kwh for _, value in second.ahead] == [200.0]
