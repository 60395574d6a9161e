"""Does it still work where there is much of everything? A thousand devices, many readings, and a simulated month.

Memory over ten million readings, the journals of 10,000 nodes and the report of a month are benchmarks of their own
(`memory`, `cluster`, `records`), and `python -m benchmarks scale` runs them too.
"""

from __future__ import annotations

import tempfile
from typing import Any, Final

from benchmarks.progress import joined
from benchmarks.result import Row, at_most, child, info

NAME: Final = "scale"
QUESTION: Final = "what do a thousand devices cost, how many readings are there, and is a month's energy right?"

HOUR_S: Final = 3600
DAY_S: Final = 86_400

MANY: Final = """
import asyncio, json, statistics, sys, time
import aiocarbon
from aiocarbon.meters import Quantity
from aiocarbon.meters.simulated import Constant, SimulatedMeter

devices, seconds, kind = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
waves = {f"sensor-{i}": Constant(100.0 + i) for i in range(devices)}
quantity = Quantity.POWER if kind == "power" else Quantity.ENERGY
meter = SimulatedMeter(wave=waves, quantity=quantity, refresh_s=0.02)

async def main():
    began = time.perf_counter()
    async with aiocarbon.Tracker(location="DK", meters=meter, pue=1.0, offline=True, intensity=100.0) as tracker:
        entered = time.perf_counter() - began
        await asyncio.sleep(3.0)
        said0, cpu0, at0 = (await tracker.snapshot()).overhead, time.process_time(), time.perf_counter()
        await asyncio.sleep(seconds)
        cpu, at = time.process_time() - cpu0, time.perf_counter() - at0
        said = (await tracker.snapshot()).overhead
        waits = []
        for _ in range(10):
            begin = time.perf_counter()
            await tracker.epoch()
            waits.append(time.perf_counter() - begin)
            await asyncio.sleep(0.02)
    report = tracker.report()
    print(json.dumps({
        "enter_ms": entered * 1e3, "cpu": cpu / at, "readings": (said.readings - said0.readings) / at,
        "epoch_ms": statistics.median(waits) * 1e3, "devices": len(report.devices), "coverage": report.coverage,
        "error": report.it_energy_kwh * 3.6e6 / (sum(100.0 + i for i in range(devices)) * report.duration_s) - 1.0,
    }))

asyncio.run(main())
"""

LONG: Final = """
import json, resource, sys, time
from pathlib import Path
import anyio
from aiocarbon._core.identity import alone
from aiocarbon._engine.engine import Engine
from aiocarbon.meters.simulated import SimulatedMeter, Square
from aiocarbon.testing import FakeClock

folder, seconds, epoch_s, interval_s = Path(sys.argv[1]), *map(float, sys.argv[2:])
clock = FakeClock()
waves = {f"GPU-{i}": Square(7.0, 0.5, 60 + i, 600) for i in range(2)}
meter = SimulatedMeter(wave=waves, clock=clock.monotonic_ns)

async def done(verb):
    made = []
    async def go():
        made.append(await verb())
    async with anyio.create_task_group() as group:
        group.start_soon(go)
        while not made:
            await clock.advance(0.01)
    return made[0]

async def main():
    engine = Engine(clock=clock)
    started = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run, started.set)
        await started.wait()
        clock.workers = lambda: engine.limiter.borrowed_tokens
        settings = {"location": "DK", "pue": 1.0, "meters": (meter,), "journal": folder, "offline": True,
                    "interval_s": interval_s, "run_id": "long"}
        session = await engine.open(settings, alone("long", "node"))
        for _ in range(round(seconds / epoch_s)):
            await clock.advance(epoch_s)
            now = clock.monotonic_ns()
            await done(lambda: engine.mark(session, lambda: session.border(now, steps=1)))
        report = await done(lambda: engine.close(session, clock.monotonic_ns(), 0, ended_well=True))
        engine.stop()
    true_j = sum((60 + i + 600) / 2 for i in range(2)) * report.duration_s
    parts = sum(part.it_energy_kwh for part in (*report.epochs, report.outside))
    print(json.dumps({"error": report.it_energy_kwh * 3.6e6 / true_j - 1.0, "days": report.duration_s / 86400,
                      "parts": parts / report.it_energy_kwh - 1.0,
                      "cpu_s": time.process_time(), "epochs": report.epochs_total,
                      "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))

anyio.run(main)
"""

