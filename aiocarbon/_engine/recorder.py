"""Writes one session's journal: what became final goes in at once, ticks about once a minute, the tail every tick.

All file work runs in a worker thread. A file system that refuses is told once; what could not be written is kept, up
to a limit, and tried again.
"""

from __future__ import annotations

import dataclasses
import os
from collections import deque
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import anyio

from aiocarbon._core.curve import State
from aiocarbon._core.identity import alone
from aiocarbon._core.report import RunReport
from aiocarbon._core.units import NS_PER_S, S_PER_NS, ns_from_s, s_from_ns
from aiocarbon._engine.intensity_notes import IntensityNotes
from aiocarbon._engine.launch import machine_id, time_namespace
from aiocarbon._engine.session import Session
from aiocarbon._engine.span_notes import SpanNotes
from aiocarbon._engine.windows import Border
from aiocarbon._logging import get_logger
from aiocarbon._version import __version__
from aiocarbon.errors import JournalError
from aiocarbon.journal import records
from aiocarbon.journal.alive import boot_id
from aiocarbon.journal.write import JournalWriter
from aiocarbon.settings import Settings

if TYPE_CHECKING:
    from aiocarbon._engine.engine import Engine
    from aiocarbon._engine.outlook_notes import OutlookNotes

log = get_logger("journal")

TICK_NS = 60 * NS_PER_S
"""Ticks lie on the minutes of UTC, where intensities change: what is learnt of them later finds the energy there."""

MOST_MINUTES = 10
"""So many of them may wait for a device; of more, the newest are told."""

PATIENCE_NS = 5 * NS_PER_S
"""A tick waits so much longer than an interval for all devices' readings."""

REST_NS = 5 * NS_PER_S
"""After a failure nothing is appended for so long: what waits would be made into text again at each tick."""

MOST_WAITING = 50_000
LASTING = frozenset({"device", "place", "intensity", "wall"})
"""Records without which those behind them tell nothing."""

DROPPED = (
    f"more than {MOST_WAITING:,} records waited for the journal: the oldest epochs and spans are not in it but in this "
    "report alone"
)

MOST_LACKING = 10_000
HURRY_NS = NS_PER_S


