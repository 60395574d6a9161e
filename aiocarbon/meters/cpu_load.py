"""How long CPUs have been busy: the load that the CPU model turns into joules.

A load is cumulative busy thread-seconds, so a read that fails loses nothing once the next one succeeds. Which threads
are ours is decided once, at `find_load`: the whole machine; or, where a control group grants this process fewer (a
container's CPU quota, a batch job's cpuset), that group's, because the rest of the machine works for somebody else.
A virtual machine's threads are its vCPUs, and time that the hypervisor gave to others (steal) is not ours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from aiocarbon._core.units import NS_PER_S
from aiocarbon.errors import MeterUnavailableError, ReadError

__all__ = [
    "MODEL",
    "CpuLoad",
    "GroupLoad",
    "HostLoad",
    "StatLoad",
    "find_load",
    "granted",
    "mount_of",
    "online_cpus",
    "own_paths",
    "parse_cpu_list",
]

_BUSY_FIELDS: Final = (0, 1, 2, 5, 6)
"""user, nice, system, irq, softirq of a line of /proc/stat (proc(5)). idle and iowait are not busy; steal is another
guest's; guest and guest_nice stand in user and nice already."""

_US_PER_S: Final = NS_PER_S // 1000
_LINE_BYTES: Final = 512
"""More than a line of /proc/stat takes: ten numbers of 64 bits."""
_FILE_BYTES: Final = 1 << 20
"""More than its lines of CPUs take, which come first: at most 8,192 CPUs (NR_CPUS) of some 100 bytes each."""
_READ_BYTES: Final = 1 << 14
MODEL: Final = "model:cpu"
"""The device of the CPU model."""


