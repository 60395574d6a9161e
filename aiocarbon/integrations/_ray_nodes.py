"""What is known of a cluster's nodes beside what they measured: who came, went, is about to go, or never told anything.

No part of it knows Ray.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.ledger import weakest
from aiocarbon._core.nodes import NodeReport
from aiocarbon._core.units import J_PER_KWH

if TYPE_CHECKING:
    from aiocarbon._core.report import EpochReport, RunReport

TRIED_MAJOR: Final = 2
TRIED: Final = "2.60"
"""The release of Ray that all of this was tried with."""

STILL_RUN: Final = "did not end by themselves: their journals break off (or they still run)"
"""Of a run that goes on this is no news (`journal/join.py` says it)."""


@dataclass(kw_only=True)
class NodeSeen:
    """What the keeper knows of a node.

    Attributes:
        node_id: Ray's id of it.
        address: Its address by Ray.
        joined_s: When it was first seen, Unix time.
        host: Its name in reports; empty until it told something.
        told_s: When it told last; None if it never did.
        left_s: When it was seen to be gone; None while it is there.
        goes_s: When it will be taken away, as its provider or an operator told Ray (a drain), Unix time; 0.0 if no
            time was told; None if it is to stay.
        is_first: True if it was there when the run began.
        problem: Why it has no meter that answers, as the last try went; empty if it told something since.
    """

    node_id: str
    address: str
    joined_s: float
    is_first: bool
    host: str = ""
    told_s: float | None = None
    left_s: float | None = None
    goes_s: float | None = None
    problem: str = ""
    handle: Any = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its name in reports, or what is known instead."""
        return self.host or f"{self.address} ({self.node_id[:8]})"

    def plain(self) -> NodeSeen:
        """The same without its actor."""
        return dataclasses.replace(self, handle=None)


def with_nodes(run: RunReport, seen: Iterable[NodeSeen], *, is_live: bool = False) -> RunReport:
    """A report with what is known of the cluster's nodes.

    Args:
        run: What the journals say.
        seen: The nodes.
        is_live: True while the run goes on: processes that have not ended are no lack.
    """
    nodes = sorted(seen, key=lambda node: node.joined_s)
    silent = [node for node in nodes if node.told_s is None]
    notes = tuple(note for node in nodes for note in _notes(node))
    warnings, status = run.warnings, run.status
    if is_live:
        warnings = tuple(text for text in warnings if STILL_RUN not in text)
        status = "complete" if not any(node.left_s is not None or node.problem for node in nodes) else "partial"
    told = [
        NodeReport(host=node.name, processes=0, it_energy_kwh=None, covered_s=0.0, expected_s=None) for node in silent
    ]
    return dataclasses.replace(
        run,
        nodes=tuple(sorted((*run.nodes, *told), key=lambda node: node.host)),
        status="partial" if silent else status,
        is_final=not is_live,
        warnings=(*notes, *warnings),
    )


def _notes(node: NodeSeen) -> Iterator[str]:
    if not node.is_first:
        yield f"node {node.name} joined at {_time(node.joined_s)}"
    until = f"what it told until {_time(node.told_s)} is counted" if node.told_s else "it never told anything"
    if node.goes_s is not None:
        when = f" by {_time(node.goes_s)}" if node.goes_s else ""
        yield f"node {node.name} was told to go{when} (drained or preempted)"
    if node.left_s is not None:
        yield f"node {node.name} was gone at {_time(node.left_s)}: {until}"
    elif node.problem and node.told_s is not None:
        yield f"node {node.name} is silent ({node.problem}): {until}"
    if node.told_s is None:
        why = f" ({node.problem})" if node.problem else ""
        yield f"nothing was measured on node {node.name}{why}: the figures lack it"


ADDED: Final = tuple(
    f"{figure}{end}" for figure in ("it_energy_kwh", "energy_kwh", "co2eq_g") for end in ("", "_low", "_high")
)
"""What of several nodes adds up; what is wrong with meters is common to all, so ranges do too."""


def joined_epoch(parts: Iterable[tuple[str, EpochReport | None]]) -> EpochReport | None:
    """One epoch of a cluster, by what its nodes said of their own at its end; the journals refine it later.

    Args:
        parts: Of each node its name and what it said, None if it did not answer. Of several of one name, which have
            one machine's devices, one counts.

    Returns:
        None if no node told anything.
    """
    by_host: dict[str, EpochReport | None] = {}
    for host, part in parts:
        known = by_host.get(host)
        if known is None or (part is not None and part.it_energy_kwh > known.it_energy_kwh):
            by_host[host] = part
    told = [part for part in by_host.values() if part is not None]
    if not told:
        return None
    sums = {name: sum(getattr(part, name) for part in told) for name in ADDED}
    kwh, duration_s = sums["it_energy_kwh"], max(part.duration_s for part in told)
    shares = dict.fromkeys((basis for part in told for basis in part.basis_shares), 0.0)
    for part in told:
        weight = part.it_energy_kwh / kwh if kwh > 0.0 else 1.0 / len(told)
        for basis, share in part.basis_shares.items():
            shares[basis] += share * weight
    return dataclasses.replace(
        told[0],
        **sums,
        duration_s=duration_s,
        power_w=kwh * J_PER_KWH / duration_s if duration_s > 0.0 else None,
        coverage=sum(part.coverage for part in told) / len(by_host),
        basis=weakest(shares),
        basis_shares=shares,
        devices=tuple(device for part in told for device in part.devices),
        is_partial=any(part.is_partial for part in told),
        is_final=False,
        prediction=None,
    )


def carried_on(run: RunReport, now_s: float, power_w: float | None) -> RunReport:
    """A report as of an instant a few seconds later, for a prediction: at a power draw, which is an estimate.

    Args:
        run: The report.
        now_s: UTC seconds.
        power_w: Power draw since; None for the run's mean.
    """
    since_s = now_s - run.as_of.timestamp()
    power = run.power_w if power_w is None else power_w
    if since_s <= 0.0 or power is None or run.it_energy_kwh <= 0.0:
        return run
    grown = 1.0 + power * since_s / (run.it_energy_kwh * J_PER_KWH)
    return dataclasses.replace(
        run,
        **{name: getattr(run, name) * grown for name in ADDED},
        duration_s=run.duration_s + since_s,
        as_of=datetime.fromtimestamp(now_s, UTC),
    )


def version_note(version: str) -> str:
    """What is to be said of the release of Ray that is installed; empty if nothing.

    Args:
        version: As `ray.__version__` has it.
    """
    major = version.partition(".")[0]
    if major == str(TRIED_MAJOR):
        return ""
    return (
        f"Ray {version} is installed; this was tried with Ray {TRIED} and needs what every Ray {TRIED_MAJOR} has: what "
        f"another one changed may be missing from the figures (pip install 'ray>={TRIED},<{TRIED_MAJOR + 1}')"
    )


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
