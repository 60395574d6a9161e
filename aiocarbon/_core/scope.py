"""Whose energy it was on a machine that others use too: curves of a device's parts out of its own curve and of usage.

Between two looks at who used a device, its energy is an idle floor and, above it, what its users used; of that each
gets the share of the time for which it kept the device busy (Kepler's "ratio" model with the static part kept apart,
as KubeWatt has it, arXiv 2504.10702). Own, idle, unknown and what others used make the device's energy exactly.

Time is not power: a second of vector arithmetic draws more than a second of waiting for memory. So a share is an
estimate whatever the device's own basis is, and its bounds hold the case that our time is worth half or twice as much
as that of the others. Where we alone kept the device busy, they close in on the energy above the floor.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, NamedTuple

from aiocarbon._core.curve import Curve, Point, State
from aiocarbon._core.reading import Basis, Device, Quantity, Role, ShareOf
from aiocarbon._core.supply import IdleFloor
from aiocarbon._core.units import NS_PER_MS, NS_PER_S, S_PER_NS

WORTH: Final = 2.0
"""A second of use may be worth so many times another's: "equal CPU time can differ 2-4x in power", says Kepler's
documentation of its own limits (vector against scalar code); the lower end for a 90 % range of whole programs."""

QUIET_SHARE: Final = 0.05
"""A device that was busy for less than this share of the time shows its idle power, or hardly more."""

SETTLED_NS: Final = 2 * NS_PER_S
"""A device's own curve may still move so far back: readings come late, and a point is placed by the change after it."""


SPACING_NS: Final = 100 * NS_PER_MS
"""The parts keep the shape of the whole to so much: a power sensor's fifty points a second for each would cost 2 ms."""

MOST_WAITING: Final = 1000
"""Looks that wait for the device to be read; beyond, every second of them is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A look at who had used a device up to an instant.

    Attributes:
        t_ns: When, monotonic.
        own: Busy seconds of ours so far, since an origin of the reader's own; None where it cannot be told.
        total: Busy seconds of all users so far, likewise.
        capacity: Busy seconds a second when all of it is in use (the threads of a CPU); None if the time since the look
            before must not pass for quiet, whatever was counted.
    """

    t_ns: int
    own: float | None
    total: float | None
    capacity: float | None = None


class Parts(NamedTuple):
    """Where a device's energy between two looks went, joules; the rest was used by others.

    Attributes:
        own: Ours.
        low: Lower end (90 %) of it, as far as the sharing goes.
        high: Upper end.
        idle: Idle floor; all of it where nobody used the device.
        unknown: Above the floor, and nobody knows whose.
        shares: Ours of what is above the floor: lower end, share, upper end, 0..1; None where it is not known.
        is_quiet: True if the device was hardly used.
    """

    own: float
    low: float
    high: float
    idle: float
    unknown: float
    shares: tuple[float, float, float] | None
    is_quiet: bool = False


def parts_of(
    energy_j: float, length_ns: int, before: Usage, after: Usage, *, floor_w: float | None, least_w: float
) -> Parts:
    """Divide what a device used between two looks at its users.

    Args:
        energy_j: What it used in all, >= 0.
        length_ns: In which time.
        before: The look at the begin, or before it.
        after: The look at the end, or after it.
        floor_w: Its idle floor, watts; None where it is not known: 0 is taken, and the lower end takes `least_w`.
        least_w: Least power ever seen of it, watts, infinite before any: no idle floor can lie above it.
    """
    length_s = length_ns * S_PER_NS
    idle = min(energy_j, (floor_w or 0.0) * length_s)
    dynamic = energy_j - idle
    used = _used(before, after)
    if used is None:
        return Parts(0.0, 0.0, dynamic, idle, dynamic, None)
    own_s, total_s = used
    look_s = (after.t_ns - before.t_ns) * S_PER_NS
    is_quiet = after.capacity is not None and total_s <= QUIET_SHARE * after.capacity * look_s
    if total_s == 0.0:
        return Parts(0.0, 0.0, 0.0, energy_j, 0.0, (0.0, 0.0, 0.0), is_quiet)
    share = own_s / total_s
    low, high = share / (share + WORTH * (1.0 - share)), WORTH * share / (WORTH * share + 1.0 - share)
    surely = dynamic if floor_w is not None else max(dynamic - least_w * length_s, 0.0)
    return Parts(share * dynamic, low * surely, high * dynamic, idle, 0.0, (low, share, high), is_quiet)


