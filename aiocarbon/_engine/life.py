"""A run as its user's threads see it: its begin, its end, its reports, and what is done about errors of the instrument.

All methods may be called from any thread and wait for nothing: those that need the engine return a future. Errors of
the instrument become warnings here, unless the run is strict.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiocarbon._core.policy import Policy
from aiocarbon._engine import host as hosts
from aiocarbon._engine.device_sync import DeviceSync
from aiocarbon._engine.marks import Marks
from aiocarbon._engine.tape import Tape
from aiocarbon._engine.verdicts import Verdicts
from aiocarbon._logging import get_logger
from aiocarbon.errors import EngineError, UsageError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.identity import Identity
    from aiocarbon._core.intensity import IntensityValue
    from aiocarbon._core.report import RunReport
    from aiocarbon._engine.session import Session

log = get_logger("tracker")

OPEN_LIMIT_S = 10.0
"""Longest wait for the engine to begin a run; a healthy one needs milliseconds."""

CLOSE_LIMIT_S = 3.5
"""Longest wait for a run's end: the last readings, 2 s for sources of carbon intensity, the journal."""

DEAD = "the engine died in this run: what was measured until then is reported, and coverage tells how much"

BEGAN_LATE = (
    "the run began late: what was told before (epochs, steps, spans) is not in the report, and no energy of that time"
)

LATE = (
    f"the run's end was still being made after {CLOSE_LIMIT_S:g} s, and nobody waits longer: this report is the newest "
    "before it; report() gives the final one once it is there"
)

OWED = "the final report could not be made when the run ended, report() makes it once files can be opened again: {}"

_active: weakref.WeakSet[Life] = weakref.WeakSet()


