"""The nodes and the tries of a run: what each told, for how long, and for how long it was to tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

NAMES_TOLD: Final = 8
"""So many names stand in a sentence; the rest is a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """One node's part of a run.

    Attributes:
        host: The node.
        processes: How many of the run's processes told of it.
        it_energy_kwh: What its meters say, kWh; None if it told nothing. What is missing is in no figure of the run.
        covered_s: Seconds in which at least one process told of it.
        expected_s: Seconds that the starts of the run lasted which were to have it; None if nobody said which nodes
            there are.
        is_open: True if a journal of the newest try has no end: the process goes on, or broke off.
    """

    host: str
    processes: int
    it_energy_kwh: float | None
    covered_s: float
    expected_s: float | None
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a run that was begun several times. Between two tries nothing is counted.

    Attributes:
        started_at: UTC of its begin.
        ended_at: UTC of its end, or when it was last seen.
        hosts: Its machines; of many the first ones.
        it_energy_kwh: What the meters say, kWh.
        ended_well: False if it did not end by itself.
        is_open: True if its journal has no end: it goes on, or was killed.
    """

    started_at: datetime
    ended_at: datetime
    hosts: tuple[str, ...]
    it_energy_kwh: float
    ended_well: bool
    is_open: bool


def names(hosts: Iterable[str], most: int = NAMES_TOLD) -> str:
    """Names as part of a sentence: all of a few, of many the first and how many more there are."""
    told = sorted(dict.fromkeys(hosts))
    if len(told) <= most:
        return ", ".join(told)
    return f"{', '.join(told[:most])} and {len(told) - most} more"


def partial_notes(nodes: Sequence[NodeReport]) -> Iterable[str]:
    """What of a run is missing for the sake of nodes, in words."""
    silent = [node.host for node in nodes if node.it_energy_kwh is None]
    stated = [(node.covered_s, node.expected_s) for node in nodes if node.expected_s is not None]
    covered, expected = sum(row[0] for row in stated), sum(row[1] for row in stated)
    if silent:
        yield f"nothing was measured on {len(silent)} of {len(nodes)} nodes ({names(silent)}): the figures lack them"
    if expected > 0.0 and (silent or covered < LEAST_COVERED * expected):
        yield (
            f"{covered / SECONDS_PER_HOUR:.4g} of {expected / SECONDS_PER_HOUR:.4g} node-hours are covered; "
            "what was used in the rest is not estimated into any figure"
        )


LEAST_COVERED: Final = 0.99
"""Nodes start and end some seconds apart: only where more is missing it is told."""

SECONDS_PER_HOUR: Final = 3600.0
