"""Shares of a machine that lie within each other: a process's within its parent's, both within the whole machine.

What two processes tell of one device at one time counts once, as everywhere: where the outer one counts, the inner one
does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from aiocarbon._core.reading import Role
from aiocarbon._core.segment import DeviceKey, Segment, Window
from aiocarbon.journal.view import View

MACHINE = ""
"""Stands, among holders, for the whole machine."""


def unnested(groups: dict[DeviceKey, list[Segment]]) -> None:
    """Take off each share the time in which what it is a part of counts as well.

    Args:
        groups: The segments of one machine by device; changed in place.
    """
    counting: dict[tuple[str, str, str], list[Window]] = {}
    for key, group in groups.items():
        for segment in group:
            if segment.curve.device.counted:
                share = segment.curve.device.share
                holder = MACHINE if share is None else share.holder
                counting.setdefault((key.boot, key.device, holder), []).extend(segment.windows)
    for key, group in groups.items():
        for n, segment in enumerate(group):
            share = segment.curve.device.share
            if share is not None and share.role is Role.OWN:
                around = [counting.get((key.boot, key.device, name), []) for name in (MACHINE, *share.within)]
                outer = [window for windows in around for window in windows]
                if outer:
                    windows = frozenset(_without(segment.windows, outer))
                    group[n] = dataclasses.replace(segment, windows=windows)


def _without(windows: Iterable[Window], outer: Iterable[Window]) -> Iterator[Window]:
    """The parts of windows that lie in no other."""
    cuts = sorted((window.begin_ns, window.end_ns) for window in outer)
    for window in windows:
        at = window.begin_ns
        for begin, end in cuts:
            if begin >= window.end_ns:
                break
            if begin > at:
                yield window._replace(begin_ns=at, end_ns=begin)
            at = max(at, end)
        if at < window.end_ns:
            yield window._replace(begin_ns=at)


def told_twice(outer: View, inner: View) -> Iterator[str]:
    """That one process counted a share of what another counted, in words; of processes that ran at one time."""
    devices = outer.process.devices
    for ident, known in inner.process.devices.items():
        share, other = known.device.share, devices.get(ident)
        if share is None or share.role is not Role.OWN or other is None or not other.device.counted:
            continue
        theirs = other.device.share
        if theirs is None or theirs.holder in share.within:
            yield (
                f"{inner.process.path} holds a share of what {outer.process.path} holds: where both ran, it counts once"
            )
            return
