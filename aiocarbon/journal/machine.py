"""The processes of one machine: who tells which of its devices at which time, so that each joule counts once.

Processes are of one machine where their boot id (and what the launcher calls the machine) is one. Three things can make
that wrong: clones of one virtual machine have one boot id and different hardware, which their counters show; processes
in time namespaces have boot clocks that stand apart, which their wall clocks show; and a device may be measured by one
process and modelled by another under another name, which is only told.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from aiocarbon._core.assemble import MEASURED
from aiocarbon._core.pool import Lump, lump_of
from aiocarbon._core.segment import DeviceKey, Segment, SegmentKey, Window, gather, is_apart, shares
from aiocarbon._core.units import NS_PER_MS
from aiocarbon.journal.nested import told_twice, unnested
from aiocarbon.journal.process import Known, Process
from aiocarbon.journal.quick import windows_of
from aiocarbon.journal.view import Stretch, View

SHIFT_NS = 50 * NS_PER_MS
"""Boot clocks of two time namespaces that stand no further apart are taken as one clock: wall clocks tell no better."""


WHOLE = 1
"""Rank of a window that is all of a process's time."""


class Told(NamedTuple):
    """What one process tells of some devices of its machine, which no other process tells.

    Attributes:
        view: The process.
        begin_ns: From when, boot time.
        end_ns: Up to when.
        whole: All of it.
        stretches: By the stretches of its run that share time with it.
        devices: The devices.
    """

    view: View
    begin_ns: int
    end_ns: int
    whole: Lump
    stretches: Sequence[tuple[Stretch, Lump]]
    devices: Mapping[str, Known]

    def cut(self, begin_ns: int, end_ns: int) -> Lump:
        """A window within it: begin and end, boot time."""
        return lump_of(self.view.cut_of(self.devices, begin_ns, end_ns))


class Machine:
    """Processes that share devices.

    Args:
        views: The processes.
    """

    def __init__(self, views: Sequence[View]) -> None:
        self.views = views
        self._segments: Sequence[Segment] | None = None

    def told(self, views: Sequence[View], *, folds: bool) -> list[Told]:
        """What some of the processes tell together, each instant of each device once.

        Args:
            views: Those that count.
            folds: True where devices of one kind and name may be told as one.
        """
        if len(self.views) == 1:
            (view,) = views
            quick = windows_of(view, folds=folds)
            if quick is not None:
                return [Told(view, view.begin_ns, view.end_ns, *quick, view.process.devices)]
        return self.cut_curves(views)

    def wholes(self) -> list[Told]:
        """What all its processes tell together, whatever the run, without the stretches of their runs."""
        if len(self.views) == 1:
            return self.told(self.views, folds=True)
        return [_cut(*part, has_stretches=False) for part in self.parts(self.views)]

    def cut_curves(self, views: Sequence[View]) -> list[Told]:
        """The same by curves alone, whatever the processes."""
        return [_cut(*part) for part in self.parts(views)]

    def parts(self, views: Sequence[View]) -> list[tuple[View, dict[str, Known], int, int]]:
        """Which of some processes tells which devices from when to when (boot time), each instant of a device once."""
        return _parts(views, self.unite())

    def unite(self) -> Sequence[Segment]:
        """Have all processes know of each segment what any of them knows; the segments."""
        if self._segments is None:
            self._segments = _segments_of(self.views)
        return self._segments

    def doubts(self) -> Iterator[str]:
        """What may be wrong in putting these processes together, in words."""
        names = sorted({view.process.facts.host for view in self.views})
        if len(names) > 1:
            yield f"{', '.join(names)} have one boot id: taken as containers of one machine, whose devices count once"
        for a, b in itertools.pairwise(self.views):
            if a.process.facts.host == b.process.facts.host and _are_apart(a, b, is_thorough=False):
                yield (
                    f"two processes on {a.process.facts.host} read counters of one name that differ: they are taken as "
                    "one. If these were two machines, give each a name of its own by AIOCARBON_NODE"
                )
                break
        active: list[View] = []
        for view in sorted(self.views, key=lambda v: v.begin_ns):
            active = [other for other in active if other.end_ns > view.begin_ns]
            for other in active:
                yield from _told_and_modelled(other, view)
                yield from _told_and_modelled(view, other)
                yield from told_twice(other, view)
                yield from told_twice(view, other)
            active.append(view)


