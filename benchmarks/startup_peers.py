"""What does it cost to have a tracker at all? Import, enter, the longest stall of the loop, memory, CPU of a minute.

Each contender in a process of its own, in turn, beside one GPU of the fake NVML, cut off from every network. Nothing
is trained: what the process uses is the tracker's. aiocarbon may cost no more than the cheapest of the others.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks import contenders
from benchmarks.contenders import ASYNC, PEERS, SYNC, Entry, in_child, made, offline, python, why_not
from benchmarks.pairs import bootstrap
from benchmarks.progress import progress
from benchmarks.result import ChildError, Row, at_most, info, skipped, with_root
from benchmarks.usage import cpu_s_of
from benchmarks.workloads.steps import SEED

NAME: Final = "startup_peers"
QUESTION: Final = "what do aiocarbon and the tools that its users know cost before anything is trained?"

versions = contenders.versions

CONTENDERS: Final = (ASYNC, SYNC, *PEERS)
FIGURES: Final = {
    "import": ("import, over the bare interpreter", "ms"),  # which has loaded `socket`: it is cut off
    "enter_ms": ("enter", "ms"),
    "begin_ms": ("import and enter together", "ms"),
    "stall_ms": ("longest stall of the loop by enter, epochs and exit", "ms"),
    "exit_ms": ("exit", "ms"),
    "rss_mib": ("resident memory more, import included", "MiB"),
    "cpu_s": ("CPU seconds of a tracked minute", "s"),
    "threads": ("threads more", ""),
    "switches": ("context switches", "1/s"),
}
LIMITED: Final = ("import", "enter_ms", "begin_ms", "stall_ms", "rss_mib", "cpu_s")
"""Those in which aiocarbon shall be below every other that does the same work."""
OF_WORK: Final = ("enter_ms", "stall_ms", "cpu_s")
"""Those in which one that leaves out a part of the work is no measure."""
BEGIN_S: Final = 4.0
"""After so long a program that is tracked from outside has begun, and what is imported late is there."""

STILL: Final = ("rss_mib", "cpu_s", "threads", "switches")


def run(*, quick: bool) -> list[Row]:
    """All figures, the contenders in turn."""
    # In these seconds a task of codecarbon is not read; aiocarbon and carbontracker are.
    rounds, seconds = (1, 2.0) if quick else (10, 15.0)
    library, _ = made.library()
    found: dict[str, dict[str, list[float]]] = {entry.name: {} for entry in CONTENDERS}
    why = {entry.name: why_not(entry) for entry in CONTENDERS}
    there = [entry for entry in CONTENDERS if not why[entry.name]]
    failed: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, progress() as bar:
        environ = made.gpus(library, made.ONE_GPU, Path(folder))
        for turn in range(rounds):
            for number, entry in enumerate(there):
                bar.show(f"{entry.name}", turn * len(there) + number, rounds * len(there))
                try:
                    for name, value in _one(entry, environ, seconds).items():
                        found[entry.name].setdefault(name, []).append(value)
                except ChildError as error:
                    failed[entry.name] = failed.get(entry.name, 0) + 1
                    why[entry.name] = f"failed: {error.last_line[:120]}"
        rows = [row for key in FIGURES for row in rows_of(key, found, why, failed=failed, is_judged=not quick)]
        rows.append(_cli_row(environ, rounds, seconds, Path(folder)))
    return rows


def _one(entry: Entry, environ: Mapping[str, str], seconds: float) -> dict[str, float]:
    asked = {"contender": entry.name, "meters": "all", "seconds": 0.5, "is_ticking": True}
    ticked: dict[str, float] = in_child("entered:enter", asked, environ=environ)
    # Ticking a thousand times a second costs more than any tracker does: the minute is looked at without.
    still: dict[str, float] = in_child(
        "entered:enter", {**asked, "seconds": seconds, "is_ticking": False}, environ=environ
    )
    bare, whole = (_took_ms(code, environ) for code in ("pass", entry.imports))
    begun = {"import": whole - bare, "begin_ms": whole - bare + ticked["enter_ms"]}
    return {**begun, **ticked, **{name: still[name] for name in STILL}}


def _took_ms(code: str, environ: Mapping[str, str]) -> float:
    """Wall time of a fresh interpreter that runs some code, cut off from the network.

    Raises:
        ChildError: The code failed.
    """
    env = with_root(environ)
    best = []
    for _ in range(3):  # the least of three: whatever else runs only adds
        began = time.perf_counter()
        done = subprocess.run([python(), "-c", cut_off(code)], env=env, cwd="/", capture_output=True, text=True)
        best.append((time.perf_counter() - began) * 1e3)
        if done.returncode != 0:
            raise ChildError(f"{code!r} ended with {done.returncode}:\n{done.stderr}")
    return min(best)


def cut_off(code: str) -> str:
    """A program that runs some code without a network, and before it loads nothing but `socket`.

    The text of the module that cuts is put before it: to import that would load half of what contenders import.
    """
    return f"{Path(offline.__file__).read_text(encoding='utf-8')}\ncut()\n{code}"


def rows_of(
    key: str,
    found: Mapping[str, Mapping[str, Sequence[float]]],
    why: Mapping[str, str],
    *,
    failed: Mapping[str, int],
    is_judged: bool,
) -> list[Row]:
    """A figure of all contenders.

    Args:
        key: Of `FIGURES`.
        found: Values of each contender by its name and the figure's key, one a round.
        why: Why a contender has none, or fewer.
        failed: In how many rounds it failed.
        is_judged: Whether aiocarbon is held against the others.
    """
    label, unit = FIGURES[key]
    medians = {who: statistics.median(values[key]) for who, values in found.items() if values.get(key)}
    alike = [entry for entry in PEERS if key not in OF_WORK or not entry.lacks]
    peers = [medians[entry.name] for entry in alike if entry.name in medians]
    rows: list[Row] = []
    for entry in CONTENDERS:
        metric = f"{label}: {entry.name}"
        values = found[entry.name].get(key, ())
        fails = failed.get(entry.name, 0)
        is_amiss = entry is ASYNC and fails > 0
        if not values:
            rows.append(replace(skipped(metric, unit, why[entry.name]), ok=False if is_amiss else None))
            continue
        low, high = bootstrap(values, seed=SEED)
        lacks = f"; {entry.lacks}" if key in OF_WORK and entry.lacks else ""
        interval = f", 95 % interval {low:.3g} to {high:.3g}" if len(values) > 2 else ""
        note = f"median of {len(values)}, {min(values):.3g} to {max(values):.3g}{interval}{lacks}"
        note += f"; {fails} more {why[entry.name]}" if fails else ""
        if is_amiss:  # whoever fails in some rounds is not held to be cheap in the others
            rows.append(replace(info(metric, medians[entry.name], unit, note), ok=False))
        elif entry is ASYNC and key in LIMITED and peers and is_judged:
            rows.append(at_most(metric, medians[entry.name], unit, min(peers), note))
        else:
            rows.append(info(metric, medians[entry.name], unit, note))
    return rows


def _cli_row(environ: Mapping[str, str], rounds: int, seconds: float, folder: Path) -> Row:
    """CPU seconds of a minute of `aiocarbon run`, from some seconds after its begin on."""
    metric, unit = "CPU seconds of a tracked minute: aiocarbon run", "s"
    if why := why_not(ASYNC):
        return skipped(metric, unit, why)
    try:
        each = [_cli_cpu_s(environ, seconds, folder) / seconds * 60.0 for _ in range(rounds)]
    except OSError as error:  # it ended too soon
        return Row(metric, None, unit, ok=False, note=f"failed: {error}")
    return info(metric, statistics.median(each), unit, f"median of {len(each)}, {min(each):.3g} to {max(each):.3g}")


def _cli_cpu_s(environ: Mapping[str, str], seconds: float, folder: Path) -> float:
    options = ("run", "--location", "DK", "--offline", "--")
    command = [python(), "-m", "aiocarbon", *options, "sleep", str(BEGIN_S + seconds + 1.0)]
    env = with_root({**os.environ, **environ, "AIOCARBON_LOCK_DIR": "none"})
    with subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        time.sleep(BEGIN_S)
        before = cpu_s_of(run.pid)
        time.sleep(seconds)
        return cpu_s_of(run.pid) - before
