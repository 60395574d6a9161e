"""Figures of a run into TensorBoard's event files, from a thread of its own.

```python
from torch.utils.tensorboard import SummaryWriter      # or tensorboardX's
from aiocarbon import Tracker
from aiocarbon.integrations.tensorboard import TensorBoardSink

tracker = Tracker(epochs=10)
async with TensorBoardSink(tracker, SummaryWriter("runs/mine")), tracker:
    ...
```
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from aiocarbon.integrations._sink import CLOSE_S, EVERY_S, Reporting, Row, Sink, absent

__all__ = ["TensorBoardSink", "Writer"]


class Writer(Protocol):
    """What a `SummaryWriter` of torch, tensorboardX or TensorFlow's Keras has in common."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int | None = None, walltime: float | None = None,
                   /) -> object:  # fmt: skip
        """Write one number."""
        ...

    def flush(self) -> object:
        """Have what was written on disk."""
        ...


class TensorBoardSink(Sink):
    """Writes a tracker's figures for TensorBoard: the totals every `every_s` and at the end, each epoch once.

    The totals stand over the run's seconds, epochs over their number. A disk that hangs holds the sink's thread only.

    Args:
        tracker: Whose figures.
        writer: Your own `SummaryWriter`, which stays open; or a folder, for which one is made (torch's, else
            tensorboardX's), and closed with the sink.
        every_s: Seconds between two looks at the tracker; None: only what `log` is told.
        devices: True to have each device too.
        spans: True to have spans and children too.
        close_s: The most that closing waits, seconds.

    Raises:
        ConfigError: An argument is not accepted.
        ImportError: A folder was given, and neither torch with tensorboard nor tensorboardX is there.
    """

    name = "TensorBoard"

    def __init__(
        self,
        tracker: Reporting,
        writer: Writer | str | os.PathLike[str],
        *,
        every_s: float | None = EVERY_S,
        devices: bool = False,
        spans: bool = False,
        close_s: float = CLOSE_S,
    ) -> None:
        super().__init__(tracker, every_s=every_s, devices=devices, spans=spans, close_s=close_s)
        self._made: Any = _make(os.fspath(writer)) if isinstance(writer, str | os.PathLike) else None
        self._writer: Any = writer if self._made is None else self._made

    def _send(self, row: Row) -> None:
        for key, value in row.figures.items():
            self._writer.add_scalar(key, value, row.step, row.at_s)

    def _flush(self) -> None:
        self._writer.flush()
        if self._made is not None:
            self._made.close()


def _make(folder: str) -> Any:  # Any: one of two classes of packages that may not be there
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise absent("tensorboard", "torch with tensorboard, or tensorboardX", "tensorboard") from None
    return SummaryWriter(folder)
