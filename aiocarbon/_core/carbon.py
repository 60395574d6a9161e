"""The integral of energy x intensity over time, and which source's intensity weighed how much of the energy.

The sums at the borders of intensity steps that lie behind are kept, so that a cut of a month costs what one of an hour
does. They are kept for the past only: what readings may still move is summed anew each time.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from aiocarbon._core.intensity import IntensityValue
from aiocarbon._core.units import NS_PER_S

SETTLED_NS: Final = 900 * NS_PER_S
"""Behind a cut's end by this much, no reading moves a curve any more (late ones come within ten minutes)."""

UseKey = tuple[str, str, str, str, str]
"""Source, zone, quality, kind and factor basis of intensity values: what of them a report tells apart."""


class Use(NamedTuple):
    """What of a window's energy one source's intensity weighed.

    Attributes:
        value: Its last value in the window.
        energy_j: Joules that fell under its values.
        weighed: Sum of joules x g/kWh.
        time_ns: How long its values held.
    """

    value: IntensityValue
    energy_j: float
    weighed: float
    time_ns: float

    def __add__(self, later: object) -> Use:
        """Both together; the value is the later one's."""
        if not isinstance(later, Use):
            return NotImplemented
        return Use(
            later.value,
            self.energy_j + later.energy_j,
            self.weighed + later.weighed,
            self.time_ns + later.time_ns,
        )


NO_USES: Final[Mapping[UseKey, Use]] = MappingProxyType({})


class CarbonCut(NamedTuple):
    """CO2eq of a window, already multiplied by PUE, in grams; the intensity that weighs it in g/kWh.

    Attributes:
        co2eq_g: Central value.
        low_g: Lower end without the edges' error.
        high_g: Upper end without the edges' error.
        edge_g: Error of the two edges together.
        intensity_g_per_kwh: Energy-weighted mean; weighed by time where there was no energy.
        uses: Whose intensity weighed how much.
    """

    co2eq_g: float
    low_g: float
    high_g: float
    edge_g: float
    intensity_g_per_kwh: float
    uses: Mapping[UseKey, Use] = NO_USES


class Sums(NamedTuple):
    """Sums over pieces of constant intensity; joules x g/kWh, and g/kWh x ns for `timed`."""

    central: float
    low: float
    high: float
    timed: float


NOTHING: Final = Sums(0.0, 0.0, 0.0, 0.0)


class Piece(NamedTuple):
    """A stretch of constant intensity with its energy: central, low and high joules."""

    begin_ns: int
    end_ns: int
    value: IntensityValue
    energy_j: float
    low_j: float
    high_j: float

    @property
    def sums(self) -> Sums:
        """Its part of the integral."""
        value = self.value
        return Sums(
            self.energy_j * value.g_per_kwh,
            self.low_j * value.low_g_per_kwh,
            self.high_j * value.high_g_per_kwh,
            value.g_per_kwh * (self.end_ns - self.begin_ns),
        )

    @property
    def use(self) -> Use:
        """Its part of its source's use."""
        return Use(self.value, self.energy_j, self.energy_j * self.value.g_per_kwh, self.end_ns - self.begin_ns)


def add_uses(into: dict[UseKey, Use], more: Mapping[UseKey, Use]) -> None:
    """Add uses to others, in place."""
    for key, use in more.items():
        into[key] = into[key] + use if key in into else use


def key_of(value: IntensityValue) -> UseKey:
    """What tells a value's source from others in a report."""
    return (value.source, value.zone, value.quality, value.kind, value.factor_basis)


class Integral:
    """A sum over pieces, growing in the order of time."""

    def __init__(self) -> None:
        self.sums = NOTHING
        self.uses: dict[UseKey, Use] = {}

    def add(self, pieces: Iterable[Piece]) -> None:
        """Add pieces."""
        for piece in pieces:
            self.sums = Sums(*map(sum, zip(self.sums, piece.sums, strict=True)))
            key = key_of(piece.value)
            self.uses[key] = self.uses[key] + piece.use if key in self.uses else piece.use


Measure = Callable[[int, int], Iterable[Piece]]
"""Gives the pieces that fill a window of monotonic nanoseconds."""


class Behind:
    """The integral at the borders of the intensity steps that lie behind.

    Attributes:
        version: What it was made from; if that changes, call `forget` first.
    """

    def __init__(self) -> None:
        self.version: object = None
        self._at: list[int] = []
        self._sums: list[Sums] = []
        self._pieces: list[Piece | None] = []  # the piece that ends at the border
        # Of all pieces but the first: a run begins with that, and its mark may lie beside the curve.
        self._uses: dict[UseKey, Use] = {}

    def forget(self, from_ns: int) -> None:
        """Drop the borders later than an instant, whose intensity or energy has changed."""
        keep = bisect.bisect_right(self._at, from_ns)
        if keep < len(self._at):
            del self._at[keep:], self._sums[keep:], self._pieces[keep:]
            self._uses = {}
            for piece in self._pieces[2:]:
                if piece is not None:
                    add_uses(self._uses, {key_of(piece.value): piece.use})

    def integral(self, begin_ns: int, end_ns: int, measure: Measure, edge: Measure) -> Integral:
        """The integral over a window.

        Args:
            begin_ns: Monotonic.
            end_ns: Later.
            measure: Gives the pieces between instants that lie behind.
            edge: The same for what holds an edge of the window.
        """
        if not self._at:
            self._at, self._sums, self._pieces = [begin_ns], [NOTHING], [None]
        self._extend(end_ns - SETTLED_NS, measure)
        total = Integral()
        # Strictly inside: what holds an edge is measured from its mark, also where a border lies at the same instant.
        i = bisect.bisect_right(self._at, begin_ns)
        j = bisect.bisect_left(self._at, end_ns) - 1
        if j <= i:
            total.add(edge(begin_ns, end_ns))
            return total
        total.add(edge(begin_ns, self._at[i]))
        first, last = self._sums[i], self._sums[j]
        total.sums = Sums(*(a + c - b for a, b, c in zip(total.sums, first, last, strict=True)))
        is_all = i <= 1 and j == len(self._at) - 1
        for piece in self._pieces[i + 1 : 2 if is_all else j + 1]:
            if piece is not None:
                add_uses(total.uses, {key_of(piece.value): piece.use})
        if is_all:
            add_uses(total.uses, self._uses)
        total.add(edge(self._at[j], end_ns))
        return total

    def _extend(self, upto_ns: int, measure: Measure) -> None:
        if self._at[-1] >= upto_ns:
            return
        for piece in measure(self._at[-1], upto_ns):
            if piece.end_ns >= upto_ns:
                return  # its step goes on
            self._at.append(piece.end_ns)
            self._sums.append(Sums(*map(sum, zip(self._sums[-1], piece.sums, strict=True))))
            self._pieces.append(piece)
            if len(self._pieces) > 2:
                add_uses(self._uses, {key_of(piece.value): piece.use})
