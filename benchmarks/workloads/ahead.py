"""What will it cost until the return reaches its target? What can be said of that, and what it rests on.

The tracker knows what an update costs; how many updates are still needed, only the learning knows. Two things can be
said of it without a theory of learning curves:

- at most: the run ends after all its updates at the latest, and what these cost the tracker predicts;
- as earlier: of m earlier trainings of other seeds that were still learning at this point, the next is as likely to
  need fewer updates than all of them as to need more than all: it lies between their least and most with a
  probability of (m - 1) / (m + 1), whatever the curves look like (order statistics of exchangeable draws). What an
  update takes lies in the tracker's own 90 % range, so that both hold with 0.9 times that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.workloads.costs import J_PER_KWH, amount

if TYPE_CHECKING:
    from aiocarbon._core.report import Prediction

FEWEST: Final = 3
"""Earlier trainings below which nothing is said of them: of two, the probability would be a third."""
TRACKERS: Final = 0.9
"""How often the ranges of a `Prediction` hold, if the regime of the run goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """Energy still needed until the target, with PUE counted, joules.

    Attributes:
        most_j: If all updates are needed, upper end of the tracker's range.
        low_j: As the quickest of the earlier trainings that were still learning; None if too few are known.
        high_j: As the slowest of them.
        chance: Probability that it lies between these.
        among: How many they were.
    """

    most_j: float
    low_j: float | None = None
    high_j: float | None = None
    chance: float = 0.0
    among: int = 0

    def to_text(self, target: float) -> str:
        """For people."""
        most = f"at most {amount(self.most_j)}"
        if self.low_j is None or self.high_j is None:
            return f"{most} more"
        between = f"{amount(self.low_j)} to {amount(self.high_j)}"
        return f"{target:g} takes {between} more ({self.chance:.0%}, by {self.among} earlier seeds), {most}"


def ahead(prediction: Prediction | None, *, learnt: int, updates: int, earlier: Sequence[float]) -> Ahead | None:
    """What is still to come.

    Args:
        prediction: The tracker's, of all updates.
        learnt: Updates done.
        updates: Updates at most.
        earlier: After how many updates earlier trainings had reached the target; infinite for those that never did.

    Returns:
        None where nothing can be said: no update is left, or nothing is known of the energy.
    """
    left = updates - learnt
    if prediction is None or left <= 0:
        return None
    low_kwh, high_kwh = prediction.remaining_energy_kwh_low, prediction.remaining_energy_kwh_high
    if low_kwh is None or high_kwh is None:
        return None
    most_j = high_kwh * J_PER_KWH
    slower = sorted(min(needed, updates) for needed in earlier if needed > learnt)
    m = len(slower)
    if m < FEWEST:
        return Ahead(most_j=most_j)
    return Ahead(
        most_j=most_j,
        low_j=(slower[0] - learnt) / left * low_kwh * J_PER_KWH,
        high_j=(slower[-1] - learnt) / left * most_j,
        chance=TRACKERS * (m - 1) / (m + 1),
        among=m,
    )
