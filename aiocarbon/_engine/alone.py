"""A run without an engine: nothing is measured, and its report says so instead of failing the training.

Used where the engine could not begin a run, or died in it: the caller's thread then owns the session.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiocarbon._core.body import NO_OVERHEAD
from aiocarbon._core.identity import Identity
from aiocarbon._core.ledger import add_cuts
from aiocarbon._core.units import NS_PER_S
from aiocarbon._engine.clock import SystemClock
from aiocarbon._engine.session import Session
from aiocarbon._logging import get_logger
from aiocarbon.errors import AiocarbonError

if TYPE_CHECKING:
    from aiocarbon._core.report import EpochReport, RunReport
    from aiocarbon._engine.surroundings import Surroundings
    from aiocarbon.settings import Settings

log = get_logger("tracker")


def unmeasured(arguments: Mapping[str, Any], who: Identity) -> Session:
    """A session that has begun and has no device: its figures hold nothing, with a coverage of 0.

    Args:
        arguments: Checked arguments of the tracker; the environment and files are read as for any run.
        who: Of which run it is.

    Raises:
        ConfigError: A setting of the environment or a file is not accepted.
    """
    from aiocarbon._engine.opening import make_session

    settings, place = _found(arguments, who)
    session = make_session(settings, who, place, SystemClock(), lambda: NO_OVERHEAD)
    session.warn("no device could be read: the figures hold nothing; `aiocarbon doctor` tells why")
    now = time.monotonic_ns()
    session.begin(now)
    session.publish(now)
    return session


def _found(arguments: Mapping[str, Any], who: Identity) -> tuple[Settings, Surroundings]:
    """The settings in force and the run's place; the defaults where these cannot be found out."""
    from aiocarbon._engine.surroundings import resolved, surroundings
    from aiocarbon.settings import Settings

    try:
        settings = resolved(arguments)
        return settings, surroundings(settings, arguments, who)
    except AiocarbonError:
        raise
    except Exception as error:
        # What kept the engine from beginning, as a file that may not be read, must not reach the training here.
        log.warning("run.unknown", why=f"{type(error).__name__}: {error}")
        return Settings(), surroundings(Settings(), {})


def finish(session: Session, t_ns: int, steps: int) -> RunReport:
    """End a session that no engine owns, and give its final report of what was measured until then."""
    session.end(t_ns, steps=steps)
    session.settle(t_ns + NS_PER_S)  # no reading will come: what is known is final
    for _ in session.shared(None, is_last=True):
        pass  # nobody else runs in this thread
    return session.made(t_ns, is_final=True, ended_well=False)


def unknown_epoch() -> EpochReport:
    """An epoch about which nothing is known but that nothing is: no energy, no coverage, no length."""
    from aiocarbon._core.assemble import epoch_report

    return epoch_report(add_cuts(()), index=0, host="", pue=1.0, steps=0, is_partial=True, is_final=False)
