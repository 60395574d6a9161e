"""Steps of coroutines, for `attribution="cpu"`: each step's CPU time is its task's innermost open span's.

On asyncio and uvloop a task factory wraps the coroutine of every task that begins while the run is on; it hands on to
the factory that was there, which is put back at the run's end. On trio an instrument sees the steps of all tasks.
Guarantees: an error of ours never reaches a task; no frame is kept alive; after the run's end a wrapped coroutine only
passes on. Costs a step two reads of the thread's CPU clock; runs with another policy load nothing of this.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiocarbon._core.edges import CLOSE, OPEN, SPEND, Edge
from aiocarbon._engine.cpuclock import NOBODYS, OUTSIDE, UNOPENED, Around, Book, Clock
from aiocarbon._engine.tape import current

if TYPE_CHECKING:
    from aiocarbon._engine.tape import Tape

T = TypeVar("T")

Look = tuple[Book, dict[int, int]]
"""A thread's book, and what it said at an instant."""

NOT_FOLLOWED: Final = (
    "attribution=cpu knows a coroutine's own steps on asyncio and trio only: {why}; there a span is charged with what "
    "its thread's CPU clock says between the edges of spans"
)
STRANGERS: Final = (
    "attribution=cpu: several tasks with spans began before the run followed their loop: of their steps only those are "
    "told apart that nobody else's could be; enter the tracker (async with) before tasks are created"
)


