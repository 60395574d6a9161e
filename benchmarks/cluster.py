"""Do the journals of 10,000 nodes become one report? Bytes and writes at their real pace, and what the merge takes."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.progress import joined
from benchmarks.result import Row, at_most, child, info

NAME: Final = "cluster"
QUESTION: Final = "what do the journals of 10,000 nodes cost to write, and to put together?"

NODES: Final = 10_000
FEW: Final = 1_000
LIMIT_S: Final = 20.0
GROWTH_MIB: Final = 16.0
"""Between 1,000 and 10,000 files: 1.8 kB a node, for its name, its energy and the time it told."""

HOUR_S: Final = 3600
EPOCH_S: Final = 300

RECORDED: Final = """
import json, os, sys
from pathlib import Path
import anyio
from aiocarbon._core.identity import alone
from aiocarbon._engine.engine import Engine
from aiocarbon.meters.simulated import SimulatedMeter, Square
from aiocarbon.testing import FakeClock

folder, devices, seconds, interval_s = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
clock = FakeClock()
waves = {f"GPU-{i:08x}-0000-4000-8000-00000000abcd": Square(1.3 + i / 5, 0.5, 60 + i, 600) for i in range(devices)}
meter = SimulatedMeter(wave=waves, refresh_s=0.02, clock=clock.monotonic_ns)

async def done(verb):
    made = []
    async def go():
        made.append(await verb())
    async with anyio.create_task_group() as group:
        group.start_soon(go)
        while not made:
            await clock.advance(0.01)

