"""Waiting for queued device work before a mark, so that it counts in its own epoch.

The caller's thread only records; the waiting is done in a worker. CUDA is never initialised from here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anyio

    from aiocarbon._engine.engine import Engine

LIMIT_S = 10.0
GRACE_S = 0.2
"""So much longer a wait of torch's has, which ends by itself."""

POLL_S = 0.0005


class DeviceSync:
    """The waits of one run's marks for queued device work.

    Args:
        tell: Takes what a reader of the report must know.
        limit_s: Longest wait of a mark, seconds.

    Attributes:
        how: A callable, "torch", or None for no waiting.
    """

    def __init__(self, tell: Callable[[str], None], *, limit_s: float = LIMIT_S) -> None:
        self.how: str | Callable[[], object] | None = None
        self._tell = tell
        self._limit_s = limit_s
        self._scopes: set[anyio.CancelScope] = set()
        self._is_over = False

    def prepare(self) -> Callable[[], object] | None:
        """What a worker must run before a mark; called on the caller's thread, where its streams are known.

        Returns:
            The callable itself, a wait for events recorded on torch's current streams, or None if there is nothing to
            wait for (none is wanted, torch is not imported, or CUDA not in use).
        """
        if self.how is None or callable(self.how):
            return self.how
        try:
            return _torch_events(sys.modules.get("torch"))
        except Exception as error:
            # A device that failed says so at each call, this one too: the training hears of it from its own.
            self._failed(error)
            return None

    async def waited(self, engine: Engine, wait: Callable[[], object] | None, t_ns: int) -> int:
        """The instant of a mark, after the device's work if there is something to wait for.

        Args:
            engine: Runs it in a worker.
            wait: What `prepare` gave.
            t_ns: When the mark was called, monotonic; what holds where the run ends before the work has.
        """
        if wait is None or self._is_over:
            return t_ns
        import anyio  # here the engine has loaded it

        with anyio.move_on_after(self._limit_s + GRACE_S) as scope:
            self._scopes.add(scope)
            try:
                await engine.blocking(wait)
            except Exception as error:
                # Whatever the user's callable throws, the mark is set.
                self._failed(error)
            finally:
                self._scopes.discard(scope)
        if self._is_over:
            return t_ns
        if scope.cancelled_caught:
            self.how = None  # each further mark would leave one more thread behind
            self._tell(f"device_sync did not return within {self._limit_s:g} s: marks are set without it from now on")
        return engine.clock.monotonic_ns()

    def end(self) -> None:
        """Wait no longer: the run has ended, and its last marks come before its end. In the engine's thread."""
        self._is_over = True
        for scope in self._scopes:
            scope.cancel()

    def _failed(self, error: Exception) -> None:
        self._tell(f"device_sync failed: {type(error).__name__}: {error}")


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