class Steps:
    """Who of a run's spans spends CPU time.

    Args:
        tape: The run's tape.
        tell: Warns, once a message.

    Attributes:
        is_on: False once the run is over.
        here: Has this thread's clock, once there is one.
    """

    def __init__(self, tape: Tape, tell: Callable[[str], None]) -> None:
        self.is_on = True
        self._tape = tape
        self._tell = tell
        self.here = threading.local()
        self._threads: list[tuple[weakref.ref[Clock], Book]] = []
        self._open_ids: set[int] = set()
        self._followed: list[tuple[weakref.ref[Any], Factory]] = []
        self._instruments: list[tuple[Any, Any]] = []  # and the tokens of trio's runs
        self._final: list[Look] | None = None
        self._known: dict[int, int] = {}  # open spans and when they opened; the engine's, as all below
        self._upto_ns = 0
        self._looked_ns: int | None = None

    # -- in the user's threads ---------------------------------------------------------------------------------

    def clock(self) -> Clock:
        """The clock of this thread."""
        try:
            known: Clock = self.here.clock
        except AttributeError:
            known = self.here.clock = Clock(self._tape, self._open_ids)
            self._threads.append((weakref.ref(known), known.book))
        return known

    def enter(self, span: Around) -> None:
        """A span was entered, and its opening is not told yet."""
        clock = self.clock()
        clock.enter(span, None if clock.inside else self._stranger(clock))
        self._open_ids.add(span._ident)

    def leave(self, span: Around) -> None:
        """A span is about to be left, and its end is not told yet."""
        self.pause(span)
        self._open_ids.discard(span._ident)

    def pause(self, span: Around) -> None:
        """What runs next in this thread does not lie in a span, though it stays open."""
        clock = self.clock()
        clock.leave(span, None if clock.inside else self._stranger(clock))

    def resume(self, span: Around) -> None:
        """What runs next in this thread lies in it again."""
        clock = self.clock()
        clock.enter(span, None if clock.inside else self._stranger(clock))

    def lapse(self, ident: int) -> None:
        """A span has ended that nobody left."""
        self._open_ids.discard(ident)

    def _stranger(self, clock: Clock) -> Any:
        """The task that runs here outside of followed steps; None in plain code."""
        loop = self._tape.running_loop()
        if loop is None:
            if "trio" in sys.modules:
                self._follow_trio(clock)
            return None
        if clock.loop is not loop:
            self.follow()
        task = self._tape.current_task(loop)
        if task is not None and clock.strangers and task not in clock.strangers:
            self._tell(STRANGERS)
        return task

    # -- loops -------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Follow the tasks that begin from now on in the loop that runs in this thread, if one does."""
        loop, clock = self._tape.running_loop(), self.clock()
        if loop is None:
            if "trio" in sys.modules:
                self._follow_trio(clock)
            return
        clock.loop = loop
        if any(known() is loop for known, _ in self._followed):
            return
        try:
            factory = Factory(loop.get_task_factory(), self)
            loop.set_task_factory(factory)
            self._followed.append((weakref.ref(loop), factory))
        except Exception as error:  # of a foreign loop: whatever it is, the training goes on without
            self._tell(NOT_FOLLOWED.format(why=f"{type(loop).__name__} takes no task factory ({error!r})"))

    def _follow_trio(self, clock: Clock) -> None:
        import trio

        try:
            token: Any = trio.lowlevel.current_trio_token()
        except RuntimeError:
            return  # plain code
        if clock.loop is token:
            return
        clock.loop = token
        instrument = _instrument(self)
        trio.lowlevel.add_instrument(instrument)
        self._instruments.append((token, instrument))
        clock.step_in(current.get())

    def end(self) -> None:
        """End with the run: take the last figures, and put factories back."""
        if not self.is_on:
            return
        self._final = self._look()
        self.forget()
        for known, factory in self._followed:
            loop = known()
            if loop is None or loop.is_closed():
                continue
            if self._tape.running_loop() is loop:
                factory.put_back(loop)
            else:
                try:
                    loop.call_soon_threadsafe(factory.put_back, loop)
                except RuntimeError:
                    continue  # it closed just now
        for token, instrument in self._instruments:
            self._put_away(token, instrument)

    def _put_away(self, token: Any, instrument: Any) -> None:
        import trio

        try:
            token.run_sync_soon(trio.lowlevel.remove_instrument, instrument)
        except trio.RunFinishedError:
            return

    def forget(self) -> None:
        """End where nothing shall be told any more, as in a forked child."""
        self.is_on = False
        for _, factory in self._followed:
            factory.steps = None

    # -- in the engine's thread --------------------------------------------------------------------------------

    def closings(self, edges: Iterable[Edge]) -> list[Edge]:
        """The amounts of spans that have closed, since they were asked last.

        Args:
            edges: What was taken off the tape, in the order of telling.
        """
        amounts: list[Edge] = []
        known = self._known
        for edge in edges:
            if edge[1] == OPEN:
                known[edge[2]] = edge[0]
                if self._looked_ns is None:
                    self._looked_ns = edge[0]  # before, nobody's time was in a run's span
            elif edge[1] == CLOSE and known.pop(edge[2], None) is not None:
                spent = sum(book.close(edge[2]) for _, book in list(self._threads))
                if spent:
                    amounts.append((edge[0], SPEND, edge[2], spent))
        return amounts

    def amounts(self, upto_ns: int) -> list[Edge]:
        """The amounts of open spans since this was asked last, and nobody's.

        Args:
            upto_ns: Up to where energy will be split: what was spent since the last look counts there.
        """
        if upto_ns <= self._upto_ns or self._looked_ns is None:
            return []
        looks, now = self._look() if self._final is None else self._final, self._tape.now()
        longest, self._upto_ns, self._looked_ns = now - self._looked_ns, upto_ns, now
        by_span = self._of_open(looks, upto_ns)
        by_span[NOBODYS] = sum(min(_nobodys(book, spent), longest) for book, spent in looks)
        return [(upto_ns, SPEND, ident, spent) for ident, spent in by_span.items() if spent > 0]

    def _look(self) -> list[Look]:
        """What each thread's spans have spent so far."""
        found: list[Look] = []
        for entry in list(self._threads):
            clock, book = entry[0](), entry[1]
            found.append((book, book.totals() if clock is None else clock.read(self._tape.current_task)))
            if clock is None and not (book.spent.keys() & self._known):
                self._threads.remove(entry)  # the thread has ended, and so have its spans
        return found

    def _of_open(self, looks: list[Look], upto_ns: int) -> dict[int, int]:
        found: dict[int, int] = {}
        for book, spent in looks:
            book.closed.intersection_update(spent)
            for ident in spent.keys() & self._known:
                if self._known[ident] <= upto_ns and ident not in book.closed:
                    found[ident] = found.get(ident, 0) + book.news(ident, spent[ident])
        return found


