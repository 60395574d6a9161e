"""What does the instrument cost while it runs? CPU seconds beyond those of the same process without it.

The drivers' own calls are taken out: every `pread` and every call of `pynvml` is timed in CPU seconds of its thread.
All that our meters, the engine and Python's threads do around them stays in.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.fake_nvml import NoCompilerError, build, child_environ
from benchmarks.pairs import bootstrap
from benchmarks.progress import each
from benchmarks.result import ROOT, Row, at_most, child, info, skipped
from benchmarks.workloads.steps import SEED

NAME: Final = "overhead"
QUESTION: Final = "how much of a core does it take at the default interval, beyond the drivers' own calls?"

CHILD: Final = """
import asyncio, json, os, sys, time
from pathlib import Path

asked = json.loads(sys.argv[1])

def used():
    return time.process_time(), time.monotonic()

class Timed:
    # Sums the CPU time of the calls of some functions, and knows what the summing costs by itself.
    def __init__(self):
        self.cpu_ns = self.calls = 0
        nothing = self.of(lambda: None)
        began = time.thread_time_ns()
        for _ in range(10_000):
            nothing()
        self.summing_ns = (time.thread_time_ns() - began) / self.calls
        self.cpu_ns = self.calls = 0
    def of(self, function):
        def timed(*arguments):
            at = time.thread_time_ns()
            try:
                return function(*arguments)
            finally:
                self.cpu_ns += time.thread_time_ns() - at
                self.calls += 1
        return timed

class TimedModule:
    # pynvml, with the driver's calls timed.
    def __init__(self, module, timed):
        self._module, self._timed = module, timed
    def __getattr__(self, name):
        found = getattr(self._module, name)
        if name.startswith("nvmlDeviceGet") and callable(found):
            found = self._timed.of(found)
        setattr(self, name, found)
        return found

def make(kind, timed):
    if kind == "rapl":
        from aiocarbon.meters.rapl import RaplMeter
        return RaplMeter(root=Path(asked["powercap"]), pread=timed.of(os.pread))
    import pynvml
    from aiocarbon.meters.nvml import NvmlMeter
    return NvmlMeter(nvml=TimedModule(pynvml, timed))

async def over(seconds):
    cpu0, at0 = used()
    await asyncio.sleep(seconds)
    cpu, at = used()
    return (cpu - cpu0) / (at - at0)

async def main():
    import aiocarbon
    heard = {"bare": await over(asked["bare_s"])}
    if asked["meters"]:
        timed = Timed()
        meters = [make(kind, timed) for kind in asked["meters"]]
        async with aiocarbon.Tracker(location="DK", meters=meters, journal=asked["journal"]) as tracker:
            await asyncio.sleep(5.0)  # probing, late imports and hearing of each tick are no steady state
            cpu_ns, calls = timed.cpu_ns, timed.calls
            said0 = (await tracker.snapshot()).overhead
            at0 = time.monotonic()
            heard["all"] = await over(asked["seconds"])
            said = (await tracker.snapshot()).overhead
            wall = time.monotonic() - at0
            calls = timed.calls - calls
            # What was summed holds about half of the summing's own cost; all of it belongs to neither side.
            heard["driver"] = (timed.cpu_ns - cpu_ns) * 1e-9 / wall
            heard["summing"] = calls * timed.summing_ns / 2 * 1e-9 / wall
            heard["calls"] = calls / wall
            heard["said"] = (said.cpu_s - said0.cpu_s) / wall
            heard["readings"] = (said.readings - said0.readings) / wall
        heard["devices"] = len(tracker.report().devices)
    print(json.dumps(heard))

asyncio.run(main())
"""

MOVER: Final = """
import os, sys, time
files = sys.argv[2:]
end = time.monotonic() + float(sys.argv[1])
value = 10**9
while time.monotonic() < end:
    value += 25_000_000
    for file in files:
        with open(file, "r+") as f:
            f.write(f"{value:d}\\n")
    time.sleep(0.25)
