"""Reads what `_core/identity.py` decides by: the environment, and which process started this one and its neighbours."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiocarbon._core.identity import Identity, decide, digest

LAUNCHED_BY: Final = ("TORCHELASTIC_RUN_ID", "CROSS_SIZE", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""A launcher gives its processes one of these, and has it not itself."""

MOST_ANCESTORS: Final = 64

_taken: Counter[str] = Counter()
_lock = threading.Lock()


def identify(
    environ: Mapping[str, str] = os.environ, *, proc: Path = Path("/proc"), pid: int | None = None
) -> Identity:
    """Who this process is, as long as the user says nothing else; a new start at each call.

    Args:
        environ: Its environment.
        proc: Where the kernel tells of processes.
        pid: The process; this one by default.
    """
    return decide(
        environ,
        hostname=socket.gethostname(),
        own=new_name(),
        launcher=launcher_of(environ, proc=proc, pid=os.getpid() if pid is None else pid),
    )


def numbered(run_id: str) -> str:
    """The id of this process's next run among those that a launcher's id names.

    A second run of one process in one job is a run of its own ("slurm-acc-42-2"): each of the job's processes counts
    alike, so they agree without asking each other.
    """
    with _lock:
        _taken[run_id] += 1
        n = _taken[run_id]
    return run_id if n == 1 else f"{run_id[:90]}-{n}"


def new_name() -> str:
    """A name that nothing else has, and that sorts by time."""
    stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{stamp}-{os.urandom(4).hex()}"


def launcher_of(environ: Mapping[str, str], *, proc: Path, pid: int) -> str:
    """Names the life of the launcher that a process and its neighbours on this machine descend from; empty if unknown.

    It is the nearest ancestor without the variable that the launcher gives to what it starts, whatever shells or
    wrappers lie between.
    """
    marker = next((name for name in LAUNCHED_BY if name in environ), None)
    if marker is None:
        return ""
    try:
        ancestor = _stat(proc, pid)[0]
        for _ in range(MOST_ANCESTORS):
            if not _has(proc, ancestor, marker):
                break
            ancestor = _stat(proc, ancestor)[0]
        began = _stat(proc, ancestor)[1]
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(proc / str(pid) / "ns/pid")
    except (OSError, ValueError, IndexError):
        return ""  # no such system, or it hides processes: then each is its own
    return digest(f"{boot} {namespace} {ancestor} {began}")


def _stat(proc: Path, pid: int) -> tuple[int, str]:
    """Parent and start time (ticks since boot) of a process, by proc_pid_stat(5): fields 4 and 22."""
    # The name in brackets may hold anything, so fields are counted from its end.
    fields = (proc / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return int(fields[1]), fields[19]


def _has(proc: Path, pid: int, variable: str) -> bool:
    """True if a process was given a variable; those of other users are hidden, and are none that we descend from."""
    try:
        variables = (proc / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(entry.startswith(f"{variable}=".encode()) for entry in variables)


def machine_id(etc: Path = Path("/etc")) -> str:
    """A digest of the system's machine id, which its manual page says not to show; empty where there is none."""
    try:
        text = (etc / "machine-id").read_text().strip()
    except OSError:
        return ""
    return digest(f"aiocarbon {text}") if text else ""


def time_namespace(proc: Path = Path("/proc")) -> str:
    """The kernel's name of the namespace whose boot clock this process reads; empty where there are none."""
    try:
        return os.readlink(proc / "self/ns/time")
    except OSError:
        return ""
