"""The side of the accountant that lies in a training: it sends words, and takes answers that have come.

A hook waits for an answer at most 50 ms, and all of them together at most 1 % of the time; what has not come by then
is told with the next result, and how old it is.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiocarbon._core.metrics import PREFIX
from aiocarbon.errors import BudgetExceededError
from aiocarbon.integrations._ray_hooks import flat, warn
from aiocarbon.settings import check_arguments, resolve

if TYPE_CHECKING:
    from aiocarbon._core.report import RunReport
    from aiocarbon.budget import Budget
    from aiocarbon.integrations._ray_accountant import Figures
    from aiocarbon.integrations._ray_accounts import Account

WAIT_S: Final = 0.05
WAIT_SHARE: Final = 0.01
WAIT_FIRST_S: Final = 0.5
"""Waits of the first results, before a share of the time is worth anything."""

BEGIN_S: Final = 10.0
END_S: Final = 15.0

T = TypeVar("T")


_handles: dict[str, tuple[Any, set[int]]] = {}
"""Of each accountant that this process made or found, its handle and the links that use it: it ends with its handle."""


@dataclass(kw_only=True)
class Training:
    """What this process knows of a training.

    Attributes:
        opened: How it was begun, to begin it anew with another accountant.
        results: How many results it had.
        figures: The newest that came.
        asked: The question that is not answered yet.
        closed_s: When it ended, or paused, Unix time; None while it is on.
        is_over_budget: Whether its budget was acted on.
    """

    opened: dict[str, Any]
    results: int = 0
    figures: Figures | None = None
    asked: Future[Figures | None] | None = None
    closed_s: float | None = None
    is_over_budget: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, or pauses."""
        return self.closed_s is not None


