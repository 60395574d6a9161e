"""`aiocarbon demo`: a small real network learns to read digits in an async loop, and is measured while it does."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any, Final, cast

from aiocarbon import Tracker
from aiocarbon._core.report import EpochReport, RunReport
from aiocarbon.cli.digits import EpochStats, Trainer, steps_for
from aiocarbon.cli.output import Shown, coloured, is_terminal
from aiocarbon.errors import UsageError
from aiocarbon.render import numbers, report_text
from aiocarbon.render.text import prediction_words

__all__ = ["demo"]

EPOCHS: Final = 10
SECONDS: Final = 20.0
REFRESHES_PER_SECOND: Final = 8

TrackerFactory = Callable[..., Tracker]


async def demo(
    *,
    epochs: int = EPOCHS,
    seconds: float = SECONDS,
    stream: IO[str] | Shown | None = None,
    tracker_factory: TrackerFactory = Tracker,
    tracker_options: Mapping[str, Any] | None = None,
) -> RunReport:
    """Train, show what is happening, and end with the report.

    Args:
        epochs: How many epochs, at least 1.
        seconds: How long the training shall take on this machine, about.
        stream: Where to show it; stdout by default. A live table on a terminal, a line an epoch elsewhere. That it
            cannot be written ends no training: `Shown` tells.
        tracker_factory: Makes the tracker.
        tracker_options: More settings of the tracker.

    Returns:
        The final report.

    Raises:
        UsageError: NumPy or rich is not installed.
    """
    out = stream if isinstance(stream, Shown) else Shown(sys.stdout if stream is None else stream)
    steps = await asyncio.to_thread(steps_for, seconds / epochs)
    trainer = await asyncio.to_thread(lambda: Trainer(steps=steps))
    display = _Table(out, epochs) if is_terminal(out) else _Lines(out, epochs)
    async with tracker_factory(epochs=epochs, name="aiocarbon demo", **(tracker_options or {})) as tracker:
        with display.showing():
            for index in range(epochs):
                stats = await _train_epoch(trainer, tracker, display, index)
                display.ended(await tracker.epoch(), stats)
    report = tracker.report()
    out.write("\n" + coloured(report_text(report), out) + "\n")
    return report


async def _train_epoch(trainer: Trainer, tracker: Tracker, display: _Lines, index: int) -> EpochStats:
    """One epoch in an async loop: each batch is computed, then the loop's other tasks may run."""
    total = 0.0
    for done, loss in enumerate(trainer.losses(), 1):
        total += loss
        tracker.step(total=trainer.steps)
        display.stepped(index, done, trainer.steps, loss, tracker)
        await asyncio.sleep(0)
    return EpochStats(loss=total / trainer.steps, accuracy=trainer.accuracy(), steps=trainer.steps)


class _Lines:
    """A line an epoch."""

    def __init__(self, out: Shown, epochs: int) -> None:
        self._out = out
        self._epochs = epochs

    def showing(self) -> AbstractContextManager[object]:
        """Be shown while the training runs."""
        return nullcontext()

    def stepped(self, index: int, done: int, steps: int, loss: float, tracker: Tracker) -> None:
        """A batch was trained."""

    def ended(self, epoch: EpochReport, stats: EpochStats) -> None:
        """An epoch was trained."""
        which, loss, right, *rest = _cells(epoch, stats, self._epochs)
        ahead = () if epoch.prediction is None else (prediction_words(epoch.prediction),)
        self._out.write("  ".join((f"epoch {which}", f"loss {loss}", f"{right} right", *rest, *ahead)) + "\n")


class _Table(_Lines):
    """A table of the epochs, a bar, and what is drawn now."""

    def __init__(self, out: Shown, epochs: int) -> None:
        super().__init__(out, epochs)
        rich = _Rich()
        self._bar = rich.Progress(
            rich.TextColumn("{task.description}"), rich.BarColumn(), rich.TextColumn("{task.fields[now]}")
        )
        self._task = self._bar.add_task("training", total=epochs, now="")
        self._rows: list[tuple[str, ...]] = []
        self._ahead = ""
        self._live = rich.Live(
            console=rich.Console(file=cast("IO[str]", out)),  # of which it needs no more than that
            refresh_per_second=REFRESHES_PER_SECOND,
            get_renderable=self._picture,
        )

    def showing(self) -> AbstractContextManager[object]:
        """Be shown while the training runs."""
        live: AbstractContextManager[object] = self._live
        return live

    def stepped(self, index: int, done: int, steps: int, loss: float, tracker: Tracker) -> None:
        """A batch was trained."""
        report = tracker.report()
        now = (
            f"epoch {index + 1}/{self._epochs}  loss {loss:.3f}  {numbers.power(report.power_w)}  "
            f"{numbers.energy(report.energy_kwh)}  {numbers.co2eq(report.co2eq_g)}"
        )
        self._bar.update(self._task, completed=index + done / steps, now=now)
        self._ahead = "" if tracker.prediction is None else prediction_words(tracker.prediction)

    def ended(self, epoch: EpochReport, stats: EpochStats) -> None:
        """An epoch was trained."""
        self._rows.append(_cells(epoch, stats, self._epochs))
        if epoch.prediction is not None:  # else the last picture would show what was left before it
            self._ahead = prediction_words(epoch.prediction)

    def _picture(self) -> Any:
        rich = _Rich()
        table = rich.Table("epoch", "loss", "accuracy", "time", "power", "energy x PUE", "CO2eq", "basis", box=None)
        for row in self._rows:
            table.add_row(*row)
        return rich.Group(table, self._bar, rich.Text(self._ahead))


def _cells(epoch: EpochReport, stats: EpochStats, epochs: int) -> tuple[str, ...]:
    return (
        f"{epoch.index + 1}/{epochs}",
        f"{stats.loss:.3f}",
        f"{stats.accuracy:.1%}",
        numbers.duration(epoch.duration_s),
        numbers.power(epoch.power_w),
        numbers.energy(epoch.energy_kwh),
        numbers.co2eq(epoch.co2eq_g),
        epoch.basis.value,
    )


class _Rich:
    """What the table needs of the package rich, imported on use."""

    def __init__(self) -> None:
        try:
            from rich.console import Console, Group
            from rich.live import Live
            from rich.progress import BarColumn, Progress, TextColumn
            from rich.table import Table
            from rich.text import Text
        except ImportError as error:
            raise UsageError("the demo's display needs rich: pip install 'aiocarbon[demo]'") from error
        self.Console, self.Group, self.Live, self.Table, self.Text = Console, Group, Live, Table, Text
        self.BarColumn, self.Progress, self.TextColumn = BarColumn, Progress, TextColumn
