"""NVIDIA GPUs through NVML (`pynvml` of nvidia-ml-py).

Guarantees: one NVML call a read, with a cached handle; every return code has a treatment and none becomes a number;
CUDA is never initialised; nothing of NVML is touched in a forked child; a machine without a driver never imports
`pynvml`. Assumes that NVML may be called from several threads (nvml.h says so) and that the reads of one device
do not overlap. What it knows of NVML itself is in `_nvml.py`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiocarbon._core.reading import Basis, Device, DeviceKind, Finding, Part, Quantity, Reading
from aiocarbon._core.units import W_PER_MW
from aiocarbon.errors import MeterError, MeterLostError, MeterPermissionError, MeterUnavailableError, ReadError
from aiocarbon.meters import visible
from aiocarbon.meters._nvml import (
    FORBIDDEN,
    LASTING,
    MAX_STRIKES,
    NOT_A_VALUE,
    PASSING,
    REMEDY,
    Code,
    Nvml,
    Source,
    ask,
    code_of,
    id_of,
    list_boards,
    probe,
    title_of,
    unavailable,
)
from aiocarbon.meters.base import Inventory, Stopwatch
from aiocarbon.meters.visible import Board, Selection

_LOW_FACTOR: Final = 0.95
_HIGH_FACTOR: Final = 1.05
"""NVIDIA's own +-5 % (nvml.h, nvmlDeviceGetPowerUsage); arXiv 2312.02741 found most boards within it, few beyond."""
_PEAK_OVER_LIMIT: Final = 1.5
"""Headroom over the power limit, which is held on average and overshot by spikes; only a plausibility bound."""


@dataclass(slots=True)
class _Slot:
    """A board that is being read."""

    board: Board
    handle: object
    source: Source
    strikes: int = 0


