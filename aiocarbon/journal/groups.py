"""Sums of several runs by group in the making, machine by machine, out of the parts that make their total."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiocarbon._core.groups import PERIODS, By, GroupReport, periods
from aiocarbon._core.pool import Pool
from aiocarbon.journal.machine import Told
from aiocarbon.journal.sums import union_ns, united, utc_span
from aiocarbon.journal.view import View

__all__ = ["GroupSums"]

SPANS_KEPT = 1000
"""Windows that are kept before those that overlap are made one."""


class _Group:
    __slots__ = ("pool", "runs", "spans")

    def __init__(self) -> None:
        self.pool = Pool(folds=True)
        self.runs: set[str] = set()
        self.spans: list[tuple[int, int]] = []

    def ran(self, run_id: str, span: tuple[int, int]) -> None:
        """Take the time of a process."""
        self.runs.add(run_id)
        self.spans.append(span)
        if len(self.spans) > SPANS_KEPT:
            self.spans = united(self.spans)

    def report(self, key: str) -> GroupReport:
        return GroupReport(**self.pool.quantities(union_ns(self.spans)), key=key, runs=len(self.runs))


class GroupSums:
    """The groups of all runs.

    Args:
        bys: By what.
    """

    def __init__(self, bys: Iterable[By]) -> None:
        self._groups: dict[By, dict[str, _Group]] = {by: {} for by in bys}

    @property
    def are_wanted(self) -> bool:
        """True if there are any."""
        return bool(self._groups)

    def take(self, views: Iterable[View], told: Iterable[Told]) -> None:
        """Take what the processes of one machine tell, each instant of a device once."""
        for view in views:
            run_id = view.process.facts.run_id
            for by, groups in self._groups.items():
                for key, begin, end in _keys(by, view, utc_span(view)):
                    groups.setdefault(key, _Group()).ran(run_id, (begin, end))
        for part in told:
            facts, pue = part.view.process.facts, part.view.process.pue.value
            for by, groups in self._groups.items():
                if by not in PERIODS:
                    key = facts.name if by is By.NAME else facts.host
                    groups.setdefault(key, _Group()).pool.add(facts.host, part.whole, pue)
                    continue
                for key, begin, end in _cuts(by, part):
                    groups.setdefault(key, _Group()).pool.add(facts.host, part.cut(begin, end), pue)

    def reports(self) -> dict[str, tuple[GroupReport, ...]]:
        """The groups by what they are of: periods in their order, names and hosts by their energy."""
        return {by.value: tuple(self._reports(by, groups)) for by, groups in self._groups.items()}

    @staticmethod
    def _reports(by: By, groups: dict[str, _Group]) -> list[GroupReport]:
        reports = [group.report(key) for key, group in sorted(groups.items())]
        return reports if by in PERIODS else sorted(reports, key=lambda group: -group.it_energy_kwh)


def _keys(by: By, view: View, span: tuple[int, int]) -> Iterator[tuple[str, int, int]]:
    if by in PERIODS:
        yield from periods(by, *span)
    else:
        yield (view.process.facts.name if by is By.NAME else view.process.facts.host), *span


def _cuts(by: By, part: Told) -> Iterator[tuple[str, int, int]]:
    """The periods of a part: key, begin and end on its own clock."""
    for from_ns, to_ns, offset_ns in part.view.ledger.wall.pieces(part.begin_ns, part.end_ns):
        for key, begin, end in periods(by, from_ns + offset_ns, to_ns + offset_ns):
            yield key, begin - offset_ns, end - offset_ns
