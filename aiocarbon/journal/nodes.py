"""The nodes of a run: those that told, and those that were to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from aiocarbon._core.nodes import NAMES_TOLD, Attempt, NodeReport, partial_notes
from aiocarbon._core.report import RunReport, utc
from aiocarbon._core.tries import Extent, Start, tries
from aiocarbon._core.units import S_PER_NS, kwh_from_j, s_from_ns
from aiocarbon.journal.sums import Ends, Expected, NodeSum, utc_span
from aiocarbon.journal.view import View

COMPLETE: Final = "complete"
PARTIAL: Final = "partial"


def node_reports(
    nodes: Mapping[str, NodeSum], expected: Iterable[Expected], newest: frozenset[Start]
) -> tuple[NodeReport, ...]:
    """The nodes of a run by name.

    Args:
        nodes: Those that told.
        expected: Those that were to, by the starts of the run.
        newest: The starts of its newest try: only what is open in these is open.
    """
    expected_ns: dict[str, int] = {}
    silent: dict[str, None] = {}
    for one in expected:
        if one.count:
            lacking = one.silent
            for host in (*one.hosts, *lacking):
                expected_ns[host] = expected_ns.get(host, 0) + one.length_ns
            silent.update(dict.fromkeys(lacking))
    reports = [
        NodeReport(
            host=host,
            processes=node.processes,
            it_energy_kwh=None if node.energy_j is None else kwh_from_j(node.energy_j),
            covered_s=s_from_ns(node.covered_ns),
            expected_s=s_from_ns(expected_ns[host]) if host in expected_ns else None,
            is_open=not newest.isdisjoint(node.open),
        )
        for host, node in nodes.items()
    ]
    reports += [_silent(host, s_from_ns(expected_ns[host])) for host in silent if host not in nodes]
    return tuple(sorted(reports, key=lambda node: node.host))


def attempt_reports(extents: Mapping[Start, Extent], ends: Mapping[Start, Ends]) -> tuple[Attempt, ...]:
    """The tries of a run in their order; nothing where there was one alone."""
    found = tries(extents, goes_on=False)
    if len(found) < 2:
        return ()
    return tuple(_attempt([extents[start] for start in starts], [ends[start] for start in starts]) for starts in found)


def _attempt(extents: Sequence[Extent], ends: Sequence[Ends]) -> Attempt:
    hosts = dict.fromkeys(name for end in ends for name in end.names)
    return Attempt(
        started_at=utc(min(extent.begin_ns for extent in extents) * S_PER_NS),
        ended_at=utc(max(extent.end_ns for extent in extents) * S_PER_NS),
        hosts=tuple(hosts)[:NAMES_TOLD],
        it_energy_kwh=kwh_from_j(math.fsum(end.energy_j for end in ends)),
        ended_well=not any(end.open or end.bad for end in ends),
        is_open=any(end.open for end in ends),
    )


def _silent(host: str, expected_s: float) -> NodeReport:
    return NodeReport(host=host, processes=0, it_energy_kwh=None, covered_s=0.0, expected_s=expected_s)


def beside_others(run: RunReport, view: View) -> RunReport:
    """The report of a run of which one process told, with the nodes that it was to have beside that one's."""
    process = view.process
    expected = Expected()
    expected.take([view], Start(0, "", 0), utc_span(view)[0])
    if expected.count < 2:
        return run
    length_s = s_from_ns(expected.length_ns)
    nodes = [
        NodeReport(
            host=process.facts.host,
            processes=1,
            it_energy_kwh=run.it_energy_kwh if view.ledger.curves else None,
            covered_s=length_s if view.ledger.curves else 0.0,
            expected_s=length_s,
            is_open=process.end is None,
        ),
        *(_silent(host, length_s) for host in expected.silent),
    ]
    notes = tuple(partial_notes(nodes))
    status = PARTIAL if notes else run.status
    return replace(
        run, nodes=tuple(sorted(nodes, key=lambda node: node.host)), status=status, warnings=(*notes, *run.warnings)
    )
