"""Counters that follow a scenario of the fake NVML and wrap as RAPL's do, for machines without RAPL."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiocarbon._core.units import UJ_PER_J, ns_from_s, s_from_ns
from aiocarbon.errors import MeterLostError
from aiocarbon.meters import Basis, Device, DeviceKind, Inventory, Part, Quantity, Reading
from benchmarks import truth


@dataclass
class ScenarioMeter:
    """Reads the devices of a scenario as counters in microjoules.

    Attributes:
        scenario: Whose waves the devices follow; a device whose UUID ends in "dram" is memory, the others CPUs.
        t0_ns: Scenario time zero on CLOCK_MONOTONIC.
        range_uj: Value at which the counters wrap; None if they never do.
    """

    scenario: truth.Scenario
    t0_ns: int
    range_uj: int | None = None
    name: str = "scenario"

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Tell the devices."""
        self._gpus = {gpu.uuid: gpu for gpu in self.scenario.gpus}
        return Inventory(devices=tuple(self._device(gpu) for gpu in self.scenario.gpus))

    def _device(self, gpu: truth.Gpu) -> Device:
        is_dram = gpu.uuid.endswith("dram")
        return Device(
            id=gpu.uuid,
            kind=DeviceKind.DRAM if is_dram else DeviceKind.CPU,
            name=gpu.name,
            quantity=Quantity.ENERGY,
            basis=Basis.COUNTER,
            covers=frozenset({Part.MEMORY if is_dram else Part.CPU}),
            refresh_s=gpu.counter_s,
            counter_range_uj=self.range_uj,
            max_power_w=1000.0,
        )

    def read(self, device: Device) -> Reading:
        """What the counter stands at, as of its last refresh."""
        gpu = self._gpus.get(device.id)
        if gpu is None:
            raise MeterLostError(f"{device.id} is no device of the scenario", device=device.id)
        t0_ns = time.monotonic_ns()
        since_ns = time.monotonic_ns() - self.t0_ns
        since_ns -= since_ns % ns_from_s(gpu.counter_s)
        value = int(gpu.trace.energy_j(s_from_ns(since_ns)) * UJ_PER_J)
        if self.range_uj is not None:
            value %= self.range_uj
        return Reading(t0_ns, time.monotonic_ns(), value)

    def close(self) -> None:
        """Give nothing back."""