def _used(before: Usage, after: Usage) -> tuple[float, float] | None:
    """Busy seconds, ours and all, between two looks; None where a counter is missing or went back."""
    if before.own is None or before.total is None or after.own is None or after.total is None:
        return None
    own, total = after.own - before.own, after.total - before.total
    if not (math.isfinite(own) and math.isfinite(total) and own >= 0.0 and total >= 0.0):
        return None
    # Two accounts of the kernel's, one of them in clock ticks: ours may seem to be more than everybody's.
    return own, max(own, total)


_BASIS_WORDS: Final = {
    Basis.COUNTER: "the device itself is measured by its energy counter",
    Basis.POWER: "the device itself is measured by its power sensor",
    Basis.MODEL: "the device itself is modelled",
    Basis.ASSUMED: "the device itself is assumed",
}


def device_of(device: Device, role: Role, *, scope: str, holder: str, how: str, within: tuple[str, ...] = ()) -> Device:
    """The device that stands for a part of a physical one.

    The own part keeps the physical device's id. It is `model` at best: its energy is a product of a measurement and
    of a share that nobody measured.
    """
    is_own = role is Role.OWN
    is_weaker = device.basis in (Basis.COUNTER, Basis.POWER)
    told = f"{how}; {_BASIS_WORDS[device.basis]}"
    return replace(
        device,
        id=device.id if is_own else f"{device.id}#{role.value}",
        basis=Basis.MODEL if is_weaker else device.basis,
        quantity=Quantity.ENERGY,
        counted=is_own,
        counter_range_uj=None,
        origin="",
        note="; ".join(filter(None, (told if is_own else "", device.note))),
        share=ShareOf(
            scope=scope,
            role=role,
            device=device.id,
            holder=holder if is_own else "",
            how=how,
            within=within if is_own else (),
        ),
    )


