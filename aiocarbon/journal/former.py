"""What earlier tries of a run measured, out of its journals, for the try that goes on with it.

Blocking: called in a worker. What cannot be read costs nothing but itself: the merged report of the journals counts it
all the same, since no state has to be loaded to go on counting.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from aiocarbon._core.former import Former
from aiocarbon.errors import JournalError
from aiocarbon.journal.process import Process
from aiocarbon.journal.read import gather, tell
from aiocarbon.journal.write import TAIL_SUFFIX

__all__ = ["Resumed", "former_of", "is_alive"]

RECENT_S: Final = 10.0
"""A newest second that is older is not being written any more."""

LOCAL_S: Final = 120.0
"""Likewise where the process can be looked for: two of the longest intervals, and no number is given anew so soon."""


class Resumed(NamedTuple):
    """What a run's folder tells the try that goes on.

    Attributes:
        former: What was measured before; None if nothing was.
        notes: What a reader of the run's report must know.
    """

    former: Former | None
    notes: tuple[str, ...] = ()


def former_of(
    folder: Path, run_id: str, rank: int | None = None, restart: int | None = None, *, boot_id: str = ""
) -> Resumed:
    """What earlier tries of a run measured.

    Args:
        folder: The run's folder; there may be none yet.
        run_id: Id of the run.
        rank: Number of the process among those of the run; only what its like measured is taken, since each of them
            goes on with its own.
        restart: How often the launcher had started the run before; None if it does not say.
        boot_id: Of this machine: its processes can be looked for.
    """
    if not folder.is_dir():
        return Resumed(None)
    problems: list[str] = []
    try:
        processes = [one for one in gather([folder], problems) if one.facts.run_id == run_id]
    except (JournalError, OSError) as error:
        return Resumed(None, (f"nothing of the run's earlier tries can be read: {error}",))
    if any(one.facts.identity is not None and one.facts.identity.rank != rank for one in processes):
        processes = [one for one in processes if one.facts.identity is not None and one.facts.identity.rank == rank]
    alive = [one for one in processes if one.end is None and _is_beside(one, boot_id, restart)]
    over = [one for one in processes if one not in alive]
    notes = [*problems, *map(_beside, alive)]
    if not over:
        return Resumed(None, tuple(notes))
    try:
        told = tell(over, ())
    except Exception as error:  # whatever lies there, the run goes on and its own figures are right
        return Resumed(None, (*notes, f"what the run's earlier tries measured cannot be told: {error}"))
    (run,) = told.runs
    return Resumed(
        Former(run=run, epochs_done=_done(over), is_open=any(one.end is None for one in over)), (*notes, *told.problems)
    )


def _done(processes: Sequence[Process]) -> int:
    """Number of the epoch behind the last one that is complete."""
    return max((e.index + 1 for one in processes for e in one.epochs.values() if not e.is_partial), default=0)


def is_alive(
    path: Path, *, boot: str, pid: int, boot_id: str = "", is_before: bool = False, now_s: float | None = None
) -> bool:
    """Whether the process of a journal without an end still writes it: it overwrites its newest second at each tick.

    Args:
        path: The journal.
        boot: Id of the boot that it was written under.
        pid: Number of the process.
        boot_id: Of this machine: where it is `boot`, the number tells whether the process is there.
        is_before: True if the launcher says that it was restarted since.
        now_s: UTC seconds.
    """
    try:
        age_s = (time.time() if now_s is None else now_s) - path.with_suffix(TAIL_SUFFIX).stat().st_mtime
    except OSError:
        return False
    if boot_id and boot == boot_id:
        return age_s < LOCAL_S and pid != os.getpid() and _is_there(pid)
    return age_s < RECENT_S and not is_before


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _is_beside(process: Process, boot_id: str, restart: int | None) -> bool:
    who = process.facts.identity
    before = restart is not None and who is not None and who.restart is not None and who.restart < restart
    return is_alive(process.path, boot=process.boot, pid=_pid(process), boot_id=boot_id, is_before=before)


def _pid(process: Process) -> int:
    return int(process.ident.split("/")[-2])


def _beside(process: Process) -> str:
    return (
        f"another process ({process.facts.host}, process {_pid(process)}) goes on with this run at the same time: what "
        "it measures is not in this report; `aiocarbon report` puts both together and counts each joule once"
    )
