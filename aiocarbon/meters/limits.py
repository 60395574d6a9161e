"""How many CPUs this job may use: whether a figure for the whole machine is much more than its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from aiocarbon._core.reading import Device, Part
from aiocarbon.errors import MeterUnavailableError
from aiocarbon.meters.cpu_load import MODEL, granted

__all__ = ["Limit", "find_limit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What this job may use of its machine.

    Attributes:
        threads: Hardware threads that it may use; a quota may grant a fraction of one.
        machine: Those of the machine.
        cause: Who says so, in words.
        by_group: True if a control group does: the CPU model then charges that group's load alone.
    """

    threads: float
    machine: int
    cause: str
    by_group: bool

    def warning(self, device: Device) -> str:
        """What a reader of a device's energy must know in the scope of the machine; empty if nothing."""
        if not device.counted or Part.CPU not in device.covers or (self.by_group and device.id == MODEL):
            return ""
        return (
            f"this job may use {self.threads:g} of this machine's {self.machine} CPUs ({self.cause}), and "
            'scope="machine" bills it the whole machine. For its own share: scope="process" or scope="cgroup"'
        )


def find_limit(
    *,
    proc: Path = Path("/proc"),
    cgroup: Path = Path("/sys/fs/cgroup"),
    platform: str = sys.platform,
    environ: Mapping[str, str] = os.environ,
    affinity: Callable[[], Collection[int]] = lambda: os.sched_getaffinity(0),
) -> Limit | None:
    """The tightest limit on this process's CPUs; None if it may use them all, or nothing tells."""
    if not platform.startswith("linux"):
        return None
    try:
        bound, machine = granted(proc=proc, cgroup=cgroup)
        allowed = len(affinity())
    except (MeterUnavailableError, OSError):
        return None
    told = environ.get("SLURM_CPUS_ON_NODE", "")
    by_slurm = float(told) if told.isdecimal() and int(told) else float(machine)
    # Where several say the same, a cpuset shows as the affinity that it brings about.
    limits = (
        Limit(threads=bound, machine=machine, cause="control group", by_group=True),
        Limit(threads=float(allowed), machine=machine, cause="affinity", by_group=False),
        Limit(threads=by_slurm, machine=machine, cause=f"SLURM_CPUS_ON_NODE={told}", by_group=False),
    )
    tightest = min(limits, key=lambda limit: limit.threads)
    return tightest if tightest.threads < machine else None
