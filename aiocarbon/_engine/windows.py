"""The windows of a run behind its present: its epochs with their reports, and what lies outside them.

Windows are kept with their marks as far back as reports are, so that they can be cut again when an intensity of their
time becomes known.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aiocarbon._core.ledger import Cut, Ledger, Mark, add_cuts
from aiocarbon._core.units import ns_from_s

if TYPE_CHECKING:
    from aiocarbon._core.report import EpochReport, Prediction
    from aiocarbon._engine.session import Session

KEPT_EPOCHS = 10_000
KEPT_PREDICTIONS = 100
"""Of so many of the newest epochs the prediction is kept: ten thousand would take 20 MB."""

KEEP_EVERY_S = 300.0
"""Of older points of a curve, those at these borders of UTC stay: 14 kB a device and day."""


@dataclass(eq=False, slots=True)
class Border:
    """A mark on its way to being final."""

    index: int
    mark: Mark
    is_final: bool = False

    @property
    def t_ns(self) -> int:
        """Its instant, monotonic."""
        return self.mark.t_ns


@dataclass(eq=False, slots=True)
class Window:
    """A stretch between two borders: an epoch, or what lies outside."""

    begin: Border
    end: Border
    epoch: int | None  # index, None for outside
    steps: int = 0
    is_partial: bool = False
    prediction: Prediction | None = None

    @property
    def is_final(self) -> bool:
        """True once both borders are."""
        return self.begin.is_final and self.end.is_final


class Past:
    """A run's epochs, the newest of them, and the sum of what lies outside.

    Attributes:
        epochs: The reports of the newest epochs.
        total: How many there were, those before the first one of this start too.
        outside: The sum of all settled windows that lie in no epoch.
    """

    def __init__(self, ledger: Ledger, host: str, first_epoch: int = 0) -> None:
        self.epochs: deque[EpochReport] = deque(maxlen=KEPT_EPOCHS)
        self.total = first_epoch
        self.outside = add_cuts(())
        self._ledger = ledger
        self._host = host
        self._windows: deque[Window] = deque(maxlen=KEPT_EPOCHS)  # of `epochs`
        self._gaps: deque[Window] = deque()
        self._gaps_total = 0
        self._older_gaps = add_cuts(())

    def cut(self, window: Window) -> Cut:
        """A window's cut."""
        return self._ledger.cut(window.begin.mark, window.end.mark)

    def add(self, window: Window) -> EpochReport:
        """Take one more epoch, whose index is `total`."""
        self.total += 1
        report = self.report_of(window)
        self.epochs.append(report)
        self._windows.append(window)
        return report

    def predict(self, prediction: Prediction | None) -> None:
        """Give the newest epoch the prediction that was made at its end."""
        self._windows[-1].prediction = prediction
        self.epochs[-1] = replace(self.epochs[-1], prediction=prediction)
        if len(self._windows) > KEPT_PREDICTIONS:
            old = self._windows[-1 - KEPT_PREDICTIONS]
            if old.prediction is not None:
                old.prediction = None
                self.epochs[-1 - KEPT_PREDICTIONS] = replace(self.epochs[-1 - KEPT_PREDICTIONS], prediction=None)

    def settle(self, windows: Sequence[Window]) -> None:
        """Take what has become final."""
        gaps = [window for window in windows if window.epoch is None]
        for window in windows:
            self._replace(window)
        if gaps:
            self.outside = add_cuts([self.outside, *map(self.cut, gaps)])
            self._gaps.extend(gaps)
            self._gaps_total += len(gaps)
            old = [self._gaps.popleft() for _ in range(len(self._gaps) - KEPT_EPOCHS)]
            self._older_gaps = add_cuts([self._older_gaps, *map(self.cut, old)])

    def recut(self, from_s: float) -> Iterator[None]:
        """Cut again what reaches beyond an instant (UTC seconds), a window at a time, the newest epoch first."""
        wall = self._ledger.wall
        was_set = len(wall.anchors) > 1  # an older epoch may then lie later in UTC
        for window in list(reversed(self._windows)):
            if wall.wall_span_s(window.begin.t_ns, window.end.t_ns)[1] >= from_s:
                self._replace(window)
                yield
            elif not was_set:
                break
        outside = [self._older_gaps]
        settled = self._gaps_total
        for window in list(self._gaps):
            outside.append(self.cut(window))
            yield
        # What was settled while others had their turn is cut with what is known by now.
        since = self._gaps_total - settled
        outside.extend(self.cut(window) for window in list(self._gaps)[len(self._gaps) - since :])
        self.outside = add_cuts(outside)

    def windows(self) -> Iterator[Window]:
        """Those that are kept, of which the newest may not be final."""
        yield from self._gaps
        yield from self._windows

    def latest(self, report: EpochReport) -> EpochReport:
        """The refined report of an epoch, if it is known by now, else the one given."""
        at = report.index - (self.total - len(self.epochs))
        return self.epochs[at] if 0 <= at < len(self.epochs) else report

    def _replace(self, window: Window) -> None:
        at = -1 if window.epoch is None else window.epoch - (self.total - len(self.epochs))
        if at >= 0:
            self.epochs[at] = self.report_of(window)

    def report_of(self, window: Window) -> EpochReport:
        """An epoch's report, as far as it is known."""
        from aiocarbon._core.assemble import epoch_report

        report = epoch_report(
            self.cut(window),
            index=window.epoch or 0,
            host=self._host,
            pue=self._ledger.pue.value,
            steps=window.steps,
            is_partial=window.is_partial,
            is_final=window.is_final,
        )
        return report if window.prediction is None else replace(report, prediction=window.prediction)


def known_windows(session: Session) -> tuple[list[Border], list[Window]]:
    """What a session knows of its past: the marks and windows that are final, as far back as they are kept."""
    windows = [window for window in session._past.windows() if window.is_final]
    borders = {border.index: border for window in windows for border in (window.begin, window.end)}
    begin = session._begin
    if begin is not None and begin.is_final:
        borders[begin.index] = begin
    return [borders[index] for index in sorted(borders)], windows


def kept_instants(sessions: Iterable[Session], after_ns: int, before_ns: int) -> list[int]:
    """The instants whose energy is kept in a stretch of curves that is folded.

    Where intensities change, and where they may turn out to: all sources' values begin at multiples of five minutes.
    """
    if after_ns >= before_ns:
        return []
    kept: set[int] = set()
    for session in sessions:
        wall = session.ledger.wall
        after_s, before_s = wall.wall_s(after_ns), wall.wall_s(before_ns)
        first = math.floor(after_s / KEEP_EVERY_S) + 1
        grid = (n * KEEP_EVERY_S for n in range(first, math.floor(before_s / KEEP_EVERY_S) + 1))
        for at_s in (*grid, *session.ledger.intensity.begins(after_s, before_s)):
            kept.add(before_ns - ns_from_s(before_s - at_s))
    return sorted(kept)
