"""The same tracker for code without a loop: `with`, plain calls, and the `track` decorator's blocking half."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from aiocarbon import _marks
from aiocarbon import tracker as _async
from aiocarbon.errors import AiocarbonError, ConfigError, EngineError, UsageError
from aiocarbon.settings import UNSET, Unset

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.report import EpochReport, Prediction, RunReport
    from aiocarbon._core.waited import CleanWait
    from aiocarbon._engine.marks import Marks
    from aiocarbon.waiting import Order

__all__ = ["Tracker", "confirm_on_terminal", "wait_until_clean"]

LOOK_S: Final = 0.1
"""A stream sees within this time that the run has ended."""


class EpochVerbs(_marks.StepVerbs):
    """The verbs of epochs for code without a loop."""

    def epoch(self) -> Epoch:
        """One epoch, to be entered: `with tracker.epoch() as e:`; `e.report` is its report afterwards."""
        return Epoch(self._handle)

    def epochs(self, n: int | None = None) -> Iterator[int]:
        """Iterate over epochs that mark themselves: `for i in tracker.epochs(100)`.

        Args:
            n: How many the run has; below 1 there is none to loop over, as with `range`; None: without end. A run that
                resumes begins with the epoch that it resumes with. Leaving by `break` ends the last one there, as
                partial.

        Raises:
            ConfigError: It is no number of epochs.
        """
        return Epochs(self._handle, n)

    def epoch_start(self) -> None:
        """Begin an epoch, which `epoch_end()` ends; a clock read, waits for nothing."""
        self._handle.begin_epoch(time.monotonic_ns())

    def epoch_end(self) -> EpochReport:
        """End the epoch that `epoch_start()` began, and give its report."""
        future = self._handle.end_epoch(time.monotonic_ns(), is_partial=False)
        outcome = wait_for(self._handle, future)
        report = self._handle.epoch_report(outcome)
        heed(self._handle, outcome)
        return report


class Tracker(_async.Verbs, EpochVerbs):
    """Tracks the energy and CO2eq of a run in a plain script.

    ```python
    with Tracker(epochs=100) as tracker:
        for _ in range(100):
            with tracker.epoch() as epoch:
                train_one_epoch()
            print(epoch.report.energy_kwh)
    report = tracker.report()
    ```

    The arguments are those of `aiocarbon.Tracker`.
    """

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(ended_well=error is None)

    def start(self) -> None:
        """Begin the run; waits at most 0.5 s for a driver that is slow.

        Raises:
            ConfigError: A value of the environment or of pyproject.toml is not accepted.
            UsageError: The tracker was started before, or on_prediction is a coroutine function.
            EngineError: The engine could not begin, and the run is strict.
        """
        from aiocarbon._engine.bridge import block

        self._handle.verdicts.refuse_coroutines()
        try:
            block(self._handle.open(), self._handle.open_limit_s)
        except (ConfigError, UsageError):
            raise
        except (AiocarbonError, TimeoutError) as error:
            self._handle.go_on_without(error)
        except BaseException:
            # Interrupted while entering: nobody will leave, so the run ends as soon as it has begun.
            self._handle.close(time.monotonic_ns(), ended_well=False)
            raise
        self._tape.follow()

    def stop(self) -> None:
        """End the run, with the last reading and the final report; safe to call twice."""
        self._end(ended_well=True)

    def _end(self, *, ended_well: bool, t_ns: int | None = None) -> None:
        future = self._handle.close(time.monotonic_ns() if t_ns is None else t_ns, ended_well=ended_well)
        if future is not None:
            self._until(future)

    def _until(self, future: Future[Any]) -> None:
        """Wait for the run's end to be made."""
        from aiocarbon._engine.bridge import block
        from aiocarbon._engine.life import CLOSE_LIMIT_S

        try:
            block(future, CLOSE_LIMIT_S)
        except (AiocarbonError, TimeoutError) as error:
            self._handle.fail(error)

    def child(self, name: str) -> Child:
        """A part of the run with epochs and steps of its own, and the energy of its spans.

        Args:
            name: Its name; the same name gives the same child.

        Raises:
            UsageError: The tracker was not entered.
        """
        return Child(self._handle.child(name))

    def clean(
        self,
        *,
        below_g_per_kwh: float | None = None,
        deadline: datetime | timedelta | float | str | None = None,
        duration: timedelta | float | str | None = None,
    ) -> CleanWait:
        """Pause the training, between epochs, while the grid is dirty, as `aiocarbon.Tracker.clean` does."""
        from aiocarbon.waiting import Order

        self._handle.begun("clean()")
        order = Order(below_g_per_kwh, deadline, duration, **self._handle.place)
        came = _waited(order)
        why = f"{_async.FOR_CLEAN}: {came.note}"
        wait_for(self._handle, self._handle.paused(time.monotonic_ns(), came.waited_s, why))
        return came

    @property
    def exceeded(self) -> Exceeded:
        """An event that is set once the budget is used up."""
        return Exceeded(self._handle)

    def snapshot(self) -> RunReport:
        """The report exactly as of now, after a reading of every meter."""
        return wait_for(self._handle, self._handle.snapshot()) or self._handle.report()

    def stream(self, interval_s: float | None = None) -> Iterator[RunReport]:
        """Live reports, one an interval, until the run ends; the last one is the final report. For a thread of its own.

        Args:
            interval_s: Seconds between two, within 0.02 to 60; None: the tracker's own interval.

        Raises:
            ConfigError: The interval is not accepted.
        """
        from aiocarbon.settings import check

        every_s = self._handle.interval_s if interval_s is None else check("interval_s", interval_s)
        due = time.monotonic()
        while self._handle.is_active:
            yield self.snapshot()
            due = max(due + every_s, time.monotonic())
            while self._handle.is_active and (rest_s := due - time.monotonic()) > 0.0:
                time.sleep(min(rest_s, LOOK_S))
        final = self._handle.final()
        if final is not None:
            self._until(final)
        yield self._handle.report()


