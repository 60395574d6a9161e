"""Carbon intensity over time: values with their origin, joined to a step series that can be extended and corrected."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MAX_G_PER_KWH: Final = 3000.0
"""Highest intensity that is accepted, gCO2eq/kWh: above twice the highest of the country table (Turkmenistan, 1306)."""

CHANGES_KEPT: Final = 64
"""How many changes of a curve are remembered, for those who keep sums of it."""


class Quality(StrEnum):
    """How an intensity came to be known, the surest first."""

    GIVEN = "given"
    LIVE = "live"
    ESTIMATED = "estimated"
    FORECAST = "forecast"
    CACHED = "cached"
    AVERAGE = "average"

    @property
    def rank(self) -> int:
        """Its place in this order, 0 for the surest."""
        return _RANK[self]

    @property
    def is_measured(self) -> bool:
        """True for what was stated, measured or estimated of a time; not for what was only foreseen or filled in."""
        return self.rank <= _RANK[Quality.ESTIMATED]

    @property
    def is_told(self) -> bool:
        """True for what somebody says of that very time, if only as a forecast."""
        return self.rank <= _RANK[Quality.FORECAST]

    def is_surer_than(self, other: Quality) -> bool:
        """Whether a value that is known this way stands in the place of one that is known the other way."""
        return self.rank < other.rank


_RANK: Final = {quality: rank for rank, quality in enumerate(Quality)}


class IntensityKind(StrEnum):
    """Of all electricity in the zone, or of the plant that would answer one more kilowatt-hour."""

    AVERAGE = "average"
    MARGINAL = "marginal"


class FactorBasis(StrEnum):
    """Whether building plants and bringing fuel is counted."""

    DIRECT = "direct"
    LIFE_CYCLE = "life-cycle"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensityValue:
    """Carbon intensity of a zone's electricity over a time.

    Attributes:
        g_per_kwh: gCO2eq per kWh, 0..3000.
        low_g_per_kwh: Lower end of its 90 % range; equal to `g_per_kwh` where the user stated it.
        high_g_per_kwh: Upper end.
        source: Who says so, with the year of a table: "Ember 2024 via OWID".
        zone: The grid zone it is of: "DE", "US-CA", "WORLD".
        quality: How it came to be known.
        kind: Average or marginal.
        factor_basis: Direct or life-cycle factors.
        valid_from_s: UTC seconds since 1970 from which it holds; None: since ever.
        valid_to_s: UTC seconds up to which it holds; None: until the next value.
        note: What a user should know; empty if nothing.
    """

    g_per_kwh: float
    low_g_per_kwh: float
    high_g_per_kwh: float
    source: str
    zone: str
    quality: Quality
    kind: IntensityKind = IntensityKind.AVERAGE
    factor_basis: FactorBasis = FactorBasis.UNKNOWN
    valid_from_s: float | None = None
    valid_to_s: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where the machine is, and how that is known.

    Attributes:
        zone: Upper-case zone: ISO 3166-1 alpha-2 ("DE"), ISO 3166-2 ("US-CA"), a grid zone ("DK-DK1"), an outward
            postcode ("GB:N1"), or "WORLD".
        name: For people: "Germany".
        how: "given", "environment", "pyproject.toml", "cloud", "geolocation", "time zone", "world".
        is_guess: True where nobody said so (the time zone, the world).
        latitude: Degrees north, -90..90, where the user gave coordinates; never one that was looked up.
        longitude: Degrees east, -180..180.
        region: Provider and region where the cloud said so: "aws eu-north-1".
        note: What a user should know; empty if nothing.
    """

    zone: str
    name: str
    how: str
    is_guess: bool
    latitude: float | None = None
    longitude: float | None = None
    region: str = ""
    note: str = ""

    @property
    def country(self) -> str:
        """ISO 3166-1 alpha-2 of the zone; "WORLD" where no place is known."""
        return self.zone if self.zone == "WORLD" else self.zone[:2]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationUse(Location):
    """A location of a run that was in several.

    Attributes:
        it_energy_kwh: What the run's devices used there.
    """

    it_energy_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pue:
    """Power usage effectiveness: energy of the facility over energy of the IT equipment, at least 1.

    Attributes:
        value: The ratio.
        source: Who says so.
    """

    value: float
    source: str


