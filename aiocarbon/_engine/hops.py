"""What runs in a worker thread: reading devices in turn, once, in a burst, or at every tick.

Guarantees: one read in flight per device (its lock), results as far as they came when a hop is abandoned, and nothing
but `Meter.read` is called. A hop that was abandoned stops after the read it hangs in and drops that read's answer: a
value that took longer than its deadline belongs to no known instant.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from random import random
from typing import TypeGuard

from aiocarbon._core.reading import Quantity, Reading
from aiocarbon._core.units import NS_PER_MS
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.track import Track
from aiocarbon._engine.turns import TURNS, Since
from aiocarbon.errors import MeterError, ReadError

Result = tuple[Track, Reading | MeterError]

READ_DEADLINE_S = 0.25
"""A read that takes longer is taken for hanging."""

LOCK_WAIT_S = 0.005
"""How long a read waits for another hop that reads the same device; a healthy read takes far less."""


def read_one(track: Track) -> Reading | MeterError | None:
    """Read a device, turning whatever its meter throws into one of our errors; None if a read is in flight.

    Other processes that follow get the reading at once.
    """
    lock = track.lock
    if not lock.acquire(blocking=False) and not lock.acquire(timeout=LOCK_WAIT_S):
        return None
    try:
        reading = track.meter.read(track.device)
        # A plug-in may answer anything; what is no reading must not reach the curve.
        if not _is_sound(reading):
            raise ReadError(f"{track.device.id}: its meter answered {reading!r}, no reading", device=track.device.id)
        is_counter = track.device.quantity is Quantity.ENERGY
        if track.share is not None and not track.share.publish(reading, is_counter=is_counter):
            return None  # another process reads the device now: this reading is not in its line
        return reading
    except MeterError as error:
        return error
    except BaseException as error:
        # A plug-in's own exception, a SystemExit as well, must not end the hop or the engine: the other devices go on.
        failure = ReadError(f"{track.device.id}: {type(error).__name__}: {error}", device=track.device.id)
        failure.__cause__ = error
        return failure
    finally:
        lock.release()


def _is_sound(reading: object) -> TypeGuard[Reading]:
    """Whether what a meter answered is a reading, with whole nanoseconds and a number."""
    return (
        isinstance(reading, Reading)
        and isinstance(reading.value, Real)
        and isinstance(reading.t0_ns, Integral)
        and isinstance(reading.t1_ns, Integral)
    )


class Tally:
    """A count that a worker keeps and the engine's thread takes what is new of.

    Attributes:
        total: The count so far; the worker sets it.
    """

    def __init__(self) -> None:
        self.total = 0
        self._taken = 0

    def take(self) -> int:
        """What was counted since the last call."""
        new = self.total - self._taken
        self._taken += new
        return new


class Hop:
    """One turn over some devices, for one worker thread.

    Attributes:
        tracks: The devices.
        results: What was read; the worker fills it while the engine's thread empties it.
        current: The device that is being read; None between turns.
        is_abandoned: Set it where nobody waits any more.
        has_begun: True once a worker has come to it.
        cpu: CPU time of the worker, nanoseconds.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.tracks = tracks
        self.results: deque[Result] = deque()
        self.current: Track | None = None
        self.is_abandoned = False
        self.has_begun = False
        self.cpu = Tally()

    def run(self) -> None:
        """Read each device once, in order."""
        began = time.thread_time_ns()
        self._pass(TURNS.begin())
        self.cpu.total = time.thread_time_ns() - began

    def _pass(self, since: Since | None) -> list[Result]:
        """Read each device once; `since` is from before the worker's last sleep."""
        self.has_begun = True
        done: list[Result] = []
        since = TURNS.look(since, 0)
        for track in self.tracks:
            if self.is_abandoned:
                return done
            self.current = track
            result = read_one(track)
            if self.is_abandoned:
                return done
            if result is not None:
                done.append((track, result))
                self.results.append(done[-1])  # at once: what was read before a device that hangs counts
            since = TURNS.look(since, len(self.tracks))
        self.current = None
        return done

    def unread(self) -> list[Track]:
        """The devices that the hop did not come to, after it was abandoned."""
        if self.current is None:
            return []
        return list(self.tracks[self.tracks.index(self.current) + 1 :])


