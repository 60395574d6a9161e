"""Lets no fork fall amid an import of ours: the child would wait for that import's lock, and for its module, for ever.

Guarantees: what a process forks may import whatever it likes, with a run of its own or without; a fork waits only
while a thread is importing on our behalf, and for one that does not come to an end only once and shortly. Nothing is
locked here, so that nobody can wait for us: a thread's own stack tells that it imports, what it imports for aiohttp,
for a driver or for a user's meter as well as for us.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Set
from types import FrameType
from typing import Final

LIMIT_S: Final = 2.0
"""Longest wait of a fork: imports from a slow disk take longer than a training may stand still."""

LOOK_S: Final = 0.001

OURS: Final = frozenset({__name__.partition(".")[0], "anyio"})
"""Packages on whose behalf a thread imports: anyio's workers call what a user's meter has without a frame of ours."""

IMPORTING: Final = "<frozen importlib._bootstrap>"
"""Who holds an import's lock is within this file."""


class Forks:
    """The forks of a process.

    Args:
        importing: Tells which other threads are importing on our behalf, by their ids.
        limit_s: Longest wait for them, seconds.
    """

    def __init__(self, importing: Callable[[], Set[int]] | None = None, limit_s: float = LIMIT_S) -> None:
        self._importing = importing or importing_for_us
        self._limit_s = limit_s
        self._stuck: Set[int] = frozenset()  # waited for once, and importing ever since

    def wait(self) -> None:
        """Wait for the imports that are under way, before a fork."""
        deadline = time.monotonic() + self._limit_s
        pause_s = 0.0
        while True:
            # Also where there is nothing to wait for: then others have just had their turn, and come to begin no
            # import between the look and the fork.
            time.sleep(pause_s)
            found = self._importing()
            self._stuck &= found
            if not found - self._stuck:
                return
            if time.monotonic() >= deadline:
                self._stuck = found
                return
            pause_s = LOOK_S


def importing_for_us() -> Set[int]:
    """Ids of the other threads that are amid an import which code of ours, or in a worker, wants."""
    me = threading.get_ident()
    return {thread for thread, frame in sys._current_frames().items() if thread != me and _imports_for_us(frame)}


def _imports_for_us(frame: FrameType | None) -> bool:
    is_importing = False
    while frame is not None:
        if is_importing and str(frame.f_globals.get("__name__")).partition(".")[0] in OURS:
            return True
        is_importing = is_importing or frame.f_code.co_filename == IMPORTING
        frame = frame.f_back
    return False
