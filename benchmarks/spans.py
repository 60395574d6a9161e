"""What do spans cost: to enter and leave, while thousands are open, and at the end of a run of a million?

One simulated device that draws 250 W stands for all: what spans cost does not depend on who measures.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Final, cast

from benchmarks.progress import joined
from benchmarks.result import ChildError, Row, at_most, child, info, skipped

NAME: Final = "spans"
QUESTION: Final = "what do spans cost, of the training's time, of a core, of memory and at a run's end?"

COMMON: Final = """
import asyncio, contextlib, contextvars, json, os, statistics, sys, time

import aiocarbon
from aiocarbon import sync

ARGUMENTS = {"meters": "simulated:250", "intensity": 100.0, "location": "DK", "offline": True}

def rss_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

def amiss(report):
    # How far spans and what no span owns are from the run, relative.
    worst = 0.0
    for field in ("it_energy_kwh", "energy_kwh", "co2eq_g"):
        parts = sum(getattr(part, field) for part in (*report.spans, report.unattributed))
        worst = max(worst, abs(parts / getattr(report, field) - 1.0))
    return worst

def run(main, loop):
    if loop == "uvloop":
        import uvloop
        return uvloop.run(main)
    return asyncio.run(main)
"""

ENTERING: Final = (
    COMMON
    + """
repeats, loop, beside = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
count = 250  # short, so that most are not interrupted

def clocks():
    return time.thread_time_ns(), time.perf_counter_ns()

def each(before, full, empty):
    # CPU and wall time of one, us, without the loop's own.
    return [((full[i] - before[i]) - (empty[i] - full[i])) / count * 1e-3 for i in (0, 1)]

def told(span, **fields):
    def once():
        before = clocks()
        for _ in range(count):
            with span("rollout", **fields):
                pass
        full = clocks()
        for _ in range(count):
            pass
        return each(before, full, clocks())
    return once

async def awaited(span):
    before = clocks()
    for _ in range(count):
        async with span("rollout"):
            pass
    full = clocks()
    for _ in range(count):
        pass
    return each(before, full, clocks())

def forms(span):
    return {"with": told(span), "with a tag": told(span, actor=3), "with a weight": told(span, weight=2.0)}

async def main():
    async with aiocarbon.Tracker(**ARGUMENTS) as tracker:
        of = forms(tracker.span)
        kept = [tracker.span("beside") for _ in range(beside)]
        for span in kept:
            contextvars.Context().run(span.__enter__)
        await asyncio.sleep(1.5)
        heard = {name: [] for name in ("async with", *of)}
        for _ in range(repeats):
            heard["async with"].append(await awaited(tracker.span))
            for name, once in of.items():
                heard[name].append(once())
            await asyncio.sleep(0.002)
    return heard

if loop == "no loop":
    with sync.Tracker(**ARGUMENTS) as tracker:
        of = forms(tracker.span)
        heard = {name: [] for name in of}
        for _ in range(repeats):
            for name, once in of.items():
                heard[name].append(once())
            time.sleep(0.002)
else:
    heard = run(main(), loop)
print(json.dumps(heard))
"""
)

OPEN: Final = (
    COMMON
    + """
is_with, seconds, tasks, edges_s = sys.argv[1] == "with", float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

