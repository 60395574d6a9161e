"""Takes what workers have read: each reading to its device's curve, each failure to who must know of it."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter

from aiocarbon._core.reading import Reading
from aiocarbon._core.units import ns_from_s
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.hops import READ_DEADLINE_S, Hop, Result
from aiocarbon._engine.mates import Mates
from aiocarbon._engine.track import Track
from aiocarbon.errors import MeterError, MeterLostError

FAILURES_TOLD = 3
"""Reads that must fail in a row before it is told: one EIO is nothing."""

Warn = Callable[[Track, str, int], None]
"""Takes of which device a reader must know what, and since when, monotonic nanoseconds."""


class Intake:
    """Feeds curves, on the engine's thread.

    Args:
        clock: The engine's.
        mates: Is told of devices that are lost to this process.
        warn: Takes what a reader of a device's figures must know.
        lost: Called when a device is lost.

    Attributes:
        readings: Readings taken.
        worker_cpu_ns: CPU time of the workers.
        is_closed: Set it to drop what comes.
    """

    def __init__(self, *, clock: Clock, mates: Mates, warn: Warn, lost: Callable[[Track], None]) -> None:
        self.readings = 0
        self.worker_cpu_ns = 0
        self.is_closed = False
        self._clock = clock
        self._mates = mates
        self._warn = warn
        self._lost = lost
        self._told: set[tuple[Track, str]] = set()

    def take(self, *hops: Hop) -> bool:
        """Take what hops have read so far, the oldest first: a curve takes late readings, but not for free.

        Returns:
            True if there was anything.
        """
        results: list[tuple[int, Result]] = []
        for hop in hops:
            self.worker_cpu_ns += hop.cpu.take()
            t_ns = 0
            for _ in range(len(hop.results)):
                one = hop.results.popleft()
                # An error lies at no instant: it stays behind what its hop has read before.
                t_ns = one[1].t0_ns if isinstance(one[1], Reading) else t_ns
                results.append((t_ns, one))
        if self.is_closed:
            return False
        results.sort(key=itemgetter(0))
        for _, (track, result) in results:
            if isinstance(result, Reading):
                self._take_reading(track, result)
            else:
                self._take_error(track, result)
        return bool(results)

    def _take_reading(self, track: Track, reading: Reading) -> None:
        before = track.derivation.last_value
        resets = track.derivation.resets
        try:
            track.derivation.add(reading)
        except (ValueError, OverflowError) as error:
            self.tell(track, "value", f"gave a value that no sensor can: {error}", reading.t_ns)
            return
        if track.share is not None:
            track.share.carry(track)
        self.readings += 1
        track.failures = 0
        track.is_slow = track.is_slow and reading.t1_ns - reading.t0_ns > ns_from_s(READ_DEADLINE_S)
        if not track.is_probed and before is not None and reading.value != before:
            track.changed_ns.append(reading.t_ns)
        if track.derivation.resets > resets:
            if before is not None and reading.value > before:
                text = "its counter jumped by more than it can draw, of which nothing counts"
                self.tell(track, "jump", text, reading.t_ns)
            else:
                text = "its counter began anew; what it did not count is in the upper bound"
                self.tell(track, "reset", text, reading.t_ns)

    def _take_error(self, track: Track, error: MeterError) -> None:
        track.failures += 1
        if isinstance(error, MeterLostError):
            if not track.is_lost:
                track.is_lost = True
                track.derivation.lose(self._clock.monotonic_ns())
                self._mates.lose(track)
                self._warn(track, f"was lost: {error}", self._clock.monotonic_ns())
                self._lost(track)
        elif track.failures == FAILURES_TOLD:
            self.tell(track, "fails", f"cannot be read: {error}")

    def tell(self, track: Track, cause: str, message: str, since_ns: int | None = None) -> None:
        """Warn once per device and cause; of now, unless an instant is given, monotonic."""
        if (track, cause) not in self._told:
            self._told.add((track, cause))
            self._warn(track, message, self._clock.monotonic_ns() if since_ns is None else since_ns)
