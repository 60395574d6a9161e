"""What was foreseen stands in the journal as it was foreseen, and nothing torn or absurd is taken for it."""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.report import Prediction
from aiocarbon.journal.outlooks import MOST_STEPS, Outlooks, Range, ahead_record, prediction_record

AT_S = 1_790_000_000.0


def prediction(**figures: Any) -> Prediction:
    return Prediction(as_of=datetime.fromtimestamp(AT_S, UTC), is_bounded=True, epochs=10, epochs_seen=3, **figures)


def value(g_per_kwh: float) -> IntensityValue:
    return IntensityValue(
        g_per_kwh=g_per_kwh, low_g_per_kwh=0.0, high_g_per_kwh=900.0, source="a source", zone="DK",
        quality=Quality.FORECAST,
    )  # fmt: skip


def back(*records: dict[str, Any]) -> Outlooks:
    outlooks = Outlooks()
    for record in records:
        outlooks.take(json.loads(json.dumps(record, allow_nan=False)))
    return outlooks


def test_a_prediction_comes_back_as_it_was_made() -> None:
    made = prediction(energy_kwh=2.0, energy_kwh_low=1.0, energy_kwh_high=3.0)
    (found,) = back(prediction_record(made)).predictions
    assert (found.at_s, found.epochs, found.seen) == (AT_S, 10, 3)
    assert found.energy_kwh == Range(2.0, 1.0, 3.0)


def test_what_was_not_known_is_not_zero() -> None:
    (found,) = back(prediction_record(prediction())).predictions
    assert found.energy_kwh is found.co2eq_g is found.duration_s is None


def test_what_no_json_can_hold_is_not_known() -> None:
    made = prediction(co2eq_g=1.0, co2eq_g_low=0.0, co2eq_g_high=math.inf)
    assert back(prediction_record(made)).predictions[0].co2eq_g is None


def test_the_first_forecast_counts() -> None:
    steps = [(AT_S, AT_S + 1800.0, value(100.0)), (AT_S + 1800.0, AT_S + 3600.0, value(200.0))]
    later = [(AT_S, AT_S + 1800.0, value(900.0))]
    ahead = back(ahead_record(steps, AT_S), ahead_record(later, AT_S + 60.0)).ahead
    assert ahead is not None
    assert ahead.steps == ((AT_S, 100.0), (AT_S + 1800.0, 200.0))
    assert (ahead.until_s, ahead.source, ahead.zone) == (AT_S + 3600.0, "a source", "DK")


def test_a_long_forecast_ends_where_it_was_cut() -> None:
    steps = [(AT_S + i, AT_S + i + 1, value(1.0)) for i in range(MOST_STEPS + 50)]
    ahead = back(ahead_record(steps, AT_S)).ahead
    assert ahead is not None
    assert ahead.until_s == AT_S + MOST_STEPS


@pytest.mark.parametrize(
    "change",
    [{"at_s": 1e300}, {"steps": []}, {"steps": [[2, 1], [1, 1]]}, {"steps": [[1, -1]]}, {"steps": [[1, 9e9]]},
     {"steps": "x"}, {"until_s": None}],
)  # fmt: skip
def test_no_forecast_is_taken_for_one(change: dict[str, Any]) -> None:
    record = ahead_record([(AT_S, AT_S + 60.0, value(1.0))], AT_S)
    with pytest.raises((KeyError, ValueError, TypeError)):
        Outlooks().take(record | change)


@pytest.mark.parametrize("change", [{"kwh": [1, 2]}, {"g": ["x", 1, 2]}, {"at_s": "now"}, {"seen": None}])
def test_no_prediction_is_taken_for_one(change: dict[str, Any]) -> None:
    outlooks = Outlooks()
    with pytest.raises((KeyError, ValueError, TypeError)):
        outlooks.take(prediction_record(prediction()) | change)
    assert outlooks.predictions == []


def test_all_figures_of_a_prediction_are_kept() -> None:
    figures = {f"{name}{end}": 1.5 for name in ("energy_kwh", "co2eq_g", "duration_s") for end in ("", "_low", "_high")}
    assert set(figures) <= {field.name for field in dataclasses.fields(Prediction)}
    (found,) = back(prediction_record(prediction(**figures))).predictions
    assert found.energy_kwh == found.co2eq_g == found.duration_s == Range(1.5, 1.5, 1.5)
