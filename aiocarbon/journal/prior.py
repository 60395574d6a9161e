"""What earlier runs of the same name took, out of the first and last lines of their journals.

A journal's end states the rate that its run ended with, so no journal is read as a whole. Runs that broke off, that
marked no epoch or whose files cannot be read tell nothing. Blocking: call in a worker.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from aiocarbon._core.rates import Prior
from aiocarbon.journal.plain import count, number, seconds

__all__ = ["END_KEY", "epochs_done", "newest_runs", "prior_of"]

EPOCH_BEGIN: Final = b'{"k":"epoch"'
"""With which the line of an epoch begins."""

END_KEY: Final = "rate"
"""Where the end record holds it: {"epochs", "epoch_s", "power_w"}."""

RUNS: Final = 8
"""So many of the newest runs of the name count."""

LOOKED_AT: Final = 200
"""So many of the newest runs of the folder are looked at."""

FIRST_BYTES: Final = 1 << 16
LAST_BYTES: Final = 1 << 18


def prior_of(folder: Path, name: str, besides: str = "") -> Prior | None:
    """What an epoch of the newest runs of a name took; None if no run tells.

    Args:
        folder: Folder of journals, one folder a run.
        name: What the runs are called; the nameless ones have nothing in common.
        besides: Id of a run that does not count.
    """
    if not name:
        return None
    found: list[tuple[float, float | None]] = []
    for run in newest_runs(folder):
        if run.name == besides:
            continue
        rates = [rate for file in _files(run) if (rate := _rate(file, name)) is not None]
        if rates:
            found.append(rates[0])  # the processes of one run count as one
        if len(found) == RUNS:
            break
    if not found:
        return None
    epoch_s, epoch_s_sd = _spread([epoch_s for epoch_s, _ in found])
    powers = [power for _, power in found if power is not None]
    power_w, power_w_sd = _spread(powers) if powers else (None, None)
    return Prior(epoch_s=epoch_s, epoch_s_sd=epoch_s_sd, power_w=power_w, power_w_sd=power_w_sd, runs=len(found))


def epochs_done(run: Path) -> int:
    """How many epochs the journals of a run tell as done: the number of the one that comes next.

    Args:
        run: The run's folder; where there is none, none was done.
    """
    done = 0
    for path in _files(run):
        try:
            with path.open("rb") as file:
                for line in file:
                    if line.startswith(EPOCH_BEGIN):
                        record = json.loads(line)
                        if record["partial"] is False:
                            done = max(done, count(record["i"]) + 1)
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            continue  # what cannot be read tells nothing
    return done


def _spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation; of one value none."""
    import statistics  # which takes 10 ms and a megabyte: of a run without forerunners nobody needs it

    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def newest_runs(folder: Path) -> list[Path]:
    """The folders of the runs whose journals were written last, the newest first, so many as are looked at.

    The time of a run's folder tells nothing of that: a file that is put beside the journals later changes it.
    """
    return [Path(path) for _, path in heapq.nlargest(LOOKED_AT, _written(folder))]


def _written(folder: Path) -> Iterator[tuple[float, str]]:
    """When each run of a folder was written last; those that cannot be looked at, and those without journals, are not.

    Only times of files are read, 15 us a run.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as runs:
        for run in runs:
            with contextlib.suppress(OSError), os.scandir(run.path) as files:
                times = [file.stat().st_mtime for file in files if file.name.endswith(".jsonl")]
                if times:
                    yield max(times), run.path


def _files(run: Path) -> list[Path]:
    try:
        return sorted(run.glob("*.jsonl"))
    except OSError:
        return []


def _rate(path: Path, name: str) -> tuple[float, float | None] | None:
    """Seconds of an epoch and watts, as a journal's end states them; None if it is of another name or states none."""
    try:
        with path.open("rb") as file:
            first = file.readline(FIRST_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - LAST_BYTES, 0))
            last = file.read(LAST_BYTES).rstrip(b"\n").rpartition(b"\n")[2]
        if json.loads(first).get("name") != name:
            return None
        rate: Any = json.loads(last).get(END_KEY)
        epoch_s, power_w = seconds(rate["epoch_s"]), rate["power_w"]
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    return (epoch_s, _amount(power_w)) if epoch_s else None


def _amount(value: object) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        found = number(value)
        return found if found >= 0.0 else None
    return None
