"""Writes one session's journal: what became final goes in at once, ticks about once a minute, the tail every tick.

All file work runs in a worker thread. A file system that refuses is told once; what could not be written is kept, up
to a limit, and tried again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import anyio

from aiocarbon._core.report import RunReport
from aiocarbon._core.units import NS_PER_S, s_from_ns
from aiocarbon._engine.notes import Notes
from aiocarbon._engine.session import Session
from aiocarbon._logging import get_logger
from aiocarbon.errors import JournalError
from aiocarbon.journal import records
from aiocarbon.journal.write import JournalWriter, Whereabouts
from aiocarbon.settings import Settings

if TYPE_CHECKING:
    from aiocarbon._engine.engine import Engine

log = get_logger("journal")

REST_NS = 5 * NS_PER_S
"""After a failure nothing is appended for so long: what waits would be made into text again at each tick."""

HURRY_NS = NS_PER_S
SPLIT_WAIT_S = 0.25
"""The longest wait for a split, which thousands of spans a tick make long: what is told at once is told in time."""

LOOK_NS = 60 * NS_PER_S
"""How often it is seen whether the journal is still there, besides at the end."""

REMOVED = (
    "the journal {} was removed while the run went on: what is known of the run is written again into a new one beside "
    "where it was, but for earlier predictions; what other processes and earlier starts had written there is lost"
)
MOVED = (
    "the journal {} is not where it was begun: it was moved, or removed in a way that the file system does not tell; "
    "it is written on wherever it is"
)


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
        self._notes = self._new_notes()
        self._due = anyio.Event()
        self._has_failed = False
        self._rests_to_ns = 0
        self._is_open = False
        self._is_finished = False
        self.is_closed = anyio.Event()
        self._lock = anyio.Lock()
        self._look_due_ns = engine.clock.monotonic_ns() + LOOK_NS

    def _new_notes(self) -> Notes:
        engine = self._engine
        return Notes(self._session, engine.clock, engine.boot_offset_ns(), self._settings.interval_s)

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
            if self._session.new_borders or any(border.index not in self._notes.provisional for border in borders):
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
            async with self._lock:
                await self._look()
            self._notes.is_last = True
            self._notes.collect()
            self._notes.collect_late_states()
            if self._session.facts.former is not None:
                report = _alone(self._session)  # what came before stands in journals of its own
            # Without what the journal holds already: ten thousand epochs would take seconds to write. And without
            # coordinates, which are written down nowhere.
            place = dataclasses.replace(report.location, latitude=None, longitude=None)
            plain = dataclasses.replace(
                report, location=place, epochs=(), spans=(), children=(), identity=None
            ).to_dict()
            end = {"k": "end", "t": self._notes.now(), "ended_well": report.ended_well, "report": plain}
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

    # -- writing, in a worker ----------------------------------------------------------------------------------

    async def _flush(self, *end: records.Record) -> None:
        async with self._lock:
            await self._await_split()
            if self._engine.clock.monotonic_ns() >= self._look_due_ns:
                await self._look()
            notes = self._notes
            notes.collect()
            now_ns = self._engine.clock.monotonic_ns()
            is_resting = now_ns < self._rests_to_ns and not self._is_finished
            if is_resting and not self._is_open:
                return
            ticks = [] if is_resting else notes.due_ticks(now_ns)
            told = len(notes.waiting)
            # The end is the last line: a journal that has another there is taken for one of a run that broke off.
            batch = [] if is_resting else [*notes.waiting, *map(notes.state, ticks), *end]
            header = None if self._is_open else notes.header()
            try:
                await self._engine.blocking(self._write, header, batch, notes.for_tail(now_ns))
            except JournalError as error:
                self._rests_to_ns = now_ns + REST_NS
                self._fail(error)
                return
            if not is_resting:
                del notes.waiting[:told]
                notes.ticked_ns = max([notes.ticked_ns, *ticks])

    async def _await_split(self) -> None:
        """A tick's energy is being split among spans: else the tail would tell of them as they were a tick ago."""
        with anyio.move_on_after(SPLIT_WAIT_S):
            async with self._session.sharing.turn:
                pass

    async def _look(self) -> None:
        """See whether the journal is still there; if not, have all that is known written into a new one."""
        self._look_due_ns = self._engine.clock.monotonic_ns() + LOOK_NS
        path = self._writer.path
        if not self._is_open or path is None:
            return
        where = await self._engine.blocking(self._writer.whereabouts)
        if where is Whereabouts.MOVED:
            self._session.warn(MOVED.format(path))
        elif where is Whereabouts.GONE:
            log.warning("journal.removed", path=str(path))
            self._session.warn(REMOVED.format(path))
            with contextlib.suppress(JournalError):  # what it held is lost anyhow
                await self._engine.blocking(self._writer.close)
            self._is_open = False
            self._notes = self._new_notes()
            self._notes.recall()

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
