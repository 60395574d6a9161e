"""The nodes of a run: those that told, and those that were to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from aiocarbon._core.nodes import NodeReport, partial_notes
from aiocarbon._core.report import RunReport
from aiocarbon._core.tries import Start
from aiocarbon._core.units import kwh_from_j, s_from_ns
from aiocarbon.journal.sums import Expected, NodeSum
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
            it_energy_kwh=kwh_from_j(node.energy_j),
            covered_s=s_from_ns(node.covered_ns),
            expected_s=s_from_ns(expected_ns[host]) if host in expected_ns else None,
            is_open=not newest.isdisjoint(node.open),
        )
        for host, node in nodes.items()
    ]
    reports += [_silent(host, s_from_ns(expected_ns[host])) for host in silent if host not in nodes]
    return tuple(sorted(reports, key=lambda node: node.host))


def _silent(host: str, expected_s: float) -> NodeReport:
    return NodeReport(host=host, processes=0, it_energy_kwh=None, covered_s=0.0, expected_s=expected_s)


def beside_others(run: RunReport, view: View) -> RunReport:
    """The report of a run of which one process told, with the nodes that it was to have beside that one's."""
    process = view.process
    expected = Expected()
    expected.take(view, Start(0, "", 0))
    if expected.count < 2:
        return run
    length_s = s_from_ns(expected.length_ns)
    nodes = [
        NodeReport(
            host=process.facts.host,
            processes=1,
            it_energy_kwh=run.it_energy_kwh,
            covered_s=length_s,
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
