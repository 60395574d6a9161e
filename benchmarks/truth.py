"""The true power and energy of waves in closed form, and of the GPUs in a scenario file of the fake NVML.

Twin of benchmarks/fake_nvml/fake_nvml.c: the same formulas in the same order, so that
both agree to rounding.

    python -m benchmarks.truth FILE T0_NS BEGIN_NS END_NS      joules of each GPU between two CLOCK_MONOTONIC instants
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_S_PER_NS = 1e-9


class Wave(Protocol):
    """Power over time, from the wave's own begin."""

    def power_w(self, x_s: float) -> float:
        """Watts at `x_s` seconds (at least 0) after the begin."""
        ...

    def energy_j(self, x_s: float) -> float:
        """Joules from the begin to `x_s` seconds (at least 0) after it."""
        ...


@dataclass(frozen=True, slots=True)
class Const:
    """Constant power."""

    watts: float

    def power_w(self, x_s: float) -> float:
        """Watts at `x_s`."""
        return self.watts

    def energy_j(self, x_s: float) -> float:
        """Joules up to `x_s`."""
        return self.watts * x_s


@dataclass(frozen=True, slots=True)
class Square:
    """High for `duty` (0..1) of each period, then low."""

    period_s: float
    duty: float
    low_w: float
    high_w: float

    def power_w(self, x_s: float) -> float:
        """Watts at `x_s`."""
        rest = x_s - math.floor(x_s / self.period_s) * self.period_s
        return self.high_w if rest < self.duty * self.period_s else self.low_w

    def energy_j(self, x_s: float) -> float:
        """Joules up to `x_s`."""
        whole = math.floor(x_s / self.period_s)
        rest = x_s - whole * self.period_s
        high_s = self.duty * self.period_s
        period_j = high_s * self.high_w + (self.period_s - high_s) * self.low_w
        return whole * period_j + min(rest, high_s) * self.high_w + max(rest - high_s, 0.0) * self.low_w


@dataclass(frozen=True, slots=True)
class Ramp:
    """From one power to another in `seconds`, then constant."""

    from_w: float
    to_w: float
    seconds: float

    def power_w(self, x_s: float) -> float:
        """Watts at `x_s`."""
        return self.from_w + (self.to_w - self.from_w) * (x_s / self.seconds) if x_s < self.seconds else self.to_w

    def energy_j(self, x_s: float) -> float:
        """Joules up to `x_s`."""
        rising_s, flat_s = min(x_s, self.seconds), max(x_s - self.seconds, 0.0)
        risen_j = (self.to_w - self.from_w) * rising_s * rising_s / (2 * self.seconds)
        return self.from_w * rising_s + risen_j + self.to_w * flat_s


_WAVES = {"const": Const, "square": Square, "ramp": Ramp}


@dataclass(frozen=True, slots=True)
class Trace:
    """Waves one after another, each from its time on; no power before the first.

    Attributes:
        steps: (begin in s of the scenario, wave), ascending.
    """

    steps: tuple[tuple[float, Wave], ...]

    def power_w(self, t_s: float) -> float:
        """Watts at scenario time `t_s`."""
        watts = 0.0
        for at_s, wave in self.steps:
            if at_s > t_s:
                break
            watts = wave.power_w(t_s - at_s)
        return watts

    def energy_j(self, t_s: float) -> float:
        """Joules from the first wave's begin to scenario time `t_s`."""
        joules = 0.0
        for i, (at_s, wave) in enumerate(self.steps):
            if at_s >= t_s:
                break
            end_s = min(self.steps[i + 1][0], t_s) if i + 1 < len(self.steps) else t_s
            joules += wave.energy_j(end_s - at_s)
        return joules


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU of a scenario: its wave, and how coarse its sensors are."""

    name: str
    uuid: str
    trace: Trace
    counter_s: float
    power_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """The GPUs of a scenario file."""

    gpus: tuple[Gpu, ...]

    def joules(self, begin_ns: int, end_ns: int, *, t0_ns: int) -> dict[str, float]:
        """True joules of each GPU, by UUID, between two instants of CLOCK_MONOTONIC.

        Args:
            begin_ns: The earlier instant, in nanoseconds.
            end_ns: The later one.
            t0_ns: Scenario time zero on the same clock.
        """
        begin_s, end_s = (begin_ns - t0_ns) * _S_PER_NS, (end_ns - t0_ns) * _S_PER_NS
        return {gpu.uuid: gpu.trace.energy_j(end_s) - gpu.trace.energy_j(begin_s) for gpu in self.gpus}


def parse(text: str) -> Scenario:
    """Read a scenario; see benchmarks/fake_nvml/fake_nvml.c for the format.

    Raises:
        ValueError: A line is not understood; the message names it.
    """
    sections: list[dict[str, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        key, _, arguments = line.partition("#")[0].strip().partition(" ")
        if key == "gpu":
            sections.append({"gpu": [arguments.strip()]})
        elif key and sections:
            sections[-1].setdefault(key, []).append(arguments.strip())
        elif key not in ("", "driver", "init"):
            raise ValueError(f"line {number} of the scenario is not understood: {line}")
    return Scenario(tuple(_gpu(index, section) for index, section in enumerate(sections)))


def load(path: Path) -> Scenario:
    """Read a scenario file."""
    return parse(path.read_text())


def _gpu(index: int, section: Mapping[str, Sequence[str]]) -> Gpu:
    def last(key: str, default: str) -> str:
        return section.get(key, [default])[-1]

    return Gpu(
        name=section["gpu"][0],
        uuid=last("uuid", f"GPU-fake0000-0000-0000-0000-{index:012d}"),
        trace=Trace(tuple(_step(arguments) for arguments in section.get("wave", ()))),
        counter_s=float(last("counter_ms", "20")) * 1e-3,
        power_s=float(last("power_ms", "100")) * 1e-3,
    )


def _step(arguments: str) -> tuple[float, Wave]:
    at, kind, *numbers = arguments.split()
    if kind not in _WAVES:
        raise ValueError(f"wave {arguments!r} is none of {', '.join(_WAVES)}")
    return float(at), _WAVES[kind](*map(float, numbers))


if __name__ == "__main__":
    path, t0, begin, end = sys.argv[1:]
    for uuid, joules in load(Path(path)).joules(int(begin), int(end), t0_ns=int(t0)).items():
        print(f"{uuid}\t{joules:.6f}")
