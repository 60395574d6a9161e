"""Keeps one run's prediction: tells the predictor what happens, and makes the prediction anew where that is worth it.

Runs on the engine's loop. However long a run is, the predictions made at ticks cost little: a new one is made once the
run has grown by a fiftieth, beside those at the ends of epochs. What predicts is loaded behind the entering; what has
ended by then is told afterwards.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

from aiocarbon._core.intensity import IntensityValue
from aiocarbon._core.units import S_PER_DAY, j_from_kwh, ns_from_s, s_from_ns
from aiocarbon._logging import get_logger

if TYPE_CHECKING:
    from aiocarbon._core.ahead import Horizon
    from aiocarbon._core.former import Former
    from aiocarbon._core.ledger import Cut, Ledger, Mark
    from aiocarbon._core.predict import Predictor
    from aiocarbon._core.rates import Prior
    from aiocarbon._core.report import EpochReport, Prediction, Quantities
    from aiocarbon._engine.tape import Work
    from aiocarbon.settings import Settings

log = get_logger("foresight")

AGAIN_SHARE: Final = 0.02
"""A prediction is made anew at a tick once the run is longer by this share."""

SLOT_S: Final = 1800.0
"""What is remembered of the days behind, for the daily profile, are means of half hours: 336 of them."""

DAYS: Final = 7.0
UNTOLD_MOST: Final = 1000


P = ParamSpec("P")
T = TypeVar("T")


def harmless(method: Callable[Concatenate[Foresight, P], T]) -> Callable[Concatenate[Foresight, P], T | None]:
    """Let an error of ours cost the run its predictions, and nothing else."""

    @functools.wraps(method)
    def guarded(self: Foresight, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self.give_up(error)
            return None

    return guarded


class Foresight:
    """The prediction of one run.

    Args:
        ledger: The run's curves, intensity and PUE.
        former: What earlier tries of the run measured; None where it goes on with none.

    Attributes:
        newest: The newest prediction; None before the first.
        progress: Tells how many steps of the open epoch are done, and of how many, if known.
        worked: Tells what ended since it was last asked of the work that is declared as a class of its own.
        made: Called when a prediction was made.
        awaits_intensity: Tells whether the first answer of a source is still awaited, and the yearly average stands in.
        problem: Why there are no predictions any more; empty while there are.
    """

    def __init__(self, ledger: Ledger, former: Former | None = None) -> None:
        self.newest: Prediction | None = None
        self.progress: Callable[[], tuple[int, int | None]] = lambda: (0, None)
        self.worked: Callable[[], Iterable[Work]] = tuple
        self.made: Callable[[], None] = lambda: None
        self.awaits_intensity: Callable[[], bool] = lambda: False
        self._ledger = ledger
        self._predictor: Predictor | None = None
        self.problem = ""
        self._untold: deque[Callable[[], object]] = deque(maxlen=UNTOLD_MOST)
        self._epochs: int | None = None
        self._first_epoch = 0  # those before it are not known of
        self._former = former
        self._made_at_s = 0.0
        self._steps = 0
        # Begin of the epoch that is open, or else of what lies between two; None where nothing has told it yet.
        self._begin_ns: int | None = None
        self._works: list[Work] = []  # that ended after what was told so far
        self._is_told = False  # whether anything was told since it was last looked for a prediction
        self._is_pause = False
        self._behind: deque[tuple[float, IntensityValue]] = deque(maxlen=round(DAYS * S_PER_DAY / SLOT_S))
        self._horizon: tuple[int, float, Horizon] | None = None

    # -- being told --------------------------------------------------------------------------------------------

    @harmless
    def begin(self, settings: Settings, prior: Prior | None = None, first_epoch: int = 0) -> None:
        """Predict from now on.

        Args:
            settings: How many epochs there will be, and how much of them counts.
            prior: What earlier runs of the same name took; None: nothing is known.
            first_epoch: With which epoch this start of the run begins. What is predicted is this start, or the whole
                run where it is known what was measured before.
        """
        from aiocarbon._core.predict import Done, Predictor

        former = self._former
        done = () if former is None else [e for e in former.run.epochs if not e.is_partial and e.index < first_epoch]
        self._first_epoch = first_epoch - len(done)
        epochs = self._epochs if settings.epochs is None else settings.epochs
        self._predictor = Predictor(
            None if epochs is None else max(epochs - self._first_epoch, 0),
            predict_after=settings.predict_after,
            monitor_epochs=settings.monitor_epochs,
            prior=prior,
        )
        if former is not None:
            pieces = {span.name: span.count - span.open for span in former.run.spans}
            self._predictor.go_on([Done(e.duration_s, _measured_j(e), e.steps, e.coverage) for e in done], pieces)
        while self._untold:
            self._untold.popleft()()
        self._is_told = True

    def give_up(self, error: Exception) -> None:
        """Predict nothing any more, because of an error of ours."""
        log.warning("foresight.failed", why=f"{type(error).__name__}: {error}")
        self.problem = f"the run is not predicted any more: {type(error).__name__}: {error}"
        self._predictor = self.newest = None

    def declare(self, epochs: int) -> None:
        """Say how many epochs there will be, where the settings do not."""
        self._epochs, self._is_told = epochs, True
        if self._predictor is not None and self._predictor.epochs is None:
            self._predictor.epochs = max(epochs - self._first_epoch, 0)

    def days_before(self, days: Iterable[tuple[float, IntensityValue]]) -> None:
        """Take the intensity of the days before the run: means of half hours by their begins (UTC seconds)."""
        known = dict(days) | dict(self._behind)
        self._behind = deque(sorted(known.items(), key=lambda step: step[0]), maxlen=self._behind.maxlen)
        self._horizon = None

    def pause(self) -> None:
        """The stretch that lies in no epoch just now is a pause: it tells nothing of those to come."""
        self._is_pause = True

    @harmless
    def epoch(self, report: EpochReport) -> None:
        """Take an epoch that has ended."""
        if self._predictor is None:
            self._keep(functools.partial(self.epoch, report))
            return
        self._steps = 0
        end_ns = None if self._begin_ns is None else self._begin_ns + ns_from_s(report.duration_s)
        self._take_work(end_ns)
        self._predictor.epoch(
            report.duration_s,
            _measured_j(report),
            steps=report.steps,
            is_partial=report.is_partial,
            coverage=report.coverage,
        )
        self._begin_ns = end_ns

    @harmless
    def between(self, cut: Cut) -> None:
        """Take a window that lies in no epoch."""
        if self._predictor is None:
            self._keep(functools.partial(self.between, cut))
            return
        self._steps = 0
        self._begin_ns = cut.begin_ns
        self._take_work(cut.end_ns)
        self._predictor.between(cut.duration_s, _whole_j(cut), recurs=not self._is_pause)
        self._begin_ns = cut.end_ns
        self._is_pause = False

    def _take_work(self, upto_ns: int | None) -> None:
        """Take what ended of work that comes at a pace of its own, as parts of the epoch or stretch that is open.

        Args:
            upto_ns: Its end, or now: what ended later is told later, as part of what it lies in. None: not known.
        """
        assert self._predictor is not None  # who calls has looked
        works = [*self._works, *self.worked()]
        self._works = []
        for work in works:
            if upto_ns is not None and work.end_ns > upto_ns:
                self._works.append(work)
                continue
            self._is_told = True
            self._predictor.declare(work.name, count=work.pieces, every=work.every)
            cut = self._ledger.cut(self._ledger.mark(work.begin_ns), self._ledger.mark(work.end_ns))
            is_past = self._begin_ns is not None and work.end_ns <= self._begin_ns
            self._predictor.work(work.name, cut.duration_s, _whole_j(cut), is_past=is_past)

    def _keep(self, tell: Callable[[], object]) -> None:
        """Keep what is told before there is anybody to tell."""
        if not self.problem:
            self._untold.append(tell)

    # -- telling -----------------------------------------------------------------------------------------------

    @harmless
    def go_on(self, run: Cut, epoch: Mark | None, end: Mark, *, is_final: bool = False) -> None:
        """Take how far the open epoch is, and make the prediction anew where that is worth it, and at the end.

        Args:
            run: The run, from its begin to now.
            epoch: Begin of the open epoch; None where none is open.
            end: Now.
            is_final: Whether nothing will be learnt any more.
        """
        if epoch is not None and not self._untold:
            self._begin_ns = epoch.t_ns
        if self._predictor is None:
            return
        self._take_work(end.t_ns)
        steps, total = self.progress()
        if epoch is not None and steps > self._steps:
            self._steps, self._is_told = steps, True
            cut = self._ledger.cut(epoch, end)
            self._predictor.progress(cut.duration_s, _energy_j(cut), steps, total)
        duration_s = s_from_ns(run.end_ns - run.begin_ns)
        is_worth_it = is_final or duration_s >= self._made_at_s * (1.0 + AGAIN_SHARE)
        if self._is_told if self.newest is None else is_worth_it:
            self.look(run, epoch, end, is_final=is_final)

    @harmless
    def look(self, run: Cut, epoch: Mark | None, end: Mark, *, is_final: bool = False) -> Prediction | None:
        """Make the prediction anew; the arguments are those of `go_on`."""
        if self._predictor is None:
            return None
        self._is_told = False
        open_cut = None if epoch is None or epoch.t_ns >= end.t_ns else self._ledger.cut(epoch, end)
        elapsed = (0.0, None) if open_cut is None else (open_cut.duration_s, _energy_j(open_cut))
        behind_s = None
        if epoch is None and self._begin_ns is not None and not is_final:
            behind_s = s_from_ns(end.t_ns - self._begin_ns)
        outlook = self._predictor.outlook(*elapsed, behind_s=behind_s)
        if outlook is not None:
            from aiocarbon._core.foretell import foretell
            from aiocarbon._core.report import utc

            now_s, pue = self._ledger.wall.wall_s(end.t_ns), self._ledger.pue.value
            self.newest = foretell(outlook, used=self.used(run), pue=pue, horizon=self.ahead(now_s), now=utc(now_s))
            self._made_at_s = run.duration_s
            self.made()
        return self.newest

    def used(self, run: Cut) -> Quantities:
        """What the run has used so far, its earlier tries with it.

        Args:
            run: From this start's begin to now.
        """
        from aiocarbon._core.report import Quantities, quantities

        used = Quantities(**quantities(run, self._ledger.pue.value))
        if self._former is None:
            return used
        from aiocarbon._core.former import added

        return Quantities(**added(self._former.run, used))

    @harmless
    def rate(self) -> dict[str, dict[str, float | None]]:
        """The present rate as a journal's end states it, for a next run of the same name; empty if epochs tell none."""
        from aiocarbon.journal.prior import END_KEY

        outlook = None if self._predictor is None else self._predictor.outlook()
        if outlook is None or outlook.rests_on != "epochs":
            return {}
        power_w = None if outlook.power_w is None else outlook.power_w.value
        return {END_KEY: {"epochs": outlook.epochs_seen, "epoch_s": outlook.epoch_s.value, "power_w": power_w}}

    def ahead(self, now_s: float) -> Horizon:
        """The intensity from an instant on (UTC seconds, about now)."""
        from aiocarbon._core.ahead import Horizon

        intensity, slot_s = self._ledger.intensity, math.floor(now_s / SLOT_S) * SLOT_S
        if self._horizon is None or self._horizon[:2] != (intensity.version, slot_s):
            self._look_back(slot_s)
            behind = [(at, at + SLOT_S, value) for at, value in self._behind if at < slot_s]
            ahead = [(at, value) for at, _, value in intensity.steps(slot_s, math.inf)]
            self._horizon = intensity.version, slot_s, Horizon(ahead, slot_s, behind=behind)
        return self._horizon[2]

    def _look_back(self, upto_s: float) -> None:
        """Remember the half hours that are over."""
        intensity = self._ledger.intensity
        first_s = next((at for at, _ in intensity if math.isfinite(at)), math.inf)
        at = self._behind[-1][0] + SLOT_S if self._behind else math.ceil(min(first_s, upto_s) / SLOT_S) * SLOT_S
        at = max(at, upto_s - DAYS * S_PER_DAY)
        while at + SLOT_S <= upto_s:
            mean = mean_of(intensity.steps(at, at + SLOT_S))
            if mean is not None:
                self._behind.append((at, mean))
            at += SLOT_S


