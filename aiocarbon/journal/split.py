"""What several runs measured of one device at one time, split evenly among them, so that groups of runs add up.

Where one run holds a share of a device (that of a process, say) and another run all of it, both measured the joules of
the share, and the other one alone the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from aiocarbon._core.ledger import Ledger, Mark
from aiocarbon._core.pool import Lump, lump_of, scaled
from aiocarbon._core.reading import Device, Role
from aiocarbon.journal.machine import Told
from aiocarbon.journal.nested import MACHINE
from aiocarbon.journal.process import Known
from aiocarbon.journal.view import View

KeyOf = Callable[[View], str]
"""Names the group of a process."""

Given = tuple[str, View, Lump]
"""A group, the process with whose PUE and intensity its joules are reckoned, and the joules."""

Teller = tuple[str, str]
"""A run, and the group that it has a part in."""

Sharing = tuple[str, tuple[tuple[View, str], ...]]
"""Whose part some devices are (`MACHINE`: all), and who else measured them or a share of them, and whose part."""


def beside(views: Iterable[View], told: Iterable[Told]) -> Iterator[tuple[Told, list[View]]]:
    """Each part of what the processes of a machine tell, and the other processes that ran in that time."""
    coming = sorted(views, key=lambda view: -view.begin_ns)
    running: list[View] = []
    for part in sorted(told, key=lambda part: part.begin_ns):
        while coming and coming[-1].begin_ns < part.end_ns:
            running.append(coming.pop())
        running = [view for view in running if view.end_ns > part.begin_ns]
        yield part, [view for view in running if view is not part.view and view.begin_ns < part.end_ns]


def split(part: Told, others: Sequence[View], key_of: KeyOf) -> Iterator[Given]:
    """What each group has of a part; together it is the part.

    Args:
        part: What one process tells.
        others: The others that ran in that time.
        key_of: Names the group of a process.
    """
    mine = key_of(part.view)
    by_sharing: dict[Sharing, dict[str, Known]] = {}
    for ident, known in part.devices.items():
        sharing = tuple((view, _holder(view.process.devices[ident].device)) for view in others if _has(view, known))
        if all(key_of(view) == mine for view, _ in sharing):
            sharing = ()
        by_sharing.setdefault((_holder(known.device), sharing), {})[ident] = known
    if not any(sharing for _, sharing in by_sharing):
        yield mine, part.view, part.whole
        return
    for (holder, sharing), devices in by_sharing.items():
        for begin, end in pairwise(_edges(part, sharing)):
            levels = {holder: [part.view]}
            for view, of in sharing:
                if view.begin_ns <= begin and end <= view.end_ns:
                    levels.setdefault(of, []).append(view)
            yield from _Levels(levels, devices, begin, end).given(key_of)


def _edges(part: Told, sharing: Iterable[tuple[View, str]]) -> list[int]:
    """Where who measured it changes; where some measured shares, the intensity as well: shares have it by their own."""
    edges = {at for view, _ in sharing for at in (view.begin_ns, view.end_ns) if part.begin_ns < at < part.end_ns}
    if len({of for _, of in sharing}) > 1 or any(of != MACHINE for _, of in sharing):
        edges.update(at for at, _, _ in part.view.ledger.pieces(part.begin_ns, part.end_ns))
    return sorted(edges | {part.begin_ns, part.end_ns})


def _holder(device: Device) -> str:
    return MACHINE if device.share is None else device.share.holder


def _has(view: View, known: Known) -> bool:
    """Whether a process measured a device as well, or a share of it."""
    other = view.process.devices.get(known.device.id)
    if other is None or other.device.counted != known.device.counted or not len(other.curve):
        return False
    if other.key.device == known.key.device:
        return True
    share = other.device.share
    return share is not None and share.role is Role.OWN and _holder(known.device) in (MACHINE, *share.within)


def _lump(teller: View, devices: Mapping[str, Known], begin_ns: int, end_ns: int) -> Lump:
    """A window of devices with the intensity and PUE of a process, which need not be the one that measured them."""
    of = teller.ledger
    curves = {ident: known.curve for ident, known in devices.items()}
    ledger = Ledger(curves, intensity=of.intensity, pue=of.pue, wall=of.wall)
    return lump_of(ledger.cut(Mark(begin_ns, {}), Mark(end_ns, {})))


class _Levels:
    """Devices in a time in which the same processes measured them: as a whole, and shares of them within each other.

    Args:
        views: Who measured them by whose part it was; the outermost first, and who tells it first of these.
        devices: The devices by id.
        begin_ns: Begin of the time.
        end_ns: Its end.
    """

    def __init__(
        self, views: Mapping[str, Sequence[View]], devices: Mapping[str, Known], begin_ns: int, end_ns: int
    ) -> None:
        self._views = views
        (teller, *_), *_ = views.values()  # by whose intensity and PUE all of it is in the total
        self._teller = teller
        self._within: dict[str, tuple[str, ...]] = {}
        self._lumps: dict[str, Lump] = {}
        for holder, (view, *_) in views.items():
            own = {ident: view.process.devices[ident] for ident in devices}
            share = next(iter(own.values())).device.share
            self._within[holder] = () if share is None else (MACHINE, *share.within)
            self._lumps[holder] = _lump(teller, own, begin_ns, end_ns)

    def given(self, key_of: KeyOf) -> Iterator[Given]:
        """What each group has of it."""
        tellers = {holder: self._tellers(holder, key_of) for holder in self._views}
        found: list[tuple[str, Lump]] = []
        for holder, lump in self._lumps.items():
            inside = [other for other in self._views if other == holder or holder in self._within[other]]
            joules = math.fsum(self._rest_j(other) / len(tellers[other]) for other in inside)
            share = joules / lump.energy_j if lump.energy_j > 0.0 else 1.0 / len(tellers[holder])
            around: set[Teller] = set().union(*(tellers.get(other, set()) for other in self._within[holder]))
            found += [(key, scaled(lump, share)) for _, key in sorted(tellers[holder] - around)]
        # A share may have been measured where the whole was not, or too high: there is what the whole is told as.
        told_j = math.fsum(lump.energy_j for _, lump in found)
        whole_j = next(iter(self._lumps.values())).energy_j
        by = whole_j / told_j if told_j > whole_j else 1.0
        for key, lump in found:
            yield key, self._teller, scaled(lump, by)

    def _tellers(self, holder: str, key_of: KeyOf) -> set[Teller]:
        """The runs that measured what is somebody's part: as that, or within what is around it."""
        views = (view for of in {holder, *self._within[holder]} for view in self._views.get(of, ()))
        return {(view.process.facts.run_id, key_of(view)) for view in views}

    def _rest_j(self, holder: str) -> float:
        """Joules that are in no share within."""
        inside = [other for other in self._views if holder in self._within[other]]
        outermost = [of for of in inside if not any(other in self._within[of] for other in inside)]
        return max(self._lumps[holder].energy_j - math.fsum(self._lumps[of].energy_j for of in outermost), 0.0)
