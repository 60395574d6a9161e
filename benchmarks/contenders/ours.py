"""aiocarbon by its async and by its blocking tracker; the command line is run by the benchmark itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from benchmarks.contenders import Said

J_PER_KWH: Final = 3.6e6
METERS: Final = {"gpu": {"meters": "nvml"}, "cpu": {"meters": "rapl"}, "all": {}}


def _arguments(meters: str, interval_s: float | None) -> dict[str, Any]:
    # The idle floor is shared among the tasks: the others know none, and all joules shall be somebody's.
    asked = {"location": "DK", "pue": 1.0, "offline": True, "attribution": "even,idle=shared", **METERS[meters]}
    return asked if interval_s is None else {**asked, "interval_s": interval_s}


def _said(report: Any) -> Said:
    return Said(
        duration_s=report.duration_s,
        energy_j=report.it_energy_kwh * J_PER_KWH,
        epochs_j=[epoch.it_energy_kwh * J_PER_KWH for epoch in report.epochs],
        tasks_j={span.name: span.it_energy_kwh * J_PER_KWH for span in report.spans},
    )


class Async:
    """`async with aiocarbon.Tracker()`."""

    joins = True
    has_run = True

    def __init__(self, meters: str, interval_s: float | None) -> None:
        import aiocarbon

        self._tracker = aiocarbon.Tracker(**_arguments(meters, interval_s))

    async def enter(self) -> None:
        """Enter."""
        await self._tracker.__aenter__()

    async def begin_epochs(self) -> None:
        """The first epoch begins with the run."""

    async def epoch(self) -> None:
        """Mark."""
        await self._tracker.epoch()

    @asynccontextmanager
    async def task(self, name: str) -> AsyncIterator[None]:
        """A span."""
        async with self._tracker.span(name):
            yield

    async def exit(self) -> None:
        """Exit."""
        await self._tracker.__aexit__(None, None, None)

    def said(self) -> Said:
        """From its report."""
        return _said(self._tracker.report())


class Sync:
    """`with aiocarbon.sync.Tracker()`."""

    joins = True
    has_run = True

    def __init__(self, meters: str, interval_s: float | None) -> None:
        from aiocarbon import sync

        self._tracker = sync.Tracker(**_arguments(meters, interval_s))

    async def enter(self) -> None:
        """Enter."""
        self._tracker.__enter__()

    async def begin_epochs(self) -> None:
        """The first epoch begins with the run."""

    async def epoch(self) -> None:
        """Mark."""
        self._tracker.epoch()

    @asynccontextmanager
    async def task(self, name: str) -> AsyncIterator[None]:
        """A span."""
        with self._tracker.span(name):
            yield

    async def exit(self) -> None:
        """Exit."""
        self._tracker.__exit__(None, None, None)

    def said(self) -> Said:
        """From its report."""
        return _said(self._tracker.report())
