"""What the NVIDIA meter knows of NVML: its return codes, the boards it lists, and the ways to read one.

Facts and return codes: nvml.h of NVML API v13; sensors: Yang et al., arXiv 2312.02741 (2023).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from aiocarbon._core.reading import Finding, Quantity
from aiocarbon._core.units import UJ_PER_MJ, W_PER_MW
from aiocarbon.errors import MeterPermissionError, MeterUnavailableError
from aiocarbon.meters.visible import Board


class Code(IntEnum):
    """NVML's return codes that have a treatment of their own (nvml.h, `nvmlReturn_t`)."""

    UNINITIALIZED = 1
    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    INSUFFICIENT_SIZE = 7
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    IRQ_ISSUE = 11
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    RESET_REQUIRED = 16
    OPERATING_SYSTEM = 17
    LIB_RM_VERSION_MISMATCH = 18
    IN_USE = 19
    MEMORY = 20
    NO_DATA = 21
    INSUFFICIENT_RESOURCES = 23
    ARGUMENT_VERSION_MISMATCH = 25
    DEPRECATED = 26
    NOT_READY = 27
    GPU_NOT_FOUND = 28
    UNKNOWN = 999


GONE: Final = frozenset({Code.GPU_IS_LOST, Code.RESET_REQUIRED, Code.GPU_NOT_FOUND})
FORBIDDEN: Final = frozenset({Code.NO_PERMISSION, Code.OPERATING_SYSTEM})
PASSING: Final = frozenset(
    {Code.NOT_FOUND, Code.INSUFFICIENT_SIZE, Code.TIMEOUT, Code.IRQ_ISSUE, Code.IN_USE, Code.MEMORY, Code.NO_DATA}
    | {Code.INSUFFICIENT_RESOURCES, Code.NOT_READY}
)
"""A later call may succeed, however often it failed."""
_USELESS: Final = frozenset({Code.DRIVER_NOT_LOADED, Code.LIBRARY_NOT_FOUND, Code.LIB_RM_VERSION_MISMATCH})
_ABSENT: Final = frozenset(
    {Code.NOT_SUPPORTED, Code.FUNCTION_NOT_FOUND, Code.ARGUMENT_VERSION_MISMATCH, Code.DEPRECATED}
)
LASTING: Final = GONE | FORBIDDEN | _USELESS | _ABSENT | {Code.UNINITIALIZED, Code.INVALID_ARGUMENT}
"""The same call on the same handle will not succeed. What is in neither set (UNKNOWN) passes or lasts: see strikes."""

MAX_STRIKES: Final = 3
"""Failures of an unknown kind in a row that count as passing; the next one means the device is lost."""

REMEDY: Final[Mapping[int, str]] = {
    Code.NO_PERMISSION: "sudo chmod a+rw /dev/nvidia*",
    Code.OPERATING_SYSTEM: "give the container or the job the GPU: docker run --gpus all ..., srun --gpus=1 ...",
    Code.LIB_RM_VERSION_MISMATCH: "sudo reboot  (or reload the driver: its library was upgraded under it)",
}

_POWER_INSTANT: Final = 186
_POWER_AVERAGE: Final = 185
_VALUE_MEMBERS: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of `nvmlValue_t` in the order of `nvmlValueType_t`."""
NOT_A_VALUE: Final = frozenset({0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF})
"""NVML_VALUE_NOT_AVAILABLE: 4.3 MW, or the energy of 5.8e8 years at 1 kW."""

_KEPLER, _PASCAL, _VOLTA, _TURING, _AMPERE, _ADA, _HOPPER = 2, 4, 5, 6, 7, 8, 9
_GA100: Final = re.compile(r"\b(A100X?|A800|A30X?|CMP 170HX)\b")
"""Boards with the GA100 chip, the only Ampere ones without the 1 s average (nvml.h, nvmlDeviceGetPowerUsage)."""
_SENSORS: Final[Mapping[int, tuple[float, float]]] = {
    _PASCAL: (0.020, 0.010),
    _VOLTA: (0.020, 0.010),
    _TURING: (0.100, 0.100),
    _AMPERE: (0.100, 0.100),
    _ADA: (0.100, 0.100),
    _HOPPER: (0.100, 0.025),
}
"""Architecture -> refresh and averaging window of the instant power sensor, in s (arXiv 2312.02741)."""
_GA100_SENSOR: Final = (0.100, 0.025)
_AVERAGE_LAG_S: Final = 0.5
"""Half of the 1 s over which the driver averages power."""


class Nvml(Protocol):
    """What the meter needs of the module `pynvml`; what fails raises `NVMLError` with its code in `value`."""

    NVMLError: type[Exception]

    def nvmlInitWithFlags(self, flags: int, /) -> object: ...
    def nvmlShutdown(self) -> object: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> object: ...
    def nvmlDeviceGetHandleByUUID(self, uuid: str, /) -> object: ...
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object, /) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: object, /) -> int: ...
    def nvmlDeviceGetFieldValues(self, handle: object, ids: list[int], /) -> Sequence[object]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One way to read a board: `read(handle)` gives microjoules or watts with one NVML call."""

    call: str
    quantity: Quantity
    read: Callable[[object], float]
    refresh_s: float | None = None
    lag_s: float = 0.0
    note: str = ""


def code_of(error: Exception) -> int:
    code = getattr(error, "value", Code.UNKNOWN)
    return code if isinstance(code, int) else Code.UNKNOWN


def unavailable(error: Exception, what: str) -> MeterUnavailableError:
    code = code_of(error)
    kind = MeterPermissionError if code in FORBIDDEN else MeterUnavailableError
    return kind(f"{what}: {error} (NVML code {code})", remedy=REMEDY.get(code, ""))


