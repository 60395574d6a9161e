"""CPU time of a process and all its descendants, those that have ended included (Linux, by /proc).

The kernel keeps a process's own CPU time while it lives and adds it to its parent's account of waited-for children when
it is reaped (proc(5): utime, stime, cutime, cstime). Both are read at each look, and what a child had been seen to use
is taken off what its parent gains by it, so that nothing is lost when it ends between looks and nothing counts twice.

Not seen: a process whose parent has ended before anybody looked (a daemon that forked twice), and the last stretch, up
to a look, of a child that nobody waits for. A process is known by its number and its start, so a number that is used
again is another process.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from aiocarbon.errors import ReadError

__all__ = ["ProcStat", "ProcessTree", "parse_stat", "read_stat"]

_AFTER_NAME: Final = 3
"""The fields of /proc/PID/stat are counted from 1 in proc(5); the third follows the name, which may hold anything."""


class ProcStat(NamedTuple):
    """What /proc/PID/stat says of a process.

    Attributes:
        pid: Its number.
        parent: Its parent's.
        start: When it started, clock ticks since boot.
        own: CPU time of all its threads, ended ones included, clock ticks.
        waited: CPU time of its children that ended and were waited for, likewise theirs, clock ticks.
    """

    pid: int
    parent: int
    start: int
    own: int
    waited: int

    @property
    def total(self) -> int:
        """What its parent will gain when it is waited for."""
        return self.own + self.waited


def parse_stat(text: str) -> ProcStat:
    """A line of /proc/PID/stat.

    Raises:
        ValueError: It is none.
    """
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    try:
        parent, utime, stime, cutime, cstime, start = (int(fields[n - _AFTER_NAME]) for n in (4, 14, 15, 16, 17, 22))
        return ProcStat(int(head.split(" ", 1)[0]), parent, start, utime + stime, cutime + cstime)
    except (ValueError, IndexError):
        raise ValueError(f"{text[:80]!r} is no line of /proc/PID/stat") from None


def read_stat(proc: Path, pid: int) -> ProcStat | None:
    """A process's times; None if it has ended.

    Raises:
        ReadError: It is there and cannot be read.
    """
    try:
        with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ReadError(f"{proc}/{pid}/stat could not be read: {error}") from error


@dataclass(slots=True)
class _Member:
    """A process of the tree as it was last seen."""

    stat: ProcStat
    parent: int  # who inherits its account is found along these: its parent at birth, or a reaper of the tree


class ProcessTree:
    """The CPU time of a process tree, counted from the first look on.

    Args:
        pid: Its root.
        proc: Where procfs is mounted.
        with_root: False to leave out the root's own CPU time: its children are the tree.
        ticks_per_s: Clock ticks a second (`sysconf(_SC_CLK_TCK)`).
    """

    def __init__(self, pid: int, *, proc: Path = Path("/proc"), with_root: bool = True, ticks_per_s: int = 0) -> None:
        self.pid = pid
        self._proc = proc
        self._with_root = with_root
        self._ticks_per_s = ticks_per_s or os.sysconf("SC_CLK_TCK")
        self._members: dict[int, _Member] = {}
        self._foreign: set[int] = set()
        self._has_begun = False
        self._late: dict[int, int] = {}  # by pid: ticks of children that ended, and that it has not yet gained
        self._ticks = 0

    @property
    def pids(self) -> frozenset[int]:
        """The processes that were seen alive at the last look."""
        return frozenset(pid for pid in self._members if self._with_root or pid != self.pid)

    def cpu_s(self) -> float:
        """CPU seconds of the tree since the first look, in steps of a clock tick (10 ms).

        Raises:
            ReadError: /proc could not be read; the next look makes up for it.
        """
        if not self._has_begun:
            root = read_stat(self._proc, self.pid)
            if root is None:
                raise ReadError(f"there is no process {self.pid} in {self._proc}")
            listed = self._listed()
            self._has_begun = True
            self._members[self.pid] = _Member(root, root.parent)
            self._join(listed)
            return 0.0
        listed = self._listed()
        # Parents first, as they joined: a child that ends while we look is then in its parent's account at the next
        # look at the earliest, when it is known to have ended, and never in two places at once.
        now = {pid: self._seen(pid, member) for pid, member in self._members.items()}
        ended = [pid for pid, stat in now.items() if stat is None]
        inherited = self._inherited(ended)
        late, self._late = self._late, {}
        for pid, stat in now.items():
            if stat is not None:
                before = self._members[pid].stat
                if self._with_root or pid != self.pid:
                    self._ticks += max(stat.own - before.own, 0)
                # Of a child that ended its parent gains all; what was counted while it lived is taken off.
                gained, known = stat.waited - before.waited, inherited.get(pid, 0)
                self._ticks += max(gained - known - late.get(pid, 0), 0)
                if known > gained - late.get(pid, 0):
                    self._late[pid] = known - max(gained - late.get(pid, 0), 0)
                self._members[pid].stat = stat
                if stat.parent in now:  # a reaper within the tree took it over (prctl(2): PR_SET_CHILD_SUBREAPER)
                    self._members[pid].parent = stat.parent
        for pid in ended:
            del self._members[pid]
        # Who is new was born since: all that it has used is of this time.
        self._ticks += sum(self._members[pid].stat.total for pid in self._join(listed))
        return self._ticks / self._ticks_per_s

    def _seen(self, pid: int, member: _Member) -> ProcStat | None:
        """A member's times now; None if it has ended."""
        try:
            stat = read_stat(self._proc, pid)
        except ReadError:
            return member.stat  # it is there, and says nothing: it may say more at the next look
        return stat if stat is not None and stat.start == member.stat.start else None

    def _inherited(self, ended: Iterable[int]) -> dict[int, int]:
        """By living member: the ticks that were counted already of those that ended under it."""
        gone = set(ended)
        inherited: dict[int, int] = {}
        for pid in gone:
            heir = self._members[pid].parent
            while heir in gone:
                heir = self._members[heir].parent
            if heir in self._members:
                known = self._members[pid].stat.total + self._late.get(pid, 0)
                inherited[heir] = inherited.get(heir, 0) + known
        return inherited

    def _listed(self) -> set[int]:
        try:
            return {int(name) for name in os.listdir(self._proc) if name.isdecimal()}
        except OSError as error:
            raise ReadError(f"{self._proc} could not be listed: {error.strerror}") from error

    def _join(self, listed: set[int]) -> list[int]:
        """Take in the descendants that are new; the others are remembered, and not looked at again while they live."""
        self._foreign &= listed
        unknown: dict[int, ProcStat] = {}
        for pid in listed - self._foreign - self._members.keys():
            try:
                stat = read_stat(self._proc, pid)
            except ReadError:
                continue  # may be readable at the next look
            if stat is not None:
                unknown[pid] = stat
        joined: list[int] = []
        while found := [stat for stat in unknown.values() if stat.parent in self._members]:
            for stat in found:
                self._members[stat.pid] = _Member(unknown.pop(stat.pid), stat.parent)
                joined.append(stat.pid)
        self._foreign |= unknown.keys()
        return joined
