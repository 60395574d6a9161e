"""The NVIDIA meter in a real process, through the real pynvml, over the compiled fake driver; and the fake itself."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import truth
from benchmarks.fake_nvml import NoCompilerError, build, child_environ

ROOT = Path(__file__).parents[1]

PRELUDE = """
import json, sys, time
from dataclasses import asdict
from aiocarbon.errors import MeterError
from aiocarbon.meters.nvml import NvmlMeter

def attempt(action):
    try:
        return action()
    except MeterError as error:
        return {"error": type(error).__name__, "message": str(error), "remedy": error.remedy}

def read(meter, device):
    reading = attempt(lambda: meter.read(device))
    return reading if isinstance(reading, dict) else [reading.t0_ns, reading.t1_ns, reading.value]

def tell(**facts):
    print(json.dumps(facts, default=str))

meter = NvmlMeter()
inventory = attempt(meter.open)
devices = getattr(inventory, "devices", ())
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("fake_nvml"))
    except NoCompilerError as error:
        pytest.skip(str(error))


class Machine:
    """A machine with the GPUs of a scenario."""

    def __init__(self, library: Path, folder: Path, scenario: str) -> None:
        self.file = folder / "scenario"
        self.file.write_text(textwrap.dedent(scenario))
        self.scenario = truth.load(self.file)
        self.t0_ns = time.monotonic_ns()
        self.environ = child_environ(library, self.file, t0_ns=self.t0_ns)

    def run(self, script: str, *, prelude: str = PRELUDE) -> dict:
        code = prelude + textwrap.dedent(script)
        done = subprocess.run(
            [sys.executable, "-c", code], env=self.environ, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        answer: dict = json.loads(done.stdout)
        return answer

    def since_s(self, t_ns: int) -> float:
        return (t_ns - self.t0_ns) * 1e-9


@pytest.fixture
def machine(library: Path, tmp_path: Path):
    return lambda scenario: Machine(library, tmp_path, scenario)


# The meter on it


@pytest.mark.parametrize("wave", ["const 300", "square 0.05 0.5 50 400", "ramp 50 400 0.2"])
def test_each_counter_reading_lies_between_the_true_energies_around_it(machine, wave: str) -> None:
    here = machine(f"""
        gpu NVIDIA A100-SXM4-40GB
        arch 7
        wave 0 {wave}
        gpu NVIDIA A100-SXM4-40GB
        counter_ms 100
        wave 0 const 75
    """)
    facts = here.run("""
        readings = {d.id: [read(meter, d) for _ in range(2000)] for d in devices}
        meter.close()
        tell(basis=[d.basis for d in devices], readings={k: v[:3] + v[-3:] for k, v in readings.items()})
    """)
    assert facts["basis"] == ["counter", "counter"]
    for gpu in here.scenario.gpus:
        for t0_ns, t1_ns, value_uj in facts["readings"][gpu.uuid]:
            # It may be one refresh and one millijoule behind, and never ahead.
            earliest_j = gpu.trace.energy_j(here.since_s(t0_ns) - gpu.counter_s) - 2e-3
            assert earliest_j <= value_uj * 1e-6 <= gpu.trace.energy_j(here.since_s(t1_ns)) + 1e-3


def test_a_device_with_power_only_is_read_by_the_instant_field(machine) -> None:
    here = machine("""
        gpu Tesla P100-PCIE-16GB
        arch 4
        counter 0
        power_ms 20
        wave 0 square 0.1 0.5 50 400
    """)
    facts = here.run("tell(basis=devices[0].basis, values=[read(meter, devices[0])[2] for _ in range(50)])")
    assert facts["basis"] == "power"
    assert set(facts["values"]) <= {50.0, 400.0}


def test_without_power_fields_the_usage_is_read_with_its_lag(machine) -> None:
    here = machine("""
        gpu NVIDIA GeForce RTX 3090
        arch 7
        counter 0
        fields 0
        wave 0 const 200
    """)
    here.t0_ns -= 5_000_000_000  # the driver's mean of the last second is whole
    here.environ["AIOCARBON_FAKE_NVML_T0"] = str(here.t0_ns)
    facts = here.run("tell(lag_s=devices[0].lag_s, watts=read(meter, devices[0])[2])")
    assert facts == {"lag_s": 0.5, "watts": 200.0}


def test_a_lost_gpu_loses_no_other(machine) -> None:
    here = machine("""
        gpu NVIDIA H100
        wave 0 const 300
        fault 0 - lost energy
        fault 0 - lost power
        gpu NVIDIA H100
        wave 0 const 200
        fault 0 0.001 lost
    """)
    facts = here.run("""
        findings = [asdict(f) for f in inventory.findings]
        tell(ids=[d.id for d in devices], read=read(meter, devices[0]), findings=findings)
    """)
    first, second = here.scenario.gpus
    assert facts["ids"] == [second.uuid]
    assert facts["read"][2] > 0
    assert [f["device"] for f in facts["findings"] if f["is_warning"]] == [first.uuid]


def test_a_gpu_lost_between_two_reads_can_be_opened_again_when_it_is_back(machine) -> None:
    here = machine("""
        gpu NVIDIA H100
        wave 0 const 300
        fault @3 @4 lost energy
    """)
    facts = here.run("""
        device = devices[0]
        reads = [read(meter, device) for _ in range(2)]
        meter.close()
        again = attempt(meter.open)
        tell(reads=reads, again=read(meter, again.devices[0]))
    """)
    first, lost = facts["reads"]
    assert lost["error"] == "MeterLostError"
    assert facts["again"][2] >= first[2], "the driver's counter went on"


def test_a_gpu_that_stays_lost_is_unavailable(machine) -> None:
    here = machine("""
        gpu NVIDIA H100
        wave 0 const 300
        fault 10 9999 lost
    """)
    here.environ["AIOCARBON_FAKE_NVML_T0"] = str(here.t0_ns - 20_000_000_000)
    facts = here.run("tell(inventory=inventory)")
    assert facts["inventory"]["error"] == "MeterUnavailableError"
    assert "GPU is lost" in facts["inventory"]["message"]


@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        ("timeout", ["ReadError"] * 5),
        ("unknown", ["ReadError"] * 3 + ["MeterLostError"] * 2),
        ("noperm", ["MeterLostError"] * 5),
        ("reset", ["MeterLostError"] * 5),
    ],
)
def test_faults_of_a_read(machine, fault: str, errors: list[str]) -> None:
    here = machine(f"""
        gpu NVIDIA H100
        wave 0 const 300
        fault @2 - {fault} energy
    """)
    facts = here.run("tell(errors=[read(meter, devices[0])['error'] for _ in range(5)])")
    assert facts["errors"] == errors


