"""The rate at which epochs take time and power, from earlier runs, the first epoch's inside, and whole epochs.

Which one counts: whole epochs as soon as there is one; before, the steps of the first epoch; before that, earlier runs
of the same name, which go on counting with the weight that a normal prior has among normal data, unless the run
contradicts them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from aiocarbon._core.hindsight import Forecast, Hindsight
from aiocarbon._core.regime import PRIOR_DOF, Level, Regime
from aiocarbon._core.units import Z_90
from aiocarbon._core.warmup import Progress

TIME_SPREAD: Final = 0.03
POWER_SPREAD: Final = 0.01
"""Standard deviations between epochs that are assumed beside those seen, as shares."""

UNSEEN: Final = 6.0
"""The floor has the variance of `1 + UNSEEN / epochs`: what comes once in ten epochs is not seen in the first five."""

UNSEEN_TAIL: Final = 0.5
"""What the steps of the open first epoch count of an epoch: nobody has seen yet what comes after its last step."""

FIRST_ALONE: Final = 0.45
"""Least half width, as a share of what remains, where one epoch is all that is known and nothing of its inside: a first
epoch may well be 30 % longer or shorter than those after it (of the latter 1 / 0.7 - 1 = 0.43). Assumed."""

FIRST_SHARE: Final = 0.10
"""Least share by which the first epoch must differ from the next ones to be left out."""

FIRST_Z: Final = 3.0
FIRST_JUDGED: Final = 6
"""Up to this epoch the first one is compared with those after it."""

PRIOR_SD: Final = 0.1
"""Standard deviation between runs of one name that is assumed beside what is seen, as a share. Assumed."""

PRIOR_EPOCHS: Final = 10.0
"""How many epochs an earlier run counts where the question is what has not been seen yet."""

CONFLICT_Z: Final = 3.0
"""Standard errors between earlier runs and this one at which they are no longer believed."""

T_95: Final = (6.314, 2.920, 2.353, 2.132, 2.015)
"""95 % quantiles of Student's t for 1 to 5 degrees of freedom (any table)."""


