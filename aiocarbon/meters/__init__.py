"""Meters: blocking readers of energy counters, power sensors and load models.

A meter is one file here and one line in `REGISTRY`, loaded on use. A plug-in package adds one through the entry-point
group `aiocarbon.meters`.
"""

from __future__ import annotations

import functools
import glob
import importlib
import os
import sys
from typing import Final

from aiocarbon._core.reading import Basis, Device, DeviceKind, Finding, Part, Quantity, Reading
from aiocarbon.errors import ConfigError
from aiocarbon.meters.base import Inventory, Meter

__all__ = [
    "Basis",
    "Device",
    "DeviceKind",
    "Finding",
    "Inventory",
    "Meter",
    "Part",
    "Quantity",
    "Reading",
    "available_names",
    "make",
]

REGISTRY: Final[dict[str, str]] = {
    "nvml": "aiocarbon.meters.nvml:NvmlMeter",
    "rapl": "aiocarbon.meters.rapl:RaplMeter",
    "hwmon": "aiocarbon.meters.hwmon:HwmonMeter",
    "powermetrics": "aiocarbon.meters.powermetrics:PowermetricsMeter",
    "battery": "aiocarbon.meters.battery:BatteryMeter",
    "model": "aiocarbon.meters.model:ModelMeter",
    "simulated": "aiocarbon.meters.simulated:SimulatedMeter",
    "replayed": "aiocarbon.meters.simulated:ReplayedMeter",
}
"""Name -> "module:class". A name may carry an argument, "simulated:250", given to the class's `from_argument`."""

MEASURING: Final = ("nvml", "rapl", "hwmon", "powermetrics", "battery")
"""Opened by default, all at once; plug-ins join them."""

FILLING: Final = ("model",)
"""Opened by default after the measuring ones that can hold the CPU, told what those cover."""

ENTRY_POINT_GROUP: Final = "aiocarbon.meters"


_PLACES: Final = {
    "rapl": ("/sys/class/powercap/*", "no RAPL"),
    "hwmon": ("/sys/class/hwmon/*", "no hardware monitor"),
    "battery": ("/sys/class/power_supply/BAT*", "no battery"),
}
"""Where a Linux machine that has it shows it; a look there spares loading a meter in vain."""


_NVML: Final = "libnvidia-ml.so.1"
_LIBRARY_FOLDERS: Final = ("/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib/wsl/lib")


def _plugins() -> dict[str, str]:
    if not _has_plugins():
        return {}
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}


@functools.cache
def _has_plugins() -> bool:
    """True if an installed package may name our entry-point group.

    A look into the packages' entry_points.txt takes 1 ms; `importlib.metadata` takes 12 ms to import, which every
    user would pay at entering for what few have.
    """
    for folder in sys.path:
        try:
            packages = [name for name in os.listdir(folder or ".") if name.endswith(("dist-info", "egg-info"))]
        except OSError:
            continue  # not a folder (any more)
        for package in packages:
            try:
                with open(os.path.join(folder, package, "entry_points.txt"), encoding="utf-8") as file:
                    if ENTRY_POINT_GROUP in file.read():
                        return True
            except (OSError, UnicodeDecodeError):
                continue
    return False


def absent(name: str) -> str:
    """Why a meter need not even be loaded on this machine, by a quick look; empty if it may be here."""
    if name == "nvml" and sys.platform == "linux" and not _has_nvml():
        return f"no NVIDIA driver: {_NVML} is not here"
    folder, what = _PLACES.get(name, ("", ""))
    if name == "powermetrics":
        return "" if sys.platform == "darwin" else "powermetrics is a tool of macOS"
    if folder and sys.platform == "linux" and not glob.glob(folder):
        return f"{what}: there is no {folder}"
    return ""


def _has_nvml() -> bool:
    """True if the loader may find the driver's library; to ask the loader itself takes ctypes, 4 to 8 ms."""
    folders = [*os.environ.get("LD_LIBRARY_PATH", "").split(":"), *_LIBRARY_FOLDERS]
    if any(folder and os.path.exists(os.path.join(folder, _NVML)) for folder in folders):
        return True
    try:
        with open("/etc/ld.so.cache", "rb") as file:
            return _NVML.encode() in file.read()
    except OSError:
        return True  # a loader without a cache (musl) must be asked


def available_names() -> list[str]:
    """The names that `make` knows: the built-in ones, then plug-ins."""
    return [*REGISTRY, *sorted(set(_plugins()) - set(REGISTRY))]


def default_names() -> tuple[list[str], list[str]]:
    """The names opened when the user names none: those that measure, and those that fill what is left."""
    return [*MEASURING, *sorted(set(_plugins()) - set(REGISTRY))], list(FILLING)


def make(spec: str) -> Meter:
    """A meter, not yet opened, from its name or "name:argument".

    Args:
        spec: A name of `available_names()`, with an argument behind a colon where the meter takes one.

    Raises:
        ConfigError: The name is unknown, or the argument is not accepted.
    """
    name, _, argument = spec.partition(":")
    path = REGISTRY.get(name) or _plugins().get(name)
    if path is None:
        raise ConfigError("meters", spec, f"names among {', '.join(available_names())}")
    module_name, _, class_name = path.partition(":")
    meter_class = getattr(importlib.import_module(module_name), class_name)
    if argument:
        if not hasattr(meter_class, "from_argument"):
            raise ConfigError("meters", spec, f"{name!r} without an argument")
        meter: Meter = meter_class.from_argument(argument)
        return meter
    made: Meter = meter_class()
    return made