class Link:
    """The accounts of the trainings that one callback sees.

    Args:
        settings: `budget`: of each training; the others are arguments of `aiocarbon.integrations.ray.ClusterTracker`,
            for where the job has none. What is not given is `AIOCARBON_<NAME>`.
        clock: Unix time.

    Attributes:
        trainings: The trainings by key.
        budget: Of each training; None: none.
        epochs: How many results each will have, as the environment says; None: not known.
        report: The report of the cluster, where this callback had to track it, and has ended.

    Raises:
        ConfigError: A setting is not accepted.
    """

    def __init__(self, settings: Mapping[str, Any], *, clock: Callable[[], float] = time.time) -> None:
        from aiocarbon.integrations.ray import ClusterTracker

        given = dict(settings)
        budget = given.pop("budget", None)
        if given.get("journal") is not None:
            given["journal"] = os.path.abspath(given["journal"])  # who makes it works in another folder
        ClusterTracker(**given)  # checks them, and starts nothing
        found = resolve(check_arguments({} if budget is None else {"budget": budget}))
        self.budget: Budget | None = found.budget
        self.epochs: int | None = found.epochs
        if found.journal is not None:
            given.setdefault("journal", os.path.abspath(found.journal))
        self.settings = given
        self.trainings: dict[str, Training] = {}
        self.report: RunReport | None = None
        self._clock = clock
        self._accountant: Any = None
        self._name = ""
        self._running: Future[str] | None = None
        self._began_s = clock()
        self._waited_s = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # To another process go settings, never what belongs to this one.
        return {"settings": self.settings, "budget": self.budget}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__({**state["settings"], "budget": state["budget"]})  # type: ignore[misc]  # a new one

    # -- the accountant ----------------------------------------------------------------------------------------

    def begin(self, wait_s: float = BEGIN_S) -> None:
        """Have an accountant, and wait, before a training begins, until the first node measures."""
        _done(self._made().ready.remote().future(), wait_s)

    def _made(self) -> Any:
        """The job's accountant, made where there is none."""
        from aiocarbon.integrations._ray_accountant import Accountant
        from aiocarbon.integrations._ray_actors import NAMESPACE, ray_module

        if self._running is not None and self._running.done():
            error = self._running.exception()
            if error is None and self._running.result():
                warn(self._running.result())
            if error is not None:
                self._forget()
            self._running = None
        if self._accountant is None:
            ray = ray_module()
            context = ray.get_runtime_context()
            self._name = f"accountant-{context.get_job_id()}"
            if self._name not in _handles:
                affinity = _affinity(context.get_node_id())
                options = {"name": self._name, "namespace": NAMESPACE, "get_if_exists": True}
                made = ray.remote(Accountant).options(num_cpus=0, scheduling_strategy=affinity, **options)
                _handles[self._name] = made.remote(context.get_job_id(), self.settings), set()
            self._accountant, users = _handles[self._name]
            users.add(id(self))
            for key, training in self.trainings.items():
                if not training.is_closed:  # the accountant before has died: what it told last is gone on with
                    before = training.figures.account if training.figures is not None else None
                    self._accountant.open.remote(key, **{**training.opened, "before": before})
        if self._running is None:
            self._running = self._accountant.run.remote().future()
        return self._accountant

    def _forget(self) -> None:
        """Let an accountant go that is dead."""
        self._accountant = self._running = None
        _handles.pop(self._name, None)

    def _leave(self) -> None:
        """Let go of the accountant, which Ray ends if nobody else in this process needs it."""
        self._accountant = self._running = None
        _, users = _handles.get(self._name, (None, set()))
        users.discard(id(self))
        if not users:
            _handles.pop(self._name, None)

    # -- a training --------------------------------------------------------------------------------------------

    def open(
        self,
        key: str,
        *,
        where: list[Any] | None = None,
        epochs: int | None = None,
        before: Account | None = None,
        alias: str = "",
    ) -> None:
        """A training begins, or goes on; waits for nothing.

        Args:
            key: Its name.
            where: Ray's ids of its nodes, or references to lists of them; None: all.
            epochs: How many results it will have; None: not known.
            before: What it had used in another process.
            alias: By which name another callback of the same training knows it.
        """
        accountant = self._made()
        opened = {"at_s": self._clock(), "where": where, "epochs": epochs, "before": before, "alias": alias}
        known = self.trainings.get(key)
        if known is None:
            self.trainings[key] = Training(opened=opened)
        else:
            known.opened, known.closed_s = opened, None
        accountant.open.remote(key, **opened)

    def mark(self, key: str, number: int | None = None) -> dict[str, float]:
        """A training has a result: its figures, as flat keys.

        Args:
            key: Its name.
            number: Which result it is; None: the next.

        Raises:
            BudgetExceededError: Its budget is used up, and the action is "raise"; once.
        """
        training = self.trainings.get(key)
        if training is None:
            return {}
        training.results = training.results + 1 if number is None else number
        self._take(training)
        if training.asked is None:  # else one is on its way: an instrument that is behind does not queue up
            training.asked = self._made().mark.remote(key, training.results).future()
        self._wait(training.asked)
        self._take(training)
        self._heed(training)
        return self.newest(key)

    def newest(self, key: str) -> dict[str, float]:
        """The newest figures that came of a training, as flat keys."""
        training = self.trainings.get(key)
        if training is None:
            return {}
        found = flat(training.figures, training.closed_s or self._clock())
        if training.is_closed:  # nothing remains, and the last guess is no figure
            found = {key: value for key, value in found.items() if not key.startswith(f"{PREFIX}remaining_")}
        if found and self.budget is not None:
            found[f"{PREFIX}budget_exceeded"] = float(training.is_over_budget)
        return found

    def close(self, key: str) -> None:
        """A training has ended, or pauses; waits for nothing. Its last figures come by `poll`."""
        training = self.trainings.get(key)
        if training is not None and not training.is_closed:
            training.closed_s = self._clock()
            training.asked = self._made().close.remote(key, training.closed_s).future()

    def poll(self) -> list[str]:
        """Take answers that have come; waits for nothing. Returns which trainings they are of."""
        return [key for key, training in self.trainings.items() if self._take(training)]

    def end(self, wait_s: float = END_S) -> RunReport | None:
        """All trainings have ended: wait for their last figures, and for the report of the cluster if it is ours."""
        if self._accountant is None:
            return None
        for key in self.trainings:
            self.close(key)
        until = time.monotonic() + wait_s
        wait([t.asked for t in self.trainings.values() if t.asked is not None], timeout=wait_s)
        self.poll()
        told = self._accountant.end.remote().future()
        self.report = _done(told, until - time.monotonic()) or self.report
        self._leave()
        return self.report

    def _wait(self, asked: Future[Any]) -> None:
        allowed = WAIT_FIRST_S + WAIT_SHARE * (self._clock() - self._began_s) - self._waited_s
        begin = time.monotonic()
        wait([asked], timeout=max(min(WAIT_S, allowed), 0.0))
        self._waited_s += time.monotonic() - begin

    def _take(self, training: Training) -> bool:
        asked = training.asked
        if asked is None or not asked.done():
            return False
        training.asked = None
        error = asked.exception()
        if error is not None:
            warn(f"the accounts of this Ray job are gone ({_first_line(error)}); they begin anew")
            self._forget()
            return False
        figures = asked.result()
        training.figures = figures or training.figures
        return figures is not None

    def _heed(self, training: Training) -> None:
        if self.budget is None or training.is_over_budget or training.figures is None or training.figures.used is None:
            return
        used, prediction = training.figures.used, training.figures.prediction
        why = self.budget.broken_by(used) or self.budget.broken_ahead(prediction)
        if not why:
            return
        training.is_over_budget = True
        if callable(self.budget.action):
            self.budget.action(used)
        elif self.budget.action == "raise":
            raise BudgetExceededError(why)
        else:
            warn(why)


def _affinity(node_id: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)


def _done(asked: Future[T], wait_s: float) -> T | None:
    """An answer, if it comes in time and is one."""
    wait([asked], timeout=max(wait_s, 0.0))
    if not asked.done():
        return None
    error = asked.exception()
    if error is not None:
        warn(f"the accounts of this Ray job do not answer ({_first_line(error)})")
        return None
    return asked.result()


def _first_line(error: BaseException) -> str:
    return re.split(r"[\r\n]", str(error).strip() or type(error).__name__)[0]
