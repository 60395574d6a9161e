"""Which GPUs are this process's own, by the variables that hide GPUs from it. Pure: text in, a selection out.

Guarantees: no value of a variable raises; a list that names nothing valid selects nothing, never everything (a run
must not be charged for its neighbours' boards). Sources of the grammar: CUDA C++ programming guide, "CUDA environment
variables"; NVIDIA's MPS and MIG guides; ROCm documentation, "GPU isolation techniques", and ROCR's `RvdFilter`;
SLURM's "Generic resource (GRES) scheduling".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_LEADING_INT: Final = re.compile(r"[+-]?\d+")
_LEGACY_MIG: Final = re.compile(r"MIG-(GPU-[0-9A-Za-z-]+)/\d+/\d+")
_RANGE: Final = re.compile(r"(\d+)-(\d+)")
_MAX_RANGE: Final = 4096
"""The most boards that a range may name: "0-999999999" must not eat the memory."""

CUDA: Final = "CUDA_VISIBLE_DEVICES"
HINTS: Final = ("NVIDIA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
"""What a container runtime or scheduler handed out; asked in this order where `CUDA_VISIBLE_DEVICES` is unset."""

_HIDING: Final = frozenset({"-1", "none", "void", "nodevfiles"})
"""What people write to hide all boards, and SLURM for a job without any: it names none and is no mistake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A GPU as its driver lists it.

    Attributes:
        index: The driver's index (PCI order).
        uuid: "GPU-..."; empty if the board could not be asked.
        bus_id: PCI bus id; empty if unknown.
        name: What kind of board it is.
        mig_uuids: UUIDs of its MIG instances.
    """

    index: int
    uuid: str
    bus_id: str = ""
    name: str = ""
    mig_uuids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The boards that a process may use.

    Attributes:
        positions: Places in the list of boards, in the order in which the process sees them.
        variable: The variable that decided; empty if none is set.
        value: Its value.
        is_ambiguous: True if the value holds indices of an order that only CUDA itself knows, and that matters.
        problem: What was wrong with the value, in words; empty if nothing.
    """

    positions: tuple[int, ...]
    variable: str = ""
    value: str = ""
    is_ambiguous: bool = False
    problem: str = ""


def select(boards: Sequence[Board], environ: Mapping[str, str]) -> Selection:
    """The NVIDIA boards that CUDA would show this process.

    `CUDA_VISIBLE_DEVICES` alone decides where it is set, as it does for CUDA. Else what a container runtime or SLURM
    says it handed out is a hint: it counts only where it names fewer boards than the driver shows, because a
    runtime or cgroup that acted on it has renumbered what is left.
    """
    everything = tuple(range(len(boards)))
    value = environ.get(CUDA)
    if value is not None:
        return _select_cuda(boards, value, environ.get("CUDA_DEVICE_ORDER", ""))
    for variable in HINTS:
        value = environ.get(variable, "").strip()
        # "void" and "none" are also what a runtime leaves behind when devices were injected another way (CDI).
        if value.lower() in ("", "all", "none", "void", "no"):
            continue
        entries = _expanded(value)
        if len(entries) >= len(boards):
            return Selection(positions=everything, variable=variable, value=value)
        positions, problem = _resolve(boards, entries, is_cuda=False)
        if problem or not positions:
            # The numbers are the host's and do not fit what is seen here: seen is then what was handed out.
            return Selection(positions=everything, variable=variable, value=value, problem=problem)
        return Selection(positions=tuple(positions), variable=variable, value=value)
    return Selection(positions=everything)


def select_amd(boards: Sequence[Board], environ: Mapping[str, str]) -> Selection:
    """The AMD boards that ROCm would show this process.

    ROCR filters first and HIP counts in what ROCR left; `CUDA_VISIBLE_DEVICES` means the same to HIP as
    `HIP_VISIBLE_DEVICES`, which wins. Boards must come in ROCR's order (KFD topology, in general PCI order).
    """
    left = tuple(range(len(boards)))
    variables: list[str] = []
    problems: list[str] = []
    hip = "HIP_VISIBLE_DEVICES" if "HIP_VISIBLE_DEVICES" in environ else CUDA
    for variable in ("ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", hip):
        value = environ.get(variable)
        if value is None:
            continue
        positions, problem = _resolve([boards[i] for i in left], _entries(value), is_cuda=False)
        left = tuple(left[i] for i in positions)
        variables.append(variable)
        if problem:
            problems.append(f"{variable}: {problem}")
    value = ", ".join(f"{name}={environ[name]}" for name in variables)
    return Selection(positions=left, variable=" and ".join(variables), value=value, problem="; ".join(problems))


