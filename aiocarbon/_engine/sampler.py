"""Takes readings: ticks for counters and models, bursts for power sensors, a watch behind every mark.

Guarantees: ticks are absolute, a missed one is counted and never replayed; blocking reads run in worker threads with a
deadline; a device that hangs gets a hop of its own; readings of one device reach its curve in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import anyio.abc
from anyio import to_thread

from aiocarbon._core.reading import Reading
from aiocarbon._core.units import NS_PER_MS, NS_PER_S, ns_from_s, s_from_ns
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.hops import READ_DEADLINE_S, Burst, Hop, Result, Ticker
from aiocarbon._engine.intake import Intake, Warn
from aiocarbon._engine.mates import Mates
from aiocarbon._engine.quiet import BEGUN_NS, LOOKED_NS, Quiet
from aiocarbon._engine.slowness import PROBE_NS, note_stand, settle_probe
from aiocarbon._engine.ticking import Ticking
from aiocarbon._engine.track import Track

WATCH_PERIOD_NS = 5 * NS_PER_MS
WATCH_NS = 120 * NS_PER_MS
"""How long a counter is watched to its next change after a mark (NVML refreshes every 20 to 100 ms)."""

EDGE_WATCHES, EDGE_WATCH_NS = 8, 5 * NS_PER_S
"""So many edges of spans at once are watched like marks, then one in so long: each costs up to 24 reads a counter, and
an asynchronous training has thousands of edges."""

BURST_NS = NS_PER_S
ASK_SHARE = 0.6
"""Of the time that a reading may take, this much is for who reads the device for this process."""

POWER_JITTER = 0.1
TRIES = 4


class Sampler:
    """Reads tracks and feeds their curves.

    Attributes:
        missed_ticks: Ticks that came too late and were dropped.
        intake: Takes what was read.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        group: anyio.abc.TaskGroup,
        limiter: anyio.CapacityLimiter,
        tracks: Callable[[], list[Track]],
        mates: Mates,
        warn: Warn,
        lost: Callable[[Track], None],
        arrived: Callable[[], None],
        ticked: Callable[[], None],
        quiet: Quiet,
        is_urgent: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._group = group
        self._limiter = limiter
        self._tracks = tracks
        self._mates = mates
        self._arrived = arrived
        self._ticked = ticked
        self._quiet = quiet
        self._bursts: set[Burst] = set()
        self._ticking = Ticking(
            clock=clock,
            group=group,
            limiter=limiter,
            tracks=tracks,
            heard=self._heard,
            hung=self._hung,
            quiet_to_ns=lambda: quiet.until_ns(self.interval_ns, tracks()),
            is_urgent=is_urgent,
        )
        self._is_bursting = self._is_watching = False
        self._edges_watched_ns = 0
        self.interval_ns = NS_PER_S
        self.missed_ticks = 0
        self.intake = Intake(clock=clock, mates=mates, warn=warn, lost=lost)

    # -- running -----------------------------------------------------------------------------------------------

    def set_interval(self, interval_ns: int) -> None:
        """Tick at another pace, from now on; begins to tick if it does not yet."""
        self._quiet.end(BEGUN_NS)
        self._ticking.hasten()
        if not self._ticking.is_on or interval_ns != self.interval_ns:
            self.interval_ns = interval_ns
            self._ticking.begin(interval_ns)

    def looked_at(self) -> bool:
        """Be told, from any thread, that somebody looks at a report; True if ticks may have gone unheard."""
        self._quiet.end(LOOKED_NS)
        return self._ticking.hasten()

    async def catch_up(self) -> None:
        """Hear of the ticks that were not told."""
        self._ticking.hear()

    def stop(self) -> None:
        """Take no more readings: the meters are about to be closed."""
        self.intake.is_closed = True
        self._ticking.stop()
        for burst in self._bursts:
            burst.stop.set()

    def refresh_tasks(self) -> None:
        """Begin what new tracks need: ticks, bursts for power sensors, a watch for counters to be probed."""
        self._ticking.refresh()
        if not self._is_bursting and any(t.is_quick and t.is_own for t in self._tracks()):
            self._is_bursting = True
            self._group.start_soon(self._burst_for_ever)
        if not self._is_watching and any(t.needs_watch and t.is_own and not t.is_probed for t in self._tracks()):
            self._is_watching = True
            self._group.start_soon(self._watch)

    def _heard(self, ticker: Ticker) -> None:
        """A tick was told: its readings are there."""
        self._taken(ticker)  # `ticked` settles
        for track in [t for t in self._tracks() if t.needs_watch and t.is_own and t.is_probed]:
            note_stand(track)
        for track in [t for t in self._tracks() if t.is_slow and t.is_own and not t.is_lost]:
            self._group.start_soon(self.sweep, [track])
        self._mates.tick()
        self._ticked()

    def _hung(self, ticker: Ticker) -> None:
        """A tick overran: set the device apart that hangs, and read those behind it."""
        self._group.start_soon(self.sweep, self._set_apart(ticker))

    # -- reading -----------------------------------------------------------------------------------------------

    async def latch(self) -> None:
        """Read every device now, or have it read, so that an instant just past has a reading behind it."""
        asked_ns = self._mates.ask()
        self._taken()
        await self.read_own()
        await self.sweep(await self._mates.arrive(asked_ns))

    async def look(self, t_ns: int) -> None:
        """Read every device out of its turn, for a span's edge just past; watch counters behind it if it may."""
        self._edges_watched_ns = max(self._edges_watched_ns, t_ns - EDGE_WATCHES * EDGE_WATCH_NS)
        if self._edges_watched_ns + EDGE_WATCH_NS <= t_ns:
            self._edges_watched_ns += EDGE_WATCH_NS
            self.watch(t_ns)
        await self.latch()

    async def read_own(self) -> None:
        """Read every device now that this process reads."""
        await self.sweep([t for t in self._tracks() if t.is_readable])

    async def latch_within(self, patience_s: float) -> None:
        """The same, but wait at most so long: what comes later is taken when it comes."""
        asked_ns = self._mates.ask()
        self._taken()
        hop = Hop([t for t in self._tracks() if t.is_readable])
        with anyio.move_on_after(patience_s):
            if hop.tracks:
                await to_thread.run_sync(hop.run, abandon_on_cancel=True, limiter=self._limiter)
                self._take(hop)
            await self.sweep(await self._mates.arrive(asked_ns, ASK_SHARE * patience_s))
            return
        self._group.start_soon(self._take_late, hop, patience_s)

    async def _take_late(self, hop: Hop, waited_s: float) -> None:
        if not hop.has_begun:  # no worker came to it, and none will
            await self.sweep(hop.tracks)
            return
        deadline = self._clock.monotonic_ns() + ns_from_s(max(READ_DEADLINE_S - waited_s, 0.0))
        while hop.current is not None and self._clock.monotonic_ns() < deadline:
            await self._clock.sleep_until(self._clock.monotonic_ns() + WATCH_PERIOD_NS)
        rest = self._set_apart(hop) if hop.current is not None else []
        self._take(hop)
        await self.sweep(rest)

    async def sweep(self, tracks: Sequence[Track]) -> None:
        """Read some devices once, in one hop; a device that hangs does not keep those behind it.

        On a machine so busy that no worker has its turn in time, it is tried again.
        """
        tries = TRIES
        while tracks and tries:
            hop = Hop(tracks)
            rest = await self._hop(hop, READ_DEADLINE_S)
            self._take(hop)
            tries -= not hop.has_begun
            tracks = rest

    async def _hop(self, hop: Hop, deadline_s: float) -> list[Track]:
        """Run a hop; if it overruns, the device it hangs in is set apart and those not yet read are returned."""
        with anyio.move_on_after(deadline_s):
            await to_thread.run_sync(hop.run, abandon_on_cancel=True, limiter=self._limiter)
            return []
        return self._set_apart(hop)

    def _set_apart(self, hop: Hop) -> list[Track]:
        """Abandon a hop that overran; the devices it did not come to."""
        hop.is_abandoned = True
        stuck = hop.current
        if stuck is None:
            return [] if hop.has_begun else list(hop.tracks)
        is_taken = self._taken(hop)  # what it answered before it hung does not say that it is back
        if not stuck.is_slow:
            stuck.is_slow = True
            self.intake.tell(
                stuck, "slow", f"did not answer within {READ_DEADLINE_S:g} s; the others are read without it"
            )
        if is_taken:
            self._arrived()
        return [] if isinstance(hop, Burst) else hop.unread()

    async def _run_burst(self, burst: Burst, length_ns: int) -> None:
        self._bursts.add(burst)
        for track in burst.tracks:
            track.is_in_burst = True
        try:
            await self._hop(burst, s_from_ns(length_ns) + READ_DEADLINE_S)
        finally:
            self._bursts.discard(burst)
            for track in burst.tracks:
                track.is_in_burst = False
            self._take(burst)

    async def _burst_for_ever(self) -> None:
        while True:
            tracks = [t for t in self._tracks() if t.is_quick and t.is_readable]
            now = self._clock.monotonic_ns()
            if not tracks:
                await self._clock.sleep_until(now + min(self.interval_ns, BURST_NS))
                continue
            probing = [t for t in tracks if not t.is_probed]
            period = WATCH_PERIOD_NS if probing else min(t.derivation.pace_ns for t in tracks)
            length = PROBE_NS if probing else BURST_NS
            burst = Burst(
                tracks,
                clock=self._clock,
                period_ns=period,
                until_ns=now + length,
                jitter=0.0 if probing else POWER_JITTER,
            )
            await self._run_burst(burst, length)
            for track in probing:
                settle_probe(track, self._clock.monotonic_ns())

    # -- watching ----------------------------------------------------------------------------------------------

    def watch(self, t_ns: int) -> None:
        """Watch every slowly refreshing counter to its next change after an instant, or have it watched."""
        self._mates.watch(t_ns)
        self.watch_own(t_ns)
        self._ticking.hasten()  # the mark may wait for more than the watch finds

    def watch_own(self, t_ns: int) -> None:
        """Watch those of them that this process reads."""
        wanting = [t for t in self._tracks() if t.needs_watch and t.is_readable]
        for track in wanting:
            track.wanted_ns = t_ns
        if wanting and not self._is_watching:
            self._is_watching = True
            self._group.start_soon(self._watch)

    async def _watch(self) -> None:
        while True:
            now = self._clock.monotonic_ns()
            probing = [t for t in self._tracks() if t.needs_watch and t.is_readable and not t.is_probed]
            wanting = [t for t in self._tracks() if t.wanted_ns is not None and t.is_readable]
            tracks = list(dict.fromkeys([*wanting, *probing]))
            if not tracks:
                self._is_watching = False
                return
            for track in probing:
                track.probed_from_ns = track.probed_from_ns or now
            length = PROBE_NS if probing else WATCH_NS
            seen = {t: t.derivation.last_value for t in tracks}
            unchanged = set(tracks)

            def is_done(results: Sequence[Result], seen: dict[Track, float | None] = seen) -> bool:
                for track, result in results:
                    if isinstance(result, Reading) and result.value != seen[track]:
                        unchanged.discard(track)  # noqa: B023  # the closure lives no longer than this turn
                return not unchanged  # noqa: B023

            burst = Burst(
                tracks,
                clock=self._clock,
                period_ns=WATCH_PERIOD_NS,
                until_ns=now + length,
                is_done=None if probing else is_done,
            )
            await self._run_burst(burst, length)
            self._end_watch(tracks, now + length)
            for track in probing:
                if self._clock.monotonic_ns() >= now + length - WATCH_PERIOD_NS:
                    settle_probe(track, self._clock.monotonic_ns())
            self._arrived()

    def _end_watch(self, tracks: Sequence[Track], until_ns: int) -> None:
        now = self._clock.monotonic_ns()
        for track in tracks:
            wanted = track.wanted_ns
            curve = track.derivation.curve
            if wanted is None:
                continue
            has_told = len(curve) > 0 and curve[-1].t_ns >= wanted
            if has_told or now >= max(until_ns, wanted + WATCH_NS) or not track.is_readable:
                track.wanted_ns = None

    def _take(self, hop: Hop) -> None:
        """Take what a hop has read, and settle what it tells."""
        if self._taken(hop):
            self._arrived()

    def _taken(self, *hops: Hop) -> bool:
        """Take what these hops have read, and what ticks and bursts have meanwhile; True if there was anything."""
        ticks = () if self._ticking.ticker is None else (self._ticking.ticker,)
        sources = dict.fromkeys((*hops, *ticks, *self._bursts))
        self.missed_ticks += sum(hop.missed.take() for hop in sources if isinstance(hop, Ticker))
        return self.intake.take(*sources)