async def main():
    async with aiocarbon.Tracker(**ARGUMENTS) as tracker:
        waits = [None] * tasks
        loop = asyncio.get_running_loop()
        async def actor(i):
            while True:
                with tracker.span("rollout") if is_with else contextlib.nullcontext():
                    waits[i] = loop.create_future()
                    if await waits[i]:
                        return
        actors = [asyncio.create_task(actor(i)) for i in range(tasks)]
        await asyncio.sleep(0.01)
        async def drive(seconds):
            # Each wake-up ends one span and begins another: two edges.
            begin, turn = time.monotonic(), 0
            while (now := time.monotonic()) < begin + seconds:
                due = int((now - begin) * edges_s / 2)
                for i in range(turn, due):
                    waits[i * 7919 % tasks].set_result(False)
                turn = due
                await asyncio.sleep(0.02)
            return turn
        await drive(3.0)
        cpu, own, at = time.process_time(), time.thread_time(), time.monotonic()
        woken = await drive(seconds)
        at = time.monotonic() - at
        cpu, own = (time.process_time() - cpu) / at, (time.thread_time() - own) / at
        heard = {"cpu": cpu, "own": own, "edges": 2 * woken / at}
        for wait in waits:
            wait.set_result(True)
        await asyncio.gather(*actors)
    report = tracker.report()
    heard["amiss"] = amiss(report) if is_with else None
    heard["count"] = sum(span.count for span in report.spans)
    return heard

print(json.dumps(asyncio.run(main())))
"""
)

MILLION: Final = (
    COMMON
    + """
kind, total, pace, warm = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), 250_000
marks = []

def look():
    marks.append(rss_mib())

def plain(span):
    began = time.monotonic()
    for i in range(1, total + warm + 1):
        with span("rollout"):
            pass
        if not i % 1000:
            if i > warm:
                look()
            late = time.monotonic() - began - i / pace if pace else 0.0
            if late < 0.0:
                time.sleep(-late)

