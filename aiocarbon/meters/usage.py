"""Who uses this machine: CPU time of a process tree or of a control group, beside everybody's.

Guarantees: what could not be read is an error, never a zero; the whole that a share is taken of is the whole that the
device's meter reads: the machine, or for the CPU model the threads whose load it charges (`cpu_load.find_load`).
Everybody's CPU time is /proc/stat's user, nice, system, irq and softirq: time stolen by a hypervisor is not this
machine's work, and a guest's time stands in user already.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from aiocarbon._core.reading import Device, DeviceKind, Finding, Part
from aiocarbon._core.scope import Usage
from aiocarbon.errors import MeterUnavailableError, ReadError
from aiocarbon.meters.base import Stopwatch
from aiocarbon.meters.cpu_load import (
    MODEL,
    CpuLoad,
    GroupLoad,
    StatLoad,
    find_load,
    mount_of,
    online_cpus,
    own_paths,
)
from aiocarbon.meters.gpu_users import GpuUsers
from aiocarbon.meters.process_tree import ProcessTree, ProcStat, read_stat

__all__ = ["Holder", "UsageReader", "Users", "key_of", "own_group", "share_words"]

CPU: Final = "cpu"
INIT_NAMESPACES: Final = {"pid": "pid:[4026531836]", "cgroup": "cgroup:[4026531835]"}
"""The machine's own namespaces have these inode numbers on every kernel (PROC_*_INIT_INO, linux/proc_ns.h)."""

MOST_PARENTS: Final = 64
"""No real process has so many; a /proc that changes while it is read might seem to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whose share it is.

    Attributes:
        name: Names it on its machine: "process 4711 (8123)", "cgroup /user.slice".
        words: The same for people.
        within: Names of the holders of which this one is a part, as far as is known.
        findings: What is to be said of it.
    """

    name: str
    words: str
    within: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


class Users(Protocol):
    """Those whose share is wanted."""

    def cpu_s(self) -> float:
        """CPU seconds used so far, since an origin of their own.

        Raises:
            ReadError: It could not be read; the next look makes up for it.
        """
        ...

    @property
    def pids(self) -> frozenset[int]:
        """Their processes, as of the last look."""
        ...


class Group:
    """The users in a control group.

    Args:
        folder: The group's folder with `cgroup.procs`.
        load: Its account of CPU time.
    """

    def __init__(self, folder: Path, load: GroupLoad) -> None:
        self._folder = folder
        self._load = load

    def cpu_s(self) -> float:
        """CPU seconds since the group was made; see `Users.cpu_s`."""
        return self._load.busy_s()

    @property
    def pids(self) -> frozenset[int]:
        """The processes in the group and those inside it, looked up now."""
        found: set[int] = set()
        for folder, _, files in os.walk(self._folder):
            if "cgroup.procs" in files:
                try:
                    with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as file:
                        found.update(int(line) for line in file if line.strip().isdecimal())
                except OSError:
                    continue  # the group was removed while we looked, or tells only its threads
        return frozenset(found)