class IntensityCurve:
    """A step series of intensity over UTC: each value holds from its instant until the next one's.

    The first value also holds before its own instant, so that a run never has energy without an intensity.
    Setting a value at an instant that has one replaces it: that is how a guess is corrected afterwards.
    """

    def __init__(self, first: IntensityValue) -> None:
        self._from_s: list[float] = [first.valid_from_s if first.valid_from_s is not None else float("-inf")]
        self._values: list[IntensityValue] = [first]
        self.version = 0
        self._changes: deque[tuple[int, float]] = deque(maxlen=CHANGES_KEPT)

    def set(self, value: IntensityValue, from_s: float) -> None:
        """Let `value` hold from `from_s` (UTC seconds) until the next later value."""
        i = bisect.bisect_left(self._from_s, from_s)
        if i < len(self._from_s) and self._from_s[i] == from_s:
            self._values[i] = value
        else:
            self._from_s.insert(i, from_s)
            self._values.insert(i, value)
        self._changed(from_s if i > 0 else float("-inf"))

    def replace(self, from_s: float, steps: Sequence[tuple[float, IntensityValue]]) -> None:
        """Put these steps in the place of all that begin at `from_s` (UTC seconds) or later.

        Args:
            from_s: What holds before stays, and holds up to the first of `steps`.
            steps: At least one, ascending, the first not before `from_s`.
        """
        i = bisect.bisect_left(self._from_s, from_s)
        former = list(zip(self._from_s[i:], self._values[i:], strict=True))
        alike = next((n for n, (a, b) in enumerate(zip(former, steps, strict=False)) if a != b), None)
        if alike is None and len(former) == len(steps):
            return
        first = alike if alike is not None else min(len(former), len(steps))
        self._from_s[i:] = [at for at, _ in steps]
        self._values[i:] = [value for _, value in steps]
        at_s = min(row[0] for row in (*former[first : first + 1], *steps[first : first + 1]))
        self._changed(at_s if i > 0 else float("-inf"))

    def _changed(self, from_s: float) -> None:
        self.version += 1
        self._changes.append((self.version, from_s))

    def changed_since(self, version: int) -> float:
        """The earliest instant (UTC seconds) at which this is not what it was at an earlier version."""
        if version < self.version - len(self._changes):
            return float("-inf")
        return min((from_s for at, from_s in self._changes if at > version), default=float("inf"))

    def value_at(self, at_s: float) -> IntensityValue:
        """The value that holds at an instant (UTC seconds)."""
        return self._values[max(bisect.bisect_right(self._from_s, at_s) - 1, 0)]

    def begins(self, after_s: float, until_s: float) -> list[float]:
        """The instants (UTC seconds) after one and up to another at which a step begins."""
        return self._from_s[bisect.bisect_right(self._from_s, after_s) : bisect.bisect_right(self._from_s, until_s)]

    def steps(self, begin_s: float, end_s: float) -> Iterator[tuple[float, float, IntensityValue]]:
        """The pieces `(from, to, value)` that fill `begin_s..end_s` (UTC seconds) without gap or overlap."""
        i = max(bisect.bisect_right(self._from_s, begin_s) - 1, 0)
        at = begin_s
        while i < len(self._values):
            last = i + 1 == len(self._values) or self._from_s[i + 1] >= end_s
            to = end_s if last else self._from_s[i + 1]
            if to > at or (last and to == at == begin_s):
                yield at, to, self._values[i]
            at = to
            if last:
                return
            i += 1

    def __iter__(self) -> Iterator[tuple[float, IntensityValue]]:
        return iter(zip(self._from_s, self._values, strict=True))

    def __len__(self) -> int:
        return len(self._values)
