"""The predictor: what a run will have used at its end, told from what it has used so far.

Guarantees:
- what is predicted is what was observed plus what remains at the rate of the present regime, never a mean times all
  epochs, so nothing that has happened is predicted again;
- time and power are followed apart: a new batch size changes one, a power cap the other;
- an interval holds the error of the mean, a floor for what no model knows, and the size of this run's own earlier
  errors; it says "if the present regime goes on". No interval from the past covers a change that is still to come;
- every call costs the same at the millionth epoch as at the second;
- what is missing (an energy that no meter told) is never 0: it leaves the energy out of the outlook.

Method and constants: the Monte-Carlo of `benchmarks/prediction.py`, tuned on other seeds than it prints.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeGuard

from aiocarbon._core.outlook import Outlook
from aiocarbon._core.rates import Band, Prior, Rate, Rates
from aiocarbon._core.units import S_PER_HOUR
from aiocarbon._core.warmup import Progress
from aiocarbon._core.work import NOTHING, Ahead, WorkClass

TOLD_SHARE: Final = 1e-3
"""Less of a run without an energy, such as the milliseconds before a first reading, changes no figure that is told."""

VOUCHED_SHARE: Final = 0.9
"""An epoch of which readings vouch for less than this share of what they did in the best one tells no power: what a
device that was lost in it drew is in no figure, and would be predicted as 0 for all epochs to come. Assumed."""

BETWEEN: Final = "between epochs"
"""Name of the class of work that lies between epochs where they are entered."""


class Done(NamedTuple):
    """A complete epoch of an earlier try: seconds, joules (None where no meter told them), steps, coverage (0..1)."""

    duration_s: float
    energy_j: float | None
    steps: float = 0
    coverage: float = 1.0


class _Open(NamedTuple):
    """The open epoch: seconds and joules since its begin."""

    elapsed_s: float
    energy_j: float | None


class Predictor:
    """Is told what happens in a run and says at any instant what the whole will be.

    Attributes:
        epochs: Epochs of the whole run; None: unknown. May be set anew at any time.
        epochs_seen: Complete epochs so far.
    """

    def __init__(
        self,
        epochs: int | None,
        *,
        predict_after: int = 1,
        monitor_epochs: int | None = None,
        prior: Prior | None = None,
    ) -> None:
        """Begin a run.

        Args:
            epochs: Epochs of the whole run, at least 0; None: unknown.
            predict_after: Complete epochs before which nothing is predicted. Up to 1, the first prediction comes as
                soon as anything tells a rate: earlier runs, steps with a total inside the first epoch, or its end.
            monitor_epochs: Only so many complete epochs count for rates, the rest is extrapolated from them; None: all.
            prior: What earlier runs of the same name took.
        """
        self.epochs = epochs
        self.epochs_seen = 0
        self._predict_after = predict_after
        self._rates = Rates(prior, monitor_epochs)
        self._own: Rates | None = None  # of this try alone, while those of earlier ones count too
        self._former = 0  # epochs that earlier tries did
        self._former_pieces: Mapping[str, int] = {}
        self._ended = 0
        self._observed_s = 0.0
        self._observed_j = 0.0
        self._unmeasured_s = 0.0
        self._has_energy = False
        self._best_coverage = 0.0
        self._progress = Progress()
        self._work: dict[str, WorkClass] = {}
        self._work_s = 0.0  # of the open epoch, or of the open stretch that lies in none
        self._work_j = 0.0
        self._is_behind = False  # whether an epoch has ended, and nothing was told of what lies behind it

    # -- being told --------------------------------------------------------------------------------------------

    def go_on(self, done: Iterable[Done], pieces: Mapping[str, int]) -> None:
        """Take what earlier tries of the run did; before all else.

        Their epochs hold their classes of work, and nobody knows how much: once this try has such a class, only its own
        epochs tell the rate.

        Args:
            done: Their epochs.
            pieces: How many pieces of each class of work they had, by its name.
        """
        for duration_s, energy_j, steps, coverage in done:
            self.epoch(duration_s, energy_j, steps=steps, coverage=coverage)
        self._former, self._former_pieces = self._ended, dict(pieces)
        if self._former:
            self._own = self._rates.anew()

    def declare(self, name: str, *, count: int | None = None, every: int | None = None) -> None:
        """Say how often a class of work comes.

        Args:
            name: Its name, as in `work`.
            count: How many pieces the whole run has.
            every: It comes after each so many epochs, at least 1.
        """
        known = self._class(name)
        known.count, known.every = count, every

    def _class(self, name: str) -> WorkClass:
        return self._work.setdefault(name, WorkClass(name, before=self._former_pieces.get(name, 0)))

    def progress(self, t_s: float, energy_j: float | None, done: float, total: float | None = None) -> None:
        """Take progress inside the open epoch.

        Args:
            t_s: Seconds since the epoch's begin.
            energy_j: Joules since then; None where unknown.
            done: Steps done since then.
            total: Steps of the whole epoch, if known; the newest one counts.
        """
        if not (_is_amount(t_s) and _is_amount(done)):
            return
        energy = energy_j - self._work_j if _is_amount(energy_j) else None
        self._progress.add(t_s - self._work_s, energy, done, total if _is_amount(total) else None)

    def work(self, name: str, duration_s: float, energy_j: float | None, *, is_past: bool = False) -> None:
        """Take a piece of a class of work that has ended.

        Args:
            name: The class.
            duration_s: Its seconds.
            energy_j: Its joules; None where no meter told them.
            is_past: True if it lies before the last border, and in no figure that is still to be told. Else it is a
                part of the open epoch's figures; where none is open, of what lies between.
        """
        if not _is_amount(duration_s):
            return
        energy = energy_j if _is_amount(energy_j) else None
        self._class(name).add(duration_s, energy)
        if self._own is not None:
            self._rates, self._own = self._own, None
        if not is_past:
            self._work_s += duration_s
            self._work_j += energy or 0.0

    def between(self, duration_s: float, energy_j: float | None, *, recurs: bool = True) -> None:
        """Take a window that lies in no epoch. What is before the first epoch happens once, the others recur.

        Work that was told since the last border is a part of the window, and recurs at its own pace.

        Args:
            duration_s: Its seconds.
            energy_j: Its joules; None where no meter told them.
            recurs: False for a pause, which tells nothing of others.
        """
        if not _is_amount(duration_s):
            return
        energy = energy_j if _is_amount(energy_j) else None
        self._observe(duration_s, energy)
        own_s, own_j = self._without_work(duration_s, energy)
        if recurs and self._ended > self._former:
            self._class(BETWEEN).add(own_s, own_j)
        self._is_behind = False
        self._settle()

    def epoch(
        self,
        duration_s: float,
        energy_j: float | None,
        *,
        steps: float = 0,
        is_partial: bool = False,
        coverage: float = 1.0,
    ) -> None:
        """Take the end of an epoch.

        Args:
            duration_s: Its seconds.
            energy_j: Its joules; None where no meter told them.
            steps: Steps done in it; 0 where none were told.
            is_partial: It was broken off: it counts as used, and gives no rate.
            coverage: Share of it that readings vouch for, 0..1. Where that is much less than in the best epoch so far,
                its joules count as used, and it gives no power.
        """
        energy = energy_j if _is_amount(energy_j) else None
        if _is_amount(duration_s):
            self._observe(duration_s, energy)
        self._ended += 1
        self._is_behind = True
        own_s, own_j = self._without_work(duration_s, energy)
        self._settle()
        progress, self._progress = self._progress, Progress()
        if is_partial or not _is_amount(duration_s):
            return
        self.epochs_seen += 1
        self._best_coverage = max(self._best_coverage, coverage)
        if coverage < VOUCHED_SHARE * self._best_coverage:
            own_j = None
        inside = progress if progress.chunks else None
        for rates in (self._rates, self._own):
            if rates is not None:
                rates.add(own_s, own_j, inside, steps or progress.last.done)

    def _without_work(self, duration_s: float, energy_j: float | None) -> tuple[float, float | None]:
        """Seconds and joules of the stretch that ends, its classes of work left out."""
        return max(duration_s - self._work_s, 0.0), None if energy_j is None else max(energy_j - self._work_j, 0.0)

    def _settle(self) -> None:
        """Begin the next stretch."""
        self._work_s = self._work_j = 0.0
        for known in self._work.values():
            known.settled = known.seen

    def _observe(self, duration_s: float, energy_j: float | None) -> None:
        self._observed_s += duration_s
        if energy_j is None:
            self._unmeasured_s += duration_s
        else:
            self._observed_j += energy_j
            self._has_energy = True

    # -- asking ------------------------------------------------------------------------------------------------

    def outlook(
        self, elapsed_s: float = 0.0, energy_j: float | None = None, *, behind_s: float | None = None
    ) -> Outlook | None:
        """What the run will have used.

        Args:
            elapsed_s: Seconds since the open epoch began.
            energy_j: Joules since then; None where unknown.
            behind_s: Where none is open, seconds since the last one ended; None where nothing follows it any more.

        Returns:
            None while there is nothing to predict from, or it is not yet wanted (`predict_after`).
        """
        if self._predict_after > 1 and self.epochs_seen < self._predict_after:
            return None
        rate = self._rates.rate(self._progress)
        if rate is None:
            return None
        elapsed = elapsed_s if _is_amount(elapsed_s) else 0.0
        now = _Open(elapsed, energy_j if _is_amount(energy_j) else None)
        observed_s = self._observed_s + now.elapsed_s
        has_energy = self._has_energy or now.energy_j is not None
        observed_j = self._observed_j + (now.energy_j or 0.0) if has_energy else None
        left = self._left(rate, now)
        remaining_s, remaining_j = self._remaining(rate, left, behind_s) if left is not None else (None, None)
        total_s = remaining_s.plus(observed_s) if remaining_s is not None else None
        total_j = None
        if remaining_j is not None and (observed_j is not None or observed_s == 0.0):
            total_j = remaining_j.plus(observed_j or 0.0)
        power = rate.power_band()
        return Outlook(
            is_bounded=self.epochs is not None,
            epochs=self.epochs,
            epochs_seen=self.epochs_seen,
            epochs_left=left,
            observed_s=observed_s,
            observed_j=observed_j,
            remaining_s=remaining_s,
            remaining_j=remaining_j,
            total_s=total_s,
            total_j=total_j,
            epoch_s=rate.duration_band(1.0),
            power_w=power,
            j_per_hour=power.times(S_PER_HOUR) if power is not None else None,
            rests_on=rate.rests_on,
            regimes=self._rates.changes,
            notes=self._notes(now),
        )

    def _left(self, rate: Rate, now: _Open) -> float | None:
        """Epochs to come, with the share of the open one that is left."""
        if self.epochs is None:
            return None
        whole = self.epochs - self._ended
        if whole <= 0:
            return 0.0
        if now.elapsed_s <= 0 or rate.epoch_s <= 0:
            return float(whole)
        own_s = max(now.elapsed_s - self._work_s, 0.0)
        share = self._progress.share
        if share is None:
            # Nothing tells how far the epoch is: it takes what epochs take, and is about to end when it took more.
            return whole - min(own_s / rate.epoch_s, 1.0)
        steps_share = 1.0 - rate.tail_share
        since_s = max(own_s - self._progress.last.t_s, 0.0)
        # Since the newest step the epoch went on too, up to a step's worth, or into what follows the last step.
        step_s = rate.epoch_s * steps_share / self._progress.total if self._progress.total else 0.0
        more = min(since_s, step_s if share < 1.0 else rate.epoch_s * rate.tail_share) / rate.epoch_s
        return max(whole - min(share * steps_share + more, 1.0), whole - 1.0)

    def _remaining(self, rate: Rate, left: float, behind_s: float | None) -> tuple[Band, Band | None]:
        """Seconds and joules to come."""
        rest, last = self._work_ahead(left, behind_s)
        own_s = left * rate.epoch_s
        half_s = math.hypot(rate.duration_half(left) * own_s, rate.quantile * math.sqrt(rest.duration_var))
        half_s = math.hypot(half_s, rate.floor_s * rest.duration_s)
        remaining_s = Band.around(own_s + rest.duration_s, half_s).down_by(last.duration_s)
        if rate.power_w is None or rest.energy_j is None:
            return remaining_s, None
        own_j = own_s * rate.power_w
        half_j = math.hypot(rate.energy_half(left) * own_j, rate.quantile * math.sqrt(rest.energy_var))
        half_j = math.hypot(half_j, rate.floor_j * rest.energy_j)
        return remaining_s, Band.around(own_j + rest.energy_j, half_j).down_by(last.energy_j or 0.0)

    def _work_ahead(self, left: float, behind_s: float | None) -> tuple[Ahead, Ahead]:
        """All classes of work to come together; and what follows the last epoch, in it, which may never come."""
        total, last, ended = NOTHING, NOTHING, self._ended - self._former
        for known in self._work.values():
            if known.name != BETWEEN or not self._is_behind:
                pieces = known.pieces_left(ended, left, self.epochs or 0, former=self._former)
            else:  # one more epoch has ended than is known what follows it
                pieces = known.pieces_left(ended - 1, left + 1.0, self.epochs or 0, former=self._former)
                passed = 1.0 if behind_s is None else known.share(behind_s - self._work_s)
                pieces = max(pieces - passed, 0.0)
            total = total.plus(known.ahead(pieces))
            if known.name == BETWEEN:
                last = known.ahead(min(pieces, 1.0))
        return total, last

    def _notes(self, now: _Open) -> tuple[str, ...]:
        notes = []
        if self.epochs is not None and self._ended > self.epochs:
            notes.append(f"{self._ended} epochs have ended, {self.epochs} were declared: nothing more is predicted")
        elif self.epochs is not None and self._ended == self.epochs and now.elapsed_s > 0:
            notes.append(f"all {self.epochs} declared epochs have ended: nothing more is predicted")
        notes += [
            f"no {known.name!r} was seen yet: those to come are not in the prediction"
            for known in self._work.values()
            if not known.seen and (known.count or known.every)
        ]
        progress = self._progress
        if progress.total is not None and progress.last.done > progress.total:
            notes.append(f"{progress.last.done:g} steps were done in an epoch of {progress.total:g}")
        if self._unmeasured_s > TOLD_SHARE * self._observed_s and self._has_energy:
            notes.append(f"no energy is known of {self._unmeasured_s:.3g} s of the run: it is in no total")
        return tuple(notes)


def _is_amount(value: float | None) -> TypeGuard[float]:
    """Whether a number can be used: there, finite, not below 0."""
    return value is not None and math.isfinite(value) and value >= 0
