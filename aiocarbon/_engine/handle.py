"""The user's side of a run: what `Tracker` and `aiocarbon.sync.Tracker` share, so that no verb is written twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiocarbon._engine.device_sync import LIMIT_S as SYNC_LIMIT_S
from aiocarbon._engine.life import DEAD, Life
from aiocarbon._engine.marks import Style
from aiocarbon.errors import EngineError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.report import EpochReport, Prediction, RunReport
    from aiocarbon._engine.children import ChildHandle

MARK_LIMIT_S = 1.0
CATCH_UP_S = 0.005
"""A report is no older than a tick where the engine has its turn by then; it takes 1 ms, at a first look in seconds."""

LEAST_PAUSE_S = 1.0
"""Less is no pause that a reader of the report must know of."""

PLACE = ("location", "intensity", "offline")


class Handle(Life):
    """One run with its epochs, its progress, its pauses and its children, as its user's threads see it."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__(arguments)
        self._children: dict[str, ChildHandle] = {}

    # -- epochs ------------------------------------------------------------------------------------------------

    def _border(self, t_ns: int, steps: int) -> Future[Any] | None:
        session = self.begun("epoch()")
        return self._call_mark(t_ns, lambda at: session.border(at, steps=steps))

    def _close(self, t_ns: int, steps: int, *, is_partial: bool) -> Future[Any] | None:
        session = self.begun("epoch_end()")
        return self._call_mark(t_ns, lambda at: session.close_epoch(at, steps=steps, is_partial=is_partial))

    def _open(self, t_ns: int, *, is_entered: bool) -> Future[Any] | None:
        session = self.begun("epoch_start()")

        async def verb(engine: Any) -> None:
            async with engine.order(session):
                session.open_epoch(t_ns, is_entered=is_entered)
            engine.watch(t_ns)

        return self.call(verb)

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

        return self.call(verb)

    @property
    def place(self) -> dict[str, Any]:
        """The arguments that tell where the run is and whose intensity counts."""
        return {field: self._arguments[field] for field in PLACE if field in self._arguments}

    def _call_mark(self, t_ns: int, act: Callable[[int], EpochReport]) -> Future[Any] | None:
        """Have the engine set a mark, after the device's queued work if the run wants that."""
        session, host = self.begun("epoch()"), self._host
        if host is None or host.is_dead:
            self.fail(EngineError(DEAD))
            self._last_epoch = act(t_ns)
            session.publish(t_ns)
            return None
        wait = self.device_sync.prepare()

        async def verb(engine: Any) -> Any:
            async with engine.order(session):
                at = await self.device_sync.waited(engine, wait, t_ns)
                return await engine.mark(session, lambda: act(at))

        return host.call(verb)

    @property
    def mark_limit_s(self) -> float:  # type: ignore[override]  # a child's is its run's
        """Longest wait for a mark's report, seconds."""
        return MARK_LIMIT_S if self.device_sync.how is None else MARK_LIMIT_S + SYNC_LIMIT_S

    def _may_mark(self, verb: str) -> bool:
        if self._is_forked:
            return False
        self.begun(verb)
        if self._is_over:
            self.tell(f"{verb} after the run has ended marks nothing")
            return False
        return True

    # -- progress ----------------------------------------------------------------------------------------------

    def step(self, n: int, total: int | None) -> None:
        """Count steps of the present epoch.

        Raises:
            UsageError: The run has not begun.
            BudgetExceededError: The run's budget is used up.
        """
        if self._session is None:
            self.begun("step()")
        super().step(n, total)
        if self.verdicts.budget is not None:
            self.heed_budget()

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

        Raises:
            ConfigError: It is no number of epochs.
        """
        number = super().declare(epochs)
        if self._session is not None:
            self._session.foresight.declare(number)
        return number

    @property
    def prediction(self) -> Prediction | None:
        """The newest prediction; None before the first. Waits for nothing."""
        if self._session is None:
            return None
        self._session.looked_at()
        return self._session.foresight.newest

    def report(self) -> RunReport:
        """The final report, or the newest published one, caught up with ticks that the engine slept through.

        Raises:
            UsageError: The run has not begun.
            EngineError: What it is made of cannot be loaded, since no file can be opened.
        """
        self._catch_up()
        return super().report()

    def _catch_up(self) -> None:
        """Have the engine hear of ticks that it was not told of, and wait for that, but shortly."""
        if self.is_active and self.begun("report()").looked_at():
            from concurrent.futures import wait

            future = self.call(lambda engine: engine.catch_up())
            if future is not None:
                wait([future], CATCH_UP_S)

    # -- spans -------------------------------------------------------------------------------------------------

    def child(self, name: str) -> ChildHandle:
        """The child of a name, made where there is none.

        Raises:
            UsageError: The run has not begun.
        """
        from aiocarbon._core.edges import MAX_NAME, as_text
        from aiocarbon._engine.children import MOST_CHILDREN, OTHER_CHILDREN, ChildHandle

        self.begun("child()")
        name = as_text(name, MAX_NAME) or "(no name)"
        with self._lock:
            if name not in self._children and len(self._children) >= MOST_CHILDREN:
                self.tell(f'more than {MOST_CHILDREN} children: further ones are "{OTHER_CHILDREN}" together')
                name = OTHER_CHILDREN
            known = self._children.get(name)
            if known is None:
                known = self._children[name] = ChildHandle(self, name)
                is_new = True
            else:
                is_new = False
        if is_new:
            known.start(time.monotonic_ns())
        return known
