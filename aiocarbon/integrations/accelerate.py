"""A tracker for Accelerate: `Accelerator(log_with=[CarbonTracker(), "tensorboard"])`.

It measures from `init_trackers` to `end_training`. `accelerator.log` counts steps, and adds figures to what trackers
behind it are told. The loop is your own, so it marks its epochs itself, and asks whether to stop:

```python
carbon = CarbonTracker(epochs=3, budget=Budget(co2eq_g=500))
accelerator = Accelerator(log_with=[carbon])
accelerator.init_trackers("project")
for _ in range(3):
    with carbon.epoch(total=len(batches)):
        ...
    if carbon.should_stop:
        accelerator.set_trigger()
    if accelerator.check_trigger():
        break
accelerator.end_training()
```

Accelerate starts trackers in its main process only; on further machines say `carbon.start()` and `carbon.finish()`.
"""

# ruff: noqa: D102  # hooks are described by Accelerate
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from aiocarbon.integrations._hooks import Tracked, absent
from aiocarbon.integrations._training import Training

if find_spec("accelerate") is None:
    raise absent("accelerate", "0.26")
from accelerate import PartialState
from accelerate.tracking import GeneralTracker

__all__ = ["CarbonTracker"]


class CarbonTracker(Tracked, GeneralTracker):
    """Tracks a training loop on Accelerate; takes the arguments of `aiocarbon.sync.Tracker`.

    `accelerator.get_tracker("aiocarbon", unwrap=True)` is the `aiocarbon.sync.Tracker` of the run.
    """

    name = "aiocarbon"
    requires_logging_directory = False
    main_process_only = False

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self._training = Training(settings)

    @property
    def should_stop(self) -> bool:
        """True once a budget is used up, or `on_prediction` said so."""
        return bool(self._training.stop_reason)

    @contextlib.contextmanager
    def epoch(self, total: int | None = None) -> Iterator[None]:
        """Bound one epoch, in any process; it counts where this one tracks.

        Args:
            total: Its steps, of those that `accelerator.log(..., step=)` numbers; None: not known.
        """
        self._training.epoch_begin(total, at=self._training.at)
        try:
            yield
        except BaseException:
            self._training.epoch_end(is_whole=False)
            raise
        self._training.epoch_end(is_whole=not self.should_stop)  # not each step need be logged

    @contextlib.contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Bound work beside the steps, such as a validation, in any process."""
        self._training.enter(name)
        try:
            yield
        finally:
            self._training.exit()

    def start(self) -> None:
        if not self._training.is_open:
            self._training.begin(local_rank=PartialState().local_process_index)

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        if step is not None:
            self._training.progress(step)
        self._training.give(values.update)

    def finish(self) -> None:
        self._training.end(ended_well=True)
