"""Can a history be read? A thousand runs as one report, and the journal of a month."""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.result import Row, at_most, child, info

NAME: Final = "records"
QUESTION: Final = "how long does it take to report a thousand runs, or one that lasted a month, and in what memory?"

RUNS: Final = 1000
DEVICES: Final = 10
HOUR_S: Final = 3600
MONTH_S: Final = 30 * 86_400
MANY_LIMIT_S: Final = 10.0
MANY_LIMIT_MIB: Final = 200.0
MONTH_LIMIT_S: Final = 3.0

MADE: Final = """
import json, math, sys
from pathlib import Path
from aiocarbon._core.intensity import IntensityValue, Location, Pue, Quality
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon.journal import records

S = 10**9
folder, runs, devices, seconds, hosts = Path(sys.argv[1]), *map(int, sys.argv[2:6])
LOCATION = Location(zone="DK", name="Denmark", how="given", is_guess=False)
PUE = Pue(value=1.2, source="given")

def watts(n, host):
    return 200 + n * 37 + host

def lines(i):
    # Runs follow each other on each host, in one boot; every tenth begins while the one before it still runs.
    host, turn = i % hosts, i // hosts
    begin = turn * (seconds + 60) * S - (seconds // 2 * S if turn % 10 == 9 else 0)
    boot, wall = 10**15 + begin, 1_800_000_000 * S + begin
    run = f"run-{i:05d}"
    yield {"schema": records.SCHEMA, "run_id": run, "name": f"model-{i % 7}", "host": f"node-{host}", "pid": 4000 + i,
           "boot_id": f"boot-{host}", "version": "0", "interval_s": 1.0, **records.place_record(LOCATION, PUE),
           "t": boot, "wall_ns": wall, "attempt": run}
    for n in range(devices):
        device = Device(id=f"GPU-{host}-{n}", kind=DeviceKind.GPU, name="NVIDIA H100 80GB HBM3",
                        quantity=Quantity.ENERGY, basis=Basis.COUNTER, covers=frozenset({Part.GPU}),
                        low_factor=0.95, high_factor=1.05)
        yield records.device_record(n, device, f"{run}-{n}", 0.1)
    values = [IntensityValue(g_per_kwh=100.0 + j, low_g_per_kwh=90.0 + j, high_g_per_kwh=110.0 + j, source="a source",
                             zone="DK", quality=Quality.LIVE) for j in range(24)]
    yield records.intensity_record(values[0], -math.inf)
    power = [watts(n, host) for n in range(devices)]
    epoch_s = max(seconds // 12, 300)
    at_s = mark = 0
    def states(at):
        return {"e": [w * at * 10**6 for w in power], "s": [25_000] * devices}
    while at_s <= seconds:
        t = boot + at_s * S
        if at_s % epoch_s == 0:
            yield {"k": "mark", "m": mark, "t": t, **states(at_s)}
            if mark:
                yield {"k": "epoch", "i": mark - 1, "b": mark - 1, "e": mark, "steps": 100, "partial": False}
            mark += 1
        else:
            yield {"k": "tick", "t": t, **states(at_s)}
        if at_s % 3600 == 0:
            yield records.intensity_record(values[at_s // 3600 % 24], (wall + at_s * S) / S)
        at_s += 60
    yield {"k": "end", "t": boot + seconds * S, "ended_well": True, "report": {}}

size = 0
for i in range(runs):
    path = folder / f"run-{i:05d}" / f"node-{i}-0.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(map(records.line, lines(i))))
    size += path.stat().st_size
# The truth of the total: on each host, the union of its runs' time.
joules = 0.0
for host in range(hosts):
    spans, seconds_told = [], 0
    for turn in range(len(range(host, runs, hosts))):
        begin = turn * (seconds + 60) - (seconds // 2 if turn % 10 == 9 else 0)
        spans.append((begin, begin + seconds))
    upto = -10**9
    for begin, end in sorted(spans):
        seconds_told += max(end - max(begin, upto), 0)
        upto = max(upto, end)
    joules += seconds_told * sum(watts(n, host) for n in range(devices))
print(json.dumps([size, joules]))
"""

TOLD: Final = """
import contextlib, io, json, os, resource, sys, time
from aiocarbon.cli.main import main
out = io.StringIO()
began, cpu = time.perf_counter(), time.process_time()
with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
    code = main(["report", *sys.argv[1:]])
took, cpu = time.perf_counter() - began, time.process_time() - cpu
text = out.getvalue()
told = json.loads(text) if "--json" in sys.argv else None
print(json.dumps({
    "code": code, "seconds": took, "cpu": cpu, "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "joules": told and told["total"]["it_energy_kwh"] * 3.6e6, "lines": text.count("\\n"),
    "by": told and {by: sum(g["it_energy_kwh"] for g in gs) * 3.6e6 for by, gs in told["groups"].items()},
}))
"""


def run(*, quick: bool) -> list[Row]:
    """All figures."""
    many, month_s = (40, 2 * 86_400) if quick else (RUNS, MONTH_S)
    repeats = 1 if quick else 10
    folder = Path(tempfile.mkdtemp(prefix="records-"))
    try:
        size, joules = child(MADE, str(folder / "many"), str(many), str(DEVICES), str(HOUR_S), "8")
        text = [child(TOLD, str(folder / "many")) for _ in range(repeats)]
        plain = child(TOLD, str(folder / "many"), "--json", "-", "--by", "day")
        month, _ = child(MADE, str(folder / "month"), "1", str(DEVICES), str(month_s), "1")
        long = [child(TOLD, str(folder / "month")) for _ in range(repeats)]
        days = child(TOLD, str(folder / "month"), "--by", "day")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    of = f"{many:,} journals of an hour, {DEVICES} devices"
    time_row = at_most if not quick else lambda *row: info(row[0], row[1], row[2], row[4])
    parts = max(abs(told - joules) for told in plain["by"].values()) / joules
    return [
        time_row(f"{of}: report", _median(text, "seconds"), "s", MANY_LIMIT_S, f"{size / 1e6:.1f} MB; {_spread(text)}"),
        at_most(f"{of}: largest resident memory", max(one["mib"] for one in text), "MiB", MANY_LIMIT_MIB),
        info(f"{of}: as JSON, by day", plain["seconds"], "s", f"{plain['mib']:.0f} MiB"),
        at_most(f"{of}: energy against the truth", abs(plain["joules"] - joules) / joules, "", 1e-9, "runs overlap"),
        at_most(f"{of}: names, hosts and days against it", parts, "", 1e-9),
        time_row(
            f"a journal of {month_s // 86_400} days: report",
            _median(long, "seconds"),
            "s",
            MONTH_LIMIT_S,
            f"{month / 1e6:.1f} MB; {_spread(long)}, {long[0]['mib']:.0f} MiB",
        ),
        info("likewise by day", days["seconds"], "s", f"{days['lines']} lines"),
    ]


def _median(told: list[dict[str, Any]], field: str) -> float:
    return float(statistics.median(one[field] for one in told))


def _spread(told: list[dict[str, Any]]) -> str:
    seconds = [one["seconds"] for one in told]
    return f"{min(seconds):.2f} to {max(seconds):.2f} s in {len(seconds)} runs, {_median(told, 'cpu'):.2f} s of CPU"
