"""Spans that open and close with nothing in between, one like the other: a whole run of them taken in one go.

A loop over a fast operation makes hundreds of thousands of them a second, and they are most of what waits at a run's
end. The arithmetic is that of opening and closing each, in the same order, so the sums are the same to the last digit.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

from aiocarbon._core.edges import CLOSE, OPEN, Edge
from aiocarbon._core.spans import Owner, Path, Span
from aiocarbon._core.streams import Group
from aiocarbon._core.supply import QUANTUM
from aiocarbon._core.units import S_PER_NS


class Kind(NamedTuple):
    """What spans of a run have in common.

    Attributes:
        path: What they fold into.
        group: Whose energy they share.
        weight: Of each.
        parent: The span they lie in, if that is open.
        owner: Whose they are; None for nobody's in particular.
    """

    path: Path
    group: Group
    weight: int
    parent: Span | None
    owner: Owner | None


def take_run(
    edges: Sequence[Edge], first: int, upto_ns: int, kind: Kind, is_open: Container[int], has_ended: Container[int]
) -> tuple[int, int]:
    """Take a run of brief spans, from an edge on that opens one.

    Args:
        edges: In order.
        first: The first one to take.
        upto_ns: Up to here power is constant.
        kind: What they are.
        is_open: Ids that such a span cannot have: of open ones.
        has_ended: And of those whose end came before.

    Returns:
        How many spans were taken, and when the last one of them closed.
    """
    alike, last = edges[first][3:], len(edges) - 1
    path, group, weight, parent, owner = kind
    rate, rate_co2eq, between = group.rate, group.rate_co2eq, group.weight
    aside = parent is not None and not parent.inner  # it takes no share while one of them is open
    during = between + weight - (parent.weight if parent is not None and aside else 0)
    at, energy, co2eq = group.at, group.energy, group.co2eq
    own = own_co2eq = idle_ns = length_ns = end_ns = 0
    taken_s, spent_j = [], []
    for i in range(first, last, 2):
        begin_ns, what, ident = (opened := edges[i])[:3]
        closed = edges[i + 1]
        end = closed[0]
        if closed[2] != ident or closed[1] != CLOSE or what != OPEN or opened[3:] != alike:
            break
        if end > upto_ns or ident in is_open or ident in has_ended:
            break
        if begin_ns > at:
            if between:
                energy += rate * (begin_ns - at) // between
                co2eq += rate_co2eq * (begin_ns - at) // between
            else:
                idle_ns += begin_ns - at
            at = begin_ns
        grown = 0
        if end > at:
            own += (grown := rate * (end - at) // during)
            own_co2eq += rate_co2eq * (end - at) // during
            at = end
        taken_s.append((end - begin_ns) * S_PER_NS)
        spent_j.append(weight * grown * QUANTUM)
        length_ns += end - begin_ns
        end_ns = end
    group.at, group.energy, group.co2eq = at, energy + own, co2eq + own_co2eq
    group.idle_ns += idle_ns
    if parent is not None and aside:
        parent.energy0 += own
        parent.co2eq0 += own_co2eq
    if taken_s:
        path.take_all(taken_s, spent_j, length_ns, weight * own, weight * own_co2eq)
        if owner is not None:
            owner.take(length_ns, weight * own, weight * own_co2eq, len(taken_s))
    return len(taken_s), end_ns
