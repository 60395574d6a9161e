"""Does the instrument make the user's loop wait? Stalls by enter, epoch and exit, and what the verbs take.

A ticker in the user's loop sleeps 1 ms again and again; how much later than asked it wakes is a stall. The same ticker
without a tracker, in the same process, tells what the machine itself does; it is shown beside, never subtracted.
"""

from __future__ import annotations

import statistics
from typing import Any, Final

from benchmarks.progress import each
from benchmarks.result import ChildError, Row, at_most, child, info, skipped

NAME: Final = "latency"
QUESTION: Final = "for how long does the user's loop stall, and what do epoch() and step() take?"

CHILD: Final = """
import asyncio, json, statistics, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

import aiocarbon  # the import has a limit of its own (startup)

loop_name, is_warm, epochs = sys.argv[1], sys.argv[2] == "warm", int(sys.argv[3])

class Ticker:
    # The longest lateness of a 1 ms sleep since the last look, in ms.
    def __init__(self):
        self.worst = 0.0
        self.is_on = True
    async def run(self):
        while self.is_on:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            self.worst = max(self.worst, (time.perf_counter() - due) * 1e3)
    def take(self):
        worst, self.worst = self.worst, 0.0
        return worst

async def floor(rounds):
    # The hand-offs alone that an answer needs: this loop, another loop, its worker, and the same way back.
    loop, other, pool = asyncio.get_running_loop(), asyncio.new_event_loop(), ThreadPoolExecutor(1)
    thread = threading.Thread(target=other.run_forever, daemon=True)
    thread.start()
    waits = []
    for _ in range(rounds):
        await asyncio.sleep(0.02)
        done = asyncio.Event()
        began = time.perf_counter()
        def back(_): loop.call_soon_threadsafe(done.set)
        def there(): other.run_in_executor(pool, time.monotonic_ns).add_done_callback(back)
        other.call_soon_threadsafe(there)
        await done.wait()
        waits.append((time.perf_counter() - began) * 1e3)
    other.call_soon_threadsafe(other.stop)
    thread.join()
    pool.shutdown()
    return waits

async def one(epochs):
    heard = {}
    ticker = Ticker()
    task = asyncio.create_task(ticker.run())
    await asyncio.sleep(0.05)
    ticker.take()
    await asyncio.sleep(0.5)
    heard["control"] = ticker.take()
    tracker = aiocarbon.Tracker(location="DK")
    async with tracker:
        await asyncio.sleep(0.01)
        heard["enter"] = ticker.take()
        await asyncio.sleep(0.6)  # what goes on behind the entering
        heard["after enter"] = ticker.take()
        waits, stalls = [], []
        for _ in range(epochs):
            await asyncio.sleep(0.02)
            ticker.take()
            began = time.perf_counter()
            await tracker.epoch()
            waits.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(0.005)
            stalls.append(ticker.take())
        heard["epoch waits"], heard["epoch stalls"] = waits, stalls
        ticker.is_on = False  # the verbs are timed in a loop that has nothing else to do
        waits = []
        for _ in range(max(epochs, 20)):
            await asyncio.sleep(0.02)
            began = time.perf_counter()
            await tracker.epoch()
            waits.append((time.perf_counter() - began) * 1e3)
        heard["epoch waits alone"] = waits
        heard["floor"] = await floor(max(epochs, 20))
        n = 100_000
        best = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(n):
                tracker.step()
            full = time.perf_counter() - began
            began = time.perf_counter()
            for _ in range(n):
                pass
            best.append((full - (time.perf_counter() - began)) / n * 1e6)
        heard["step"] = statistics.median(best)
        await task
        ticker.is_on = True
        task = asyncio.create_task(ticker.run())
        await asyncio.sleep(0.01)
        ticker.take()
        await asyncio.sleep(1.2)
        heard["ticks"] = ticker.take()
    await asyncio.sleep(0.01)
    heard["exit"] = ticker.take()
    ticker.is_on = False
    await task
    return heard

async def main():
    if is_warm:
        await one(3)
    return await one(epochs)

if loop_name == "uvloop":
    import uvloop
    heard = uvloop.run(main())
else:
    heard = asyncio.run(main())
print(json.dumps(heard))
"""


def run(*, quick: bool) -> list[Row]:
    """All figures, on each loop; first in a process (packages are imported then) and again in a warm one."""
    rounds, epochs = (1, 10) if quick else (10, 50)
    rows: list[Row] = []
    for loop in ("asyncio", "uvloop"):
        try:
            # In turn, so that a slow moment of the machine meets both.
            heard = [
                (child(CHILD, loop, "cold", "5"), child(CHILD, loop, "warm", str(epochs)))
                for _ in each([loop] * rounds)
            ]
        except ChildError as error:
            if "No module named 'uvloop'" not in str(error):
                raise
            rows.append(skipped(loop, "ms", "uvloop is not installed"))
            continue
        rows += _rows(loop, [cold for cold, _ in heard], [warm for _, warm in heard])
    return rows


def _rows(loop: str, cold: list[dict[str, Any]], warm: list[dict[str, Any]]) -> list[Row]:
    waits = [wait for heard in warm for wait in heard["epoch waits"]]
    alone = [wait for heard in warm for wait in heard["epoch waits alone"]]
    floor = [wait for heard in warm for wait in heard["floor"]]
    steps = [heard["step"] for heard in cold + warm]
    return [
        info(f"{loop}: control, no tracker", *_worst(cold + warm, "control")),
        at_most(f"{loop}: longest stall by the first enter", *_limited(cold, "enter", 15)),
        at_most(f"{loop}: longest stall in 0.6 s behind the first enter", *_limited(cold, "after enter", 15)),
        at_most(f"{loop}: longest stall by the first epochs", *_limited(cold, "epoch stalls", 15)),
        at_most(f"{loop}: longest stall by the first exit", *_limited(cold, "exit", 15)),
        at_most(f"{loop}: longest stall by a later enter", *_limited(warm, "enter", 3)),
        at_most(f"{loop}: longest stall by later epochs", *_limited(warm, "epoch stalls", 3)),
        at_most(f"{loop}: longest stall by ticks", *_limited(warm, "ticks", 3)),
        at_most(f"{loop}: longest stall by a later exit", *_limited(warm, "exit", 3)),
        at_most(f"{loop}: await epoch(), median", statistics.median(alone), "ms", 1.0, f"worst {max(alone):.2f} ms"),
        info(
            f"{loop}: await epoch() beside a 1 ms ticker", statistics.median(waits), "ms", f"worst {max(waits):.2f} ms"
        ),
        info(f"{loop}: the four thread hand-offs of an epoch() alone", statistics.median(floor), "ms", "a control"),
        at_most(f"{loop}: step(), median", statistics.median(steps), "us", 2.0, f"worst {max(steps):.2f} us"),
    ]


def _worst(heard: list[dict[str, Any]], key: str) -> tuple[float, str, str]:
    """The median over processes of the longest stall in each, and the longest of all as a note."""
    worst = [max(h[key]) if isinstance(h[key], list) else h[key] for h in heard]
    return statistics.median(worst), "ms", f"median of {len(worst)} processes, {min(worst):.2f} to {max(worst):.2f}"


def _limited(heard: list[dict[str, Any]], key: str, limit: float) -> tuple[float, str, float, str]:
    value, unit, note = _worst(heard, key)
    return value, unit, limit, note
