"""Ray Tune: every result of a trial tells what the trial used and will have used, and a trial ends on its budget.

```python
from aiocarbon import Budget
from aiocarbon.integrations.ray_tune import CarbonCallback

tune.Tuner(
    train,
    run_config=tune.RunConfig(callbacks=[CarbonCallback(budget=Budget(energy_kwh=0.5), location="DK")]),
).fit()
```

Without code: `RAY_TUNE_CALLBACKS=aiocarbon.integrations.ray_tune.CarbonCallback`, settings as `AIOCARBON_<NAME>`.

A node's energy goes in even parts to the trials that are on it just then, so trials never tell a joule twice; what no
trial was there for belongs to none. Results come with keys such as "carbon/energy_kwh" and "carbon/predicted_co2eq_g".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiocarbon._core.metrics import PREFIX
from aiocarbon.errors import BudgetExceededError
from aiocarbon.integrations._ray_accounts import plain, remembered
from aiocarbon.integrations._ray_hooks import actor_key, harmless, needs, places, require, warn
from aiocarbon.integrations._ray_link import Link

require("ray_tune")
try:
    from ray import tune
except ImportError as error:
    raise needs("ray_tune", error, "tune") from error

if TYPE_CHECKING:
    from aiocarbon._core.report import RunReport

__all__ = ["CarbonCallback"]

AT_NEXT = "training_iteration"
"""Of this every result has at least 1: a trial that is to stop at 0 stops with its next one."""


class CarbonCallback(tune.Callback):
    """Adds to every result of a trial what it used, and stops a trial whose budget is used up.

    Args:
        budget: Of each trial. With action "raise" the trial ends, as one that met a stopping criterion, with its next
            result; figures of that one are the trial's last.
        epochs: How many results a trial will have, for the prediction; None: the `training_iteration` of its stopping
            criterion, or `AIOCARBON_EPOCHS`.
        settings: Arguments of `aiocarbon.integrations.ray.ClusterTracker`, for where the job has none.

    Raises:
        ConfigError: A setting is not accepted.
    """

    def __init__(self, *, epochs: int | None = None, **settings: Any) -> None:
        self._epochs = epochs
        self._link = Link(settings)
        self._before: dict[str, Any] = {}
        self._trials: dict[str, Any] = {}

    @property
    def report(self) -> RunReport | None:
        """The report of the cluster, after the experiment, where no other `ClusterTracker` makes it."""
        return self._link.report

    @harmless
    def setup(self, *args: Any, **info: Any) -> None:
        """Before the trials: wait until the first node measures, at most 10 s."""
        self._link.begin()

    @harmless
    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's actor is there."""
        actor = trial.temporary_state.ray_actor
        where = None if actor is None else [actor.__ray_call__.remote(places)]
        alias = "" if actor is None else actor_key(actor._actor_id.hex())
        epochs = self._epochs or (trial.stopping_criterion or {}).get(AT_NEXT) or self._link.epochs
        known = self._link.trainings.get(trial.trial_id)
        before = None if known is not None else remembered(self._before.pop(trial.trial_id, None))
        self._trials[trial.trial_id] = trial
        epochs = int(epochs) if epochs else None
        self._link.open(trial.trial_id, where=where, epochs=epochs, before=before, alias=alias)

    @harmless
    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has a result: it gets its figures."""
        try:
            result.update(self._link.mark(trial.trial_id, result.get(AT_NEXT)))
        except BudgetExceededError as error:
            result.update(self._link.newest(trial.trial_id))
            warn(f"trial {trial.trial_id}: {error}; it ends with its next result")
            trial.stopping_criterion = {**(trial.stopping_criterion or {}), AT_NEXT: 0}

    @harmless
    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """A step of Tune's loop: trials that pause are no more on their nodes."""
        for key, training in self._link.trainings.items():
            if not training.is_closed and self._trials[key].status == "PAUSED":
                self._link.close(key)
        self._finish(self._link.poll())

    @harmless
    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended."""
        self._link.close(trial.trial_id)

    @harmless
    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed: what it used counts."""
        self._link.close(trial.trial_id)

    @harmless
    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed, and will be tried again."""
        self._link.close(trial.trial_id)

    @harmless
    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """All trials have ended: wait for the last readings."""
        self._link.end()
        self._finish(list(self._link.trainings))

    def _finish(self, keys: list[str]) -> None:
        """Give a trial that has ended the final figures: its last result came before the last reading."""
        for key in keys:
            trial, training = self._trials.get(key), self._link.trainings[key]
            if training.is_closed and trial is not None and trial.last_result:
                for name in [name for name in trial.last_result if name.startswith(PREFIX)]:
                    del trial.last_result[name]
                trial.last_result.update(self._link.newest(key))

    def get_state(self) -> dict[str, Any]:
        """What Tune keeps of it, for an experiment that is restored: what the trials had used."""
        return {
            key: plain(training.figures.account)
            for key, training in self._link.trainings.items()
            if training.figures is not None
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with what the trials had used."""
        self._before = dict(state)
