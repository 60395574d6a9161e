"""Where one run takes place: asked of others while it is a guess, again where those who know did not answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from aiocarbon._core.units import NS_PER_S
from aiocarbon._engine.exchange import Exchange
from aiocarbon._engine.surroundings import Surroundings, placed
from aiocarbon._engine.whereabouts import Found, chain_of, is_own, locate
from aiocarbon._logging import get_logger
from aiocarbon.errors import IntensityError

if TYPE_CHECKING:
    from aiocarbon._engine.session import Session
    from aiocarbon.intensity.base import Source
    from aiocarbon.settings import Settings

log = get_logger("poller")

NOT_ASKED_S: Final = 60.0
"""When to try again where another process held the question for too long."""


class Placing:
    """Where one run takes place, as far as it is known.

    Args:
        exchange: Asks.
        session: The run.
        settings: Its settings.
        first: What small files told.
        environ: Where base URLs and tokens are looked up.

    Attributes:
        place: What is known by now.
        is_asking: True while others are asked.
        due_ns: When it is worth asking again, monotonic; infinite where it is not.
    """

    def __init__(
        self, exchange: Exchange, session: Session, settings: Settings, first: Surroundings, environ: Mapping[str, str]
    ) -> None:
        self.place = first
        self.is_asking = False
        self.due_ns = math.inf
        self._exchange = exchange
        self._session = session
        self._settings = settings
        self._environ = environ
        self._is_asked = False

    @property
    def is_due(self) -> bool:
        """True if it is worth asking again."""
        return self._exchange.clock.monotonic_ns() >= self.due_ns

    async def ask(self) -> Surroundings | None:
        """What others know better; None where nobody does. What there is to say of that is told the first time."""
        guess, exchange, is_first = self.place.location, self._exchange, not self._is_asked
        self._is_asked, self.due_ns = True, math.inf
        if is_own(self._settings):
            return None
        self.is_asking = guess.is_guess and exchange.client is not None
        try:
            found = await locate(exchange, self.place, self._environ)
        except IntensityError as error:  # it stays a guess
            why = f"where this machine is was not asked: {error}"
            found = Found(location=guess, notice=why, again_in_s=NOT_ASKED_S)
        self.is_asking = False
        if not math.isinf(found.again_in_s):
            self.due_ns = exchange.clock.monotonic_ns() + round(found.again_in_s * NS_PER_S)
        if found.notice and is_first:
            self._session.warn(found.notice)
        if found.location == guess:
            log.debug("place.unknown", again_in_s=found.again_in_s)
            return None
        place: Surroundings = await exchange.blocking(placed, self._settings, found.location)
        return place

    async def chain(self, place: Surroundings) -> tuple[Source, ...]:
        """The sources that are asked of a place, in their order.

        Raises:
            ConfigError: The user's own file cannot be read.
        """
        blocking = self._exchange.blocking
        links = await blocking(chain_of, self._settings, place.location, blocking, self._environ)
        for link in links:
            if link.source is None and link.name == self._settings.intensity:
                self._session.warn(f"carbon intensity: {link.name} is not used: {link.why}")
        return tuple(link.source for link in links if link.source is not None)

    def tell_found(self) -> None:
        """Say since when it is no guess any more."""
        place, guess = self._session.facts.location, self.place.location
        at = datetime.fromtimestamp(self._exchange.now_s, UTC)
        self._session.warn(
            f"location {guess.zone} was a guess ({guess.how}) up to {at:%Y-%m-%d %H:%M} UTC, when {place.name} "
            f"({place.zone}) was found out ({place.how}): it counts for the whole run, also for the time before"
        )

    def tell_guess(self) -> None:
        """Say that it is one."""
        place = self.place.location
        if place.is_guess and not is_own(self._settings):
            self._session.warn(
                f"location {place.zone} is a guess ({place.how}); give it with location= or AIOCARBON_LOCATION, "
                "since it decides the CO2eq"
            )
