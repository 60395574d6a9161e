"""What a journal holds of what was foreseen: predictions as they were made, and the forecast with which a run began.

Neither is a figure of the run: they are kept so that a reader can hold them against what came.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from aiocarbon._core.intensity import MAX_G_PER_KWH, IntensityValue
from aiocarbon._core.report import Prediction
from aiocarbon.journal.plain import count, number

__all__ = ["OUTLOOK_KINDS", "Ahead", "Foreseen", "Outlooks", "Range", "ahead_record", "prediction_record"]

Record = dict[str, Any]

OUTLOOK_KINDS: Final = frozenset({"prediction", "ahead"})
"""Kinds of records that are told here."""

MOST_STEPS: Final = 1200
"""Steps of a forecast that are kept: four days of five minutes are 1152."""

MOST_PREDICTIONS: Final = 100_000


class Range(NamedTuple):
    """A figure with its 90 % range."""

    value: float
    low: float
    high: float


class Foreseen(NamedTuple):
    """What a whole run was predicted to use; None where a figure was not known.

    Attributes:
        at_s: When, UTC seconds.
        epochs: How many epochs were declared.
        seen: How many had ended.
        energy_kwh: With PUE.
        co2eq_g: Grams.
        duration_s: Seconds.
    """

    at_s: float
    epochs: int | None
    seen: int
    energy_kwh: Range | None
    co2eq_g: Range | None
    duration_s: Range | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """The first forecast of a run's intensity.

    Attributes:
        at_s: When it was known, UTC seconds.
        until_s: Up to when it goes.
        steps: From when (UTC seconds) which gCO2eq/kWh; ascending.
        source: Who says so.
        zone: Of which zone.
        kind: Average or marginal.
        factor_basis: Direct or life-cycle.
    """

    at_s: float
    until_s: float
    steps: tuple[tuple[float, float], ...]
    source: str
    zone: str
    kind: str
    factor_basis: str


def prediction_record(made: Prediction) -> Record:
    """The record of a prediction that was made."""
    plain = made.to_dict()

    def ends(name: str) -> list[float] | None:
        told = [plain[f"{name}{end}"] for end in ("", "_low", "_high")]
        is_known = all(value is not None and math.isfinite(value) for value in told)
        return [_short(value) for value in told] if is_known else None

    return {
        "k": "prediction",
        "at_s": made.as_of.timestamp(),
        "epochs": made.epochs,
        "seen": made.epochs_seen,
        "kwh": ends("energy_kwh"),
        "g": ends("co2eq_g"),
        "s": ends("duration_s"),
    }


def ahead_record(steps: Sequence[tuple[float, float, IntensityValue]], at_s: float) -> Record:
    """The record of a forecast.

    Args:
        steps: From, to (UTC seconds) and value, ascending, at least one.
        at_s: When it was known.
    """
    steps = steps[:MOST_STEPS]
    last = steps[-1][2]
    return {
        "k": "ahead",
        "at_s": at_s,
        "until_s": steps[-1][1],
        "steps": [[from_s, value.g_per_kwh] for from_s, _, value in steps],
        "source": "; ".join(dict.fromkeys(value.source for _, _, value in steps)),
        "zone": last.zone,
        "kind": last.kind.value,
        "factor_basis": last.factor_basis.value,
    }


def _short(value: float) -> float:
    """Six digits: more would only make the journal longer."""
    return float(f"{value:.6g}")


class Outlooks:
    """What one process's journal tells of what was foreseen.

    Attributes:
        predictions: As they were made, in the order of the file.
        ahead: The first forecast; None where none was known.
    """

    def __init__(self) -> None:
        self.predictions: list[Foreseen] = []
        self.ahead: Ahead | None = None

    def take(self, record: Record) -> None:
        """Take a record.

        Raises:
            KeyError, ValueError, TypeError, IndexError: It is no such record.
        """
        if record["k"] == "ahead":
            self.ahead = self.ahead or _ahead(record)
        elif len(self.predictions) < MOST_PREDICTIONS:
            epochs = record["epochs"]
            self.predictions.append(
                Foreseen(
                    _instant(record["at_s"]),
                    None if epochs is None else count(epochs),
                    count(record["seen"]),
                    *(_range(record[name]) for name in ("kwh", "g", "s")),
                )
            )


def _ahead(record: Record) -> Ahead:
    steps = tuple((_instant(from_s), number(g)) for from_s, g in record["steps"])
    if not steps or any(a[0] >= b[0] for a, b in itertools.pairwise(steps)):
        raise ValueError("no steps, or not in order")
    if not all(0.0 <= g <= MAX_G_PER_KWH for _, g in steps):
        raise ValueError("out of range")
    return Ahead(
        at_s=_instant(record["at_s"]),
        until_s=_instant(record["until_s"]),
        steps=steps,
        **{name: str(record[name]) for name in ("source", "zone", "kind", "factor_basis")},
    )


def _range(told: Any) -> Range | None:
    if told is None:
        return None
    value, low, high = told
    return Range(number(value), number(low), number(high))


def _instant(value: Any) -> float:
    """UTC seconds that a calendar knows.

    Raises:
        ValueError, TypeError: It is none.
    """
    at_s = number(value)
    try:
        datetime.fromtimestamp(at_s, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"{value!r} is no instant") from error
    return at_s
