"""What is known of a cluster's nodes beside what they measured: who came, went, is about to go, or never told anything.

No part of it knows Ray.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.nodes import NodeReport

if TYPE_CHECKING:
    from aiocarbon._core.report import RunReport

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
