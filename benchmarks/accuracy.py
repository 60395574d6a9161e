"""Is the energy right? A run and its epochs against devices whose joules are known in closed form.

Every scenario is a file of the fake NVML (format: benchmarks/fake_nvml/fake_nvml.c) and runs in a process of its own:
GPUs through the compiled driver and the real `pynvml`, CPUs through a meter that wraps as RAPL does. The child stamps
its marks on CLOCK_MONOTONIC; the truth between the stamps is worked out here.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from benchmarks import truth
from benchmarks.fake_nvml import NoCompilerError, build, child_environ
from benchmarks.progress import workers
from benchmarks.result import ROOT, ChildError, Row, at_most, child, info, skipped

NAME: Final = "accuracy"
QUESTION: Final = "how far are a run's and an epoch's joules from the truth?"
AT_ONCE: Final = 4
BESIDE_MS: Final = 20.0
"""Between the program's last stamp and that of the run's end, which comes a little later."""
OUTSIDE: Final = "windows with the truth outside the bounds"

CHILD: Final = """
import asyncio, json, sys, time
from pathlib import Path
from aiocarbon import Tracker
from benchmarks import truth
from benchmarks.devices import ScenarioMeter

asked = json.loads(sys.argv[1])
if asked["meter"] == "nvml":
    meters = "nvml"
else:
    meters = ScenarioMeter(truth.load(Path(asked["file"])), asked["t0_ns"], asked["range_uj"])

def window(report):
    return {
        "duration_s": report.duration_s, "coverage": report.coverage, "basis": report.basis,
        "kwh": report.it_energy_kwh, "low_kwh": report.it_energy_kwh_low, "high_kwh": report.it_energy_kwh_high,
        "devices": {d.id: [d.it_energy_kwh, d.it_energy_kwh_low, d.it_energy_kwh_high, d.coverage]
                    for d in report.devices},
    }

async def main():
    marks, at_once = [], []
    entering_ns = time.monotonic_ns()
    async with Tracker(location="DK", pue=1.0, meters=meters) as tracker:
        entered_ns = time.monotonic_ns()
        for index in range(asked["epochs"]):
            if index == asked["blocked"]:
                time.sleep(asked["blocked_s"])  # what a training that never awaits does to its loop
            else:
                await asyncio.sleep(asked["epoch_s"])
            marks.append(time.monotonic_ns())
            at_once.append(window(await tracker.epoch()))
        await asyncio.sleep(asked["tail_s"])
        end_ns = time.monotonic_ns()
    report = tracker.report()
    print(json.dumps({
        "entering_ns": entering_ns, "entered_ns": entered_ns, "end_ns": end_ns,
        "marks": marks, "at_once": at_once, "run": window(report),
        "epochs": [window(epoch) for epoch in report.epochs], "warnings": report.warnings,
        "cpu_s": report.overhead.cpu_s,
    }))

