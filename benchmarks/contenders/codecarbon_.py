"""codecarbon: its offline tracker for a known country (https://docs.codecarbon.io), epochs and tasks as its tasks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.contenders import Said

J_PER_KWH: Final = 3.6e6


class Codecarbon:
    """An `OfflineEmissionsTracker` that writes no file and asks nobody."""

    joins = False
    has_run = True

    def __init__(self, meters: str, interval_s: float | None) -> None:
        from codecarbon import OfflineEmissionsTracker

        more = {} if interval_s is None else {"measure_power_secs": interval_s}
        self._tracker = OfflineEmissionsTracker(
            country_iso_code="DNK",
            save_to_file=False,
            log_level="error",
            allow_multiple_runs=True,
            **more,
        )
        self._field = "cpu_energy" if meters == "cpu" else "gpu_energy"
        self._is_in_epoch = False
        self._epochs: list[float | None] = []
        self._tasks: dict[str, float | None] = {}

    async def enter(self) -> None:
        """Start."""
        self._tracker.start()

    async def begin_epochs(self) -> None:
        """Start the first epoch's task."""
        self._tracker.start_task("epoch-0")
        self._is_in_epoch = True

    async def epoch(self) -> None:
        """Stop a task and start the next."""
        self._epochs.append(self._stopped(f"epoch-{len(self._epochs)}"))
        self._tracker.start_task(f"epoch-{len(self._epochs)}")

    @asynccontextmanager
    async def task(self, name: str) -> AsyncIterator[None]:
        """A task."""
        self._tracker.start_task(name)
        yield
        self._tasks[name] = self._stopped(name)

    async def exit(self) -> None:
        """Stop."""
        if self._is_in_epoch:
            self._tracker.stop_task()
        self._tracker.stop()

    def said(self) -> Said:
        """From its final data."""
        final = self._tracker.final_emissions_data
        return Said(
            duration_s=float(final.duration),
            energy_j=self._joules(final),
            epochs_j=self._epochs,
            tasks_j=self._tasks,
        )

    def _stopped(self, name: str) -> float | None:
        told = self._tracker.stop_task(name)
        return None if told is None else self._joules(told)

    def _joules(self, data: Any) -> float:
        return float(getattr(data, self._field)) * J_PER_KWH
