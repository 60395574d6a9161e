"""RLlib: every result of an algorithm tells what it used and will have used, and it is done on its budget.

```python
from aiocarbon.integrations.ray_rllib import CarbonCallback

config = PPOConfig().environment("CartPole-v1").callbacks(CarbonCallback)
algorithm = config.build_algo()
print(algorithm.train()["carbon/energy_kwh"])
```

RLlib makes the object itself, so settings are those of a subclass, or `AIOCARBON_<NAME>`:

```python
class Mine(CarbonCallback):
    settings = {"location": "DK", "budget": Budget(energy_kwh=0.1), "epochs": 200}
```

What its nodes use goes in even parts to the trainings that are on them just then: an algorithm that is a trial of Tune
is the same training as that trial, so `aiocarbon.integrations.ray_tune` beside it counts no joule twice.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from aiocarbon.errors import BudgetExceededError
from aiocarbon.integrations._ray_hooks import actor_key, harmless, needs, places, require, warn
from aiocarbon.integrations._ray_link import Link

require("ray_rllib")
try:
    import ray
    from ray.rllib.callbacks.callbacks import RLlibCallback
except ImportError as error:
    raise needs("ray_rllib", error, "rllib") from error

__all__ = ["CarbonCallback"]

WHERE_S: Final = 5.0

_algorithms = itertools.count()


class CarbonCallback(RLlibCallback):
    """Adds to every result of an algorithm what it used, and says it is done when its budget is used up.

    Attributes:
        settings: `epochs`: how many results there will be, for the prediction; `budget`: with action "raise" the result
            says `done`, on which Tune ends the trial, and a loop of one's own may; the others are arguments of
            `aiocarbon.integrations.ray.ClusterTracker`, for where the job has none.

    Raises:
        ConfigError: A setting is not accepted.
    """

    settings: ClassVar[Mapping[str, Any]] = {}

    def __init__(self) -> None:
        given = dict(self.settings)
        epochs = given.pop("epochs", None)
        self._link = Link(given)
        self._epochs = epochs or self._link.epochs
        self._key = ""

    @harmless
    def on_algorithm_init(self, *, algorithm: Any, metrics_logger: Any = None, **kwargs: Any) -> None:
        """Before its training: wait until the first node measures, at most 10 s."""
        actor_id = ray.get_runtime_context().get_actor_id()
        # The first algorithm of an actor may be a trial of Tune, whose callback knows the actor.
        is_trial = actor_id is not None and next(_algorithms) == 0
        self._key = actor_key(actor_id or "") if is_trial else f"rllib-{uuid.uuid4().hex}"
        self._link.begin()
        self._link.open(self._key, where=sorted(_places(algorithm)), epochs=self._epochs)
        cleanup = algorithm.cleanup

        def ended() -> Any:
            if actor_id is not None:  # others of Tune's trials go on
                harmless(self._link.close)(self._key)
            else:
                harmless(self._link.end)()
            return cleanup()

        # RLlib tells no callback of an algorithm's end, and one that has ended must not share with those after it.
        algorithm.cleanup = ended

    @harmless
    def on_train_result(
        self, *, algorithm: Any, metrics_logger: Any = None, result: dict[str, Any], **kwargs: Any
    ) -> None:
        """A result: it gets the figures."""
        try:
            self._link.mark(self._key, result.get("training_iteration"))
        except BudgetExceededError as error:
            warn(f"{error}; the result says that the algorithm is done")
            result["done"] = True
        result.update(self._link.newest(self._key))


def _places(algorithm: Any) -> set[str]:
    """Ray's ids of the nodes of an algorithm: its own, its runners', its learners'."""
    told = [places()]
    runners, learners = getattr(algorithm, "env_runner_group", None), getattr(algorithm, "learner_group", None)
    if runners is not None:
        told += runners.foreach_env_runner(places, timeout_seconds=WHERE_S)
    if learners is not None:
        told += [one.get() for one in learners.foreach_learner(places, timeout_seconds=WHERE_S) if one.ok]
    return {node for nodes in told for node in nodes}
