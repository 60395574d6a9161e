"""Figures of a run into MLflow, from a thread of its own.

```python
import mlflow
from aiocarbon import Tracker
from aiocarbon.integrations.mlflow import MlflowSink

tracker = Tracker(epochs=10)
with mlflow.start_run():
    async with MlflowSink(tracker), tracker:
        ...
```
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from aiocarbon.errors import UsageError
from aiocarbon.integrations._sink import CLOSE_S, EVERY_S, Reporting, Row, Sink, absent

if TYPE_CHECKING:
    from mlflow.entities import Metric

if find_spec("mlflow") is None:
    raise absent("mlflow", "mlflow", "mlflow")

__all__ = ["MlflowSink"]

MOST: Final = 1000
"""Metrics that one request of MLflow's REST API takes ("Request Limits", MLflow 3.17)."""


class MlflowSink(Sink):
    """Logs a tracker's figures to an MLflow run: the totals every `every_s` and at the end, each epoch once.

    The totals stand over the run's seconds, epochs over their number. MLflow's requests are made in a thread of the
    sink's own; a server that hangs or refuses costs figures, which the report tells, and no step of the training.

    Args:
        tracker: Whose figures.
        run_id: MLflow's run; None: the one that is active in the thread that makes the sink.
        tracking_uri: MLflow's server or store; None: the one that is set.
        every_s: Seconds between two looks at the tracker; None: only what `log` is told.
        devices: True to have each device too.
        spans: True to have spans and children too.
        close_s: The most that closing waits, seconds.

    Raises:
        ConfigError: An argument is not accepted.
        UsageError: No run is active, and none was named.
    """

    name = "MLflow"

    def __init__(
        self,
        tracker: Reporting,
        run_id: str | None = None,
        *,
        tracking_uri: str | None = None,
        every_s: float | None = EVERY_S,
        devices: bool = False,
        spans: bool = False,
        close_s: float = CLOSE_S,
    ) -> None:
        super().__init__(tracker, every_s=every_s, devices=devices, spans=spans, close_s=close_s)
        import mlflow

        if run_id is None:
            active = mlflow.active_run()  # a thread's own: the sink's has none
            if active is None:
                raise UsageError("no MLflow run is active here: enter `mlflow.start_run()` first, or give run_id=")
            run_id = active.info.run_id
        self._run_id = run_id
        self._client: Any = mlflow.MlflowClient(tracking_uri=tracking_uri)

    def _send(self, row: Row) -> None:
        from mlflow.entities import Metric

        at_ms = round(row.at_s * 1000)
        metrics: list[Metric] = [Metric(key, value, at_ms, row.step) for key, value in row.figures.items()]
        for first in range(0, len(metrics), MOST):
            self._client.log_batch(self._run_id, metrics[first : first + MOST], synchronous=True)
