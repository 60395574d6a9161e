"""Gets the workers their turn beside a thread that gives Python's global lock away and takes it back at once.

Who waits for the lock asks its holder for it after the interpreter's switch interval (5 ms), and the holder then waits
until another thread has it. But a thread that is woken meanwhile, because the lock was given away, begins to wait anew
if it comes too late (`take_gil` in CPython's Python/ceval_gil.h, from 3.12 on ceval_gil.c). Beside a loop that does a
little Python and then a system call, again and again, it always comes too late, and never asks: a tick then waits for
seconds. An asyncio loop that is never idle is such a one, since it looks after its sockets at each turn.

Guarantees: the interval is touched only where a worker was seen to starve so, and is shorter then than the time between
two such moments; it is what it was once the engine ends, or what somebody else has set meanwhile.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from aiocarbon._logging import get_logger

log = get_logger("turns")

LEAST_S: Final = 50e-6
"""Shortest interval: Linux wakes no thread more punctually (prctl(2), PR_SET_TIMERSLACK)."""

SHARE: Final = 0.25
"""Of the time between two moments in which the lock is free: a wait so long ends before the next one."""

WORTH_NS: Final = 50_000_000
"""Who was quicker has not starved."""

WAKES: Final = 48
"""Beside threads that keep the lock until they are asked for it, a read is woken some 20 times at most: two or three
times whenever it takes the lock. Beside one that never is asked, hundreds of times."""


class Since(NamedTuple):
    """When a worker was last looked at: nanoseconds, and how often it had given the processor away by then."""

    t_ns: int
    wakes: int


class Turns:
    """The switch interval of the process, as far as it is ours.

    Args:
        wakes: How often the calling thread has given the processor away of itself; None where no system call tells.
        get: Tells the interval, seconds.
        put: Sets it.
        clock: Nanoseconds.
    """

    def __init__(
        self,
        wakes: Callable[[], int] | None,
        *,
        get: Callable[[], float] = sys.getswitchinterval,
        put: Callable[[float], None] = sys.setswitchinterval,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._wakes = wakes
        self._get = get
        self._put = put
        self._clock = clock
        self._lock = threading.Lock()
        self._found_s: float | None = None  # what it was; None while it is not ours
        self._ours_s = 0.0

    def begin(self) -> Since | None:
        """Look after the calling thread from now on; None where nothing can be told of it."""
        return None if self._wakes is None else Since(self._clock(), self._wakes())

    def look(self, since: Since | None, reads: int) -> Since | None:
        """See, in the same thread, whether it has starved, and let it do so no more.

        Args:
            since: From `begin`, or from the last look.
            reads: How many devices it has read since then, at most.

        Returns:
            What the next look is to be given.
        """
        if since is None or self._wakes is None or (took_ns := (now_ns := self._clock()) - since.t_ns) < WORTH_NS:
            return since
        now = Since(now_ns, self._wakes())
        wakes = now.wakes - since.wakes
        if wakes > WAKES * (reads + 1):
            self._shorten(max(SHARE * took_ns / wakes * 1e-9, LEAST_S))
        return now

    def give_back(self) -> None:
        """Let the interval be what it was, unless somebody else has set it."""
        with self._lock:
            found_s, self._found_s = self._found_s, None
            if found_s is not None and self._get() == self._ours_s:
                self._put(found_s)

    def renew(self) -> None:
        """In a forked child, which has none of the workers."""
        self._lock = threading.Lock()
        self.give_back()

    def _shorten(self, to_s: float) -> None:
        with self._lock:
            now_s = self._get()
            if now_s <= to_s:
                return
            if self._found_s is None or now_s != self._ours_s:
                self._found_s = now_s
            self._put(to_s)
            self._ours_s = self._get()  # in whole microseconds
        log.debug("turns.short", interval_s=to_s, was_s=now_s)


def _wakes() -> Callable[[], int] | None:
    try:
        import resource

        whose = resource.RUSAGE_THREAD
    except (ImportError, AttributeError):  # not a Linux
        return None
    return lambda: resource.getrusage(whose).ru_nvcsw


TURNS: Final = Turns(_wakes())

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TURNS.renew)
