"""The engine: one task group with the samplers, the sessions of all trackers and their journals.

`Engine.run` knows no thread and no host; tests run it inline on a fake clock, `host.py` runs it in its daemon thread.
All methods run on the engine's loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import anyio.abc
from anyio import to_thread

from aiocarbon._core.identity import Identity
from aiocarbon._core.reading import Finding
from aiocarbon._core.units import NS_PER_S, ns_from_s
from aiocarbon._engine.bank import Bank, Entry
from aiocarbon._engine.behind import Behind
from aiocarbon._engine.claims import Claims
from aiocarbon._engine.clock import Clock, SystemClock
from aiocarbon._engine.clockwatch import ClockWatch
from aiocarbon._engine.cost import Cost
from aiocarbon._engine.known import SETTLE_NS
from aiocarbon._engine.mates import Mates
from aiocarbon._engine.notices import Notices, note, tell_of, tell_of_unopened
from aiocarbon._engine.opening import Closing, begun, in_each, make_session
from aiocarbon._engine.quiet import Quiet
from aiocarbon._engine.sampler import Sampler
from aiocarbon._engine.scoping import open_scope
from aiocarbon._engine.session import Session
from aiocarbon._engine.surroundings import Surroundings, resolved, surroundings
from aiocarbon._engine.turns import TURNS
from aiocarbon._engine.windows import kept_instants
from aiocarbon._logging import get_logger
from aiocarbon.errors import EngineError
from aiocarbon.settings import Settings

if TYPE_CHECKING:
    from aiocarbon._core.report import EpochReport, RunReport
    from aiocarbon._engine.exchange import Exchange
    from aiocarbon._engine.poller import Poller
    from aiocarbon._engine.recorder import Recorder
    from aiocarbon.meters.usage import UsageReader

log = get_logger("engine")

OPEN_WAIT_S = 0.5
"""How long entering waits for a driver to initialise."""

EPOCH_WAIT_S = 0.05
"""How long `epoch()` waits for its readings."""

EXIT_WAIT_S = 0.3
INTENSITY_WAIT_S = 2.0
"""Longest wait for sources at a run's end; the chain's next value counts then."""

DISK_WAIT_S = 10.0
"""The engine lives on for so long, where its process does, to write journals' ends to a slow disk."""

KEEP_POINTS_NS = 600 * NS_PER_S
"""Every point of the last ten minutes is kept."""

CHECK_NS = 10 * NS_PER_S
"""How often meters are asked what they found out from their own readings."""

WORKERS = 64


