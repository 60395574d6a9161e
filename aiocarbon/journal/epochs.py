"""The epochs of a run of several processes, what lies outside them, and what was done again; together they are the run.

Energies add up by construction. So do lengths on one machine, but where processes that measure different devices are in
different epochs at one time: that is the time of each. Of several machines the one that took longest tells, so that
lengths add up as far as machines step together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiocarbon._core.report import EpochReport, Quantities
from aiocarbon._core.tries import Extent, Start, tries
from aiocarbon.journal.lengths import Key, Lengths, length_ns
from aiocarbon.journal.machine import Told
from aiocarbon.journal.sums import WindowSum, union_ns
from aiocarbon.journal.view import KEPT_EPOCHS, Stretch, View

Sums = list[tuple[Start, WindowSum]]


class Parts(NamedTuple):
    """The parts of a run; `note` is a word on what was done again."""

    epochs: tuple[EpochReport, ...]
    outside: Quantities
    rework: Quantities | None
    note: str


class Windows:
    """The windows of a run in the making.

    Args:
        folds: True to tell devices by kind and name.
    """

    def __init__(self, *, folds: bool) -> None:
        self._folds = folds
        self._sums: dict[tuple[Key, Start], WindowSum] = {}
        self._machines = 0
        self.total = 0

    def take(self, views: Iterable[View], told: Iterable[Told], starts: Mapping[str, Start]) -> None:
        """Take one machine's windows.

        Args:
            views: Its processes.
            told: What each tells, each instant of a device once.
            starts: The start of each.
        """
        self._machines += 1
        lengths = Lengths(views, starts)
        for part in told:
            process = part.view.process
            for stretch, lump in part.stretches:
                key = _key(part.view, stretch)
                found = self._sum(key, starts[process.ident])
                found.pool.add(process.facts.host, lump, process.pue.value)
                begin, end = max(stretch.begin_ns, part.begin_ns), min(stretch.end_ns, part.end_ns)
                lengths.tell(part.view, key, found, begin, end)
        for view in views:
            epochs = view.process.epochs
            self.total = max(self.total, 1 + max(epochs, default=-1))
            for stretch in view.stretches:
                key = _key(view, stretch)
                found = self._sum(key, starts[view.process.ident])
                lengths.know(view, key, found, stretch.begin_ns, stretch.end_ns)
                if stretch.epoch is not None:
                    # Processes of one run step together; the one that told most has seen all.
                    found.steps = max(found.steps, epochs[stretch.epoch].steps)
                    found.is_partial = found.is_partial or epochs[stretch.epoch].is_partial
        lengths.close()

    def _sum(self, key: Key, start: Start) -> WindowSum:
        found = self._sums.get((key, start))
        if found is None:
            found = self._sums[key, start] = WindowSum(folds=self._folds)
        return found

    def parts(self, extents: Mapping[Start, Extent], run_ns: int) -> Parts:
        """The run's parts.

        Args:
            extents: From when to when each of its starts lasted.
            run_ns: How long the run was, nanoseconds.
        """
        found = tries(extents)
        order = {start: n for n, starts in enumerate(found) for start in starts}
        by_index = self._by_index(order)
        lost, rest = WindowSum(folds=True), WindowSum(folds=True)
        again: list[int] = []
        lost_ns = [0] * len(found)
        epochs_ns = 0
        epochs = []
        for index, by_try in sorted(by_index.items()):
            done = [n for n, sums in by_try.items() if not any(one.is_partial for _, one in sums)]
            counts = max(done or by_try)
            for n, sums in by_try.items():
                if n != counts:
                    again.append(index)
                    lost_ns[n] += self._joined(sums, extents, lost)
            taken_ns = self._length_ns(by_try[counts], extents)
            epochs_ns += taken_ns
            if index >= self.total - KEPT_EPOCHS:
                epochs.append(_epoch(index, [one for _, one in by_try[counts]], taken_ns, folds=self._folds))
        rest_ns = [0]
        for (key, start), one in self._sums.items():
            if key.epoch is not None:
                continue
            if key.upto is not None and any(n > order[start] for n in by_index.get(key.upto, {})):
                lost_ns[order[start]] += self._joined([(start, one)], extents, lost)
            else:
                rest_ns.append(self._joined([(start, one)], extents, rest))
        redone_ns = sum(self._most(ns, [extents[s] for s in of]) for ns, of in zip(lost_ns, found, strict=True))
        outside = Quantities(**rest.pool.quantities(self._outside_ns(rest_ns, run_ns - epochs_ns - redone_ns)))
        if not redone_ns and not lost.pool.energy_j:  # all its time may be that of others' epochs
            return Parts(tuple(epochs), outside, None, "")
        rework = Quantities(**lost.pool.quantities(redone_ns))
        return Parts(tuple(epochs), outside, rework, _rework_note(again, len(found)))

    def _by_index(self, order: Mapping[Start, int]) -> dict[int, dict[int, Sums]]:
        """The sums of epochs by index and number of the try."""
        found: dict[int, dict[int, Sums]] = {}
        epochs = [(key.epoch, start, one) for (key, start), one in self._sums.items() if key.epoch is not None]
        for index, start, one in sorted(epochs, key=lambda row: row[:2]):
            found.setdefault(index, {}).setdefault(order[start], []).append((start, one))
        return found

    def _joined(self, sums: Sums, extents: Mapping[Start, Extent], into: WindowSum) -> int:
        """Add the windows of starts to another; how long they were together, nanoseconds."""
        for _, one in sums:
            into.pool.join(one.pool)
        return self._length_ns(sums, extents)

    def _length_ns(self, sums: Sums, extents: Mapping[Start, Extent]) -> int:
        if self._machines == 1:
            return sum(one.length_ns for _, one in sums)  # each instant is one start's
        return length_ns(sums, extents)

    def _most(self, lost_ns: int, extents: Iterable[Extent]) -> int:
        """What of a try was done again: machines that lost it in different epochs lost one time."""
        if self._machines == 1:
            return lost_ns
        return min(lost_ns, union_ns((extent.begin_ns, extent.end_ns) for extent in extents))

    def _outside_ns(self, found_ns: Iterable[int], left_ns: int) -> int:
        """How long it was outside: machines were so at one time, and no more of it there is than the epochs leave."""
        found_ns = list(found_ns)
        return sum(found_ns) if self._machines == 1 else min(sum(found_ns), max(left_ns, *found_ns))


def _key(view: View, stretch: Stretch) -> Key:
    if stretch.epoch is not None:
        return Key(stretch.epoch)
    # What a try did after its last epoch, when it did not end well, was on its way to the next one.
    is_lost = stretch is view.stretches[-1] and not view.ended_well
    return Key(None, 1 + max(view.process.epochs, default=-1) if is_lost else None)


def _epoch(index: int, sums: list[WindowSum], taken_ns: int, *, folds: bool) -> EpochReport:
    if len(sums) == 1:
        (whole,) = sums
    else:
        whole = WindowSum(folds=folds)
        for one in sums:
            whole.join(one)
    return EpochReport(
        **whole.pool.quantities(taken_ns),
        index=index,
        devices=whole.pool.devices(),
        steps=whole.steps,
        is_partial=whole.is_partial,
        is_final=True,
    )


def _rework_note(again: list[int], tried: int) -> str:
    which = f"epochs {again[0]} to {again[-1]}" if len(set(again)) > 1 else f"epoch {again[0]}" if again else "an epoch"
    return (
        f"the run was tried {tried} times, and {which} told more than once: the last try that completed one counts, "
        "what earlier ones used for it is rework"
    )
