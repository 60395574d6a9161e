"""Is the prediction right? Runs of known classes and recorded ones, each predicted as it goes on.

All estimators see the same epochs and the same steps: this is the error of extrapolation alone. They are scored where
1, 2, 5, 10, 25 and 50 % of the run's true energy are used, and after one epoch. Seeds of the table are not those that
the predictor's constants were chosen with.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiocarbon._core.outlook import Outlook
from aiocarbon._core.predict import Predictor
from benchmarks.prediction_traces import CLASSES, TRACES, Class, Epoch, Trace, stored
from benchmarks.result import Row, at_most, info, skipped

NAME: Final = "prediction"
QUESTION: Final = "how far is the predicted energy of a run from what it will be, and does the interval hold it?"

SHARES: Final = (0.01, 0.02, 0.05, 0.10, 0.25, 0.50)
"""Of the true energy; where the estimators are scored."""

ONE: Final = "after one epoch"
TABLE_SEED: Final = 1_000_003
TUNING_SEED: Final = 7
RUNS: Final = 200
ALPHA: Final = 0.1
WARMUPS: Final = 0.5
OTHERS: Final = 1.1
"""The error after one epoch, in errors of N x mean: at most half where the first epoch lies and steps tell it, and
never more than a tenth greater."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The estimates at one instant, joules; None where an estimator says nothing yet."""

    ours: float | None
    low: float | None
    high: float | None
    mean: float | None
    oracle: float | None


def replay(trace: Trace) -> dict[float | str, Seen]:
    """Predict a run as it goes on, and keep what was said at each instant that is scored."""
    predictor = Predictor(trace.declared)
    for name, every in trace.every.items():
        predictor.declare(name, every=every)
    marks = [share * trace.energy_j for share in SHARES]
    seen: dict[float | str, Seen] = {}
    used = past = 0.0

    def look(ended: int, epoch: Epoch, at_s: float, at_j: float, done: float) -> Seen:
        outlook = predictor.outlook(at_s, at_j)
        mean = trace.declared * past / ended if ended else None
        oracle = None
        if epoch.expected_j is not None:
            oracle = used + max(trace.declared - ended - done, 0.0) * epoch.expected_j
        return _seen(outlook, mean, oracle)

    for k, epoch in enumerate(trace.epochs):
        total = sum(c[2] for c in epoch.chunks)
        at_s = at_j = 0.0
        steps = 0
        pieces = [("", c[0], c[1], c[2]) for c in epoch.chunks] + [(t[0], t[1], t[2], 0) for t in epoch.tail]
        for name, seconds, joules, n in pieces:
            at_s, at_j, used, steps = at_s + seconds, at_j + joules, used + joules, steps + n
            if name:
                predictor.work(name, seconds, joules)
            elif trace.has_steps and n:
                predictor.progress(at_s, at_j, steps, total)
            while len(seen) < len(SHARES) and used >= marks[len(seen)]:
                seen[SHARES[len(seen)]] = look(k, epoch, at_s, at_j, steps / total)
        predictor.epoch(at_s, at_j, steps=steps if trace.has_steps else 0)
        past += at_j
        if k == 0:
            first = look(1, epoch, 0.0, 0.0, 0.0)
    seen[ONE] = first
    return seen


def _seen(outlook: Outlook | None, mean: float | None, oracle: float | None) -> Seen:
    if outlook is None or outlook.total_j is None:
        return Seen(None, None, None, mean, oracle)
    return Seen(outlook.total_j.value, outlook.total_j.low, outlook.total_j.high, mean, oracle)


@dataclass(slots=True)
class Score:
    """Errors of many runs at one instant, in % of the truth."""

    ours: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    oracle: list[float] = field(default_factory=list)
    outside: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    interval: list[float] = field(default_factory=list)
    silent: int = 0

    def add(self, seen: Seen, truth: float) -> None:
        """Take one run."""
        for said, errors in ((seen.mean, self.mean), (seen.oracle, self.oracle)):
            if said is not None:
                errors.append(100 * abs(said - truth) / truth)
        if seen.ours is None or seen.low is None or seen.high is None:
            self.silent += 1
            return
        self.ours.append(100 * abs(seen.ours - truth) / truth)
        missed = max(seen.low - truth, truth - seen.high, 0.0)
        self.outside.append(missed > 0)
        self.widths.append(100 * (seen.high - seen.low) / truth)
        # Gneiting and Raftery, 2007, equation 43: the width and a fine for what lies outside.
        self.interval.append(100 * (seen.high - seen.low + 2 / ALPHA * missed) / truth)


def scores(traces: Iterable[Trace]) -> dict[float | str, Score]:
    """Replay runs and collect their errors."""
    found: dict[float | str, Score] = {at: Score() for at in (*SHARES, ONE)}
    for trace in traces:
        for at, seen in replay(trace).items():
            found[at].add(seen, trace.energy_j)
    return found


def mean(values: list[float]) -> float:
    """Mean; nan where there is none."""
    return statistics.fmean(values) if values else math.nan


