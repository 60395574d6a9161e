"""Figures of a run into Weights & Biases, from a thread of its own.

```python
import wandb
from aiocarbon import Tracker
from aiocarbon.integrations.wandb import WandbSink

tracker = Tracker(epochs=10)
with wandb.init(project="mine") as run:
    async with WandbSink(tracker, run), tracker:
        ...
```
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from aiocarbon.errors import UsageError
from aiocarbon.integrations._sink import CLOSE_S, EVERY_S, Reporting, Row, Sink, absent

if TYPE_CHECKING:
    import wandb as client

if find_spec("wandb") is None:
    raise absent("wandb", "wandb", "wandb")

__all__ = ["WandbSink"]

OVER_TIME: Final = "carbon/duration_s"
OVER_EPOCHS: Final = "carbon/epoch"


class WandbSink(Sink):
    """Logs a tracker's figures to a W&B run: the totals every `every_s` and at the end, each epoch once.

    Charts have the run's seconds, or the epoch, as their x axis. W&B counts one step a run, which must not go
    backwards, and drops rows that come with an older one; so the sink never passes a step, and by default joins its
    figures to the row that your own next `run.log` commits.

    Args:
        tracker: Whose figures.
        run: W&B's run; None: the one that is active.
        commit: False: figures join your next row, where the newest of them count, and your steps stay yours. True:
            each is a row of its own, for trainings whose own logs pass no `step`, or that log nothing else.
        every_s: Seconds between two looks at the tracker; None: only what `log` is told.
        devices: True to have each device too.
        spans: True to have spans and children too.
        close_s: The most that closing waits, seconds.

    Raises:
        ConfigError: An argument is not accepted.
        UsageError: No run is active, and none was given.
    """

    name = "W&B"

    def __init__(
        self,
        tracker: Reporting,
        run: client.Run | None = None,
        *,
        commit: bool = False,
        every_s: float | None = EVERY_S,
        devices: bool = False,
        spans: bool = False,
        close_s: float = CLOSE_S,
    ) -> None:
        super().__init__(tracker, every_s=every_s, devices=devices, spans=spans, close_s=close_s)
        if run is None:
            import wandb

            run = wandb.run
        if run is None:
            raise UsageError("no W&B run is active: call `wandb.init()` first, or give run=")
        self._run = run
        self._commit = commit
        self._defined: set[str] = set()

    def _send(self, row: Row) -> None:
        for axis in (OVER_EPOCHS, OVER_TIME):
            if axis in row.figures:
                for key in row.figures.keys() - self._defined - {axis}:
                    self._run.define_metric(key, step_metric=axis, step_sync=False)
                    self._defined.add(key)
        self._run.log(row.figures, commit=self._commit)
