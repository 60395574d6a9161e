"""carbontracker's components: which meters "gpu", "cpu" and "all" mean, and devices that are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Reading
from aiocarbon.errors import ConfigError, MeterError, MeterLostError, MeterUnavailableError
from aiocarbon.meters import make
from aiocarbon.meters.base import Inventory, Meter
from aiocarbon.meters.simulated import Constant, SimulatedMeter

__all__ = ["ComponentMeter", "meters_of"]

ALL: Final = ("gpu", "cpu")
PARTS: Final = {"gpu": {Part.GPU}, "cpu": {Part.CPU, Part.MEMORY}}
KINDS: Final = {"gpu": DeviceKind.GPU, "cpu": DeviceKind.CPU}
MEASURING: Final = {"gpu": ("nvml", "powermetrics"), "cpu": ("rapl", "powermetrics", "model")}
"""Of each component the meters that may tell it, the best first; as in carbontracker, the first that can does."""

USUAL_UTIL: Final = 0.5
"""Share of a simulated device's power that is taken where none is given (carbontracker 2.4.7, `component.py`)."""


def meters_of(components: str, simulated: Mapping[str, Sequence[Any]]) -> list[str | Meter] | None:
    """The meters of what a user chose; None for all that this machine has.

    Args:
        components: "all", "gpu", "cpu" or "gpu,cpu".
        simulated: Name, watts and utilization by component, None where not given.

    Raises:
        ConfigError: There is no such component, or a simulated one is not told whole.
    """
    words = components.replace(" ", "").lower() if isinstance(components, str) else ""
    names = ALL if words == "all" else tuple(dict.fromkeys(words.split(",")))
    if not names or not set(names) <= set(ALL):
        raise ConfigError("components", components, '"all", "gpu", "cpu" or "gpu,cpu"')
    made = {name: _simulated(name, *given) for name, given in simulated.items() if given[0] is not None}
    if words == "all" and not made:
        return None
    return [made.get(name) or ComponentMeter(name) for name in names]


def _simulated(component: str, name: str, watts: float | None, util: float | None) -> SimulatedMeter:
    field = "sim_cpu_tdp" if component == "cpu" else "sim_gpu_watts"
    if watts is None:
        raise ConfigError(field, None, f"watts, where sim_{component} is given")
    share = USUAL_UTIL if util is None else util
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
        raise ConfigError(f"sim_{component}_util", util, "a share from 0 to 1")
    if isinstance(watts, bool) or not isinstance(watts, int | float) or not 0.0 <= watts < float("inf"):
        raise ConfigError(field, watts, "watts from 0 on")
    wave = Constant(float(watts) * share)
    return SimulatedMeter(wave=wave, device_id=str(name), kind=KINDS[component], basis=Basis.ASSUMED)


class ComponentMeter:
    """One component's devices, of the first meter of it that this machine has.

    Args:
        component: "gpu" or "cpu".
        candidates: Meters to try in this order, by name or made; None: the usual ones.
    """

    def __init__(self, component: str, candidates: Sequence[str | Meter] | None = None) -> None:
        self.name = component
        self._candidates = MEASURING[component] if candidates is None else candidates
        self._meter: Meter | None = None

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Open the first that has a device of the component.

        Raises:
            MeterUnavailableError: None has.
        """
        whys = []
        for candidate in self._candidates:
            meter = make(candidate) if isinstance(candidate, str) else candidate
            try:
                inventory = meter.open(covered)
            except MeterError as error:
                whys.append(f"{meter.name}: {error}")
                meter.close()
                continue
            devices = tuple(device for device in inventory.devices if device.covers & PARTS[self.name])
            if devices:
                self._meter = meter
                return replace(inventory, devices=devices)
            whys.append(f"{meter.name}: no device of it")
            meter.close()
        raise MeterUnavailableError(f"nothing tells the power of the {self.name}: {'; '.join(whys)}")

    def read(self, device: Device) -> Reading:
        """As the meter that was found reads.

        Raises:
            ReadError: This read failed.
            MeterLostError: The device is gone, or nothing is open.
        """
        if self._meter is None:
            raise MeterLostError(f"the {self.name} is not open", device=device.id)
        return self._meter.read(device)

    def close(self) -> None:
        """Close the meter that was found."""
        if self._meter is not None:
            self._meter.close()
            self._meter = None
