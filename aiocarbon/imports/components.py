"""What carbontracker calls its components: which devices each has, and where their watts come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity

__all__ = ["Component", "components_of", "told_device"]

FOUND: Final = re.compile(r"(?:^|\s)([A-Z]+) with device\(s\) ")
RAPL: Final = re.compile(r"(cpu|dram|package\S*):\d+")
MAKER: Final = re.compile(
    r"\s*(?:NVIDIA|Nvidia|GeForce|Tesla|Quadro|TITAN|GRID|GTX|RTX|AMD|ATI|Radeon|Intel|Apple|Xeon|EPYC|ARM|[AHVPTLB]\d{1,3}\b)"
)
"""How the name of a GPU or a processor begins: what follows on a comma and does not begin so belongs to the name."""

SENSOR_BAND: Final = (0.9, 1.1)
"""Range of a power that a sensor told once a second or less. Assumed: 5 % as for NVML's own sensor (`meters/nvml.py`),
and as much again for what happens between two samples."""

TDP_BAND: Final = (0.5, 2.0)
"""Range of half a CPU's TDP, taken whatever its load: a factor of 2, as for a CPU that no table knows
(`meters/model.py`)."""

APPLE_BAND: Final = (0.65, 1.35)
"""Range of powermetrics' estimates, as in `meters/powermetrics.py`."""


class Component(NamedTuple):
    """A component of carbontracker: "gpu" or "cpu".

    Attributes:
        name: Its name in lower case.
        devices: Names of its devices.
    """

    name: str
    devices: tuple[str, ...]

    @property
    def many(self) -> int:
        """How many devices it has."""
        return len(self.devices)

    @property
    def part(self) -> str:
        """The part of the machine that it is."""
        return Part.GPU.value if self.name == "gpu" else Part.CPU.value

    @property
    def is_rapl(self) -> bool:
        """Whether its devices are RAPL domains."""
        return all(RAPL.fullmatch(name) for name in self.devices)


def components_of(line: str, powers: Iterable[Mapping[str, Sequence[float] | None]]) -> list[Component]:
    """The components that a log tells.

    Args:
        line: "The following components were found: GPU with device(s) A, B. CPU with device(s) C."
        powers: Watts by component, by epoch: tells components that the line lacks, and how many devices there are.
    """
    rows = list(powers)
    widths: dict[str, int] = {}
    for row in rows:
        for name, watts in row.items():
            widths[name] = max(widths.get(name, 0), len(watts or ()))
    texts: dict[str, str] = dict.fromkeys(widths, "")
    marks = list(FOUND.finditer(line))
    for n, mark in enumerate(marks):
        end = marks[n + 1].start() if n + 1 < len(marks) else len(line)
        texts[mark[1].lower()] = line[mark.end() : end].strip().removesuffix(".")
    return [Component(name, _names(text, widths.get(name, 0), name)) for name, text in texts.items()]


def _names(text: str, width: int, name: str) -> tuple[str, ...]:
    """The names of devices in a line that parts them by ", ", as names do themselves.

    Args:
        text: The line's part.
        width: How many figures an epoch has; 1 may be the mean of several.
        name: The component's.
    """
    parts = [part.strip() for part in text.split(",")] if text else []
    if not parts:
        return tuple(f"{name} {n}" for n in range(width)) if width > 1 else (name,)
    if width > 1:
        return _grouped(parts, width) or tuple(f"{name} {n}" for n in range(width))
    if all(RAPL.fullmatch(part) for part in parts):
        return tuple(parts)
    begins = [n for n, part in enumerate(parts) if n == 0 or MAKER.match(part)]
    if len(begins) > 1:
        ends = [*begins[1:], len(parts)]
        return tuple(", ".join(parts[begin:end]) for begin, end in zip(begins, ends, strict=True))
    for length in range(1, len(parts)):  # the same name over and over
        if len(parts) % length == 0 and parts == parts[:length] * (len(parts) // length):
            return (", ".join(parts[:length]),) * (len(parts) // length)
    return (", ".join(parts),)


def _grouped(parts: Sequence[str], width: int) -> tuple[str, ...] | None:
    """So many names of equal numbers of parts; None if they cannot be."""
    length, rest = divmod(len(parts), width)
    if rest or not length:
        return None
    return tuple(", ".join(parts[n * length : (n + 1) * length]) for n in range(width))


def told_device(component: Component, n: int, width: int) -> Device:
    """A device of the journal: one of a component's, or all of them where the log told one figure.

    Args:
        component: The component.
        n: Number of the figure.
        width: How many figures there are.
    """
    is_one = width == 1
    names = component.devices if is_one else (component.devices[n],)
    basis, band, note = _basis(component)
    is_memory = all(name.startswith("dram:") for name in names)
    covers = {Part.GPU} if component.name == "gpu" else {Part.MEMORY} if is_memory else {Part.CPU}
    if any(name.startswith("dram:") for name in names):
        covers.add(Part.MEMORY)
    return Device(
        id=f"carbontracker:{component.name}" if is_one else f"carbontracker:{component.name}-{n}",
        kind=DeviceKind.GPU if component.name == "gpu" else DeviceKind.DRAM if is_memory else DeviceKind.CPU,
        name=_called(names),
        quantity=Quantity.ENERGY,
        basis=basis,
        covers=frozenset(covers),
        refresh_s=0.0,
        low_factor=band[0],
        high_factor=band[1],
        note=note,
    )


def _called(names: Sequence[str]) -> str:
    if len(set(names)) == 1 and len(names) > 1:
        return f"{len(names)} x {names[0]}"
    return ", ".join(names)


def _basis(component: Component) -> tuple[Basis, tuple[float, float], str]:
    if component.name == "gpu":
        if all(name.startswith("Apple") for name in component.devices):
            return Basis.MODEL, APPLE_BAND, "Apple's powermetrics, which estimates"
        return Basis.POWER, SENSOR_BAND, "samples of a power sensor; a simulated GPU looks the same in the log"
    if component.is_rapl:
        return Basis.POWER, SENSOR_BAND, "RAPL counters, sampled for a second at a time"
    if all(name.startswith("Apple") for name in component.devices):
        return Basis.MODEL, APPLE_BAND, "Apple's powermetrics, which estimates"
    return Basis.ASSUMED, TDP_BAND, "half of the CPU's TDP (or a given power), whatever its load"
