"""One thread's CPU time, divided among the spans of a run by whose code ran; for `attribution="cpu"`.

Between two edges (a step of a followed task begins or ends, a span is entered or left) a thread's CPU time has one
payer:

- inside a step of a followed task: the innermost open span of that task's context;
- in plain code: the innermost span that was entered in that thread;
- in a task that cannot be followed, since it began before its loop was (the one that entered the tracker): between the
  steps of others is told apart whether it ran, by what it waits for. If it alone did, the innermost of the spans that
  it entered itself pays, and with it for what the loop, callbacks, and such tasks without spans did in between; if two
  did, nobody pays;
- else, as in callbacks and in the loop itself: nobody.

A span that is left in another thread than it was entered in pays for what was seen until then.

The thread alone writes; the engine reads a thread's running step by its CPU clock, where the system has such
(`pthread_getcpuclockid`: not macOS, not Windows), and otherwise sees a step when it has ended.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from time import thread_time_ns
from typing import Any, Final, Protocol

NOBODYS: Final = 0
"""Stands among the ids of spans for code outside of them while one is open."""
UNOPENED: Final = -1
"""Likewise while none is."""

MOST_STRANGERS: Final = 16
"""Tasks that are not followed and are told apart, in a thread; if there are more, none of them is."""

TRIES: Final = 3
"""A thread whose edges come between two looks at it is looked at again, so often."""


class Around(Protocol):
    """A span as a chain of spans around one another."""

    @property
    def _ident(self) -> int: ...
    @property
    def _around(self) -> Around | None: ...
    @property
    def _tape(self) -> object: ...


class Book:
    """The CPU time of one thread by span.

    Attributes:
        spent: Nanoseconds by id of the span; its thread alone writes, as the next two.
        nobodys: Nanoseconds outside of spans while one was open.
        unopened: Nanoseconds while none was.
        told: How much of it the engine has told; the engine alone writes.
        gone: Ids of closed spans that its thread shall forget.
        closed: Those of them that it has not forgotten yet; the engine's.
    """

    __slots__ = ("closed", "gone", "nobodys", "spent", "told", "unopened")

    def __init__(self) -> None:
        self.spent: dict[int, int] = {}
        self.nobodys = self.unopened = 0
        self.told: dict[int, int] = {}
        self.gone: deque[int] = deque()
        self.closed: set[int] = set()

    def totals(self) -> dict[int, int]:
        """Nanoseconds by id of the span, with those outside of spans."""
        return {**self.spent, NOBODYS: self.nobodys, UNOPENED: self.unopened}

    def news(self, ident: int, total: int) -> int:
        """What a span has spent since this was asked last, nanoseconds."""
        known = self.told.get(ident, 0)
        if total <= known:
            return 0  # a step that was read while it went on, and counted to its end since
        self.told[ident] = total
        return total - known

    def close(self, ident: int) -> int:
        """What a span that has closed has spent since."""
        if ident not in self.spent or ident in self.closed:
            return 0
        more = self.news(ident, self.spent.get(ident, 0))
        self.told.pop(ident, None)
        self.closed.add(ident)
        self.gone.append(ident)
        return more


class Stranger:
    """A task with own open spans whose steps cannot be followed.

    Attributes:
        spans: They, the innermost last.
        waiter: What it waited for when it was looked at last.
    """

    __slots__ = ("spans", "waiter")

    def __init__(self) -> None:
        self.spans: list[Around] = []
        self.waiter: weakref.ref[Any] | None = None

    def has_run(self, task: Any) -> bool:
        """True if the task may have run since it was looked at last: what it waits for is another."""
        waiter = getattr(task, "_fut_waiter", None)
        if waiter is not None and self.waiter is not None and self.waiter() is waiter:
            return False
        try:
            self.waiter = None if waiter is None else weakref.ref(waiter)
        except TypeError:  # a foreign kind of future: then nobody knows
            self.waiter = None
        return True


class Clock:
    """One thread of a run, as this thread sees it.

    Args:
        tape: The run's tape.
        open_ids: Ids of its open spans.

    Attributes:
        book: What it tells.
        loop: The loop in whose steps it is known to be.
        inside: True inside a step of a followed task.
        strangers: Tasks with open spans that are not followed.
        is_crowd: True while there are more of those than are told apart.
    """

    __slots__ = (
        "__weakref__", "_cpu", "_ground", "_mark", "_open_ids", "_payer", "_tape",
        "book", "inside", "is_crowd", "loop", "strangers",
    )  # fmt: skip

    def __init__(self, tape: object, open_ids: set[int]) -> None:
        self.book = Book()
        self.loop: Any = None
        self.inside = False
        self.is_crowd = False
        self.strangers: dict[Any, Stranger] = {}
        self._tape = tape
        self._open_ids = open_ids
        self._payer: Around | None = None  # inside of steps
        self._ground: list[Around] = []  # spans entered in plain code of this thread
        clock_of = getattr(time, "pthread_getcpuclockid", None)
        self._cpu: int | None = None if clock_of is None else clock_of(threading.get_ident())
        self._mark = thread_time_ns()

    # -- steps -------------------------------------------------------------------------------------------------

    def begin(self, span: Around | None) -> Around | None:
        """Begin a step.

        Args:
            span: The innermost span of its task's context, open or not, of whichever run.

        Returns:
            What `end` wants: inside another step, as where tasks begin eagerly, who pays for the rest of that;
            `OUTSIDE` if it is in none.
        """
        now = thread_time_ns()
        used, self._mark = now - self._mark, now
        saved: Around | None = OUTSIDE
        if self.inside:
            saved = self._payer
            self._pay(saved, used)
        elif self.strangers or self._ground:
            self._pay(self._outside(None), used)
        elif self._open_ids:
            self.book.nobodys += used
        else:
            self.book.unopened += used
        while span is not None and not (span._ident and span._tape is self._tape):
            span = span._around
        self._payer = span
        self.inside = True
        return saved

    def end(self, saved: Around | None) -> None:
        """End a step."""
        now = thread_time_ns()
        used, self._mark = now - self._mark, now
        payer = self._payer
        if payer is not None and (ident := payer._ident):  # the usual case of _pay
            spent = self.book.spent
            spent[ident] = spent.get(ident, 0) + used
        else:
            self._pay(None, used)
        if saved is OUTSIDE:
            self.inside = False
            self._payer = None
        else:
            self._payer = saved

    # -- spans -------------------------------------------------------------------------------------------------

    def enter(self, span: Around, task: Any) -> None:
        """A span is entered here.

        Args:
            span: The span.
            task: The task that runs, where it is one whose steps are not followed.
        """
        self._charge(self._payer if self.inside else self._outside(task))
        if self.inside:
            self._payer = span
        elif task is None:
            self._ground.append(span)
        elif task in self.strangers or self._has_room():
            self.strangers.setdefault(task, Stranger()).spans.append(span)
        else:
            self.is_crowd = True
        if self.book.gone:
            self.sweep()

    def leave(self, span: Around, task: Any) -> None:
        """A span is left here, perhaps for a while only; it need not have been entered here."""
        self._charge(self._payer if self.inside else self._outside(task))
        if self.inside and self._payer is span:
            around = span._around
            while around is not None and not (around._ident and around._tape is self._tape):
                around = around._around
            self._payer = around
        if span in self._ground:
            self._ground.remove(span)
        stranger = self.strangers.get(task)
        if stranger is not None and span in stranger.spans:
            stranger.spans.remove(span)
            if not stranger.spans:
                del self.strangers[task]
                self.is_crowd = self.is_crowd and bool(self.strangers)

    def step_in(self, span: Around | None) -> None:
        """Be inside of a step that began before its loop was followed."""
        self._charge(self._on_ground())
        while span is not None and not (span._ident and span._tape is self._tape):
            span = span._around
        self._payer = span
        self.inside = True

    def sweep(self) -> None:
        """Forget what closed spans spent, once it was told."""
        gone = self.book.gone
        while gone:
            self.book.spent.pop(gone.popleft(), None)

    def _charge(self, payer: Around | None) -> None:
        now = thread_time_ns()
        used, self._mark = now - self._mark, now
        self._pay(payer, used)

    def _pay(self, payer: Around | None, used: int) -> None:
        ident = 0 if payer is None else payer._ident
        if ident:
            spent = self.book.spent
            spent[ident] = spent.get(ident, 0) + used
        elif self._open_ids:
            self.book.nobodys += used
        else:
            self.book.unopened += used

    def _outside(self, task: Any) -> Around | None:
        """Who pays outside of followed steps."""
        if task is not None or self.strangers:
            return self._who_ran(task)
        return self._on_ground()

    def _on_ground(self) -> Around | None:
        while self._ground and not self._ground[-1]._ident:
            self._ground.pop()  # left in another thread
        return self._ground[-1] if self._ground else None

    def _who_ran(self, running: Any) -> Around | None:
        """Who pays for what ran between two steps, or up to an edge in a task that is not followed."""
        if self.is_crowd:
            return None
        ran: list[Stranger | None] = [] if running is None or running in self.strangers else [None]
        for task, stranger in list(self.strangers.items()):
            if stranger.has_run(task) or task is running:
                ran.append(stranger)
                if task.done():  # it left them open
                    del self.strangers[task]
        if not ran:
            return self._on_ground()
        alone = ran[0]
        if len(ran) > 1 or alone is None:
            return None
        spans = alone.spans
        while spans and not spans[-1]._ident:
            spans.pop()  # left in another task
        return spans[-1] if spans else None

    def _has_room(self) -> bool:
        """Whether one more task that is not followed can be told apart."""
        if len(self.strangers) >= MOST_STRANGERS:
            for task in [task for task in self.strangers if task.done()]:
                del self.strangers[task]  # it left them open
        return len(self.strangers) < MOST_STRANGERS

    # -- in the engine's thread --------------------------------------------------------------------------------

    def read(self, current_task: Any) -> dict[int, int]:
        """Nanoseconds by span up to now, the step that goes on too.

        Args:
            current_task: Tells the task that runs in a loop.
        """
        for _ in range(TRIES):
            mark, payer = self._mark, self._running(current_task)
            spent, used = self.book.totals(), self._used(mark)
            if self._mark == mark:
                if used > 0:
                    ident = (0 if payer is None else payer._ident) or (NOBODYS if self._open_ids else UNOPENED)
                    spent[ident] = spent.get(ident, 0) + used
                return spent
        return self.book.totals()  # short steps: the next look sees this one

    def _running(self, current_task: Any) -> Around | None:
        if self.inside:
            return self._payer
        if self.strangers and self.loop is not None:
            if self.is_crowd:
                return None
            stranger = self.strangers.get(current_task(self.loop))
            return stranger.spans[-1] if stranger is not None and stranger.spans else None
        return self._ground[-1] if self._ground else None

    def _used(self, mark: int) -> int:
        if self._cpu is None:
            return 0
        try:
            return time.clock_gettime_ns(self._cpu) - mark
        except OSError:  # the thread has ended
            return 0


class _Outside:
    """No step at all."""

    _ident = 0
    _around = None
    _tape = None


OUTSIDE: Final[Around] = _Outside()
"""What `Clock.begin` returns where there is no step around."""