class Burst(Hop):
    """Reads some devices again and again at a quick pace, without a hop for each read.

    It ends at its end instant, when told, or when `is_done` says so after a pass. Its results can be taken while it
    goes on.
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
        now, wait, stop = self._clock.monotonic_ns, self._clock.wait, self.stop
        due, since = now(), TURNS.begin()
        while not self.is_abandoned:
            done = self._pass(since)
            if due >= self._until_ns or (self._is_done is not None and self._is_done(done)):
                break
            period = self._period_ns
            if self._jitter:
                period = int(period * (1 + self._jitter * (2 * random() - 1)))
            due, since = max(due + period, now() + NS_PER_MS // 2), TURNS.begin()
            if wait(stop, due):
                break
        self.cpu.total = time.thread_time_ns() - began


class Ticker(Hop):
    """Reads devices at every tick, for as long as it is let: its worker waits for the ticks by itself.

    A hop for each would have the loop wake to hand it over and wake again for its answer, with all that lies between:
    half of what an engine costs that does nothing else.

    Args:
        tracks: All devices; read are those that are read at ticks and not by a burst just then.
        clock: The engine's.
        due_ns: The first tick, monotonic nanoseconds.
        interval_ns: From each to the next.
        tell: Called in the worker after each that is not told yet; raises `RuntimeError` if there is nobody any more to
            be told.
        is_urgent: Asked in the worker at a tick that need not be told yet, whether it must be.

    Attributes:
        all: All devices; may be set anew at any time.
        due_ns: The next tick.
        interval_ns: From each to the next.
        missed: Ticks that came too late and were dropped.
        quiet_to_ns: Ticks up to this instant need not be told, as long as all devices answer: what they read waits.
        is_told: True from the telling of a tick until who was told sets it False: who is behind finds then what all
            ticks since have read.
        stop: Set it to end the ticks.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        *,
        clock: Clock,
        due_ns: int,
        interval_ns: int,
        tell: Callable[[], object],
        is_urgent: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(())
        self.all = tracks
        self.due_ns = due_ns
        self.stop = threading.Event()
        self._clock = clock
        self.interval_ns = interval_ns
        self._tell = tell
        self._is_urgent = is_urgent
        self.missed = Tally()
        self.quiet_to_ns = 0
        self.is_told = False

    def run(self) -> None:
        """Read at every tick until told to stop, or abandoned."""
        began, since = time.thread_time_ns(), TURNS.begin()
        while not self._clock.pause(self.stop, self.due_ns):
            late = (self._clock.monotonic_ns() - self.due_ns) // self.interval_ns
            if late < 0:
                continue  # some Pythons wait by the wall clock, which was set
            self.missed.total += late
            self.due_ns += (late + 1) * self.interval_ns
            self.tracks = [t for t in self.all if t.is_readable and not t.is_quick and not t.is_in_burst]
            done = self._pass(since)
            since = TURNS.begin()
            self.cpu.total = time.thread_time_ns() - began
            if self.is_abandoned:
                return
            if not self._may_wait(done) and not self._say():
                return
        if self.results:
            self._say()  # the last that was read, where nobody was told of it

    def _may_wait(self, done: Sequence[Result]) -> bool:
        """Whether a tick need not be told."""
        is_whole = len(done) == len(self.tracks) and all(isinstance(result, Reading) for _, result in done)
        return self.due_ns <= self.quiet_to_ns and is_whole and not self._is_urgent()

    def _say(self) -> bool:
        """Tell of what was read, unless that is on its way; False if there is nobody any more."""
        if not self.is_told:
            self.is_told = True
            try:
                self._tell()
            except RuntimeError:
                return False  # the loop has closed
        return True
