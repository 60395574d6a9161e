"""What the helpers for MLflow, W&B and TensorBoard have in common: a thread of its own a sink, which asks and sends.

Guarantees:
- the training waits for nothing: what it hands over lies in a bounded queue; what has no room there is counted, told;
- a sink that refuses is asked again later, less and less often, and told once a cause; a row that it refuses while it
  takes others is left out, and told; one that hangs holds its own thread, which is a daemon, and nothing else: not the
  training, not other sinks, not the exit;
- closing takes at most `close_s`, and what was not sent by then is told.

Epochs and totals are not queued but read out of the tracker's newest report, so that none is lost while a sink is away.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from aiocarbon._core.report import EpochReport, RunReport
from aiocarbon._engine.bridge import answer, block
from aiocarbon._logging import get_logger
from aiocarbon.errors import AiocarbonError, ConfigError, UsageError
from aiocarbon.integrations._entered import Entered

if TYPE_CHECKING:
    from aiocarbon._engine.life import Life

__all__ = ["Reporting", "Row", "Sink", "absent", "tell"]

log = get_logger("sink")

EVERY_S: Final = 10.0
"""Pace of MLflow's own system metrics; W&B's is 15 s."""

CLOSE_S: Final = 5.0
QUEUED: Final = 1000
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
REFUSED_TWICE: Final = 2
TRIES_AT_END: Final = 3
SNAPSHOT_S: Final = 1.0
AHEAD: Final = ("carbon/predicted_", "carbon/remaining_")


class Reporting(Protocol):
    """What has a report: `Tracker`, `sync.Tracker`, a cluster's."""

    def report(self) -> RunReport:
        """The newest report, at once."""
        ...


class Row(NamedTuple):
    """One row for a sink.

    Attributes:
        figures: By key.
        step: What it stands over: an epoch's number, else the run's whole seconds, or what the user said.
        at_s: UTC seconds of the instant up to which it tells.
    """

    figures: dict[str, float]
    step: int
    at_s: float


