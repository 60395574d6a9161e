"""A session out of settings: its ledger, and what its reports state."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiocarbon._core.body import Facts, Overhead
from aiocarbon._core.curve import Curve
from aiocarbon._core.intensity import IntensityCurve
from aiocarbon._core.ledger import Ledger
from aiocarbon._core.wallclock import Anchor, WallClock
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.session import Session
from aiocarbon._engine.surroundings import Surroundings
from aiocarbon._version import __version__
from aiocarbon.settings import Settings

if TYPE_CHECKING:
    from aiocarbon._core.report import Equivalent


def make_session(
    settings: Settings,
    run_id: str,
    place: Surroundings,
    clock: Clock,
    overhead: Callable[[], Overhead],
    on_exceeded: Callable[[], None] = lambda: None,
) -> Session:
    """A session that has not begun and has no device yet.

    Args:
        settings: Its settings.
        run_id: Its id.
        place: Where it takes place.
        clock: Tells when it is made.
        overhead: Tells what the instrument has cost since.
        on_exceeded: Called once the budget is used up.
    """
    curves: dict[str, Curve] = {}
    ledger = Ledger(
        curves,
        intensity=IntensityCurve(place.intensity),
        pue=place.pue,
        wall=WallClock(Anchor(clock.monotonic_ns(), clock.wall_ns())),
    )
    facts = Facts(
        run_id=run_id,
        name=settings.name,
        host=settings.node or socket.gethostname(),
        location=place.location,
        version=__version__,
    )
    return Session(
        facts,
        ledger,
        curves,
        overhead=overhead,
        equivalents=_equivalents,
        budget=settings.budget,
        on_exceeded=on_exceeded,
    )


def _equivalents(co2eq_g: float) -> tuple[Equivalent, ...]:
    """The CO2eq told as other things; loaded with the first report that is read."""
    from aiocarbon.intensity.equivalents import equivalents

    return equivalents(co2eq_g)