def test_a_slow_call_lies_between_its_stamps(machine) -> None:
    here = machine("""
        gpu NVIDIA H100
        latency_us 2000
        wave 0 const 300
    """)
    t0_ns, t1_ns, _ = here.run("tell(read=read(meter, devices[0]))")["read"]
    assert t1_ns - t0_ns >= 2_000_000


def test_a_call_that_hangs_answers_when_its_time_is_over(machine) -> None:
    here = machine("""
        gpu NVIDIA H100
        wave 0 const 300
        fault 0 0.1 hang
    """)
    del here.environ["AIOCARBON_FAKE_NVML_T0"]  # time zero is then the first nvmlInit, after the begin taken here
    facts = here.run(
        "tell(waited_ns=time.monotonic_ns() - began_ns)",
        prelude="import time; began_ns = time.monotonic_ns()" + PRELUDE,
    )
    assert facts["waited_ns"] >= 100_000_000


def test_a_driver_that_does_not_match_its_library(machine) -> None:
    facts = machine("init 18").run("tell(inventory=inventory)")
    assert facts["inventory"]["error"] == "MeterUnavailableError"
    assert "reboot" in facts["inventory"]["remedy"]


def test_a_driver_that_is_not_loaded(machine) -> None:
    here = machine("")
    del here.environ["AIOCARBON_FAKE_NVML"]
    facts = here.run("tell(inventory=inventory)")
    assert facts["inventory"]["error"] == "MeterUnavailableError"
    assert "Driver Not Loaded" in facts["inventory"]["message"]


def test_without_a_driver_library_pynvml_is_not_even_imported(machine, tmp_path: Path) -> None:
    here = machine("")
    # A file that is no library stands before any real one, so this holds on machines with a driver too.
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "libnvidia-ml.so.1").write_bytes(b"")
    here.environ["LD_LIBRARY_PATH"] = str(tmp_path / "none")
    facts = here.run("tell(inventory=inventory, imported='pynvml' in sys.modules)")
    assert facts["inventory"]["error"] == "MeterUnavailableError"
    assert facts["imported"] is False


def test_another_package_called_pynvml_is_told_from_nvidias(machine, tmp_path: Path) -> None:
    here = machine("gpu NVIDIA H100")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pynvml.py").write_text("def nvmlInit(): pass\n")
    here.environ["PYTHONPATH"] = str(tmp_path / "other")
    facts = here.run("tell(inventory=inventory)")
    assert facts["inventory"]["error"] == "MeterUnavailableError"
    assert "nvidia-ml-py" in facts["inventory"]["remedy"]


