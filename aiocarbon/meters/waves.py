"""Power over time with an exact integral: what simulated devices draw.

The grammar of a wave as text, in watts and seconds:

| WAVE | |
|---|---|
| `250`, `constant:250` | always 250 W |
| `square:PERIOD_S,DUTY,LOW_W,HIGH_W` | the high part first, for PERIOD_S x DUTY |
| `ramp:FROM_W,TO_W,DURATION_S` | then stays at TO_W |

A slash may stand for each comma (`square:2/0.5/50/400`), where commas already separate several meters.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final, Protocol

from aiocarbon.errors import ConfigError

__all__ = ["WAVES", "Constant", "Ramp", "Square", "Trace", "Wave", "parse_wave"]

WAVES: Final = (
    '"250" (watts), "square:PERIOD_S,DUTY,LOW_W,HIGH_W" or "ramp:FROM_W,TO_W,DURATION_S", '
    "of finite numbers of at least 0"
)
"""What `parse_wave` accepts, in words."""


class Wave(Protocol):
    """Power over time, with its exact integral; the time is in seconds, 0 or more."""

    def power_w(self, t_s: float) -> float:
        """Watts at an instant."""
        ...

    def energy_j(self, t_s: float) -> float:
        """Joules from instant 0 until an instant."""
        ...


def _check(wave: object, is_accepted: bool, accepted: str) -> None:
    if not is_accepted:
        raise ConfigError("wave", wave, accepted)


def _are_watts(*values: float) -> bool:
    return all(math.isfinite(value) and value >= 0 for value in values)


@dataclass(frozen=True, slots=True)
class Constant:
    """The same power always.

    Args:
        watts: Finite, at least 0.
    """

    watts: float

    def __post_init__(self) -> None:
        _check(self, _are_watts(self.watts), "finite watts of at least 0")

    def power_w(self, t_s: float) -> float:
        """Watts at an instant."""
        return self.watts

    def energy_j(self, t_s: float) -> float:
        """Joules from instant 0 until an instant."""
        return self.watts * t_s


@dataclass(frozen=True, slots=True)
class Square:
    """High and low by turns, the high part first.

    Args:
        period_s: Seconds of a high and a low part together, more than 0.
        duty: Share of the high part, in 0..1.
        low_w: Watts of the low part, at least 0.
        high_w: Watts of the high part, at least 0.
    """

    period_s: float
    duty: float
    low_w: float
    high_w: float

    def __post_init__(self) -> None:
        is_accepted = _are_watts(self.low_w, self.high_w, self.period_s, self.duty) and self.period_s > 0
        _check(
            self, is_accepted and self.duty <= 1, "a period above 0 s, a duty in 0..1 and finite watts of at least 0"
        )

    def power_w(self, t_s: float) -> float:
        """Watts at an instant; at a border, those of the part that begins."""
        return self.high_w if math.fmod(t_s, self.period_s) < self.duty * self.period_s else self.low_w

    def energy_j(self, t_s: float) -> float:
        """Joules from instant 0 until an instant."""
        phase_s = math.fmod(t_s, self.period_s)
        periods = round((t_s - phase_s) / self.period_s)
        high_s = self.duty * self.period_s
        high_total_s = periods * high_s + min(phase_s, high_s)
        low_total_s = periods * (self.period_s - high_s) + max(0.0, phase_s - high_s)
        return self.high_w * high_total_s + self.low_w * low_total_s


@dataclass(frozen=True, slots=True)
class Ramp:
    """From one power to another along a straight line, then constant.

    Args:
        from_w: Watts at instant 0, at least 0.
        to_w: Watts at the end and after, at least 0.
        duration_s: Seconds of the way, more than 0.
    """

    from_w: float
    to_w: float
    duration_s: float

    def __post_init__(self) -> None:
        is_accepted = _are_watts(self.from_w, self.to_w, self.duration_s) and self.duration_s > 0
        _check(self, is_accepted, "finite watts of at least 0 and a duration above 0 s")

    def power_w(self, t_s: float) -> float:
        """Watts at an instant."""
        return self.from_w + (self.to_w - self.from_w) * min(t_s, self.duration_s) / self.duration_s

    def energy_j(self, t_s: float) -> float:
        """Joules from instant 0 until an instant."""
        way_s = min(t_s, self.duration_s)
        return (self.from_w + self.power_w(way_s)) / 2 * way_s + self.to_w * (t_s - way_s)


@dataclass(frozen=True, slots=True)
class Trace:
    """Recorded powers, joined by straight lines; constant before the first and after the last.

    Args:
        times_s: Seconds, ascending, the first at least 0.
        powers_w: Watts at those instants, each at least 0.
    """

    times_s: tuple[float, ...]
    powers_w: tuple[float, ...]
    _energies_j: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        is_accepted = len(self.times_s) == len(self.powers_w) > 0 and _are_watts(*self.times_s, *self.powers_w)
        is_accepted = is_accepted and all(before < after for before, after in pairwise(self.times_s))
        _check(self, is_accepted, "as many ascending instants from 0 s on as finite watts of at least 0")
        pieces = [self.times_s[0] * self.powers_w[0]]
        for (t0, p0), (t1, p1) in pairwise(zip(self.times_s, self.powers_w, strict=True)):
            pieces.append((p0 + p1) / 2 * (t1 - t0))
        object.__setattr__(self, "_energies_j", tuple(accumulate(pieces)))

    @property
    def end_s(self) -> float:
        """The last recorded instant."""
        return self.times_s[-1]

    def power_w(self, t_s: float) -> float:
        """Watts at an instant."""
        right = bisect_right(self.times_s, t_s)
        if right == 0:
            return self.powers_w[0]
        if right == len(self.times_s):
            return self.powers_w[-1]
        t0, t1 = self.times_s[right - 1], self.times_s[right]
        p0, p1 = self.powers_w[right - 1], self.powers_w[right]
        return p0 + (p1 - p0) * (t_s - t0) / (t1 - t0)

    def energy_j(self, t_s: float) -> float:
        """Joules from instant 0 until an instant."""
        right = bisect_right(self.times_s, t_s)
        if right == 0:
            return self.powers_w[0] * t_s
        since_s = t_s - self.times_s[right - 1]
        return self._energies_j[right - 1] + (self.powers_w[right - 1] + self.power_w(t_s)) / 2 * since_s


def parse_wave(text: str) -> Wave:
    """A wave from its text.

    Args:
        text: A wave in the grammar of this module's docstring.

    Raises:
        ConfigError: The text is no such wave.
    """
    name, colon, rest = text.strip().partition(":")
    if not colon:
        name, rest = "constant", name
    shapes = {"constant": (Constant, 1), "square": (Square, 4), "ramp": (Ramp, 3)}
    try:
        shape, count = shapes[name]
        values = [float(text) for text in rest.replace("/", ",").split(",")]
        if len(values) != count:
            raise ValueError(f"{name} takes {count} numbers")
        wave: Wave = shape(*values)
    except (KeyError, ValueError) as error:  # ConfigError is a ValueError: the wave's own check
        raise ConfigError("wave", text, WAVES) from error
    return wave
