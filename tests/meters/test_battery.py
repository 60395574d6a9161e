"""The battery meter: a cross-check that speaks only while the machine runs on its battery."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest

from aiocarbon._core.reading import Basis, DeviceKind, Quantity
from aiocarbon.errors import MeterLostError, MeterUnavailableError, ReadError
from aiocarbon.meters.base import Meter
from aiocarbon.meters.battery import BatteryMeter


def supply(root: Path, name: str, **files: object) -> Path:
    path = root / name
    path.mkdir(parents=True)
    for file, content in files.items():
        (path / file).write_text(f"{content}\n")
    return path


def battery(root: Path, name: str = "BAT0", status: str = "Discharging", **files: object) -> Path:
    return supply(root, name, **{"type": "Battery", "present": 1, "status": status, **files})


def test_a_machine_without_battery_has_no_meter(tmp_path: Path) -> None:
    with pytest.raises(MeterUnavailableError):
        BatteryMeter(root=tmp_path / "nothing").open()
    supply(tmp_path, "AC", type="Mains", online=1)
    supply(tmp_path, "ucsi-source-psy-1", type="USB", online=0)
    battery(tmp_path, "hidpp_battery_0", power_now=100, scope="Device")
    battery(tmp_path, "BAT1", present=0, power_now=100)
    with pytest.raises(MeterUnavailableError, match="none"):
        BatteryMeter(root=tmp_path).open()


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_on_mains_it_is_unavailable_when_opened_and_an_error_when_read(tmp_path: Path, status: str) -> None:
    path = battery(tmp_path, status=status, power_now=12_000_000)
    meter = BatteryMeter(root=tmp_path)
    with pytest.raises(MeterUnavailableError, match="on mains"):
        meter.open()
    (path / "status").write_text("Discharging\n")
    (device,) = meter.open().devices
    (path / "status").write_text(f"{status}\n")
    with pytest.raises(ReadError, match=status):
        meter.read(device)


def test_a_gauge_that_says_nothing_or_0_is_no_reading(tmp_path: Path) -> None:
    path = battery(tmp_path)
    meter = BatteryMeter(root=tmp_path)
    with pytest.raises(MeterUnavailableError, match="states no power"):
        meter.open()
    (path / "power_now").write_text("9000000\n")
    (device,) = meter.open().devices
    for said in ("0\n", "garbage\n", ""):
        (path / "power_now").write_text(said)
        with pytest.raises(ReadError):
            meter.read(device)


def test_a_battery_that_is_taken_out_is_lost(tmp_path: Path) -> None:
    path = battery(tmp_path, power_now=9_000_000)
    meter = BatteryMeter(root=tmp_path)
    (device,) = meter.open().devices
    shutil.rmtree(path)
    with pytest.raises(MeterLostError):
        meter.read(device)


def test_it_is_never_counted(tmp_path: Path) -> None:
    battery(tmp_path, power_now=14_210_000)
    clock = itertools.count(0, 3)
    meter = BatteryMeter(root=tmp_path, clock=lambda: next(clock))
    assert isinstance(meter, Meter)
    (device,) = meter.open().devices
    assert (device.kind, device.counted) == (DeviceKind.BATTERY, False)
    assert (device.quantity, device.basis) == (Quantity.POWER, Basis.POWER)
    reading = meter.read(device)
    assert reading.value == pytest.approx(14.21)
    assert reading.t1_ns - reading.t0_ns == 3
    meter.close()
    meter.close()
    with pytest.raises(MeterLostError):
        meter.read(device)


@pytest.mark.parametrize("current", [1_500_000, -1_500_000])
def test_voltage_times_current_stands_in_for_power_whatever_the_drivers_sign(tmp_path: Path, current: int) -> None:
    battery(tmp_path, voltage_now=11_400_000, current_now=current)
    meter = BatteryMeter(root=tmp_path)
    (device,) = meter.open().devices
    assert meter.read(device).value == pytest.approx(17.1)


def test_two_batteries_add_up_one_may_rest_but_none_may_charge(tmp_path: Path) -> None:
    battery(tmp_path, "BAT0", power_now=8_000_000)
    second = battery(tmp_path, "BAT1", power_now=5_000_000)
    meter = BatteryMeter(root=tmp_path)
    (device,) = meter.open().devices
    assert meter.read(device).value == pytest.approx(13.0)
    (second / "status").write_text("Not charging\n")
    assert meter.read(device).value == pytest.approx(8.0)
    (second / "status").write_text("Charging\n")
    with pytest.raises(ReadError, match="BAT1 Charging"):
        meter.read(device)
