"""Segments: one sampler's life on one device each, and how they merge so that each joule counts once.

A segment's energies are cumulative from one origin, so that merging two views of it is a union of points. Where
several segments watched one physical device at one time, exactly one of them tells each instant: a counter before a
power sensor before a model, then the smallest key. Both are independent of order and of repetition.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from aiocarbon._core.curve import Curve, Point
from aiocarbon._core.reading import Basis

_STRENGTH = {basis: n for n, basis in enumerate((Basis.COUNTER, Basis.POWER, Basis.MODEL, Basis.ASSUMED))}


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
    """

    begin_ns: int
    end_ns: int
    owner: str


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
    merged: dict[SegmentKey, Segment] = {}
    for segment in segments:
        known = merged.get(segment.key)
        merged[segment.key] = segment if known is None else _united(known, segment)
    return merged


def _united(a: Segment, b: Segment) -> Segment:
    if a is b:
        return a
    return Segment(key=a.key, curve=union(a.curve, b.curve), windows=a.windows | b.windows)


def union(a: Curve, b: Curve) -> Curve:
    """The curve of all points of two curves; of two points at one instant the larger one stays."""
    if a is b:
        return a
    first = min(a, b, key=lambda curve: (repr(curve.device), curve.refresh_ns))
    united = Curve(first.device, refresh_ns=first.refresh_ns)
    united.min_w, united.max_w = min(a.min_w, b.min_w), max(a.max_w, b.max_w)
    for point in heapq.merge(_points(a), _points(b)):
        if len(united) and united[-1].t_ns == point.t_ns:
            united.replace_last(point)  # merge() is sorted, so this one is the larger
        else:
            united.append(point)
    return united


def _points(curve: Curve) -> Iterable[Point]:
    return (curve[i] for i in range(len(curve)))


def shares(segments: Iterable[Segment]) -> tuple[Share, ...]:
    """The windows of one physical device's segments, each instant once, in the order of time.

    Args:
        segments: All of one device. A counter beats a power sensor beats a model; then the smallest key wins.

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
    active: list[tuple[int, SegmentKey, str, int]] = []
    found: list[Share] = []
    coming = 0
    for begin, end in pairwise(edges):
        while coming < len(claims) and claims[coming][0] <= begin:
            _, strength, key, window, _ = claims[coming]
            heapq.heappush(active, (strength, key, window.owner, window.end_ns))
            coming += 1
        while active and active[0][3] <= begin:
            heapq.heappop(active)
        if not active:
            continue
        _, key, owner, _ = active[0]
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
