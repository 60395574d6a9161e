"""Sees when the wall clock was set and when the machine slept, and tells the runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiocarbon._core.units import NS_PER_S, s_from_ns
from aiocarbon._core.wallclock import STEP_NS, Anchor
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.session import Session
from aiocarbon._engine.track import Track

CLOCK_STEP_TOLD_NS = NS_PER_S
SUSPEND_TOLD_NS = NS_PER_S


class ClockWatch:
    """Compares the clocks with each other at every look.

    Args:
        clock: The engine's.
        tracks: All devices: counters that went on in a sleep are told of it.
    """

    def __init__(self, clock: Clock, tracks: Callable[[], Iterable[Track]]) -> None:
        self._clock = clock
        self._tracks = tracks
        self._looked_ns = clock.monotonic_ns()
        self._boot_minus_mono = clock.boot_ns() - self._looked_ns
        self._wall_minus_mono = clock.wall_ns() - self._looked_ns

    def has_moved(self) -> bool:
        """Whether a look would find anything. From any thread; where it would not, this was the look."""
        now = self._clock.monotonic_ns()
        is_set = abs(self._clock.wall_ns() - now - self._wall_minus_mono) > STEP_NS
        if is_set or self._clock.boot_ns() - now - self._boot_minus_mono >= SUSPEND_TOLD_NS:
            return True
        self._looked_ns = now
        return False

    def look(self, sessions: Iterable[Session]) -> None:
        """Have runs take a wall clock that was set, and tell them of it, and of a sleep since the last look."""
        now = self._clock.monotonic_ns()
        anchor = Anchor(now, self._clock.wall_ns())
        suspended = self._clock.boot_ns() - now - self._boot_minus_mono
        is_told = suspended >= SUSPEND_TOLD_NS
        if is_told:
            for track in self._tracks():
                track.derivation.slept(self._looked_ns, now)
        self._looked_ns, self._wall_minus_mono = now, anchor.wall_ns - now
        for session in sessions:
            step_ns = session.ledger.wall.look(anchor)
            if is_told:
                session.warn(f"the machine slept for {s_from_ns(suspended):.0f} s; that time is not in the run")
            elif abs(step_ns) >= CLOCK_STEP_TOLD_NS:
                session.warn(f"the wall clock was set by {s_from_ns(step_ns):+.0f} s; durations are not affected")
        if is_told:
            self._boot_minus_mono += suspended