def id_of(board: Board) -> str:
    return board.uuid or f"nvml:{board.bus_id or board.index}"


def title_of(board: Board) -> str:
    return f"{board.name or 'NVIDIA GPU'} ({id_of(board)})"


def ask(nvml: Nvml, function: str, *args: object) -> object:
    """What an NVML function answers, or None where the board, the driver or the binding cannot (never fatal)."""
    try:
        return getattr(nvml, function)(*args)
    except (nvml.NVMLError, AttributeError, ValueError):  # ValueError: a name that is no UTF-8
        return None


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def list_boards(nvml: Nvml, count: int) -> tuple[list[Board], list[object], dict[int, Exception], list[Finding]]:
    """All boards in NVML's order with their handles (None: failed, and why); forbidden ones are left out and told.

    A board that is lost keeps its place, because CUDA counted it when the process began; one that a cgroup forbids
    has none, because CUDA does not see it.
    """
    boards: list[Board] = []
    handles: list[object] = []
    failures: dict[int, Exception] = {}
    findings: list[Finding] = []
    for index in range(count):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            if (code := code_of(error)) in FORBIDDEN:
                message = f"NVIDIA GPU {index} is not this process's: {error} (NVML code {code})"
                remedy = REMEDY.get(code, "")
                findings.append(Finding(event="meter.forbidden", message=message, remedy=remedy, is_warning=False))
                continue
            failures[len(boards)] = error
            boards.append(Board(index=index, uuid=""))
            handles.append(None)
            continue
        uuid = _text(ask(nvml, "nvmlDeviceGetUUID", handle))
        bus_id = "" if uuid else _text(getattr(ask(nvml, "nvmlDeviceGetPciInfo", handle), "busId", ""))
        name = _text(ask(nvml, "nvmlDeviceGetName", handle))
        mig_uuids = tuple(_mig_uuids(nvml, handle))
        boards.append(Board(index=index, uuid=uuid, bus_id=bus_id, name=name, mig_uuids=mig_uuids))
        handles.append(handle)
    return boards, handles, failures, findings


def _mig_uuids(nvml: Nvml, handle: object) -> Iterable[str]:
    mode = ask(nvml, "nvmlDeviceGetMigMode", handle)
    if not isinstance(mode, list | tuple) or not mode or mode[0] != 1:
        return
    most = ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle)
    for i in range(most if isinstance(most, int) else 0):
        instance = ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, i)
        # Slots without an instance answer NOT_FOUND and may lie between others.
        if instance is not None and (uuid := _text(ask(nvml, "nvmlDeviceGetUUID", instance))):
            yield uuid


def _sources(nvml: Nvml, board: Board, architecture: object) -> list[Source]:
    """The ways to read a board, the best first."""
    arch = architecture if isinstance(architecture, int) else 0
    is_ga100 = arch == _AMPERE and _GA100.search(board.name) is not None
    refresh_s, window_s = _GA100_SENSOR if is_ga100 else _SENSORS.get(arch, (None, 0.0))
    # Architectures are numbered in time; unknown ones (0 here, 0xFFFFFFFF in NVML) are taken for new.
    is_averaged = not is_ga100 and not _KEPLER <= arch < _AMPERE
    average = "1 s average of the driver"

    def power(call: str, read: Callable[[object], float], *, averaged: bool) -> Source:
        lag_s = _AVERAGE_LAG_S if averaged else window_s / 2
        note = average if averaged else ""
        return Source(call=call, quantity=Quantity.POWER, read=read, refresh_s=refresh_s, lag_s=lag_s, note=note)

    def energy_uj(handle: object) -> int:
        return _checked(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) * UJ_PER_MJ

    def usage_w(handle: object) -> float:
        return _checked(nvml, nvml.nvmlDeviceGetPowerUsage(handle)) * W_PER_MW

    return [
        Source(call="nvmlDeviceGetTotalEnergyConsumption", quantity=Quantity.ENERGY, read=energy_uj),
        power("field 186 (POWER_INSTANT)", lambda h: _field_w(nvml, h, _POWER_INSTANT), averaged=False),
        power("field 185 (POWER_AVERAGE)", lambda h: _field_w(nvml, h, _POWER_AVERAGE), averaged=True),
        power("nvmlDeviceGetPowerUsage", usage_w, averaged=is_averaged),
    ]


def _checked(nvml: Nvml, value: int) -> int:
    if value in NOT_A_VALUE:
        raise nvml.NVMLError(Code.NO_DATA.value)
    return value


def _field_w(nvml: Nvml, handle: object, field: int) -> float:
    """A power field in watts; the call may succeed while its entry failed, so the entry's own code is looked at."""
    entry = nvml.nvmlDeviceGetFieldValues(handle, [field])[0]
    code: int = getattr(entry, "nvmlReturn", Code.UNKNOWN.value)
    if code != 0:
        raise nvml.NVMLError(code)
    kind: int = getattr(entry, "valueType", 1)
    member = _VALUE_MEMBERS[kind] if 0 <= kind < len(_VALUE_MEMBERS) else "uiVal"
    milliwatts: int = getattr(getattr(entry, "value", None), member)
    return _checked(nvml, milliwatts) * W_PER_MW


def probe(nvml: Nvml, board: Board, handle: object) -> tuple[Source | None, list[Exception]]:
    """The best source that answers, and the errors of those that did not."""
    errors: list[Exception] = []
    for source in _sources(nvml, board, ask(nvml, "nvmlDeviceGetArchitecture", handle)):
        for _ in range(MAX_STRIKES):
            try:
                source.read(handle)
            except nvml.NVMLError as error:
                failed = error
                if code_of(error) in LASTING:
                    break
            else:
                return source, errors
        errors.append(failed)
        if code_of(failed) in GONE:
            break
    return None, errors