MONTH: Final = """
import json, sys, time
from aiocarbon._core.derive import Derivation
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity, Reading
from aiocarbon._engine.bank import FOLD_MOST
from aiocarbon._engine.engine import KEEP_POINTS_NS

seconds, range_uj = int(sys.argv[1]), 262_143_328_850
device = Device(id="package-0", kind=DeviceKind.CPU, name="a CPU", quantity=Quantity.ENERGY, basis=Basis.COUNTER,
                refresh_s=0.001, counter_range_uj=range_uj, max_power_w=1000.0)
derivation = Derivation(device, pace_ns=1_000_000_000)
began, true_uj = time.process_time(), 0
for i in range(1, seconds + 1):
    t = i * 1_000_000_000 + i * 7919 % 3_000_000  # up to 3 ms late
    true_uj = t // 1000 * 200 + (i % 86_400) * 500  # 200 W, and what a day adds and a night takes back
    derivation.add(Reading(t, t + 20_000, true_uj % range_uj))
    if i == 1:
        first_uj = true_uj
    before = min(t - KEEP_POINTS_NS, derivation.open_from_ns)
    derivation.folded(derivation.curve.fold(before, (), at_most=FOLD_MOST))
true_j = (true_uj - first_uj) * 1e-6
said_j = derivation.curve[-1].energy_j - derivation.curve[0].energy_j
print(json.dumps({"error": said_j / true_j - 1.0, "cpu_s": time.process_time() - began, "wraps": true_uj // range_uj}))
"""


def run(*, quick: bool) -> list[Row]:
    """All figures."""
    return joined(
        {
            "1,000 devices": lambda: _many_rows(quick=quick),
            "a month": lambda: _month_rows(quick=quick),
            "the whole engine": lambda: _long_rows(quick=quick),
        }
    )


def _many_rows(*, quick: bool) -> list[Row]:
    seconds = 3.0 if quick else 30.0
    devices = 1000
    counters: dict[str, Any] = child(MANY, str(devices), str(seconds), "counter")
    sensors: dict[str, Any] = child(MANY, "128", str(seconds), "power")
    of = f"{devices:,} counters every second"
    note = f"{counters['devices']} devices, {counters['readings']:.0f} readings/s, coverage {counters['coverage']:.3f}"
    asked = 128 / 0.02
    return [
        info(f"{of}: of a core", counters["cpu"] * 100, "%", note),
        info(f"{of}: enter", counters["enter_ms"], "ms"),
        info(f"{of}: await epoch(), median", counters["epoch_ms"], "ms"),
        at_most(f"{of}: energy against the truth", abs(counters["error"]) * 100, "%", 1.0),
        info("128 power sensors every 20 ms: readings", sensors["readings"], "1/s", f"{asked:.0f} a second are asked"),
        info("128 power sensors every 20 ms: of a core", sensors["cpu"] * 100, "%"),
        info("128 power sensors every 20 ms: CPU time of a reading", sensors["cpu"] / sensors["readings"] * 1e6, "us"),
    ]


def _month_rows(*, quick: bool) -> list[Row]:
    days = 1 if quick else 30
    heard: dict[str, Any] = child(MONTH, str(days * DAY_S), timeout_s=1200)
    of = f"{days} day{'s' if days > 1 else ''} of a counter that wraps, read every second"
    note = f"{heard['wraps']} wraps; {heard['cpu_s']:.1f} CPU seconds"
    return [at_most(f"{of}: energy against the truth", abs(heard["error"]) * 100, "%", 0.001, note)]


def _long_rows(*, quick: bool) -> list[Row]:
    """Hours, not a month: an hour of the hand-moved clock takes seconds, most of them spent waiting for threads."""
    hours, epoch_s = (1, HOUR_S / 4) if quick else (12, HOUR_S)
    with tempfile.TemporaryDirectory() as folder:
        heard: dict[str, Any] = child(LONG, folder, str(hours * HOUR_S), str(epoch_s), "60", timeout_s=1800)
    of = f"the whole engine through {hours} simulated hour{'s' if hours > 1 else ''}"
    return [
        at_most(f"{of}: energy against the truth", abs(heard["error"]) * 100, "%", 0.1, f"{heard['epochs']} epochs"),
        at_most(f"{of}: epochs and outside against the run", abs(heard["parts"]), "", 1e-9),
        info(f"{of}: CPU time, the clock's included", heard["cpu_s"], "s"),
        info(f"{of}: largest resident memory", heard["mib"], "MiB"),
    ]