async def main():
    engine = Engine(clock=clock)
    started = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run, started.set)
        await started.wait()
        clock.workers = lambda: engine.limiter.borrowed_tokens
        settings = {"location": "DK", "pue": 1.2, "meters": (meter,), "journal": folder, "offline": True,
                    "node": "node-00001", "interval_s": interval_s, "run_id": "job"}
        session = await engine.open(settings, alone("job", "node-00001"))
        for _ in range(seconds // 300):
            await clock.advance(300.0)
            now = clock.monotonic_ns()
            await done(lambda: engine.mark(session, lambda: session.border(now, steps=100)))
        await done(lambda: engine.close(session, clock.monotonic_ns(), 0, ended_well=True))
        engine.stop()

anyio.run(main)
(path,) = folder.rglob("*.jsonl")
kinds = {}
for line in path.read_bytes().splitlines(keepends=True):
    kind = json.loads(line).get("k", "header")
    many, size = kinds.get(kind, (0, 0))
    kinds[kind] = (many + 1, size + len(line))
print(json.dumps(kinds))
"""

MADE: Final = """
import dataclasses, json, math, sys
from pathlib import Path
from aiocarbon._core.intensity import IntensityValue, Location, Pue, Quality
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon.journal import records
from aiocarbon.journal.read import load

S = 10**9
folder, nodes, devices = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
run = folder / "job"
run.mkdir(parents=True)
# Five-minute values of one zone, which all nodes hear; epochs of five minutes that end beside the minutes.
values = [IntensityValue(g_per_kwh=100.0 + i, low_g_per_kwh=90.0 + i, high_g_per_kwh=110.0 + i, source="a source",
                         zone="DK", quality=Quality.LIVE) for i in range(13)]
marks = [(m, 7 * S + m * 300 * S) for m in range(13)]

def watts(node, n):
    return 200 + (node * 37 + n * 11) % 400

def lines(node, report):
    # Each node has booted at its own time, and its wall clock stands up to five minutes beside the others'.
    boot, wall = node * 977 * S + 10**15, 1_800_000_000 * S + (node * 7919 % 600_000 - 300_000) * 10**6
    yield {"schema": records.SCHEMA, "run_id": "job", "name": "", "host": f"node-{node:05d}", "pid": 4000 + node,
           "boot_id": f"{node:08x}-0000-4000-8000-000000000000", "version": "0", "interval_s": 1.0,
           **records.place_record(LOCATION, PUE), "t": boot, "wall_ns": wall,
           "job": "slurm-c-1", "attempt": "slurm-c-1.0.step-0", "restart": 0, "rank": node, "world": nodes,
           "local_rank": 0, "expected_nodes": f"node-[00000-{nodes - 1:05d}]", "expected_node_count": nodes,
           "expected_tasks": nodes, "machine": f"node-{node:05d}", "rules": ["run id of the SLURM job"]}
    for n in range(devices):
        device = Device(id=f"GPU-{node:08x}-{n:04x}-4000-8000-00000000abcd", kind=DeviceKind.GPU,
                        name="NVIDIA H100 80GB HBM3", quantity=Quantity.ENERGY, basis=Basis.COUNTER,
                        covers=frozenset({Part.GPU}), low_factor=0.95, high_factor=1.05)
        yield records.device_record(n, device, f"{boot}-{4000 + node}-{n + 1}", 0.1)
    yield records.intensity_record(values[0], -math.inf)
    power = [watts(node, n) for n in range(devices)]
    slack = [25_000 + n for n in range(devices)]
    # A wall clock is read to some 0.2 us, as floats of that size are: so ticks lie that much beside the minutes.
    first = wall // S // 60 * 60 + 60
    ticks = [(at * S - wall + at * 7919 % 400 - 200, at) for at in range(first, wall // S + 3612, 60)]
    events = sorted([(t, "mark", m) for m, t in marks] + [(t, "tick", at) for t, at in ticks if t > 0])
    for t, kind, m in events:
        if kind == "tick" and m % 300 == 0:
            yield records.intensity_record(values[m // 300 % 13], float(m))
        states = {"e": [w * t // 1000 for w in power], "s": slack}
        yield {"k": kind, "t": boot + t, **states} if kind == "tick" else {
            "k": "mark", "m": m, "t": boot + t, **states}
        if kind == "mark" and m:
            yield {"k": "epoch", "i": m - 1, "b": m - 1, "e": m, "steps": 100, "partial": False}
    last = 13, 3612 * S
    yield {"k": "mark", "m": last[0], "t": boot + last[1], "e": [w * last[1] // 1000 for w in power], "s": slack}
    yield {"k": "end", "t": boot + last[1], "ended_well": True, "report": report}

LOCATION = Location(zone="DK", name="Denmark", how="given", is_guess=False)
PUE = Pue(value=1.2, source="given")

def put(node, report):
    path = run / f"node-{node:05d}-{4000 + node}-0.jsonl"
    path.write_text("".join(map(records.line, lines(node, report))))
    return path

# As a recorder writes it: without what the lines above it tell, and of this process alone.
report = dataclasses.replace(load(put(0, {})).runs[0], epochs=(), nodes=(), warnings=(), identity=None).to_dict()
size = sum(put(node, report).stat().st_size for node in range(nodes))
joules = sum(watts(node, n) for node in range(nodes) for n in range(devices)) * 3605
print(json.dumps([size / nodes, joules]))
"""

MERGED: Final = """
import json, os, resource, sys, time
from aiocarbon.journal import load
began = time.process_time()
loaded = load(sys.argv[1])
took = time.process_time() - began
(run,) = loaded.runs
print(json.dumps({
    "seconds": took, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "nodes": len(run.nodes),
    "joules": run.it_energy_kwh * 3.6e6, "parts": sum(e.it_energy_kwh for e in (*run.epochs, run.outside)) * 3.6e6,
    "status": run.status, "problems": list(loaded.problems)[:3],
}))
"""


def run(*, quick: bool) -> list[Row]:
    """All figures."""
    many, few = (400, 100) if quick else (NODES, FEW)
    parts: dict[str, Callable[[], list[Row]]] = {}
    for devices in (2, 12):
        parts[f"{devices} devices, written"] = partial(_written, devices, quick=quick)
        parts[f"{devices} devices, merged"] = partial(_merged, devices, many, few, is_limited=not quick)
    return joined(parts)


def _written(devices: int, *, quick: bool) -> list[Row]:
    """What a node writes in an hour, by a real recorder on a clock that is moved by hand."""
    seconds, interval_s = (EPOCH_S, 30.0) if quick else (HOUR_S, 5.0)
    with tempfile.TemporaryDirectory() as folder:
        kinds: dict[str, list[int]] = child(RECORDED, folder, str(devices), str(seconds), str(interval_s))
    hour = {kind: size for kind, (_, size) in kinds.items()}
    once = sum(hour.get(kind, 0) for kind in ("header", "device", "end"))
    bytes_hour = (sum(hour.values()) - once) * HOUR_S / seconds
    lines = (kinds["tick"][0] + kinds["mark"][0]) * HOUR_S / seconds
    note = f"beside {once / 1000:.1f} kB once a run; epochs of {EPOCH_S} s"
    of = f"{devices} devices"
    return [
        info(f"{of}: a node's journal, an hour", bytes_hour / 1000, "kB", note),
        info(f"{of}: appended by {NODES:,} nodes", bytes_hour * NODES / HOUR_S / 1e6, "MB/s"),
        info(f"{of}: writes that append, by {NODES:,} nodes", lines * NODES / HOUR_S, "1/s"),
        info(
            f"{of}: tails overwritten in place, by {NODES:,} nodes", float(NODES), "1/s", "interval_s=1; none is synced"
        ),
    ]


def _merged(devices: int, many: int, few: int, *, is_limited: bool) -> list[Row]:
    """Time and memory of putting the journals of an hour together."""
    of = f"{devices} devices, {many:,} files of an hour"
    folder = Path(tempfile.mkdtemp(prefix="cluster-"))
    try:
        # The second word is the truth: watts x seconds of all devices.
        size, joules = _made(folder / "many", many, devices)
        _made(folder / "few", few, devices)
        told: list[dict[str, Any]] = [child(MERGED, str(folder / "many")) for _ in range(3 if is_limited else 1)]
        small: dict[str, Any] = child(MERGED, str(folder / "few"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = [one["seconds"] for one in told]
    whole = told[0]
    error = abs(whole["joules"] - joules) / joules
    parts = abs(whole["parts"] - whole["joules"]) / joules
    growth = max(whole["mib"] - small["mib"], 0.0)
    note = f"{size / 1000:.1f} kB each; of {len(seconds)} runs, {min(seconds):.1f} to {max(seconds):.1f}"
    grown = f"{small['mib']:.0f} to {whole['mib']:.0f} MiB, {few:,} to {many:,} files"
    time_row = at_most if is_limited else lambda *row: info(row[0], row[1], row[2], row[4])
    return [
        time_row(f"{of}: CPU time on one core", statistics.median(seconds), "s", LIMIT_S, note),
        at_most(f"{of}: growth of the largest resident memory", growth, "MiB", GROWTH_MIB, grown),
        at_most(f"{of}: energy against the truth", error, "", 1e-9, f"{whole['nodes']:,} nodes, {whole['status']}"),
        at_most(f"{of}: epochs and outside against the run", parts, "", 1e-9),
    ]


def _made(folder: Path, nodes: int, devices: int) -> tuple[float, float]:
    size, joules = child(MADE, str(folder), str(nodes), str(devices))
    return size, joules