def machines_of(processes: Iterable[Process], problems: list[str]) -> list[Machine]:
    """The machines of processes that have one machine's key.

    Args:
        processes: All of that key.
        problems: Gets what was found out and decided, in words.
    """
    found = sorted(processes, key=lambda process: process.ident)
    if len(found) == 1:
        return [Machine([View(found[0])])]
    problems.extend(_align(found))
    views = [View(process) for process in found]
    machines = [Machine(group) for group in _split(views, problems)]
    for machine in machines:
        problems.extend(machine.doubts())
    return machines


def _segments_of(views: Sequence[View]) -> list[Segment]:
    """The segments of all processes; what two of them know of one segment becomes common to both.

    Only points do: what there is to say of the device (who read it, say) is said of each run by its own processes.
    """
    merged = gather(
        Segment(
            key=known.key,
            curve=known.curve,
            windows=frozenset(_windows(view)),
        )
        for view in views
        for known in view.process.devices.values()
        if len(known.curve)
    )
    by_run: dict[tuple[str, SegmentKey], list[Known]] = {}
    for view in views:
        for known in view.process.devices.values():
            if known.key in merged:
                by_run.setdefault((view.process.facts.run_id, known.key), []).append(known)
    for (_, key), group in by_run.items():
        curve = merged[key].curve.told_by(min((known.device for known in group), key=repr))
        for known in group:
            known.curve = curve
    return list(merged.values())


def _windows(view: View) -> Iterator[Window]:
    """The time of a process; what lies between its first epoch and its last it tells before those that know of none.

    A command that marks epochs and what was put around it to track it are two processes of one run.
    """
    yield Window(view.begin_ns, view.end_ns, view.process.ident, rank=WHOLE)
    epochs = [stretch for stretch in view.stretches if stretch.epoch is not None]
    if epochs:
        yield Window(epochs[0].begin_ns, epochs[-1].end_ns, view.process.ident)


def _parts(views: Sequence[View], segments: Sequence[Segment]) -> list[tuple[View, dict[str, Known], int, int]]:
    """Who tells which devices from when to when; devices that one process tells at one time stand together."""
    by_ident = {view.process.ident: view for view in views}
    is_one_run = len({view.process.facts.run_id for view in views}) == 1  # of several, epochs are of no matter
    groups: dict[DeviceKey, list[Segment]] = {}
    for segment in segments:
        windows = frozenset(w for w in segment.windows if w.owner in by_ident and (is_one_run or w.rank == WHOLE))
        if windows:
            mine = Segment(key=segment.key, curve=segment.curve, windows=windows)
            groups.setdefault(segment.key.device, []).append(mine)
    unnested(groups)
    parts: dict[tuple[str, int, int], dict[str, Known]] = {}
    for device, group in groups.items():
        for share in shares(group):
            known = by_ident[share.owner].process.devices[device.device]
            parts.setdefault((share.owner, share.begin_ns, share.end_ns), {})[device.device] = known
    return [(by_ident[owner], parts[owner, begin, end], begin, end) for owner, begin, end in sorted(parts)]


def _cut(view: View, devices: Mapping[str, Known], begin_ns: int, end_ns: int, *, has_stretches: bool = True) -> Told:
    whole = lump_of(view.cut_of(devices, begin_ns, end_ns))
    stretches = []
    for stretch in view.within(begin_ns, end_ns) if has_stretches else ():
        begin, end = max(stretch.begin_ns, begin_ns), min(stretch.end_ns, end_ns)
        stretches.append((stretch, lump_of(view.cut_of(devices, begin, end))))
    return Told(view, begin_ns, end_ns, whole, stretches, devices)


