"""The processes of a machine that read the same devices: one of them reads each device, the others follow.

What is shared are readings, not curves: each process makes its curves of them by the code that makes its own, and
keeps its own marks, epochs and spans. A derivation is a function of the set of its readings, so all processes have the
same curve, on one line of energy with one name (the journal's segment), whoever took which reading; a process that
comes later goes on from a state of the derivation that lies in the ring. What a counter counted between the last
reading of one process and the first of the next is bridged as any other time between two readings.

- Who reads: whoever makes the newest ring (`commons.py`). Its file is locked; the kernel frees the lock of a process
  that dies. The others try it every 0.4 s, and on being asked for a reading that nobody hears.
- A process that lives but says nothing for 1.4 s (stopped, or training holds the interpreter) is replaced likewise. It
  looks before it publishes again, finds itself replaced, and follows.
- A follower that wants a reading now rings the bell of the one that reads (`bell.py`) and looks at the ring until it
  is there. A counter that is not read within 30 ms, since its reader is busy, the follower reads itself for once: on
  the counter's line that is one more point. It also says how often it wants readings, and that it is still there;
  while nobody does, the one that reads does nothing but write each reading down (3 us).
- One that ends gives its rings up; a follower takes over at its next look, which nobody needs to be told.
- Any trouble with files ends with each process reading for itself, as where locks do not meet; journals then still
  count each joule once, by the union of times.

Shared are sensors that were asked for by name. Load models are not (each is of what its own process may use, and reads
no sensor), nor meters that were handed in as objects. Simulated devices are: those of one wave are one device.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import anyio

from aiocarbon._core.units import NS_PER_MS, NS_PER_S, ns_from_s, s_from_ns
from aiocarbon._engine.audience import Audience, Hands
from aiocarbon._engine.claims import Claims
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.share import STALE_NS, Role, Share, pulse_of
from aiocarbon._logging import get_logger

if TYPE_CHECKING:
    from aiocarbon._engine.bell import Rope
    from aiocarbon._engine.commons import Commons
    from aiocarbon._engine.engine import Engine
    from aiocarbon._engine.session import Session
    from aiocarbon._engine.track import Track

log = get_logger("mates")

LOOK_EVERY_NS: Final = 400 * NS_PER_MS
HAIL_EVERY_NS: Final = NS_PER_S
PATIENCE_S: Final = 0.03
"""How long a reading that was asked for is waited for."""

WATCH_NS: Final = 150 * NS_PER_MS
WATCH_EVERY_NS: Final = 10 * NS_PER_MS
FIRST_WAIT_NS: Final = NS_PER_MS // 4
MOST_WAIT_NS: Final = 4 * NS_PER_MS
STOOD_STILL_NS: Final = NS_PER_S
TOLD_MOST: Final = 10
TIDY_AFTER_NS: Final = 20 * NS_PER_S

LEFT: Final = "left"
BACK: Final = "back"
ENDED: Final = "ended"
SILENT: Final = "silent"
REPLACED: Final = "replaced"
REASONS: Final = {
    ENDED: "process {before}, which read {ids} for this one, ended without handing over; {who}",
    SILENT: "process {before}, which read {ids} for this one, stood still; {who}",
    REPLACED: "this process, which read {ids}, stood still; {who}",
}
"""What is told of a change; the others are in order."""


class Mates:
    """This process among those that read the same devices.

    Attributes:
        claims: Finds out who reads what.

    Args:
        engine: Whose devices these are.
        claims: Likewise.
        tracks: All devices.
    """

    def __init__(self, engine: Engine, claims: Claims, tracks: Callable[[], list[Track]]) -> None:
        self.claims = claims
        self._engine = engine
        self._all = tracks
        self._clock: Clock = engine.clock
        self._audience = Audience(
            engine.clock, engine.group, lambda: self._with(Role.READS), engine.set_interval, self.begin
        )
        self._ropes: dict[str, Rope] = {}
        self._token = os.urandom(8)
        self._is_looking = self._is_tidying = False
        self._looked_ns = self._hailed_ns = 0
        self._order = anyio.Lock()
        self._told: set[tuple[str, int, int]] = set()

    @property
    def wanted_ns(self) -> int | None:
        """The shortest interval that a follower wants, nanoseconds; None while there is none."""
        return self._audience.wanted_ns

    def lend(self, hands: Hands) -> None:
        """Let another one take the readings."""
        self._hands = self._audience.hands = hands

    # -- life --------------------------------------------------------------------------------------------------

    @property
    def _shared(self) -> list[tuple[Track, Share]]:
        return [(track, track.share) for track in self._all() if track.share is not None]

    def _with(self, role: Role) -> list[tuple[Track, Share]]:
        return [(track, share) for track, share in self._shared if share.role is role]

    def begin(self) -> None:
        """Begin what new shares need: to hear those who follow, to look after those that are followed."""
        if self.claims.bell is not None:
            self._audience.hear(self.claims.bell)
        if self.claims.commons is not None and not self._is_tidying:
            self._is_tidying = True
            self._engine.group.start_soon(self._tidy, self.claims.commons)
        if not self._is_looking and self._needs_looks() and self._engine.sessions:
            self._is_looking = True
            self._looked_ns = self._clock.monotonic_ns()
            self._engine.group.start_soon(self._look_for_ever)

    async def _tidy(self, folder: Commons) -> None:
        """Remove what dead processes left, long after entering."""
        await self._clock.sleep_until(self._clock.monotonic_ns() + TIDY_AFTER_NS)
        try:
            await self._engine.blocking(folder.tidy)
        except OSError as error:
            log.debug("mates.tidy", why=str(error))

    def tick(self) -> None:
        """Take what others have read, and let them know how the devices are doing."""
        if not self._shared:
            return
        self.drain()
        self._audience.tell()
        self.begin()

    def lose(self, track: Track) -> None:
        """A device was lost to this process: another one may have more luck."""
        share = track.share
        if share is not None:
            share.lost_ns = self._clock.monotonic_ns()
            share.tell(track, beat_ns=self._audience.beat_ns, is_followed=self._audience.forget_silent(), is_left=True)
            share.leave()

    async def come_back(self, session: Session) -> None:
        """Begin a run: after all runs had ended, devices are claimed anew."""
        if any(share.role is Role.NEITHER for _, share in self._shared):
            await self.look()
        self.begin()
        if self.claims.problem:
            session.warn(self.claims.problem)

    def leave_if_idle(self) -> None:
        """Give all rings up after the last run, for those who share to go on with; remove what nobody shares any more.

        It waits for nothing; the end of the process may cut the engine's own end short.
        """
        folder, bell = self.claims.commons, self.claims.bell
        if folder is None or self._engine.sessions:
            return
        self._audience.forget_silent()
        self._say(0)
        try:
            self._audience.tell(is_left=True)
            for _, share in self._shared:
                share.part(functools.partial(folder.clear, share.key))
            if bell is not None:
                folder.remove(bell.name)
        except OSError as error:
            log.debug("mates.leave", why=str(error))  # the next process here removes what is left
        self._audience.go()
        self.claims.bell = None

    def close(self) -> None:
        """Close everything; runs that go on are cut short."""
        self._engine.sessions.clear()
        self.leave_if_idle()
        for end in (*self._ropes.values(), self.claims.commons):
            if end is not None:
                end.close()

    # -- following ---------------------------------------------------------------------------------------------

    def drain(self) -> int:
        """Take the readings that others have taken; how many there were."""
        count = 0
        for track, share in self._with(Role.FOLLOWS):
            try:
                count += share.drain(track)
            except (OSError, ValueError) as error:  # ValueError: a value that this process's curve refuses
                self._part(track, error)
        return count

    def _part(self, track: Track, error: Exception) -> None:
        """Read a device by this process alone, after trouble with files."""
        log.debug("mates.part", device=track.device.id, why=str(error))
        if track.share is not None:
            with contextlib.suppress(OSError):
                track.share.part(lambda: None)
            track.share.note(track, "")
            track.share = None
        self._hands.refresh_tasks()

    def ask(self, *, watched_ns: int = 0, is_question: bool = True) -> int:
        """Ask for readings of all devices that others read, or only say that this process is there; waits for nothing.

        Args:
            watched_ns: Their counters shall be watched to their next change after this instant; 0: they need not.
            is_question: False to say only that.

        Returns:
            When it was asked, monotonic nanoseconds.
        """
        now = self._clock.monotonic_ns()
        if self._with(Role.FOLLOWS):
            self._hailed_ns = now
            if not self._say(self._engine.interval_ns, watched_ns=watched_ns, is_question=is_question):
                self._engine.group.start_soon(self.look)
        return now

    def _say(self, interval_ns: int, *, watched_ns: int = 0, is_question: bool = False) -> bool:
        """Tell all that read for this process; False if one does not hear."""
        from aiocarbon._engine.bell import Message, Rope

        folder = self.claims.commons
        readers = [share.reader for _, share in self._with(Role.FOLLOWS)]
        names = {reader.title.bell for reader in readers if reader is not None}
        if folder is None or not names:
            return True
        for name in [name for name in self._ropes if name not in names]:
            self._ropes.pop(name).close()
        message = Message(self._token, interval_ns, watched_ns, is_question)
        ropes = [self._ropes.setdefault(name, Rope(folder.fd, name)) for name in names]
        return False not in [rope.pull(message) for rope in ropes]  # each is pulled, whatever the others do

    async def arrive(self, asked_ns: int, patience_s: float = PATIENCE_S) -> list[Track]:
        """Wait until all readings that were asked for at an instant are there; not for ever.

        Returns:
            The counters of which none came, since who reads them is busy or stopped: this process may read them itself.
        """
        tracks = [track for track, _ in self._with(Role.FOLLOWS) if not track.is_slow]
        deadline = asked_ns + ns_from_s(patience_s)
        wait_ns = FIRST_WAIT_NS
        while tracks:
            self.drain()
            now = self._clock.monotonic_ns()
            tracks = [track for track in tracks if (track.derivation.last_read_ns or 0) < asked_ns]
            if not tracks or now >= deadline:
                break
            await self._clock.sleep_until(now + wait_ns)
            wait_ns = min(2 * wait_ns, MOST_WAIT_NS)
        for track in tracks:
            # It is not waited for again before it is read; its marks are, as those of a device that hangs.
            track.is_slow = track.is_power and not track.is_own
        return [track for track in tracks if not track.is_power]

    def watch(self, t_ns: int) -> None:
        """Have counters that refresh slowly watched to their next change after an instant, and take it as it comes."""
        watched = [track for track, _ in self._with(Role.FOLLOWS) if track.needs_watch]
        if watched:
            self.ask(watched_ns=t_ns, is_question=False)
            self._engine.group.start_soon(self._drain_until, watched, t_ns)

    async def _drain_until(self, tracks: Sequence[Track], t_ns: int) -> None:
        until_ns = t_ns + WATCH_NS
        while any(not len(track.derivation.curve) or track.derivation.curve[-1].t_ns < t_ns for track in tracks):
            now = self._clock.monotonic_ns()
            if now >= until_ns:
                break
            await self._clock.sleep_until(now + WATCH_EVERY_NS)
            self.drain()
        self._engine.settle()

    # -- changing who reads ------------------------------------------------------------------------------------

    def _needs_looks(self) -> bool:
        return any(s.role is not Role.READS or s.is_replaced or s.is_broken for _, s in self._shared)

    async def _look_for_ever(self) -> None:
        while self._needs_looks() and self._engine.sessions:
            await self.look()
            if self.drain():
                self._engine.settle()
            if self._clock.monotonic_ns() - self._hailed_ns >= HAIL_EVERY_NS:
                self.ask(is_question=False)
            await self._clock.sleep_until(self._clock.monotonic_ns() + LOOK_EVERY_NS)
        self._is_looking = False

    async def look(self) -> None:
        """See whether those who read still do, and take the place of those who do not."""
        async with self._order:
            if not self._engine.sessions:
                return
            now = self._clock.monotonic_ns()
            stood_still = now - self._looked_ns > STOOD_STILL_NS
            self._looked_ns = now
            changes: dict[tuple[str, int, int], list[tuple[Track, int]]] = {}
            for track, share in self._shared:
                if stood_still:
                    share.since_ns = now  # it is this process that was not there: the others get their time again
                try:
                    why = self._why(track, share, now)
                    if why:
                        read_ns = share.seen_ns or track.derivation.last_read_ns or now
                        changes.setdefault(await self._change(track, share, why), []).append((track, read_ns))
                except (OSError, ValueError) as error:
                    self._part(track, error)
            self._explain(changes)

    def _why(self, track: Track, share: Share, now_ns: int) -> str:
        """Why another process shall read a device, or be followed; empty if none shall."""
        if share.is_broken:
            raise OSError(f"{share.key}: the ring cannot be written")
        if share.role is Role.READS:
            return REPLACED if share.is_replaced else ""
        if share.role is Role.NEITHER or share.reader is None:
            return "" if track.is_lost else BACK
        pulse = share.reader.pulse()
        if not share.reader.is_locked():
            return LEFT if pulse is not None and pulse.is_left else ENDED
        alive_ns = max(share.since_ns, share.seen_ns, pulse.beat_ns if pulse is not None else 0)
        return SILENT if now_ns - alive_ns > STALE_NS or not share.reader.is_current() else ""

    async def _change(self, track: Track, share: Share, why: str) -> tuple[str, int, int]:
        """Read a device from now on, or follow who does; why, and the processes that did and do."""
        if share.reader is not None:
            share.drain(track)
        before = 0 if share.reader is None else share.reader.title.pid
        share.leave()
        derivation = track.derivation
        title = await self._engine.blocking(self.claims.title, track)
        pulse = pulse_of(track, share.lost_ns)._replace(is_slow=False)
        number, end = await self._engine.blocking(
            self.claims.claim, share, title, pulse, derivation.carried, list(derivation.kept())
        )
        if not self._engine.sessions:  # the last run ended meanwhile
            end.close()
            return LEFT, 0, 0
        self.claims.take(share, track, number, end)
        if share.role is not Role.READS:
            self.begin()
            return why, before, share.reader.title.pid if share.reader is not None else 0
        track.is_slow = False
        track.failures = 0
        share.note(track, f"read by process {before} of this machine at first" if before else "")
        self._engine.set_interval()
        self._hands.refresh_tasks()
        self.begin()
        await self._hands.sweep([track])
        return why, before, 0

    def _explain(self, changes: dict[tuple[str, int, int], list[tuple[Track, int]]]) -> None:
        """Tell the runs once of each process that was replaced."""
        now = self._clock.monotonic_ns()
        for (why, before, after), devices in changes.items():
            ids = ", ".join(track.device.id for track, _ in devices)
            log.debug("mates.change", why=why, devices=ids, before=before, after=after)
            if why not in REASONS or (why, before, after) in self._told or len(self._told) >= TOLD_MOST:
                continue
            self._told.add((why, before, after))
            quiet_s = s_from_ns(now - min(read_ns for _, read_ns in devices))
            # Those who go on following say the same in the same words: one line where their journals are merged.
            who = (
                f"process {after} took over" if after else f"this one took over {quiet_s:.1f} s after the last reading"
            )
            text = REASONS[why].format(before=before, ids=ids, who=who)
            self._engine.notices.tell([track for track, _ in devices], text, is_timed=not after)
