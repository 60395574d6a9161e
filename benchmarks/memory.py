"""How much memory does it take, and does it stay there? Resident memory with everything on, and over many readings."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.fake_nvml import NoCompilerError, build, child_environ
from benchmarks.progress import joined
from benchmarks.result import ROOT, Row, at_most, child, info

NAME: Final = "memory"
QUESTION: Final = "how much resident memory does it take, and does that grow with the readings?"

RSS: Final = """
def rss_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
"""

BARE: Final = f"import os\n{RSS}\nprint(rss_mib())"

EVERYTHING: Final = f"""
import os, sys, time
{RSS}
import asyncio
os.environ["AIOCARBON_CACHE"] = "none"  # which may know that no source answers: nobody would be asked
async def main():
    import json
    import aiocarbon
    before = rss_mib()
    async with aiocarbon.Tracker(location="DK", journal=sys.argv[1]) as tracker:
        most, patience = 0.0, time.monotonic() + 30.0
        while "aiohttp" not in sys.modules and time.monotonic() < patience:
            await asyncio.sleep(0.1)  # what asks for intensities is loaded seconds behind the entering
        for _ in range(3):
            await asyncio.sleep(1.0)
            tracker.step()
            await tracker.epoch()
            most = max(most, rss_mib())
        async for report in tracker.stream():
            break
        most = max(most, rss_mib())
    devices = len(tracker.report().devices)
    print(json.dumps([before, max(most, rss_mib()), devices, "aiohttp" in sys.modules]))
asyncio.run(main())
"""

READINGS: Final = f"""
import json, os, sys, time
{RSS}
from aiocarbon._core.derive import Derivation
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity, Reading
from aiocarbon._engine.bank import FOLD_MOST
from aiocarbon._engine.engine import KEEP_POINTS_NS

total, kind = int(sys.argv[1]), sys.argv[2]
is_counter = kind == "counter"
pace_ns = 1_000_000_000 if is_counter else 20_000_000
device = Device(
    id="x", kind=DeviceKind.GPU, name="x", quantity=Quantity.ENERGY if is_counter else Quantity.POWER,
    basis=Basis.COUNTER, refresh_s=0.02,
)
derivation = Derivation(device, pace_ns=pace_ns)
tick = max(1_000_000_000 // pace_ns, 1)  # the engine folds once a tick of 1 s
marks, most_points = [], 0
# The first stretch fills what is kept: ten minutes of points.
warm = max(2 * KEEP_POINTS_NS // pace_ns, 2000)
began = time.process_time()
for i in range(1, total + warm + 1):
    t = i * pace_ns
    derivation.add(Reading(t, t + 20_000, i * 300_000_000 if is_counter else 200.0 + i % 7))
    if i % tick == 0:
        before = min(t - KEEP_POINTS_NS, derivation.open_from_ns)
        derivation.folded(derivation.curve.fold(before, (), at_most=FOLD_MOST))
    if i >= warm and (i - warm) % max(total // 20, 1) == 0:
        marks.append(rss_mib())
        most_points = max(most_points, len(derivation.curve))
us = (time.process_time() - began) / (total + warm) * 1e6
joules = derivation.curve[-1].energy_j - derivation.curve[0].energy_j
print(json.dumps([marks, most_points, us, joules]))
"""

ENGINE: Final = f"""
import asyncio, json, os, sys
{RSS}
import aiocarbon
from aiocarbon.meters import Quantity
from aiocarbon.meters.simulated import Constant, SimulatedMeter

async def main():
    seconds, devices = float(sys.argv[1]), 64
    waves = {{f"sensor-{{i}}": Constant(100.0 + i) for i in range(devices)}}
    # Power sensors refreshed as fast as any is read: the most readings that the engine ever takes.
    meter = SimulatedMeter(wave=waves, quantity=Quantity.POWER, refresh_s=0.02)
    # No intensity is asked for: what does that is loaded once, and is no growth.
    async with aiocarbon.Tracker(location="DK", meters=meter, interval_s=0.1, offline=True) as tracker:
        await asyncio.sleep(min(10.0, seconds / 3))
        first = rss_mib()
        taken = (await tracker.snapshot()).overhead.readings
        await asyncio.sleep(seconds)
        last = rss_mib()
        taken = (await tracker.snapshot()).overhead.readings - taken
    print(json.dumps([first, last, taken]))
asyncio.run(main())
"""

SCENARIO: Final = "".join(f"gpu NVIDIA H100\nwave 0 square {1.3 + i / 5:g} 0.5 {60 + i} 600\n" for i in range(8))


def run(*, quick: bool) -> list[Row]:
    """All figures."""
    return joined(
        {
            "everything running": _everything_rows,
            "readings": lambda: _reading_rows(200_000 if quick else 10_000_000),
            "the whole engine": lambda: _engine_rows(4.0, 1) if quick else _engine_rows(60.0, 3),
        }
    )


def _everything_rows() -> list[Row]:
    bare = child(BARE)
    with tempfile.TemporaryDirectory() as folder:
        environ, what = None, "the default meters and a journal"
        try:
            library = build(ROOT / "benchmarks" / "fake_nvml" / "build")
        except NoCompilerError:
            pass  # the machine's own meters are then all there is
        else:
            file = Path(folder) / "scenario"
            file.write_text(SCENARIO)
            environ, what = child_environ(library, file), f"eight GPUs by pynvml, {what}, a stream"
        heard = [child(EVERYTHING, str(Path(folder) / "runs"), environ=environ) for _ in range(2)]
    before, most, devices, has_client = heard[-1]  # the first one may compile what it imports, which takes memory
    what += ", the HTTP client" if has_client else ", and NO HTTP client: it was not loaded within 30 s"
    return [
        at_most("above the bare interpreter, all running", most - bare, "MiB", 40, f"{what}; {devices} devices"),
        info("above the bare interpreter, imported only", before - bare, "MiB", "with asyncio and json"),
        info("the bare interpreter", bare, "MiB"),
    ]


def _reading_rows(total: int) -> list[Row]:
    rows = []
    for kind in ("counter", "power"):
        heard: list[Any] = child(READINGS, json.dumps(total), kind, timeout_s=1200)
        marks, points, us, _ = heard
        growth = max(marks) - marks[0]
        millions = f"{total / 1e6:g} million"
        rows += [
            at_most(f"growth over {millions} {kind} readings", growth, "MiB", 1.0, f"at most {points} points kept"),
            info(f"CPU time of a {kind} reading's derivation", us, "us"),
        ]
    return rows


def _engine_rows(seconds: float, processes: int) -> list[Row]:
    """Of several processes: what one allocator keeps by chance is no growth."""
    heard = [child(ENGINE, str(seconds)) for _ in range(processes)]
    # Ten minutes of points are kept on purpose, 48 bytes each in arrays up to 1/8 larger.
    grown = [(last - first, readings * 48 * 1.125 / 2**20) for first, last, readings in heard]
    beyond = [max(growth - kept, 0.0) for growth, kept in grown]
    note = f"median of {processes} processes, {min(beyond):.2f} to {max(beyond):.2f}; {heard[0][2]} readings in one"
    return [
        at_most("growth through the engine beyond the points kept", statistics.median(beyond), "MiB", 2.0, note),
        info("growth through the engine as it is", statistics.median(growth for growth, _ in grown), "MiB"),
    ]
