"""What the instrument itself costs: CPU time of the engine's thread and of its workers, and the readings taken."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiocarbon._core.body import Overhead
from aiocarbon._core.units import s_from_ns

if TYPE_CHECKING:
    from aiocarbon._engine.sampler import Sampler


class Cost:
    """Made in the engine's thread, whose CPU time counts from then on.

    Args:
        sampler: Counts the ticks it missed; its intake the readings, and the CPU time of the workers.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._thread = threading.get_ident()
        self._begin_ns = time.thread_time_ns()
        self._own_ns = 0

    def meter(self) -> Callable[[], Overhead]:
        """What it costs from now on."""
        sampler = self._sampler
        cpu0, read0, missed0 = self._cpu_ns(), sampler.intake.readings, sampler.missed_ticks

        def overhead() -> Overhead:
            return Overhead(
                cpu_s=s_from_ns(self._cpu_ns() - cpu0),
                readings=sampler.intake.readings - read0,
                missed_ticks=sampler.missed_ticks - missed0,
            )

        return overhead

    def _cpu_ns(self) -> int:
        # Where the engine died, a thread of the user's makes the last report: its own CPU time is the training's.
        if threading.get_ident() == self._thread:
            self._own_ns = time.thread_time_ns() - self._begin_ns
        return self._own_ns + self._sampler.intake.worker_cpu_ns
