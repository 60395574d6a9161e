"""How late a coroutine wakes while a tracker enters, runs, marks epochs and leaves, and while there is none."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any, Final

import aiocarbon

TICK_S: Final = 0.001
MARK_S: Final = 0.02
"""Between two epochs."""

CONTROL: Final = "no tracker"
PHASES: Final = ("enters", "runs", "marks epochs", "leaves")


class _Ticker:
    """Sleeps 1 ms again and again; how much later than asked it woke, in ms, by what went on meanwhile."""

    def __init__(self) -> None:
        self.late_ms: dict[str, list[float]] = {CONTROL: [], **{phase: [] for phase in PHASES}}
        self.phase: str | None = None

    async def run(self) -> None:
        while True:
            phase, due = self.phase, time.perf_counter() + TICK_S
            await asyncio.sleep(TICK_S)
            # A stall that outlasts its phase is told of the phase it began in.
            if phase is not None:
                self.late_ms[phase].append((time.perf_counter() - due) * 1e3)


def lateness(asked: dict[str, Any]) -> dict[str, list[float]]:
    """Have a tracker enter, run, mark epochs and leave beside a ticker.

    Args:
        asked: "loop" ("asyncio" or "uvloop"), "seconds" of each phase, the tracker's "settings", and "environ" to be
            added, if any.

    Returns:
        How late each sleep of 1 ms ended, ms, by `CONTROL` and `PHASES`.
    """
    os.environ.update(asked.get("environ", {}))
    if asked["loop"] == "uvloop":
        import uvloop

        return uvloop.run(_all(asked))
    return asyncio.run(_all(asked))


async def _all(asked: dict[str, Any]) -> dict[str, list[float]]:
    await _cycle(asked, _Ticker())  # packages are imported
    ticker = _Ticker()
    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(ticker.run())
        await asyncio.sleep(asked["seconds"] / 10)
        ticker.phase = CONTROL
        await asyncio.sleep(asked["seconds"])
        await _cycle(asked, ticker)
        ticking.cancel()
    return ticker.late_ms


async def _cycle(asked: dict[str, Any], ticker: _Ticker) -> None:
    tracker = aiocarbon.Tracker(**asked["settings"])
    ticker.phase = "enters"
    await tracker.start()
    await asyncio.sleep(asked["seconds"] / 10)
    ticker.phase = "runs"
    await asyncio.sleep(asked["seconds"])
    ticker.phase = "marks epochs"
    end = time.perf_counter() + asked["seconds"]
    while time.perf_counter() < end:
        await tracker.epoch()
        await asyncio.sleep(MARK_S)
    ticker.phase = "leaves"
    await tracker.aclose()
    await asyncio.sleep(asked["seconds"] / 10)
    ticker.phase = None
    await asyncio.sleep(2 * TICK_S)  # what began in the last phase is told
