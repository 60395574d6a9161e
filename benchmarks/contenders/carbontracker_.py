"""carbontracker: `epoch_start` and `epoch_end` (https://carbontracker.info); it has no run beside its epochs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.contenders import Said

J_PER_KWH: Final = 3.6e6
MANY: Final = 1_000_000
"""Epochs that it is told: it ends itself, and forgets all, with the last of them."""


class Carbontracker:
    """A `CarbonTracker` that writes no file and predicts nothing; a task is an epoch, and there is one at a time."""

    joins = False
    has_run = False

    def __init__(self, meters: str, interval_s: float | None) -> None:
        from carbontracker import constants
        from carbontracker.tracker import CarbonTracker

        self._make, self._pue = CarbonTracker, constants.PUE_2023
        self._arguments: dict[str, Any] = {
            "epochs": MANY,
            "epochs_before_pred": 0,
            "components": meters,
            "verbose": 0,
        }
        if interval_s is not None:
            self._arguments["update_interval"] = interval_s
        self._tracker: Any = None
        self._sampler: Any = None
        self._is_in_epoch = False
        self._names: list[str] = []

    async def enter(self) -> None:
        """Make it; its thread begins."""
        self._tracker = self._make(**self._arguments)
        self._sampler = self._tracker.tracker

    async def begin_epochs(self) -> None:
        """Start the first epoch."""
        self._tracker.epoch_start()
        self._is_in_epoch = True

    async def epoch(self) -> None:
        """End an epoch and start the next."""
        self._tracker.epoch_end()
        self._tracker.epoch_start()

    @asynccontextmanager
    async def task(self, name: str) -> AsyncIterator[None]:
        """An epoch; a second one beside it begins anew what the first began."""
        self._tracker.epoch_start()
        yield
        self._tracker.epoch_end()
        self._names.append(name)

    async def exit(self) -> None:
        """End what is open, and stop it: its sampler keeps what it measured."""
        if self._is_in_epoch:
            self._tracker.epoch_end()
        self._tracker.stop()

    def said(self) -> Said:
        """From its sampler, as its printed total is made."""
        each = [float(kwh) * J_PER_KWH / self._pue for kwh in self._sampler.total_energy_per_epoch()]
        if self._names:
            return Said(tasks_j=dict(zip(self._names, each, strict=False)))
        return Said(duration_s=float(sum(self._sampler.epoch_times)), energy_j=sum(each), epochs_j=each)