asyncio.run(main())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One scenario.

    Attributes:
        name: What it is called in the table.
        text: The scenario file.
        meter: "nvml", or "scenario" for CPUs.
        is_power: True if energy is integrated from a power sensor: other limits.
        range_uj: Where the counters wrap.
        blocked: Index of the epoch in which the training blocks its loop; -1 for none.
        lost_s: Scenario time at which the first GPU is lost; None if none is.
    """

    name: str
    text: str
    meter: str = "nvml"
    is_power: bool = False
    range_uj: int | None = None
    blocked: int = -1
    lost_s: float | None = None


def _gpu(*lines: str, name: str = "NVIDIA A100-SXM4-40GB", arch: int = 7) -> str:
    return "\n".join((f"gpu {name}", f"arch {arch}", *lines, ""))


def _cpu(uuid: str, wave: str) -> str:
    return "\n".join((f"gpu CPU {uuid}", f"uuid {uuid}", "counter_ms 1", f"wave 0 {wave}", ""))


SQUARE: Final = "wave 0 square 2 0.5 50 400"
POWER_ONLY: Final = ("counter 0", "power_ms 100", SQUARE)
LOST_S: Final = 7.5

CASES: Final = (
    Case(name="constant, GPU counter 20 ms", text=_gpu("wave 0 const 300")),
    Case(name="square 2 s, GPU counter 20 ms", text=_gpu(SQUARE)),
    Case(name="square 2 s, GPU counter 100 ms", text=_gpu("counter_ms 100", SQUARE)),
    Case(name="ramp 50-400 W in 15 s, GPU counter 100 ms", text=_gpu("counter_ms 100", "wave 0 ramp 50 400 15")),
    Case(
        name="wrap every 1 kJ, one socket",
        meter="scenario",
        range_uj=1_000_000_000,
        text=_cpu("rapl:package-0", "square 2 0.5 60 280"),
    ),
    Case(
        name="two sockets with dram, wrap at 262 kJ",
        meter="scenario",
        range_uj=262_143_328_850,
        text=_cpu("rapl:package-0", "square 2 0.5 60 280")
        + _cpu("rapl:package-0/dram", "const 12")
        + _cpu("rapl:package-1", "ramp 60 200 12")
        + _cpu("rapl:package-1/dram", "square 0.7 0.3 8 20"),
    ),
    Case(
        name="eight GPUs, counters 20 and 100 ms",
        text="".join(
            _gpu(f"counter_ms {100 if i % 2 else 20}", f"wave 0 square {1.3 + 0.2 * i:g} 0.5 {60 + i} {300 + 10 * i}")
            for i in range(8)
        ),
    ),
    Case(name="power-only GPU, sensor 100 ms", is_power=True, text=_gpu(*POWER_ONLY, name="Tesla P100", arch=4)),
    Case(
        name="power-only GPU, sensor 20 ms",
        is_power=True,
        text=_gpu("counter 0", "power_ms 20", SQUARE, name="Tesla P100", arch=4),
    ),
    Case(
        name="power-only GPU, edges on the ticks of its sensor",
        is_power=True,
        text=_gpu("counter 0", "power_ms 100", "wave 0 square 2.3 0.4 50 250", name="Tesla P100", arch=4),
    ),
    Case(
        name="GPU lost half-way, another goes on",
        lost_s=LOST_S,
        text=_gpu(f"fault {LOST_S} - lost", SQUARE) + _gpu("wave 0 square 1.7 0.5 60 380"),
    ),
    Case(name="loop blocked by the training", blocked=1, text=_gpu("counter_ms 100", SQUARE)),
    Case(
        name="loop blocked, power-only GPU",
        blocked=1,
        is_power=True,
        text=_gpu(*POWER_ONLY, name="Tesla P100", arch=4),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long a case runs."""

    epochs: int = 5
    epoch_s: float = 3.0
    tail_s: float = 0.7
    blocked_s: float = 15.0


QUICK: Final = Lengths(epochs=3, epoch_s=1.0, tail_s=0.3, blocked_s=3.0)


def measure(case: Case, folder: Path, library: Path | None, lengths: Lengths) -> list[Row]:
    """Run one case in a child and compare it with the truth."""
    folder.mkdir()
    text = case.text
    if case.lost_s is not None and lengths is QUICK:
        text = text.replace(f"fault {LOST_S}", "fault 2")
    file = folder / "scenario"
    file.write_text(text)
    t0_ns = time.monotonic_ns()
    environ = None if library is None or case.meter != "nvml" else child_environ(library, file, t0_ns=t0_ns)
    asked = {
        "file": str(file),
        "meter": case.meter,
        "t0_ns": t0_ns,
        "range_uj": case.range_uj,
        "epochs": lengths.epochs,
        "epoch_s": lengths.epoch_s,
        "tail_s": lengths.tail_s,
        "blocked": case.blocked,
        "blocked_s": lengths.blocked_s,
    }
    heard = child(CHILD, json.dumps(asked), environ=environ)
    lost_ns = None if case.lost_s is None else t0_ns + round((2.0 if lengths is QUICK else case.lost_s) * 1e9)
    return Comparison(case, truth.parse(text), t0_ns, heard, lost_ns).rows()


