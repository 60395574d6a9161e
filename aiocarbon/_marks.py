"""The async skin of epochs and children: awaited, entered and iterated marks over the engine's verbs."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from aiocarbon._engine.bridge import answer
from aiocarbon._engine.marks import Marks, Round, warn_unused
from aiocarbon.errors import AiocarbonError
from aiocarbon.span import Span, WorkSpan

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.report import EpochReport
    from aiocarbon._core.span_report import ChildReport
    from aiocarbon._engine.children import ChildHandle
    from aiocarbon._engine.tape import Tape

__all__ = ["Child", "ChildVerbs", "EpochMark", "EpochVerbs", "Epochs", "StepVerbs"]

FOR_ANSWER = "for an answer to on_prediction"


class StepVerbs:
    """The verbs inside epochs, which wait for nothing: the same for a tracker and its children, async or not."""

    _handle: Marks

    def step(self, n: int = 1, *, total: int | None = None) -> None:
        """Count progress inside the epoch: no wait, no input or output.

        Args:
            n: Steps done since the last call, an increment.
            total: Steps of the whole epoch, if known.

        Raises:
            UsageError: The tracker was not entered.
            BudgetExceededError: The run's budget is used up.
        """
        self._handle.step(n, total)

    @property
    def _tape(self) -> Tape:
        raise NotImplementedError

    _owner = ""  # a child's name

    def span(
        self,
        name: str,
        *,
        weight: float | None = None,
        device: Any = None,
        every: int | None = None,
        count: int | None = None,
        **tags: Any,
    ) -> Span:
        """A named stretch of the program, whose share of the energy the report tells by name.

        ```python
        async with tracker.span("rollout", actor=3):
            ...
        ```

        It nests, overlaps, and follows `contextvars` through tasks, `to_thread` and task groups; entering and leaving
        wait for nothing. It is a decorator too. The energy is split among the open spans as `attribution` says; of
        spans inside one another the innermost takes a share.

        Args:
            name: Its name; 200 characters of it are kept.
            weight: Its weight for `attribution="weight"`, 1e-6 to 1e12 (tokens, steps); 1 if none is told.
            device: For `attribution="device"`: the device whose energy it takes, by id, or a GPU by its number.
            every: It is work that comes after each so many epochs (a validation, a checkpoint): predictions count such
                work apart.
            count: Likewise, so many times in the whole run.
            **tags: What tells it from others of its name; each set of tags is told apart inside the name.
        """
        if every is None and count is None:
            return Span(self._tape, name, weight, device, tags, self._owner)
        return WorkSpan(self._tape, name, weight, device, tags, self._owner).paced(every, count)


class EpochVerbs(StepVerbs):
    """The verbs of epochs, for asyncio, uvloop and trio."""

    def epoch_start(self) -> None:
        """Move the begin of the epoch that is awaited next to now; a clock read, waits for nothing."""
        self._handle.begin_epoch(time.monotonic_ns(), opens=False)

    def epoch(self) -> EpochMark:
        """The border of an epoch; nothing happens at the call.

        Awaited, it ends the present epoch, begins the next, and gives the `EpochReport`; it waits at most 50 ms for
        readings. Entered (`async with tracker.epoch() as e:`), it bounds one epoch exactly, and `e.report` is its
        report afterwards. The first use fixes the style of the run.
        """
        return EpochMark(self._handle)

    def epochs(self, n: int | None = None) -> Epochs:
        """Iterate over epochs that mark themselves: `async for i in tracker.epochs(100)`.

        Args:
            n: How many the run has; below 1 there is none to loop over, as with `range`; None: without end. A run that
                resumes begins with the epoch that it resumes with. Leaving by `break` ends the last one there, as
                partial.

        Raises:
            ConfigError: It is no number of epochs.
        """
        return Epochs(self._handle, n)


class ChildVerbs(StepVerbs):
    """What the async and the blocking child have in common."""

    _handle: ChildHandle

    def __init__(self, handle: ChildHandle) -> None:
        self._handle = handle
        self._owner = handle.name

    @property
    def name(self) -> str:
        """Its name."""
        return self._handle.name

    @property
    def _tape(self) -> Tape:
        return self._handle.run.tape

    def report(self) -> ChildReport:
        """What it has used, out of the newest published report of its run; final after the tracker's block."""
        return self._handle.report()