class Engine:
    """Runs samplers and sessions until told to stop.

    Args:
        clock: Its clock.
        poller: Makes what follows a run's intensity; by default what asks the sources of its place.
        usage: Makes what looks who uses the machine; by default its own reader.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        poller: Callable[[Exchange, Session, Settings, Surroundings], Poller] | None = None,
        usage: Callable[..., UsageReader] | None = None,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.sessions: dict[Session, Settings] = {}
        self.notices = Notices(self.clock, self.sessions.keys())
        self._recorders: dict[Session, Recorder] = {}
        self._wants: dict[Session, list[Entry]] = {}
        self._orders: WeakKeyDictionary[Session, anyio.Lock] = WeakKeyDictionary()
        self._closings: dict[Session, Closing] = {}
        self._ending: list[Recorder] = []
        self._stop: anyio.Event | None = None
        self._usage = usage
        self._check_due_ns = 0
        self._behind = Behind(self.clock, self.blocking, poller)

    # -- life --------------------------------------------------------------------------------------------------

    async def run(self, started: Callable[[], None]) -> None:
        """Run until `stop`; `started` is called once verbs may be used."""
        try:
            await self._run(started)
        finally:
            TURNS.give_back()

    async def _run(self, started: Callable[[], None]) -> None:
        self._stop = anyio.Event()
        self._clocks = ClockWatch(self.clock, lambda: self._bank.tracks)
        async with anyio.create_task_group() as group:
            self.group = group
            self.limiter = anyio.CapacityLimiter(WORKERS)
            self._mates = Mates(self, Claims.found(self.clock), lambda: self._bank.tracks)
            self._bank = Bank(self.clock, group, self.limiter, self._opened, self._found, self._mates)
            self._sampler = Sampler(
                clock=self.clock,
                group=group,
                limiter=self.limiter,
                tracks=lambda: self._bank.tracks,
                mates=self._mates,
                warn=self.notices.trouble,
                lost=self._bank.lost,
                arrived=self.settle,
                ticked=self._ticked,
                quiet=Quiet(self.clock, self.sessions, self._recorders, self._mates),
                is_urgent=self._clocks.has_moved,
            )
            self._mates.lend(self._sampler)
            self._cost = Cost(self._sampler)
            self.look = self._sampler.look  # read every meter for an edge
            self.catch_up = self._sampler.catch_up  # with ticks that were not told
            started()
            await self._stop.wait()
            self._sampler.stop()
            self._mates.close()
            await self._bank.aclose()
            with anyio.move_on_after(DISK_WAIT_S):
                for recorder in self._ending:
                    await recorder.is_closed.wait()
            with anyio.move_on_after(EXIT_WAIT_S):
                await self._behind.aclose()
            group.cancel_scope.cancel()

    def stop(self) -> None:
        """Let `run` end."""
        if self._stop is not None:
            self._stop.set()

    async def blocking(self, function: Callable[..., Any], *args: object) -> Any:
        """Run something blocking in a worker thread of ours."""
        return await to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=self.limiter)

    def order(self, session: Session) -> anyio.Lock:
        """Held while a mark is set, so that marks are set in the order of their calls: each waits for readings."""
        return self._orders.setdefault(session, anyio.Lock())

    # -- verbs -------------------------------------------------------------------------------------------------

    async def open(
        self,
        arguments: Mapping[str, Any],
        who: Identity,
        on_exceeded: Callable[[], None] = lambda: None,
        *,
        with_root: bool = True,
    ) -> Session:
        """Begin a run: settings, location, meters, a first reading of each, the first mark.

        Without its root, the scope of the process leaves out the CPU time of this process itself.

        Raises:
            ConfigError: A setting of the environment or a file is not accepted, or the scope cannot be told here.
        """
        settings = await self.blocking(resolved, arguments)
        interval_ns = ns_from_s(settings.interval_s)
        self._bank.interval_ns = min([interval_ns, *(ns_from_s(s.interval_s) for s in self.sessions.values())])
        scope = await open_scope(self, settings, with_root=with_root, make=self._usage)
        entries = self._bank.want(settings.meters)
        place = await self.blocking(surroundings, settings, arguments, who)
        with anyio.move_on_after(OPEN_WAIT_S):
            for entry in entries:
                await entry.opened.wait()
        self._clocks.look(self.sessions)  # what was until now is no matter of this run
        session = make_session(settings, who, place, self.clock, self._cost.meter(), on_exceeded)
        scope.serve(self, session)
        self.sessions[session] = settings
        session.look_at_clocks = lambda: self._clocks.look(self.sessions)
        session.looked_at = self._sampler.looked_at
        log.debug("identity.chosen", run_id=session.facts.run_id, host=session.facts.host, rules=who.rules)
        self._wants[session] = entries
        for entry in entries:
            self._attach(session, entry)
        self._sampler.refresh_tasks()
        await self._mates.come_back(session)
        await self._sampler.latch()
        await scope.look_within(self.clock.monotonic_ns(), OPEN_WAIT_S)
        self.set_interval()
        now = self.clock.monotonic_ns()
        session.begin(now)
        self._sampler.watch(now)
        if settings.journal is not None:
            from aiocarbon._engine.recorder import Recorder

            recorder = Recorder(self, session, settings)
            self._recorders[session] = recorder
            self.group.start_soon(recorder.run)
        self.settle()
        session.publish(now)
        self._behind.follow(self.group, session, settings, place)
        return session

    async def mark(self, session: Session, act: Callable[[], EpochReport | None]) -> EpochReport | None:
        """Take a reading of every meter, waiting at most 50 ms, and set a mark by `act`."""
        await session.scope.latch(self._sampler.latch_within, EPOCH_WAIT_S)
        report = act()
        now = self.clock.monotonic_ns()
        self._sampler.watch(now)
        self.settle()
        session.publish(now)
        return None if report is None else session.latest(report)

    def watch(self, t_ns: int) -> None:
        """Have a mark that was set without a reading placed by readings behind it."""
        self._sampler.watch(t_ns)
        self.group.start_soon(self._sampler.latch)

    async def share(self, session: Session, t_ns: int | None = None, *, is_last: bool = False) -> None:
        """Split a run's energy among its spans, as far as readings tell, or up to an instant that one was taken at."""
        async with session.sharing.turn:
            mark = session.known(self.clock.monotonic_ns(), t_ns)
            for _ in session.shared(mark, is_last=is_last):
                await anyio.lowlevel.checkpoint()  # others have their turn, here and in the training

    async def share_upto(self, session: Session, t_ns: int | None) -> None:
        """Take a reading of every meter, waiting at most 50 ms, and split the energy as far as that tells.

        Args:
            session: The run.
            t_ns: An instant before the reading up to which energy is split in any case, monotonic.
        """
        await self._sampler.latch_within(EPOCH_WAIT_S)
        await self.share(session, t_ns)

    async def snapshot(self, session: Session) -> RunReport:
        """Read every meter and publish the report as of now."""
        now = self.clock.monotonic_ns()
        await session.scope.latch(self._sampler.latch_within, EPOCH_WAIT_S)
        if session.sharing.is_wanted:
            session.sharing.hasten(now)
            await self.share(session, now)
        return session.made(now)

    async def close(
        self,
        session: Session,
        t_ns: int,
        steps: int,
        ended_well: bool,
        intensity_wait_s: float = INTENSITY_WAIT_S,
    ) -> RunReport:
        """End a run: the last reading, what is still to be asked of its intensity, the final report, its journal's end.

        Args:
            session: The run.
            t_ns: When it ended, monotonic.
            steps: Steps told since the last mark.
            ended_well: False if nobody ended it.
            intensity_wait_s: How long sources may take for what is missing.
        """
        closing = self._closings.get(session)
        if closing is not None:  # asked for again, as where its user did not wait and the process ends
            if intensity_wait_s < INTENSITY_WAIT_S:
                closing.patience.cancel()
            await closing.is_done.wait()
        if session not in self.sessions:
            if session.published is None:
                raise EngineError("the run was never begun")
            return session.published
        closing = self._closings[session] = Closing()
        try:
            return await self._close(session, t_ns, steps, ended_well, intensity_wait_s)
        finally:
            del self._closings[session]
            closing.is_done.set()

    async def _close(
        self, session: Session, t_ns: int, steps: int, ended_well: bool, intensity_wait_s: float
    ) -> RunReport:
        with anyio.move_on_after(EXIT_WAIT_S):
            async with self.order(session):  # marks that are on their way come first
                await self._sampler.latch()
            await session.scope.look_within(t_ns, EXIT_WAIT_S)
        session.end(t_ns, steps=steps)
        self._sampler.watch(t_ns)
        self.settle()
        deadline = self.clock.monotonic_ns() + SETTLE_NS
        while not session.is_settled and self.clock.monotonic_ns() < deadline:
            await self.clock.sleep_until(self.clock.monotonic_ns() + SETTLE_NS // 30)
            self.settle()
        session.settle(t_ns + 2 * SETTLE_NS)
        if session.sharing.is_wanted:
            await self.share(session, t_ns)  # the most of it, before the last figures of the intensity are waited for
        with self._closings[session].patience:
            await self._behind.finish(session, intensity_wait_s)
        if session.sharing.is_wanted:
            await self.share(session, t_ns, is_last=True)
        with anyio.move_on_after(EPOCH_WAIT_S):
            await self._bank.check()
        tell_of_unopened(session, self._wants.pop(session))
        session.tell_of_lack(self.clock.monotonic_ns())
        report = session.made(self.clock.monotonic_ns(), is_final=True, ended_well=ended_well)
        del self.sessions[session]
        recorder = self._recorders.pop(session, None)
        if recorder is not None:
            self._ending.append(recorder)
            await recorder.end(report, EXIT_WAIT_S)
            report = session.made(self.clock.monotonic_ns(), is_final=True, ended_well=ended_well)
        self.set_interval()
        self._mates.leave_if_idle()
        self.group.start_soon(session.scope.aclose)
        return report

    def exchange(self, *, is_offline: bool) -> Exchange:
        """What asks sources for all runs of this process; one for those that may send no packet."""
        return self._behind.exchange(is_offline=is_offline)

    async def close_all(self) -> None:
        """End every run that nobody ended."""
        for session in begun(self.sessions):
            await self.close(session, self.clock.monotonic_ns(), 0, ended_well=False, intensity_wait_s=EXIT_WAIT_S)

    # -- sessions ----------------------------------------------------------------------------------------------

    def boot_offset_ns(self) -> int:
        """Boot clock minus monotonic clock, as all journals of one curve have it."""
        return self._mates.claims.boot_offset_ns()

    @property
    def interval_ns(self) -> int:
        """The shortest interval that a run of this process wants, nanoseconds."""
        return min((ns_from_s(s.interval_s) for s in self.sessions.values()), default=self._bank.interval_ns)

    def set_interval(self) -> None:
        """Tick as often as a run of this process wants, or one that follows its readings."""
        if self.sessions:
            interval_ns = min(self.interval_ns, self._mates.wanted_ns or self.interval_ns)
            self._sampler.set_interval(interval_ns)
            self._bank.pace(interval_ns)

    def _opened(self, entry: Entry) -> None:
        """A meter opened late: its devices join the sessions that want it."""
        late = [session for session, wants in self._wants.items() if entry in wants]
        for session in late:
            self._attach(session, entry)
        if late:
            self._sampler.refresh_tasks()
            self.group.start_soon(self._sampler.sweep, [t for t in entry.tracks if t.is_own and not t.is_quick])

    def _found(self, entry: Entry, finding: Finding) -> None:
        """A meter found something out while it was read."""
        for session, wants in self._wants.items():
            if entry in wants:
                note(session, finding)

    def _attach(self, session: Session, entry: Entry) -> None:
        for track in entry.tracks:
            session.attach(track)
        tell_of(session, entry, is_asked_for=self.sessions[session].meters is not None)

    # -- readings and ticks ------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Make final in every run what can be, after readings have come."""
        self._mates.drain()
        now = self.clock.monotonic_ns()
        in_each(self.sessions, self.sessions, lambda session: session.settle(now))

    def _ticked(self) -> None:
        self._clocks.look(self.sessions)
        now = self.clock.monotonic_ns()
        self._bank.fold(now - KEEP_POINTS_NS, lambda *between: kept_instants(self.sessions, *between))
        self.settle()

        def tick(session: Session) -> None:
            session.fold(now - KEEP_POINTS_NS)
            session.scope.want(now)
            session.publish(now)
            if session.sharing.is_wanted and not session.sharing.is_busy:
                self.group.start_soon(self.share, session)

        in_each(self.sessions, begun(self.sessions), tick)
        for recorder in self._recorders.values():
            recorder.tick()
        if now >= self._check_due_ns:
            self._check_due_ns = now + CHECK_NS
            self.group.start_soon(self._bank.check)
