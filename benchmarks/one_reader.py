"""What it costs that one process reads a device for all, and how long it takes until another one does.

Real processes on one simulated machine. A take-over is timed from the signal to the next process's ring.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.result import ROOT, Row, at_most, info

NAME: Final = "one_reader"
QUESTION: Final = "several processes on one machine: what does following cost, and how soon does another one take over?"

TAKE_OVER_S: Final = 2.0
GIVE_UP_S: Final = 30.0
"""Whoever has not taken over by then never will: a miss."""
EPOCH_MS: Final = 50.0
WARM_S: Final = 3.0
CPU_PERCENT: Final = 0.1
"""Of a core, for a process that nobody follows and that follows nobody, beside what it costs unshared."""

CHILD: Final = """
import json, os, sys, time
from aiocarbon import sync

with sync.Tracker(meters=["simulated:250"], intensity=400, pue=1.0, location="DE", offline=True) as tracker:
    print(os.getpid(), flush=True)
    for line in sys.stdin:
        word = line.strip()
        if word == "epochs":
            waits = []
            for _ in range(20):
                began = time.perf_counter()
                tracker.snapshot()
                waits.append((time.perf_counter() - began) * 1e3)
                time.sleep(0.02)
            print(json.dumps(waits), flush=True)
        else:
            seconds = float(word)
            began = time.process_time()
            time.sleep(seconds)
            print(json.dumps((time.process_time() - began) / seconds * 100), flush=True)
print(json.dumps(tracker.report().it_energy_kwh * 3.6e6), flush=True)
"""


class Rank:
    """A process that tracks."""

    def __init__(self, locks: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "AIOCARBON_LOCK_DIR": locks, "AIOCARBON_CACHE": "none"},
        )
        self.pid = int(self.hear())

    def hear(self) -> Any:
        """What it says next."""
        assert self.child.stdout is not None
        return json.loads(self.child.stdout.readline())

    def say(self, word: str) -> None:
        """Tell it what to do: "epochs", or so many seconds of nothing."""
        assert self.child.stdin is not None
        self.child.stdin.write(word + "\n")
        self.child.stdin.flush()

    def end(self) -> None:
        """End it, whatever it does."""
        self.child.kill()
        self.child.communicate()


@contextmanager
def ranks(count: int, *, shared: bool = True) -> Iterator[tuple[Path, list[Rank]]]:
    """Some ranks on one machine, the first of which reads."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        begun: list[Rank] = []
        try:
            begun.extend(Rank(folder if shared else "none") for _ in range(count))
            yield Path(folder), begun
        finally:
            for rank in begun:
                rank.end()


def newest(folder: Path) -> int:
    """Number of the newest ring."""
    names = [path.name for path in folder.rglob("simulated-0-*")]
    return max((int(name.rpartition(".")[2]) for name in names), default=0)


def take_over_s(kind: signal.Signals) -> float:
    """Seconds until another process reads instead of one that got a signal."""
    with ranks(3) as (folder, begun):
        for rank in begun:
            rank.say("0.2")
            rank.hear()
        before = newest(folder)
        began = time.perf_counter()
        begun[0].child.send_signal(kind)
        return until(lambda: newest(folder) != before, began)


def until(is_so: Callable[[], bool], began: float, give_up_s: float = GIVE_UP_S) -> float:
    """Seconds until something is so; a little more than `give_up_s` where it does not come about."""
    while not is_so() and time.perf_counter() - began < give_up_s:
        time.sleep(0.002)
    return time.perf_counter() - began


def waits_ms(rank: Rank) -> list[float]:
    """What 20 exact snapshots took, each with a reading of its own."""
    rank.say("epochs")
    waits: list[float] = rank.hear()
    return waits


def cpu_percents(begun: list[Rank], seconds: float) -> list[float]:
    """Per cent of a core that each of some processes takes, after what it does in its first seconds."""
    for rank in begun:
        rank.say(str(WARM_S))
        rank.say(str(seconds))
    return [(rank.hear(), rank.hear())[1] for rank in begun]


def run(*, quick: bool = False) -> list[Row]:
    """All rows."""
    rounds, seconds = (2, 2.0) if quick else (10, 15.0)
    rows = []
    for kind, what in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "stopped")):
        took = [take_over_s(kind) for _ in range(rounds)]
        note = f"median {statistics.median(took):.2f} s of {rounds}, from {min(took):.2f} s"
        rows.append(at_most(f"worst take-over, reader {what}", max(took), "s", TAKE_OVER_S, note))
    with ranks(2) as (_, begun):
        for rank, what in zip(begun, ("reads", "follows"), strict=True):
            took = waits_ms(rank)
            note = f"median {statistics.median(took):.1f} ms of {len(took)}"
            rows.append(at_most(f"worst exact snapshot of a process that {what}", max(took), "ms", EPOCH_MS, note))
        cpu = cpu_percents(begun, seconds)
        rows.append(info("CPU of a process that reads for another", cpu[0], "% of a core"))
        rows.append(info("CPU of a process that follows", cpu[1], "% of a core"))
    with ranks(1, shared=False) as (_, begun):
        plain = cpu_percents(begun, seconds)[0]
    with ranks(1) as (_, begun):
        alone = cpu_percents(begun, seconds)[0]
    rows.append(info("CPU of a process that shares nothing", plain, "% of a core"))
    note = f"{alone:.3f} % where others could follow"
    rows.append(at_most("what sharing adds while nobody follows", alone - plain, "% of a core", CPU_PERCENT, note))
    return rows
