"""Where a derivation stands: what it goes on from, by itself, from a checkpoint, or in another process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from aiocarbon._core.curve import Point


@dataclass(slots=True)
class Progress:
    """Where the derivation stands; everything that the next reading needs beside the newest point."""

    started: bool = False
    value: float = 0.0  # last value: microjoules or watts
    read_ns: int = 0  # last instant at which it was read
    total_uj: int = 0  # unwrapped since the first reading
    is_edge: bool = False  # the newest point lies at an observed change
    slack_ns: int = 0  # of the newest point; becomes joules once the power around it is known
    resets: int = 0
    gaps: int = 0


class Carried(NamedTuple):
    """Where a derivation stood after some reading: another one of the same device goes on from there.

    Attributes:
        point: Its newest point.
        value: The reading's value.
        read_ns: The reading's instant.
        total_uj: Unwrapped microjoules since the counter's origin.
        is_edge: Whether the newest point lies at an observed change.
        slack_ns: Of the newest point.
        resets: How often the counter began anew, or jumped.
        gaps: How often a power sensor was silent for too long.
        min_w: Least power seen, watts; infinite while none was.
        max_w: Most power seen, watts.
    """

    point: Point
    value: float
    read_ns: int
    total_uj: int
    is_edge: bool
    slack_ns: int
    resets: int
    gaps: int
    min_w: float
    max_w: float


@dataclass(slots=True)
class Checkpoint:
    """A state from which the derivation can be taken up again."""

    progress: Progress
    points: int
    newest: Point | None
    readings: int  # readings, of those kept, that lie before it
    power_range_w: tuple[float, float] = (float("inf"), 0.0)
