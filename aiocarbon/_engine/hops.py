"""What runs in a worker thread: reading devices in turn, once or in a burst.

Guarantees: one read in flight per device (its lock), results as far as they came when a hop is abandoned, and nothing
but `Meter.read` is called. A hop that was abandoned stops after the read it hangs in and drops that read's answer: a
value that took longer than its deadline belongs to no known instant.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from aiocarbon._core.reading import Reading
from aiocarbon._core.units import NS_PER_MS
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.track import Track
from aiocarbon.errors import MeterError, ReadError

Result = tuple[Track, Reading | MeterError]

LOCK_WAIT_S = 0.005
"""How long a read waits for another hop that reads the same device; a healthy read takes far less."""


def read_one(track: Track) -> Reading | MeterError | None:
    """Read a device, turning whatever its meter throws into one of our errors; None if a read is in flight."""
    if not track.lock.acquire(timeout=LOCK_WAIT_S):
        return None
    try:
        return track.meter.read(track.device)
    except MeterError as error:
        return error
    except Exception as error:
        # A plug-in's own exception must not end the hop: the other devices go on.
        failure = ReadError(f"{track.device.id}: {type(error).__name__}: {error}", device=track.device.id)
        failure.__cause__ = error
        return failure
    finally:
        track.lock.release()


class Hop:
    """One turn over some devices, for one worker thread."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.tracks = tracks
        self.results: list[Result] = []
        self.current: Track | None = None
        self.is_abandoned = False
        self.cpu_ns = 0

    def run(self) -> None:
        """Read each device once, in order."""
        began = time.thread_time_ns()
        self._pass()
        self.cpu_ns = time.thread_time_ns() - began

    def _pass(self) -> None:
        for track in self.tracks:
            if self.is_abandoned:
                return
            self.current = track
            result = read_one(track)
            if self.is_abandoned:
                return
            if result is not None:
                self.results.append((track, result))
        self.current = None

    def unread(self) -> list[Track]:
        """The devices that the hop did not come to, after it was abandoned."""
        if self.current is None:
            return []
        return list(self.tracks[self.tracks.index(self.current) + 1 :])


class Burst(Hop):
    """Reads some devices again and again at a quick pace, without a hop for each read.

    It ends when told, at its end instant, or when `is_done` says so after a pass; the last pass always comes after
    the end was told, so that a mark finds a reading behind it.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        *,
        clock: Clock,
        period_ns: int,
        until_ns: int,
        jitter: float = 0.0,
        is_done: Callable[[Sequence[Result]], bool] | None = None,
    ) -> None:
        super().__init__(tracks)
        self.stop = threading.Event()
        self._clock = clock
        self._period_ns = period_ns
        self._until_ns = until_ns
        self._jitter = jitter
        self._is_done = is_done

    def run(self) -> None:
        """Read until the end."""
        began = time.thread_time_ns()
        due = self._clock.monotonic_ns()
        while not self.is_abandoned:
            is_last = self.stop.is_set() or due >= self._until_ns
            before = len(self.results)
            self._pass()
            if is_last or (self._is_done is not None and self._is_done(self.results[before:])):
                break
            period = self._period_ns
            if self._jitter:
                period = int(period * random.uniform(1 - self._jitter, 1 + self._jitter))
            due = max(due + period, self._clock.monotonic_ns() + NS_PER_MS // 2)
            self._clock.wait(self.stop, due)
        self.cpu_ns = time.thread_time_ns() - began
