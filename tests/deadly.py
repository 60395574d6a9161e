"""What ends the engine amid a run, as an error of its own would: handed to a scripted meter as one of its answers."""

from __future__ import annotations

from aiocarbon._engine import host as hosts


def kill_engine() -> int:
    """Begin a task in the engine that fails."""
    host = hosts._host
    assert host is not None
    assert host._loop is not None
    assert host._engine is not None
    host._loop.call_soon_threadsafe(host._engine.group.start_soon, _fail, context=host._context)
    return 2_000_000


async def _fail() -> None:
    raise ZeroDivisionError("the engine's own")
