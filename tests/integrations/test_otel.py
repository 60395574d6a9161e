"""OpenTelemetry's own SDK collects into its in-memory reader; what is unknown, lost or over is not there."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from aiocarbon import sync
from aiocarbon._core.report import Prediction
from aiocarbon.meters import Basis, DeviceKind
from aiocarbon.meters.simulated import Constant, SimulatedMeter

sdk = pytest.importorskip("opentelemetry.sdk.metrics", reason="needs opentelemetry-sdk: pip install 'aiocarbon[otel]'")
from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: E402

from aiocarbon.integrations.otel import Instruments, instrument  # noqa: E402  # there is none without OpenTelemetry

KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.5, "intensity": 100.0, "interval_s": 0.02}


def tracker(*power_w: float, **settings: Any) -> sync.Tracker:
    meters = [
        SimulatedMeter(wave=Constant(watts), device_id=f"gpu-{i}", refresh_s=0.001)
        for i, watts in enumerate(power_w or (100.0,))
    ]
    return sync.Tracker(meters=meters, **KNOWN, **settings)


class Reader:
    def __init__(self, *trackers: Any) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = sdk.MeterProvider([self.reader])
        self.instruments = instrument(*trackers, meter_provider=self.provider)

    def read(self) -> dict[str, Any]:
        """The metrics by name, each with its points."""
        data = self.reader.get_metrics_data()
        scopes = [] if data is None else [scope for one in data.resource_metrics for scope in one.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}


def points(metric: Any) -> dict[tuple[str, ...], float]:
    return {tuple(sorted(map(str, point.attributes.values()))): point.value for point in metric.data.data_points}


class Says:
    def __init__(self, now: Any) -> None:
        self.now = now

    def report(self) -> Any:
        return self.now


@pytest.fixture(scope="module")
def pattern() -> Any:
    with tracker(300.0, 100.0, epochs=3) as run:
        time.sleep(0.02)
        report = run.snapshot()
    kinds = {"gpu-0": DeviceKind.GPU, "gpu-1": DeviceKind.DRAM}
    devices = tuple(replace(device, kind=kinds[device.id]) for device in report.devices)
    ahead = Prediction(
        as_of=report.as_of, is_bounded=True, epochs=3, epochs_seen=1, energy_kwh=0.5, co2eq_g=50.0, co2eq_g_low=40.0
    )
    return replace(report, devices=devices, duration_s=10.0, prediction=ahead)


# -- bad days --------------------------------------------------------------------------------------------------


def test_before_the_run_nothing_is_observed() -> None:
    reader = Reader(tracker())
    assert reader.read() == {}


def test_one_that_fails_takes_nothing_else_along() -> None:
    reader = Reader(Says(None))
    reader.provider.get_meter("mine").create_counter("mine").add(7)
    assert list(reader.read()) == ["mine"]


def test_a_lost_device_has_no_power_and_neither_has_its_host(pattern: Any) -> None:
    says = Says(pattern)
    reader = Reader(says)
    assert len(reader.read()["hw.power"].data.data_points) == 2
    lost, other = says.now.devices
    devices = (replace(lost, coverage=0.5), replace(other, it_energy_kwh=other.it_energy_kwh * 2))
    says.now = replace(says.now, duration_s=20.0, devices=devices)
    found = reader.read()
    assert [point.attributes["hw.id"] for point in found["hw.power"].data.data_points] == ["gpu-1"]
    assert len(found["hw.energy"].data.data_points) == 2
    assert "hw.host.power" not in found
    assert "hw.host.energy" in found


def test_a_device_that_is_the_whole_machine_is_no_component(pattern: Any) -> None:
    board, gpu = pattern.devices
    reader = Reader(Says(replace(pattern, devices=(replace(board, kind=DeviceKind.PLATFORM), gpu))))
    found = reader.read()
    assert [point.attributes["hw.id"] for point in found["hw.energy"].data.data_points] == [gpu.id]
    joules = (board.it_energy_kwh + gpu.it_energy_kwh) * 3.6e6
    assert points(found["hw.host.energy"]) == {(): pytest.approx(joules)}


def test_a_process_s_share_is_not_told_as_the_hardware_s(pattern: Any) -> None:
    reader = Reader(Says(replace(pattern, scope=replace(pattern.scope, name="process"))))
    found = reader.read()
    assert not [name for name in found if name.startswith("hw.")]
    assert len(found["aiocarbon.device.energy"].data.data_points) == 2


def test_a_view_of_other_devices_energy_is_not_added(pattern: Any) -> None:
    one, two = pattern.devices
    reader = Reader(Says(replace(pattern, devices=(one, replace(two, counted=False)))))
    assert points(reader.read()["hw.host.energy"]) == {(): pytest.approx(one.it_energy_kwh * 3.6e6)}


def test_a_basis_that_changes_makes_no_counter_fall(pattern: Any) -> None:
    says = Says(pattern)
    reader = Reader(says)
    before = points(reader.read()["hw.energy"])
    devices = tuple(replace(device, basis=Basis.MODEL) for device in pattern.devices)
    says.now = replace(pattern, devices=devices, duration_s=20.0)
    after = points(reader.read()["hw.energy"])
    assert all(after[key] >= value for key, value in before.items())
    assert sum(after.values()) == pytest.approx(sum(before.values()))


def test_closed_it_tells_nothing() -> None:
    with tracker() as run:
        run.snapshot()
        reader = Reader(run)
        assert reader.read()
        reader.instruments.close()
        assert reader.read() == {}


# -- what it is for --------------------------------------------------------------------------------------------


def test_names_units_and_attributes_are_those_of_the_conventions(pattern: Any) -> None:
    found = Reader(Says(pattern)).read()
    units = {name: metric.unit for name, metric in found.items()}
    assert units.items() >= {
        "hw.energy": "J", "hw.power": "W", "hw.host.energy": "J", "hw.host.power": "W", "aiocarbon.co2eq": "g",
        "aiocarbon.coverage": "1", "aiocarbon.predicted.co2eq": "g", "aiocarbon.predicted.energy": "J",
    }.items()  # fmt: skip
    assert points(found["aiocarbon.predicted.energy"]) == {(): pytest.approx(1.8e6)}
    assert points(found["aiocarbon.predicted.co2eq"]) == {(): 50.0}
    assert found["hw.energy"].data.is_monotonic
    assert found["hw.host.energy"].data.is_monotonic
    assert found["aiocarbon.co2eq"].data.is_monotonic
    kinds = {point.attributes["hw.id"]: point.attributes["hw.type"] for point in found["hw.energy"].data.data_points}
    assert kinds == {"gpu-0": "gpu", "gpu-1": "memory"}


def test_a_real_run_arrives_in_the_reader() -> None:
    run = tracker(300.0, 100.0, epochs=4, name="resnet")
    reader = Reader(run)
    with run:
        list(run.epochs(2))
        while "hw.host.power" not in (found := reader.read()):
            run.snapshot()
        assert points(found["hw.host.power"]) == {("resnet",): pytest.approx(400, rel=0.05)}
        assert next(iter(points(found["aiocarbon.grid.carbon_intensity"]).values())) == 100.0
        joules = [sum(points(reader.read()["hw.energy"]).values()) for _ in range(5)]
        assert joules == sorted(joules)
    found, report = reader.read(), run.report()
    assert points(found["hw.host.energy"]) == {("resnet",): pytest.approx(report.it_energy_kwh * 3.6e6, rel=1e-3)}
    assert points(found["aiocarbon.co2eq"]) == {("resnet",): pytest.approx(report.co2eq_g, rel=1e-3)}
    over = {"hw.power", "hw.host.power", "aiocarbon.grid.carbon_intensity", "aiocarbon.predicted.co2eq"}
    assert not over & found.keys()


def test_several_trackers_are_told_apart() -> None:
    one, two = tracker(name="one"), tracker(name="two")
    reader = Reader(one)
    reader.instruments.add(two)
    with one, two:
        one.snapshot()
        two.snapshot()
        found = reader.read()
    assert set(points(found["aiocarbon.coverage"])) == {("one",), ("two",)}


def test_without_a_provider_it_is_the_global_one() -> None:
    assert isinstance(instrument(tracker()), Instruments)  # without an SDK that does nothing
