"""Lets no fork fall amid an import of ours: the child would wait for that import's lock, and for its module, for ever.

Guarantees: what a process forks may import whatever it likes, with a run of its own or without; a fork waits only
while a thread is importing on our behalf, and for one that does not come to an end only once and shortly. A thread's
own stack tells that it imports, for a driver or for a user's meter as well as for us; who loads several modules in turn
says so, since it looks idle between two of them.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Set
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
        self.renew()

    def renew(self) -> None:
        """In a forked child: none of the parent's threads is there."""
        self._turn = threading.Condition()  # held during a fork
        self._loading: list[int] = []
        self._stuck: Set[int] = frozenset()  # waited for once, and importing ever since

    @contextlib.contextmanager
    def kept_off(self) -> Iterator[None]:
        """While several modules are loaded: no fork falls between two of them, and none is begun during a fork."""
        me = threading.get_ident()
        with self._turn:
            self._loading.append(me)
        try:
            yield
        finally:
            with self._turn:
                self._loading.remove(me)

    def wait(self) -> None:
        """Wait for the imports that are under way, before a fork; `over` is to follow."""
        deadline = time.monotonic() + self._limit_s
        # Others have their turn before the look, so that they hardly come to begin an import between it and the fork.
        time.sleep(0.0)
        self._turn.acquire()
        while True:
            found = {*self._importing(), *self._loading} - {threading.get_ident()}
            self._stuck &= found
            if not found - self._stuck:
                return
            if time.monotonic() >= deadline:
                self._stuck = found
                return
            self._turn.wait(LOOK_S)

    def over(self) -> None:
        """In the process that forked: others may import again."""
        with contextlib.suppress(RuntimeError):  # the first run began amid this fork
            self._turn.release()


def importing_for_us() -> Set[int]:
    """Ids of the other threads that are amid an import which code of ours, or in a worker, wants."""
    # Looked at twice: a thread that has its turn amid a look leaves frames behind that lead nowhere, and seems idle.
    return _seen_importing() | _seen_importing()


def _seen_importing() -> Set[int]:
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


FORKS: Final = Forks()
"""Those of this process; `_engine/host.py` has them waited for from the first run on."""