class UsageReader:
    """Looks at who uses the machine's devices, for a scope.

    Args:
        scope: "process" or "cgroup".
        pid: Root of the process tree; this process by default.
        with_root: False where the root is not to be counted, only what it started.
        proc: Where procfs is mounted.
        cgroup: Where control groups are mounted.
        platform: As `sys.platform`.
        environ: The environment, which may say that a GPU is reserved, and which batch job this is.
        gpus: Tells whose the GPUs are; None: asked of NVML once there is one.
        clock: Monotonic nanoseconds.
    """

    def __init__(
        self,
        scope: str,
        *,
        pid: int | None = None,
        with_root: bool = True,
        proc: Path = Path("/proc"),
        cgroup: Path = Path("/sys/fs/cgroup"),
        platform: str = sys.platform,
        environ: Mapping[str, str] = os.environ,
        gpus: GpuUsers | None = None,
        clock: Stopwatch = time.monotonic_ns,
    ) -> None:
        self.scope = scope
        self._pid = os.getpid() if pid is None else pid
        self._with_root = with_root
        self._proc = proc
        self._cgroup = cgroup
        self._platform = platform
        self._environ = environ
        self._clock = clock
        self._users: Users | None = None
        self._machine: StatLoad | None = None
        self._modelled: CpuLoad | None = None
        self._given_gpus = gpus
        self._gpus = gpus or GpuUsers(environ=environ, clock=clock)

    def open(self) -> Holder:
        """Find whose share is wanted.

        Raises:
            MeterUnavailableError: This system does not tell.
        """
        if not self._platform.startswith("linux"):
            raise MeterUnavailableError(
                f"what a {self.scope} uses is told by Linux's /proc alone, and this is {self._platform}",
                remedy='scope="machine"',
            )
        if self._given_gpus is None:
            self._gpus = GpuUsers(environ=self._environ, is_hidden=self._is_in_container(), clock=self._clock)
        stat = self._proc / "stat"
        online = online_cpus(stat)
        findings = tuple(self._doubts())
        words = "the whole machine"
        self._machine = StatLoad(
            path=stat, cpus=None, threads=len(online), scope=words, ticks_per_s=os.sysconf("SC_CLK_TCK")
        )
        self._modelled = find_load(proc=self._proc, cgroup=self._cgroup, platform=self._platform)
        holder = self._open_group() if self.scope == "cgroup" else self._open_tree()
        return replace(holder, findings=(*holder.findings, *findings))

    def read(self, devices: Sequence[Device]) -> dict[str, Usage]:
        """Look now: usage by device id.

        Raises:
            ReadError: CPU times could not be read; the next look makes up for it.
        """
        if self._users is None or self._machine is None or self._modelled is None:
            raise ReadError("the usage reader is not open")
        t0_ns = self._clock()
        own_s = self._users.cpu_s()
        total_s = self._machine.busy_s()
        modelled_s = self._modelled.busy_s()
        t_ns = (t0_ns + self._clock()) // 2
        by_key = {
            CPU: Usage(t_ns=t_ns, own=own_s, total=total_s, capacity=self._machine.threads),
            MODEL: Usage(t_ns=t_ns, own=own_s, total=modelled_s, capacity=self._modelled.threads),
        }
        boards = [device for device in devices if key_of(device) == device.id != MODEL]
        found = self._gpus.look(boards, self._users.pids) if boards else {}
        return {device.id: by_key.get(key_of(device)) or found[device.id] for device in devices}

    def news(self) -> list[Finding]:
        """What was found out since it was last asked: by which rule a GPU was shared."""
        return self._gpus.news()

    def close(self) -> None:
        """Give everything back."""
        self._gpus.close()

    def _open_tree(self) -> Holder:
        root = read_stat(self._proc, self._pid)
        if root is None:
            raise MeterUnavailableError(f"{self._proc} does not show process {self._pid}", remedy='scope="machine"')
        self._users = ProcessTree(self._pid, proc=self._proc, with_root=self._with_root)
        words = f"process {self._pid} and what it started" if self._with_root else f"what process {self._pid} started"
        within = [self._process_name(parent) for parent in self._parents(root)]
        return Holder(name=self._process_name(root), words=words, within=(*within, *self._groups_around(is_own=True)))

    def _open_group(self) -> Holder:
        folder, account, path = own_group(proc=self._proc, cgroup=self._cgroup, environ=self._environ)
        self._users = Group(folder, GroupLoad(path=account, threads=0.0, scope=path))
        findings = []
        if path == "/" and not self._is_in_container():
            findings.append(
                Finding(
                    event="scope.root",
                    message="this process is in the root control group: its share is that of the whole machine",
                    remedy='scope="process"',
                )
            )
        return Holder(
            name=f"cgroup {path}{self._in_namespace('cgroup')}",
            words=f"control group {path}",
            within=tuple(self._groups_around(is_own=False)),
            findings=tuple(findings),
        )

    def _process_name(self, stat: ProcStat) -> str:
        # The start tells it from a later process of the same number, the namespace from one in another container.
        return f"process {stat.pid} ({stat.start}){self._in_namespace('pid')}"

    def _parents(self, stat: ProcStat) -> Iterator[ProcStat]:
        """The living ancestors of a process, the nearest first."""
        for _ in range(MOST_PARENTS):
            parent = read_stat(self._proc, stat.parent) if stat.parent else None
            if parent is None:
                return
            yield parent
            stat = parent

    def _groups_around(self, *, is_own: bool) -> Iterator[str]:
        """Names of the control groups that hold ours, and of our own."""
        try:
            _, _, path = own_group(proc=self._proc, cgroup=self._cgroup, environ=self._environ)
        except MeterUnavailableError:
            return
        parts = [part for part in path.split("/") if part]
        for n in range(len(parts) + (1 if is_own else 0)):
            yield f"cgroup /{'/'.join(parts[:n])}{self._in_namespace('cgroup')}"

    def _in_namespace(self, kind: str) -> str:
        """Tells names of a container from those of another; empty on the machine itself."""
        try:
            namespace = os.readlink(self._proc / "self" / "ns" / kind)
        except OSError:
            return ""  # a kernel without such namespaces
        return "" if namespace == INIT_NAMESPACES[kind] else f" in {namespace}"

    def _doubts(self) -> Sequence[Finding]:
        """Whether /proc/stat tells of the whole machine."""
        try:
            mounts = (self._proc / "self" / "mountinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
        if not any(line.split()[4:5] == ["/proc/stat"] for line in mounts.splitlines()):
            return ()
        return (
            Finding(
                event="scope.stat",
                message="this container's /proc/stat tells of the container alone (lxcfs), so that what others on the "
                "machine use cannot be told from what it uses: the share is an upper end",
            ),
        )

    def _is_in_container(self) -> bool:
        return self._in_namespace("pid") != ""


def own_group(*, proc: Path, cgroup: Path, environ: Mapping[str, str]) -> tuple[Path, Path, str]:
    """This job's control group: its folder, its account of CPU time, and its name.

    It is the one that /proc/self/cgroup names, cut at the batch job's (`job_<id>`) where SLURM made it: a job's steps
    and tasks have groups of their own inside.

    Raises:
        MeterUnavailableError: There is no such account.
    """
    is_v2 = (cgroup / "cgroup.controllers").is_file()
    mount = cgroup if is_v2 else mount_of(cgroup, "cpuacct")
    path = own_paths(proc).get("" if is_v2 else "cpuacct")
    if path is None:
        raise MeterUnavailableError(
            f"{proc}/self/cgroup names no control group that accounts for CPU time", remedy='scope="process"'
        )
    name = path
    parts = [part for part in path.split("/") if part]
    job = f"job_{environ.get('SLURM_JOB_ID', '')}"
    if job in parts:
        parts = parts[: parts.index(job) + 1]
        name = "/" + "/".join(parts)
    folder = mount.joinpath(*parts)
    if ".." in parts or not folder.is_dir():  # a container's view: what is mounted is its own group
        folder = mount
    account = folder / ("cpu.stat" if is_v2 else "cpuacct.usage")
    if not account.is_file():
        raise MeterUnavailableError(f"{account} is not there: control groups account for no CPU time here")
    return folder, account, name


def key_of(device: Device) -> str:
    """Whose usage decides on a device's share: its own for GPUs and the CPU model, the CPU's for all others."""
    if device.kind is DeviceKind.GPU or device.covers & {Part.GPU, Part.ACCELERATOR} or device.id == MODEL:
        return device.id
    return CPU


def share_words(device: Device, holder: Holder) -> str:
    """How a device's share is found, in words."""
    if key_of(device) not in (CPU, MODEL):
        return f"share by GPU time of {holder.words}"
    return f"share by CPU time of {holder.words}"
