"""What goes on behind the entering of a run, for which nobody waits.

What reports and predictions are made of is loaded, earlier runs are looked at, and the carbon intensity is followed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.abc

from aiocarbon._engine.clock import Clock

if TYPE_CHECKING:
    from aiocarbon._core.rates import Prior
    from aiocarbon._engine.exchange import Exchange
    from aiocarbon._engine.poller import Poller
    from aiocarbon._engine.session import Session
    from aiocarbon._engine.surroundings import Surroundings
    from aiocarbon.settings import Settings

PRIOR_LIMIT_S: Final = 1.0
"""How long the journals of earlier runs may take to tell; a folder may lie on a slow network."""


class Behind:
    """The runs of one engine, as far as nobody waits for it.

    Args:
        clock: The engine's.
        blocking: Runs a blocking function in a worker.
        poller: Makes what follows a run's intensity; by default what asks the sources of its place.
    """

    def __init__(
        self,
        clock: Clock,
        blocking: Callable[..., Awaitable[Any]],
        poller: Callable[[Exchange, Session, Settings, Surroundings], Poller] | None = None,
    ) -> None:
        self._clock = clock
        self._blocking = blocking
        self._make_poller = poller
        self._begun: dict[Session, anyio.Event] = {}
        self._pollers: dict[Session, Poller] = {}
        self._exchanges: dict[bool, Exchange] = {}

    def follow(self, group: anyio.abc.TaskGroup, session: Session, settings: Settings, place: Surroundings) -> None:
        """Follow a run that has begun, up to `finish`."""
        self._begun[session] = anyio.Event()
        group.start_soon(self._follow, session, settings, place)

    async def _follow(self, session: Session, settings: Settings, place: Surroundings) -> None:
        begun = self._begun[session]
        try:
            await self._blocking(_load)
            prior: Prior | None = None
            if settings.journal is not None and settings.name:
                from aiocarbon.journal.prior import prior_of

                with anyio.move_on_after(PRIOR_LIMIT_S):
                    prior = await self._blocking(prior_of, settings.journal, settings.name, session.facts.run_id)
            session.foresight.begin(settings, prior, session.facts.first_epoch)
            # All this may take longer than a short run, whose end then waits for it no more.
            if session in self._begun and not isinstance(settings.intensity, int | float):
                from aiocarbon._engine.poller import Poller

                exchange = self.exchange(is_offline=settings.offline)
                self._pollers[session] = (self._make_poller or Poller)(exchange, session, settings, place)
        finally:
            begun.set()
        poller = self._pollers.get(session)
        if poller is not None:
            await poller.run()

    async def finish(self, session: Session, wait_s: float) -> None:
        """End the following of a run that has ended: what is still to be asked of its intensity is, for a short time.

        Args:
            session: The run.
            wait_s: How long that may take, seconds.
        """
        try:
            with anyio.move_on_after(wait_s):
                await self._begun[session].wait()
        finally:  # also where nobody waits any more
            del self._begun[session]
            poller = self._pollers.pop(session, None)
        if poller is not None:
            await poller.finish(wait_s)

    def exchange(self, *, is_offline: bool) -> Exchange:
        """What asks sources for all runs of this process; one for those that may send no packet."""
        if is_offline not in self._exchanges:
            from aiocarbon._engine.exchange import Exchange
            from aiocarbon.intensity.cache import Cache, default_folder
            from aiocarbon.intensity.client import Client

            client = None if is_offline else Client(self._blocking)
            self._exchanges[is_offline] = Exchange(self._clock, client, Cache(default_folder()), self._blocking)
        return self._exchanges[is_offline]

    async def aclose(self) -> None:
        """Close the ways out."""
        for exchange in self._exchanges.values():
            await exchange.aclose()


def _load() -> None:
    import aiocarbon._core.assemble  # the first report may be asked for at once
    import aiocarbon._core.foretell
    import aiocarbon._core.predict
    import aiocarbon._engine.poller
    import aiocarbon.intensity.cache
    import aiocarbon.intensity.client  # noqa: F401  # loading is the purpose
