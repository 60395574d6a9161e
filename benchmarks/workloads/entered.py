"""Enters and leaves a contender in an event loop, and tells what that took and what it used meanwhile."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.contenders import make
from benchmarks.usage import usage

TICK_S = 0.001


class _Ticker:
    """The longest lateness of a sleep of 1 ms since the last look, ms: for that long the loop did nothing else."""

    def __init__(self) -> None:
        self._worst_ms = 0.0

    async def run(self) -> None:
        while True:
            due = time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            self._worst_ms = max(self._worst_ms, (time.perf_counter() - due) * 1e3)

    def take(self) -> float:
        worst, self._worst_ms = self._worst_ms, 0.0
        return worst


def enter(asked: dict[str, Any]) -> dict[str, float]:
    """Enter, wait, mark two epochs, leave.

    Args:
        asked: "contender", "meters", "seconds" to wait in all, and "is_ticking": whether the loop's stalls are looked
            at, which costs CPU time itself.

    Returns:
        "enter_ms", "exit_ms"; "stall_ms", the longest of all; "rss_mib" and "threads" more than before; "cpu_s" of a
        minute; "switches" a second.
    """
    return asyncio.run(_enter(asked))


async def _enter(asked: dict[str, Any]) -> dict[str, float]:
    ticker = _Ticker()
    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(ticker.run()) if asked["is_ticking"] else None
        await asyncio.sleep(0.1)
        before = usage()
        # Imported here: whoever tracks has to, and memory is counted from before it.
        contender = make(asked["contender"], asked["meters"])
        await asyncio.sleep(5 * TICK_S)  # what the import stalls is told by itself, so the ticker has to wake first
        ticker.take()
        begin = time.perf_counter()
        await contender.enter()
        entered = time.perf_counter()
        await contender.begin_epochs()
        await asyncio.sleep(min(3.0, asked["seconds"] / 2))  # late imports are no steady state
        steady = usage()
        await asyncio.sleep(asked["seconds"])
        after = usage()
        for _ in range(2):
            await contender.epoch()
            await asyncio.sleep(0.3)
        most = usage()
        leave = time.perf_counter()
        await contender.exit()
        left = time.perf_counter()
        await asyncio.sleep(5 * TICK_S)
        if ticking is not None:
            ticking.cancel()
    return {
        "enter_ms": (entered - begin) * 1e3,
        "exit_ms": (left - leave) * 1e3,
        "stall_ms": ticker.take(),
        "rss_mib": most.rss_mib - before.rss_mib,
        "threads": after.threads - before.threads,
        "cpu_s": (after.cpu_s - steady.cpu_s) / (after.wall_s - steady.wall_s) * 60.0,
        "switches": (after.switches - steady.switches) / (after.wall_s - steady.wall_s),
    }
