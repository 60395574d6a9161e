"""What a report of several processes says beyond that of one: its nodes, what was done again, by which rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from aiocarbon._core.identity import Identity
from aiocarbon._core.nodes import Attempt, names
from aiocarbon._core.report import RunReport
from aiocarbon._core.units import S_PER_HOUR
from aiocarbon.render import numbers

__all__ = ["cluster_rows"]

TRIES_TOLD: Final = 8


def cluster_rows(report: RunReport) -> Iterator[tuple[str, str]]:
    """Labels and texts of its lines; none for a run of one process that nothing launched.

    Args:
        report: The report.
    """
    if report.identity is not None and (report.identity.job or report.identity.rank is not None):
        yield "job", _identity(report.identity)
    for n, text in enumerate(_attempts(report.attempts, is_final=report.is_final)):
        yield "tries" if n == 0 else "", text
    if report.nodes:
        yield "nodes", _nodes(report)
        yield from (("", text) for text in _uneven(report))
    if report.rework is not None:
        mass = numbers.co2eq(report.rework.co2eq_g, 2)
        yield (
            "rework",
            f"{numbers.energy(report.rework.energy_kwh)}, {mass} CO2eq, done again by a later try; in the sum",
        )
    for n, rule in enumerate(report.merge):
        yield "merged" if n == 0 else "", rule


def _attempts(attempts: Sequence[Attempt], *, is_final: bool) -> Iterator[str]:
    """The tries of a run, of many the newest ones."""
    if len(attempts) > TRIES_TOLD:
        yield f"{len(attempts)} in all, of which the newest:"
    for attempt in attempts[-TRIES_TOLD:]:
        length = numbers.duration((attempt.ended_at - attempt.started_at).total_seconds())
        goes_on = attempt is attempts[-1] and not is_final
        ended = "ended well" if attempt.ended_well else "broke off" if attempt.is_open else "was ended"
        end = "goes on" if goes_on else ended
        where = f" on {names(attempt.hosts)}" if attempt.hosts else ""
        yield (
            f"{attempt.started_at:%Y-%m-%d %H:%M:%S} UTC, {length}{where}, "
            f"{numbers.energy(attempt.it_energy_kwh)} by the devices, {end}"
        )


def _identity(who: Identity) -> str:
    rank = "" if who.rank is None else f"rank {who.rank} of {who.world or 'an unknown number'}"
    restart = f"after {who.restart} restarts" if who.restart else ""
    return "; ".join(filter(None, (who.job, rank, restart, *who.rules)))


def _nodes(report: RunReport) -> str:
    told = [node for node in report.nodes if node.it_energy_kwh is not None]
    covered = sum(node.covered_s for node in report.nodes)
    stated = [node.expected_s for node in report.nodes if node.expected_s is not None]
    of = f" of {sum(stated) / S_PER_HOUR:.3g}" if stated else ""
    state = "complete" if report.status == "complete" else "PARTIAL, see the warnings"
    many = f"{len(told)} of {len(report.nodes)}" if len(told) < len(report.nodes) else f"{len(told)}"
    return f"{many} told, {covered / S_PER_HOUR:.3g}{of} node-hours; {state}"


def _uneven(report: RunReport) -> Iterator[str]:
    """Nodes that did not tell all the time."""
    missing = [node.host for node in report.nodes if node.it_energy_kwh is None]
    if missing:
        yield f"nothing of {names(missing)}"
    still = [node.host for node in report.nodes if node.is_open]
    if still:
        yield f"still running, or broken off: {names(still)}"
