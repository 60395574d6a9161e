"""Which starts of a run are parts of one try, and which are later tries of it.

A run that was restarted does epochs again. Processes that ran at one time belong together, whatever their launcher
called them; a start is a later try where the launcher says that it restarted, or where the earlier one had ended, and
not well. A start after one that ended well goes on with it. What knew of earlier tries is never the first: where it
ended before all others began, its clock was wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple


class Start(NamedTuple):
    """A start of a run, or of a part of its processes.

    Attributes:
        restart: How often the launcher had started it before; -1 if it does not say.
        name: What the launcher calls it; empty where nothing does.
        generation: How many processes of this name had come and gone on the machine before.
    """

    restart: int
    name: str
    generation: int


@dataclass(slots=True)
class Extent:
    """From when to when a start lasted, UTC nanoseconds by its machines' clocks, and whether it ended well.

    `resumes` is true if all of it knew of earlier tries.
    """

    begin_ns: int
    end_ns: int
    ended_well: bool
    resumes: bool = False

    def join(self, other: Extent) -> None:
        """Make it reach over another."""
        self.begin_ns = min(self.begin_ns, other.begin_ns)
        self.end_ns = max(self.end_ns, other.end_ns)
        self.ended_well = self.ended_well and other.ended_well
        self.resumes = self.resumes and other.resumes


def set_back(extents: Mapping[Start, Extent]) -> frozenset[Start]:
    """The starts that went on with others of their number, all of which began later by the clocks."""
    first: dict[int, int] = {}
    for start, extent in extents.items():
        if not extent.resumes:
            first[start.restart] = min(first.get(start.restart, extent.begin_ns), extent.begin_ns)
    return frozenset(
        start
        for start, extent in extents.items()
        if extent.resumes and extent.end_ns <= first.get(start.restart, extent.begin_ns - 1)
    )


def tries(extents: Mapping[Start, Extent], *, goes_on: bool = True) -> list[list[Start]]:
    """The starts of each try, in the order of the tries.

    Args:
        extents: The starts.
        goes_on: False to tell a start apart from one that had ended well before it, too.
    """
    found: list[tuple[tuple[int, bool], Extent, list[Start]]] = []
    back = set_back(extents)
    ordered = sorted(((start.restart, start in back), extent.begin_ns, start) for start, extent in extents.items())
    for place, begin_ns, start in ordered:
        extent = extents[start]
        last, known, starts = found[-1] if found else (place, None, [])
        is_beside = known is not None and last == place and begin_ns < known.end_ns
        if known is not None and (is_beside or (last[0] == place[0] and goes_on and known.ended_well)):
            known.join(extent)
            starts.append(start)
        else:
            found.append((place, replace(extent), [start]))
    return [starts for _, _, starts in found]


def generations(spans: Iterable[tuple[int, int]]) -> list[int]:
    """To each of several windows, ascending by begin: after how many others of them that had all ended it began."""
    found: list[int] = []
    generation, until = 0, None
    for begin, end in spans:
        if until is not None and begin >= until:
            generation += 1
            until = end
        until = end if until is None else max(until, end)
        found.append(generation)
    return found