class SharedDevice:
    """The curves of one device's parts, from its own curve and from looks at its users.

    Attributes:
        curves: Curve by role, each of a device of its own.
        device: The physical device.
        floor: Its idle floor: given, told by its meter, or the least 5 s mean while it was hardly used.
    """

    def __init__(
        self,
        device: Device,
        whole: Curve,
        *,
        scope: str,
        holder: str,
        how: str,
        within: tuple[str, ...] = (),
        floor_w: float | None = None,
    ) -> None:
        self.device = device
        floor_w = device.idle_w if floor_w is None else floor_w
        self.floor = IdleFloor({} if floor_w is None else {device.id: floor_w})
        parts = {role: device_of(device, role, scope=scope, holder=holder, how=how, within=within) for role in Role}
        self.curves = {role: Curve(part, refresh_ns=whole.refresh_ns) for role, part in parts.items()}
        self._whole = whole
        self._usages: list[Usage] = []  # those from the last settled one on
        self._settled: State | None = None  # the whole at the last settled look
        self._count = 0  # points of each curve that are settled
        self._seen: object = None

    @property
    def floor_w(self) -> float | None:
        """The idle floor, watts; None where it is not known, and 0 was taken."""
        return self.floor.floor_w(self.device.id)

    @property
    def newest_ns(self) -> int | None:
        """Instant of the newest look; None before the first."""
        return self._usages[-1].t_ns if self._usages else None

    @property
    def folded_ns(self) -> int:
        """Instant up to which points were folded, as of `Curve.folded_ns`."""
        return self.curves[Role.OWN].folded_ns

    def look(self, usage: Usage) -> None:
        """Take a look at the device's users; one that is not later than the newest is left out."""
        if not self._usages or usage.t_ns > self._usages[-1].t_ns:
            self._usages.append(usage)
        if len(self._usages) > MOST_WAITING:  # the device is not read any more, or very slowly
            self._usages[1:-1] = self._usages[1:-1:2]

    def update(self) -> None:
        """Derive the parts from what the device's own curve and the looks say by now."""
        whole, usages = self._whole, self._usages
        if not len(whole) or not usages:
            return
        seen = (len(whole), whole[-1], usages[0].t_ns, usages[-1].t_ns)
        if seen == self._seen:
            return
        self._seen = seen
        for curve in self.curves.values():
            curve.truncate(self._count)
            curve.refresh_ns = whole.refresh_ns
        before = self._begin()
        until_ns, settled_ns = min(usages[-1].t_ns, whole[-1].t_ns), whole[-1].t_ns - SETTLED_NS
        done = 0
        for n, (first, second) in enumerate(pairwise(usages), start=1):
            at = self.curves[Role.OWN][-1].t_ns
            to = min(second.t_ns, until_ns)
            if to > at:
                before = self._derive(at, to, before, first, second, is_settled=second.t_ns <= settled_ns)
            if second.t_ns <= settled_ns and second.t_ns <= until_ns:
                done, self._settled, self._count = n, before, len(self.curves[Role.OWN])
        del usages[:done]

    def fold(self, before_ns: int, keep_ns: Iterable[int], *, at_most: int) -> None:
        """Forget points before an instant but those to keep, as `Curve.fold` does."""
        keep = list(keep_ns)
        if self._settled is None:
            return
        before_ns = min(before_ns, self._usages[0].t_ns)
        gone = {curve.fold(before_ns, keep, at_most=at_most) for curve in self.curves.values()}
        self._count -= gone.pop()  # the same of each: their points stand at the same instants

    def _begin(self) -> State:
        """The whole where the parts are to be taken up; makes their first points."""
        if self._settled is not None:
            return self._settled
        begin_ns = max(self._usages[0].t_ns, self._whole[0].t_ns)
        state = self._whole.state_at(begin_ns)
        for curve in self.curves.values():
            curve.append(Point(begin_ns, 0.0, 0.0, 0.0, 0.0, state.slack_j))
        return state

    def _derive(self, at: int, to: int, before: State, first: Usage, second: Usage, *, is_settled: bool) -> State:
        """Append the points of a stretch between two looks, in the shape that the whole has there."""
        whole = self._whole
        after = whole.state_at(to)
        energy = max(after.energy_j - before.energy_j, 0.0)
        parts = parts_of(energy, to - at, first, second, floor_w=self.floor_w, least_w=whole.min_w)
        if is_settled and parts.is_quiet:
            self.floor.see(self.device.id, at, to, energy)
        moved = _moved(parts, before, after, energy, to - at)
        bases = {role: curve[-1] for role, curve in self.curves.items()}
        for t, energy_j in (*whole.between(at, to, SPACING_NS), (to, after.energy_j)):
            used = max(min(energy_j - before.energy_j, energy), 0.0)
            done = 1.0 if t == to else used / energy if energy > 0.0 else (t - at) / (to - at)
            for role, curve in self.curves.items():
                curve.append(_point(bases[role], moved[role], done, t, after.slack_j))
        return after


class Moved(NamedTuple):
    """By how much the sums of a part's curve grow in a stretch, and its share of the whole's errors at edges."""

    energy_j: float
    under_j: float
    over_j: float
    missing_ns: float
    share: float
    hidden_j2: float = 0.0


def _moved(parts: Parts, before: State, after: State, energy_j: float, length_ns: int) -> dict[Role, Moved]:
    under = max(after.under_j - before.under_j, 0.0)
    over = max(after.over_j - before.over_j, 0.0)
    missing = max(after.missing_ns - before.missing_ns, 0.0)
    hidden = max(after.hidden_j2 - before.hidden_j2, 0.0)
    if parts.shares is None:
        own = Moved(0.0, 0.0, parts.high + over, float(length_ns), 1.0)
    else:
        _, share, high = parts.shares
        less, more = under * share + parts.own - parts.low, over * high + parts.high - parts.own
        own = Moved(parts.own, less, more, missing, share, hidden * share * share)
    return {
        Role.OWN: own,
        Role.IDLE: Moved(parts.idle, 0.0, 0.0, missing, 1.0),
        Role.UNKNOWN: Moved(parts.unknown, 0.0, 0.0, missing, 1.0),
        Role.WHOLE: Moved(energy_j, under, over, missing, 1.0, hidden),
    }


def _point(base: Point, moved: Moved, done: float, t_ns: int, slack_j: float) -> Point:
    """A part's point where a share `done` of a stretch's energy was used."""
    return Point(
        t_ns,
        base.energy_j + done * moved.energy_j,
        base.under_j + done * moved.under_j,
        base.over_j + done * moved.over_j,
        base.missing_ns + done * moved.missing_ns,
        slack_j * moved.share,
        base.hidden_j2 + done * moved.hidden_j2,
    )