async def many(span):
    async def actor(n):
        for i in range(1, n + 1):
            async with span("rollout"):
                await asyncio.sleep(0)
            if not i % 100 and i > warm // 100:
                look()
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(actor((total + warm) // 100))

def still_open(span):
    kept = []
    for _ in range(total + warm):
        one = span("rollout")
        contextvars.Context().run(one.__enter__)
        kept.append(one)
    look()
    return kept

def nothing(span):
    time.sleep(2.0)
    look()

with sync.Tracker(**ARGUMENTS) as tracker:
    began = time.monotonic()
    made = {"plain": plain, "open": still_open, "none": nothing, "tasks": lambda span: asyncio.run(many(span))}
    kept = made[kind](tracker.span)
    left = time.monotonic()
closed = time.monotonic()
report = tracker.report()
quarter = max(len(marks) // 4, 1)
print(json.dumps({
    "made": left - began, "closed": closed - left, "amiss": amiss(report) if report.spans else None,
    "lacking": 0 if kind == "none" else total + warm - sum(span.count for span in report.spans),
    "first": statistics.median(marks[:quarter]), "last": statistics.median(marks[-quarter:]),
    "is_final": report.is_final,
}))
os._exit(0)  # to free a million open spans one by one is not what is asked
"""
)

LATENESS: Final = (
    COMMON
    + """
import random
pairs, seconds, loop, tasks = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], 50

async def window(is_with):
    # The p99 of how much later than asked a 1 ms sleep wakes, ms.
    async with aiocarbon.Tracker(**ARGUMENTS) as tracker:
        ends = time.perf_counter() + 1.5 + seconds
        async def actor(i):
            await asyncio.sleep(i / tasks * 0.1)
            while time.perf_counter() < ends:
                with tracker.span("rollout") if is_with else contextlib.nullcontext():
                    await asyncio.sleep(2 * tasks / 1000)
        late = []
        async with asyncio.TaskGroup() as group:
            for i in range(tasks):
                group.create_task(actor(i))
            await asyncio.sleep(1.5)
            while time.perf_counter() < ends:
                due = time.perf_counter() + 0.001
                await asyncio.sleep(0.001)
                late.append((time.perf_counter() - due) * 1e3)
    return statistics.quantiles(late, n=100)[98]

async def main():
    heard = []
    for pair in range(pairs):
        order = (True, False) if pair % 2 else (False, True)
        found = {is_with: await window(is_with) for is_with in order}
        heard.append((found[True], found[False]))
    return heard

print(json.dumps(run(main(), loop)))
"""
)


CONCURRENT: Final = (1, 100, 10_000)
PACE: Final = 50_000.0
"""Spans a second of the paced run."""

LEAST_TOLD: Final = 500_000
"""A run of fewer spans does not tell how memory grows."""


def run(*, quick: bool) -> list[Row]:
    """All figures."""
    repeats = 10 if quick else 1000
    return joined(
        {
            "to enter and leave": lambda: _entering_rows(repeats),
            "beside others that are open": lambda: _beside_rows(repeats),
            "thousands open": lambda: _open_rows(2.0 if quick else 15.0, 1 if quick else 5),
            "a million": lambda: _million_rows(40_000 if quick else 1_000_000, 1 if quick else 3),
            "lateness": lambda: _lateness_rows(3 if quick else 16, 1.0 if quick else 3.0),
        }
    )


def _entering_rows(repeats: int) -> list[Row]:
    rows: list[Row] = []
    for loop in ("no loop", "asyncio", "uvloop"):
        try:
            heard: dict[str, list[list[float]]] = child(ENTERING, str(repeats), loop, "0")
        except ChildError as error:
            if "No module named 'uvloop'" not in str(error):
                raise
            rows.append(skipped(f"{loop}: enter and leave", "us", "uvloop is not installed", 3.0))
            continue
        rows += [
            at_most(f"{loop}: enter and leave, {form}", *_cost(times), 3.0, _story(times))
            for form, times in heard.items()
        ]
    return rows


def _cost(times: list[list[float]]) -> tuple[float, str]:
    """CPU time of one span: median, and its unit."""
    return statistics.median(cpu_us for cpu_us, _ in times), "us"


def _story(times: list[list[float]]) -> str:
    tenths = statistics.quantiles([cpu_us for cpu_us, _ in times], n=10)
    wall_us = statistics.median(wall_us for _, wall_us in times)
    return f"CPU time, {len(times)} times 250: 80 % {tenths[0]:.2f} to {tenths[-1]:.2f}; wall time {wall_us:.2f} us"


def _beside_rows(repeats: int) -> list[Row]:
    """A span while others are open, in tasks of their own."""
    rows: list[Row] = []
    for count in CONCURRENT:
        heard: dict[str, list[list[float]]] = child(ENTERING, str(repeats), "asyncio", str(count - 1))
        rows.append(info(f"asyncio, {count:,} open at a time: a span", *_cost(heard["with"]), _story(heard["with"])))
    return rows


def _open_rows(seconds: float, rounds: int) -> list[Row]:
    def once(mode: str) -> dict[str, Any]:
        return cast("dict[str, Any]", child(OPEN, mode, str(seconds), "10000", "1000"))

    heard = [(once("with"), once("without")) for _ in range(rounds)]
    cpu = [(a["cpu"] - b["cpu"]) * 100 for a, b in heard]
    own = [(a["own"] - b["own"]) * 100 for a, b in heard]
    bare = statistics.median(b["cpu"] * 100 for _, b in heard)
    edges = statistics.median(a["edges"] for a, _ in heard)
    what, unit = "10,000 open spans, 1,000 edges/s", "% of a core"
    note = f"median of {rounds} pairs of {seconds:g} s, {min(cpu):.2f} to {max(cpu):.2f}; {edges:.0f} edges/s"
    return [
        at_most(what, statistics.median(cpu), unit, 5.0, note),
        info(f"{what}: the training's own side", statistics.median(own), unit),
        info(f"{what}: all of the process without spans", bare, unit),
        at_most(f"{what}: spans + unattributed against the run", max(a["amiss"] for a, _ in heard), "relative", 1e-9),
    ]


def _million_rows(total: int, rounds: int) -> list[Row]:
    what = f"{total:,}"
    rows = [info("a run without spans: its end", _million("none", total, 0.0)["closed"], "s", "meters tell once more")]
    missing, amiss = 0, 0.0
    for name, kind, pace in (
        ("as fast as possible", "plain", 0.0),
        (f"{PACE:,.0f} a second", "plain", PACE),
        ("in 100 tasks", "tasks", 0.0),
    ):
        heard = [_million(kind, total, pace) for _ in range(rounds if not pace else 1)]
        less = _million(kind, total // 4, pace)
        closed = [h["closed"] for h in heard]
        growth = statistics.median(h["last"] - h["first"] for h in heard) / (total * 0.75) * 1e6
        made = statistics.median(h["made"] for h in heard)
        between = statistics.median(h["last"] for h in heard) - less["last"]
        note = (
            f"median of {len(heard)}, {min(closed):.2f} to {max(closed):.2f}; of {total // 4:,}: {less['closed']:.2f} s"
        )
        grown = f"between the first quarter and the last; {between:+.1f} MiB against {total // 4:,} spans"
        rows += [
            at_most(f"{what} spans {name}: the run's end", statistics.median(closed), "s", 1.0, note),
            at_most(f"{what} spans {name}: growth of memory", growth, "MiB a million", 4.0, grown)
            if total >= LEAST_TOLD
            else skipped(f"{what} spans {name}: growth of memory", "MiB a million", "too short a run to tell", 4.0),
            info(f"{what} spans {name}: all of it", made, "s"),
        ]  # fmt: skip
        missing += sum(abs(h["lacking"]) for h in (*heard, less))
        amiss = max([amiss, *(h["amiss"] for h in (*heard, less))])
    still = _million("open", total, 0.0)
    note = f"{still['last']:.0f} MiB while they are open" + ("" if still["is_final"] else "; the report is not final")
    return [
        *rows,
        info(f"{what} spans open at once: the run's end", still["closed"], "s", note),
        at_most("spans that are in no figure of those runs", missing, "spans", 0),
        at_most("spans + unattributed against the run, in those runs", amiss, "relative", 1e-9),
    ]


def _million(kind: str, total: int, pace: float) -> dict[str, Any]:
    return cast("dict[str, Any]", child(MILLION, kind, str(total), str(pace)))


def _lateness_rows(pairs: int, seconds: float) -> list[Row]:
    rows: list[Row] = []
    for loop in ("asyncio", "uvloop"):
        try:
            heard: list[list[float]] = child(LATENESS, str(pairs), str(seconds), loop)
        except ChildError as error:
            if "No module named 'uvloop'" not in str(error):
                raise
            rows.append(skipped(f"{loop}: p99 of a 1 ms sleep's lateness", "ms", "uvloop is not installed"))
            continue
        more = [a - b for a, b in heard]
        low, high, share = sign_interval(more, 0.9)
        without = statistics.median(b for _, b in heard)
        note = (
            f"{share:.0%} interval {low:+.3f} to {high:+.3f}; {pairs} pairs of {seconds:g} s; without {without:.3f} ms"
        )
        rows.append(
            info(
                f"{loop}: p99 lateness of a 1 ms sleep, what 1,000 edges/s add",
                statistics.median(more),
                "ms",
                note,
            )
        )
    return rows


def sign_interval(values: Sequence[float], share: float) -> tuple[float, float, float]:
    """An interval of the median by the sign test: no shape of the values is supposed.

    Args:
        values: At least 2.
        share: With what chance the interval shall hold the median, 0..1.

    Returns:
        Its ends, and the chance that it has: the least one not below `share`, or that of all values where they are too
        few.
    """
    ordered, count = sorted(values), len(values)
    outside = 0.0  # chance that the median lies beyond the one end
    depth = 0
    while depth < count // 2:
        more = math.comb(count, depth) / 2**count
        if 1.0 - 2.0 * (outside + more) < share:
            break
        outside += more
        depth += 1
    depth = max(depth, 1)
    outside = sum(math.comb(count, i) for i in range(depth)) / 2**count
    return ordered[depth - 1], ordered[-depth], 1.0 - 2.0 * outside
