"""An engine in the test's own loop, where nothing but what the test itself does moves its clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from aiocarbon._engine.engine import Engine
from aiocarbon._engine.session import Session
from aiocarbon.testing import FakeClock


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[TaskGroup]:
    """The task group in which an engine runs; it stops behind the body, also where that fails."""
    started = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run, started.set)
        await started.wait()
        if isinstance(engine.clock, FakeClock):
            engine.clock.workers = lambda: engine.limiter.borrowed_tokens
        try:
            yield group
        finally:
            engine.stop()


async def closed(engine: Engine, session: Session, clock: FakeClock, end_ns: int | None = None) -> Any:
    """The final report of a session; the clock is moved on while the end waits for it.

    Args:
        engine: It runs.
        session: It is open.
        clock: The engine's.
        end_ns: When the run ended, monotonic; None: now.
    """
    at_ns = clock.monotonic_ns() if end_ns is None else end_ns
    return await driven(clock, lambda: engine.close(session, at_ns, 0, ended_well=True))


async def driven(clock: FakeClock, verb: Callable[[], Awaitable[Any]]) -> Any:
    """What a verb gives that waits for the clock."""
    made: list[Any] = []

    async def do() -> None:
        made.append(await verb())

    async with anyio.create_task_group() as group:
        group.start_soon(do)
        while not made:
            await clock.advance(0.01)
    return made[0]
