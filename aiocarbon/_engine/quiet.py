"""How long ticks need not be told: the engine's loop sleeps through them, and takes what they read in one go.

Most of what an engine costs that does nothing else is the waking of its loop, since what runs once a second finds
nothing of its own in the processor's caches. The worker reads at every tick all the same: nothing is measured less
often, and who looks at a report has the loop catch up first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from aiocarbon._core.units import NS_PER_S
from aiocarbon._engine.clock import Clock

if TYPE_CHECKING:
    from aiocarbon._engine.mates import Mates
    from aiocarbon._engine.session import Session
    from aiocarbon._engine.track import Track

QUIET_NS: Final = 5 * NS_PER_S
"""The longest that ticks go untold."""

BATCH: Final = 64
"""So many readings wait at most: taking thousands at once would keep the training from the interpreter for long."""

BEGUN_NS: Final = 3 * NS_PER_S
"""Behind a run's begin, and where its pace changes, each tick is told: how often counters refresh is sought then."""

LOOKED_NS: Final = 10 * NS_PER_S
"""Behind a look at a report likewise: who looks often waits for no catching up."""


class Quiet:
    """Tells up to when ticks need not be told.

    Args:
        clock: The engine's.
        sessions: Its runs.
        recorded: Those with a journal, whose newest second is written at each tick.
        mates: The processes that read the same devices.
    """

    def __init__(
        self, clock: Clock, sessions: Collection[Session], recorded: Collection[Session], mates: Mates
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._recorded = recorded
        self._mates = mates
        self._loud_to_ns = 0

    def end(self, for_ns: int) -> None:
        """Have each tick told for so long from now on, in nanoseconds; from any thread."""
        self._loud_to_ns = max(self._loud_to_ns, self._clock.monotonic_ns() + for_ns)

    def until_ns(self, interval_ns: int, tracks: Sequence[Track]) -> int:
        """Up to which instant, monotonic, ticks need not be told; 0 where each is to be.

        Args:
            interval_ns: From each to the next.
            tracks: All devices.
        """
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._loud_to_ns or self._recorded or self._mates.wanted_ns is not None:
            return 0
        if any(_waits_in(session) for session in self._sessions) or any(_needs_ticks(t, interval_ns) for t in tracks):
            return 0
        quiet_ns = min(QUIET_NS, interval_ns * (BATCH // max(len(tracks), 1)))
        return now_ns + quiet_ns if quiet_ns >= 2 * interval_ns else 0


def _waits_in(session: Session) -> bool:
    """Whether anything in a run waits for readings: a mark, spans, a limit, whoever uses a share of the machine."""
    is_machine = session.scope.name == "machine"
    return not session.is_settled or session.sharing.is_wanted or session.budget is not None or not is_machine


def _needs_ticks(track: Track, interval_ns: int) -> bool:
    """Whether a device is one of those that are looked after at ticks: apart, followed, or slower than these."""
    is_slow_counter = track.needs_watch and track.derivation.curve.refresh_ns >= interval_ns
    return not track.is_readable or not track.is_probed or is_slow_counter
