"""What will it cost until the return reaches its target? What can be said of that, and what it rests on.

The tracker knows what an update costs; how many updates are still needed, only the learning knows. Two things can be
said of it without a theory of learning curves:

- at most: the run ends after all its updates at the latest, and what these cost the tracker predicts;
- as earlier: of m earlier trainings of other seeds that were still learning at this point, the next is as likely to
  need fewer updates than all of them as to need more than all: it lies between their least and most with a
  probability of (m - 1) / (m + 1), whatever the curves look like (order statistics of exchangeable draws).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.workloads.costs import J_PER_KWH, amount

if TYPE_CHECKING:
    from aiocarbon._core.report import Prediction

FEWEST = 3
"""Earlier trainings below which nothing is said of them: of two, the probability would be a third."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """Energy still needed until the target, with PUE counted, joules.

    Attributes:
        most_j: If all updates are needed.
        most_j_high: Upper end of its 90 % range.
        low_j: As the quickest of the earlier trainings that were still learning; None if too few are known.
        high_j: As the slowest of them.
        chance: Probability that it lies between these, apart from the error of the prediction of the rate.
        among: How many they were.
    """

    most_j: float
    most_j_high: float
    low_j: float | None = None
    high_j: float | None = None
    chance: float = 0.0
    among: int = 0

    def to_text(self, target: float) -> str:
        """For people."""
        most = f"at most {amount(self.most_j_high)}"
        if self.low_j is None or self.high_j is None:
            return f"{most} more"
        between = f"{amount(self.low_j)} to {amount(self.high_j)}"
        return f"{target:g} takes {between} more ({self.chance:.0%}, as {self.among} earlier seeds), {most}"


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
    if prediction.remaining_energy_kwh is None or prediction.remaining_energy_kwh_high is None:
        return None
    most_j = prediction.remaining_energy_kwh * J_PER_KWH
    most_j_high = prediction.remaining_energy_kwh_high * J_PER_KWH
    slower = sorted(n for n in earlier if n > learnt)
    m = len(slower)
    if m < FEWEST:
        return Ahead(most_j=most_j, most_j_high=most_j_high)
    each_j = most_j / left
    return Ahead(
        most_j=most_j,
        most_j_high=most_j_high,
        low_j=(min(slower[0], updates) - learnt) * each_j,
        high_j=(min(slower[-1], updates) - learnt) * each_j,
        chance=(m - 1) / (m + 1),
        among=m,
    )