class NvmlMeter:
    """Reads NVIDIA GPUs: the energy counter where there is one, else the power sensor.

    Which boards are read follows the variables that hide GPUs from CUDA (`visible.select`).

    Args:
        nvml: The module `pynvml` or a stand-in; None: imported if the machine has a driver.
        environ: The environment that says which boards are this process's own.
        clock: Monotonic nanoseconds.
        modules: Imported modules; asked for `torch`, which knows CUDA's order of unequal boards once it runs.
    """

    name = "nvml"

    def __init__(
        self,
        *,
        nvml: Nvml | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Stopwatch = time.monotonic_ns,
        modules: Mapping[str, object] = sys.modules,
    ) -> None:
        self._given = nvml
        self._environ = environ
        self._clock = clock
        self._modules = modules
        self._nvml: Nvml | None = None
        self._pid = 0
        self._is_up = False
        self._slots: dict[str, _Slot] = {}
        self._lock = threading.Lock()

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Find this process's boards and probe, once, what each can tell; see `Meter.open`."""
        self.close()
        nvml = self._nvml = self._given or load_pynvml()
        self._pid = os.getpid()
        try:
            try:
                nvml.nvmlInitWithFlags(0)
                self._is_up = True
                count = nvml.nvmlDeviceGetCount()
            except nvml.NVMLError as error:
                raise unavailable(error, "NVIDIA's driver library could not be used") from error
            return self._inventory(nvml, count)
        except BaseException:
            self.close()
            raise

    def read(self, device: Device) -> Reading:
        """Read one board now; see `Meter.read`. The call itself takes 10 us to 50 ms, the rest a few us."""
        slot = self._slots.get(device.id)
        nvml = self._nvml
        if slot is None or nvml is None:
            raise MeterLostError(f"{device.name} ({device.id}) is not open", device=device.id)
        if os.getpid() != self._pid:
            raise MeterLostError(f"{device.name}: NVML does not survive a fork; open the meter anew", device=device.id)
        handle, read, clock = slot.handle, slot.source.read, self._clock
        for is_last in (False, True):
            t0_ns = clock()
            try:
                value = read(handle)
            except nvml.NVMLError as error:
                if code_of(error) == Code.UNINITIALIZED and not is_last:
                    handle = self._initialise_again(nvml, slot, handle)
                    continue
                raise _failed_read(slot, device, error) from error
            t1_ns = clock()
            slot.strikes = 0
            return Reading(t0_ns, t1_ns, value)
        raise AssertionError("the second pass returns or raises")

    def close(self) -> None:
        """Give NVML back; see `Meter.close`."""
        nvml, self._nvml, self._slots = self._nvml, None, {}
        is_up, self._is_up = self._is_up, False
        if nvml is None or not is_up or os.getpid() != self._pid:
            return
        # A shutdown that fails (someone else did it, the driver is gone) leaves nothing that could be given back.
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()

    def _inventory(self, nvml: Nvml, count: int) -> Inventory:
        boards, handles, failures, findings = list_boards(nvml, count)
        if not boards:
            if findings:
                raise MeterPermissionError(findings[0].message, remedy=findings[0].remedy)
            raise MeterUnavailableError("NVIDIA's driver runs but shows no GPU")
        selection = visible.select(boards, self._environ)
        positions = selection.positions
        if selection.is_ambiguous and (uuids := _cuda_uuids(self._modules)):
            positions = visible.by_uuids(boards, uuids)
        elif selection.is_ambiguous:
            findings.append(_ambiguous(boards, selection))
        findings += _told(boards, selection, positions)
        if not positions:
            hides = f"{selection.variable}={selection.value!r} hides every NVIDIA GPU from this process"
            why = f": {selection.problem}" if selection.problem else ""
            raise MeterUnavailableError(hides + why, is_warning=bool(selection.problem))
        devices: list[Device] = []
        errors: list[Exception] = []
        for position in positions:
            board, handle = boards[position], handles[position]
            source, tried = probe(nvml, board, handle) if handle is not None else (None, [failures[position]])
            errors += tried
            findings += _findings(board, source, tried)
            if source is not None:
                device = _device(nvml, board, handle, source)
                self._slots[device.id] = _Slot(board, handle, source)
                devices.append(device)
        if not devices:
            worst = next((e for e in errors if code_of(e) in FORBIDDEN), errors[-1])
            raise unavailable(worst, "no NVIDIA GPU here tells its energy or power") from worst
        return Inventory(devices=tuple(devices), findings=tuple(findings))

    def _initialise_again(self, nvml: Nvml, slot: _Slot, failed: object) -> object:
        """A fresh handle after someone else shut NVML down; every slot's, as all of them died."""
        with self._lock:
            if slot.handle is not failed:  # another device's read was here first
                return slot.handle
            try:
                nvml.nvmlInitWithFlags(0)
                for each in self._slots.values():
                    # By UUID: the index may have changed if the driver was reloaded meanwhile.
                    by_uuid = each.board.uuid
                    each.handle = (
                        nvml.nvmlDeviceGetHandleByUUID(by_uuid)
                        if by_uuid
                        else nvml.nvmlDeviceGetHandleByIndex(each.board.index)
                    )
            except nvml.NVMLError as error:
                message = f"{title_of(slot.board)}: NVML was shut down and could not be initialised again: {error}"
                raise MeterLostError(message, device=id_of(slot.board)) from error
            return slot.handle


def load_pynvml() -> Nvml:
    """The module `pynvml`, if the machine has an NVIDIA driver.

    Raises:
        MeterUnavailableError: There is no driver, no `pynvml`, or another package of that name.
    """
    import ctypes

    library = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
    try:
        ctypes.CDLL(library)  # asked first because importing pynvml takes 22 ms, in vain on most machines
    except OSError as error:
        raise MeterUnavailableError(
            f"no NVIDIA driver on this machine: {library} cannot be loaded ({error})"
        ) from error
    try:
        import pynvml
    except ImportError as error:
        message = f"this machine has an NVIDIA driver, but pynvml cannot be imported: {error}"
        raise MeterUnavailableError(message, remedy="pip install nvidia-ml-py") from error
    # Only nvidia-ml-py has it; unofficial packages shadow it and lack calls (as Zeus found).
    if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
        message = f"the installed pynvml ({getattr(pynvml, '__file__', '?')}) is not NVIDIA's nvidia-ml-py"
        raise MeterUnavailableError(
            message, remedy="pip uninstall -y pynvml && pip install --force-reinstall nvidia-ml-py"
        )
    found: Nvml = pynvml
    return found


