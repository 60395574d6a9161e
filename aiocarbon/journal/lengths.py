"""How long the parts of a run lasted: by the instants that tell their energy, so that lengths add up as joules do.

Each instant of a device belongs to one process, and to the epoch that it was in. Processes of one machine that mark
the same epochs at other times share its time by the same rule, and not each by its own marks.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aiocarbon._core.tries import Extent, Start, generations
from aiocarbon.journal.sums import WindowSum, union_ns, united
from aiocarbon.journal.view import View

Span = tuple[int, int]


class Key(NamedTuple):
    """What a window of a run is a part of.

    Attributes:
        epoch: The epoch; None outside.
        upto: Outside: the epoch to which its process was on its way when it ended, and not well; else None.
    """

    epoch: int | None
    upto: int | None = None


class _Spell:
    """The windows of one key on one machine, of processes that ran at one time."""

    __slots__ = ("own", "sum", "told")

    def __init__(self, found: WindowSum) -> None:
        self.sum = found  # of the first of its starts, which has the time of all
        self.told: list[Span] = []
        self.own: list[Span] = []


class Lengths:
    """How long the windows of a run were on one machine.

    Where processes that measure different devices were in different epochs at one time, it is the time of each of
    these; what lies outside is only what no epoch has.

    Args:
        views: The processes.
        starts: The start of each.
    """

    def __init__(self, views: Iterable[View], starts: Mapping[str, Start]) -> None:
        self._spells: dict[tuple[Key, tuple[int, int]], _Spell] = {}
        self._strands: dict[str, tuple[int, int]] = {}
        by_restart: dict[int, list[View]] = {}
        for view in views:
            by_restart.setdefault(starts[view.process.ident].restart, []).append(view)
        for restart, group in by_restart.items():
            group.sort(key=lambda view: view.begin_ns)
            numbers = generations((view.begin_ns, view.end_ns) for view in group)
            for view, number in zip(group, numbers, strict=True):
                self._strands[view.process.ident] = restart, number

    def tell(self, view: View, key: Key, found: WindowSum, begin_ns: int, end_ns: int) -> None:
        """Take a window of which a process tells the energy, boot time."""
        self._spell(view, key, found).told.append((begin_ns, end_ns))

    def know(self, view: View, key: Key, found: WindowSum, begin_ns: int, end_ns: int) -> None:
        """Take a window that a process had: where anybody told of its like, only what is in no other counts of it."""
        self._spell(view, key, found).own.append((begin_ns, end_ns))

    def _spell(self, view: View, key: Key, found: WindowSum) -> _Spell:
        at = key, self._strands[view.process.ident]
        spell = self._spells.get(at)
        if spell is None:
            spell = self._spells[at] = _Spell(found)
        return spell

    def close(self) -> None:
        """Be done with the machine: no sum is shorter than what it has here."""
        lengths: dict[WindowSum, int] = {}
        taken: list[Span] = []
        for had in self._by_claim():
            left = [(found, [*without(spans, taken)]) for found, spans in had]
            for found, spans in left:
                lengths[found] = lengths.get(found, 0) + union_ns(spans)
            taken = united([*taken, *(span for _, spans in left for span in spans)])
        for found, length in lengths.items():
            found.length_ns = max(found.length_ns, length)

    def _by_claim(self) -> Iterator[list[tuple[WindowSum, list[Span]]]]:
        """Who has its time first: those of one group may have the same time, later ones only what is left of it."""
        epochs = [spell for (key, _), spell in self._spells.items() if key.epoch is not None]
        outside = [self._spells[at] for at in sorted(self._spells, key=_place) if at[0].epoch is None]
        yield [(spell.sum, spell.told) for spell in epochs if spell.told]
        yield [(spell.sum, spell.own) for spell in epochs if not spell.told]
        yield from ([(spell.sum, spell.told)] for spell in outside if spell.told)
        yield from ([(spell.sum, spell.own)] for spell in outside if not spell.told)
        # Whose devices nobody knows may have been there for longer than those who told.
        yield from ([(spell.sum, spell.own)] for spell in (*epochs, *outside) if spell.told)


def _place(at: tuple[Key, tuple[int, int]]) -> tuple[bool, int, tuple[int, int]]:
    """Outside: what was on its way to an epoch before what was not."""
    key, strand = at
    return key.upto is None, key.upto or 0, strand


def without(spans: Iterable[Span], taken: Sequence[Span]) -> Iterator[Span]:
    """What intervals have that others have not.

    Args:
        spans: Intervals.
        taken: Those that do not meet each other, ascending.
    """
    for begin, end in united(spans):
        for n in range(bisect.bisect_right(taken, begin, key=lambda span: span[1]), len(taken)):
            if taken[n][0] >= end:
                break
            if begin < taken[n][0]:
                yield begin, taken[n][0]
            begin = taken[n][1]
        if begin < end:
            yield begin, end


def length_ns(found: Iterable[tuple[Start, WindowSum]], extents: Mapping[Start, Extent]) -> int:
    """How long the windows of an epoch were: starts that ran at one time had it together, later ones went on with it.

    Args:
        found: Its windows by their starts.
        extents: From when to when each start ran.
    """
    total = longest = 0
    upto_ns = -math.inf
    for start, one in sorted(found, key=lambda pair: extents[pair[0]].begin_ns):
        if extents[start].begin_ns >= upto_ns:
            total, longest = total + longest, 0
        upto_ns, longest = max(upto_ns, extents[start].end_ns), max(longest, one.length_ns)
    return total + longest
