"""What users' threads tell of spans: edges in the order of telling, for the engine to take when it likes.

To tell costs a clock read and an append; nobody waits. Guarantees: memory is bounded however long the engine does not
come; after the run's end, and in a forked child, nothing is kept; a span that its task left open when it was cancelled
or failed closes where the task ended.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from aiocarbon._core.edges import CLOSE, TALLY, Edge
from aiocarbon._core.units import NS_PER_MS

if TYPE_CHECKING:
    from aiocarbon._core.reading import Device
    from aiocarbon._engine.steps import Steps

MOST_WAITING: Final = 1_000_000
"""Edges that wait, here or at the engine for what devices tell; while there are more, no span is opened."""

MOST_WORKS: Final = 10_000

LOOK_EVERY: Final = 256
"""Spans between two looks at how many edges wait; a power of 2."""

MOST_DIGITS: Final = 4
"""Digits of a GPU's number."""

HURRY: Final = 131_072
"""Edges that wait before the engine is called out of its turn, and given the interpreter at each look: a loop that does
nothing but open spans makes them faster than the engine gets turns to count them."""

READ_EVERY_NS: Final = 100 * NS_PER_MS
"""An edge has the meters read unless one did so long ago: between two readings energy is taken as evenly used, which
after a second may be far from true (tasks of 2 s in turn under a load that jumps: 9 % off), and costs 10 readings a
second at most."""

current: Final[ContextVar[Any]] = ContextVar("aiocarbon.span", default=None)
"""The span, of whichever run, in which a task's code runs; it may be closed."""


def _nothing(*_: object) -> None:
    """What is called for a run that never was."""


class Work(NamedTuple):
    """A span of a class of work that comes at a pace of its own, of which predictions want to know.

    Attributes:
        name: The class.
        every: It comes after each so many epochs; None: not said.
        pieces: How many the whole run has; None: not said.
        begin_ns: Where it began, monotonic.
        end_ns: Where it ended.
    """

    name: str
    every: int | None
    pieces: int | None
    begin_ns: int
    end_ns: int


class State(Enum):
    """Whether a run takes spans."""

    BEFORE = "before"
    ON = "on"
    OVER = "over"


class Opened(Protocol):
    """A span that is open."""

    def lapse(self, t_ns: int) -> None:
        """Close it at an instant, since nobody else will."""
        ...


