"""The borders of epochs as users' threads set them, for a run and for its children, so that no verb is written twice.

All methods may be called from any thread and wait for nothing.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Any

from aiocarbon.settings import check

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.report import EpochReport
    from aiocarbon._engine.verdicts import Verdicts

MOST_STEPS = 10**15
"""As many steps of an epoch are a mistake; beyond, sums would leave the numbers that all of the tool can hold."""


LEFT = (
    "an epoch of epochs() was open still where another began, and nothing told when its loop was left: it is partial, "
    "and reaches to there"
)


class Style(Enum):
    """How the epochs of a run are marked; the first use fixes it."""

    AWAITED = "awaited"
    ENTERED = "entered"


class Round:
    """One iteration over epochs, known by its identity.

    Attributes:
        is_loop: A loop has it for itself, so it is told where the loop is left.
    """

    __slots__ = ("is_loop",)

    def __init__(self, *, is_loop: bool) -> None:
        self.is_loop = is_loop


class Marks(ABC):
    """The epochs and the progress of a run, or of a child of one.

    Attributes:
        is_active: Whether the run goes on, in the process that began it.
        verdicts: What is decided at its epochs' ends.
        mark_limit_s: Longest wait for a mark's report, seconds.
    """

    is_active: bool
    verdicts: Verdicts
    mark_limit_s: float

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may use the tracker amid a verb
        self._style: Style | None = None
        self._is_open = False  # inside an entered epoch
        self._opener: Round | None = None  # whose epoch that is, of those who iterate
        self._steps = 0
        self._epoch_total: int | None = None
        self._last_epoch: EpochReport | None = None
        self._epochs: int | None = None
        self.first_epoch = 0  # with which this start of the run begins

    # -- what differs ------------------------------------------------------------------------------------------

    @abstractmethod
    def _may_mark(self, verb: str) -> bool:
        """Whether marks may be set.

        Raises:
            UsageError: The run has not begun.
        """

    @abstractmethod
    def tell(self, message: str) -> None:
        """Warn, once a message."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Treat an error of the instrument.

        Raises:
            EngineError: The run is strict.
        """

    @abstractmethod
    def heed_budget(self) -> None:
        """Act if the run's budget is used up.

        Raises:
            BudgetExceededError: It is, and the action is "raise".
        """

    @abstractmethod
    def paused(self, t_ns: int, waited_s: float, why: str) -> Future[Any] | None:
        """Take a pause of the training that ends at an instant."""

    @abstractmethod
    def _border(self, t_ns: int, steps: int) -> Future[Any] | None:
        """End an epoch and begin the next."""

    @abstractmethod
    def _open(self, t_ns: int, *, is_entered: bool) -> Future[Any] | None:
        """Begin an epoch, or move the begin of the present one."""

    @abstractmethod
    def _close(self, t_ns: int, steps: int, *, is_partial: bool) -> Future[Any] | None:
        """End the epoch that was begun."""

    # -- epochs ------------------------------------------------------------------------------------------------

    def mark(self, t_ns: int) -> Future[Any] | None:
        """End an epoch and begin the next (the awaited style); None if nothing is to be done."""
        if not self._may_mark("epoch()"):
            return None
        with self._lock:
            if self._is_open:
                self.tell("an awaited epoch() inside an entered one marks nothing")
                return None
            if self._style is Style.ENTERED:
                self.tell("this run's epochs are entered; an awaited epoch() marks nothing")
                return None
            self._style = Style.AWAITED
        return self._border(t_ns, self._take_steps())

    def begin_epoch(self, t_ns: int, *, opens: bool = True, by: Round | None = None) -> Future[Any] | None:
        """Begin an epoch (the entered style), or move the begin of the present one (the awaited style).

        Args:
            t_ns: When, monotonic.
            opens: False where nothing could end what would be opened: then a begin is moved or nothing happens.
            by: Who iterates; None: it is entered.
        """
        if not self._may_mark("epoch_start()"):
            return None
        open_by = self._opener
        # An epoch that is entered inside a loop that goes on is that loop's, marked twice.
        if opens and open_by is not None and open_by is not by and (by is not None or not open_by.is_loop):
            self.tell(LEFT)
            self.leave_epoch(t_ns, open_by)
        with self._lock:
            if self._is_open:
                self.tell("an epoch is open already; its begin stays")
                return None
            if not opens and self._style is Style.ENTERED:
                self.tell("this run's epochs are entered; epoch_start() moves nothing")
                return None
            if opens and self._style is not Style.AWAITED:
                self._style = Style.ENTERED
                self._is_open, self._opener = True, by
            is_entered = self._is_open
        self._take_steps()
        return self._open(t_ns, is_entered=is_entered)

    def end_epoch(self, t_ns: int, *, is_partial: bool, by: Round | None = None) -> Future[Any] | None:
        """End the epoch that was begun.

        Args:
            t_ns: When, monotonic.
            is_partial: It was broken off.
            by: Who iterates, and ends no epoch of another iteration; None: it was entered.
        """
        if not self._may_mark("epoch_end()"):
            return None
        with self._lock:
            if by is not None and self._opener not in (None, by):
                return None
            if not self._is_open:
                self.tell("epoch_end() without an epoch that is open marks nothing")
                return None
            self._is_open, self._opener = False, None
        return self._close(t_ns, self._take_steps(), is_partial=is_partial)

    def leave_epoch(self, t_ns: int, by: Round) -> None:
        """End the epoch that an iteration left open, as partial; nothing where it left none, or the run has ended."""
        if self._opener is by and self.is_active:
            self.end_epoch(t_ns, is_partial=True, by=by)

    def epoch_report(self, outcome: EpochReport | None) -> EpochReport:
        """What an epoch's verb returns: the report, or what is known where nothing could be marked."""
        if outcome is not None:
            self._last_epoch = outcome
            return outcome
        if self._last_epoch is not None:
            return self._last_epoch
        from aiocarbon._engine.alone import unknown_epoch

        return unknown_epoch()

    def declare(self, epochs: int) -> int:
        """Say how many epochs there will be, where the settings do not.

        Returns:
            That number, as a plain one: 0 where it is below, as for `range`.

        Raises:
            ConfigError: It is no number of epochs.
        """
        is_none = hasattr(epochs, "__index__") and not isinstance(epochs, bool) and epochs <= 0
        self._epochs = number = 0 if is_none else int(check("epochs", epochs))
        return number

    # -- progress ----------------------------------------------------------------------------------------------

    def step(self, n: int, total: int | None) -> None:
        """Count steps of the present epoch.

        Raises:
            BudgetExceededError: The run's budget is used up.
        """
        if n.__class__ is int and 0 <= n <= MOST_STEPS:  # nearly always, so it is looked at first
            self._steps += n
        else:
            self._steps += self._count("n", n) or 0
        if total is not None and total is not self._epoch_total:
            self._epoch_total = self._count("total", total)

    def _count(self, name: str, value: Any) -> int | None:
        """A number of steps; None for what is none, which is told once and otherwise harms nothing."""
        try:
            count = int(value)
            if count == value and 0 <= count <= MOST_STEPS:
                return count
        except (TypeError, ValueError, OverflowError):  # a text, an array, NaN, infinity
            pass
        self.tell(f"step(): a {name} that is no whole number of steps from 0 on counts for nothing")
        return None

    def _take_steps(self) -> int:
        steps, self._steps = self._steps, 0
        return steps


def warn_unused(what: str) -> None:
    """Warn about an object that was neither awaited nor entered, where Python warns about coroutines."""
    import warnings

    warnings.warn(f"{what} was neither awaited nor entered: it marked nothing", RuntimeWarning, stacklevel=2)
