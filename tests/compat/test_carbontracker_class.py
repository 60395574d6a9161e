"""carbontracker's class and parser on this engine: its README's examples, its arguments, what is meant to differ."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import ConfigError, TrainingStoppedError, journal
from aiocarbon._core.reading import Device, DeviceKind, Part, Quantity
from aiocarbon.compat import carbontracker
from aiocarbon.compat.carbontracker import CarbonTracker, parser
from aiocarbon.compat.carbontracker import tracker as tracker_module
from aiocarbon.compat.carbontracker.components import ComponentMeter, meters_of
from aiocarbon.errors import MeterLostError, MeterUnavailableError
from aiocarbon.meters.base import Inventory
from aiocarbon.meters.simulated import Constant, SimulatedMeter

SIM: dict[str, Any] = {
    "sim_cpu": "Xeon",
    "sim_cpu_tdp": 150.0,
    "sim_gpu": "A100",
    "sim_gpu_watts": 400.0,
    "sim_gpu_util": 0.9,
}
WATTS = 75.0 + 360.0

README = """
    from carbontracker.tracker import CarbonTracker

    tracker = CarbonTracker(epochs=max_epochs)

    # Training loop.
    for epoch in range(max_epochs):
        tracker.epoch_start()

        # Your model training.

        tracker.epoch_end()

    # Optional: Add a stop in case of early termination before all monitor_epochs has
    # been monitored to ensure that actual consumption is reported.
    tracker.stop()
"""
"""The example of carbontracker's README."""


def work() -> None:
    """Something that takes measurable time, whatever the machine."""
    until = time.monotonic_ns() + 30_000_000
    while time.monotonic_ns() < until:
        sum(range(1000))


def printed(body: Callable[[], None]) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        body()
    return out.getvalue()


def run(epochs: int, **more: Any) -> CarbonTracker:
    tracker = CarbonTracker(**({"epochs": epochs} | SIM | more))
    for _ in range(epochs):
        tracker.epoch_start()
        work()
        tracker.epoch_end()
    return tracker


def test_readme_s_example_runs_unchanged_but_for_its_import() -> None:
    code = textwrap.dedent(README).replace("from carbontracker.", "from aiocarbon.compat.carbontracker.")
    assert code.count("aiocarbon") == 1
    environ = os.environ | {"AIOCARBON_METERS": "simulated:250", "AIOCARBON_LOCATION": "DK", "AIOCARBON_PUE": "1.58"}
    environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-W", "error", "-c", f"max_epochs = 3\n{code}"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("CarbonTracker: The following components were found: ")
    at = lines.index("Actual consumption for 3 epoch(s):")
    assert [line.split("\t")[1] for line in lines[at + 1 : at + 5]] == [
        "Time:",
        "Energy:",
        "CO2eq:",
        "This is equivalent to:",
    ]
    assert lines[at + 5].endswith(" km travelled by car")
    assert lines[-1] == "CarbonTracker: Finished monitoring."


def test_prediction_comes_once_as_soon_as_there_is_one() -> None:
    def body() -> None:
        tracker = CarbonTracker(epochs=10_000, **SIM)
        for _ in range(10_000):
            tracker.epoch_start()
            work()
            tracker.epoch_end()
            if "Predicted" in out.getvalue():
                break
        for _ in range(2):
            tracker.epoch_start()
            tracker.epoch_end()
        tracker.stop()

    out = io.StringIO()
    with redirect_stdout(out):
        body()
    lines = out.getvalue().splitlines()
    assert lines.count("Predicted consumption for 10000 epoch(s):") == 1
    at = lines.index("Predicted consumption for 10000 epoch(s):")
    assert [line.split("\t")[1] for line in lines[at + 1 : at + 4]] == ["Time:", "Energy:", "CO2eq:"]


def test_a_prediction_has_its_range_in_a_line_of_its_own() -> None:
    lines = printed(lambda: run(3).stop()).splitlines()
    assert len([line for line in lines if line.startswith("CarbonTracker: 90 % ranges: ")]) == 2
    at = lines.index("Predicted consumption for 3 epoch(s):")
    kwh = float(lines[at + 2].split()[1])
    low, high = map(float, re.findall(r"[\d.]+", lines[at + 6].removeprefix("CarbonTracker: 90 % ranges: "))[:2])
    assert 0 < low <= kwh <= high


