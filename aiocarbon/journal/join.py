"""One run of many processes, machine by machine: sums that take no more room the more windows and machines they hold.

Each instant of a device belongs to the process that tells it, and to its epoch. Epochs of several nodes are summed by
their index: each node's own interval, on its own clock. Where a run was tried several times, an epoch is what the last
try that completed it used; what earlier tries used for it is rework.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from aiocarbon._core.assemble import scope, uses
from aiocarbon._core.body import NO_OVERHEAD, Facts
from aiocarbon._core.intensity import Pue
from aiocarbon._core.locations import Locations
from aiocarbon._core.nodes import NAMES_TOLD, NodeReport, names, partial_notes
from aiocarbon._core.pool import Pool
from aiocarbon._core.reading import Part
from aiocarbon._core.report import RunReport, utc
from aiocarbon._core.span_report import span_fields, span_notes
from aiocarbon._core.tries import Extent, Start, generations, set_back, tries
from aiocarbon._core.units import S_PER_NS
from aiocarbon.journal.epochs import Windows
from aiocarbon.journal.machine import Told
from aiocarbon.journal.nodes import COMPLETE, PARTIAL, attempt_reports, node_reports
from aiocarbon.journal.span_sums import SpanSum
from aiocarbon.journal.sums import (
    Clocks,
    Ends,
    Expected,
    NodeSum,
    Resumers,
    WarningSum,
    is_let_go,
    told_to_ns,
    union_ns,
    united,
    utc_span,
)
from aiocarbon.journal.view import View

FOLDS_ABOVE: Final = 64
"""A run of more processes tells its devices by kind and name, not one by one."""

SPANS_KEPT: Final = 1000
"""Windows of processes that are kept before those that overlap are made one."""

RULES_TOLD: Final = 16


class Joined:
    """A run of several processes in the making.

    Args:
        processes: How many it has.
    """

    def __init__(self, processes: int) -> None:
        self._folds = processes > FOLDS_ABOVE
        self._processes = 0
        self._whole = Pool(folds=self._folds)
        self._windows = Windows(folds=self._folds)
        self._extents: dict[Start, Extent] = {}
        self._spans: list[tuple[int, int]] = []
        self._machines_ns: list[int] = []
        self._clocks = Clocks()
        self._resumers = Resumers()
        self._nodes: dict[str, NodeSum] = {}
        self._expected: dict[int, Expected] = {}
        self._first: View | None = None
        self._pues: dict[Pue, None] = {}
        self._locations = Locations()
        self._missing: frozenset[Part] = frozenset()
        self._cost = NO_OVERHEAD
        self._warnings = WarningSum()
        self._rules: dict[str, None] = {}
        self._ends: dict[Start, Ends] = {}
        self._before_g = 0.0
        self._is_refreshed = False
        self._shares = SpanSum()

    @property
    def folds(self) -> bool:
        """True if its devices are told by kind and name."""
        return self._folds

    # -- taking ------------------------------------------------------------------------------------------------

    def take(self, views: Iterable[View], told: Iterable[Told], before_g: float | None = None) -> None:
        """Take what one machine's processes tell.

        Args:
            views: Those of the run.
            told: What each tells, each instant of a device once.
            before_g: CO2eq of it by the journals alone, where more was learnt afterwards.
        """
        views = list(views)
        self._machines_ns.append(union_ns((view.begin_ns, view.end_ns) for view in views))
        starts = self._starts(views)
        told = list(told)
        joules = grams = 0.0
        for part in told:
            process = part.view.process
            host, pue = process.facts.host, process.pue.value
            self._whole.add(host, part.whole, pue)
            self._nodes[host].energy_j = (self._nodes[host].energy_j or 0.0) + part.whole.energy_j
            self._locations.add(process.facts.location, part.whole.energy_j)
            joules += part.whole.energy_j
            grams += part.whole.carbon.co2eq_g
            self._ends[starts[process.ident]].energy_j += part.whole.energy_j
        self._windows.take(views, told, starts)
        self._shares.take(views, joules, grams)
        self._before_g += grams if before_g is None else before_g
        self._is_refreshed = self._is_refreshed or before_g is not None

    def _starts(self, views: Iterable[View]) -> dict[str, Start]:
        """Take what is known of the processes beside their energy; the start that each belongs to."""
        groups: dict[tuple[int, str], list[View]] = {}
        by_host: dict[str, list[View]] = {}
        for view in views:
            who = view.process.facts.identity
            restart = -1 if who is None or who.restart is None or not who.job.startswith("slurm") else who.restart
            groups.setdefault((restart, who.attempt if who is not None else ""), []).append(view)
            by_host.setdefault(view.process.facts.host, []).append(view)
        found: dict[str, Start] = {}
        begins: dict[str, int] = {}
        told_ns = {host: told_to_ns(group) for host, group in by_host.items()}
        for (restart, name), group in groups.items():
            group.sort(key=lambda view: (view.begin_ns, view.process.ident))
            spans = [(view.begin_ns, view.end_ns) for view in group]
            numbers = generations(spans) if name else [0] * len(spans)
            for view, number in zip(group, numbers, strict=True):
                start = found[view.process.ident] = Start(restart, name, number)
                off_ns = self._clocks.off_ns(view, start)
                begin, end = (at - off_ns for at in utc_span(view))
                begins[view.process.ident] = begin
                self._clocks.take(start, view.process.facts.host, (begin, end))
                extent = Extent(begin, end, view.ended_well, view.process.resumes)
                self._extents.setdefault(start, extent).join(extent)
                self._take_facts(view, (begin, end))
                self._ends.setdefault(start, Ends()).take(view, end, told_ns[view.process.facts.host])
        for host, group in by_host.items():
            node = self._nodes.setdefault(host, NodeSum())
            node.processes += len(group)
            node.covered_ns += union_ns((view.begin_ns, view.end_ns) for view in group if view.ledger.curves)
            left = (view for view in group if view.process.end is None and not is_let_go(view, told_ns[host]))
            node.open += tuple({found[view.process.ident] for view in left})
            by_start: dict[Start, list[View]] = {}
            for view in group:
                by_start.setdefault(found[view.process.ident], []).append(view)
            for start, of in by_start.items():
                first_ns = min(begins[view.process.ident] for view in of)
                self._expected.setdefault(start.restart, Expected()).take(of, start, first_ns)
        return found

    def _take_facts(self, view: View, span: tuple[int, int]) -> None:
        process = view.process
        host = process.facts.host
        if self._first is None:
            self._first = view
        self._processes += 1
        self._resumers.take(view, span)
        self._spans.append(span)
        if len(self._spans) > SPANS_KEPT:
            self._spans = united(self._spans)
        self._pues[process.pue] = None
        self._locations.add(process.facts.location, 0.0)  # also where nothing is measured
        self._missing |= view.missing()
        self._cost += view.overhead()
        for text in process.warnings:
            self._warnings.add(text, f"{host} (process {process.pid})")
        if process.facts.identity is not None:
            self._rules.update(dict.fromkeys(process.facts.identity.rules))

    # -- telling -----------------------------------------------------------------------------------------------

    def report(self) -> RunReport:
        """The run's report.

        Raises:
            LookupError: Nothing was taken.
        """
        from aiocarbon.intensity.equivalents import equivalents

        if self._first is None:
            raise LookupError("a run of no process")
        # What an earlier try left unfinished, a later one took up: how the newest ended is how the run did.
        newest = frozenset(tries(self._extents)[-1])
        last = [self._ends[start] for start in sorted(newest)]
        nodes = node_reports(self._nodes, self._expected.values(), newest)
        lacks = tuple(self._lacks(nodes, last))
        spans = united(self._spans)
        cut = self._whole.cut(self._length_ns(spans))
        fields = self._whole.quantities(cut.end_ns)
        parts = self._windows.parts(self._extents, cut.end_ns)
        shared = self._shares.account(), self._shares.children()
        return RunReport(
            **fields,
            **self._place(self._first.process.facts, spans),
            is_final=not any(ends.goes_on for ends in last),
            ended_well=not any(ends.open or ends.bad for ends in last),
            epochs=parts.epochs,
            epochs_total=self._windows.total,
            outside=parts.outside,
            rework=parts.rework,
            paused_s=max((spans[-1][1] - spans[0][0]) * S_PER_NS - fields["duration_s"], 0.0),
            attempts=attempt_reports(self._extents, self._ends),
            devices=self._whole.devices(len(self._nodes)),
            nodes=nodes,
            status=PARTIAL if lacks else COMPLETE,
            merge=tuple(self._merge_notes(parts.note)),
            **span_fields(fields, self._pue().value, utc(spans[-1][1] * S_PER_NS), *shared),
            scope=scope(cut, self._missing, self._first.process.facts.scope),
            intensity_g_per_kwh=cut.carbon.intensity_g_per_kwh,
            intensity_sources=uses(cut.carbon),
            equivalents=equivalents(cut.carbon.co2eq_g),
            warnings=(*lacks, *self._let_go(last), *span_notes(*shared), *self._told_warnings()),
            overhead=self._cost,
            co2eq_g_before=self._before(),
        )

    def _length_ns(self, spans: list[tuple[int, int]]) -> int:
        """How long it was: on one machine by its boot clock, whatever its wall clock was set to in between."""
        return self._machines_ns[0] if len(self._machines_ns) == 1 else union_ns(spans)

    def _place(self, facts: Facts, spans: list[tuple[int, int]]) -> dict[str, Any]:
        """Fields of the report that say whose it is, when and where it was."""
        ended_at = utc(spans[-1][1] * S_PER_NS)
        return {
            "run_id": facts.run_id,
            "name": facts.name,
            "tool": facts.tool,
            "version": facts.version,
            "host": names(self._nodes),
            "started_at": utc(spans[0][0] * S_PER_NS),
            "ended_at": ended_at,
            "as_of": ended_at,
            **self._locations.fields(),
            "pue": self._pue(),
        }

    def _before(self) -> float | None:
        """CO2eq by the journals alone; None where nothing else was learnt afterwards."""
        return self._before_g if self._is_refreshed and self._before_g != self._whole.co2eq_g else None

    def _lacks(self, nodes: tuple[NodeReport, ...], last: list[Ends]) -> Iterator[str]:
        """What of the run is not there, or not yet."""
        yield from partial_notes(nodes)
        count = sum(ends.open for ends in last)
        if count:
            of = [ends for ends in last if ends.open]
            first = _time(min(ends.oldest_ns for ends in of))
            newest = _time(max(ends.newest_ns for ends in of))
            seen = f"last seen {newest}" if first == newest else f"last seen between {first} and {newest}"
            hosts = ", ".join(sorted({host for ends in of for host in ends.hosts})[:NAMES_TOLD])
            hosts += " and others" if count > NAMES_TOLD else ""
            yield (
                f"{count} of {self._processes} processes did not end by themselves: their journals break off (or they "
                f"still run); {seen}; what the instrument itself cost them is not known ({hosts})"
            )
        bad = sum(ends.bad for ends in last)
        if bad:
            yield f"{bad} of {self._processes} processes were ended by something else than their own end"

    def _let_go(self, last: list[Ends]) -> Iterator[str]:
        """What is not known of processes that never end by themselves, though all of their energy is."""
        if count := sum(ends.let_go for ends in last):
            yield (
                f"{count} of {self._processes} processes were ended from outside, as Ray ends its workers: their nodes "
                "were measured on, so all energy is told; what their spans had of the last second before, and what "
                "the instrument itself cost them, is not"
            )

    def _told_warnings(self) -> Iterator[str]:
        yield from self._clocks.notes()
        if set_back(self._extents):
            yield "a try went on with this run before it began: its clock stood wrong, and it counts as a later one"
        yield from self._resumers.notes()
        yield from self._warnings
        if len(zones := self._locations.zones()) > 1:
            yield f"the run's processes were in several zones ({', '.join(zones)}); each counts with its own"

    def _merge_notes(self, told: str) -> Iterator[str]:
        yield (
            f"{self._processes} processes on {_count(len(self._nodes), 'node')}: each instant of a device counts once, "
            "with its node's clock, intensity and PUE"
        )
        yield from list(self._rules)[:RULES_TOLD]
        if told:
            yield told
        if apart := self._clocks.apart:
            most = max(map(abs, apart.values())) * S_PER_NS
            yield (
                f"clocks stand up to {most:.0f} s apart by the ends of epochs ({names(apart)}): the run's length is "
                "reckoned on the first node's clock, intensities are looked up by each node's own"
            )
        if self._folds:
            yield f"devices are told by name, since there are more than {FOLDS_ABOVE} processes"

    def _pue(self) -> Pue:
        if len(self._pues) == 1:
            return next(iter(self._pues))
        told = "; ".join(f"{p.value} {p.source}" for p in list(self._pues)[:RULES_TOLD])
        return Pue(value=self._whole.pue, source=f"energy-weighted: {told}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _time(at_ns: int) -> str:
    return utc(at_ns * S_PER_NS).isoformat(timespec="seconds")
