"""Reports as flat dicts: what is known is there under its key, what is not known has no key."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from aiocarbon import sync
from aiocarbon._core.metrics import as_key
from aiocarbon._core.report import RunReport
from aiocarbon.errors import MeterUnavailableError
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.testing import ScriptedMeter

FIT_FOR_ALL = re.compile(r"[A-Za-z0-9_.\-/]+")
KNOWN: dict[str, Any] = {"location": "DK", "pue": 1.5, "intensity": 100.0}


def watts(power_w: float, ident: str) -> SimulatedMeter:
    return SimulatedMeter(wave=Constant(power_w), device_id=ident, refresh_s=0.001)


@pytest.fixture(scope="module")
def run() -> RunReport:
    with sync.Tracker(epochs=3, meters=[watts(250, "gpu:0/a"), watts(50, "cpu")], **KNOWN) as tracker:
        for _ in tracker.epochs(2):
            with tracker.span("roll out"):
                time.sleep(0.03)
            with tracker.span("roll_out"):
                time.sleep(0.03)
        while "carbon/remaining_co2eq_g" not in (live := tracker.snapshot().metrics()):
            pass  # the first prediction needs a power that meters tell
        assert live["carbon/remaining_co2eq_g"] > 0.0
    return tracker.report()


def test_where_no_meter_is_there_is_no_energy_not_zero() -> None:
    closed = ScriptedMeter(energy_uj=[0], open_error=MeterUnavailableError("no such thing"))
    with sync.Tracker(meters=[closed], **KNOWN) as tracker:
        tracker.step()
    told = tracker.report().metrics(devices=True, spans=True)
    assert not [key for key in told if "energy" in key or "co2eq" in key or "power" in key or "intensity" in key]
    assert told["carbon/coverage"] == 0.0


def test_a_run_of_no_length_has_no_power(run: RunReport) -> None:
    told = replace(run, duration_s=0.0, power_w=None).metrics()
    assert "carbon/power_w" not in told
    assert "carbon/coverage" not in told


def test_what_is_not_finite_has_no_key(run: RunReport) -> None:
    told = replace(run, co2eq_g=math.nan, energy_kwh_high=math.inf).metrics()
    assert "carbon/co2eq_g" not in told
    assert "carbon/energy_kwh_high" not in told
    assert "carbon/energy_kwh" in told


def test_a_lost_device_has_no_key_where_nothing_was_read_of_it(run: RunReport) -> None:
    lost = replace(run.devices[0], it_energy_kwh=0.0, power_w=0.0, coverage=0.0)
    told = replace(run, devices=(lost, run.devices[1])).metrics(devices=True)
    assert not [key for key in told if key.startswith(f"carbon/device/{as_key(lost.id)}/")]
    assert "carbon/device/cpu/power_w" in told


def test_a_view_of_others_energy_is_no_device_of_its_own(run: RunReport) -> None:
    view = replace(run.devices[0], counted=False)
    assert "carbon/device/gpu_0_a/power_w" not in replace(run, devices=(view,)).metrics(devices=True)


def test_devices_of_several_hosts_are_told_apart(run: RunReport) -> None:
    there = replace(run.devices[0], host="node 2")
    told = replace(run, devices=(*run.devices, there)).metrics(devices=True)
    assert told["carbon/device/node_2/gpu_0_a/power_w"] == there.power_w
    assert "carbon/device/gpu_0_a/power_w" not in told


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("", "_"),
        ("..", "__"),
        (".", "_"),
        ("rapl:package-0/dram", "rapl_package-0_dram"),
        ("é 1", "__1"),
        ("v1.2", "v1.2"),
    ],
)
def test_a_name_of_any_kind_is_one_part_of_a_key(name: str, part: str) -> None:
    assert as_key(name) == part


def test_figures_are_those_of_the_report(run: RunReport) -> None:
    told = run.metrics()
    for figure in ("energy_kwh", "co2eq_g", "power_w", "it_energy_kwh", "duration_s", "coverage"):
        assert told[f"carbon/{figure}"] == getattr(run, figure)
    assert told["carbon/intensity_g_per_kwh"] == pytest.approx(100.0)
    assert told["carbon/epochs"] == 2.0
    assert run.prediction is not None
    assert told["carbon/predicted_co2eq_g"] == run.prediction.co2eq_g
    assert told["carbon/predicted_energy_kwh_high"] == run.prediction.energy_kwh_high


def test_nothing_remains_of_a_run_that_has_ended(run: RunReport) -> None:
    assert run.is_final
    assert not [key for key in run.metrics() if "remaining" in key]


def test_an_epoch_does_not_stand_under_the_run_s_keys(run: RunReport) -> None:
    epoch = run.epochs[1]
    told = epoch.metrics(devices=True)
    assert told["carbon/epoch"] == 1.0
    assert told["carbon/epoch_energy_kwh"] == epoch.energy_kwh
    assert told["carbon/epoch_intensity_g_per_kwh"] == pytest.approx(100.0)
    assert [told["carbon/device/cpu/epoch_power_w"]] == [d.power_w for d in epoch.devices if d.id == "cpu"]
    assert all("predicted" in key for key in told.keys() & run.metrics(devices=True).keys())


def test_parts_add_up_and_two_names_that_are_one_key_hide_nothing(run: RunReport) -> None:
    told = run.metrics(spans=True)
    parts = [value for key, value in told.items() if re.fullmatch(r"carbon/(span/[^/]+|unattributed)/energy_kwh", key)]
    assert len(parts) == 3
    assert math.fsum(parts) == pytest.approx(run.energy_kwh)
    assert {"carbon/span/roll_out/count", "carbon/span/roll_out.2/count"} <= told.keys()


def test_every_key_fits_every_sink_and_every_value_is_a_float(run: RunReport) -> None:
    told = run.metrics(devices=True, spans=True)
    assert all(FIT_FOR_ALL.fullmatch(key) for key in told)
    assert all(type(value) is float for value in told.values())
    # A file store makes folders of "/": no key may be the folder of another.
    assert not [(a, b) for a in told for b in told if b.startswith(f"{a}/")]
