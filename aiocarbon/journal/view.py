"""One process's journal as a ledger with stretches, and its report by the code that reports a live run."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from aiocarbon._core.assemble import epoch_report, run_report
from aiocarbon._core.body import NO_OVERHEAD, Body, Overhead
from aiocarbon._core.curve import Curve
from aiocarbon._core.intensity import IntensityCurve
from aiocarbon._core.ledger import Cut, Ledger, Mark, add_cuts
from aiocarbon._core.reading import Part
from aiocarbon._core.report import EpochReport, RunReport, utc
from aiocarbon._core.shares import Account
from aiocarbon._core.wallclock import WallClock
from aiocarbon.journal.alive import goes_on
from aiocarbon.journal.place import moved
from aiocarbon.journal.plain import count, number, seconds
from aiocarbon.journal.process import Known, Process
from aiocarbon.journal.refresh import overlaid

KEPT_EPOCHS = 10_000
"""The last epochs that a report holds, as in a live one."""


class Stretch(NamedTuple):
    """A window between two neighbouring marks; `epoch` is its index, None outside.

    `end_mark` is the index of the mark at its end, None where the journal breaks off.
    """

    begin_ns: int
    end_ns: int
    end_mark: int | None
    epoch: int | None


class _Curves(Mapping[str, Curve]):
    """The curves of a process's devices, each made when it is asked for."""

    def __init__(self, devices: Mapping[str, Known]) -> None:
        self._devices = devices

    def __getitem__(self, ident: str) -> Curve:
        return self._devices[ident].curve

    def __iter__(self) -> Iterator[str]:
        return iter(self._devices)

    def __len__(self) -> int:
        return len(self._devices)


