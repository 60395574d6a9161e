"""Waiting for queued device work before a mark, so that it counts in its own epoch.

The caller's thread only records; the waiting is done in a worker. CUDA is never initialised from here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiocarbon._engine.engine import Engine

LIMIT_S = 10.0
POLL_S = 0.0005


def prepare(how: str | Callable[[], object]) -> Callable[[], object] | None:
    """What a worker must run before a mark; called on the caller's thread, where its streams are known.

    Args:
        how: A callable, or "torch".

    Returns:
        The callable itself, a wait for events recorded on torch's current streams, or None if there is nothing to
        wait for (torch is not imported, or CUDA not in use).
    """
    if callable(how):
        return how
    return _torch_events(sys.modules.get("torch"))


async def waited(engine: Engine, wait: Callable[[], object] | None, t_ns: int, tell: Callable[[str], None]) -> int:
    """The instant of a mark that was called at `t_ns`, after the device's work if there is something to wait for."""
    if wait is None:
        return t_ns
    try:
        await engine.blocking(wait)
    except Exception as error:
        # Whatever the user's callable throws, the mark is set.
        tell(f"device_sync failed: {type(error).__name__}: {error}")
    return engine.clock.monotonic_ns()


def _torch_events(torch: Any) -> Callable[[], object] | None:
    if torch is None or not torch.cuda.is_initialized():
        return None
    events = []
    for index in range(torch.cuda.device_count()):
        # A device without a context has no work queued, and asking it for a stream would make one.
        if torch._C._cuda_hasPrimaryContext(index):
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(index))
            events.append(event)
    if not events:
        return None

    def wait() -> None:
        deadline = time.monotonic() + LIMIT_S
        for event in events:
            while not event.query():
                if time.monotonic() > deadline:
                    raise TimeoutError(f"queued CUDA work did not end within {LIMIT_S:g} s; the mark is set without it")
                time.sleep(POLL_S)

    return wait
