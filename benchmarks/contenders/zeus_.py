"""zeus: windows of its monitor (https://ml.energy/zeus/measure/), without a framework that holds the GPU."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.contenders import Said

RUN = "run"
EPOCH = "epoch"


class Zeus:
    """A `ZeusMonitor`; it reads at the edges of windows, so that an interval has no meaning."""

    joins = False
    has_run = True

    def __init__(self, meters: str, interval_s: float | None) -> None:
        from zeus.monitor import ZeusMonitor

        self._make, self._meters = ZeusMonitor, meters
        self._monitor: Any = None
        self._run: Any = None
        self._is_in_epoch = False
        self._epochs: list[float | None] = []
        self._tasks: dict[str, float | None] = {}

    async def enter(self) -> None:
        """Make the monitor and open the run's window."""
        self._monitor = self._make()
        self._monitor.begin_window(RUN, sync_execution=False)

    async def begin_epochs(self) -> None:
        """Open the first epoch's window."""
        self._monitor.begin_window(EPOCH, sync_execution=False)
        self._is_in_epoch = True

    async def epoch(self) -> None:
        """Close a window and open the next."""
        self._epochs.append(self._joules(self._monitor.end_window(EPOCH, sync_execution=False)))
        self._monitor.begin_window(EPOCH, sync_execution=False)

    @asynccontextmanager
    async def task(self, name: str) -> AsyncIterator[None]:
        """A window."""
        self._monitor.begin_window(name, sync_execution=False)
        yield
        self._tasks[name] = self._joules(self._monitor.end_window(name, sync_execution=False))

    async def exit(self) -> None:
        """Close what is open."""
        if self._is_in_epoch:
            self._monitor.end_window(EPOCH, sync_execution=False, cancel=True)
        self._run = self._monitor.end_window(RUN, sync_execution=False)

    def said(self) -> Said:
        """From the windows."""
        return Said(
            duration_s=self._run.time,
            energy_j=self._joules(self._run),
            epochs_j=self._epochs,
            tasks_j=self._tasks,
        )

    def _joules(self, window: Any) -> float | None:
        parts = window.cpu_energy if self._meters == "cpu" else window.gpu_energy
        return float(sum(parts.values())) if parts else None
