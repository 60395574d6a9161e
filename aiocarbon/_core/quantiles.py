"""Quantiles of a stream in bounded memory, with a stated error.

Values fall into buckets of nearly equal relative width: a bucket is the leading bits of the IEEE 754 double (sign,
exponent and the first bits of the significand), as in HdrHistogram (Tene 2012). That is a shift, no logarithm, so many
values fold in one pass of C code. Where there would be too many buckets, neighbours merge two by two and the stated
error doubles, as in UDDSketch (Epicoco et al. 2020). Order does not matter, nothing is random.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import repeat
from operator import rshift
from typing import Final

SIGNIFICAND_BITS: Final = 52
"""Bits of the significand of an IEEE 754 double."""

FIRST_BITS: Final = 7
"""Bits of the significand that tell buckets apart at first: an error of at most 1/256."""

MOST_BUCKETS: Final = 512
"""Above this neighbours merge, down to one bucket an octave. 512 hold four octaves (16-fold) at the first error."""


class Quantiles:
    """Count, sum and quantiles of values >= 0.

    Attributes:
        count: How many values.
        total: Their sum.
        least: The least; infinity while there is none.
        most: The greatest; 0.0 while there is none.
    """

    __slots__ = ("_bits", "_buckets", "count", "least", "most", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.least = float("inf")
        self.most = 0.0
        self._bits = FIRST_BITS
        self._buckets: Counter[int] = Counter()

    @property
    def error(self) -> float:
        """The most by which a quantile may differ from a true value at its rank, as a share of it."""
        return 0.5 ** (self._bits + 1)

    @property
    def mean(self) -> float | None:
        """Mean of the values; None while there is none."""
        return self.total / self.count if self.count else None

    def __len__(self) -> int:
        """How many buckets are in use."""
        return len(self._buckets)

    def add(self, values: Sequence[float]) -> None:
        """Take values, each finite and >= 0."""
        if not values:
            return
        self.count += len(values)
        self.total += sum(values)
        self.least = min(self.least, min(values))
        self.most = max(self.most, max(values))
        words = memoryview(array("d", values)).cast("B").cast("q")
        self._buckets.update(map(rshift, words, repeat(SIGNIFICAND_BITS - self._bits)))
        while len(self._buckets) > MOST_BUCKETS and self._bits > 0:
            self._merge()

    def _merge(self) -> None:
        merged: Counter[int] = Counter()
        for key, n in self._buckets.items():
            merged[key >> 1] += n
        self._buckets = merged
        self._bits -= 1

    def quantile(self, q: float) -> float | None:
        """The value below which a share of the values lies, right within `error` of one at that rank.

        Args:
            q: 0..1.

        Returns:
            None while there is no value.
        """
        return self.quantiles((q,))[0]

    def quantiles(self, shares: Sequence[float]) -> list[float | None]:
        """Several of them, ascending, in one pass."""
        found: list[float | None] = []
        seen = 0
        for key in sorted(self._buckets):
            seen += self._buckets[key]
            while len(found) < len(shares) and seen > shares[len(found)] * (self.count - 1):
                found.append(self._middle(key))
        return found + [None] * (len(shares) - len(found))

    def _middle(self, key: int) -> float:
        """The value that stands for a bucket."""
        if not key:
            return 0.0
        shift = SIGNIFICAND_BITS - self._bits
        low, high = memoryview(array("q", [key << shift, (key + 1) << shift])).cast("B").cast("d")
        # The top bucket's upper end may be infinity.
        middle = (low + min(high, self.most)) / 2 if high > self.most else (low + high) / 2
        return min(max(middle, self.least), self.most)
