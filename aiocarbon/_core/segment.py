"""Segments: one sampler's life on one device each, and how they merge so that each joule counts once.

A segment's energies are cumulative from one origin, so that merging two views of it is a union of points. Where
several segments watched one physical device at one time, exactly one of them tells each instant: a counter before a
power sensor before a model, then the smallest key. Both are independent of order and of repetition.
"""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from aiocarbon._core.curve import Curve
from aiocarbon._core.reading import Basis
from aiocarbon._core.units import NS_PER_S

_STRENGTH = {basis: n for n, basis in enumerate((Basis.COUNTER, Basis.POWER, Basis.MODEL, Basis.ASSUMED))}

SAME_LINE: Final = 0.02
"""Energies that two samplers read off one counter differ by less than this share of it, beside their own errors."""

APART_NS: Final = 60 * NS_PER_S
"""Shortest window in which two counters are compared: a minute, as far apart as a journal's ticks."""

APART_WINDOWS: Final = 2
"""So many such windows must differ, where the whole of the common time does not."""


class DeviceKey(NamedTuple):
    """One physical device, in one life of its machine.

    Attributes:
        machine: What tells one machine from another: its boot id where there is one, else its name.
        boot: Id of the boot, empty where the system has none.
        device: The device's id on its machine.
    """

    machine: str
    boot: str
    device: str


class SegmentKey(NamedTuple):
    """One sampler's life on one device.

    Attributes:
        device: The device.
        origin: Names the instant at which the segment's energy was 0.
    """

    device: DeviceKey
    origin: str


class Window(NamedTuple):
    """A stretch of boot time in which somebody counted a segment's device.

    Attributes:
        begin_ns: Nanoseconds of the boot clock.
        end_ns: Likewise.
        owner: Who counted it: a process of a run.
        rank: The lowest tells an instant that several counted: who can say what it was used for.
    """

    begin_ns: int
    end_ns: int
    owner: str
    rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """What is known of one sampler's life on one device.

    Attributes:
        key: Its key.
        curve: Its energy over boot time.
        windows: The stretches that runs counted of it.
    """

    key: SegmentKey
    curve: Curve
    windows: frozenset[Window]


class Share(NamedTuple):
    """A stretch of a device's time, and the segment that tells its energy.

    Attributes:
        begin_ns: Nanoseconds of the boot clock.
        end_ns: Likewise.
        segment: The segment.
        owner: The owner of the window that counted it.
    """

    begin_ns: int
    end_ns: int
    segment: Segment
    owner: str


def merge(a: Mapping[SegmentKey, Segment], b: Mapping[SegmentKey, Segment]) -> dict[SegmentKey, Segment]:
    """All that either map knows: associative, commutative, idempotent.

    Where both have a segment, its points and windows are united.
    """
    return gather((*a.values(), *b.values()))


def gather(segments: Iterable[Segment]) -> dict[SegmentKey, Segment]:
    """Segments by key, those of one key united."""
    by_key: dict[SegmentKey, list[Segment]] = {}
    for segment in segments:
        by_key.setdefault(segment.key, []).append(segment)
    return {key: group[0] if len(group) == 1 else _united(group) for key, group in by_key.items()}


def _united(group: Sequence[Segment]) -> Segment:
    curve = union(*(segment.curve for segment in group))
    windows = frozenset(itertools.chain.from_iterable(segment.windows for segment in group))
    return Segment(key=group[0].key, curve=curve, windows=windows)


def union(*curves: Curve) -> Curve:
    """The curve of all points of several curves; of two points at one instant the larger one stays."""
    several = list({id(curve): curve for curve in curves}.values())
    if len(several) == 1:
        return several[0]
    first = min(several, key=lambda curve: (repr(curve.device), curve.refresh_ns))
    united = Curve(first.device, refresh_ns=first.refresh_ns)
    united.min_w, united.max_w = min(curve.min_w for curve in several), max(curve.max_w for curve in several)
    # Ascending, so that of two at one instant the larger one comes last and stays.
    points = {point[0]: point for point in sorted(itertools.chain(*(curve.rows() for curve in several)))}
    if points:
        times, *columns = zip(*points.values(), strict=True)
        united.extend(array("q", times), *(array("d", column) for column in columns))
    return united


