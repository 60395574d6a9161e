"""Which slots to use so that their costs sum to the least, in runs that are not too short and not too many."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

Table = list[list[list[int]]]
"""By number of runs, slots looked at, and slots used: the least sum."""


def best(costs: Sequence[int], n: int, blocks: int, shortest: int) -> list[tuple[int, int]]:
    """The slots of least sum: so many, in runs that are not too short and not too many.

    By dynamic programming: `closed[k][t][u]` is the least sum of u slots among the first t in k runs, `opened[k][t][u]`
    that with the last run ending exactly at t. Some 0.2 us for each of k x t x u.

    Args:
        costs: What each slot costs.
        n: How many are wanted; at most all.
        blocks: How many runs at most.
        shortest: Slots of the shortest run, at most `n`.

    Returns:
        Begin and end of the runs; of equals the fewest, that end the earliest.
    """
    never = sum(costs) + 1
    total = list(itertools.accumulate(costs, initial=0))
    empty = [0] + [never] * n
    closed: Table = [[empty] * (len(costs) + 1)]
    opened: Table = [[]]
    for _ in range(min(blocks, n // shortest)):
        before, nothing = closed[-1], [never] * (n + 1)
        rows, ends = [nothing], [nothing]
        for t, cost in enumerate(costs, start=1):
            going = (never, *(a + cost for a in ends[-1][:-1]))
            if t >= shortest:
                run = total[t] - total[t - shortest]
                fresh = [*nothing[:shortest], *(a + run for a in before[t - shortest][: n + 1 - shortest])]
                end = [a if a <= b else b for a, b in zip(going, fresh, strict=True)]
            else:
                end = list(going)
            ends.append(end)
            rows.append([a if a <= b else b for a, b in zip(rows[-1], end, strict=True)])
        closed.append(rows)
        opened.append(ends)
    runs = min(range(1, len(closed)), key=lambda k: (closed[k][-1][n], k))
    return _traced(closed, opened, costs, n, runs, shortest)


def _traced(
    closed: Table, opened: Table, costs: Sequence[int], n: int, runs: int, shortest: int
) -> list[tuple[int, int]]:
    """Go back from the least sum to the runs that make it."""
    found: list[tuple[int, int]] = []
    t, used = len(costs), n
    for k in range(runs, 0, -1):
        while closed[k][t][used] == closed[k][t - 1][used]:
            t -= 1
        end = t
        while opened[k][t][used] == opened[k][t - 1][used - 1] + costs[t - 1]:
            t, used = t - 1, used - 1
        t, used = t - shortest, used - shortest
        found.append((t, end))
    return found[::-1]
