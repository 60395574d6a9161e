"""Work that must end by an instant of the engine's clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from aiocarbon._core.units import ns_from_s
from aiocarbon._engine.clock import Clock

T = TypeVar("T")


async def within(clock: Clock, limit_s: float, work: Callable[[], Awaitable[T]]) -> T:
    """What some work gives, if it gives it in time; else it is cancelled.

    Args:
        clock: Whose seconds are meant.
        limit_s: How long it may take.
        work: The work. What it raises passes through as it is, in no group.

    Raises:
        TimeoutError: It took longer.
    """
    until_ns = clock.monotonic_ns() + ns_from_s(limit_s)
    given: list[T] = []
    failed: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def strike() -> None:
            await clock.sleep_until(until_ns)
            group.cancel_scope.cancel()

        group.start_soon(strike)
        try:
            given.append(await work())
        except Exception as error:
            failed.append(error)
        group.cancel_scope.cancel()
    if failed:
        raise failed[0]
    if not given:
        raise TimeoutError(f"it took longer than {limit_s:g} s")
    return given[0]