def _failed_read(slot: _Slot, device: Device, error: Exception) -> MeterError:
    code = code_of(error)
    message = f"{title_of(slot.board)}: {slot.source.call} failed: {error} (NVML code {code})"
    if code in PASSING:
        return ReadError(message, device=device.id)
    if code not in LASTING:
        slot.strikes += 1
        if slot.strikes <= MAX_STRIKES:
            return ReadError(message, device=device.id)
    return MeterLostError(message, device=device.id, remedy=REMEDY.get(code, ""))


def _cuda_uuids(modules: Mapping[str, object]) -> list[str]:
    """UUIDs in CUDA's order from PyTorch, if it already runs CUDA here; empty otherwise. Starts nothing."""
    cuda = getattr(modules.get("torch"), "cuda", None)
    try:
        if cuda is None or not cuda.is_initialized():
            return []
        return [str(cuda.get_device_properties(i).uuid) for i in range(cuda.device_count())]
    except (AttributeError, RuntimeError, AssertionError):  # half imported, older than 2.5 (no uuid), or in a bad state
        return []


def _device(nvml: Nvml, board: Board, handle: object, source: Source) -> Device:
    is_counter = source.quantity is Quantity.ENERGY
    enforced_mw = ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)
    range_mw = ask(nvml, "nvmlDeviceGetPowerManagementLimitConstraints", handle)
    limits_mw = [enforced_mw, *(range_mw if isinstance(range_mw, list | tuple) else [])]
    limit_mw = max((mw for mw in limits_mw if isinstance(mw, int) and mw not in NOT_A_VALUE), default=0)
    whole = "whole board; MIG instances share it" if board.mig_uuids else ""
    return Device(
        id=id_of(board),
        kind=DeviceKind.GPU,
        name=board.name or "NVIDIA GPU",
        quantity=source.quantity,
        basis=Basis.COUNTER if is_counter else Basis.POWER,
        covers=frozenset({Part.GPU}),
        refresh_s=source.refresh_s,
        lag_s=source.lag_s,
        low_factor=_LOW_FACTOR,
        high_factor=_HIGH_FACTOR,
        max_power_w=limit_mw * W_PER_MW * _PEAK_OVER_LIMIT if limit_mw else None,
        origin="driver" if is_counter else "",
        note="; ".join(note for note in (whole, source.note) if note),
    )


def _findings(board: Board, source: Source | None, errors: Sequence[Exception]) -> Iterable[Finding]:
    """What to say of a board that is left out, or read by a lesser source because this user may not use the best."""
    forbidden = next((e for e in errors if code_of(e) in FORBIDDEN), None)
    if source is None:
        error = forbidden or errors[-1]
        yield Finding(
            event="meter.device_missing",
            message=f"{title_of(board)} is not measured, its energy is missing: {error} (NVML code {code_of(error)})",
            remedy=REMEDY.get(code_of(error), ""),
            device=id_of(board),
        )
    elif forbidden is not None:
        yield Finding(
            event="meter.permission",
            message=f"{title_of(board)}: a better source is refused ({forbidden}); {source.call} is read instead",
            remedy=REMEDY.get(code_of(forbidden), ""),
            device=id_of(board),
        )


def _ambiguous(boards: Sequence[Board], selection: Selection) -> Finding:
    taken = ",".join(boards[i].uuid for i in selection.positions if boards[i].uuid)
    return Finding(
        event="meter.devices_ambiguous",
        message=(
            f"{selection.variable}={selection.value!r} counts unequal GPUs fastest first, in an order that only CUDA "
            f"knows; counted in PCI order here, so other boards than the used ones may have been measured: {taken}"
        ),
        remedy=f"export CUDA_DEVICE_ORDER=PCI_BUS_ID  (or name the boards: export CUDA_VISIBLE_DEVICES={taken})",
    )


def _told(boards: Sequence[Board], selection: Selection, positions: Sequence[int]) -> Iterable[Finding]:
    """What the variables chose, and what was wrong with them."""
    if not selection.variable:
        return
    chosen = f"{len(positions)} of {len(boards)} NVIDIA GPUs are measured by {selection.variable}={selection.value!r}"
    message = f"{chosen}: {selection.problem}" if selection.problem else chosen
    is_warning = bool(selection.problem) and selection.variable == visible.CUDA
    yield Finding(event="meter.devices_selected", message=message, is_warning=is_warning)