def by_uuids(boards: Sequence[Board], uuids: Sequence[str]) -> tuple[int, ...]:
    """Places of the boards with these UUIDs ("GPU-" may be left out, a MIG instance stands for its board)."""
    found: list[int] = []
    for uuid in uuids:
        bare = uuid.lower().removeprefix("gpu-").removeprefix("mig-")
        for i, board in enumerate(boards):
            own = [board.uuid.lower().removeprefix("gpu-"), *(m.lower().removeprefix("mig-") for m in board.mig_uuids)]
            if bare and bare in own:
                found.append(i)
    return tuple(dict.fromkeys(found))


def _select_cuda(boards: Sequence[Board], value: str, order: str) -> Selection:
    entries = _entries(value)
    positions, problem = _resolve(boards, entries, is_cuda=True)
    if value.strip().lower() in _HIDING:
        problem = ""
    kind = _kind(entries[0]) if entries else ""
    named = entries[: len(positions)] if kind == "MIG-" else positions
    if len(set(named)) < len(named):
        positions, problem = [], "a device is named twice, so CUDA shows none"
    if kind == "MIG-":
        positions = positions[:1]  # a process uses one instance at most, the first (MIG guide)
    is_mixed = len({board.name for board in boards if board.name}) > 1
    # All of them are all of them, in whatever order.
    is_ambiguous = kind == "index" and is_mixed and order != "PCI_BUS_ID" and 0 < len(positions) < len(boards)
    return Selection(positions=tuple(positions), variable=CUDA, value=value, is_ambiguous=is_ambiguous, problem=problem)


def _entries(value: str) -> list[str]:
    return [entry.strip() for entry in value.split(",")] if value.strip() else []


def _expanded(value: str) -> list[str]:
    """Entries of a scheduler's list, with ranges ("0-3") and instances ("1:0" is instance 0 of board 1) resolved."""
    entries: list[str] = []
    for entry in _entries(value):
        span = _RANGE.fullmatch(entry)
        if span and 0 <= int(span[2]) - int(span[1]) < _MAX_RANGE:
            entries += [str(i) for i in range(int(span[1]), int(span[2]) + 1)]
        else:
            entries.append(entry.partition(":")[0])
    return list(dict.fromkeys(entries))


def _resolve(boards: Sequence[Board], entries: Sequence[str], *, is_cuda: bool) -> tuple[list[int], str]:
    """Places named by a list, up to its first invalid entry, and what was wrong with that entry.

    Args:
        boards: What the list counts in.
        entries: The list.
        is_cuda: CUDA's reading: the first entry's kind goes for all, "1gpu" is 1 (strtol, as PyTorch's parser notes),
            and repetition is left to the caller. Else ROCR's: kinds may be mixed, numbers are numbers, and a board
            named again ends the list.
    """
    positions: list[int] = []
    first_kind = _kind(entries[0]) if entries else ""
    for entry in entries:
        position = None if is_cuda and _kind(entry) != first_kind else _position(boards, entry, is_cuda=is_cuda)
        if position is None:
            return positions, f"entry {entry!r} names no device here, so it and what follows it count for nothing"
        if not is_cuda and position in positions:
            return positions, f"entry {entry!r} names a device again, so it and what follows it count for nothing"
        positions.append(position)
    return positions, ""


def _kind(entry: str) -> str:
    return entry[:4] if entry.startswith(("GPU-", "MIG-")) else "index"


def _position(boards: Sequence[Board], entry: str, *, is_cuda: bool) -> int | None:
    kind = _kind(entry)
    if kind == "index":
        match = _LEADING_INT.match(entry) if is_cuda else _LEADING_INT.fullmatch(entry)
        # More digits than any index has would only be slow to convert.
        index = int(match[0]) if match and len(match[0]) < 10 else -1
        return index if 0 <= index < len(boards) else None
    if kind == "GPU-":
        return _single([i for i, board in enumerate(boards) if board.uuid.startswith(entry)])
    named = [(i, uuid) for i, board in enumerate(boards) for uuid in board.mig_uuids if uuid.startswith(entry)]
    exact = [i for i, uuid in named if uuid == entry]
    if found := exact or [i for i, _ in named]:
        return _single(found)
    legacy = _LEGACY_MIG.fullmatch(entry)
    return _single([i for i, board in enumerate(boards) if legacy and board.uuid.startswith(legacy[1])])


def _single(positions: Sequence[int]) -> int | None:
    return positions[0] if len(positions) == 1 else None
