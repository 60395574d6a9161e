"""Memory's power where nothing measures it: two public rules, and the honest distance between them.

One rule charges watts per gigabyte, the other per module; on a server they differ three- to fivefold. Neither is
measured here, so the two are the ends of the band and their geometric mean the central value: the figure whose worst
ratio to either is smallest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiocarbon.errors import MeterUnavailableError

__all__ = ["MemoryPower", "find_memory", "memory_power"]

W_PER_GB: Final = 0.375
"""3 W per 8 GB: CodeCarbon v2, docs/explanation/methodology.md, after Crucial's "how much power does memory use"."""

_W_PER_DIMM_X86: Final = 5.0
_W_PER_DIMM_ARM: Final = 1.5
_FLOOR_W_X86: Final = 10.0
_FLOOR_W_ARM: Final = 3.0
_TIERS: Final = ((4, 1.0), (4, 0.9), (8, 0.8))
_LAST_TIER: Final = 0.7
"""Watts per module, the floor, and 0.9, 0.8, 0.7 of it for those beyond 4, 8 and 16: CodeCarbon v3,
codecarbon/external/ram.py (github.com/mlco2/codecarbon, commit b05965e, 2026)."""

_DIMM_SIZES_GB: Final = (8, 16, 32, 64)
_GUESSED_SLOTS: Final = 8
"""Where the modules cannot be counted: the smallest size of which eight suffice, else the largest."""

_NARROWEST: Final = 1.35
"""Where the rules happen to agree, the band is still no narrower than the CPU model's ±35 %: agreement of two rules
of thumb is no measurement."""

_BYTES_PER_GB: Final = 2**30
_KB_PER_GB: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPower:
    """What a machine's memory draws, by rule of thumb.

    Attributes:
        total_gb: Gigabytes (2**30 bytes) of the machine.
        power_w: Central value in watts.
        low_w: The lower rule's watts, or less.
        high_w: The higher rule's watts, or more.
        note: How it was made, in words.
    """

    total_gb: float
    power_w: float
    low_w: float
    high_w: float
    note: str


def find_memory(*, proc: Path, edac: Path, platform: str) -> MemoryPower:
    """The memory of this machine and what it draws.

    Args:
        proc: Where procfs is mounted.
        edac: Where the kernel's EDAC drivers list memory modules (`mc*/dimm*/size`, in MB).
        platform: As `sys.platform`.

    Raises:
        MeterUnavailableError: The machine does not say how much memory it has.
    """
    if not platform.startswith("linux"):
        import platform as host

        import psutil

        total_gb = psutil.virtual_memory().total / _BYTES_PER_GB
        return memory_power(total_gb=total_gb, modules=None, is_arm=host.machine().lower() in ("arm64", "aarch64"))
    return memory_power(total_gb=_total_gb(proc / "meminfo"), modules=_modules(edac), is_arm=_is_arm(proc / "cpuinfo"))


def memory_power(*, total_gb: float, modules: int | None, is_arm: bool) -> MemoryPower:
    """What this much memory draws, between a rule per gigabyte and a rule per module.

    Args:
        total_gb: Gigabytes, more than 0.
        modules: How many modules; None if not known (guessed from the total).
        is_arm: Whether ARM's lower figures per module hold.
    """
    count = modules or _guessed_modules(total_gb)
    by_gb = W_PER_GB * total_gb
    by_module = _by_module(count, is_arm=is_arm)
    power_w = math.sqrt(by_gb * by_module)
    counted = "counted" if modules else "guessed"
    return MemoryPower(
        total_gb=total_gb,
        power_w=power_w,
        low_w=min(by_gb, by_module, power_w / _NARROWEST),
        high_w=max(by_gb, by_module, power_w * _NARROWEST),
        note=(
            f"assumed, not read: the geometric mean of {by_gb:.3g} W by size (0.375 W/GB) and {by_module:.3g} W by "
            f"module ({count} {counted}), which are its bounds"
        ),
    )


def _by_module(count: int, *, is_arm: bool) -> float:
    per_module = _W_PER_DIMM_ARM if is_arm else _W_PER_DIMM_X86
    total, left = 0.0, count
    for size, factor in _TIERS:
        total += min(left, size) * per_module * factor
        left -= min(left, size)
    total += left * per_module * _LAST_TIER
    return max(total, _FLOOR_W_ARM if is_arm else _FLOOR_W_X86)


def _guessed_modules(total_gb: float) -> int:
    size = next((size for size in _DIMM_SIZES_GB if total_gb <= size * _GUESSED_SLOTS), _DIMM_SIZES_GB[-1])
    return math.ceil(total_gb / size)


def _total_gb(meminfo: Path) -> float:
    try:
        for line in meminfo.read_text(encoding="ascii", errors="replace").splitlines():
            words = line.split()
            if words and words[0] == "MemTotal:" and int(words[1]) > 0:
                return int(words[1]) / _KB_PER_GB
    except (OSError, IndexError, ValueError) as error:
        message = f"the machine's memory is not known: {meminfo} could not be read"
        raise MeterUnavailableError(message, device="model:memory") from error
    raise MeterUnavailableError(f"the machine's memory is not known: {meminfo} has no MemTotal", device="model:memory")


def _modules(edac: Path) -> int | None:
    """Modules that the kernel's memory controllers list with a size; None where it lists none.

    Controllers that know ranks only (`rank*`) do not tell modules: a module has one to eight ranks.
    """
    count = 0
    for size in edac.glob("mc*/dimm*/size"):
        try:
            count += int(size.read_text(encoding="ascii")) > 0
        except (OSError, ValueError):
            return None  # a list that cannot be read in full counts nothing
    return count or None


def _is_arm(cpuinfo: Path) -> bool:
    try:
        return "CPU implementer" in cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