class CpuLoad(Protocol):
    """Cumulative busy time of the threads that are ours."""

    @property
    def threads(self) -> float:
        """Hardware threads (vCPUs in a virtual machine) that are ours; a quota may grant a fraction of one."""
        ...

    @property
    def scope(self) -> str:
        """What is charged, in words."""
        ...

    def busy_s(self) -> float:
        """Thread-seconds worked so far, since an origin of the load's own.

        Raises:
            ReadError: The load could not be read.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StatLoad:
    """The load of a Linux machine, or of some of its CPUs, from `/proc/stat` (in steps of a clock tick, 10 ms).

    Attributes:
        path: The stat file.
        cpus: The CPUs to count; None for all.
        threads: How many they are.
        scope: What is charged, in words.
        ticks_per_s: Clock ticks a second (`sysconf(_SC_CLK_TCK)`).
    """

    path: Path
    cpus: frozenset[int] | None
    threads: float
    scope: str
    ticks_per_s: int

    def busy_s(self) -> float:
        """Thread-seconds worked since boot.

        Raises:
            ReadError: The file could not be read, does not hold these CPUs, or tells no time at all, as gVisor's does.
        """
        ticks = 0
        seen = 0
        tells = False
        # the whole machine's line is the first; those behind it are long where CPUs and interrupts are many
        for line in _lines(self.path, _LINE_BYTES)[:1] if self.cpus is None else _lines(self.path):
            name, *fields = line.split()
            if not name.startswith("cpu"):
                break
            if name == "cpu" if self.cpus is None else name[3:].isdecimal() and int(name[3:]) in self.cpus:
                ticks += _busy_ticks(fields, self.path)
                seen += 1
                tells = tells or any(field.strip("0") for field in fields)
        if seen and not tells:
            raise ReadError(f"{self.path} tells no CPU time, not even idle time: a sandbox keeps none", device=MODEL)
        if seen != (1 if self.cpus is None else len(self.cpus)):
            raise ReadError(f"{self.path} lacks CPUs that it held when the meter was opened", device=MODEL)
        return ticks / self.ticks_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLoad:
    """The load of a control group, from its own account of CPU time.

    Attributes:
        path: `cpu.stat` (version 2, microseconds) or `cpuacct.usage` (version 1, nanoseconds).
        threads: Hardware threads that the group may use.
        scope: What is charged, in words.
    """

    path: Path
    threads: float
    scope: str

    def busy_s(self) -> float:
        """Thread-seconds worked since the group was made.

        Raises:
            ReadError: The account could not be read.
        """
        lines = _lines(self.path)
        try:
            if self.path.name == "cpuacct.usage":
                return int(lines[0]) / NS_PER_S
            fields = dict(line.split()[:2] for line in lines if " " in line)
            return int(fields["usage_usec"]) / _US_PER_S
        except (LookupError, ValueError) as error:
            raise ReadError(f"{self.path} holds no account of CPU time", device=MODEL) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLoad:
    """The load of a machine without `/proc`, from psutil (macOS, Windows).

    Attributes:
        threads: Logical CPUs.
        scope: What is charged, in words.
    """

    threads: float
    scope: str = "the whole machine"

    def busy_s(self) -> float:
        """Thread-seconds worked since boot.

        Raises:
            ReadError: psutil could not tell.
        """
        import psutil

        try:
            times = psutil.cpu_times()
        except (OSError, psutil.Error) as error:
            raise ReadError(f"the CPU's load could not be read: {error}", device=MODEL) from error
        busy = ("user", "nice", "system", "irq", "softirq", "interrupt", "dpc")
        # Windows counts interrupts and deferred calls inside system (GetSystemTimes' kernel time holds them)
        apart = busy if not hasattr(times, "dpc") else busy[:3]
        return float(sum(getattr(times, name, 0.0) for name in apart))


def find_load(*, proc: Path, cgroup: Path, platform: str) -> CpuLoad:
    """The load that is ours on this machine.

    Args:
        proc: Where procfs is mounted.
        cgroup: Where control groups are mounted.
        platform: As `sys.platform`.

    Raises:
        MeterUnavailableError: There is no load to read here.
    """
    if not platform.startswith("linux"):
        import psutil

        threads = psutil.cpu_count(logical=True)
        if not threads:
            raise MeterUnavailableError("the number of this machine's CPUs is not known", device=MODEL)
        return HostLoad(threads=threads)
    stat = proc / "stat"
    online = online_cpus(stat)
    ticks_per_s = os.sysconf("SC_CLK_TCK")
    groups, bound = _granted(proc, cgroup, online)
    if bound >= len(online):
        scope = f"the whole machine, {len(online)} threads"
        return StatLoad(path=stat, cpus=None, threads=len(online), scope=scope, ticks_per_s=ticks_per_s)
    scope = f"the share that a control group grants, {bound:g} of {len(online)} threads"
    # the outermost group with this bound: everything in it shares the grant
    group = [group for group in groups if group.bound(online) == bound][-1]
    if group.account is not None:
        return GroupLoad(path=group.account, threads=bound, scope=scope)
    if group.quota is None or group.quota > bound:  # bound by its cpuset alone: count those CPUs
        cpus = frozenset(group.cpus or online) & online
        return StatLoad(path=stat, cpus=cpus, threads=bound, scope=scope, ticks_per_s=ticks_per_s)
    raise MeterUnavailableError("a control group limits this process's CPUs but keeps no account of them", device=MODEL)


def granted(*, proc: Path, cgroup: Path) -> tuple[float, int]:
    """Hardware threads that control groups grant this process, and those of the machine.

    Raises:
        MeterUnavailableError: `/proc/stat` does not tell the machine's.
    """
    online = online_cpus(proc / "stat")
    return _granted(proc, cgroup, online)[1], len(online)


def parse_cpu_list(text: str) -> frozenset[int]:
    """CPU numbers of the kernel's list format, "0-3,8" (cpuset(7)); empty for an empty list.

    Raises:
        ValueError: The text is not such a list.
    """
    cpus: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """A control group, our own or one above it: what it grants and where it keeps its account."""

    quota: float | None
    cpus: frozenset[int] | None
    account: Path | None

    def bound(self, online: frozenset[int]) -> float:
        threads = len(online & self.cpus) if self.cpus else len(online)
        return float(threads or len(online)) if self.quota is None else min(self.quota, float(threads or len(online)))


def _granted(proc: Path, cgroup: Path, online: frozenset[int]) -> tuple[list[_Group], float]:
    groups = _v2_groups(proc, cgroup) or _v1_groups(proc, cgroup)
    return groups, min((group.bound(online) for group in groups), default=float(len(online)))


def _lines(path: Path, most: int = _FILE_BYTES) -> list[str]:
    """The lines of a file's first bytes, once a second: a file object costs twice as much, `read_text` six times."""
    try:
        raw = b""
        fd = os.open(path, os.O_RDONLY)
        try:
            while len(raw) < most and (part := os.read(fd, min(most, _READ_BYTES))):
                raw += part
        finally:
            os.close(fd)
        return raw.decode("ascii", errors="replace").splitlines()
    except OSError as error:
        raise ReadError(f"{path} could not be read: {error.strerror}", device=MODEL) from error