def _told_and_modelled(a: View, b: View) -> Iterator[str]:
    """Parts that one process measured while another modelled them, under different devices.

    What both know under one id counts once, also where one of them holds a share of it, which is modelled as well.
    """
    counted = {ident: known for ident, known in a.process.devices.items() if known.device.counted}
    models = [
        known
        for ident, known in b.process.devices.items()
        if known.device.counted and known.device.basis not in MEASURED and ident not in counted
    ]
    for model, known in itertools.product(models, counted.values()):
        common = known.device.covers & model.device.covers
        if common and known.device.basis in MEASURED:
            yield (
                f"{', '.join(sorted(common))} of {a.process.facts.host} may be counted twice: "
                f"one process measured it ({known.device.id}) while another modelled it ({model.device.id})"
            )


# -- one machine or several ----------------------------------------------------------------------------------------


def _align(processes: Sequence[Process]) -> Iterator[str]:
    """Put all instants on the boot clock of one time namespace; what was done, in words.

    A machine has one wall clock: what stands between two boot clocks is read off it where they were looked at nearest
    to each other.
    """
    spaces: dict[str, list[Process]] = {}
    for process in processes:
        spaces.setdefault(process.time_namespace, []).append(process)
    if len(spaces) < 2 or not processes[0].boot:
        return
    first, *others = (spaces[name] for name in sorted(spaces))
    looks = [anchor for process in first for anchor in process.anchors]
    for process in itertools.chain(*others):
        _, mine, theirs = min((abs(a.wall_ns - b.wall_ns), a, b) for a in process.anchors for b in looks)
        by_ns = (mine.wall_ns - mine.mono_ns) - (theirs.wall_ns - theirs.mono_ns)
        if abs(by_ns) > SHIFT_NS:
            process.shift(by_ns)
            yield (
                f"{process.path} was written in another time namespace than others of {process.facts.host}: "
                "its boot clock is set to theirs by the wall clock"
            )


def _split(views: Sequence[View], problems: list[str]) -> list[list[View]]:
    """Processes of one boot id by the hardware that they ran on: counters that stand on different lines are two."""
    hosts = sorted({view.process.facts.host for view in views})
    if len(hosts) < 2:
        return [[*views]]
    of = {host: [view for view in views if view.process.facts.host == host] for host in hosts}
    group = {host: host for host in hosts}  # the first host of each group
    clones: set[tuple[str, str]] = set()
    for a, b in itertools.combinations(hosts, 2):
        verdicts = {_are_apart(one, other) for one in of[a] for other in of[b]}
        if True in verdicts:
            clones.add((a, b))
        elif False in verdicts:
            old, new = group[b], group[a]
            group = {host: new if first == old else first for host, first in group.items()}
    if not clones:
        return [[*views]]
    told = ", ".join(sorted({host for pair in clones for host in pair}))
    problems.append(
        f"{told} have one boot id, but their counters differ: taken as clones, each with devices of its own"
    )
    return [[view for view in views if group[view.process.facts.host] == host] for host in sorted(set(group.values()))]


def _are_apart(a: View, b: View, *, is_thorough: bool = True) -> bool | None:
    """Whether counters of one name differ in two processes; None if nothing tells.

    Where it is not to be thorough, the first counter that tells decides, by what it counted in all.
    """
    begin, end = max(a.begin_ns, b.begin_ns), min(a.end_ns, b.end_ns)
    verdict = None
    for ident in sorted(a.process.devices.keys() & b.process.devices.keys()):
        mine, theirs = a.process.devices[ident], b.process.devices[ident]
        if mine.key == theirs.key:
            return False
        apart = is_apart(mine.curve, theirs.curve, begin, end, is_thorough=is_thorough)
        if apart or (apart is False and not is_thorough):
            return apart
        verdict = verdict if apart is None else apart
    return verdict