class Tape:
    """The edges of one run.

    Args:
        call: Calls the engine out of its turn.
        on_odd: Called in the user's thread where a span is to be opened while `is_on` is False and the run is on: acts
            on a broken budget.
        now: Stamps edges, monotonic nanoseconds.
        read: Has the meters read for an edge just past, whose stamp it is given.

    Attributes:
        edges: Those that wait.
        works: Declared work that has ended and that nobody has taken.
        append: Adds one; does nothing once the run is over.
        next_id: Makes the id of a span, or of a question.
        state: Whether the run takes spans.
        is_on: True where a span may be opened without further thought.
        dropped: Spans that were not opened, since too many edges waited.
        held: Edges that the engine has taken and keeps, since devices have not told what was used in their time.
        devices: Tells the run's devices, to bind spans to.
        running_loop: Tells asyncio's loop of this thread; None where there is none.
        current_task: Tells the task that runs in a loop.
        steps: Counts CPU time, for a run whose policy wants that; None for others, and once the run is over.
        now: Stamps edges, monotonic nanoseconds.
        read_due_ns: From when on an edge has the meters read.
    """

    def __init__(
        self,
        call: Callable[[], None],
        on_odd: Callable[[], None],
        now: Callable[[], int] = time.monotonic_ns,
        read: Callable[[int], object] = _nothing,
    ) -> None:
        self.now = now
        self.read_due_ns = 0
        self._read = read
        self.edges: deque[Edge] = deque()
        self.append: Callable[[Edge], None] = self.edges.append
        self.works: deque[Work] = deque(maxlen=MOST_WORKS)
        self.next_id = itertools.count(1).__next__
        self.state = State.BEFORE
        self.is_on = False
        self.dropped = 0
        self.held = 0
        self.devices: Callable[[], Sequence[Device]] = tuple
        self.running_loop: Callable[[], Any] = _no_loop
        self.current_task: Callable[[Any], Any] = _no_task
        self.steps: Steps | None = None
        self._counted: Steps | None = None  # the same, for what the engine has still to take
        self._is_full = False
        self._call = call
        self._on_odd = on_odd
        # By the ids of tasks, which are not to be kept alive: what nobody waits for any more is to be collected.
        self._open_in: dict[int, tuple[weakref.ref[Any], set[Opened]]] = {}
        self._device_ids: dict[str, str] = {}  # of what was told and found

    # -- the run's life ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take spans from now on."""
        asyncio = sys.modules.get("asyncio")
        if asyncio is not None:  # else there is no loop of it
            self.running_loop = asyncio._get_running_loop
            self.current_task = asyncio.current_task
        _tapes.add(self)
        _heed_forks()
        self.state = State.ON  # the first span asks: the budget may be used up already

    def count_steps(self, tell: Callable[[str], None]) -> None:
        """Count the CPU time of the spans' own steps from the begin on.

        Args:
            tell: Warns, once a message.
        """
        from aiocarbon._engine.steps import Steps

        self.steps = self._counted = Steps(self, tell)

    def follow(self) -> None:
        """Follow the loop of this thread, where steps are counted: the tracker has just been entered here."""
        if self.steps is not None:
            self.steps.follow()

    def end(self) -> None:
        """Take nothing any more; what waits stays for the engine."""
        steps, self.steps = self.steps, None
        if steps is not None:
            steps.end()
        self.state = State.OVER
        self.is_on = False
        self.append = _drop
        self._open_in = {}

    @classmethod
    def ended(cls) -> Tape:
        """One that takes nothing."""
        made = cls(_nothing, _nothing)
        made.end()
        return made

    def mute(self) -> None:
        """Keep no edges any more: the engine will not come for them. Spans are entered and left as ever."""
        self.append = _drop
        self.edges.clear()

    def forget(self) -> None:
        """In a forked child: end, and keep nothing."""
        if self.steps is not None:
            self.steps.forget()  # the loops are the parent's
            self.steps = None
        self.end()
        self.edges = deque()

    # -- in the user's thread ----------------------------------------------------------------------------------

    def may_open(self) -> bool:
        """Whether a span may be opened, where `is_on` does not say so: acts on a budget that is used up.

        Raises:
            BudgetExceededError: It is, and the action is "raise".
        """
        if self.state is not State.ON:
            return False
        self.is_on = not self._is_full  # before it is asked: what is told meanwhile has the next span ask again
        try:
            self._on_odd()
        except BaseException:
            self.is_on = False
            raise
        self.dropped += self._is_full
        return not self._is_full

    def read_soon(self, t_ns: int) -> None:
        """Have the meters read, for an edge from `read_due_ns` on."""
        self.read_due_ns = t_ns + READ_EVERY_NS
        self._read(t_ns)

    def look(self) -> None:
        """See how many edges wait; called now and then."""
        waiting = len(self.edges) + self.held
        if waiting > HURRY:
            self._call()
            time.sleep(0)  # if the engine waits for the interpreter it has it for a slice, else this takes no time
        if waiting > MOST_WAITING:
            self._is_full = True
            self.is_on = False

    def ask(self, on_odd: Callable[[], None]) -> None:
        """Have somebody else asked where a span may not be opened as usual: whose budget is a whole cluster's, say."""
        self._on_odd = on_odd

    def alert(self) -> None:
        """Have the next spans ask whether they may open."""
        self.is_on = False

    def open_in(self, loop: Any) -> set[Opened] | None:
        """The open spans of the task that runs; None outside of tasks."""
        task = self.current_task(loop)
        if task is None:
            return None
        key = id(task)
        there = self._open_in.get(key)
        if there is None or there[0]() is not task:
            forget = functools.partial(self._open_in.pop, key)  # with the reference to the task, which is gone
            there = self._open_in[key] = (weakref.ref(task, forget), set())
            task.add_done_callback(self._task_done)
        return there[1]

    def _task_done(self, task: Any) -> None:
        _, left = self._open_in.pop(id(task), (None, None))
        # Asked by `exception()`, a task takes its error for seen, and asyncio would not tell of it any more.
        if left and (task.cancelled() or getattr(task, "_exception", None) is not None):
            now = self.now()
            for span in list(left):  # another thread may be leaving one
                span.lapse(now)

    def tally(self, t_ns: int, owner: str) -> int:
        """Ask what an owner's spans have used up to an instant.

        Returns:
            The question's id.
        """
        ident = self.next_id()
        self.append((t_ns, TALLY, ident, owner))
        return ident

    def close(self, t_ns: int, ident: int) -> None:
        """Tell that a span closed."""
        self.append((t_ns, CLOSE, ident))

    def device_id(self, told: str) -> str:
        """The id of a device that a span is to be bound to.

        Args:
            told: An id, the number of a GPU among those of the run, "cuda" or "cuda:1".

        Returns:
            The id; where there is no such device (yet) what was told, which will be in the report's notes.
        """
        known = self._device_ids.get(told)
        if known is not None:
            return known
        name, _, number = told.rpartition(":")
        if told == "cuda":
            number = "0"
        elif name not in ("", "cuda"):
            return told
        if number.isdecimal() and len(number) <= MOST_DIGITS:
            gpus = [device.id for device in self.devices() if device.counted and device.kind == "gpu"]
            if int(number) < len(gpus):
                known = self._device_ids[told] = gpus[int(number)]
                return known
        return told

    # -- on the engine's thread --------------------------------------------------------------------------------

    def take_works(self) -> list[Work]:
        """The declared work that has ended since the last call."""
        works = self.works
        return [works.popleft() for _ in range(len(works))]

    def take(self, at_most: int) -> list[Edge]:
        """Edges that wait, the first of them."""
        edges = self.edges
        taken = [edges.popleft() for _ in range(min(len(edges), at_most))]
        self._is_full = False  # the next span finds out, and whether the budget has been used up meanwhile
        if self._counted is not None:
            taken += self._counted.closings(taken)
        return taken

    def amounts(self, upto_ns: int) -> list[Edge]:
        """The CPU time since the last call of the spans that are open by the edges taken, if that is counted.

        Args:
            upto_ns: Up to where energy will be split next.
        """
        return [] if self._counted is None else self._counted.amounts(upto_ns)


def _drop(_: Edge) -> None:
    """What is told to a run that is over."""


def _no_loop() -> None:
    """Where asyncio was never imported there is no loop of it."""


def _no_task(_: Any) -> Any:
    """Nor a task."""


_tapes: weakref.WeakSet[Tape] = weakref.WeakSet()
_heeds_forks = False


def _heed_forks() -> None:
    global _heeds_forks
    if not _heeds_forks and hasattr(os, "register_at_fork"):
        _heeds_forks = True
        os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    for tape in list(_tapes):
        tape.forget()