class Exceeded(_marks.BudgetEvent):
    """An event that is set once the run's budget is used up, for threads."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the budget is used up.

        Args:
            timeout_s: Longest wait, seconds; None: no limit.

        Returns:
            Whether it is.
        """
        from concurrent.futures import wait

        wait([self._handle.verdicts.exceeded], timeout_s)
        return self.is_set()


class Child(_marks.ChildVerbs, EpochVerbs):
    """A part of a run, as `aiocarbon.tracker.Child`, for code without a loop."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin its first epoch here; waits for nothing."""
        self._handle.start(time.monotonic_ns())

    def stop(self) -> None:
        """End it: an epoch that was begun and not ended is partial. Safe to call twice."""
        self._handle.leave(time.monotonic_ns())


class Epoch:
    """One epoch of a plain script.

    Attributes:
        report: Its report, once it has ended; None before.
    """

    def __init__(self, handle: Marks) -> None:
        self._handle = handle
        self._is_used = False
        self.report: EpochReport | None = None

    def __enter__(self) -> Self:
        self._is_used = True
        self._handle.begin_epoch(time.monotonic_ns())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        future = self._handle.end_epoch(time.monotonic_ns(), is_partial=error is not None)
        if error is None:
            outcome = wait_for(self._handle, future)
            self.report = self._handle.epoch_report(outcome)
            heed(self._handle, outcome)

    def __del__(self) -> None:
        if not self._is_used:
            from aiocarbon._engine.marks import warn_unused

            warn_unused("tracker.epoch()")


class Epochs(_marks.EpochsBase):
    """An iterator over epochs that marks their borders."""

    def __iter__(self) -> Self:
        return self._for_loop()

    def __next__(self) -> int:
        now = time.monotonic_ns()
        if self._is_begun:
            outcome = wait_for(self._handle, self._end(now))
            if heed(self._handle, outcome):
                now = time.monotonic_ns()
        index = self._begin(now)
        if index is None:
            raise StopIteration
        return index


def heed(handle: Marks, outcome: EpochReport | None) -> bool:
    """Act on the budget and ask about the prediction at the end of an epoch.

    Args:
        handle: The run.
        outcome: The epoch's report; None where nothing was marked, and so nobody is asked.

    Returns:
        True if the training paused for the answer to a question that is put once: the next epoch begins after it.

    Raises:
        BudgetExceededError: The budget is used up.
        TrainingStoppedError: The callback said False.
        UsageError: The callback is a coroutine function.
    """
    handle.heed_budget()
    handle.verdicts.ask_plainly(outcome.prediction if outcome is not None else None)
    paused_s = handle.verdicts.answered_s()
    if paused_s is not None:
        wait_for(handle, handle.paused(time.monotonic_ns(), paused_s, _marks.FOR_ANSWER))
    return paused_s is not None


def wait_for(handle: Marks, future: Future[Any] | None) -> Any:
    """Wait for an answer of the engine; its errors are treated as the run wants them, None stands for no answer."""
    from aiocarbon._engine.bridge import block

    if future is None:
        return None
    try:
        return block(future, handle.mark_limit_s)
    except (AiocarbonError, TimeoutError) as error:
        handle.fail(error)
        return None


def wait_until_clean(
    *,
    below_g_per_kwh: float | None = None,
    deadline: datetime | timedelta | float | str | None = None,
    duration: timedelta | float | str | None = None,
    location: str | Unset | None = UNSET,
    intensity: float | str | os.PathLike[str] | Unset | None = UNSET,
    offline: bool | Unset = UNSET,
) -> CleanWait:
    """Wait as `aiocarbon.wait_until_clean` does, in a plain script; Ctrl-C ends the wait.

    Arguments, result and errors are the same.
    """
    from aiocarbon.waiting import Order

    return _waited(Order(below_g_per_kwh, deadline, duration, location=location, intensity=intensity, offline=offline))


def _waited(order: Order) -> CleanWait:
    try:
        return order.begin().result()
    except EngineError as error:
        return order.failed(error)
    finally:
        order.end()


def confirm_on_terminal(prediction: Prediction) -> bool:
    """Ask y/n as `aiocarbon.confirm_on_terminal` does, in a plain script; Ctrl-C passes through.

    Args:
        prediction: What the tracker predicts.
    """
    import threading

    from aiocarbon.confirm import asked

    return asked(prediction, threading.Event())


confirm_on_terminal.asks_once = True  # type: ignore[attr-defined]  # functions take attributes