def _nobodys(book: Book, spent: dict[int, int]) -> int:
    """What a thread spent outside of spans, while one was open, since this was asked last.

    A stretch that goes on is known by its thread's clock only, and its end may find no span open any more: so both
    kinds together are compared with what was told, less what is known to have been the other.
    """
    unopened = spent[UNOPENED]
    return max(book.news(NOBODYS, spent[NOBODYS] + unopened) - book.news(UNOPENED, unopened), 0)


class Stepped(Coroutine[Any, Any, T]):
    """A coroutine whose steps are counted; in all else it is the one that it wraps.

    Args:
        coro: That.
        steps: Of which run.
    """

    __slots__ = ("__weakref__", "_coro", "_send", "_steps")

    def __init__(self, coro: Coroutine[Any, Any, T], steps: Steps) -> None:
        self._coro = coro
        self._send = coro.send
        self._steps = steps

    def send(self, value: Any) -> Any:
        """Take a step."""
        if not self._steps.is_on:
            return self._send(value)
        try:
            clock = self._steps.here.clock
        except AttributeError:
            clock = self._steps.clock()
        around = clock.begin(current.get())
        try:
            return self._send(value)
        finally:
            clock.end(around)

    def throw(self, *told: Any) -> Any:
        """Take a step that begins with an exception."""
        if not self._steps.is_on:
            return self._coro.throw(*told)
        try:
            clock = self._steps.here.clock
        except AttributeError:
            clock = self._steps.clock()
        around = clock.begin(current.get())
        try:
            return self._coro.throw(*told)
        finally:
            clock.end(around)

    def close(self) -> None:
        """Take the last step."""
        if not self._steps.is_on:
            return self._coro.close()
        try:
            clock = self._steps.here.clock
        except AttributeError:
            clock = self._steps.clock()
        around = clock.begin(current.get())
        try:
            return self._coro.close()
        finally:
            clock.end(around)

    def __await__(self) -> Any:
        """Its steps, which so are counted too where another factory's coroutine awaits this one."""
        return Awaited(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coro, name)  # its name, its frame, what it waits for

    def __repr__(self) -> str:
        return repr(self._coro)


class Awaited:
    """A coroutine that another one awaits.

    It is a class of its own since what has `__next__` is resumed by that, which is one call more in each step.
    """

    __slots__ = ("close", "send", "throw")

    def __init__(self, coro: Stepped[Any]) -> None:
        self.send = coro.send
        self.throw = coro.throw
        self.close = coro.close

    def __next__(self) -> Any:
        return self.send(None)


class Factory:
    """A task factory that wraps coroutines, and leaves the making of tasks to the one before it.

    Args:
        former: The loop's own until then; None for the default.
        steps: Of which run; None once it is over.
    """

    def __init__(self, former: Callable[..., Any] | None, steps: Steps | None) -> None:
        self.former = former
        self.steps = steps

    def __call__(self, loop: Any, coro: Any, **more: Any) -> Any:
        """Make a task."""
        import asyncio

        if self.steps is not None and asyncio.iscoroutine(coro):  # else a task says what it thinks of it
            coro = Stepped(coro, self.steps)
        if self.former is not None:
            return self.former(loop, coro, **more)
        return asyncio.Task(coro, loop=loop, **more)

    def put_back(self, loop: Any) -> None:
        """Give the loop the former factory back; one that was set since stays, and this one only passes on."""
        if loop.get_task_factory() is not self:
            return
        former = self.former
        while isinstance(former, Factory) and former.steps is None:
            former = former.former  # of a run that ended in the meantime
        loop.set_task_factory(former)


def _instrument(steps: Steps) -> Any:
    """What trio tells of its steps."""
    import trio

    class Instrument(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if steps.is_on:
                steps.clock().begin(task.context.get(current))

        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            if steps.is_on and (clock := steps.clock()).inside:
                clock.end(OUTSIDE)

    return Instrument()
