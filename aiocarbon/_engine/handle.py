"""The user's side of a run: what `Tracker` and `aiocarbon.sync.Tracker` share, so that no verb is written twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from aiocarbon._engine.device_sync import LIMIT_S as SYNC_LIMIT_S
from aiocarbon._engine.device_sync import prepare, waited
from aiocarbon._engine.life import DEAD, Life
from aiocarbon.errors import EngineError
from aiocarbon.settings import check

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.report import EpochReport, Prediction

MARK_LIMIT_S = 1.0
MOST_STEPS = 10**15
"""As many steps of an epoch are a mistake; beyond, sums would leave the numbers that all of the tool can hold."""

LEAST_PAUSE_S = 1.0
"""Less is no pause that a reader of the report must know of."""

PLACE = ("location", "intensity", "offline")


class Style(Enum):
    """How the epochs of a run are marked; the first use fixes it."""

    AWAITED = "awaited"
    ENTERED = "entered"


class Handle(Life):
    """One run with its epochs, its progress and its pauses, as its user's threads see it."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self._style: Style | None = None
        self._is_open = False  # inside an entered epoch

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
        steps, session = self._take_steps(), self.begun("epoch()")
        return self._call_mark(t_ns, lambda at: session.border(at, steps=steps))

    def begin_epoch(self, t_ns: int, *, opens: bool = True) -> Future[Any] | None:
        """Begin an epoch (the entered style), or move the begin of the present one (the awaited style).

        Args:
            t_ns: When, monotonic.
            opens: False where nothing could end what would be opened: then a begin is moved or nothing happens.
        """
        if not self._may_mark("epoch_start()"):
            return None
        with self._lock:
            if self._is_open:
                self.tell("an epoch is open already; its begin stays")
                return None
            if not opens and self._style is Style.ENTERED:
                self.tell("this run's epochs are entered; epoch_start() moves nothing")
                return None
            if opens and self._style is not Style.AWAITED:
                self._style = Style.ENTERED
                self._is_open = True
            is_entered = self._is_open
        self._take_steps()
        session = self.begun("epoch_start()")

        async def verb(engine: Any) -> None:
            async with engine.order(session):
                session.open_epoch(t_ns, is_entered=is_entered)
            engine.watch(t_ns)

        return self._host.call(verb) if self._host is not None else None

    def paused(self, t_ns: int, waited_s: float, why: str) -> Future[Any] | None:
        """Take a pause of the training that ends at an instant: it lies in no epoch, and the report tells it.

        Args:
            t_ns: Its end, monotonic.
            waited_s: How long it was.
            why: What for, in words that follow "the training paused for 5 s".
        """
        if waited_s < LEAST_PAUSE_S or not self._may_mark("clean()"):
            return None
        self.tell(f"the training paused for {waited_s:.0f} s {why}")
        with self._lock:
            if self._is_open:
                self.tell("a pause inside an epoch, such as of clean(), is part of that epoch")
                return None
        self._take_steps()
        session, moves = self.begun("clean()"), self._style is not Style.ENTERED

        async def verb(engine: Any) -> None:
            async with engine.order(session):
                session.foresight.pause()
                if moves:  # else the next epoch begins where it is entered
                    session.open_epoch(t_ns, is_entered=False)
            engine.watch(t_ns)

        return self._host.call(verb) if self._host is not None else None

    @property
    def place(self) -> dict[str, Any]:
        """The arguments that tell where the run is and whose intensity counts."""
        return {field: self._arguments[field] for field in PLACE if field in self._arguments}

    def end_epoch(self, t_ns: int, *, is_partial: bool) -> Future[Any] | None:
        """End the epoch that was begun."""
        if not self._may_mark("epoch_end()"):
            return None
        with self._lock:
            if not self._is_open:
                self.tell("epoch_end() without an epoch that is open marks nothing")
                return None
            self._is_open = False
        steps, session = self._take_steps(), self.begun("epoch_end()")
        return self._call_mark(t_ns, lambda at: session.close_epoch(at, steps=steps, is_partial=is_partial))

    def _call_mark(self, t_ns: int, act: Callable[[int], EpochReport]) -> Future[Any] | None:
        """Have the engine set a mark, after the device's queued work if the run wants that."""
        session, host = self.begun("epoch()"), self._host
        if host is None or host.is_dead:
            self.fail(EngineError(DEAD))
            self._last_epoch = act(t_ns)
            session.publish(t_ns)
            return None
        wait = None if self._device_sync is None else prepare(self._device_sync)

        async def verb(engine: Any) -> Any:
            async with engine.order(session):
                at = await waited(engine, wait, t_ns, self.tell)
                return await engine.mark(session, lambda: act(at))

        return host.call(verb)

    @property
    def mark_limit_s(self) -> float:
        """Longest wait for a mark's report, seconds."""
        return MARK_LIMIT_S if self._device_sync is None else MARK_LIMIT_S + SYNC_LIMIT_S

    def _may_mark(self, verb: str) -> bool:
        if self._is_forked:
            return False
        self.begun(verb)
        if self._is_over:
            self.tell(f"{verb} after the run has ended marks nothing")
            return False
        return True

    def epoch_report(self, outcome: EpochReport | None) -> EpochReport:
        """What an epoch's verb returns: the report, or what is known where nothing could be marked.

        Raises:
            UsageError: Nothing was ever measured.
        """
        if outcome is not None:
            self._last_epoch = outcome
            return outcome
        if self._last_epoch is not None:
            return self._last_epoch
        from aiocarbon._engine.alone import unknown_epoch

        return unknown_epoch()

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
        if self.verdicts.budget is not None:
            self.heed_budget()

    def _count(self, name: str, value: Any) -> int | None:
        """A number of steps; None for what is none, which is told once and otherwise harms nothing."""
        try:
            count = int(value)
            if count == value and 0 <= count <= MOST_STEPS:
                return count
        except (TypeError, ValueError, OverflowError):  # a text, an array, NaN, infinity
            pass
        if self._session is not None:
            self.tell(f"step(): a {name} that is no whole number of steps from 0 on counts for nothing")
        return None

    def heed_budget(self) -> None:
        """Act if the run's budget is used up; called in the user's task.

        Raises:
            BudgetExceededError: It is, and the action is "raise".
        """
        session = self._session
        if session is not None and session.budget_broken and self.is_active:
            self.verdicts.heed(session)

    def declare(self, epochs: int) -> int:
        """Say how many epochs there will be, where the settings do not.

        Returns:
            That number, as a plain one: 0 where it is below, as for `range`.

        Raises:
            ConfigError: It is no number of epochs.
        """
        is_none = hasattr(epochs, "__index__") and not isinstance(epochs, bool) and epochs <= 0
        self._epochs = number = 0 if is_none else int(check("epochs", epochs))
        if self._session is not None:
            self._session.foresight.declare(number)
        return number

    @property
    def prediction(self) -> Prediction | None:
        """The newest prediction; None before the first."""
        return None if self._session is None else self._session.foresight.newest


def warn_unused(what: str) -> None:
    """Warn about an object that was neither awaited nor entered, where Python warns about coroutines."""
    import warnings

    warnings.warn(f"{what} was neither awaited nor entered: it marked nothing", RuntimeWarning, stacklevel=2)
