"""The sums that a run of many processes is made of: small, whatever the number of machines and windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from aiocarbon._core.nodes import NAMES_TOLD, names
from aiocarbon._core.pool import Pool
from aiocarbon._core.tries import Start
from aiocarbon._core.units import NS_PER_S
from aiocarbon.journal.alive import goes_on
from aiocarbon.journal.view import View

WARNINGS_KEPT: Final = 1000
"""Different warnings of a run that are kept; of more their number."""

LEAST_EPOCHS: Final = 3
"""So many epochs must have been marked by both of two nodes to compare their clocks."""

TOGETHER_NS: Final = 2 * NS_PER_S
"""Nodes that train together end their epochs within this, give or take what is constant."""

APART_NS: Final = 60 * NS_PER_S
"""Clocks that stand apart by less matter to nothing: an hour's intensity changes by some 0.2 % in a minute."""


def united(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of intervals, as intervals that do not meet."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def union_ns(spans: Iterable[tuple[int, int]]) -> int:
    """Length of the union of intervals."""
    return sum(end - begin for begin, end in united(spans))


def utc_span(view: View) -> tuple[int, int]:
    """The window of a process in UTC nanoseconds, as long as it is on the boot clock."""
    begin = view.ledger.wall.wall_ns(view.begin_ns)
    return begin, begin + view.end_ns - view.begin_ns


class WindowSum:
    """The windows of one epoch, or of what lies outside, in one start of a run."""

    __slots__ = ("is_partial", "length_ns", "pool", "steps")

    def __init__(self, *, folds: bool) -> None:
        self.pool = Pool(folds=folds)
        self.length_ns = 0  # of the machine that took longest
        self.steps = 0
        self.is_partial = False

    def join(self, other: WindowSum) -> None:
        """Take what another try, or another start of a try, used."""
        self.pool.join(other.pool)
        self.steps = max(self.steps, other.steps)
        self.is_partial = self.is_partial or other.is_partial


class NodeSum:
    """What is known of one node of the run."""

    __slots__ = ("covered_ns", "energy_j", "open", "processes")

    def __init__(self) -> None:
        self.processes = 0
        self.energy_j: float | None = None  # where no process of it read any device
        self.covered_ns = 0
        self.open: tuple[Start, ...] = ()  # those of which a journal has no end


class Expected:
    """The nodes that the starts of one number were to have, and those that told."""

    __slots__ = ("count", "hosts", "names", "newest", "spans")

    def __init__(self) -> None:
        self.names: dict[str, None] = {}
        self.newest: tuple[str, ...] | None = None
        self.count = 0
        self.hosts: dict[str, None] = {}
        self.spans: dict[Start, tuple[int, int]] = {}

    def take(self, views: Sequence[View], start: Start, begin_ns: int) -> None:
        """Take what the processes of a start say of it, all those of one machine at once.

        Args:
            views: The processes.
            start: Their start.
            begin_ns: Begin of the first of them, UTC nanoseconds.
        """
        self.hosts[views[0].process.facts.host] = None
        length_ns = max(view.end_ns for view in views) - min(view.begin_ns for view in views)
        begin, end = self.spans.get(start, (begin_ns, begin_ns))
        # Of several machines the one that had it longest tells: their clocks may stand apart.
        self.spans[start] = (begin_ns, begin_ns + length_ns) if length_ns > end - begin else (begin, end)
        for view in views:
            who = view.process.facts.identity
            if who is None:
                continue
            if who.expected_nodes and who.expected_nodes is not self.newest:  # all of a start name the same ones
                self.names.update(dict.fromkeys(who.expected_nodes))
                self.newest = who.expected_nodes
            self.count = max(self.count, who.expected_node_count or 0, len(self.names))

    @property
    def length_ns(self) -> int:
        """How long its starts lasted, each from its first process's begin to its last one's end, where that is most.

        Starts at one time had it together: of a command and what was put around it, or of two steps of a job.
        """
        return union_ns(self.spans.values())

    @property
    def silent(self) -> list[str]:
        """The nodes that told nothing, by name as far as names are known."""
        named = [name for name in self.names if name not in self.hosts]
        lacking = self.count - len(self.hosts) - len(named)
        return [*named, *(f"unnamed node {n + 1}" for n in range(lacking))]


class Ends:
    """How the processes of a start ended."""

    __slots__ = ("bad", "energy_j", "goes_on", "hosts", "let_go", "names", "newest_ns", "oldest_ns", "open")

    def __init__(self) -> None:
        self.energy_j = 0.0
        self.names: dict[str, None] = {}  # of its first machines
        self.open = self.bad = self.let_go = 0
        self.goes_on = False
        self.oldest_ns = self.newest_ns = 0
        self.hosts: list[str] = []

    def take(self, view: View, end_ns: int, told_to_ns: int) -> None:
        """Take how a process ended.

        Args:
            view: The process.
            end_ns: Its end, UTC nanoseconds.
            told_to_ns: Up to when another process of its machine, which ended well, told of it; boot time.
        """
        if len(self.names) < NAMES_TOLD:
            self.names[view.process.facts.host] = None
        if view.process.end is not None:
            self.bad += not view.ended_well
            return
        if is_let_go(view, told_to_ns):
            self.let_go += 1
            return
        self.oldest_ns = min(self.oldest_ns, end_ns) if self.open else end_ns
        self.newest_ns = max(self.newest_ns, end_ns)
        self.open += 1
        self.goes_on = self.goes_on or goes_on(view.process)
        if len(self.hosts) <= NAMES_TOLD:
            self.hosts.append(view.process.facts.host)


def told_to_ns(views: Iterable[View]) -> int:
    """Up to when those of some processes that ended well told, boot time; 0 if none did."""
    return max((view.end_ns for view in views if view.ended_well), default=0)


def is_let_go(view: View, told_to_ns: int) -> bool:
    """Whether a process broke off as its kind does, while another told of its machine to a good end.

    Actors of Ray never end by themselves: their part of the energy is known as long as their node is measured.
    """
    who = view.process.facts.identity
    return view.process.end is None and who is not None and bool(who.ended_by) and view.end_ns <= told_to_ns


class Resumers:
    """The processes that went on with a run, and whether several did so at one time; ranks of a job do it together."""

    def __init__(self) -> None:
        self._spans: list[tuple[int, int, str]] = []

    def take(self, view: View, span: tuple[int, int]) -> None:
        """Take a process; `span` is its time, UTC nanoseconds."""
        process = view.process
        who = process.facts.identity
        if process.resumes and (who is None or who.rank is None) and len(self._spans) < WARNINGS_KEPT:
            self._spans.append((*span, f"process {process.pid} on {process.facts.host}"))

    def notes(self) -> Iterator[str]:
        """What a reader must know of it."""
        spans = sorted(self._spans)
        together: dict[str, None] = {}
        for i, (_, end, name) in enumerate(spans):
            beside = [other for begin, _, other in spans[i + 1 :] if begin < end]
            together.update(dict.fromkeys([name, *beside] if beside else []))
        if together:
            yield (
                f"{len(together)} processes went on with this run at one time ({names(together)}): each instant of a "
                "device counts once, and an epoch that several told is the time of all of them"
            )


class Clocks:
    """How far the wall clocks of a run's nodes stand apart, by the ends of the epochs that they marked.

    Nodes that train together end their epochs together. Where one ends all of them by the same time before or after the
    first node, it is its clock that stands apart. Only the run's own length needs to know.
    """

    def __init__(self) -> None:
        self._first: dict[Start, dict[int, int]] = {}
        self._names: dict[Start, str] = {}
        self._spans: dict[Start, dict[str, tuple[int, int]]] = {}
        self.apart: dict[str, int] = {}

    def off_ns(self, view: View, start: Start) -> int:
        """Nanoseconds by which a process's wall clock is ahead of the first node's; 0 where that is not seen."""
        wall = view.ledger.wall
        ends = {s.epoch: wall.wall_ns(s.end_ns) for s in view.stretches if s.epoch is not None}
        host = view.process.facts.host
        first = self._first.setdefault(start, ends)
        if self._names.setdefault(start, host) == host:
            return 0
        offs = sorted(end - first[index] for index, end in ends.items() if index in first)
        if len(offs) < LEAST_EPOCHS or offs[-1] - offs[0] > TOGETHER_NS or abs(offs[0]) < APART_NS:
            return 0
        off = offs[len(offs) // 2]
        if len(self.apart) < WARNINGS_KEPT:
            self.apart[host] = off
        return off

    def take(self, start: Start, host: str, span: tuple[int, int]) -> None:
        """Take when a process ran: UTC nanoseconds of the first node's clock, as far as it is known how that stands."""
        if start.name:
            begin, end = self._spans.setdefault(start, {}).get(host, span)
            self._spans[start][host] = min(begin, span[0]), max(end, span[1])

    def notes(self) -> Iterator[str]:
        """What a reader must know of nodes of one start that by their clocks were never at work together."""
        later: dict[str, None] = {}
        for by_host in self._spans.values():
            first_end = united(by_host.values())[0][1]
            later.update(dict.fromkeys(sorted(host for host, (begin, _) in by_host.items() if begin > first_end)))
        if later:
            yield (
                f"nodes of one start ran after the others had ended ({names(later)}): their clocks stand apart, or "
                "they did not run together; the run's length, its pauses and its mean power are by their clocks"
            )


class WarningSum:
    """Warnings of many processes, each text once with those that gave it."""

    def __init__(self) -> None:
        self._by: dict[str, tuple[int, list[str]]] = {}
        self._lost = 0

    def add(self, text: str, who: str) -> None:
        """Add one."""
        if text not in self._by and len(self._by) >= WARNINGS_KEPT:
            self._lost += 1
            return
        count, told = self._by.get(text, (0, []))
        if who in told:
            return
        if count < NAMES_TOLD:
            told.append(who)
        self._by[text] = (count + 1, told)

    def __iter__(self) -> Iterator[str]:
        for text, (count, told) in self._by.items():
            more = f" and {count - len(told)} more" if count > len(told) else ""
            yield f"{', '.join(told)}{more}: {text}"
        if self._lost:
            yield f"{self._lost} more warnings of processes are left out"
