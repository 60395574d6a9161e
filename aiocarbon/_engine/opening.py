"""A session out of settings: its ledger, what its reports state, and what is done in each session there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from aiocarbon._core.body import Facts, Overhead
from aiocarbon._core.curve import Curve
from aiocarbon._core.identity import Identity
from aiocarbon._core.intensity import IntensityCurve
from aiocarbon._core.ledger import Ledger
from aiocarbon._core.policy import Split
from aiocarbon._core.wallclock import Anchor, WallClock
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.session import Session
from aiocarbon._engine.surroundings import Surroundings
from aiocarbon._logging import get_logger, why
from aiocarbon._version import __version__
from aiocarbon.settings import Settings

if TYPE_CHECKING:
    from aiocarbon._core.report import Equivalent

log = get_logger("engine")


def make_session(
    settings: Settings,
    who: Identity,
    place: Surroundings,
    clock: Clock,
    overhead: Callable[[], Overhead],
    on_exceeded: Callable[[], None] = lambda: None,
) -> Session:
    """A session that has not begun and has no device yet.

    Args:
        settings: Its settings.
        who: Of which run, and what launched it, as long as the settings say nothing else.
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
    who = who.said(run_id=settings.run_id, node=settings.node)
    facts = Facts(
        run_id=who.run_id,
        name=settings.name,
        host=who.host,
        location=place.location,
        version=__version__,
        scope=settings.scope,
        identity=who,
        first_epoch=place.first_epoch,
        former=place.former,
    )
    session = Session(
        facts,
        ledger,
        curves,
        overhead=overhead,
        equivalents=_equivalents,
        budget=settings.budget,
        on_exceeded=on_exceeded,
        split=_among_spans(settings),
    )
    for note in (*filter(None, (who.advice,)), *place.notes):
        session.warn(note)
    return session


class Closing:
    """The end of a run, while it is being made.

    Attributes:
        patience: In it sources are waited for.
        is_done: Set once the report is final.
    """

    def __init__(self) -> None:
        self.patience = anyio.CancelScope()
        self.is_done = anyio.Event()


def begun(sessions: Iterable[Session]) -> list[Session]:
    """Those that have begun: one whose meters are still read for the first time has no instant to tell of."""
    return [session for session in sessions if session.newest is not None]


def in_each(settings: Mapping[Session, Settings], sessions: Iterable[Session], act: Callable[[Session], None]) -> None:
    """Do something in runs, where an error of ours in one of them ends neither it nor the others.

    Args:
        settings: Of all runs: a strict one raises.
        sessions: Those in which it is done.
        act: What is done.
    """
    for session in sessions:
        try:
            act(session)
        except Exception as error:
            if settings[session].strict:
                raise
            text = f"the instrument failed ({why(error)}); it measures on, and later figures may lack something"
            if text not in session.warnings:
                log.error("session.failed", run_id=session.facts.run_id, why=why(error))
                session.warn(text)


def _among_spans(settings: Settings) -> Split:
    """The rule by which energy is split among spans: a share of the machine's has no idle floor of its own."""
    rule = settings.attribution
    return rule if settings.scope == "machine" else replace(rule, floor_w=0.0)


def _equivalents(co2eq_g: float) -> tuple[Equivalent, ...]:
    """The CO2eq told as other things; loaded with the first report that is read."""
    try:
        from aiocarbon.intensity.equivalents import equivalents

        return equivalents(co2eq_g)
    except OSError as error:  # no file can be opened any more, which must not cost the report
        log.warning("equivalents.unread", why=why(error))
        return ()