@dataclass(frozen=True)
class Comparison:
    """What a child said against the truth between its stamps."""

    case: Case
    scenario: truth.Scenario
    t0_ns: int
    heard: dict[str, Any]
    lost_ns: int | None

    def rows(self) -> list[Row]:
        """The figures of the case."""
        run_limit, epoch_limit = (1.0, 3.0) if self.case.is_power else (0.1, 0.5)
        run = self.heard["run"]
        end_ns = self.heard["end_ns"]
        begin_ns = end_ns - round(run["duration_s"] * 1e9)
        borders = [begin_ns, *self.heard["marks"]]
        if self.lost_ns is not None:
            return self._lost_rows(begin_ns, end_ns)
        windows = list(pairwise(borders))
        finals = [self._error(e, a, b) for e, (a, b) in zip(self.heard["epochs"], windows, strict=True)]
        firsts = [self._error(e, a, b) for e, (a, b) in zip(self.heard["at_once"], windows, strict=True)]
        whole = self._error(run, begin_ns, end_ns)
        outside = sum(not e.is_inside for e in [*finals, whole])
        name, worst = self.case.name, max(finals, key=lambda e: e.knowable_percent)
        whole_percent = whole.knowable_percent if self.case.is_power else abs(whole.percent)
        at_once = max(abs(e.percent) for e in firsts)
        return [
            at_most(f"{name}: run", whole_percent, "%", run_limit, whole.story),
            at_most(f"{name}: worst epoch", worst.knowable_percent, "%", epoch_limit, worst.story),
            info(f"{name}: worst epoch, as epoch() returned it", at_once, "%"),
            info(f"{name}: {OUTSIDE}", outside, "", f"of {len(windows) + 1}"),
            Row(f"{name}: coverage", run["coverage"], "", 1.0, run["coverage"] >= 0.99, "at least 0.99"),
            self._length_row(begin_ns),
        ]

    def _length_row(self, begin_ns: int) -> Row:
        """The truth is that of as long as the run says: this holds the length against the program's own clock."""
        early_ns, late_ns = self.heard["entering_ns"] - begin_ns, begin_ns - self.heard["entered_ns"]
        beside_ms = max(early_ns, late_ns, 0) * 1e-6
        return at_most(f"{self.case.name}: begin of the run beside its entering", beside_ms, "ms", BESIDE_MS)

    def _error(self, window: dict[str, Any], begin_ns: int, end_ns: int) -> Error:
        joules = self.scenario.joules(begin_ns, end_ns, t0_ns=self.t0_ns)
        hidden_j = sum(self._hidden_j(gpu, begin_ns, end_ns) for gpu in self.scenario.gpus)
        return Error(
            true_j=sum(joules.values()),
            said_j=window["kwh"] * 3.6e6,
            low_j=window["low_kwh"] * 3.6e6,
            high_j=window["high_kwh"] * 3.6e6,
            hidden_j=hidden_j,
        )

    def _hidden_j(self, gpu: truth.Gpu, begin_ns: int, end_ns: int) -> float:
        """What the sensor's refresh hides from any reader in a window, joules."""
        begin_s, end_s = (begin_ns - self.t0_ns) * 1e-9, (end_ns - self.t0_ns) * 1e-9
        if not self.case.is_power:
            return _bend_j(gpu, begin_s) + _bend_j(gpu, end_s)
        return abs(_sampled_j(gpu, begin_s, end_s) - gpu.trace.energy_j(end_s) + gpu.trace.energy_j(begin_s))

    def _lost_rows(self, begin_ns: int, end_ns: int) -> list[Row]:
        """The GPU that stays is judged as ever; of the lost one, what was said until its last reading."""
        name = self.case.name
        lost, stays = self.scenario.gpus
        devices = self.heard["run"]["devices"]
        said_kwh, low_kwh, high_kwh, lost_coverage = devices[lost.uuid]
        known_ns = begin_ns + round(lost_coverage * (end_ns - begin_ns))
        true_j = self.scenario.joules(begin_ns, end_ns, t0_ns=self.t0_ns)
        until_j = self.scenario.joules(begin_ns, known_ns, t0_ns=self.t0_ns)[lost.uuid]
        lost_percent = (said_kwh * 3.6e6 / until_j - 1) * 100
        stays_percent = (devices[stays.uuid][0] * 3.6e6 / true_j[stays.uuid] - 1) * 100
        told = any(lost.uuid in warning and "lost" in warning for warning in self.heard["warnings"])
        is_inside = low_kwh * 3.6e6 <= true_j[lost.uuid] <= high_kwh * 3.6e6
        assert self.lost_ns is not None
        unread_s = (self.lost_ns - known_ns) * 1e-9
        return [
            at_most(f"{name}: run of the other", abs(stays_percent), "%", 0.1, f"{stays_percent:+.3f} %"),
            at_most(f"{name}: the lost one, as far as covered", abs(lost_percent), "%", 1.0, f"{lost_percent:+.3f} %"),
            Row(
                f"{name}: covered until before the loss",
                unread_s,
                "s",
                1.1,
                -0.2 <= unread_s <= 1.1,
                f"coverage {lost_coverage:.3f}; counters are read once a second",
            ),
            at_most(f"{name}: losses not told in warnings", float(not told), "", 0),
            Row(
                f"{name}: truth of the whole run outside the bounds",
                float(not is_inside),
                "",
                0,
                is_inside,
                f"{low_kwh * 3.6e6:.0f} .. {high_kwh * 3.6e6:.0f} J, true {true_j[lost.uuid]:.0f} J",
            ),
        ]


