"""The report of a whole job, made by its first rank out of the journals that all ranks write into one folder."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiocarbon.errors import AiocarbonError

if TYPE_CHECKING:
    from aiocarbon._core.identity import Identity
    from aiocarbon._core.report import RunReport

__all__ = ["whole_job"]

PATIENCE_S: Final = 3.0
"""How long the first rank waits for the others' ends; schedulers leave 30 s between SIGTERM and SIGKILL."""

LOOK_S: Final = 0.05
RECENT_S: Final = 10.0
"""A journal whose newest second is older is not being written: its process was killed."""

FIRST_LINE_MOST: Final = 1 << 20
MOST_FILES: Final = 512
MOST_BYTES: Final = 1 << 26
"""Beyond these, reading could hold the job's end for longer than a few seconds."""


def whole_job(
    mine: RunReport,
    who: Identity,
    journal: Path | None,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> RunReport:
    """The job's report where this process is one of several that write into one folder, else the process's own.

    Args:
        mine: The process's own report.
        who: Who it is.
        journal: The folder of journals; None: none is written.
        clock: Monotonic seconds.
        wall: UTC seconds.
        sleep: Waits for so many seconds.
    """
    if journal is None or (who.expected_tasks or 1) == 1:
        return mine
    folder = journal / who.run_id
    deadline = clock() + PATIENCE_S
    while _goes_on(folder, who.attempt, wall()) and clock() < deadline:
        sleep(LOOK_S)
    files = list(folder.rglob("*.jsonl"))
    try:
        if len(files) > MOST_FILES or sum(path.stat().st_size for path in files) > MOST_BYTES:
            return _with(mine, f"this is the part of rank {who.rank} alone; for the job: aiocarbon report {folder}")
        from aiocarbon.journal import load

        runs = [run for run in load(folder).runs if run.run_id == who.run_id]
    except Exception as error:  # the command has ended, and its exit code and what is known are to come out
        why = str(error) if isinstance(error, AiocarbonError | OSError) else f"{type(error).__name__}: {error}"
        return _with(mine, f"this is the part of rank {who.rank} alone; the job's journals cannot be read: {why}")
    return runs[0] if runs else mine


def _goes_on(folder: Path, attempt: str, now_s: float) -> bool:
    """True while another process of the attempt writes its journal: it takes away its newest second at a good end.

    Not of other attempts: a tracked batch script goes on as long as its step, which this may be.
    """
    for tail in folder.rglob("*.tail"):
        try:
            if now_s - tail.stat().st_mtime < RECENT_S:
                with tail.with_suffix(".jsonl").open("rb") as file:
                    if json.loads(file.readline(FIRST_LINE_MOST)).get("attempt") == attempt:
                        return True
        except (OSError, ValueError, AttributeError):
            continue  # it ended just now, or is not ours
    return False


def _with(report: RunReport, warning: str) -> RunReport:
    return dataclasses.replace(report, warnings=(*report.warnings, warning))
