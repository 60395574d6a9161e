"""What goes on behind the entering of a run, for which nobody waits.

What reports and predictions are made of is loaded, earlier runs are looked at, and the carbon intensity is followed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.abc

from aiocarbon._engine.clock import Clock
from aiocarbon._forks import FORKS
from aiocarbon._logging import get_logger, why

if TYPE_CHECKING:
    from pathlib import Path

    from aiocarbon._core.rates import Prior
    from aiocarbon._engine.exchange import Exchange
    from aiocarbon._engine.poller import Poller
    from aiocarbon._engine.session import Session
    from aiocarbon._engine.surroundings import Surroundings
    from aiocarbon.settings import Settings

log = get_logger("behind")

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
        lacks = "this run's predictions and carbon intensity"
        try:
            await self._blocking(_load)
            session.foresight.begin(settings, await self._prior(session, settings), session.facts.first_epoch)
            lacks = "the carbon intensity"
            # All this may take longer than a short run, whose end then waits for it no more.
            if session in self._begun and not isinstance(settings.intensity, int | float):
                await self._blocking(_load_asking)
                self._begin_asking(session, settings, place)
        except Exception as error:  # as where a package cannot be imported: it costs the run no reading
            log.warning("run.behind", why=why(error))
            session.warn(f"{lacks} cannot be followed: {type(error).__name__}: {error}")
        finally:
            begun.set()
        poller = self._pollers.get(session)
        if poller is not None:
            await poller.run()

    async def _prior(self, session: Session, settings: Settings) -> Prior | None:
        """What earlier runs tell of this one, if their journals are read in time."""
        if settings.journal is None or not settings.name:
            return None
        prior: Prior | None = None
        with anyio.move_on_after(PRIOR_LIMIT_S):
            prior = await self._blocking(_told_by_earlier, settings.journal, settings.name, session.facts.run_id)
        return prior

    def _begin_asking(self, session: Session, settings: Settings, place: Surroundings) -> None:
        from aiocarbon._engine.poller import Poller

        if session in self._begun:
            exchange = self.exchange(is_offline=settings.offline)
            self._pollers[session] = (self._make_poller or Poller)(exchange, session, settings, place)

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
    with FORKS.kept_off():
        import aiocarbon._core.assemble  # the first report may be asked for at once
        import aiocarbon._core.foretell
        import aiocarbon._core.predict  # noqa: F401  # loading is the purpose
        from aiocarbon.intensity.equivalents import equivalents

        equivalents(0.0)  # reads its table, while it can be opened


def _load_asking() -> None:
    with FORKS.kept_off():
        import aiocarbon._engine.poller
        import aiocarbon.intensity.cache
        import aiocarbon.intensity.client  # noqa: F401  # loading is the purpose


def _told_by_earlier(journal: Path, name: str, run_id: str) -> Prior | None:
    with FORKS.kept_off():
        from aiocarbon.journal.prior import prior_of

    return prior_of(journal, name, run_id)
