"""A series of one value an epoch, and the regime it is in now: its mean, its spread, and where it began.

A regime ends when what comes after differs from what was before by more than chance explains, in either direction, and
goes on differing: one slow epoch is no new regime, and neither is a slow drift of neighbours that resemble each other
(the test counts by effective numbers of epochs, from the autocorrelation seen).

Each value costs the same whatever came before: sums and a ring of the newest values are all that is kept.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, NamedTuple

SPLITS: Final = (3, 4, 5, 6, 8, 12, 16, 24, 32)
"""Lengths of a possible new regime that are tried at each value."""

FEWEST: Final = 3
"""Values on each side of a change."""

CHANGE_Z: Final = 7.0
"""Standard errors that make a change. At 5, a change of -30 % is found as well, but in a series of AR(1) with rho 0.8
the error after 25 and 50 % of the run is 27 and 42 % greater than without any test; at 7, by 3 and 9 % (tuning runs of
the benchmark)."""

CHANGE_SHARE: Final = 0.02
"""Least change, as a share of the mean."""

PRIOR_DOF: Final = 2.0
"""How many values' worth the assumed spread counts."""

CAP_RHO: Final = 0.9
"""Most autocorrelation that is believed."""


class Sums(NamedTuple):
    """Cumulative sums of a series, of deviations from its first value; `lagged` of products of neighbours."""

    n: int = 0
    x: float = 0.0
    xx: float = 0.0
    lagged: float = 0.0
    weight: float = 0.0
    weighed: float = 0.0

    def minus(self, other: Sums) -> Sums:
        """The sums of what came after another."""
        return Sums(
            self.n - other.n,
            self.x - other.x,
            self.xx - other.xx,
            self.lagged - other.lagged,
            self.weight - other.weight,
            self.weighed - other.weighed,
        )

    @property
    def squares(self) -> float:
        """Sum of squares around the mean."""
        return max(self.xx - self.x * self.x / self.n, 0.0) if self.n else 0.0

    @property
    def products(self) -> float:
        """Sum of products of neighbours around the mean."""
        return self.lagged - self.x * self.x / self.n if self.n else 0.0


class Level(NamedTuple):
    """The present regime of a series.

    Attributes:
        mean: Its mean.
        sd: Standard deviation of one value.
        rho: Autocorrelation of neighbours, 0..0.9.
        n: How many values it has.
        dof: Degrees of freedom of `sd`.
    """

    mean: float
    sd: float
    rho: float
    n: int
    dof: float

    @property
    def inflation(self) -> float:
        """By how much the variance of a mean is greater than that of independent values (AR(1))."""
        return (1 + self.rho) / (1 - self.rho)


class Regime:
    """The series.

    Attributes:
        changes: How many regimes ended.
    """

    def __init__(self, *, spread: float) -> None:
        """Begin an empty series.

        Args:
            spread: Standard deviation of a value that is assumed beside what is seen, as a share of the mean.
        """
        self._spread = spread
        self.changes = 0
        self._restart([])

    def _restart(self, values: list[tuple[float, float]]) -> None:
        self._values: deque[tuple[float, float]] = deque(maxlen=SPLITS[-1])
        self._marks: deque[Sums] = deque(maxlen=SPLITS[-1] + 1)
        self._origin = values[0][0] if values else 0.0
        self._sums = Sums()
        self._marks.append(self._sums)
        for value, weight in values:
            self._take(value, weight)

    def _take(self, value: float, weight: float) -> None:
        if not self._sums.n:
            self._origin = value
        x, s = value - self._origin, self._sums
        before = self._values[-1][0] - self._origin if self._values else None
        self._sums = Sums(
            s.n + 1,
            s.x + x,
            s.xx + x * x,
            s.lagged + (x * before if before is not None else 0.0),
            s.weight + weight,
            s.weighed + weight * x,
        )
        self._values.append((value, weight))
        self._marks.append(self._sums)

    def __len__(self) -> int:
        return self._sums.n

    @property
    def newest(self) -> list[tuple[float, float]]:
        """The newest values of the regime with their weights, at most 32."""
        return list(self._values)

    def add(self, value: float, weight: float = 1.0) -> bool:
        """Take the value of one more epoch.

        Args:
            value: Finite, at least 0.
            weight: What it counts in the mean, above 0.

        Returns:
            True if a new regime began with it or some epochs before.
        """
        self._take(value, weight)
        length = self._change()
        if not length:
            return False
        self._restart(list(self._values)[-length:])
        self.changes += 1
        return True

    def replace(self, values: list[tuple[float, float]]) -> None:
        """Begin anew with other values (of the first epochs, which later ones showed in another light)."""
        self._restart(values)

    def level(self) -> Level | None:
        """The present regime; None while there is no value."""
        s = self._sums
        if not s.n:
            return None
        mean = self._origin + (s.weighed / s.weight if s.weight > 0 else s.x / s.n)
        assumed = PRIOR_DOF * (self._spread * mean) ** 2
        dof = PRIOR_DOF + s.n - 1
        sd = math.sqrt((s.squares + assumed) / dof)
        rho = _rho(s.products, s.squares + assumed, s.n)
        return Level(mean, sd, rho, s.n, dof)

    def _change(self) -> int:
        """How many of the newest values make a new regime; 0 for none."""
        n, best, best_z = self._sums.n, 0, CHANGE_Z
        for m in SPLITS:
            if n - m < FEWEST:
                break
            z = self._z(m)
            if z > best_z and self._persists(m):
                best, best_z = m, z
        return best

    def _z(self, m: int) -> float:
        before = self._marks[-1 - m]
        after = self._sums.minus(before)
        mean_before = self._origin + before.x / before.n
        mean_after = self._origin + after.x / after.n
        shift = abs(mean_after - mean_before)
        level = max(mean_before, mean_after)
        if shift <= CHANGE_SHARE * level:
            return 0.0
        assumed = PRIOR_DOF * (self._spread * level) ** 2
        squares = before.squares + after.squares + assumed
        var = squares / (self._sums.n - 2 + PRIOR_DOF)
        rho = _rho(before.products + after.products, squares, self._sums.n)
        inflation = (1 + rho) / (1 - rho)
        return shift / math.sqrt(max(var, 1e-300) * inflation * (1 / before.n + 1 / after.n))

    def _persists(self, m: int) -> bool:
        """Whether the first and the newest values of a new regime are all on its side of the middle."""
        before = self._marks[-1 - m]
        mean_before = self._origin + before.x / before.n
        values = [value for value, _ in list(self._values)[-m:]]
        middle = (mean_before + sum(values) / m) / 2
        is_up = values[-1] > middle
        return all((value > middle) == is_up for value in (*values[:FEWEST], *values[-FEWEST:]))


def _rho(products: float, squares: float, n: int) -> float:
    """Autocorrelation of neighbours; a short series' own is biased towards -1/n (Marriott and Pope, 1954)."""
    if squares <= 0 or n < 4:
        return 0.0
    return min(max(products / squares + 1.0 / n, 0.0), CAP_RHO)
