"""Whose the GPUs' time was, by NVML.

A GPU's time is told by `nvmlDeviceGetProcessUtilization`: samples of each process's use of the multiprocessors, whose
sums of ours and of all make the share. Who alone has a process on a GPU has all of its time. NVML gives the numbers of
the machine's processes, which a container does not know as its own: there a GPU is taken for ours where its only
processes bear numbers of ours, or where the environment reserves it for this job, which is told; else its share is not
known. Multi-Instance GPUs tell no utilisation. (nvml.h of API v13; NVIDIA/nvidia-docker#1483.)
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from aiocarbon._core.reading import Device, Finding
from aiocarbon._core.scope import Usage
from aiocarbon._core.units import NS_PER_S, S_PER_NS
from aiocarbon.errors import MeterError
from aiocarbon.meters import visible
from aiocarbon.meters._nvml import Code, Nvml, code_of
from aiocarbon.meters.base import Stopwatch
from aiocarbon.meters.nvml import load_pynvml

__all__ = ["GpuUsers"]

FRESH_NS: Final = 2 * NS_PER_S
"""A share holds so long without a new sample: NVML takes one every 1/6 to 1 s (nvml.h)."""

NO_LIST: Final = frozenset({"", "all", "none", "void", "NoDevFiles"})
"""Values of the variables that reserve nothing."""

_ASKED_TWICE: Final = 2


class Mix(NamedTuple):
    """Whose a GPU's time is at a look.

    Attributes:
        share: Ours, 0..1; None where it is not known; of no meaning where nobody used it.
        is_used: True if anybody did.
        rule: By which rule, in words, where that must be told; else empty.
    """

    share: float | None
    is_used: bool = True
    rule: str = ""


@dataclass(slots=True)
class _Board:
    """A GPU being looked at."""

    handle: Any = None
    own_s: float = 0.0
    total_s: float = 0.0
    t_ns: int | None = None
    seen_us: int = 0
    sampled: Mix | None = None
    sampled_ns: int = 0
    rule: str = ""


class GpuUsers:
    """Looks at who uses GPUs.

    Args:
        nvml: The module `pynvml` or a stand-in; None: imported at the first look.
        environ: The environment that may reserve a GPU.
        is_hidden: True in a container, where NVML's process numbers are not ours.
        clock: Monotonic nanoseconds.
    """

    def __init__(
        self,
        *,
        nvml: Nvml | None = None,
        environ: Mapping[str, str] = os.environ,
        is_hidden: bool = False,
        clock: Stopwatch = time.monotonic_ns,
    ) -> None:
        self._given = nvml
        self._environ = environ
        self._is_hidden = is_hidden
        self._clock = clock
        self._nvml: Any = None
        self._boards: dict[str, _Board] = {}
        self._before: frozenset[int] = frozenset()  # our processes at the look before
        self._news: list[Finding] = []

    def look(self, devices: Sequence[Device], pids: frozenset[int]) -> dict[str, Usage]:
        """Usage by device id; nothing that NVML does raises.

        Args:
            devices: The GPUs.
            pids: Our processes.
        """
        # Samples tell of the time since the look before: who was ours then and has ended used it as ours.
        ours, self._before = pids | self._before, pids
        return {device.id: self._look(device, ours) for device in devices}

    def news(self) -> list[Finding]:
        """The rules that were applied since it was last asked."""
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """Give NVML back."""
        nvml, self._nvml, self._boards = self._nvml, None, {}
        if nvml is not None:
            with contextlib.suppress(nvml.NVMLError):  # somebody else shut it down: nothing is left to give back
                nvml.nvmlShutdown()

    def _look(self, device: Device, pids: frozenset[int]) -> Usage:
        board = self._boards.setdefault(device.id, _Board())
        mix = self._mix(device, board, pids)
        now_ns = self._clock()
        length_s = 0.0 if board.t_ns is None else (now_ns - board.t_ns) * S_PER_NS
        board.t_ns = now_ns
        if mix.rule and mix.rule != board.rule:
            board.rule = mix.rule
            self._news.append(
                Finding(event="scope.gpu", message=f"{device.id} ({device.name}): {mix.rule}", device=device.id)
            )
        if mix.share is None:
            return Usage(t_ns=now_ns, own=None, total=None)
        if mix.is_used:
            board.own_s += mix.share * length_s
            board.total_s += length_s
        # A process that holds a GPU keeps it awake: what it draws then is not its idle floor.
        return Usage(t_ns=now_ns, own=board.own_s, total=board.total_s, capacity=None if mix.is_used else 1.0)

    def _mix(self, device: Device, board: _Board, pids: frozenset[int]) -> Mix:
        try:
            nvml: Any = self._nvml or self._given or load_pynvml()
        except MeterError as error:
            return Mix(None, rule=f"whose time it was is not known: {error}")
        try:
            handle = self._handle(nvml, device, board)
        except nvml.NVMLError as error:
            return Mix(None, rule=f"whose time it was is not known: NVML does not tell ({error})")
        running = self._asked(board, "nvmlDeviceGetComputeRunningProcesses", handle)
        samples = self._asked(board, "nvmlDeviceGetProcessUtilization", handle, board.seen_us)
        fresh = None if samples is None else [s for s in samples if s.timeStamp > board.seen_us]
        board.seen_us = max((s.timeStamp for s in fresh or ()), default=board.seen_us)
        used = [(s.pid, min(s.smUtil, 100)) for s in fresh or () if s.smUtil > 0]
        users = {p.pid for p in running or ()} | {pid for pid, _ in used}
        if self._is_hidden:
            return self._guess(users, pids, is_whole=not self._is_split(board))
        if users and users <= pids:
            return Mix(1.0)
        if running is None and samples is None:
            return Mix(None, rule="whose time it was is not known: NVML tells neither its processes nor their use")
        if not users & pids:
            return Mix(0.0, is_used=bool(users))
        if fresh is None:
            why = "Multi-Instance GPUs tell none" if self._is_split(board) else "NVML tells none"
            return Mix(None, rule=f"shared with other processes, by an amount that is not known: {why}")
        return self._by_time(board, used, pids)

    def _by_time(self, board: _Board, used: Sequence[tuple[int, int]], pids: frozenset[int]) -> Mix:
        """The share by samples of use; without new ones the last share holds a while, then nobody used it."""
        now_ns = self._clock()
        if used:
            total = sum(use for _, use in used)
            board.sampled = Mix(sum(use for pid, use in used if pid in pids) / total)
            board.sampled_ns = now_ns
        if board.sampled is None or now_ns - board.sampled_ns > FRESH_NS:
            return Mix(0.0, is_used=False)
        return board.sampled

    def _guess(self, users: set[int], pids: frozenset[int], *, is_whole: bool) -> Mix:
        """The share where NVML's process numbers are those of another namespace than ours."""
        if users and users <= pids:
            return Mix(1.0, rule="all of it counts as this job's: its only processes bear numbers of this container's")
        variable = self._reservation()
        if variable and is_whole:
            return Mix(
                1.0,
                rule="this container does not see whose processes use it; all of it counts as this job's, because "
                f"{variable}={self._environ[variable]} reserves it",
            )
        return Mix(
            None,
            rule="this container does not see whose processes use it, and nothing reserves it for this job: its share "
            "is not known and is missing. To mend it: export CUDA_VISIBLE_DEVICES=<the job's own GPUs>",
        )

    def _reservation(self) -> str:
        for variable in (visible.CUDA, *visible.HINTS):
            if self._environ.get(variable, "").strip() not in NO_LIST:
                return variable
        return ""

    def _is_split(self, board: _Board) -> bool:
        """True for a board in MIG mode."""
        try:
            return bool(self._nvml.nvmlDeviceGetMigMode(board.handle)[0])
        except (self._nvml.NVMLError, AttributeError, TypeError, IndexError):
            return False

    def _handle(self, nvml: Any, device: Device, board: _Board) -> object:
        """The board's handle; initialises NVML at the first look."""
        if self._nvml is None:
            nvml.nvmlInitWithFlags(0)
            self._nvml = nvml
        if board.handle is None:
            kind, _, index = device.id.rpartition(":")
            if kind == "nvml" and index.isdecimal():  # a board that does not tell its UUID
                board.handle = self._nvml.nvmlDeviceGetHandleByIndex(int(index))
            else:
                board.handle = self._nvml.nvmlDeviceGetHandleByUUID(device.id)
        return board.handle

    def _asked(self, board: _Board, function: str, *arguments: object) -> list[Any] | None:
        """What NVML lists; empty where it has nothing, None where it does not tell."""
        for _ in range(_ASKED_TWICE):
            try:
                return list(getattr(self._nvml, function)(*arguments))
            except AttributeError:
                return None
            except self._nvml.NVMLError as error:
                code = code_of(error)
                if code in (0, Code.NOT_FOUND):  # no sample; the binding takes "none, and well" for an error
                    return []
                if code == Code.UNINITIALIZED:
                    with contextlib.suppress(self._nvml.NVMLError):
                        self._nvml.nvmlInitWithFlags(0)
                    board.handle = None
                    return None
                if code != Code.INSUFFICIENT_SIZE:  # else: a process came between the question for the size and this
                    return None
        return None
