"""What a process has used so far: CPU seconds, instructions, memory, threads, context switches."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NUMBERS: Final = {"x86_64": 298, "aarch64": 241}
"""Of perf_event_open, asm/unistd.h of Linux 6."""

_ATTR_BYTES: Final = 112
_INSTRUCTIONS: Final = 1
"""PERF_COUNT_HW_INSTRUCTIONS of type PERF_TYPE_HARDWARE (0), linux/perf_event.h."""
_INHERIT: Final = 1 << 1
_EXCLUDE_KERNEL: Final = 1 << 5
_EXCLUDE_HV: Final = 1 << 6


class Instructions:
    """Counts the instructions that this process retires in user mode, threads begun later included.

    Attributes:
        why_not: Why there is no count; empty if there is one.
    """

    def __init__(self) -> None:
        self._fd = -1
        number = _NUMBERS.get(platform.machine())
        if number is None or platform.system() != "Linux":
            self.why_not = f"no number of perf_event_open is known for {platform.system()} on {platform.machine()}"
            return
        flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HV
        attr = struct.pack("=IIQQQQQ", 0, _ATTR_BYTES, _INSTRUCTIONS, 0, 0, 0, flags).ljust(_ATTR_BYTES, b"\0")
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.syscall(number, ctypes.c_char_p(attr), 0, -1, -1, 0)
        code = ctypes.get_errno()
        name = errno.errorcode.get(code, str(code))
        self.why_not = "" if self._fd >= 0 else f"the kernel gives no counter of instructions here ({name})"

    def read(self) -> int | None:
        """Instructions since the begin; None if they are not counted."""
        if self._fd < 0:
            return None
        return int.from_bytes(os.read(self._fd, 8), "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """At an instant, since the process began.

    Attributes:
        wall_s: Monotonic seconds.
        cpu_s: CPU seconds of all threads, and of children that have ended.
        switches: Context switches, voluntary or not.
        threads: Running now.
        rss_mib: Resident memory now.
        instructions: In user mode; None where the machine does not count them.
    """

    wall_s: float
    cpu_s: float
    switches: int
    threads: int
    rss_mib: float
    instructions: int | None


def usage(instructions: Instructions | None = None) -> Usage:
    """What this process has used so far."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Usage(
        wall_s=time.perf_counter(),
        cpu_s=time.process_time() + children.ru_utime + children.ru_stime,
        switches=own.ru_nvcsw + own.ru_nivcsw,
        threads=_threads(),
        rss_mib=rss_mib(),
        instructions=None if instructions is None else instructions.read(),
    )


def rss_mib() -> float:
    """Resident memory now; the greatest so far where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


def cpu_s_of(pid: int) -> float:
    """CPU seconds of another process and all its threads, ended ones too, by its CPU clock (clock_getcpuclockid(3)).

    Raises:
        OSError: There is no such process, or it is another user's.
    """
    clock = ctypes.c_int()
    if error := ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise OSError(error, os.strerror(error))
    return time.clock_gettime_ns(clock.value) / 1e9