class Held(SimulatedMeter):
    """A driver that does not answer while it is held."""

    def __init__(self) -> None:
        super().__init__(wave=Constant(100.0), device_id="held", refresh_s=0.001)
        self.goes = threading.Event()
        self.goes.set()

    def read(self, device: Device) -> Any:
        self.goes.wait(30)
        return super().read(device)


def test_an_epoch_that_was_hardly_measured_gives_no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Held()
    # The class takes devices by name only, as carbontracker's does.
    monkeypatch.setattr(tracker_module, "meters_of", lambda *_: [meter])

    def body() -> None:
        tracker = CarbonTracker(epochs=100, update_interval=0.02)
        tracker.epoch_start()
        meter.goes.clear()
        for _ in range(10):
            work()
        tracker.epoch_end()
        assert "Predicted" not in out.getvalue()
        meter.goes.set()
        for _ in range(99):
            if "Predicted" in out.getvalue():
                break
            tracker.epoch_start()
            work()
            tracker.epoch_end()
        tracker.stop()

    out = io.StringIO()
    with redirect_stdout(out):
        body()
    assert out.getvalue().count("Predicted consumption for 100 epoch(s):") == 1


def test_total_is_the_sum_of_all_devices_and_not_their_mean() -> None:
    out = printed(lambda: totals.append(run(2).report()))
    (report,) = totals
    assert report.it_energy_kwh * 3.6e6 / report.duration_s == pytest.approx(WATTS, rel=1e-3)
    assert report.epochs_total == 2
    assert f"{report.energy_kwh:.12f} kWh" in out
    assert f"{report.co2eq_g / 106.8:.12f} km travelled by car" in out
    assert "GPU with device(s) simulated A100. CPU with device(s) simulated Xeon." in out
    assert "100 % assumed" in out


totals: list[Any] = []


def test_stop_counts_finished_epochs_and_keeps_what_was_used() -> None:
    def body() -> None:
        tracker = CarbonTracker(epochs=9, **SIM)
        for _ in range(4):
            tracker.epoch_start()
            tracker.epoch_end()
        tracker.stop()
        tracker.stop()

    out = printed(body)
    assert "Training was interrupted before all 9 epochs were monitored." in out
    assert out.count("Actual consumption for 4 epoch(s):") == 1


def test_stop_inside_an_epoch_keeps_its_energy() -> None:
    def body() -> None:
        tracker = CarbonTracker(epochs=9, **SIM)
        tracker.epoch_start()
        tracker.epoch_end()
        tracker.epoch_start()
        work()
        tracker.stop()
        reports.append(tracker.report())

    reports: list[Any] = []
    out = printed(body)
    assert "Actual consumption for 1 epoch(s):" in out
    assert "what was begun of another one is in it" in out
    assert reports[0].it_energy_kwh * 3.6e6 >= WATTS * 0.029


def test_monitor_epochs_ends_tracking_and_the_training_goes_on() -> None:
    out = printed(lambda: done.append(run(5, monitor_epochs=2)))
    done[0].stop()
    assert out.count("Actual consumption for 2 epoch(s):") == 1
    assert done[0].deleted
    assert done[0].report().epochs_total == 2


done: list[CarbonTracker] = []


def test_verbose_0_prints_nothing_and_no_prediction_is_printed_for_0() -> None:
    assert printed(lambda: run(2, verbose=0).stop()) == ""
    out = printed(lambda: run(2, epochs_before_pred=0, interpretable=False, decimal_precision=3).stop())
    assert "Predicted" not in out
    assert "km" not in out
    assert "\tEnergy:\t0.000 kWh" in out


def test_methods_out_of_order_do_nothing_and_say_so() -> None:
    def body() -> None:
        tracker = CarbonTracker(epochs=3, **SIM)
        tracker.epoch_end()
        tracker.stop()
        tracker.epoch_start()
        tracker.epoch_end()

    assert printed(body) == "CarbonTracker: No epoch was begun: nothing was monitored.\n"

    def twice() -> None:
        tracker = CarbonTracker(epochs=3, **SIM)
        tracker.epoch_start()
        tracker.epoch_start()
        tracker.epoch_end()
        tracker.epoch_end()
        tracker.stop()

    assert "Actual consumption for 1 epoch(s):" in printed(twice)


