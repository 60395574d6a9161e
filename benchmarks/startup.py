"""How long does it take to begin and to end? Import, entering and leaving, also where no packet comes back."""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from benchmarks.result import ChildError, Row, at_most, child, info, skipped, with_root

NAME: Final = "startup"
QUESTION: Final = "how long do import, entering and leaving take?"

HEAVY: Final = ("aiohttp", "pynvml", "numpy", "torch", "psutil", "anyio", "structlog")
FORBIDDEN: Final = ("aiohttp", "pynvml", "numpy")

MODULES: Final = f"""
import json, sys
import aiocarbon
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""

ENTER: Final = """
import asyncio, json, time

async def main():
    import aiocarbon
    t0 = time.perf_counter()
    async with aiocarbon.Tracker() as tracker:
        t1 = time.perf_counter()
        await asyncio.sleep(0.2)
        t2 = time.perf_counter()
    t3 = time.perf_counter()
    report = tracker.report()
    return [(t1 - t0) * 1e3, (t3 - t2) * 1e3, time.monotonic()], report.basis

(times, basis) = asyncio.run(main())
print(json.dumps([*times, basis]))
"""


def run(*, quick: bool) -> list[Row]:
    """All figures; the contenders of each are run in turn, so that a slow moment meets both."""
    rounds = 3 if quick else 15
    rows = [*_import_rows(rounds), *_enter_rows(rounds, (), "as it is")]
    if is_cut_off := _unshare():
        rows += _enter_rows(rounds, is_cut_off, "without a network")
    else:
        rows.append(skipped("enter, without a network", "ms", "this user may make no network namespace"))
    return rows


def _took_ms(code: str) -> tuple[float, float]:
    """Wall and CPU time of a fresh interpreter that runs some code."""
    env = with_root(os.environ)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=env, cwd="/", check=True)
    wall_s, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s * 1e3, (now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime) * 1e3


def _import_rows(rounds: int) -> list[Row]:
    bare, with_us = [], []
    _took_ms("import aiocarbon")  # writes the byte code, once
    for _ in range(rounds):
        bare.append(_took_ms("pass"))
        with_us.append(_took_ms("import aiocarbon"))
    bare_ms, us_ms = (statistics.median(wall for wall, _ in took) for took in (bare, with_us))
    cpu_ms = statistics.median(cpu for _, cpu in with_us) - statistics.median(cpu for _, cpu in bare)
    heard = child(MODULES)
    imported = [name for name in heard if name in FORBIDDEN]
    note = f"medians of {rounds}: {us_ms:.1f} ({_spread([wall for wall, _ in with_us])}) over {bare_ms:.1f}"
    return [
        at_most("import aiocarbon over the bare interpreter", us_ms - bare_ms, "ms", 60, note),
        info("the same in CPU time", cpu_ms, "ms", "less moved by what else the machine does"),
        at_most(f"of {', '.join(FORBIDDEN)} imported", len(imported), "", 0, ", ".join(heard)),
    ]


def _enter_rows(rounds: int, before: Sequence[str], where: str) -> list[Row]:
    enter, leave, gone = [], [], []
    basis = ""
    for _ in range(rounds):
        enter_ms, leave_ms, ended, basis = child(ENTER, before=before)
        enter.append(enter_ms)
        leave.append(leave_ms)
        gone.append((time.monotonic() - ended) * 1e3)
    return [
        at_most(
            f"enter, {where}", statistics.median(enter), "ms", 70, f"median of {rounds}, {_spread(enter)}; {basis}"
        ),
        info(f"leave, {where}", statistics.median(leave), "ms", _spread(leave)),
        at_most(f"from the end of the program to no process, {where}", max(gone), "ms", 2000, "the worst"),
    ]


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


def _unshare() -> tuple[str, ...]:
    """The command that runs another one without a network; empty if this user may not."""
    unshare = shutil.which("unshare")
    for before in ((unshare, "-rn"), (unshare, "-n")) if unshare else ():
        try:
            child("print(1)", before=before)
        except ChildError:
            continue
        return before
    return ()