def test_someone_elses_shutdown_is_mended(machine) -> None:
    facts = machine("gpu NVIDIA H100\nwave 0 const 300").run("""
        import pynvml
        pynvml.nvmlShutdown()
        first = read(meter, devices[0])
        meter.close()
        try:
            pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            tell(first=first, after=error.value)
    """)
    assert facts["first"][2] >= 0
    assert facts["after"] == 1, "the meter took one reference again and gave it back"


def test_visible_devices_choose_the_boards(machine) -> None:
    here = machine("gpu NVIDIA H100\ngpu NVIDIA H100\ngpu NVIDIA H100")
    here.environ["CUDA_VISIBLE_DEVICES"] = "2,0"
    facts = here.run("tell(ids=[d.id for d in devices])")
    uuids = [gpu.uuid for gpu in here.scenario.gpus]
    assert facts["ids"] == [uuids[2], uuids[0]]


# The fake and its twin


def test_library_and_twin_agree_on_power_at_the_same_instant(machine) -> None:
    here = machine("""
        gpu NVIDIA H100
        power_ms 0
        wave 0 ramp 100 400 50
        wave 60 square 3 0.3 80 500
    """)
    here.t0_ns -= 20_000_000_000
    here.environ["AIOCARBON_FAKE_NVML_T0"] = str(here.t0_ns)
    facts = here.run(
        """
        import json, time, pynvml
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        t0 = time.monotonic_ns()
        value = pynvml.nvmlDeviceGetFieldValues(handle, [186, 83])
        print(json.dumps([t0, time.monotonic_ns(), value[0].value.uiVal, value[1].value.ullVal]))
        """,
        prelude="",
    )
    t0_ns, t1_ns, milliwatts, millijoules = facts
    trace = here.scenario.gpus[0].trace
    low_w, high_w = trace.power_w(here.since_s(t0_ns)), trace.power_w(here.since_s(t1_ns))
    assert low_w - 0.001 <= milliwatts / 1000 <= high_w + 0.001
    assert millijoules / 1000 <= trace.energy_j(here.since_s(t1_ns))


def test_an_unreadable_scenario_is_no_quiet_zero(machine, library: Path, tmp_path: Path) -> None:
    here = machine("gpu NVIDIA H100\n")
    here.file.write_text("gpu NVIDIA H100\nwave 0 sawtooth 1\n")
    script = "import pynvml; pynvml.nvmlInit()"
    done = subprocess.run(
        [sys.executable, "-c", script], env=here.environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "sawtooth" in done.stderr


def test_without_a_compiler_the_reason_is_given(tmp_path: Path) -> None:
    with pytest.raises(NoCompilerError, match=r"compiler|Linux"):
        build(tmp_path, compilers=("no-such-compiler",))


def test_a_scenario_that_the_twin_does_not_know_is_told() -> None:
    with pytest.raises(ValueError, match="sawtooth"):
        truth.parse("gpu A\nwave 0 sawtooth 1")
    with pytest.raises(ValueError, match="line 1"):
        truth.parse("wave 0 const 1")


WATTS = st.floats(0, 1000)
WAVES = st.one_of(
    st.builds(truth.Const, WATTS),
    st.builds(truth.Square, st.floats(0.01, 10), st.floats(0, 1), WATTS, WATTS),
    st.builds(truth.Ramp, WATTS, WATTS, st.floats(0.01, 10)),
)
TRACES = st.lists(WAVES, min_size=1, max_size=4).map(
    lambda waves: truth.Trace(tuple((7.0 * i, wave) for i, wave in enumerate(waves)))
)


@given(trace=TRACES, t_s=st.floats(0, 40), step_s=st.floats(0, 5))
def test_energy_rises_by_no_more_than_the_highest_power_allows(trace: truth.Trace, t_s: float, step_s: float) -> None:
    gained_j = trace.energy_j(t_s + step_s) - trace.energy_j(t_s)
    assert -1e-6 <= gained_j <= 1000 * step_s + 1e-6


@given(trace=TRACES, end_s=st.floats(1, 30))
def test_energy_is_the_integral_of_power(trace: truth.Trace, end_s: float) -> None:
    steps = 2000
    width_s = end_s / steps
    summed_j = sum(trace.power_w((i + 0.5) * width_s) for i in range(steps)) * width_s
    # Each edge of a square may fall anywhere in its step: an error of at most 1000 W x one step.
    edges = sum(2 * 7 / wave.period_s + 2 for _, wave in trace.steps if isinstance(wave, truth.Square))
    last = trace.steps[-1][1]
    edges += 2 * 30 / last.period_s if isinstance(last, truth.Square) else 0
    assert abs(trace.energy_j(end_s) - summed_j) <= 1000 * width_s * (edges + len(trace.steps)) + 1e-6
