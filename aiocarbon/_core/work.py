"""Classes of work that an epoch consists of beside its steps: validation, checkpoints, what lies between epochs.

Each has its own cost and its own count, so that what happens every tenth epoch is neither an outlier nor spread over
epochs that do not have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from aiocarbon._core.regime import PRIOR_DOF

SPREAD = 0.1
"""Standard deviation of one piece of work that is assumed beside what is seen, as a share of its mean."""


class Ahead(NamedTuple):
    """What of a class of work is still to come.

    Attributes:
        duration_s: Seconds.
        energy_j: Joules; None where no energy of it is known.
        duration_var: Variance of the seconds.
        energy_var: Variance of the joules.
    """

    duration_s: float
    energy_j: float | None
    duration_var: float
    energy_var: float

    def plus(self, other: Ahead) -> Ahead:
        """Both together; their errors are their own."""
        is_known = self.energy_j is not None and other.energy_j is not None
        return Ahead(
            self.duration_s + other.duration_s,
            (self.energy_j or 0.0) + (other.energy_j or 0.0) if is_known else None,
            self.duration_var + other.duration_var,
            self.energy_var + other.energy_var,
        )


NOTHING: Final = Ahead(0.0, 0.0, 0.0, 0.0)


@dataclass(slots=True)
class WorkClass:
    """One class of work.

    Attributes:
        name: Its name.
        count: How many pieces the whole run has; None: not said.
        every: It comes after each so many epochs; None: not said. Without either it goes on as often as so far.
        before: How many pieces earlier tries of the run had.
        seen: How many pieces there were since.
        settled: How many of these before the last border: in epochs that have ended, or between them.
        measured: Of how many of them the energy is known.
        duration_s: Sum of their seconds.
        duration_sq: Sum of the squares.
        energy_j: Sum of the joules known.
        energy_sq: Sum of the squares.
    """

    name: str
    count: int | None = None
    every: int | None = None
    before: int = 0
    seen: int = 0
    settled: int = 0
    measured: int = 0
    duration_s: float = 0.0
    duration_sq: float = 0.0
    energy_j: float = 0.0
    energy_sq: float = 0.0

    def add(self, duration_s: float, energy_j: float | None) -> None:
        """Take one piece; its energy is None where it is not known."""
        self.seen += 1
        self.duration_s += duration_s
        self.duration_sq += duration_s * duration_s
        if energy_j is not None:
            self.measured += 1
            self.energy_j += energy_j
            self.energy_sq += energy_j * energy_j

    def pieces_left(self, ended: int, left: float, epochs: int, *, former: int = 0) -> float:
        """How many pieces are still to come.

        Args:
            ended: Epochs that have ended, those of earlier tries not counted: what lay in them is not known.
            left: Epochs that are still to come, the share of the open one counted.
            epochs: Epochs of the whole run.
            former: Epochs of the run that earlier tries did.
        """
        if self.count is not None:
            return max(self.count - self.before - self.seen, 0)
        if left <= 0:
            return 0.0
        if self.every is not None:
            return max(epochs // self.every - former // self.every - self.seen, 0)
        in_open = self.seen - self.settled
        return max(self.settled / ended * (epochs - former - ended) - in_open, 0.0) if ended else 0.0

    def share(self, seconds: float) -> float:
        """Which share of a piece so many seconds are, 0..1."""
        return min(max(seconds, 0.0) * self.seen / self.duration_s, 1.0) if self.duration_s > 0 else 1.0

    def ahead(self, pieces: float) -> Ahead:
        """What pieces to come cost, at the mean of those seen."""
        if not self.seen or pieces <= 0:
            return NOTHING
        duration, duration_var = _sum_ahead(self.duration_s, self.duration_sq, self.seen, pieces)
        if not self.measured:
            return Ahead(duration, None, duration_var, 0.0)
        energy, energy_var = _sum_ahead(self.energy_j, self.energy_sq, self.measured, pieces)
        return Ahead(duration, energy, duration_var, energy_var)


def _sum_ahead(total: float, squares: float, n: int, pieces: float) -> tuple[float, float]:
    """Sum of pieces to come and its variance, with the error of the mean."""
    mean = total / n
    spread = PRIOR_DOF * (SPREAD * mean) ** 2
    var = (max(squares - total * mean, 0.0) + spread) / (n - 1 + PRIOR_DOF)
    return pieces * mean, var * (pieces + pieces * pieces / n)
