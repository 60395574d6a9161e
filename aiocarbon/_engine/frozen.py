"""Instants at which the curves were frozen, so that whatever lies between two of them adds up.

A mark may be frozen on an extrapolation of some milliseconds that the next reading does not confirm; what lies behind
it then begins where it was frozen, and what lies before it ends there.
"""

from __future__ import annotations

import bisect
from typing import Final

from aiocarbon._core.curve import State
from aiocarbon._core.ledger import Mark

KEPT: Final = 64
"""Newest marks that are kept, beside the first behind which others may still be set. Those between them are where
shares were split up to: without them a mark has looser bounds, and what adds up are the borders."""


class Frozen:
    """The frozen marks of a run, as far back as any can still come before one."""

    def __init__(self) -> None:
        self._marks: list[Mark] = []

    def between(self, mark: Mark) -> Mark:
        """A mark with no sum below those of the last frozen one before it, nor above those of the first behind it.

        One at its own instant is both: what was frozen there stays.
        """
        i = bisect.bisect_left(self._marks, mark.t_ns, key=lambda frozen: frozen.t_ns)
        behind = self._marks[i] if i < len(self._marks) else None
        if behind is not None and behind.t_ns == mark.t_ns:
            return bounded(mark, behind, behind)
        return bounded(mark, self._marks[i - 1] if i else None, behind)

    def add(self, mark: Mark, *, earliest_ns: int) -> None:
        """Freeze a mark.

        Args:
            mark: It lies between those around it.
            earliest_ns: No mark will be frozen before this instant any more.
        """
        bisect.insort(self._marks, mark, key=lambda frozen: frozen.t_ns)
        first = bisect.bisect_right(self._marks, earliest_ns, key=lambda frozen: frozen.t_ns)
        del self._marks[: max(first - 1, 0)]
        del self._marks[1:-KEPT]


def bounded(mark: Mark, before: Mark | None, behind: Mark | None) -> Mark:
    """A mark with no sum below those of one before it, nor above those of one behind it."""
    least = {} if before is None else before.states
    most = {} if behind is None else behind.states
    return Mark(
        mark.t_ns, {ident: _within(state, least.get(ident), most.get(ident)) for ident, state in mark.states.items()}
    )


def _within(state: State, least: State | None, most: State | None) -> State:
    """A state whose sums are bounded by those of others; its own error stays."""
    energy_j, under_j, over_j, missing_ns, slack_j, hidden_j2 = state
    if least is not None:
        energy_j, under_j = max(energy_j, least.energy_j), max(under_j, least.under_j)
        over_j, missing_ns = max(over_j, least.over_j), max(missing_ns, least.missing_ns)
        hidden_j2 = max(hidden_j2, least.hidden_j2)
    if most is not None:
        energy_j, under_j = min(energy_j, most.energy_j), min(under_j, most.under_j)
        over_j, missing_ns = min(over_j, most.over_j), min(missing_ns, most.missing_ns)
        hidden_j2 = min(hidden_j2, most.hidden_j2)
    return State(energy_j, under_j, over_j, missing_ns, slack_j, hidden_j2)
