"""Waiting for clean electricity before a training begins, on asyncio, uvloop and trio."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiocarbon._engine import host as hosts
from aiocarbon._engine.bridge import answer
from aiocarbon._logging import get_logger
from aiocarbon.errors import ConfigError, EngineError
from aiocarbon.settings import UNSET, Unset, check_arguments

if TYPE_CHECKING:
    from concurrent.futures import Future

    import anyio

    from aiocarbon._core.waited import CleanWait
    from aiocarbon._engine.engine import Engine
    from aiocarbon._engine.waiting import Waiting

__all__ = ["Order", "wait_until_clean"]

log = get_logger("waiting")


async def wait_until_clean(
    *,
    below_g_per_kwh: float | None = None,
    deadline: datetime | timedelta | float | str | None = None,
    duration: timedelta | float | str | None = None,
    location: str | Unset | None = UNSET,
    intensity: float | str | os.PathLike[str] | Unset | None = UNSET,
    offline: bool | Unset = UNSET,
) -> CleanWait:
    """Wait until the grid is below a limit or, with a duration, until the best start of the work.

    ```python
    await aiocarbon.wait_until_clean(below_g_per_kwh=150, deadline="6h")
    await aiocarbon.wait_until_clean(duration="8h", deadline="24h")
    ```

    The plan is made anew as new forecasts come. Where nobody says what the intensity will be, it returns at once and
    says so; a network that fails costs no exception. It may be cancelled at any instant.

    Args:
        below_g_per_kwh: Limit in gCO2eq/kWh, above 0; None: no limit. With a duration: whichever comes first.
        deadline: How long to wait: a time zone aware `datetime`, a `timedelta`, seconds from now, or a text ("12h").
            With a duration the work has to be done by then. A `datetime` further ahead than a year (366 days) counts as
            that. None: no limit.
        duration: How long the work takes: a `timedelta`, seconds, or a text ("90min"); needs a deadline.
        location: As of `Tracker`.
        intensity: As of `Tracker`.
        offline: As of `Tracker`.

    Returns:
        What was waited for, why the wait ended, and what holds now.

    Raises:
        ConfigError: An argument, a value of the environment or of pyproject.toml is not accepted: a deadline in the
            past, a duration that is longer than the time up to the deadline.
    """
    order = Order(below_g_per_kwh, deadline, duration, location=location, intensity=intensity, offline=offline)
    try:
        return await answer(order.begin(), None)
    except EngineError as error:
        return order.failed(error)
    finally:
        order.end()


class Order:
    """One wait in the engine: what the async and the blocking function share. The arguments are theirs.

    Args:
        below_g_per_kwh: Limit.
        deadline: How long to wait.
        duration: How long the work takes.
        told: Called by the engine's thread with what is waited for; must not block.
        settings: Fields of `Settings`.

    Raises:
        ConfigError: An argument is not accepted; nothing was started.
    """

    def __init__(
        self,
        below_g_per_kwh: float | None,
        deadline: datetime | timedelta | float | str | None,
        duration: timedelta | float | str | None,
        *,
        told: Callable[[Waiting], object] = lambda _: None,
        **settings: Any,
    ) -> None:
        from aiocarbon._core.clean import RefusedError
        from aiocarbon._core.waited import Wish, check

        self._arguments = check_arguments(settings)
        self.wish = Wish(
            below_g_per_kwh=below_g_per_kwh,
            duration_s=None if duration is None else _seconds("duration", duration),
            deadline_s=None if deadline is None else _instant_s(deadline),
        )
        try:
            check(self.wish, time.time())
        except RefusedError as error:
            raise ConfigError(error.field, error.value, error.accepted) from error
        self._told = told
        self._began_s = time.monotonic()
        self._host: hosts.Host | None = None
        self._scope: anyio.CancelScope | None = None
        self._is_over = False

    def begin(self) -> Future[CleanWait]:
        """Begin to wait; a future of what comes of it."""
        self._host = hosts.lease()
        return self._host.call(self._wait)

    async def _wait(self, engine: Engine) -> CleanWait | None:
        import anyio

        from aiocarbon._engine.waiting import Waiter
        from aiocarbon.settings import resolve

        with anyio.CancelScope() as self._scope:
            if self._is_over:  # cancelled before it began
                return None
            settings = await engine.blocking(resolve, self._arguments)
            exchange = engine.exchange(is_offline=settings.offline)
            return await Waiter(exchange, settings, self._arguments, self.wish, told=self._told).wait()
        return None

    def end(self, *, is_joined: bool = False) -> None:
        """End the wait if it goes on, and give the engine back.

        Args:
            is_joined: True to wait, shortly, until the engine's thread is gone; else it waits for nothing.
        """
        self._is_over = True
        host, self._host = self._host, None
        if host is None:
            return
        host.call(self._cancel)
        hosts.release(host)
        if is_joined:
            host.join()

    @property
    def waited_s(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._began_s

    async def _cancel(self, engine: Engine) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def failed(self, error: EngineError) -> CleanWait:
        """What is told where the instrument failed: the training is not to wait for that."""
        from aiocarbon._core.waited import CleanWait, WaitEnd, instant_of

        log.warning("waiting.failed", why=str(error))
        return CleanWait(
            reason=WaitEnd.NO_FORECAST,
            note=f"the instrument failed: {error}",
            waited_s=self.waited_s,
            below_g_per_kwh=self.wish.below_g_per_kwh,
            duration_s=self.wish.duration_s,
            deadline=None if self.wish.deadline_s is None else instant_of(self.wish.deadline_s),
        )


def _seconds(field: str, value: object) -> float:
    from aiocarbon._core.timespan import seconds_of

    try:
        return seconds_of(value)
    except ValueError as error:
        raise ConfigError(field, value, str(error)) from None


def _instant_s(value: object) -> float:
    """UTC seconds of an instant, or of a time from now on."""
    from aiocarbon._core.timespan import MOST_S

    if not isinstance(value, datetime):
        return time.time() + _seconds("deadline", value)
    if value.tzinfo is None or value.utcoffset() is None:
        raise ConfigError("deadline", value, "a datetime with a time zone, such as datetime.now(UTC) + timedelta(...)")
    # Nothing is known of a time so far ahead; "whenever" is often written as the last instant there is.
    return min(value.timestamp(), time.time() + MOST_S)
