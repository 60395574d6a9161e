"""Ray Train: every report of a training tells what its nodes used and will have used, and it ends on its budget.

```python
from aiocarbon import Budget
from aiocarbon.integrations.ray_train import CarbonCallback

TorchTrainer(
    train,
    scaling_config=ScalingConfig(num_workers=8),
    run_config=RunConfig(callbacks=[CarbonCallback(epochs=90, budget=Budget(co2eq_g=500), location="DK")]),
).fit()
```

Without code: `RAY_TRAIN_CALLBACKS=aiocarbon.integrations.ray_train.CarbonCallback`, settings as `AIOCARBON_<NAME>`.

What the workers' nodes use goes in even parts to the trainings that are on them just then; however many workers a node
has, it is measured once. Figures go into the metrics of the worker of rank 0, with keys such as "carbon/energy_kwh".

`CarbonCallback` knows when workers begin and end, and where they are, by hooks that Ray calls internal.
`TotalsCallback` uses the public `ray.train.UserCallback` only: it tells what the whole cluster has used since the
job's `ClusterTracker` was entered, which has to be around `fit()`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiocarbon.integrations._ray_accounts import TOTAL
from aiocarbon.integrations._ray_hooks import harmless, needs, require, trial_id, warn
from aiocarbon.integrations._ray_link import Link

require("ray_train")
try:
    from ray.train import UserCallback
    from ray.train.v2._internal.execution.callback import ControllerCallback, ReportCallback, WorkerGroupCallback
except ImportError as error:
    raise needs("ray_train", error, "train") from error

__all__ = ["CarbonCallback", "TotalsCallback"]


class CarbonCallback(ControllerCallback, WorkerGroupCallback, ReportCallback):
    """Adds to every report of a training what it used, and ends a training whose budget is used up.

    It works in the process of Ray Train's controller; the object in the driver stays as it was. For a report of the
    whole training enter a `ClusterTracker` around `fit()`, or give a `journal=` folder for `aiocarbon report`.

    Args:
        epochs: How many reports there will be, for the prediction; None: not known, or `AIOCARBON_EPOCHS`.
        settings: `budget`: with action "raise" `fit()` raises Ray's `ControllerError` from `BudgetExceededError`. The
            others are arguments of `aiocarbon.integrations.ray.ClusterTracker`, for where the job has none.

    Raises:
        ConfigError: A setting is not accepted.
    """

    def __init__(self, *, epochs: int | None = None, **settings: Any) -> None:
        self._link = Link(settings)
        self._epochs = epochs or self._link.epochs
        self._key = trial_id()  # a training inside a trial of Tune is that trial
        self._is_trial = bool(self._key)

    @harmless
    def after_controller_start(self, train_run_context: Any) -> None:
        """Before the workers: wait until the first node measures, at most 10 s."""
        self._key = self._key or f"train-{train_run_context.run_id}"
        self._link.begin()

    @harmless
    def after_worker_group_start(self, worker_group: Any) -> None:
        """The workers are there."""
        nodes = {worker.metadata.node_id for worker in worker_group.get_workers()}
        self._link.open(self._key, where=sorted(nodes), epochs=self._epochs)

    @harmless
    def after_report(self, training_report: Any, metrics: list[dict[str, Any]]) -> None:
        """All workers have reported: the first one's metrics get the figures.

        Raises:
            BudgetExceededError: The budget is used up.
        """
        try:
            self._link.mark(self._key)
        finally:
            figures = self._link.newest(self._key)
            for told in [training_report.metrics, *metrics[:1]]:
                told.update(figures)

    @harmless
    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        """The workers are about to end."""
        self._leave()

    @harmless
    def before_worker_group_abort(self, worker_group_context: Any) -> None:
        """The workers are about to be ended."""
        self._leave()

    def _leave(self) -> None:
        if not self._is_trial:  # whose end Tune tells
            self._link.close(self._key)

    async def before_controller_shutdown(self) -> None:
        """The training has ended, well or not: wait for the last readings."""
        if not self._is_trial:
            await asyncio.to_thread(harmless(self._link.end))


class TotalsCallback(UserCallback):
    """Adds to every report what the cluster has used since its `ClusterTracker` was entered.

    Args:
        epochs: How many reports there will be, for the prediction; None: not known.
        settings: As of `CarbonCallback`.

    Raises:
        ConfigError: A setting is not accepted.
    """

    def __init__(self, *, epochs: int | None = None, **settings: Any) -> None:
        self._link = Link(settings)
        self._epochs = epochs or self._link.epochs

    @harmless
    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """All workers have reported: the first one's metrics get the figures.

        Raises:
            BudgetExceededError: The budget is used up.
        """
        if TOTAL not in self._link.trainings:
            self._link.open(TOTAL, epochs=self._epochs)
        try:
            self._link.mark(TOTAL)
        finally:
            figures = self._link.trainings[TOTAL].figures
            if figures is not None and figures.is_own:
                warn("this Ray job had no ClusterTracker before its first report: what it used until then is not known")
            for told in metrics[:1]:
                told.update(self._link.newest(TOTAL))

    @harmless
    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Workers have failed: what they used counts."""
        self._link.poll()