class Life(Marks):
    """The life of one run.

    Attributes:
        strict: True if errors of the instrument are raised.
        with_root: False where the scope of the process leaves out this process's own CPU time.
        verdicts: Its budget, and what its user says of predictions.
        tape: What its users' threads tell of spans.
        device_sync: What its marks wait for.
        open_limit_s: Longest wait for its begin, seconds.
    """

    open_limit_s = OPEN_LIMIT_S

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self._arguments = dict(arguments)
        self._pid = os.getpid()
        self._begun_ns = 0
        self._host: hosts.Host | None = None
        self._session: Session | None = None
        self._stand_in: Session | None = None  # for one that the engine did not begin in time, or not at all
        self._ended: Session | None = None  # the one whose end was asked for
        self._final: RunReport | None = None
        self._made: Future[None] | None = None  # for those who wait for that
        self._owed: tuple[Session, int, int] | None = None  # what the final report is made of where no engine does
        self._is_over = False
        self._is_late = False  # whether nobody waits for its end any more
        self._told: set[str] = set()
        self.verdicts = Verdicts(arguments.get("budget"), arguments.get("on_prediction"))
        self.strict = bool(arguments.get("strict", False))
        self.interval_s = 1.0
        self.with_root = True
        self.device_sync = DeviceSync(self.tell)
        self.tape = Tape(self._hurry, self.heed_budget, read=self._read_soon)
        self._hurried: Future[Any] | None = None
        self._reading: Future[Any] | None = None
        self._who: Identity | None = None

    @property
    def who(self) -> Identity:
        """Which process of which start of the run this is."""
        with self._lock:
            if self._who is None:
                self._who = _who(self._arguments)
            return self._who

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self.who.run_id

    # -- life --------------------------------------------------------------------------------------------------

    def open(self) -> Future[Any]:
        """Begin the run.

        Raises:
            UsageError: It was begun before.
        """
        if self._host is not None or self._session is not None or self._is_over:
            raise UsageError("a tracker is entered once; make another one for another run")
        self._host = hosts.lease()
        arguments = self._arguments

        async def verb(engine: Any) -> Any:
            who = self.who  # what finds it out is loaded here, where no loop of the user's waits for it
            session = await engine.open(arguments, who, self._exceeded, with_root=self.with_root)
            with self._lock:
                self._session = session
            self._who = session.facts.identity or who  # pyproject.toml may have said more
            for message in sorted(self._told):  # before it began, as of a port that is in use
                session.warn(message)
            if self._stand_in is not None:
                self.tell(BEGAN_LATE)
            self._begun_ns = time.monotonic_ns()
            self.first_epoch = session.facts.first_epoch
            session.foresight.progress = lambda: (self._steps, self._epoch_total)
            session.foresight.worked = self.tape.take_works
            if self._epochs is not None:
                session.foresight.declare(self._epochs)
            settings = engine.sessions[session]
            self.strict = settings.strict
            self.interval_s = settings.interval_s
            self.device_sync.how = settings.device_sync
            self.verdicts.take(settings)
            session.sharing.tape = self.tape
            self.tape.devices = lambda: [track.device for track in session.tracks]
            if settings.attribution.policy is Policy.CPU:
                self.tape.count_steps(self.tell)
            self.tape.begin()
            _active.add(self)  # now that it takes spans

        future = self._host.call(verb)
        future.add_done_callback(self._opened)
        return future

    def _opened(self, future: Future[Any]) -> None:
        session = self._session
        if future.cancelled() or future.exception() is not None or session is None:
            self._give_back()
            return
        with self._lock:
            if not self._is_over or self._ended is session:
                return
            self._ended = session
        # It was ended before it had begun, as where entering was cancelled.
        self._end(session, time.monotonic_ns(), 0, ended_well=False)

    def go_on_without(self, error: BaseException) -> None:
        """Treat a run that could not begin: the verbs work, nothing is measured, the report says so.

        Raises:
            EngineError: The run is strict.
        """
        if self.strict:
            self.close(time.monotonic_ns(), ended_well=False)
            self.fail(error)
        from aiocarbon._engine.alone import unmeasured

        made = unmeasured(self._arguments, self.who)
        with self._lock:
            if self._session is None:  # else it has just begun
                self._session = self._stand_in = made
        if isinstance(error, TimeoutError):
            self.tell(f"the run could not begin within {self.open_limit_s:g} s: nothing is measured until it has")
        else:
            self.tape.end()
            self.fail(error)

    def close(self, t_ns: int, *, ended_well: bool) -> Future[Any] | None:
        """End the run at an instant; None if there is nothing to end."""
        if self._is_forked:  # the parent's threads may have held the lock
            self._is_over = True
            return None
        with self._lock:
            if self._is_over or self._session is None:
                self._is_over |= self._host is not None  # what is being begun ends with its begin
                return None
            self._is_over = True
            session = self._ended = self._session
        return self._end(session, t_ns, self._take_steps(), ended_well=ended_well)

    def _end(self, session: Session, t_ns: int, steps: int, *, ended_well: bool) -> Future[Any] | None:
        session.sharing.ends(t_ns)
        self.tape.end()
        host = self._host
        if host is None or session is self._stand_in:
            self._finish_alone(session, t_ns, steps)
            return None

        async def verb(engine: Any) -> Any:
            self.device_sync.end()
            return await engine.close(session, t_ns, steps, ended_well)

        future = host.call(verb)
        future.add_done_callback(lambda done: self._closed(done, session, t_ns, steps))
        return future

    def _closed(self, future: Future[Any], session: Session, t_ns: int, steps: int) -> None:
        host = self._host
        if self._final is not None:
            pass  # it began when its stand-in had ended already, whose report stays
        elif not future.cancelled() and future.exception() is None:
            self._finish(future.result())
        elif host is not None:
            # The engine that owned the session died or gave it up; now it is ours, and what it measured is reported.
            if host.is_dead:
                self.tell(DEAD)
            self._finish_alone(session, t_ns, steps)
        self._give_back()

    def _finish_alone(self, session: Session, t_ns: int, steps: int) -> None:
        self._owed = (session, t_ns, steps)
        try:
            from aiocarbon._engine.alone import finish

            self._finish(finish(session, t_ns, steps))
        except OSError as error:  # no file can be opened, and so no module loaded: the training may close some
            self.tell(OWED.format(error))

    def _finish(self, report: RunReport) -> None:
        with self._lock:
            self._final, made = report, self._made
        if made is not None:
            made.set_result(None)

    def final(self) -> Future[None] | None:
        """What is done once the final report of a run that has ended is there; None where nothing is to be awaited."""
        from concurrent.futures import Future

        if self._is_forked:
            return None
        with self._lock:
            if self._final is not None or self._ended is None:
                return None
            if self._made is None:
                self._made = Future()
            return self._made

    def _give_back(self) -> None:
        with self._lock:
            host, self._host = self._host, None
        if host is not None:
            hosts.release(host)

    @property
    def _is_forked(self) -> bool:
        return os.getpid() != self._pid

    @staticmethod
    def newest_active() -> Life | None:
        """The run of this process that began last, of those that are going on; None if none is."""
        going_on = [handle for handle in list(_active) if handle.is_active]
        return max(going_on, key=lambda handle: handle._begun_ns, default=None)

    @property
    def is_active(self) -> bool:  # type: ignore[override]  # it follows from others
        """True between begin and end, in the process that began it."""
        return self._session is not None and not self._is_over and not self._is_forked

    def begun(self, verb: str) -> Session:
        """The session of a run that has begun.

        Raises:
            UsageError: It has not.
        """
        if self._session is None:
            raise UsageError(
                f"{verb} before the tracker was entered: use it inside `async with Tracker(...)` (or `with`)"
            )
        return self._session

    def _exceeded(self) -> None:
        """The budget is used up: the next span asks before it opens."""
        self.tape.alert()  # before those who wait for it go on
        self.verdicts.exceed()

    def _read_soon(self, t_ns: int) -> None:
        """Have the meters read for an edge, unless that is under way."""
        is_on = self._session is not None and not self._is_over and not self._is_forked
        if is_on and (self._reading is None or self._reading.done()):
            self._reading = self.call(lambda engine: engine.look(t_ns))

    def _hurry(self) -> None:
        """Have the engine take the spans off the tape out of its turn."""
        session = self._session
        if session is not None and not session.sharing.is_busy and (self._hurried is None or self._hurried.done()):
            self._hurried = self.call(lambda engine: engine.share_upto(session, None))

    def call(self, verb: hosts.Verb) -> Future[Any] | None:
        """Have the engine do something; None where there is none, as in a forked child."""
        return None if self._host is None or self._is_forked else self._host.call(verb)

    # -- reports -----------------------------------------------------------------------------------------------

    def report(self) -> RunReport:
        """The final report, or the newest published one.

        Raises:
            UsageError: The run has not begun.
            EngineError: What it is made of cannot be loaded, since no file can be opened.
        """
        if self._final is None and self._owed is not None:
            self._finish_alone(*self._owed)
        if self._final is not None:
            return self._final
        try:
            published = self.begun("report()").published
        except OSError as error:
            raise EngineError(f"no report can be made while no file can be opened: {error}") from error
        if published is None:
            raise UsageError("report() before anything was measured")
        return replace(published, warnings=(*published.warnings, LATE)) if self._is_late else published

    def snapshot(self) -> Future[Any] | None:
        """The report as of now; None if the run is over."""
        session = self.begun("snapshot()")
        if not self.is_active or self._host is None:
            return None
        return self._host.call(lambda engine: engine.snapshot(session))

    def grid(self) -> Future[IntensityValue] | None:
        """The carbon intensity that weighs the energy of now, read on the engine's thread; None if the run is over."""
        session = self.begun("grid()")
        if not self.is_active or self._host is None:
            return None

        async def verb(_: Any) -> IntensityValue:
            return session.ledger.intensity.value_at(session.ledger.wall.wall_s(time.monotonic_ns()))

        return self._host.call(verb)

    # -- errors of the instrument ------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """Treat an error of the instrument: told once, raised only if the run is strict.

        Raises:
            EngineError: The run is strict.
        """
        if self.strict:
            if isinstance(error, EngineError):
                raise error
            raise EngineError(f"the instrument failed: {error}") from error
        if isinstance(error, TimeoutError):
            if self._is_over:
                self._is_late = True
            else:
                self.tell(f"{error}, on a busy machine: it measures on, and what it was told comes into later reports")
        elif isinstance(error, EngineError) and (self._host is None or self._host.is_dead):
            self.tell(DEAD)
        else:
            self.tell(f"the instrument failed ({error or type(error).__name__}); the training goes on unmeasured")

    def tell(self, message: str) -> None:
        """Warn once per message, in the report and as a `RuntimeWarning`-free log line."""
        if message in self._told:
            return
        self._told.add(message)
        log.warning("tracker.notice", why=message)
        session = self._session
        if session is not None and not self._is_forked:
            session.warn(message)
            if self.is_active and (self._host is None or self._host.is_dead or session is self._stand_in):
                session.publish(time.monotonic_ns())  # no tick of an engine will

    def amend(self, message: str) -> None:
        """Warn of what may be learnt behind the end, as that a sink took nothing any more: it comes into the report."""
        self.tell(message)
        if self._final is not None and message not in self._final.warnings:
            self._final = replace(self._final, warnings=(*self._final.warnings, message))


def _who(arguments: Mapping[str, Any]) -> Identity:
    """Of which run this is: as the user says in arguments or environment, as its launcher says, or a new one."""
    from aiocarbon._engine.launch import identify, numbered

    who = identify()
    variable = os.environ.get("AIOCARBON_RUN_ID", "")
    # What is not accepted there is refused when the settings are read.
    said = arguments.get("run_id") or ("" if variable.lower() == "none" else variable)
    return who.said(run_id=said) if said else replace(who, run_id=numbered(who.run_id))
