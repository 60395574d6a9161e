"""Sums of several runs by group in the making, machine by machine, out of the parts that make their total."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from aiocarbon._core.groups import PERIODS, By, GroupReport, periods
from aiocarbon._core.pool import Pool
from aiocarbon.journal.machine import Told
from aiocarbon.journal.split import Given, KeyOf, beside, split
from aiocarbon.journal.sums import union_ns, united, utc_span
from aiocarbon.journal.view import View

__all__ = ["GroupSums"]

SPANS_KEPT = 1000
"""Windows that are kept before those that overlap are made one."""


_KEY_OF: Final[Mapping[By, KeyOf]] = {
    By.NAME: lambda view: view.process.facts.name,
    By.HOST: lambda view: view.process.facts.host,
}


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

    def take(self, views: Sequence[View], told: Iterable[Told]) -> None:
        """Take what the processes of one machine tell, each instant of a device once."""
        for view in views:
            run_id = view.process.facts.run_id
            for by, groups in self._groups.items():
                for key, begin, end in _keys(by, view):
                    groups.setdefault(key, _Group()).ran(run_id, (begin, end))
        for part, others in beside(views, told):
            for by, groups in self._groups.items():
                for key, view, lump in _lumps(by, part, others):
                    process = view.process
                    groups.setdefault(key, _Group()).pool.add(process.facts.host, lump, process.pue.value)

    def reports(self) -> dict[str, tuple[GroupReport, ...]]:
        """The groups by what they are of: periods in their order, names and hosts by their energy."""
        return {by.value: tuple(self._reports(by, groups)) for by, groups in self._groups.items()}

    @staticmethod
    def _reports(by: By, groups: dict[str, _Group]) -> list[GroupReport]:
        reports = [group.report(key) for key, group in sorted(groups.items())]
        return reports if by in PERIODS else sorted(reports, key=lambda group: -group.it_energy_kwh)


def _keys(by: By, view: View) -> Iterator[tuple[str, int, int]]:
    """The groups of a process, each once: key, begin and end in UTC nanoseconds, as long as it is on the boot clock."""
    if by not in PERIODS:
        yield _KEY_OF[by](view), *utc_span(view)
        return
    found: dict[str, tuple[int, int]] = {}
    for key, begin, end, offset_ns in _pieces(by, view, view.begin_ns, view.end_ns):
        first, to = found.get(key, (begin + offset_ns, begin + offset_ns))
        found[key] = first, to + end - begin  # a clock that is set back does not make it shorter
    for key, span in found.items():
        yield key, *span


def _lumps(by: By, part: Told, others: Sequence[View]) -> Iterator[Given]:
    """What each group has of a part: a period what was used in it, a name or host what its runs measured of it."""
    if by not in PERIODS:
        yield from split(part, others, _KEY_OF[by])
        return
    for key, begin, end, _ in _pieces(by, part.view, part.begin_ns, part.end_ns):
        yield key, part.view, part.cut(begin, end)


def _pieces(by: By, view: View, begin_ns: int, end_ns: int) -> Iterator[tuple[str, int, int, int]]:
    """The periods of a window, in pieces where the wall clock was set: key, begin, end, and what UTC is ahead."""
    for from_ns, to_ns, offset_ns in view.ledger.wall.pieces(begin_ns, end_ns):
        for key, begin, end in periods(by, from_ns + offset_ns, to_ns + offset_ns):
            yield key, begin - offset_ns, end - offset_ns, offset_ns
