"""What is decided of a run in its user's own task: is its budget used up, and what is said to a prediction."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from aiocarbon.budget import needs_await
from aiocarbon.errors import BudgetExceededError, TrainingStoppedError, UsageError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.report import Prediction, RunReport
    from aiocarbon.budget import Budget
    from aiocarbon.settings import Settings

NOBODY = "on_prediction is a coroutine function, which only the async tracker can await; give it a plain function"


class Spender(Protocol):
    """What has a budget: a run on this machine, or that of a cluster."""

    budget_broken: str

    @property
    def published(self) -> RunReport | None:
        """The newest report."""

    def warn(self, text: str) -> None:
        """Add a warning to it, once."""


class Verdicts:
    """The budget and the callback of one run.

    Args:
        budget: Limits on what the run may use.
        on_prediction: Asked about each epoch's prediction.
    """

    def __init__(self, budget: Budget | None, on_prediction: Callable[[Any], Any] | None) -> None:
        self.budget = budget
        self.on_prediction = on_prediction
        self._lock = threading.Lock()
        self._exceeded: Future[None] | None = None
        self._is_budget_told = False
        self._is_asked = False
        self._asked_at_s: float | None = None  # of a question that is put once, until its answer was taken

    def take(self, settings: Settings) -> None:
        """Take what the environment and files say too."""
        self.budget, self.on_prediction = settings.budget, settings.on_prediction

    # -- the budget --------------------------------------------------------------------------------------------

    @property
    def exceeded(self) -> Future[None]:
        """A future that is done once the budget is used up."""
        from concurrent.futures import Future

        with self._lock:
            if self._exceeded is None:
                self._exceeded = Future()
            return self._exceeded

    def exceed(self) -> None:
        """The budget is used up."""
        future = self.exceeded
        if not future.done():
            future.set_result(None)

    def heed(self, session: Spender) -> None:
        """Act if what was used, or will surely be, has passed a limit.

        Raises:
            BudgetExceededError: It has, and the action is "raise".
        """
        if self.budget is None or not session.budget_broken:
            return
        if self.budget.action == "raise":
            raise BudgetExceededError(session.budget_broken)
        if callable(self.budget.action) and not self._is_budget_told:
            self._is_budget_told = True
            said = self.budget.action(session.published)
            if inspect.iscoroutine(said):
                said.close()
                session.warn("budget.action made a coroutine, which nobody awaits: give it a plain function")

    # -- predictions -------------------------------------------------------------------------------------------

    async def ask(self, prediction: Prediction | None) -> None:
        """Ask the callback about a prediction, and wait for what it says.

        Raises:
            TrainingStoppedError: It said False.
        """
        said = self._said(prediction)
        self._judge(await said if inspect.isawaitable(said) else said, prediction)

    def refuse_coroutines(self) -> None:
        """Refuse what code without a loop could not ask, before anything starts.

        Raises:
            UsageError: The callback is a coroutine function.
        """
        if needs_await(self.on_prediction):
            raise UsageError(NOBODY)

    def ask_plainly(self, prediction: Prediction | None) -> None:
        """Ask the callback from code without a loop.

        Raises:
            TrainingStoppedError: It said False.
            UsageError: It is a coroutine function.
        """
        said = self._said(prediction)
        if inspect.isawaitable(said):
            if inspect.iscoroutine(said):
                said.close()
            raise UsageError(NOBODY)
        self._judge(said, prediction)

    def answered_s(self) -> float | None:
        """How long a question that is put once took, seconds: a pause. None if none was put, or this was told."""
        asked_at_s, self._asked_at_s = self._asked_at_s, None
        return None if asked_at_s is None else time.monotonic() - asked_at_s

    def _said(self, prediction: Prediction | None) -> Any:
        if self.on_prediction is None or prediction is None:
            return None
        if getattr(self.on_prediction, "asks_once", False):
            if self._is_asked:
                return None
            self._asked_at_s = time.monotonic()
        self._is_asked = True
        return self.on_prediction(prediction)

    @staticmethod
    def _judge(said: object, prediction: Prediction | None) -> None:
        if said is False or _is_false_of_an_array(said):
            after = f" after epoch {prediction.epochs_seen}" if prediction is not None else ""
            raise TrainingStoppedError(f"the training was stopped by on_prediction{after}")


def _is_false_of_an_array(said: object) -> bool:
    """Whether something is the False that comparing a number of an array gives; arrays themselves say nothing."""
    dtype = str(getattr(said, "dtype", ""))
    return dtype in {"bool", "torch.bool"} and getattr(said, "shape", None) == () and not said