class Recorder:
    """The journal of one session.

    Attributes:
        is_closed: Set once the end is written, or cannot be.
    """

    def __init__(self, engine: Engine, session: Session, settings: Settings) -> None:
        assert settings.journal is not None  # the engine makes a recorder only where there is a folder
        self._engine = engine
        self._session = session
        self._settings = settings
        self._writer = JournalWriter(settings.journal, session.facts.run_id, session.facts.host)
        self._boot_offset_ns = engine.boot_offset_ns()
        self._due = anyio.Event()
        self._order: list[str] = []
        self._waiting: list[records.Record] = []
        self._warnings_written = 0
        self._intensity = IntensityNotes(session)
        self._spans = SpanNotes(session.sharing, self._boot)
        self._outlooks: OutlookNotes | None = None
        self._place = (session.facts.location, session.ledger.pue)
        self._anchors_written = 1
        self._ticked_ns = engine.clock.monotonic_ns()
        self._has_failed = False
        self._rests_to_ns = 0
        self._is_open = False
        self._is_finished = False
        self.is_closed = anyio.Event()
        self._lock = anyio.Lock()
        self._begun: set[str] = set()
        self._provisional: set[int] = set()
        self._has_marks = False
        self._lacking: deque[Border] = deque(maxlen=MOST_LACKING)

    def tick(self) -> None:
        """Be told that readings were taken."""
        self._due.set()

    async def run(self) -> None:
        """Write until the session is finished."""
        if self._settings.interval_s > s_from_ns(HURRY_NS):
            self._engine.group.start_soon(self._hurry)
        try:
            await self._flush()
            while not self._is_finished:
                await self._due.wait()
                self._due = anyio.Event()
                if not self._is_finished:
                    await self._flush()
        except Exception as error:  # a journal that fails must not end the measuring with it
            self._give_up(error)

    async def _hurry(self) -> None:
        """Where ticks are rare: have marks written within a second all the same."""
        clock = self._engine.clock
        while not self._is_finished:
            await clock.sleep_until(clock.monotonic_ns() + HURRY_NS)
            borders, _ = self._session.waiting
            if self._session.new_borders or any(border.index not in self._provisional for border in borders):
                self._due.set()

    async def end(self, report: RunReport, patience_s: float) -> None:
        """Finish, and wait for that, but not for long; a disk that is slow is written to behind it."""
        self._engine.group.start_soon(self._finish, report)
        with anyio.move_on_after(patience_s):
            await self.is_closed.wait()
        if not self.is_closed.is_set():
            self._session.warn("the journal's end was still being written when the run had ended: the disk is slow")

    async def _finish(self, report: RunReport) -> None:
        """Write all that is left, and the end."""
        self._is_finished = True
        self._due.set()
        try:
            self._collect()
            self._collect_late_states()
            if self._session.facts.former is not None:
                report = _alone(self._session)  # what came before stands in journals of its own
            # Without what the journal holds already: ten thousand epochs would take seconds to write. And without
            # coordinates, which are written down nowhere.
            place = dataclasses.replace(report.location, latitude=None, longitude=None)
            plain = dataclasses.replace(
                report, location=place, epochs=(), spans=(), children=(), identity=None
            ).to_dict()
            end = {"k": "end", "t": self._now(), "ended_well": report.ended_well, "report": plain}
            await self._flush({**end, **(self._session.foresight.rate() or {})})
            async with self._lock:
                await self._engine.blocking(lambda: self._writer.close(keep_tail=self._has_failed))
        except Exception as error:
            self._give_up(error)
        finally:
            self.is_closed.set()

    def _give_up(self, error: Exception) -> None:
        self._is_finished = True
        if isinstance(error, JournalError):
            self._fail(error)
        else:
            self._fail(JournalError(f"the journal stopped: {type(error).__name__}: {error}; the tracking goes on"))

    # -- collecting, on the loop -------------------------------------------------------------------------------

    def _now(self) -> int:
        return self._boot(self._engine.clock.monotonic_ns())

    def _boot(self, mono_ns: int) -> int:
        # One offset for the whole run: durations stay those of the monotonic clock, which stands still while the
        # machine sleeps.
        return mono_ns + self._boot_offset_ns

    def _header(self) -> records.Record:
        session = self._session
        now = self._engine.clock.monotonic_ns()
        return {
            "schema": records.SCHEMA,
            "run_id": session.facts.run_id,
            "name": session.facts.name,
            "host": session.facts.host,
            "pid": os.getpid(),
            "boot_id": boot_id(),
            "version": __version__,
            "interval_s": self._settings.interval_s,
            "scope": session.scope.name,
            **records.place_record(*self._place),
            "t": self._boot(now),
            "wall_ns": session.ledger.wall.wall_ns(now),
            **records.identity_record(session.facts.identity or alone(session.facts.run_id)),
            "machine_id": machine_id(),
            "time_namespace": time_namespace(),
            **({} if session.facts.former is None else {"resumes": True}),
        }

    def _collect(self) -> None:
        """Turn what is new in the session into records."""
        session, out = self._session, self._waiting
        for device, segment, refresh_ns in session.scope.recorded():
            if device.id not in self._order:
                out.append(records.device_record(len(self._order), device, segment, s_from_ns(refresh_ns)))
                self._order.append(device.id)
        place = (session.facts.location, session.ledger.pue)
        if place != self._place:
            self._place = place
            out.append({"k": "place", **records.place_record(*place)})
        out.extend(self._intensity.new(session.latest_s(self._engine.clock.monotonic_ns())))
        anchors = session.ledger.wall.anchors
        for anchor in anchors[self._anchors_written :]:
            out.append({"k": "wall", "t": self._boot(anchor.mono_ns), "wall_ns": anchor.wall_ns})
        self._anchors_written = len(anchors)
        open_borders, open_windows = session.waiting
        # A mark that still waits is written as it is known, in case no more comes; its final record replaces it.
        fresh = [border for border in open_borders if border.index not in self._provisional]
        self._provisional.update(border.index for border in fresh)
        self._provisional.difference_update(border.index for border in session.new_borders)
        for border in (*session.new_borders, *fresh):
            states = [border.mark.states.get(ident) for ident in self._order]
            out.append({"k": "mark", "m": border.index, "t": self._boot(border.t_ns), **records.states_record(states)})
            if border.index == 0:
                self._begun.update(
                    i for i in border.mark.states if self._session.ledger.curves[i][0].t_ns <= border.t_ns
                )
            self._has_marks = True
        # The begin may turn out to lack a device that opens later.
        self._lacking.extend(b for b in session.new_borders if b.index == 0 or len(b.mark.states) < len(self._order))
        session.new_borders.clear()
        self._collect_first_points()
        for window in (*session.settled, *open_windows):
            if window.epoch is not None and (window.is_final or window.end in fresh):
                epoch: records.Record = {"k": "epoch", "i": window.epoch}
                epoch.update(b=window.begin.index, e=window.end.index, steps=window.steps, partial=window.is_partial)
                out.append(epoch)
        session.settled.clear()
        out.extend(self._spans.new(s_from_ns(self._engine.clock.monotonic_ns()), is_last=self._is_finished))
        out.extend(self._foreseen())
        for text in session.warnings[self._warnings_written :]:
            out.append({"k": "warning", "t": self._now(), "text": text})
        self._warnings_written = len(session.warnings)
        self._trim()

    def _trim(self) -> None:
        """Let no more wait than is bearable: the oldest of what nothing else rests on are dropped."""
        surplus = len(self._waiting) - MOST_WAITING
        if surplus <= 0:
            return
        kept: list[records.Record] = []
        for record in self._waiting:
            if surplus > 0 and record["k"] not in LASTING and record.get("m") != 0:
                surplus -= 1
            else:
                kept.append(record)
        self._waiting[:] = kept
        self._session.warn(DROPPED)

    def _foreseen(self) -> Iterator[records.Record]:
        session = self._session
        if self._outlooks is None:
            if session.foresight.newest is None and not session.ledger.intensity.version:
                return
            # Behind the entering, which loads no more than it must.
            from aiocarbon._engine.outlook_notes import OutlookNotes

            self._outlooks = OutlookNotes(session)
        now_s = session.ledger.wall.wall_s(self._engine.clock.monotonic_ns())
        yield from self._outlooks.new(now_s, is_last=self._is_finished)

    def _collect_first_points(self) -> None:
        """Where the curves of devices begin: between the marks around it, a reader would not find that instant."""
        for ident in self._order:
            curve = self._session.ledger.curves[ident]
            if self._has_marks and ident not in self._begun and len(curve):
                self._begun.add(ident)
                states = [curve.state_at(curve[0].t_ns) if other == ident else None for other in self._order]
                at = self._boot(curve[0].t_ns)
                self._waiting.append({"k": "tick", "t": at, **records.states_record(states)})

    def _collect_late_states(self) -> None:
        """What the curves, in the end, say of marks at which their devices were not yet known."""
        curves = self._session.ledger.curves
        for border in self._lacking:
            states = [
                curves[ident].state_at(border.t_ns) if ident not in border.mark.states and len(curves[ident]) else None
                for ident in self._order
            ]
            if any(states):
                late = {"k": "mark", "m": border.index, "t": self._boot(border.t_ns), "late": True}
                self._waiting.append({**late, **records.states_record(states)})

    def _state(self, at_ns: int) -> records.Record:
        states: list[State | None] = []
        for ident in self._order:
            curve = self._session.ledger.curves[ident]
            states.append(curve.state_at(at_ns) if len(curve) else None)
        return {"k": "tick", "t": self._boot(at_ns), **records.states_record(states)}

    def _due_ticks(self, now_ns: int) -> list[int]:
        """The instants for which a tick is due: minutes of UTC, and steps of the intensity, since the last tick.

        Each waits until all devices have been read behind it, unless one is lost or takes too long, or the run ends.
        """
        wall = self._session.ledger.wall
        wall_ns = wall.wall_ns(now_ns)
        steps = self._session.ledger.intensity.begins(wall.wall_s(self._ticked_ns), wall_ns * S_PER_NS)
        # In whole nanoseconds, so that an instant is the same one whenever it is looked for.
        newest = wall_ns // TICK_NS
        first = max((wall_ns - now_ns + self._ticked_ns) // TICK_NS, newest - MOST_MINUTES)
        instants = {*(minute * TICK_NS for minute in range(first, newest + 1)), *map(ns_from_s, steps)}
        due = [at for at in sorted(at_ns - wall_ns + now_ns for at_ns in instants) if self._ticked_ns < at <= now_ns]
        waited_ns = now_ns - ns_from_s(self._settings.interval_s) - PATIENCE_NS
        return list(takewhile(lambda at: self._is_finished or at < waited_ns or self._is_told(at), due))

    def _is_told(self, at_ns: int) -> bool:
        """True if all devices have been read behind an instant."""
        return self._session.scope.upto(at_ns) == at_ns and all(
            track.is_lost or (len(track.derivation.curve) and track.derivation.curve[-1].t_ns >= at_ns)
            for track in self._session.tracks
        )

    # -- writing, in a worker ----------------------------------------------------------------------------------

    async def _flush(self, *end: records.Record) -> None:
        async with self._lock:
            self._collect()
            now_ns = self._engine.clock.monotonic_ns()
            is_resting = now_ns < self._rests_to_ns and not self._is_finished
            if is_resting and not self._is_open:
                return
            ticks = [] if is_resting else self._due_ticks(now_ns)
            told = len(self._waiting)
            # The end is the last line: a journal that has another there is taken for one of a run that broke off.
            batch = [] if is_resting else [*self._waiting, *map(self._state, ticks), *end]
            state = {**self._state(now_ns), **self._spans.for_tail()}
            header = None if self._is_open else self._header()
            try:
                await self._engine.blocking(self._write, header, batch, state)
            except JournalError as error:
                self._rests_to_ns = now_ns + REST_NS
                self._fail(error)
                return
            if not is_resting:
                del self._waiting[:told]
                self._ticked_ns = max([self._ticked_ns, *ticks])

    def _write(self, header: records.Record | None, batch: list[records.Record], state: dict[str, Any]) -> None:
        if header is not None:
            self._writer.open(header)
            self._is_open = True  # whatever becomes of what follows: there is one file of this process
            self._writer.put_tail(state)  # before any other record: beside an empty tail nothing was told
        try:
            if batch:
                self._writer.append(batch)
        finally:  # a full disk has room for what is overwritten in place: the newest state is told there all the same
            self._writer.put_tail(state)

    def _fail(self, error: JournalError) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.warning("journal.failed", why=str(error))
            self._session.warn(str(error))


async def write_now(engine: Engine, session: Session) -> None:
    """Have a session's journal, if it has one, hold what is known by now: whoever sends it on waits for no tick."""
    recorder = engine._recorders.get(session)
    if recorder is not None and not recorder._is_finished:
        try:
            await recorder._flush()
        except Exception as error:  # as in `run`
            recorder._give_up(error)


def _alone(session: Session) -> RunReport:
    """The newest report without what earlier tries of the run measured."""
    from aiocarbon._core.assemble import run_report

    assert session.newest is not None  # who asks has seen it
    body, cut = session.newest
    return run_report(dataclasses.replace(session.facts, former=None), session.ledger, body, lambda co2eq_g: (), cut)