def _bend_j(gpu: truth.Gpu, t_s: float) -> float:
    """Joules that a counter hides at an instant from a reader who saw its every refresh and drew straight lines."""
    before_s = math.floor(t_s / gpu.counter_s) * gpu.counter_s
    a, b = gpu.trace.energy_j(before_s), gpu.trace.energy_j(before_s + gpu.counter_s)
    return abs(a + (b - a) * (t_s - before_s) / gpu.counter_s - gpu.trace.energy_j(t_s))


def _sampled_j(gpu: truth.Gpu, begin_s: float, end_s: float) -> float:
    """Joules that a reader who saw every refresh of a power sensor would state, by straight lines between them."""
    step = gpu.power_s
    first, last = math.ceil(begin_s / step), math.floor(end_s / step)
    watts = [gpu.trace.power_w(k * step + 1e-9) for k in range(first, last + 1)]
    inner_j = math.fsum((a + b) / 2 * step for a, b in pairwise(watts))
    return inner_j + watts[0] * (first * step - begin_s) + watts[-1] * (end_s - last * step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """A window's energy as it was said and as it was, joules."""

    true_j: float
    said_j: float
    low_j: float
    high_j: float
    hidden_j: float

    @property
    def percent(self) -> float:
        """Error of the central value."""
        return (self.said_j / self.true_j - 1) * 100

    @property
    def knowable_percent(self) -> float:
        """Error, without its sign, beyond what the sensor's refresh hides from any reader."""
        return max(abs(self.percent) - self.hidden_j / self.true_j * 100, 0.0)

    @property
    def story(self) -> str:
        """The error as it is, and what part of it no reader could know."""
        return f"{self.percent:+.3f} % of {self.true_j:.0f} J; hidden by the refresh: {self.hidden_j:.1f} J"

    @property
    def is_inside(self) -> bool:
        """True if the truth lies between the bounds, but for a microwatt-hour of the stamps."""
        return self.low_j - 3.6e-3 <= self.true_j <= self.high_j + 3.6e-3


def told(case: Case, rows: Callable[[], list[Row]]) -> list[Row]:
    """The figures of a case, or that it failed: the others' are none the worse for it."""
    try:
        return rows()
    except ChildError as error:
        return [Row(f"{case.name}: run", None, "%", ok=False, note=f"failed: {error.last_line[:150]}")]


def run(*, quick: bool, only: str = "") -> list[Row]:
    """All cases, or those whose name holds a text; several at once, since they mostly sleep."""
    cases = [case for case in CASES if only in case.name]
    lengths = QUICK if quick else Lengths()
    try:
        library = build(ROOT / "benchmarks" / "fake_nvml" / "build")
    except NoCompilerError as error:
        library, why = None, str(error)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, workers(AT_ONCE) as pool:
        # The longest first, so that they do not run alone in the end.
        order = sorted(range(len(cases)), key=lambda i: cases[i].blocked < 0)
        futures = {
            i: pool.submit(measure, cases[i], Path(folder) / str(i), library, lengths)
            for i in order
            if library is not None or cases[i].meter != "nvml"
        }
        for i, case in enumerate(cases):
            rows += told(case, futures[i].result) if i in futures else [skipped(case.name, "%", why)]
    outside = [row for row in rows if row.metric.endswith(OUTSIDE) and row.value is not None]
    windows = sum(int(row.note.rpartition(" ")[2]) for row in outside)
    if windows:
        percent = 100 * sum(row.value or 0.0 for row in outside) / windows
        rows.append(at_most(f"all: {OUTSIDE}", percent, "%", 10, f"of {windows}; the bounds are stated as 90 %"))
    return rows