class View:
    """One process with its ledger and its stretches.

    Args:
        process: The process.
        as_written: True to leave out what was learnt of its intensity and its place after its end.
    """

    def __init__(self, process: Process, *, as_written: bool = False) -> None:
        self.process = process
        self._learnt = () if as_written else process.learnt
        self._found = None if as_written else process.found
        self.problems: list[str] = []
        self.ledger = self._ledger()
        marks: list[tuple[int, int]] = []
        at = 0
        for index, t in sorted(process.marks.items()):
            at = max(at, t)
            marks.append((index, at))
        first = process.anchors[0].mono_ns
        self.begin_ns = marks[0][1] if marks else first
        if marks and marks[0][0] != 0:
            self.begin_ns = min(first, self.begin_ns)
        last = marks[-1][1] if marks else self.begin_ns
        self.end_ns = last if process.end is not None else max(last, process.seen_ns)
        self.stretches = self._stretches(marks)

    def _ledger(self) -> Ledger:
        process = self.process
        steps = sorted(process.intensity.items())
        if not steps:
            from aiocarbon.intensity import table

            zone = process.facts.location.zone
            steps = [(float("-inf"), table.average(zone))]
            process.warn(f"the journal holds no carbon intensity: the yearly average of {zone} is taken")
        learnt = self._learnt
        if self._found is not None:
            from aiocarbon.intensity import table

            steps = moved(steps, table.average(self._found.location.zone))
            learnt = tuple(stretch for stretch in learnt if stretch.asked_s >= self._found.asked_s)
        intensity = IntensityCurve(steps[0][1])
        intensity.replace(float("-inf"), overlaid(steps, learnt))
        anchors = sorted(process.anchors)
        wall = WallClock(anchors[0])
        for anchor in anchors[1:]:
            wall.look(anchor)
        return Ledger(_Curves(process.devices), intensity=intensity, pue=process.pue, wall=wall)

    def _stretches(self, marks: list[tuple[int, int]]) -> list[Stretch]:
        by_begin = {(epoch.begin, epoch.end): epoch.index for epoch in self.process.epochs.values()}
        found = []
        before = (-1, self.begin_ns)
        for index, t in marks:
            epoch = by_begin.pop((before[0], index), None)
            if before[0] >= 0 or t > before[1]:
                found.append(Stretch(before[1], t, index, epoch))
            before = (index, t)
        if self.end_ns > before[1]:
            found.append(Stretch(before[1], self.end_ns, None, None))
        if by_begin:
            self.problems.append(f"{len(by_begin)} epochs of {self.process.path} have lost their marks")
        return found

    def cut(self, stretch: Stretch) -> Cut:
        """The stretch's cut, over the devices that were known at its end."""
        known = {
            ident: d.curve
            for ident, d in self.process.devices.items()
            if stretch.end_mark is None or (d.since is not None and d.since <= stretch.end_mark)
        }
        ledger = self.ledger
        if len(known) < len(ledger.curves):
            ledger = Ledger(known, intensity=ledger.intensity, pue=ledger.pue, wall=ledger.wall)
        return ledger.cut(Mark(stretch.begin_ns, {}), Mark(stretch.end_ns, {}))

    def within(self, begin_ns: int, end_ns: int) -> Iterator[Stretch]:
        """The stretches that share time with a window."""
        first = bisect.bisect_right(self.stretches, begin_ns, key=lambda stretch: stretch.end_ns)
        for stretch in self.stretches[first:]:
            if stretch.begin_ns >= end_ns:
                return
            yield stretch

    def cut_of(self, devices: Mapping[str, Known], begin_ns: int, end_ns: int) -> Cut:
        """Some devices' cut between two instants."""
        ledger = self.ledger
        if len(devices) < len(ledger.curves):
            curves = {ident: known.curve for ident, known in devices.items()}
            ledger = Ledger(curves, intensity=ledger.intensity, pue=ledger.pue, wall=ledger.wall)
        return ledger.cut(Mark(begin_ns, {}), Mark(end_ns, {}))

    def report(self) -> RunReport:
        """The report of a run that this process made alone."""
        from aiocarbon.intensity.equivalents import equivalents

        process = self.process
        epochs = []
        outside = []
        total = max(process.epochs, default=-1) + 1
        for stretch in self.stretches:
            if stretch.epoch is None:
                outside.append(self.cut(stretch))
            elif stretch.epoch >= total - KEPT_EPOCHS:
                epochs.append(self._epoch(stretch))
        body = Body(
            begin=Mark(self.begin_ns, {}),
            end=Mark(self.end_ns, {}),
            epochs=tuple(sorted(epochs, key=lambda epoch: epoch.index)),
            epochs_total=total,
            outside=add_cuts(outside),
            warnings=tuple(self.warnings()),
            missing=self.missing(),
            overhead=self.overhead(),
            is_final=not goes_on(process),
            ended_well=self.ended_well,
            mended_by_g=self.mended_by_g(),
            account=self.account(),
            children=tuple(process.spans.children()),
        )
        return run_report(process.facts, self.ledger, body, equivalents)

    def account(self) -> Account | None:
        """What became of the energy among spans, with what is known of the intensity by now."""
        account = self.process.spans.account
        if account is None or account.shares.co2eq_g <= 0.0:
            return account
        known = self.ledger.cut(Mark(self.begin_ns, {}), Mark(account.shares.as_of_ns, {})).carbon.co2eq_g
        return dataclasses.replace(account, co2eq_factor=known / account.shares.co2eq_g)

    def _epoch(self, stretch: Stretch) -> EpochReport:
        process = self.process
        epoch = process.epochs[stretch.epoch or 0]
        return epoch_report(
            self.cut(stretch),
            index=epoch.index,
            host=process.facts.host,
            pue=process.pue.value,
            steps=epoch.steps,
            is_partial=epoch.is_partial,
            is_final=True,
        )

    # -- what cannot be computed -------------------------------------------------------------------------------

    @property
    def ended_well(self) -> bool:
        """False if the journal breaks off, or says that the run did not end by itself."""
        return self.process.end is not None and self.process.end.get("ended_well") is True

    def _last_report(self) -> dict[str, Any]:
        report = (self.process.end or {}).get("report")
        return report if isinstance(report, dict) else {}

    def overhead(self) -> Overhead:
        """What the instrument itself cost, as far as the journal's end tells it."""
        told: Any = self._last_report().get("overhead")
        try:
            kwh = told.get("it_energy_kwh")
            return Overhead(
                cpu_s=seconds(told["cpu_s"]),
                readings=count(told["readings"]),
                missed_ticks=count(told["missed_ticks"]),
                it_energy_kwh=None if kwh is None else number(kwh),
            )
        except (AttributeError, TypeError, KeyError, ValueError):
            return NO_OVERHEAD

    def mended_by_g(self) -> float | None:
        """What it changed that intensities were asked for again at the run's end."""
        report = self._last_report()
        try:
            return number(report.get("co2eq_g")) - number(report.get("co2eq_g_before"))
        except (TypeError, ValueError):
            return None

    def missing(self) -> frozenset[Part]:
        """Parts that are there and could not be read."""
        told = self._last_report().get("scope")
        names = told.get("missing") if isinstance(told, dict) else None
        return frozenset(part for part in Part if part.value in names) if isinstance(names, list) else frozenset()

    def warnings(self) -> Iterator[str]:
        """The run's warnings, and one where its journal breaks off."""
        yield from self.process.warnings
        if self.process.end is None:
            seen = utc(self.ledger.wall.wall_s(self.end_ns)).isoformat(timespec="seconds")
            yield (
                f"the run did not end by itself: its journal breaks off (or it still runs); last seen {seen}; "
                "what the instrument itself cost is not known"
            )
