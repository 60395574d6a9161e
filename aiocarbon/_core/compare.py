"""Two runs, or two sums of runs, side by side: what each used, and by how much they differ, with ranges.

Ranges are taken as they stand, though two runs on one machine have most of their error in common: of what is told apart
here, nothing depends on what nobody knows of two sensors.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from aiocarbon._core.rates import t_95
from aiocarbon._core.report import EpochReport, Quantities, RunReport

__all__ = ["Comparison", "Measure", "Range", "compare"]

SCHEMA: Final = "aiocarbon.comparison/1"

FIELDS: Final = ("energy_kwh", "it_energy_kwh", "co2eq_g", "duration_s")
"""What is compared; the first three have ranges of their own."""

LEAST_EPOCHS: Final = 2
"""So many complete epochs tell how much epochs differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A figure with its 90 % range.

    Attributes:
        value: The figure, in the unit that the name of its `Measure` says.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure of both.

    Attributes:
        name: Which, with its unit: "energy_kwh"; "epoch_energy_kwh" is the mean of a complete epoch.
        a: Of the first; None where it is not known.
        b: Of the second.
        ratio: b / a, from the one's low end and the other's high end to the reverse; None where a may be nothing.
        verdict: "more", "less", or "same" where the ranges of both meet, so that nothing is told apart; empty where one
            is not known.
    """

    name: str
    a: Range | None
    b: Range | None
    ratio: Range | None
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two sides with their figures.

    Attributes:
        a: What the first is called.
        b: What the second is called.
        runs: How many runs each is the sum of.
        epochs: How many complete epochs the means of each are of.
        measures: The figures.
        notes: What a reader must know.
    """

    a: str
    b: str
    runs: tuple[int, int]
    epochs: tuple[int, int]
    measures: tuple[Measure, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"schema": SCHEMA, **asdict(self), "runs": list(self.runs), "epochs": list(self.epochs)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side.

    Attributes:
        label: What it is called.
        total: What its runs used together.
        runs: Its runs.
    """

    label: str
    total: Quantities
    runs: Sequence[RunReport]

    @property
    def epochs(self) -> list[EpochReport]:
        """Its complete epochs."""
        return [epoch for run in self.runs for epoch in run.epochs if not epoch.is_partial]


def compare(a: Side, b: Side) -> Comparison:
    """Compare two sides.

    Args:
        a: The first, which the other is compared with.
        b: The second.
    """
    epochs = a.epochs, b.epochs
    measures = [_measure(name, _of(a.total, name), _of(b.total, name)) for name in FIELDS]
    if all(epochs):
        measures += [_measure(f"epoch_{name}", *(_mean(of, name) for of in epochs)) for name in FIELDS]
    return Comparison(
        a=a.label,
        b=b.label,
        runs=(len(a.runs), len(b.runs)),
        epochs=(len(epochs[0]), len(epochs[1])),
        measures=tuple(measures),
        notes=tuple(_notes(a, b)),
    )


def _of(report: Quantities, name: str) -> Range:
    value = getattr(report, name)
    return Range(value=value, low=getattr(report, f"{name}_low", value), high=getattr(report, f"{name}_high", value))


def _mean(epochs: Sequence[EpochReport], name: str) -> Range:
    """The mean of epochs: what is wrong with the meters is wrong with all of them, how they differ averages out."""
    parts = [_of(epoch, name) for epoch in epochs]
    value, low, high = (statistics.fmean(getattr(part, end) for part in parts) for end in ("value", "low", "high"))
    half = 0.0
    if len(parts) >= LEAST_EPOCHS:
        spread = statistics.stdev(part.value for part in parts)
        half = t_95(len(parts) - 1) * spread / math.sqrt(len(parts))  # 90 %, two-sided
    return Range(
        value=value, low=max(value - math.hypot(value - low, half), 0.0), high=value + math.hypot(high - value, half)
    )


def _measure(name: str, a: Range, b: Range) -> Measure:
    ratio = None
    if a.low > 0.0:
        ratio = Range(value=b.value / a.value, low=b.low / a.high, high=b.high / a.low)
    verdict = "more" if b.low > a.high else "less" if b.high < a.low else "same"
    return Measure(name=name, a=a, b=b, ratio=ratio, verdict=verdict)


def _notes(a: Side, b: Side) -> Iterator[str]:
    for side, other in ((a, b), (b, a)):
        if not side.epochs and other.epochs:
            yield f"{side.label} has no complete epoch: epochs are not compared"
        elif len(side.epochs) == 1:
            yield f"{side.label} has one complete epoch: how much its epochs differ is not known, nor in the range"
        broken = sum(not run.ended_well for run in side.runs)
        if broken:
            yield f"{side.label}: {broken} of {len(side.runs)} runs did not end well; what is missing is in no figure"
    facts: tuple[tuple[str, Callable[[RunReport], Any]], ...] = (
        ("scope", lambda run: run.scope.name),
        ("PUE", lambda run: f"{run.pue.value:g}"),
        ("zone", lambda run: ", ".join(place.zone for place in run.locations or (run.location,))),
        ("what is measured", lambda run: ", ".join(run.scope.measured) or "none"),
        ("hardware", lambda run: ", ".join(sorted({device.name for device in run.devices if device.counted}))),
    )
    for what, of in facts:
        told = [sorted({str(of(run)) for run in side.runs}) for side in (a, b)]
        if told[0] != told[1]:
            yield f"{what} differs: {'; '.join(told[0])} in {a.label}, {'; '.join(told[1])} in {b.label}"