def _busy_ticks(fields: list[str], path: Path) -> int:
    try:
        return sum(int(fields[index]) for index in _BUSY_FIELDS)
    except (IndexError, ValueError) as error:
        raise ReadError(f"{path} has a line that is not CPU time: {fields!r}", device=MODEL) from error


def online_cpus(stat: Path) -> frozenset[int]:
    """The CPUs that a stat file names.

    Raises:
        MeterUnavailableError: It cannot be read, or names none.
    """
    try:
        names = [line.partition(" ")[0] for line in _lines(stat)]
    except ReadError as error:
        raise MeterUnavailableError(f"no CPU load to read: {error}", device=MODEL) from error
    cpus = frozenset(int(name[3:]) for name in names if name.startswith("cpu") and name[3:].isdecimal())
    if not cpus:
        raise MeterUnavailableError(f"{stat} names no CPU", device=MODEL)
    return cpus


def own_paths(proc: Path) -> dict[str, str]:
    """By controller: this process's group, of `/proc/self/cgroup`; version 2 under the empty name (cgroups(7))."""
    paths: dict[str, str] = {}
    try:
        text = (proc / "self" / "cgroup").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return paths  # a kernel without control groups: the whole machine is ours
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            paths.update(dict.fromkeys(parts[1].split(","), parts[2]))
    return paths


def _levels(mount: Path, own: str) -> list[Path]:
    """Our group's folder and those above it, the innermost first.

    In a container without a namespace of its own the path is the host's, while the mount shows the container's group
    as its root: a path that does not exist is therefore the root.
    """
    path = (mount / own.lstrip("/")) if ".." not in own else mount
    if not path.is_dir():
        path = mount
    return [path, *(parent for parent in path.parents if parent.is_relative_to(mount))]


def _v2_groups(proc: Path, cgroup: Path) -> list[_Group]:
    if not (cgroup / "cgroup.controllers").is_file():
        return []
    groups = []
    for folder in _levels(cgroup, own_paths(proc).get("", "/")):
        account = folder / "cpu.stat"
        words = _words(folder / "cpu.max")
        quota = _ratio(*words) if len(words) == 2 else None
        cpus = _cpus(folder / "cpuset.cpus.effective")
        groups.append(_Group(quota=quota, cpus=cpus, account=account if account.is_file() else None))
    return groups


def _v1_groups(proc: Path, cgroup: Path) -> list[_Group]:
    paths = own_paths(proc)
    groups = []
    for folder in _levels(mount_of(cgroup, "cpu"), paths.get("cpu", "/")):
        period = "".join(_words(folder / "cpu.cfs_period_us"))
        quota = _ratio("".join(_words(folder / "cpu.cfs_quota_us")), period)
        groups.append(_Group(quota=quota, cpus=None, account=_v1_account(cgroup, mount_of(cgroup, "cpu"), folder)))
    for folder in _levels(mount_of(cgroup, "cpuset"), paths.get("cpuset", "/")):
        cpus = _cpus(folder / "cpuset.effective_cpus") or _cpus(folder / "cpuset.cpus")
        account = _v1_account(cgroup, mount_of(cgroup, "cpuset"), folder)
        groups.append(_Group(quota=None, cpus=cpus, account=account))
    return groups


def mount_of(cgroup: Path, controller: str) -> Path:
    """The folder of a version 1 controller, which may be mounted with another one."""
    names = {"cpu": ("cpu", "cpu,cpuacct"), "cpuacct": ("cpuacct", "cpu,cpuacct"), "cpuset": ("cpuset",)}
    return next((cgroup / name for name in names[controller] if (cgroup / name).is_dir()), cgroup / controller)


def _v1_account(cgroup: Path, mount: Path, folder: Path) -> Path | None:
    """The account of the group of the same path; the root's is the machine's where the root limits nothing."""
    account = mount_of(cgroup, "cpuacct") / folder.relative_to(mount) / "cpuacct.usage"
    return account if account.is_file() else None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []  # a controller that is not enabled limits nothing


def _ratio(quota: str, period: str) -> float | None:
    """Threads granted by "50000" of "100000" microseconds; None for "max", -1 or no statement."""
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        return int(quota) / int(period)
    return None


def _cpus(path: Path) -> frozenset[int] | None:
    try:
        return parse_cpu_list(" ".join(_words(path))) or None
    except ValueError:
        return None  # not a list that we know: limits nothing