class Child(ChildVerbs, EpochVerbs):
    """A part of a run: the same verbs, its own epochs and steps, and the energy of its spans.

    ```python
    actor = tracker.child("actor-3")
    async with actor:
        with actor.span("rollout"):
            ...
        epoch = await actor.epoch()
    ```

    Entering, or `start()`, begins its first epoch; without them that begins where the child was made. A child owns the
    energy of its spans, and of all spans inside those; without spans it owns none.
    """

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Begin its first epoch here; waits for nothing."""
        self._handle.start(time.monotonic_ns())

    async def aclose(self) -> None:
        """End it: an epoch that was entered and not left is partial. Waits for nothing, safe to call twice."""
        self._handle.leave(time.monotonic_ns())


class EpochMark:
    """What `tracker.epoch()` returns: awaited it is a border, entered it is an epoch.

    Attributes:
        report: The epoch's report, once it has ended; None before.
    """

    def __init__(self, handle: Marks) -> None:
        self._handle = handle
        self._is_used = False
        self.report: EpochReport | None = None

    def __await__(self) -> Generator[Any, Any, EpochReport]:
        now = time.monotonic_ns()
        self._is_used = True
        outcome = yield from wait_for(self._handle, self._handle.mark(now)).__await__()
        self.report = self._handle.epoch_report(outcome)
        yield from heed(self._handle, outcome).__await__()
        return self.report

    async def __aenter__(self) -> Self:
        self._is_used = True
        self._handle.begin_epoch(time.monotonic_ns())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        future = self._handle.end_epoch(time.monotonic_ns(), is_partial=error is not None)
        if error is not None:
            return  # the mark is set; what left the epoch is not to be delayed by its report
        outcome = await wait_for(self._handle, future)
        self.report = self._handle.epoch_report(outcome)
        await heed(self._handle, outcome)

    def __del__(self) -> None:
        if not self._is_used:
            warn_unused("tracker.epoch()")


@dataclass(slots=True)
class Count:
    """How far an iteration over epochs is, of however many loops.

    Attributes:
        n: Of how many; None: without end.
        next: Number of the next one.
    """

    n: int | None
    next: int


class EpochsBase:
    """What the async and the blocking iterator over epochs have in common.

    Each loop over one takes an iterator of its own, which nobody else holds: Python lets go of it where the loop is
    left (by `break`, `return` or an error), and the epoch that is open ends there, as partial.
    """

    _is_begun = False

    def __init__(self, handle: Marks, n: int | None) -> None:
        self._handle = handle
        self._count = Count(None if n is None else handle.declare(n), handle.first_epoch)
        self._round = Round(is_loop=False)

    def _for_loop(self) -> Self:
        made = copy.copy(self)
        made._round, made._is_begun = Round(is_loop=True), False
        return made

    def _end(self, t_ns: int) -> Future[Any] | None:
        self._is_begun = False
        return self._handle.end_epoch(t_ns, is_partial=False, by=self._round)

    def _begin(self, t_ns: int) -> int | None:
        """Begin the next one; None if there is none."""
        count = self._count
        if count.n is not None and count.next >= count.n:
            return None
        self._handle.begin_epoch(t_ns, by=self._round)
        self._is_begun = True
        count.next += 1
        return count.next - 1

    def __del__(self) -> None:
        if self._is_begun:
            with contextlib.suppress(AiocarbonError):  # of a strict run: there is nobody to raise it to
                self._handle.leave_epoch(time.monotonic_ns(), self._round)


class Epochs(EpochsBase):
    """An async iterator over epochs that marks their borders; leaving it by `break` leaves the last one partial."""

    def __aiter__(self) -> Self:
        return self._for_loop()

    async def __anext__(self) -> int:
        now = time.monotonic_ns()
        if self._is_begun:
            outcome = await wait_for(self._handle, self._end(now))
            if await heed(self._handle, outcome):
                now = time.monotonic_ns()
        index = self._begin(now)
        if index is None:
            raise StopAsyncIteration
        return index


async def heed(handle: Marks, outcome: EpochReport | None) -> bool:
    """Act on the budget and ask about the prediction at the end of an epoch.

    Args:
        handle: The run.
        outcome: The epoch's report; None where nothing was marked, and so nobody is asked.

    Returns:
        True if the training paused for the answer to a question that is put once: the next epoch begins after it.

    Raises:
        BudgetExceededError: The budget is used up.
        TrainingStoppedError: The callback said False.
    """
    handle.heed_budget()
    await handle.verdicts.ask(outcome.prediction if outcome is not None else None)
    paused_s = handle.verdicts.answered_s()
    if paused_s is not None:
        await wait_for(handle, handle.paused(time.monotonic_ns(), paused_s, FOR_ANSWER))
    return paused_s is not None


async def wait_for(handle: Marks, future: Future[Any] | None) -> Any:
    """Await an answer of the engine; its errors are treated as the run wants them, None stands for no answer."""
    if future is None:
        return None
    try:
        return await answer(future, handle.mark_limit_s)
    except (AiocarbonError, TimeoutError) as error:
        handle.fail(error)
        return None


class BudgetEvent:
    """An event that is set once the run's budget is used up."""

    def __init__(self, handle: Marks) -> None:
        self._handle = handle

    def is_set(self) -> bool:
        """True once the budget is used up."""
        return self._handle.verdicts.exceeded.done()