class Band(NamedTuple):
    """A value with its 90 % range; all of one unit."""

    value: float
    low: float
    high: float

    @classmethod
    def around(cls, value: float, half: float) -> Band:
        """A band around a value that cannot be below 0."""
        return cls(value, max(value - half, 0.0), value + half)

    def plus(self, amount: float) -> Band:
        """Shifted by what is known for sure."""
        return Band(self.value + amount, self.low + amount, self.high + amount)

    def down_by(self, amount: float) -> Band:
        """With a low end that is lower, and not below 0."""
        return self._replace(low=max(self.low - amount, 0.0))

    def times(self, factor: float) -> Band:
        """In another unit; the factor is at least 0."""
        return Band(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What earlier runs of the same name took.

    Attributes:
        epoch_s: Mean over the runs of an epoch's seconds, above 0.
        epoch_s_sd: Standard deviation between runs; None where there was one run.
        power_w: Mean power draw of an epoch; None where none was measured.
        power_w_sd: Standard deviation between runs; None where there was one.
        runs: How many runs, at least 1.
    """

    epoch_s: float
    epoch_s_sd: float | None = None
    power_w: float | None = None
    power_w_sd: float | None = None
    runs: int = 1

    def spread(self, mean: float, sd: float | None) -> float:
        """Standard deviation with which a next run's mean will lie around this one's."""
        assumed = PRIOR_DOF * (PRIOR_SD * mean) ** 2
        seen = (self.runs - 1) * sd * sd if sd is not None else 0.0
        return math.sqrt((assumed + seen) / (PRIOR_DOF + self.runs - 1) * (1.0 + 1.0 / self.runs))


class Guess(NamedTuple):
    """A mean, the standard error of it, and the standard deviation of one epoch around it (with autocorrelation)."""

    mean: float
    error: float
    each: float

    def share(self, left: float) -> float:
        """Standard deviation of a sum over epochs to come, as a share of it."""
        if self.mean <= 0 or left <= 0:
            return 0.0
        return math.sqrt(self.error**2 + self.each**2 / left) / self.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The present rate.

    Attributes:
        time: An epoch's seconds.
        power: Watts; None where not known.
        quantile: 95 % quantile of their errors, in standard deviations.
        floor_s: Half width of what no model knows, as a share of seconds.
        floor_j: Likewise of joules.
        seen_s: Half width that this run's own earlier errors ask for, as a share of seconds.
        seen_j: Likewise of joules.
        tail_share: Share of an epoch that comes after its last step.
        rests_on: "prior", "steps" or "epochs".
    """

    time: Guess
    power: Guess | None
    quantile: float
    floor_s: float
    floor_j: float
    seen_s: float
    seen_j: float
    tail_share: float
    rests_on: str

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch."""
        return self.time.mean

    @property
    def power_w(self) -> float | None:
        """Watts."""
        return None if self.power is None else self.power.mean

    def duration_half(self, left: float) -> float:
        """Half width of the seconds of so many epochs to come, as a share."""
        return max(math.hypot(self.quantile * self.time.share(left), self.floor_s), self.seen_s)

    def energy_half(self, left: float) -> float:
        """Half width of their joules, as a share."""
        power = self.power.share(left) if self.power is not None else 0.0
        own = self.quantile * math.hypot(self.time.share(left), power)
        return max(math.hypot(own, self.floor_j), self.seen_j)

    def duration_band(self, epochs: float) -> Band:
        """Seconds that epochs take in the mean of the regime."""
        half = self.duration_half(math.inf)
        return Band.around(epochs * self.time.mean, epochs * self.time.mean * half)

    def power_band(self) -> Band | None:
        """Mean watts of the regime."""
        if self.power is None:
            return None
        half = math.hypot(self.quantile * self.power.share(math.inf), self.floor_j)
        return Band.around(self.power.mean, self.power.mean * half)


class Rates:
    """The series of a run's epochs.

    Args:
        prior: What earlier runs of the same name took.
        most: Only so many epochs count, the first of them; None: all.

    Attributes:
        changes: Changes of regime so far.
    """

    def __init__(self, prior: Prior | None, most: int | None = None) -> None:
        self._prior = prior
        self._most = most
        self._time = Regime(spread=TIME_SPREAD)
        self._power = Regime(spread=POWER_SPREAD)
        self._errors = Hindsight()
        self._count = 0
        self._seconds = 0.0
        self._joules = 0.0
        self._raw: tuple[float, float | None] | None = None  # the first epoch as it was, until it is judged
        self._is_first_told = True  # whether steps were told in the first epoch
        self._tail_s = 0.0  # of the newest epoch, after its last step

    @property
    def changes(self) -> int:
        """Changes of regime so far."""
        return self._time.changes + self._power.changes

    def anew(self) -> Rates:
        """A series that begins now, with the same prior and limit."""
        return Rates(self._prior, self._most)

    def add(self, own_s: float, own_j: float | None, progress: Progress | None, steps: float) -> None:
        """Take a whole epoch without its other classes of work.

        Args:
            own_s: Its seconds.
            own_j: Its joules; None where not known.
            progress: Its inside; None where no steps were told.
            steps: Its steps.
        """
        if self._most is not None and self._count >= self._most:
            return
        self._count += 1
        self._seconds += own_s
        level = self._power.level()
        unknown_j = 0.0 if level is None else level.mean * own_s  # so that it is no error of what was predicted
        self._joules += unknown_j if own_j is None else own_j
        if progress is not None and progress.last.done >= steps:
            self._tail_s = max(own_s - progress.last.t_s, 0.0)
        seconds, joules = own_s, own_j
        if self._count == 1:
            self._is_first_told = progress is not None
            self._raw = (own_s, own_j / own_s if own_j is not None and own_s > 0 else None)
            seconds, joules = _without_warmup(own_s, own_j, progress)
        is_new = self._time.add(seconds)
        if joules is not None and seconds > 0:
            is_new = self._power.add(joules / seconds, seconds) or is_new
        if self._raw is not None and self._count > 1:
            is_new = self._judge_first() or is_new
        if is_new and self.changes <= 1:
            self._errors.clear()  # of a run that changes again and again, all errors count
        self._errors.score(self._count, self._seconds, self._joules)
        rate = self.rate(None) if self._errors.is_due(self._count) else None
        if rate is not None:
            made = Forecast(self._count, self._seconds, self._joules, rate.epoch_s, rate.power_w)
            self._errors.keep(made)

    def _judge_first(self) -> bool:
        """See the first epoch in the light of those after it: as it was, without its warm-up, or not at all."""
        assert self._raw is not None
        raw_s, raw_w = self._raw
        is_new = False
        for regime, raw, raw_weight in ((self._time, raw_s, 1.0), (self._power, raw_w, raw_s)):
            values = regime.newest
            if raw is None or len(values) != self._count or regime.changes:
                continue
            mean = sum(value for value, _ in values[1:]) / (len(values) - 1)
            first, weight = min(((raw, raw_weight), values[0]), key=lambda pair: abs(pair[0] - mean))
            squares = sum((value - mean) ** 2 for value, _ in values[1:]) + PRIOR_DOF * (TIME_SPREAD * mean) ** 2
            sd = math.sqrt(squares / (len(values) - 2 + PRIOR_DOF))
            if abs(first - mean) > max(FIRST_SHARE * mean, FIRST_Z * sd):
                regime.replace(values[1:])
                is_new = True
            elif first != values[0][0]:
                regime.replace([(first, weight), *values[1:]])
        if is_new or self._count >= FIRST_JUDGED:
            self._raw = None
        return is_new

    def rate(self, progress: Progress | None) -> Rate | None:
        """The present rate; None where nothing tells one.

        Args:
            progress: The inside of the open epoch; it counts while no epoch has ended.
        """
        time, power = _guess(self._time.level()), _guess(self._power.level())
        rests_on, dof, seen = "epochs", PRIOR_DOF + len(self._time) - 1, float(len(self._time))
        if time is None and progress is not None:
            rests_on, dof, seen = "steps", PRIOR_DOF + progress.chunks - 1, UNSEEN_TAIL * (progress.share or 0.0)
            time, power = _from_steps(progress)
        prior = self._prior
        if prior is not None and prior.epoch_s > 0:
            seen += PRIOR_EPOCHS * prior.runs
            if time is None:
                rests_on, dof = "prior", PRIOR_DOF + prior.runs - 1
            time = _shrunk(time, prior.epoch_s, prior.spread(prior.epoch_s, prior.epoch_s_sd))
            if prior.power_w is not None:
                power = _shrunk(power, prior.power_w, prior.spread(prior.power_w, prior.power_w_sd))
        if time is None:
            return None
        unseen = Z_90 * math.sqrt(1.0 + UNSEEN / max(seen, 0.01))
        is_first_alone = rests_on == "epochs" and self._count == 1 and not self._is_first_told and prior is None
        least = FIRST_ALONE if is_first_alone else 0.0
        return Rate(
            time=time,
            power=power,
            quantile=t_95(dof),
            floor_s=max(unseen * self._errors.seconds.floor, least),
            floor_j=max(unseen * self._errors.joules.floor, least),
            seen_s=self._errors.seconds.half,
            seen_j=self._errors.joules.half,
            tail_share=min(self._tail_s / time.mean, 1.0) if time.mean > 0 else 0.0,
            rests_on=rests_on,
        )


def _without_warmup(own_s: float, own_j: float | None, progress: Progress | None) -> tuple[float, float | None]:
    """Seconds and joules of the first epoch as it would have been in the steady state."""
    steady = progress.steady() if progress is not None else None
    if steady is None or own_s <= steady.warmup_s:
        return own_s, own_j
    seconds = own_s - steady.warmup_s
    if own_j is None or steady.warmup_j is None or own_j <= steady.warmup_j:
        return seconds, own_j if own_j is None else own_j * seconds / own_s
    return seconds, own_j - steady.warmup_j


def _from_steps(progress: Progress) -> tuple[Guess | None, Guess | None]:
    """Seconds and watts of the open first epoch, from its steps so far."""
    steady = progress.so_far() if progress.total is not None else None
    if steady is None or progress.total is None:
        return None, None
    total = max(progress.total, progress.last.done)
    seconds = steady.s_per_step * total
    time = Guess(seconds, steady.s_per_step_sd * total, TIME_SPREAD * seconds)
    if steady.power_w is None:
        return time, None
    return time, Guess(steady.power_w, steady.power_sd_w, POWER_SPREAD * steady.power_w)


def _guess(level: Level | None) -> Guess | None:
    if level is None:
        return None
    inflated = level.sd * math.sqrt(level.inflation)
    return Guess(level.mean, inflated / math.sqrt(level.n), inflated)


def _shrunk(data: Guess | None, mean: float, sd: float) -> Guess:
    """A normal prior's mean among normal data (precision-weighted); data that contradict it stand alone."""
    if data is None:
        return Guess(mean, sd, TIME_SPREAD * mean)
    var, prior_var = data.error**2, sd**2
    if abs(data.mean - mean) > CONFLICT_Z * math.sqrt(var + prior_var) or var + prior_var <= 0:
        return data
    weight = prior_var / (var + prior_var)
    return Guess(weight * data.mean + (1 - weight) * mean, math.sqrt(weight * var), data.each)


def t_95(dof: float) -> float:
    """95 % quantile of Student's t (Cornish and Fisher's expansion beyond the table; 0.2 % at 6, less after)."""
    if dof <= len(T_95):
        return T_95[max(int(dof), 1) - 1]
    z = Z_90
    return z + (z**3 + z) / (4 * dof) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * dof * dof)