def test_stdout_that_is_closed_stops_nothing() -> None:
    closed = io.StringIO()
    closed.close()
    with redirect_stdout(closed):
        tracker = run(1)
    assert tracker.report().epochs_total == 1


def test_answer_of_no_raises_and_ends_no_process() -> None:
    """Without a terminal the answer is no."""
    code = textwrap.dedent(
        f"""
        from aiocarbon import TrainingStoppedError
        from aiocarbon.compat.carbontracker import CarbonTracker
        tracker = CarbonTracker(epochs=10_000, stop_and_confirm=True, **{SIM!r})
        try:
            for _ in range(10_000):
                tracker.epoch_start()
                sum(range(1_000_000))
                tracker.epoch_end()
        except TrainingStoppedError:
            print("stopped, and here to tell")
        tracker.epoch_start()
        """
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False, start_new_session=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "Predicted consumption for 10000 epoch(s):" in ran.stdout
    assert "Actual consumption for " in ran.stdout
    assert ran.stdout.endswith("stopped, and here to tell\n")
    assert issubclass(TrainingStoppedError, Exception)


@pytest.mark.parametrize(
    "bad",
    [
        {"epochs": 0},
        {"epochs": "many"},
        {"monitor_epochs": 0},
        {"monitor_epochs": 1, "epochs_before_pred": 2},
        {"components": "tpu"},
        {"components": ""},
        {"sim_cpu": "X"},
        {"sim_gpu": "X", "sim_gpu_watts": -1},
        {"sim_cpu": "X", "sim_cpu_tdp": 100, "sim_cpu_util": 2},
        {"api_keys": {"nobody": "secret"}},
        {"api_keys": {"electricitymaps": "sec\0ret"}},
        {"api_keys": {"electricitymaps": 7}},
        {"api_keys": "secret"},
        {"epochs_before_pred": "a"},
        {"epochs_before_pred": None},
        {"epochs_before_pred": 1.5},
        {"update_interval": "x"},
        {"update_interval": None},
        {"verbose": None},
        {"decimal_precision": "a"},
        {"decimal_precision": float("inf")},
    ],
    ids=str,
)
def test_bad_argument_is_an_error_at_once_and_no_exit(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        CarbonTracker(**({"epochs": 3} | bad))
    assert isinstance(caught.value, ValueError)
    assert "secret" not in str(caught.value)


def test_bad_environment_is_told_or_raised_as_asked() -> None:
    code = "from aiocarbon.compat.carbontracker import CarbonTracker as C\n"
    code += "import sys\nt = C(epochs=1, ignore_errors=sys.argv[1] == '1')\n"
    code += "t.epoch_start()\nt.epoch_end()\nprint('trained')"
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "AIOCARBON_PUE": "0.1"}
    ran = [
        subprocess.run([sys.executable, "-c", code, word], env=environ, capture_output=True, text=True, check=False)
        for word in ("1", "0")
    ]
    assert [one.returncode for one in ran] == [0, 1]
    assert "Continued training without monitoring" in ran[0].stdout
    assert ran[0].stdout.endswith("trained\n")
    assert "ConfigError" in ran[1].stderr


def test_a_key_that_is_not_there_is_told_and_nothing_is_raised(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = CarbonTracker(epochs=1, api_keys={"electricitymaps": None, "energidataservice": "x"}, **SIM)  # type: ignore[arg-type]
    tracker.set_api_keys(None)
    tracker.epoch_start()
    tracker.epoch_end()
    assert "Empty API key for 'electricitymaps'" in capsys.readouterr().out


def test_key_goes_where_keys_are_looked_for_and_the_environment_s_own_stays() -> None:
    code = textwrap.dedent(
        f"""
        import os
        from aiocarbon.compat.carbontracker import CarbonTracker
        tracker = CarbonTracker(epochs=1, api_keys={{"electricitymaps": "k1"}}, verbose=0, **{SIM!r})
        assert "AIOCARBON_ELECTRICITYMAPS_TOKEN" not in os.environ
        tracker.epoch_start()
        print(os.environ["AIOCARBON_ELECTRICITYMAPS_TOKEN"])
        tracker.stop()
        """
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout == "k1\n"


# -- the folder and the parser -----------------------------------------------------------------------------------------


LOG = """\
2026-03-01 12:00:00 - carbontracker version 2.4.7
2026-03-01 12:00:00 - Only predicted and actual consumptions are multiplied by a PUE coefficient of 1.58 (D, 2023, U).
2026-03-01 12:00:00 - The following components were found: GPU with device(s) Tesla T4.
2026-03-01 12:01:00 - Epoch 1:
2026-03-01 12:01:00 - Duration: 0:01:00.00
2026-03-01 12:01:00 - Average power usage (W) for gpu: 60.0
2026-03-01 12:01:00 - Training was interrupted before all 3 epochs were monitored.
2026-03-01 12:01:00 - Average carbon intensity during training was 100.00 gCO2eq/kWh.\u0020
2026-03-01 12:01:00 - Monitoring thread ended.
"""


def test_log_dir_holds_a_journal_that_report_and_parser_read(tmp_path: Path) -> None:
    printed(lambda: run(2, log_dir=tmp_path, log_file_prefix="unet").stop())
    (told,) = journal.load(tmp_path).runs
    assert (told.name, told.epochs_total) == ("unet", 2)
    # carbontracker's own logs in the same folder count as well.
    (tmp_path / "x_1.2_2026-03-01T120000Z_carbontracker.log").write_text(LOG)
    kwh, grams, equivalents = parser.aggregate_consumption(tmp_path)
    assert kwh == pytest.approx(told.energy_kwh + 0.001 * 1.58)
    assert grams == pytest.approx(told.co2eq_g + 0.158)
    assert equivalents == {"km travelled by car": pytest.approx(grams / 106.8)}
    text = printed(lambda: parser.print_aggregate(log_dir=str(tmp_path)))
    assert text.startswith("The training of models in this work is estimated to use ")
    assert "carbontracker 2.4.7" in text
    assert not any("imported" in path.name for path in tmp_path.rglob("*"))


def test_parser_s_dicts(tmp_path: Path) -> None:
    (tmp_path / "x_1.2_2026-03-01T120000Z_carbontracker.log").write_text(LOG)
    (first,) = parser.parse_all_logs(log_dir=str(tmp_path))
    assert first["early_stop"] is True
    assert first["components"]["gpu"]["devices"] == ["Tesla T4"]
    assert first["components"]["gpu"]["avg_power_usages (W)"] == [[pytest.approx(60.0)]]
    assert first["components"]["gpu"]["epoch_durations (s)"] == [pytest.approx(60.0)]
    assert first["actual"]["epochs"] == 1
    assert first["actual"]["energy (kWh)"] == pytest.approx(0.00158)
    assert first["pred"] is None
    assert "cpu" not in first["components"]


def test_parser_says_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(carbontracker.parser.JournalError, match="nothing could be read"):
        parser.aggregate_consumption(tmp_path)


# -- components --------------------------------------------------------------------------------------------------------


class Absent:
    """A meter whose devices this machine lacks."""

    name = "absent"

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        raise MeterUnavailableError("none here")

    def read(self, device: Device) -> Any:
        raise MeterLostError("never open", device=device.id)

    def close(self) -> None:
        pass


def test_component_takes_the_first_meter_that_has_it_and_no_other_s_devices() -> None:
    gpu = SimulatedMeter(wave=Constant(1.0), kind=DeviceKind.GPU)
    cpu = SimulatedMeter(wave=Constant(2.0), kind=DeviceKind.CPU)
    other = SimulatedMeter(wave=Constant(3.0), kind=DeviceKind.CPU)
    meter = ComponentMeter("cpu", [Absent(), gpu, cpu, other])
    (device,) = meter.open().devices
    assert (device.kind, device.quantity) == (DeviceKind.CPU, Quantity.ENERGY)
    assert meter.read(device).value >= 0
    meter.close()
    meter.close()
    with pytest.raises(MeterLostError):
        meter.read(device)
    with pytest.raises(MeterUnavailableError, match="none here"):
        ComponentMeter("gpu", [Absent(), cpu]).open()


def test_components_as_carbontracker_has_them() -> None:
    none: dict[str, Any] = {"cpu": (None, None, None), "gpu": (None, None, None)}
    assert meters_of("all", none) is None
    assert [meter.name for meter in meters_of("GPU, cpu", none) or ()] == ["gpu", "cpu"]  # type: ignore[union-attr]
    some = none | {"cpu": ("X", 100.0, None)}
    made = meters_of("all", some) or []
    assert [type(meter).__name__ for meter in made] == ["ComponentMeter", "SimulatedMeter"]