class Sink(Entered):
    """Sends a tracker's figures to somebody, in a thread of its own, between entering and leaving.

    Enter it before the tracker, so that the final report comes along: `with sink, tracker:`.

    Attributes:
        name: Whom it sends to.
        sent: Rows that were taken.
        failed: Attempts that were refused.
        dropped: Rows that were given up.
        problem: Why the newest attempt failed; empty if it did not.
    """

    name = "sink"
    first_pause_s = FIRST_PAUSE_S

    def __init__(
        self,
        tracker: Reporting,
        *,
        every_s: float | None,
        devices: bool,
        spans: bool,
        close_s: float,
        queued: int = QUEUED,
    ) -> None:
        for field, value in (("every_s", 1.0 if every_s is None else every_s), ("close_s", close_s)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
                raise ConfigError(field, value, "seconds above 0" + (", or None" if field == "every_s" else ""))
        self._tracker = tracker
        self._every_s = every_s
        self._wanted = {"devices": devices, "spans": spans}
        self._close_s = close_s
        self._queued = queued
        self._queue: deque[Row] = deque()
        self._changed = threading.Condition()
        self._done: Future[None] = Future()
        self._thread: threading.Thread | None = None  # noqa: TID251  # see `start`
        self._is_closing = self._is_given_up = False
        self._pid = os.getpid()
        self._next_epoch = 0
        self._as_of: object = None
        self._failures = 0
        self._again_at = -math.inf
        self.sent = self.failed = self.dropped = 0
        self.problem = ""

    # -- what a sink does --------------------------------------------------------------------------------------

    def _send(self, row: Row) -> None:
        """Hand a row over, in the sink's thread; whatever it raises counts as refused."""
        raise NotImplementedError

    def _flush(self) -> None:
        """Have what was sent written, at the end."""

    # -- for the training --------------------------------------------------------------------------------------

    def log(self, figures: RunReport | EpochReport | Mapping[str, float], *, step: int | None = None) -> None:
        """Send a report, or figures of your own; waits for nothing.

        Args:
            figures: A report, of which `metrics()` is sent, or numbers by key.
            step: What it stands over; None: an epoch's number, else the run's whole seconds.
        """
        if os.getpid() != self._pid:
            return  # a forked child has no thread that sends, and a lock may be held for ever there
        row = self._row(figures, step)
        with self._changed:
            if self._is_closing:
                self.dropped += 1
                return
            if len(self._queue) >= self._queued:
                self._queue.popleft()  # the newest tells more
                self.dropped += 1
            self._queue.append(row)
            self._changed.notify()

    def _row(self, figures: RunReport | EpochReport | Mapping[str, float], step: int | None) -> Row:
        if isinstance(figures, RunReport):
            known = figures.metrics(**self._wanted)
            return Row(known, int(figures.duration_s) if step is None else step, figures.as_of.timestamp())
        if isinstance(figures, EpochReport):
            known = figures.metrics(devices=self._wanted["devices"])
            ended_s = time.time() if figures.prediction is None else figures.prediction.as_of.timestamp()
            return Row(known, figures.index if step is None else step, ended_s)
        finite = {key: float(value) for key, value in figures.items() if math.isfinite(value)}
        return Row(finite, self._seconds() if step is None else step, time.time())

    def _seconds(self) -> int:
        try:
            return int(self._tracker.report().duration_s)
        except AiocarbonError:
            return 0

    # -- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to send.

        Raises:
            UsageError: It was begun before.
        """
        if self._thread is not None:
            raise UsageError(f"a sink is entered once; make another one of {type(self).__name__} for another run")
        # The engine's thread is no place for code that may hang; here it holds nobody, and being a daemon not the exit.
        self._thread = threading.Thread(  # noqa: TID251
            target=self._main, name=f"aiocarbon-{self.name.lower()}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Send what is left, the newest report with it, in at most `close_s`; safe to call twice."""
        if self._end():
            with contextlib.suppress(TimeoutError):
                block(self._done, self._close_s)
            self._closed()

    async def aclose(self) -> None:
        """Close without holding the loop."""
        if self._end():
            with contextlib.suppress(TimeoutError):
                await answer(self._done, self._close_s)
            self._closed()

    def _end(self) -> bool:
        """Ask the thread to end; False where there is nothing to wait for."""
        if os.getpid() != self._pid or self._thread is None:
            return False
        with self._changed:
            is_first, self._is_closing = not self._is_closing, True
            self._changed.notify()
        return is_first

    def _closed(self) -> None:
        if not self._done.done():
            self._is_given_up = True
            self._warn(f"{self.name} did not take the newest figures within {self._close_s:g} s; nobody waits longer")
        elif self._failures:
            self._warn(f"{self.name} did not take the newest figures ({self.problem})")
        self.dropped += len(self._queue)
        self._queue.clear()
        if self.dropped:
            self._warn(f"{self.dropped} rows were not sent to {self.name}")

    def _warn(self, message: str) -> None:
        tell(self._tracker, message)
        with contextlib.suppress(Warning):  # where warnings are errors, this one is none of the training's
            warnings.warn(f"aiocarbon: {message}", RuntimeWarning, stacklevel=4)

    # -- the thread --------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._send_for_ever()
            self._send_last()
        except BaseException as error:  # a thread's traceback must not get into the training's output
            self._refused(error)
        finally:
            self._done.set_result(None)

    def _send_for_ever(self) -> None:
        due = time.monotonic() + self._pace_s
        while not self._is_closing:
            with self._changed:
                wait_s = max(due, self._again_at) if not self._queue else self._again_at
                self._changed.wait_for(lambda: self._is_closing or self._may_send, max(wait_s - time.monotonic(), 0.0))
            if self._is_closing or time.monotonic() < self._again_at:
                continue
            is_taken = self._send_queued()
            if is_taken and time.monotonic() >= due:
                self._look()
                due = max(due + self._pace_s, time.monotonic())

    @property
    def _pace_s(self) -> float:
        return threading.TIMEOUT_MAX / 2 if self._every_s is None else self._every_s

    @property
    def _may_send(self) -> bool:
        return bool(self._queue) and time.monotonic() >= self._again_at

    def _send_last(self) -> None:
        """What is left, once: where it is refused now, waiting would only hold the one who closes."""
        if not self._send_queued():
            for row in self._behind():  # the first one alone may be what is refused
                if self._failures >= TRIES_AT_END:
                    break
                self._try_queued(row)
        if self._every_s is not None:
            self._look(is_last=True)
        if not self._is_given_up:
            try:
                self._flush()
            except Exception as error:
                self._refused(error)

    def _send_queued(self) -> bool:
        """Send what is queued; True if all of it is gone."""
        while self._queue and not self._is_given_up:
            row = self._queue[0]
            if self._try_queued(row):
                continue
            why = self.problem
            if self._failures < REFUSED_TWICE or not self._takes_another():
                return False
            self._leave(row)
            self.dropped += 1
            tell(self._tracker, f"{self.name} refuses one row and takes others; it is left out ({why})")
        return not self._is_given_up

    def _try_queued(self, row: Row) -> bool:
        is_taken = self._try(row)
        if is_taken:
            self._leave(row)
        return is_taken

    def _leave(self, row: Row) -> None:
        with self._changed, contextlib.suppress(ValueError):  # a queue that is full may have dropped it
            self._queue.remove(row)

    def _behind(self) -> list[Row]:
        """What is queued behind the first row."""
        with self._changed:
            return list(self._queue)[1:]

    def _takes_another(self) -> bool:
        """Whether the sink takes what is queued behind the first row, or the newest report: one of them, in turn."""
        sent, behind = self.sent, self._behind()
        turn = self._failures // REFUSED_TWICE % max(len(behind) + (self._every_s is not None), 1)
        if turn < len(behind):
            self._try_queued(behind[turn])
        elif self._every_s is not None:
            self._look()
        return self.sent > sent

    def _look(self, *, is_last: bool = False) -> bool:
        """Send what the tracker's newest report tells that was not sent."""
        report = self._report(is_last=is_last)
        if report is None or report.as_of == self._as_of:
            return True  # nothing new: it has not begun, or its engine is dead
        fresh = []
        for epoch in reversed(report.epochs):
            if epoch.index < self._next_epoch:
                break
            fresh.append(epoch)
        for epoch in reversed(fresh):
            if not (epoch.is_final or is_last):
                break  # soon refined
            row = self._row(epoch, None)
            # What the run's own rows tell over its seconds would stand over epochs here.
            own = {key: value for key, value in row.figures.items() if not key.startswith(AHEAD)}
            if not self._try(row._replace(figures=own)):
                return False
            self._next_epoch = epoch.index + 1
        if not self._try(self._row(report, None)):
            return False
        self._as_of = report.as_of
        return True

    def _report(self, *, is_last: bool) -> RunReport | None:
        handle: Life | None = getattr(self._tracker, "_handle", None)
        try:
            asked: Future[Any] | None = handle.snapshot() if is_last and handle is not None else None
            if asked is not None:  # the sink is closed before the run
                with contextlib.suppress(AiocarbonError, TimeoutError):
                    exact: RunReport = block(asked, SNAPSHOT_S)
                    return exact
            return self._tracker.report()
        except AiocarbonError as error:
            log.debug("sink.report", why=str(error))
            return None

    def _try(self, row: Row) -> bool:
        if self._is_given_up:
            return False
        try:
            self._send(row)
        except Exception as error:
            self._refused(error)
            return False
        self._failures, self.problem, self._again_at = 0, "", -math.inf
        self.sent += 1
        return True

    def _refused(self, error: BaseException) -> None:
        self.failed += 1
        self.problem = f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
        pause_s = min(self.first_pause_s * 2.0**self._failures, LONGEST_PAUSE_S)
        self._again_at = time.monotonic() + pause_s
        self._failures = min(self._failures + 1, 30)
        # The kind alone: a text that differs each time would be a warning each time.
        tell(self._tracker, f"{self.name} refuses figures ({type(error).__name__}); they are sent again later")
        log.debug("sink.refused", why=self.problem)


def tell(tracker: Reporting, message: str) -> None:
    """Put a warning into a tracker's report and the log, once a message."""
    handle: Life | None = getattr(tracker, "_handle", None)
    if handle is not None:
        handle.amend(message)
    else:
        log.warning("sink.notice", why=message)


def absent(module: str, package: str, extra: str) -> ImportError:
    """What is raised where a package is missing: it names the extra."""
    line = f"pip install 'aiocarbon[{extra}]'"
    return ImportError(f"aiocarbon.integrations.{module} needs {package}: {line}", name=package)