def rows_of(name: str, found: dict[float | str, Score], *, limit: float | None, holds: bool) -> list[Row]:
    """What is said of one class.

    Args:
        name: What it is called.
        found: Its scores.
        limit: The error after one epoch may be at most so many times that of N x mean; None: it is only told.
        holds: Whether the interval must cover.
    """
    first = found[ONE]
    ours, theirs = mean(first.ours), mean(first.mean)
    note = f"N x mean {theirs:.1f} %" + (f", oracle rate {mean(first.oracle):.1f} %" if first.oracle else "")
    rows = [info(f"{name}: error {ONE}", ours, "%", note)]
    ratio = ours / theirs if theirs > 0 else math.inf
    metric = f"{name}: of N x mean's error"
    rows.append(info(metric, ratio, "x") if limit is None else at_most(metric, ratio, "x", limit))
    for who, label in (("ours", "ours"), ("mean", "N x mean"), ("oracle", "oracle rate")):
        errors = [mean(getattr(found[share], who)) for share in SHARES]
        if not all(math.isnan(e) for e in errors):
            each = " / ".join("-" if math.isnan(e) else f"{e:.1f}" for e in errors)
            rows.append(info(f"{name}: {label} at 10 %", errors[3], "%", f"{each} at 1/2/5/10/25/50 %"))
    outside = [x for share in SHARES for x in found[share].outside]
    each = " / ".join(f"{100 * (1 - mean([float(x) for x in found[s].outside])):.0f}" for s in SHARES)
    widths = " / ".join(f"{mean(found[s].widths):.0f}" for s in SHARES)
    fine = " / ".join(f"{mean(found[s].interval):.0f}" for s in SHARES)
    note = f"covered {each} %, width {widths} %, interval score {fine} %"
    missed = 100 * mean([float(x) for x in outside])
    metric = f"{name}: truth outside the 90 %"
    rows.append(at_most(metric, missed, "%", 15, note) if holds else info(metric, missed, "%", note))
    silent = sum(found[share].silent for share in SHARES)
    if silent:
        rows.append(info(f"{name}: instants without a prediction", silent, "", f"of {len(outside) + silent}"))
    return rows


def generated(kind: Class, runs: int, seed: int) -> dict[float | str, Score]:
    """Scores of a class."""
    return scores(kind.make(random.Random(f"{seed} {kind.name} {i}")) for i in range(runs))


def recorded_rows(paths: Sequence[Path]) -> list[Row]:
    """What is said of recorded runs: of each model, and of all together. A few runs prove no coverage: it is told."""
    if not paths:
        return [skipped("recorded runs", "%", "none stored: python -m benchmarks.record_traces")]
    models: dict[str, list[Trace]] = {}
    for path in paths:
        models.setdefault(path.stem.rpartition("-")[0] or path.stem, []).append(stored(path))
    rows: list[Row] = []
    for name, traces in models.items():
        rows += rows_of(f"recorded: {name}", scores(traces), limit=None, holds=False)
    everything = scores(trace for traces in models.values() for trace in traces)
    return rows + rows_of(f"recorded: all {len(paths)} runs", everything, limit=OTHERS, holds=False)


def cost_us(epochs: int) -> tuple[float, float]:
    """Median and greatest microseconds of one call of any kind after many epochs."""
    predictor, rng = Predictor(2 * epochs), random.Random(1)
    for _ in range(epochs):
        predictor.epoch(1 + rng.gauss(0, 0.03), 300 + rng.gauss(0, 9))
    costs = []
    calls: list[Callable[[], object]] = [
        lambda: predictor.outlook(0.5, 150.0),
        lambda: predictor.progress(0.5, 150.0, 50, 100),
        lambda: predictor.epoch(1.0, 300.0),
    ]
    for call in calls:
        each = []
        for _ in range(300):
            begin = time.perf_counter_ns()
            call()
            each.append((time.perf_counter_ns() - begin) / 1000)
        costs.append(statistics.median(each))
    return max(costs), sum(costs)


def first_epoch_us() -> float:
    """95th percentile of microseconds of an outlook inside the first epoch, where each looks at its chunks anew."""
    predictor, rng, at, costs = Predictor(100), random.Random(1), 0.0, []
    for i in range(1, 25):
        at += 1 + rng.gauss(0, 0.1) + (2 if i < 6 else 0)
        predictor.progress(at, 100 * at, i, 24)
        begin = time.perf_counter_ns()
        predictor.outlook(at, 100 * at)
        costs.append((time.perf_counter_ns() - begin) / 1000)
    return statistics.quantiles(costs, n=20)[-1]


def run(*, quick: bool = False, seed: int = TABLE_SEED) -> list[Row]:
    """Score all classes and all recorded runs.

    Args:
        quick: A tenth of the runs.
        seed: Of the made runs; constants are chosen with `TUNING_SEED`, the table is made with another.
    """
    runs = RUNS // 10 if quick else RUNS
    rows: list[Row] = []
    for kind in CLASSES:
        limit = WARMUPS if kind.is_warmup else OTHERS
        rows += rows_of(kind.name, generated(kind, runs, seed), limit=limit, holds=kind.holds)
    rows += recorded_rows(sorted(TRACES.glob("*.json")))
    for epochs in (10, 100_000):
        greatest, _ = cost_us(epochs)
        rows.append(at_most(f"one call after {epochs} epochs", greatest, "us", 100, "median of the dearest kind"))
    inside_us = statistics.median(first_epoch_us() for _ in range(9))
    rows.append(
        at_most("one outlook inside the first epoch", inside_us, "us", 100, "95th percentile, median of 9 runs")
    )
    return rows
