"""The prediction that a user gets: what was measured so far, the outlook, and the CO2eq of the hours to come.

What is wrong with the meters is wrong with the past and the future alike: it adds linearly over both. What is wrong
with the extrapolation has nothing to do with it: the two add in quadrature.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import NamedTuple

from aiocarbon._core.ahead import CarbonAhead, Horizon, co2eq_ahead
from aiocarbon._core.outlook import Outlook
from aiocarbon._core.rates import Band
from aiocarbon._core.report import Prediction, Quantities
from aiocarbon._core.units import S_PER_HOUR, kwh_from_j


class _Gain(NamedTuple):
    """By what share the meters' figures may be too high or too low."""

    down: float
    up: float


def foretell(outlook: Outlook, *, used: Quantities, pue: float, horizon: Horizon | None, now: datetime) -> Prediction:
    """Make a prediction.

    Args:
        outlook: What the predictor says.
        used: What the run has used so far, as its report has it.
        pue: Power usage effectiveness.
        horizon: The intensity from now on; None: no CO2eq is told.
        now: UTC.
    """
    gain = _gain(used.it_energy_kwh, used.it_energy_kwh_low, used.it_energy_kwh_high)
    left_s, left_j = outlook.remaining_s, outlook.remaining_j
    total_s = left_s.plus(used.duration_s) if left_s is not None else None
    left_kwh = total_kwh = left_g = total_g = None
    shares: dict[str, float] = {}
    if left_j is not None:
        ahead_kwh = left_j.times(kwh_from_j(1.0) * pue)
        left_kwh = _joined(Band(0.0, 0.0, 0.0), ahead_kwh, gain)
        total_kwh = _joined(Band(used.energy_kwh, used.energy_kwh_low, used.energy_kwh_high), ahead_kwh, gain)
    if left_j is not None and left_s is not None and horizon is not None:
        carbon = co2eq_ahead(horizon, now.timestamp(), left_j, left_s, pue=pue)
        shares = dict(carbon.rests_on)
        left_g = _joined(Band(0.0, 0.0, 0.0), _band(carbon), gain)
        total_g = _joined(Band(used.co2eq_g, used.co2eq_g_low, used.co2eq_g_high), _band(carbon), gain)
    kwh_per_hour = g_per_hour = None
    if outlook.j_per_hour is not None:
        kwh_per_hour = kwh_from_j(outlook.j_per_hour.value) * pue
        if horizon is not None:
            g_per_hour = kwh_per_hour * horizon.mean(now.timestamp(), S_PER_HOUR).g_per_kwh
    return Prediction(
        as_of=now,
        is_bounded=outlook.is_bounded,
        epochs=outlook.epochs,
        epochs_seen=outlook.epochs_seen,
        **_fields("energy_kwh", total_kwh),
        **_fields("co2eq_g", total_g),
        **_fields("duration_s", total_s),
        **_fields("remaining_energy_kwh", left_kwh),
        **_fields("remaining_co2eq_g", left_g),
        **_fields("remaining_duration_s", left_s),
        ends_at=_later(now, left_s.value) if left_s is not None else None,
        epoch_s=outlook.epoch_s.value,
        energy_kwh_per_hour=kwh_per_hour,
        co2eq_g_per_hour=g_per_hour,
        rests_on=outlook.rests_on,
        intensity_shares=shares,
        notes=outlook.notes,
    )


def _fields(name: str, band: Band | None) -> dict[str, float]:
    """A band as the three fields of a prediction; none where it is not known."""
    return {} if band is None else {name: band.value, f"{name}_low": band.low, f"{name}_high": band.high}


def _band(carbon: CarbonAhead) -> Band:
    return Band(carbon.co2eq_g, carbon.low_g, carbon.high_g)


def _gain(value: float, low: float, high: float) -> _Gain:
    if value <= 0:
        return _Gain(0.0, 0.0)
    return _Gain(min(max(value - low, 0.0) / value, 1.0), max(high - value, 0.0) / value)


def _joined(used: Band, ahead: Band, gain: _Gain) -> Band:
    """What was used and what is to come: the meters' error is common to both, the extrapolation's is its own."""
    value = used.value + ahead.value
    down = math.hypot(used.value - used.low + gain.down * ahead.value, ahead.value - ahead.low)
    up = math.hypot(used.high - used.value + gain.up * ahead.value, ahead.high - ahead.value)
    return Band(value, max(value - down, used.low), value + up)


def _later(now: datetime, seconds: float) -> datetime | None:
    """An instant so much later; None beyond the year 9999."""
    try:
        return now + timedelta(seconds=seconds)
    except OverflowError:
        return None
