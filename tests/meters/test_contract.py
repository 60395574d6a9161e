"""What every meter keeps, whatever it reads: the same tests for all, on hardware that each test makes.

A new meter adds a factory to `FACTORIES`. It gets an empty folder and gives a meter that can be opened, and opened
again, there.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from aiocarbon.errors import AiocarbonError, MeterError
from aiocarbon.meters import REGISTRY, Device, Meter, Part, Quantity, Reading
from aiocarbon.meters.battery import BatteryMeter
from aiocarbon.meters.hwmon import HwmonMeter
from aiocarbon.meters.model import ModelMeter
from aiocarbon.meters.nvml import NvmlMeter
from aiocarbon.meters.powermetrics import PowermetricsMeter
from aiocarbon.meters.rapl import RaplMeter
from aiocarbon.meters.simulated import Constant, ReplayedMeter, SimulatedMeter, Square, Trace

Factory = Callable[[Path], Meter]


def write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def nvml(root: Path) -> Meter:
    """Two boards: one with an energy counter, one that tells its power only."""

    class CodeError(Exception):
        value = 3  # NVML_ERROR_NOT_SUPPORTED

    def energy(board: str) -> int:
        if board == "GPU-b":
            raise CodeError
        return 123_456

    def fields(board: str, ids: list[int]) -> list[object]:
        value = SimpleNamespace(uiVal=250_000)
        return [SimpleNamespace(nvmlReturn=0, valueType=1, value=value) for _ in ids]

    library = SimpleNamespace(
        NVMLError=CodeError,
        nvmlInitWithFlags=lambda flags: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: ("GPU-a", "GPU-b")[index],
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetUUID=lambda board: board,
        nvmlDeviceGetName=lambda board: "NVIDIA A100-SXM4-40GB",
        nvmlDeviceGetPciInfo=lambda board: SimpleNamespace(busId=b"00000000:3B:00.0"),
        nvmlDeviceGetArchitecture=lambda board: 7,
        nvmlDeviceGetMigMode=lambda board: [0, 0],
        nvmlDeviceGetMaxMigDeviceCount=lambda board: 7,
        nvmlDeviceGetTotalEnergyConsumption=energy,
        nvmlDeviceGetPowerUsage=lambda board: 250_000,
        nvmlDeviceGetEnforcedPowerLimit=lambda board: 400_000,
        nvmlDeviceGetPowerManagementLimitConstraints=lambda board: [100_000, 400_000],
        nvmlDeviceGetFieldValues=fields,
    )
    return NvmlMeter(nvml=library, environ={}, modules={})


def rapl(root: Path) -> Meter:
    zone = {"max_energy_range_uj": 262_143_328_850, "energy_uj": 1_000_000, "enabled": 1}
    for folder, name in (("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "dram"), ("intel-rapl:1", "package-1")):
        write(root / folder, {"name": name, **zone})
    return RaplMeter(root=root)


def hwmon(root: Path) -> Meter:
    write(root / "hwmon0", {"name": "i915", "energy1_input": 5_000_000})
    (root / "hwmon0" / "device").mkdir()
    return HwmonMeter(root=root, model=root / "model", environ={}, sleep=lambda seconds: None)


def battery(root: Path) -> Meter:
    write(root / "BAT0", {"type": "Battery", "status": "Discharging", "power_now": 15_500_000})
    return BatteryMeter(root=root)


def model(root: Path) -> Meter:
    write(root, {"proc/stat": "cpu  1 2 3 4 5 6 7 8 9 0\ncpu0 1 2 3 4 5 6 7 8 9 0\nintr 1"})
    return ModelMeter(proc=root / "proc", cgroup=root / "none", edac=root / "none", platform="linux")


def simulated(root: Path) -> Meter:
    return SimulatedMeter(wave={"a": Constant(250), "b": Square(2, 0.5, 50, 400)})


def simulated_power(root: Path) -> Meter:
    return SimulatedMeter(wave=Constant(250), quantity=Quantity.POWER, refresh_s=0.02)


def replayed(root: Path) -> Meter:
    return ReplayedMeter(traces={"a": Trace((0, 3600), (5, 50)), "b": Trace((0, 3600), (1, 1))})


def powermetrics(root: Path) -> Meter:
    sample = "<plist><dict><key>elapsed_ns</key><integer>1000</integer><key>processor</key><dict>"
    sample += "".join(f"<key>{name}_energy</key><integer>7</integer>" for name in ("cpu", "gpu", "ane"))
    script = f"import os, time\nos.write(1, {sample.encode() + b'</dict></dict></plist>'!r})\ntime.sleep(600)"
    command = [sys.executable, "-S", "-c", script]
    return PowermetricsMeter(command=command, platform="darwin", machine="arm64", startup_s=30)


FACTORIES: dict[str, Factory] = {
    "nvml": nvml,
    "rapl": rapl,
    "hwmon": hwmon,
    "powermetrics": powermetrics,
    "battery": battery,
    "model": model,
    "simulated": simulated,
    "simulated power": simulated_power,
    "replayed": replayed,
}


@pytest.fixture(params=FACTORIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def meter(name: str, tmp_path: Path) -> Iterator[Meter]:
    meter = FACTORIES[name](tmp_path)
    yield meter
    meter.close()


def test_every_registered_meter_is_held_to_the_contract() -> None:
    assert {name.partition(" ")[0] for name in FACTORIES} == set(REGISTRY)


def test_it_is_a_meter_of_its_registered_name(meter: Meter, name: str) -> None:
    assert isinstance(meter, Meter)
    assert meter.name == name.partition(" ")[0]
    module, _, class_name = REGISTRY[meter.name].partition(":")
    assert (type(meter).__module__, type(meter).__name__) == (module, class_name)


def test_closed_before_it_was_opened_and_twice_after_it_says_nothing(meter: Meter) -> None:
    meter.close()
    meter.close()
    meter.open()
    meter.close()
    meter.close()


def test_a_read_after_close_is_one_of_our_errors(meter: Meter) -> None:
    devices = meter.open().devices
    meter.close()
    for device in devices:
        with pytest.raises(MeterError) as caught:
            meter.read(device)
        assert caught.value.device == device.id


def test_a_read_before_open_is_one_of_our_errors(meter: Meter, name: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = FACTORIES[name](tmp_path / "other")
    try:
        device = other.open().devices[0]
    finally:
        other.close()
    with pytest.raises(AiocarbonError):
        meter.read(device)


def test_a_device_of_somebody_else_is_one_of_our_errors(meter: Meter) -> None:
    device = dataclasses.replace(meter.open().devices[0], id="somebody else's")
    try:
        reading = meter.read(device)
    except MeterError:
        return
    assert isinstance(reading, Reading)  # a meter of one device may answer without looking


def test_opened_again_it_finds_the_same_devices_and_reads_them(meter: Meter) -> None:
    first = meter.open()
    again = meter.open()  # without a close between
    assert [device.id for device in again.devices] == [device.id for device in first.devices]
    meter.close()
    last = meter.open()
    assert [device.id for device in last.devices] == [device.id for device in first.devices]
    for device in last.devices:
        meter.read(device)


def test_what_others_cover_changes_nothing_but_for_models(meter: Meter) -> None:
    if meter.name == "model":
        with pytest.raises(MeterError, match="nothing left"):
            meter.open(frozenset(Part))
    else:
        assert meter.open(frozenset(Part)).devices


def test_devices_are_told_apart_and_described(meter: Meter) -> None:
    devices = meter.open().devices
    assert devices
    assert len({device.id for device in devices}) == len(devices)
    for device in devices:
        assert device.id
        assert device.id == device.id.strip()
        assert device.name
        assert 0 < device.low_factor <= 1 <= device.high_factor < math.inf
        assert device.lag_s >= 0
        assert device.refresh_s is None or 0 <= device.refresh_s < math.inf
        assert device.max_power_w is None or 0 <= device.max_power_w < math.inf
        assert device.counter_range_uj is None or device.counter_range_uj > 0


def test_inventories_devices_and_readings_cannot_be_changed(meter: Meter) -> None:
    inventory = meter.open()
    device = inventory.devices[0]
    reading = meter.read(device)
    for value, field in ((inventory, "devices"), (device, "id"), (reading, "value")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, None)


def test_readings_follow_one_another_and_are_finite(meter: Meter) -> None:
    for device in meter.open().devices:
        check(device, [meter.read(device) for _ in range(5)])


def check(device: Device, readings: list[Reading]) -> None:
    for reading in readings:
        assert isinstance(reading.t0_ns, int)
        assert reading.t0_ns <= reading.t1_ns
        assert math.isfinite(reading.value)
        assert reading.value >= 0
        if device.quantity is Quantity.ENERGY:
            assert isinstance(reading.value, int)
    for before, after in pairwise(readings):
        assert before.t0_ns <= after.t0_ns
        assert before.t1_ns <= after.t1_ns
        if device.quantity is Quantity.ENERGY:
            assert before.value <= after.value
