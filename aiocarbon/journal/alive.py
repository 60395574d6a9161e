"""Whether a journal without an end is still being written: by its newest second, and by its process where that is here.

Blocking: it looks at files and at the processes of this machine.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiocarbon._core.units import S_PER_NS
from aiocarbon.journal.write import TAIL_SUFFIX

if TYPE_CHECKING:
    from aiocarbon.journal.process import Process

__all__ = ["boot_id", "goes_on", "is_alive", "is_written"]

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

RECENT_S: Final = 10.0
"""A newest second that is older is not being written any more."""

LOCAL_S: Final = 120.0
"""Likewise where the process can be looked for: two of the longest intervals."""

CLOCK_S: Final = 2.0
"""Systems know when a process began to a second, and the wall clock may have been set a little since."""


def is_alive(
    path: Path,
    *,
    boot: str,
    pid: int,
    began_s: float,
    boot_id: str = "",
    is_before: bool = False,
    is_mine: bool = False,
    now_s: float | None = None,
) -> bool:
    """Whether the process of a journal without an end still writes it: it overwrites its newest second at each tick.

    Args:
        path: The journal.
        boot: Id of the boot that it was written under.
        pid: Number of the process.
        began_s: When it began the journal, UTC seconds: what has its number and began later is another process.
        boot_id: Of this machine: where it is `boot`, the number tells whether the process is there.
        is_before: True if the launcher says that it was restarted since.
        is_mine: True if what this process began counts as well.
        now_s: UTC seconds.
    """
    try:
        age_s = (time.time() if now_s is None else now_s) - path.with_suffix(TAIL_SUFFIX).stat().st_mtime
    except OSError:
        return False
    if boot_id and boot == boot_id:
        return age_s < LOCAL_S and (is_mine or pid != os.getpid()) and _is_there(pid, began_s)
    return age_s < RECENT_S and not is_before


def _is_there(pid: int, began_s: float) -> bool:
    import psutil

    try:
        found = psutil.Process(pid)
        return found.create_time() < began_s + CLOCK_S and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError, OverflowError):
        return False


def is_written(process: Process, boot_id: str, *, is_before: bool = False, is_mine: bool = False) -> bool:
    """Whether a process whose journal has no end still writes it; arguments are those of `is_alive`."""
    return is_alive(
        process.path,
        boot=process.boot,
        pid=process.pid,
        began_s=process.anchors[0].wall_ns * S_PER_NS,
        boot_id=boot_id,
        is_before=is_before,
        is_mine=is_mine,
    )


def goes_on(process: Process) -> bool:
    """Whether a process has not ended, seen from this machine.

    A copy of its files is new where what they hold is not: its newest second must be recent by its own clock as well.
    """
    if process.end is not None:
        return False
    look = max(process.anchors)
    seen_s = (look.wall_ns + process.seen_ns - look.mono_ns) * S_PER_NS
    return abs(time.time() - seen_s) < LOCAL_S and is_written(process, boot_id(), is_mine=True)


def boot_id() -> str:
    """Id of this life of the machine: the kernel's, or when it began."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        import psutil

        # No kernel id: without one, runs before and after a reboot would seem to lie on one clock.
        return f"{socket.gethostname()}-{psutil.boot_time():.0f}"