def mean_of(steps: Iterable[tuple[float, float, IntensityValue]]) -> IntensityValue | None:
    """The mean of some steps, as a value of theirs; None where one of them is a guess, or there is none.

    Args:
        steps: From, to (UTC seconds), value.
    """
    pieces = list(steps)
    if not pieces or any(not value.quality.is_measured for _, _, value in pieces):
        return None
    length_s = math.fsum(to - at for at, to, _ in pieces)
    g, low, high = (
        math.fsum((to - at) * getattr(value, field) for at, to, value in pieces) / length_s
        for field in ("g_per_kwh", "low_g_per_kwh", "high_g_per_kwh")
    )
    (from_s, *_), (_, to_s, last) = pieces[0], pieces[-1]
    return replace(last, g_per_kwh=g, low_g_per_kwh=low, high_g_per_kwh=high, valid_from_s=from_s, valid_to_s=to_s)


def _energy_j(cut: Cut) -> float | None:
    """Joules by the meters; None where none told any."""
    return cut.energy_j if cut.coverage > 0.0 else None


def _whole_j(cut: Cut) -> float | None:
    """Likewise of a stretch that ends before its last reading is there: what is vouched for, carried on."""
    return cut.energy_j / cut.coverage if cut.coverage > 0.0 else None


def _measured_j(report: EpochReport) -> float | None:
    """Likewise of an epoch."""
    return j_from_kwh(report.it_energy_kwh) if report.coverage > 0.0 else None