print("null")
"""


class Case(NamedTuple):
    """What is read.

    Attributes:
        name: In the table.
        meters: Which of ours.
        zones: Domains of a powercap tree.
        scenario: Devices of the fake NVML.
        limit: Percent of a core; None: none is asked for.
        has_journal: True if a journal is written, for whose newest second the engine hears of each tick.
    """

    name: str
    meters: tuple[str, ...]
    zones: tuple[str, ...]
    scenario: str
    limit: float | None
    has_journal: bool = False


CASES: Final = (
    Case("one RAPL socket", ("rapl",), ("package-0",), "", 0.1),
    Case("one RAPL socket, with a journal", ("rapl",), ("package-0",), "", None, has_journal=True),
    Case(
        "eight GPUs and four zones",
        ("nvml", "rapl"),
        ("package-0", "package-0/dram", "package-1", "package-1/dram"),
        "".join(f"gpu NVIDIA H100\nwave 0 square {1.3 + i / 5:g} 0.5 {60 + i} 600\n" for i in range(8)),
        0.15,
    ),
    Case(
        "power-only GPU, read every 20 ms",
        ("nvml",),
        (),
        "gpu Tesla P100\narch 4\ncounter 0\npower_ms 20\nwave 0 square 2 0.5 50 250\n",
        1.0,
    ),
)


def run(*, quick: bool) -> list[Row]:
    """All cases, in turn: what is measured is a fraction of a percent of a core."""
    seconds, rounds = (5.0, 1) if quick else (10.0, 10)  # at rest the engine hears of ticks every 5 s
    try:
        library, why = build(ROOT / "benchmarks" / "fake_nvml" / "build"), ""
    except NoCompilerError as error:
        library, why = None, str(error)
    cases = [case for case in CASES if library is not None or "nvml" not in case.meters]
    heard: dict[str, list[dict[str, float]]] = {case.name: [] for case in cases}
    for case in each(cases * rounds, lambda case: case.name):
        heard[case.name].append(_one(case, seconds, library))
    rows: list[Row] = []
    for case in CASES:
        if case.name in heard:
            rows += _rows(case, heard[case.name])
        else:
            rows.append(skipped(case.name, "% of a core", why, case.limit))
    return rows


def _one(case: Case, seconds: float, library: Path | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        files = _powercap(Path(folder), case.zones)
        scenario = Path(folder) / "scenario"
        scenario.write_text(case.scenario)
        environ = None if library is None or not case.scenario else child_environ(library, scenario)
        asked = {
            "meters": case.meters,
            "powercap": folder,
            "journal": str(Path(folder) / "runs") if case.has_journal else None,
            "bare_s": seconds / 3,
            "seconds": seconds,
        }
        moving_s = seconds * 4 / 3 + 8.0
        mover = pool.submit(child, MOVER, str(moving_s), *files) if files else None
        heard: dict[str, float] = child(CHILD, json.dumps(asked), environ=environ)
        if mover is not None:
            mover.result()
    return heard


def _rows(case: Case, heard: list[dict[str, float]]) -> list[Row]:
    def percent(of: dict[str, float]) -> float:
        return (of["all"] - of["bare"] - of["driver"] - of["summing"]) * 100

    ours = [percent(h) for h in heard]
    first = heard[0]
    note = f"median of {len(heard)}, {min(ours):.3f} to {max(ours):.3f}"
    if len(ours) > 2:
        note += ", 95 % interval {:.3f} to {:.3f}".format(*bootstrap(ours, seed=SEED))
    note += f"; {first['readings']:.0f} readings/s"
    unit = "% of a core"
    note, value = f"{note}, {first['devices']:.0f} devices", statistics.median(ours)
    return [
        info(case.name, value, unit, note) if case.limit is None else at_most(case.name, value, unit, case.limit, note),
        info(
            f"{case.name}: with the drivers' calls",
            statistics.median((h["all"] - h["bare"]) * 100 for h in heard),
            unit,
        ),
        info(f"{case.name}: the drivers' calls", statistics.median(h["driver"] * 100 for h in heard), unit),
        info(
            f"{case.name}: report.overhead says, drivers included",
            statistics.median(h["said"] * 100 for h in heard),
            unit,
        ),
    ]


def _powercap(folder: Path, zones: tuple[str, ...]) -> list[str]:
    """A powercap tree with these domains; returns the counters' files."""
    files = []
    packages = [zone for zone in zones if "/" not in zone]
    for zone in zones:
        package, _, part = zone.partition("/")
        index = packages.index(package)
        path = folder / (f"intel-rapl:{index}:0" if part else f"intel-rapl:{index}")
        path.mkdir()
        (path / "name").write_text(f"{part or package}\n")
        (path / "max_energy_range_uj").write_text("262143328850\n")
        (path / "energy_uj").write_text("1000000000\n")
        files.append(str(path / "energy_uj"))
    return files