def is_apart(a: Curve, b: Curve, begin_ns: int, end_ns: int, *, is_thorough: bool = True) -> bool | None:
    """Whether two curves cannot have been read off one counter.

    Between two points a counter is somewhere between their values, so what it counted from one instant to another lies
    in a range; ranges that do not meet are those of two counters.

    Args:
        a: Energy over boot time, of a counter.
        b: Likewise.
        begin_ns: Begin of a time that both tell.
        end_ns: Its end.
        is_thorough: False to compare what both counted in all that time, and not minute by minute.

    Returns:
        None where the two have not enough time in common, or are no counters.
    """
    if a.device.basis is not Basis.COUNTER or b.device.basis is not Basis.COUNTER or not (len(a) and len(b)):
        return None
    begin_ns, end_ns = max(begin_ns, a[0].t_ns, b[0].t_ns), min(end_ns, a[-1].t_ns, b[-1].t_ns)
    if end_ns - begin_ns < APART_NS:
        return None
    instants = [begin_ns]
    for i in range(len(a) if is_thorough else 0):
        if instants[-1] + APART_NS <= (t := a[i].t_ns) <= end_ns - APART_NS:
            instants.append(t)
    instants.append(end_ns)
    ranges = [(_range_at(a, t), _range_at(b, t)) for t in instants]
    if _is_apart(ranges[0], ranges[-1]):
        return True
    return sum(_is_apart(first, last) for first, last in pairwise(ranges)) >= APART_WINDOWS


Range = tuple[float, float]


def _is_apart(first: tuple[Range, Range], last: tuple[Range, Range]) -> bool:
    (low_a, high_a), (low_b, high_b) = (
        (end[0] - begin[1], end[1] - begin[0]) for begin, end in zip(first, last, strict=True)
    )
    return max(low_a, low_b) * (1.0 - SAME_LINE) > min(high_a, high_b)


def _range_at(curve: Curve, t_ns: int) -> Range:
    """Between what energies a counter stood at an instant that lies within its curve."""
    before, behind = curve.around(t_ns)
    # What a bridged time may have used less or more belongs to neither of two instants alone.
    return before.energy_j - before.slack_j, behind.energy_j + behind.slack_j


def shares(segments: Iterable[Segment]) -> tuple[Share, ...]:
    """The windows of one physical device's segments, each instant once, in the order of time.

    Args:
        segments: All of one device. A counter beats a power sensor beats a model; then the lowest rank wins, then the
            smallest key.

    Returns:
        Stretches that do not overlap and whose union is the union of the windows.
    """
    segments = tuple(segments)
    claims = sorted(
        (window.begin_ns, _STRENGTH[segment.curve.device.basis], segment.key, window, n)
        for n, (segment, window) in enumerate((s, w) for s in segments for w in s.windows if w.end_ns > w.begin_ns)
    )
    by_key = {segment.key: segment for segment in segments}
    edges = sorted({t for *_, window, _ in claims for t in (window.begin_ns, window.end_ns)})
    active: list[tuple[int, int, SegmentKey, str, int]] = []
    found: list[Share] = []
    coming = 0
    for begin, end in pairwise(edges):
        while coming < len(claims) and claims[coming][0] <= begin:
            _, strength, key, window, _ = claims[coming]
            heapq.heappush(active, (strength, window.rank, key, window.owner, window.end_ns))
            coming += 1
        while active and active[0][4] <= begin:
            heapq.heappop(active)
        if not active:
            continue
        _, _, key, owner, _ = active[0]
        last = found[-1] if found else None
        if last is not None and (last.end_ns, last.segment.key, last.owner) == (begin, key, owner):
            found[-1] = last._replace(end_ns=end)
        else:
            found.append(Share(begin, end, by_key[key], owner))
    return tuple(found)


def union_energy_j(segments: Iterable[Segment]) -> float:
    """Joules of one physical device in all its windows, each instant counted once."""
    return math.fsum(_energy_j(share) for share in shares(tuple(segments)))


def _energy_j(share: Share) -> float:
    curve = share.segment.curve
    return max(curve.state_at(share.end_ns).energy_j - curve.state_at(share.begin_ns).energy_j, 0.0)
