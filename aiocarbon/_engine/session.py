"""One tracker's run inside the engine: its marks, epochs and published report.

Everything here runs on the engine's thread and waits for nothing. Marks are frozen once the meters have told where
they lie; all figures are cuts between marks, so that epochs and what lies outside them add up to the run exactly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from aiocarbon._core.body import Body, Facts, Overhead
from aiocarbon._core.curve import Curve
from aiocarbon._core.intensity import Location, Pue
from aiocarbon._core.ledger import Cut, Ledger, Mark, add_cuts
from aiocarbon._core.policy import EVENLY, Split
from aiocarbon._core.reading import Part
from aiocarbon._engine.foresight import Foresight
from aiocarbon._engine.frozen import Frozen
from aiocarbon._engine.known import SETTLE_NS, has_told, is_waiting_over, known_ns
from aiocarbon._engine.scoping import Machine
from aiocarbon._engine.sharing import Sharing
from aiocarbon._engine.track import Track
from aiocarbon._engine.windows import Border, Past, Window, kept_instants
from aiocarbon.budget import Budget

if TYPE_CHECKING:
    from aiocarbon._core.report import EpochReport, Equivalent, RunReport

WAITING_BORDERS = 1000
"""While more wait, a device that hangs is not waited for."""


class Session:
    """The run of one tracker.

    Attributes:
        facts: What its reports state.
        ledger: Its curves, shared with other sessions, and its own intensity and PUE.
        scope: What of each device it counts.
        tracks: The devices it counts.
        warnings: What a reader of its figures must know.
        missing: Parts known to be there that cannot be read.
        newest: What the newest report is made of; None before the first.
        settled: Windows that became final since the journal last looked.
        foresight: Its prediction.
        sharing: The split of its energy among spans.
        look_at_clocks: Has the engine see whether the wall clock was set, as it does at its ticks.
        looked_at: Tells the engine that somebody looks; True if what is published may be older than a tick.
    """

    def __init__(
        self,
        facts: Facts,
        ledger: Ledger,
        curves: dict[str, Curve],
        *,
        overhead: Callable[[], Overhead],
        equivalents: Callable[[float], tuple[Equivalent, ...]],
        budget: Budget | None = None,
        on_exceeded: Callable[[], None] = lambda: None,
        split: Split | None = None,
    ) -> None:
        self.facts = facts
        self.ledger = ledger
        self.scope = Machine()
        self.tracks: list[Track] = []
        self.warnings: list[str] = []
        self.missing: set[Part] = set()
        self.newest: tuple[Body, Cut] | None = None
        self._built: tuple[tuple[Body, Cut], RunReport] | None = None
        self.settled: list[Window] = []
        self.budget = budget
        self.budget_broken = ""
        self._is_endangered = False
        self._on_exceeded = on_exceeded
        self.new_borders: list[Border] = []
        self._curves = curves
        self._overhead = overhead
        self._equivalents = equivalents
        self._past = Past(ledger, facts.host, facts.first_epoch)
        self._borders = 0
        self._open_borders: list[Border] = []
        self._open_windows: list[Window] = []
        self._mended_by_g: float | None = None
        self.foresight = Foresight(ledger, facts.former)
        self.look_at_clocks: Callable[[], None] = lambda: None
        self.looked_at: Callable[[], bool] = lambda: False
        self._begin: Border | None = None
        self._end: Border | None = None
        self._last: Border | None = None
        self._inside = False
        self._is_new_epoch = False  # whether one has ended of which no prediction was made
        self._is_entered = False  # whether epochs are entered in this run
        self._frozen = Frozen()
        self._split_ns = 0  # up to where energy was split, or is about to be
        self.sharing = Sharing(ledger, split or EVENLY)

    # -- devices and warnings ----------------------------------------------------------------------------------

    def attach(self, track: Track) -> None:
        """Count a device from now on; one that other trackers already read brings its past curve along."""
        if track.device.id not in self._curves:
            self.tracks.append(track)
            self._curves.update(self.scope.attach(track))
            for text in self.scope.warnings(track.device):
                self.warn(text)

    def fold(self, before_ns: int) -> None:
        """Forget old points of the curves that are this session's own."""
        self.scope.fold(before_ns, lambda after_ns: kept_instants((self,), after_ns, before_ns))

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def tell_of_lack(self, now_ns: int) -> None:
        """Say which devices were read for less than the whole run, and that nothing was read at all."""
        if not self.tracks:
            self.warn("no device could be read: the figures hold nothing; `aiocarbon doctor` tells why")
        for text in self.scope.lacks():
            self.warn(text)
        report = self.made(now_ns)
        for device in report.devices:
            if device.counted and device.coverage < 0.999 and report.duration_s > 0:
                self.warn(
                    f"{device.id} ({device.name}): readings vouch for {device.coverage:.1%} of the run; "
                    "the rest is bridged or in no central figure, and the range is wider for it"
                )

    # -- marks -------------------------------------------------------------------------------------------------

    def begin(self, t_ns: int) -> None:
        """Begin the run at an instant; the first awaited epoch begins there too."""
        self._begin = self._last = self._border(t_ns)

    def border(self, t_ns: int, *, steps: int) -> EpochReport:
        """End the epoch that is open and begin the next (the awaited style)."""
        return self._close(self._border(t_ns), steps=steps, is_partial=False)

    def open_epoch(self, t_ns: int, *, is_entered: bool = True) -> None:
        """Begin an epoch; what lies since the last border is outside."""
        border = self._border(t_ns)
        gap = Window(self._previous(), border, None)
        self._open_windows.append(gap)
        self._last = border
        self._inside = is_entered
        self._is_entered = self._is_entered or is_entered
        self.foresight.between(self._past.cut(gap))

    def close_epoch(self, t_ns: int, *, steps: int, is_partial: bool) -> EpochReport:
        """End the epoch that was opened."""
        self._inside = False
        return self._close(self._border(t_ns), steps=steps, is_partial=is_partial)

    def end(self, t_ns: int, *, steps: int) -> None:
        """End the run at an instant; an epoch that is still open is partial, else what is left is outside.

        Told late, it lies where energy was split up to by then: what spans have cannot be taken back.
        """
        t_ns = max(t_ns, self._split_ns)
        self.sharing.ends(t_ns)
        if self._inside:
            self.close_epoch(t_ns, steps=steps, is_partial=True)
        else:
            border = self._border(t_ns)
            self._open_windows.append(Window(self._previous(), border, None))
            self._last = border
        self._end = self._last

    def _previous(self) -> Border:
        if self._last is None:
            raise RuntimeError("the session has not begun")
        return self._last

    def _mark(self, t_ns: int) -> Mark:
        """The curves at an instant, between the marks that are final."""
        return self._frozen.between(self.ledger.mark(t_ns))

    def _border(self, t_ns: int) -> Border:
        if self._last is not None:
            t_ns = max(t_ns, self._last.t_ns)
        border = Border(self._borders, self._mark(t_ns))
        self._borders += 1
        self._open_borders.append(border)
        return border

    def _close(self, border: Border, *, steps: int, is_partial: bool) -> EpochReport:
        window = Window(self._previous(), border, self._past.total, steps, is_partial)
        self._last = border
        report = self._past.add(window)
        self._open_windows.append(window)
        self.foresight.epoch(report)
        self._is_new_epoch = True
        return report

    # -- settling ----------------------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """True if every mark is final."""
        return not self._open_borders

    @property
    def waiting(self) -> tuple[tuple[Border, ...], tuple[Window, ...]]:
        """The borders and windows that are not final yet: a journal writes them as they are, in case no more comes."""
        return tuple(self._open_borders), tuple(self._open_windows)

    def settle(self, now_ns: int) -> None:
        """Make final what can be, after readings have come."""
        self.scope.update()
        still_open = []
        moved = False
        for border in self._open_borders:
            if self._is_tellable(border, now_ns):
                border.mark = self._mark(border.t_ns)
                border.is_final = moved = True
                self._frozen.add(border.mark, earliest_ns=self._earliest_ns())
                self.new_borders.append(border)
            else:
                still_open.append(border)
        self._open_borders = still_open
        if still_open:
            self.scope.want(still_open[-1].t_ns)
        if moved:
            self._settle_windows()

    def _earliest_ns(self) -> int:
        """Where the next mark may be frozen: a border is told late at times, but lies behind the newest."""
        return min((border.t_ns for border in self._open_borders), default=self._previous().t_ns)

    def known(self, now_ns: int, wanted_ns: int | None = None) -> Mark | None:
        """The curves where energy can be split up to, frozen; None where nothing is known yet.

        Args:
            now_ns: Now.
            wanted_ns: An instant that a reading was just taken at; None: as far as readings tell.
        """
        begin = self._begin
        if begin is None or not begin.is_final:
            return None
        told_ns = known_ns(self.tracks, begin.t_ns, now_ns) if wanted_ns is None else wanted_ns
        upto_ns = None if told_ns is None else self.scope.upto(min(told_ns, self.sharing.end_ns))
        if upto_ns is None or upto_ns <= begin.t_ns:
            return None
        mark = self._mark(upto_ns)
        self._frozen.add(mark, earliest_ns=self._earliest_ns())
        self._split_ns = max(self._split_ns, upto_ns)
        return mark

    def shared(self, upto: Mark | None, *, is_last: bool = False) -> Iterator[None]:
        """Split energy among spans up to a mark, in slices; at the run's end up to that.

        Args:
            upto: From `known`.
            is_last: True at the end.
        """
        begin = self._begin
        if is_last and self._end is not None:
            upto = self._end.mark
        if begin is not None and upto is not None:
            yield from self.sharing.advance(begin.mark, upto, is_last=is_last)

    def _is_tellable(self, border: Border, now_ns: int) -> bool:
        """True if a border can be made final: all have told, or waiting longer would not help."""
        is_looked_at = self.scope.has_told(border.t_ns, now_ns)
        if is_looked_at and all(has_told(track, border.t_ns) for track in self.tracks):
            return True
        if self._end is not None:
            return now_ns >= self._end.t_ns + SETTLE_NS
        may_hang = len(self._open_borders) <= WAITING_BORDERS
        return is_looked_at and is_waiting_over(self.tracks, border.t_ns, now_ns, may_hang=may_hang)

    def _settle_windows(self) -> None:
        final = [window for window in self._open_windows if window.is_final]
        self._open_windows = [window for window in self._open_windows if not window.is_final]
        self.settled.extend(final)
        self._past.settle(final)

    # -- what is learnt afterwards -----------------------------------------------------------------------------

    @property
    def begin_s(self) -> float:
        """UTC seconds of the run's begin, or of its earliest instant if the wall clock was set back behind that."""
        wall = self.ledger.wall
        begin_ns = (self._begin or self._previous()).t_ns
        return wall.wall_span_s(begin_ns, max(wall.anchors[-1].mono_ns, begin_ns) + 1)[0]

    def latest_s(self, now_ns: int) -> float:
        """UTC seconds of the run's latest instant up to now, which lies ahead if the wall clock was set back."""
        begin_ns = (self._begin or self._previous()).t_ns
        return self.ledger.wall.wall_span_s(begin_ns, max(now_ns, begin_ns))[1]

    def until_s(self, now_s: float) -> float:
        """UTC seconds of the run's end, or the present while it goes on."""
        return now_s if self._end is None else self.ledger.wall.wall_s(self._end.t_ns)

    def relocate(self, location: Location, pue: Pue) -> None:
        """Take another place and its PUE for the whole run; cut again afterwards."""
        self.facts = replace(self.facts, location=location)
        self.ledger.pue = pue

    def recut(self, from_s: float) -> Iterator[None]:
        """Cut again what reaches beyond an instant (UTC seconds), a window at a time."""
        return self._past.recut(from_s)

    @contextlib.contextmanager
    def mending(self, now_ns: int) -> Iterator[None]:
        """While intensities of the past are replaced: notes what the figures were before."""
        end = self._end.mark if self._end is not None else self._mark(max(now_ns, self._previous().t_ns))
        begin = self._begin or self._previous()
        before = self.ledger.cut(begin.mark, end).carbon
        yield
        after = self.ledger.cut(begin.mark, end).carbon
        if after.co2eq_g != before.co2eq_g:
            self._mended_by_g = (self._mended_by_g or 0.0) + after.co2eq_g - before.co2eq_g

    def latest(self, report: EpochReport) -> EpochReport:
        """The refined report of an epoch, if it is known by now, else the one given."""
        return self._past.latest(report)

    def _open_epoch(self) -> Mark | None:
        """Begin of the epoch that is open; None where none is."""
        return None if self._end is not None or (self._is_entered and not self._inside) else self._previous().mark

    # -- publishing --------------------------------------------------------------------------------------------

    @property
    def published(self) -> RunReport | None:
        """The newest report, from any thread; None before the first.

        Its figures were cut when it was published; the report around them is built when it is asked for, since most
        are never read.
        """
        from aiocarbon._core.assemble import run_report

        newest, built = self.newest, self._built
        if newest is not None and (built is None or built[0] is not newest):
            body, cut = newest
            built = self._built = (newest, run_report(self.facts, self.ledger, body, self._equivalents, cut))
        return None if built is None else built[1]

    def made(self, now_ns: int, *, is_final: bool = False, ended_well: bool = True) -> RunReport:
        """Publish as `publish` does, and give the report."""
        self.publish(now_ns, is_final=is_final, ended_well=ended_well)
        report = self.published
        assert report is not None  # just published
        return report

    def publish(self, now_ns: int, *, is_final: bool = False, ended_well: bool = True) -> None:
        """Publish the run as of an instant, or as of its end if it has ended."""
        begin = self._begin or self._previous()
        now_ns = max(now_ns, self._previous().t_ns, self._split_ns)
        end = self._end.mark if self._end is not None else self._mark(now_ns)
        run = self.ledger.cut(begin.mark, end)
        outside = [self._past.outside, *(self._past.cut(w) for w in self._open_windows if w.epoch is None)]
        if self._end is None:
            # The stretch since the last border belongs to no epoch until its end is marked.
            outside.append(run if self._last is begin else self.ledger.cut(self._previous().mark, end))
        if self._is_new_epoch:
            self._is_new_epoch = False
            self._past.predict(self.foresight.look(run, None, end, is_final=self._end is not None))
        else:
            self.foresight.go_on(run, self._open_epoch(), end, is_final=is_final)
        for problem in filter(None, (self.foresight.problem, self.sharing.problem)):
            self.warn(problem)
        body = Body(
            begin=begin.mark,
            end=end,
            epochs=tuple(self._past.epochs),
            epochs_total=self._past.total,
            outside=add_cuts(outside),
            warnings=tuple(self.warnings),
            missing=frozenset(self.missing),
            overhead=self.scope.added_to(self._overhead(), begin.t_ns),
            is_final=is_final,
            ended_well=ended_well,
            mended_by_g=self._mended_by_g,
            prediction=self.foresight.newest,
            account=self.sharing.newest,
            children=self.sharing.children(),
        )
        self.newest = (body, run)
        if self.budget is not None and not self.budget_broken:
            self._look_at(self.budget, run)

    def _look_at(self, budget: Budget, run: Cut) -> None:
        """See whether a limit was passed, or will be."""
        used, prediction = self.foresight.used(run), self.foresight.newest if self._end is None else None
        but = "co2eq_g" if self._end is None and self.foresight.awaits_intensity() else ""
        self.budget_broken = budget.broken_by(used, but=but) or budget.broken_ahead(prediction, but=but)
        if self.budget_broken:
            self.warn(self.budget_broken)
            self._on_exceeded()
        elif not self._is_endangered and (danger := budget.endangered_by(prediction)):
            self._is_endangered = True
            self.warn(danger)
