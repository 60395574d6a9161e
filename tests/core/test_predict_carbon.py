"""The CO2eq of a run's future: the hours that it will really occupy, what is beyond the forecast, and all bounds."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon._core.ahead import MAE_TO_90, PROFILE, Horizon, co2eq_ahead
from aiocarbon._core.foretell import foretell
from aiocarbon._core.intensity import IntensityKind, IntensityValue, Quality
from aiocarbon._core.predict import Predictor
from aiocarbon._core.rates import Band
from aiocarbon._core.reading import Basis
from aiocarbon._core.report import Prediction, Quantities

HOUR = 3600.0
DAY = 24 * HOUR
NOW = 20_000 * DAY  # midnight
KWH = 3.6e6


def value(
    g: float,
    quality: Quality = Quality.LIVE,
    *,
    share: float = 0.1,
    zone: str = "DE",
    kind: IntensityKind = IntensityKind.AVERAGE,
    to_s: float | None = None,
) -> IntensityValue:
    return IntensityValue(
        g_per_kwh=g,
        low_g_per_kwh=g * (1 - share),
        high_g_per_kwh=g * (1 + share),
        source="test",
        zone=zone,
        quality=quality,
        kind=kind,
        valid_to_s=to_s,
    )


def day_of(hour: int) -> float:
    return 100.0 + 10.0 * (hour % 24)


def two_days(*, ahead_h: int = 6) -> list[tuple[float, IntensityValue]]:
    """Two days measured, some hours forecast, then a carried value, then the yearly average."""
    steps = [(NOW + h * HOUR, value(day_of(h))) for h in range(-48, 0)]
    steps += [(NOW + h * HOUR, value(50.0, Quality.FORECAST, share=0.15)) for h in range(ahead_h)]
    end = NOW + ahead_h * HOUR
    return [*steps, (end, value(50.0, Quality.CACHED)), (end + HOUR, value(400.0, Quality.AVERAGE, share=0.3))]


def exact(x: float) -> Band:
    return Band(x, x, x)


# -- bad days --------------------------------------------------------------------------------------------------


def test_a_run_with_nothing_left_emits_nothing_more() -> None:
    ahead = co2eq_ahead(Horizon(two_days(), NOW), NOW, exact(0.0), exact(0.0))
    assert (ahead.co2eq_g, ahead.low_g, ahead.high_g) == (0.0, 0.0, 0.0)
    assert ahead.g_per_kwh == pytest.approx(50.0)


def test_nothing_known_but_the_average_is_the_average_and_says_so() -> None:
    horizon = Horizon([(-math.inf, value(400.0, Quality.AVERAGE))], NOW)
    ahead = co2eq_ahead(horizon, NOW, exact(KWH), exact(30 * DAY))
    assert ahead.co2eq_g == pytest.approx(400.0)
    assert ahead.rests_on == {"average": pytest.approx(1.0)}


def test_less_than_a_day_measured_is_no_profile() -> None:
    steps = [step for step in two_days() if step[0] >= NOW - 20 * HOUR]
    horizon = Horizon(steps, NOW)
    assert not horizon.has_profile
    assert set(horizon.mean(NOW, 10 * HOUR).shares) == {"forecast", "cached", "average"}


def test_an_intensity_of_zero_is_one() -> None:
    ahead = co2eq_ahead(Horizon([(-math.inf, value(0.0, Quality.GIVEN))], NOW), NOW, exact(KWH), exact(HOUR))
    assert (ahead.co2eq_g, ahead.low_g, ahead.high_g) == (0.0, 0.0, 0.0)


def test_a_window_before_the_first_step_has_its_value() -> None:
    assert Horizon([(NOW + DAY, value(70.0))], NOW).mean(NOW, HOUR).g_per_kwh == pytest.approx(70.0)


# -- what counts when ------------------------------------------------------------------------------------------


def test_the_hours_that_the_run_occupies_are_what_counts() -> None:
    steps = [(NOW, value(100.0, Quality.FORECAST)), (NOW + 2 * HOUR, value(400.0, Quality.FORECAST))]
    ahead = co2eq_ahead(Horizon(steps, NOW), NOW, exact(KWH), exact(4 * HOUR))
    assert ahead.co2eq_g == pytest.approx(250.0)
    assert co2eq_ahead(Horizon(steps, NOW), NOW + HOUR, exact(KWH), exact(4 * HOUR)).co2eq_g == pytest.approx(325.0)


def test_pue_counts() -> None:
    horizon = Horizon([(-math.inf, value(100.0, Quality.GIVEN))], NOW)
    assert co2eq_ahead(horizon, NOW, exact(KWH), exact(HOUR), pue=1.5).co2eq_g == pytest.approx(150.0)


def test_what_a_user_stated_holds_for_ever() -> None:
    stretch = Horizon([(-math.inf, value(123.0, Quality.GIVEN, share=0.0))], NOW).mean(NOW, 400 * DAY)
    assert (stretch.g_per_kwh, stretch.low, stretch.high) == pytest.approx((123.0,) * 3)
    assert stretch.shares == {"given": pytest.approx(1.0)}


def test_beyond_the_forecast_each_day_is_as_the_last_ones_were() -> None:
    horizon = Horizon(two_days(), NOW)
    assert horizon.has_profile
    assert horizon.known_to_s == NOW + 6 * HOUR
    assert horizon.mean(NOW + 10 * HOUR, HOUR).g_per_kwh == pytest.approx(day_of(10))
    assert horizon.mean(NOW + 9 * DAY + 23 * HOUR, HOUR).g_per_kwh == pytest.approx(day_of(23))
    day = horizon.mean(NOW, DAY)
    assert day.g_per_kwh == pytest.approx((6 * 50.0 + sum(day_of(h) for h in range(6, 24))) / 24)
    assert day.shares == {"forecast": pytest.approx(0.25), PROFILE: pytest.approx(0.75)}
    year = horizon.mean(NOW, 366 * DAY)
    assert year.g_per_kwh == pytest.approx(sum(day_of(h) for h in range(24)) / 24, rel=0.01)


def test_a_curve_that_ends_with_a_forecast_goes_on_with_the_profile() -> None:
    steps = [step for step in two_days() if step[1].quality is Quality.LIVE]
    steps.append((NOW, value(50.0, Quality.FORECAST, to_s=NOW + HOUR)))
    assert Horizon(steps, NOW).mean(NOW + 5 * HOUR, HOUR).g_per_kwh == pytest.approx(day_of(5))


def test_a_hole_in_what_was_measured_is_in_no_hour_of_the_profile() -> None:
    days = [NOW + h * HOUR for h in range(-72, -24)]
    behind = [(at, at + HOUR, value(day_of(round(at / HOUR)))) for at in days]
    horizon = Horizon([(NOW, value(50.0, Quality.FORECAST, to_s=NOW + HOUR))], NOW, behind=behind)
    for hour in (2, 12, 23):
        stretch = horizon.mean(NOW + hour * HOUR, HOUR)
        assert stretch.g_per_kwh == pytest.approx(day_of(hour))
        assert stretch.high == pytest.approx(1.2 * day_of(hour))  # the days were alike
    broken = [step for step in behind if step[0] % DAY != 5 * HOUR]  # an hour that no day has
    horizon = Horizon([(NOW, value(50.0, Quality.FORECAST, to_s=NOW + HOUR))], NOW, behind=broken)
    assert not horizon.has_profile


def test_what_counts_other_plants_is_no_part_of_the_profile() -> None:
    others = [(NOW + h * HOUR, value(900.0, kind=IntensityKind.MARGINAL)) for h in range(-96, -48)]
    horizon = Horizon([*others, *two_days()], NOW)
    assert horizon.mean(NOW + 10 * HOUR, HOUR).g_per_kwh == pytest.approx(day_of(10))


# -- bounds ----------------------------------------------------------------------------------------------------


def test_the_errors_of_the_hours_are_common_and_add_linearly() -> None:
    steps = [(NOW + h * HOUR, value(100.0, Quality.FORECAST, share=0.15)) for h in range(48)]
    ahead = co2eq_ahead(Horizon(steps, NOW), NOW, exact(KWH), exact(48 * HOUR))
    assert (ahead.low_g, ahead.high_g) == pytest.approx((85.0, 115.0))


def test_the_errors_of_energy_and_intensity_are_not_and_add_in_quadrature() -> None:
    steps = [(NOW, value(100.0, Quality.FORECAST, share=0.15))]
    ahead = co2eq_ahead(Horizon(steps, NOW), NOW, Band(KWH, 0.8 * KWH, 1.2 * KWH), exact(HOUR))
    assert (ahead.low_g, ahead.high_g) == pytest.approx((75.0, 125.0))


def test_the_known_error_of_a_forecast_counts_where_it_is_greater() -> None:
    steps = [(NOW, value(200.0, Quality.FORECAST, share=0.15, zone="GB"))]
    stretch = Horizon(steps, NOW).mean(NOW, HOUR)
    assert (stretch.low, stretch.high) == pytest.approx((200 - MAE_TO_90 * 24, 200 + MAE_TO_90 * 24))
    assert round(MAE_TO_90, 2) == 2.06
    stretch = Horizon(steps, NOW, mae_g_per_kwh={}).mean(NOW, HOUR)
    assert (stretch.low, stretch.high) == pytest.approx((170.0, 230.0))


def test_not_to_know_when_it_ends_is_not_to_know_the_hours() -> None:
    steps = [(NOW, value(100.0, Quality.GIVEN, share=0.0)), (NOW + 4 * HOUR, value(500.0, Quality.GIVEN, share=0.0))]
    horizon = Horizon(steps, NOW)
    ahead = co2eq_ahead(horizon, NOW, exact(KWH), Band(4 * HOUR, 3 * HOUR, 5 * HOUR))
    assert ahead.co2eq_g == pytest.approx(100.0)
    assert ahead.low_g == pytest.approx(100.0)
    assert ahead.high_g == pytest.approx(180.0)


curves = st.lists(
    st.tuples(st.floats(60.0, 20_000.0), st.floats(0.0, 1000.0), st.sampled_from(list(Quality))),
    min_size=1,
    max_size=80,
)


@settings(deadline=None)
@given(curves, st.floats(0.0, 2e6), st.floats(0.0, 1e7), st.floats(0.0, 1.0))
def test_two_windows_that_follow_each_other_are_one(
    curve: list[tuple[float, float, Quality]], begin: float, length: float, share: float
) -> None:
    at, steps = NOW - 3 * DAY, []
    for width, g, quality in curve:
        steps.append((at, value(g, quality)))
        at += width
    horizon = Horizon(steps, NOW)
    a, b = share * length, length - share * length
    whole = horizon.mean(NOW + begin, a + b)
    first, second = horizon.mean(NOW + begin, a), horizon.mean(NOW + begin + a, b)
    if min(a, b) > 1.0:
        both = (first.g_per_kwh * a + second.g_per_kwh * b) / (a + b)
        assert both == pytest.approx(whole.g_per_kwh, rel=1e-6, abs=1e-6)
    for stretch in (whole, first, second):
        assert -1e-6 <= stretch.low <= stretch.g_per_kwh + 1e-6 <= stretch.high + 2e-6
        assert sum(stretch.shares.values()) == pytest.approx(1.0, abs=1e-6)


# -- the prediction that a user gets ----------------------------------------------------------------------------


def used(kwh: float, *, down: float = 0.0, up: float = 0.0, pue: float = 1.0, g: float = 100.0) -> Quantities:
    low, high = kwh * (1 - down), kwh * (1 + up)
    return Quantities(
        duration_s=HOUR,
        it_energy_kwh=kwh,
        it_energy_kwh_low=low,
        it_energy_kwh_high=high,
        energy_kwh=kwh * pue,
        energy_kwh_low=low * pue,
        energy_kwh_high=high * pue,
        co2eq_g=kwh * pue * g,
        co2eq_g_low=low * pue * g,
        co2eq_g_high=high * pue * g,
        power_w=kwh * 1000,
        coverage=1.0,
        basis=Basis.COUNTER,
        basis_shares={Basis.COUNTER: 1.0},
    )


def predicted(
    *,
    epochs: int | None = 10,
    joules: float | None = KWH / 2,
    told: int = 2,
    now: datetime | None = None,
    **band: float,
) -> Prediction:
    predictor = Predictor(epochs)
    for _ in range(told):
        predictor.epoch(HOUR / 2, joules)
    outlook = predictor.outlook()
    assert outlook is not None
    horizon = Horizon([(-math.inf, value(100.0, Quality.GIVEN, share=0.0))], NOW)
    return foretell(
        outlook,
        used=used(1.0, pue=1.5, **band),
        pue=1.5,
        horizon=horizon,
        now=now or datetime.fromtimestamp(NOW, UTC),
    )


def test_without_a_power_there_is_time_and_no_energy() -> None:
    told = predicted(joules=None)
    assert told.duration_s == pytest.approx(5 * HOUR)
    assert (told.energy_kwh, told.co2eq_g, told.energy_kwh_per_hour, told.co2eq_g_per_hour) == (None,) * 4


def test_without_a_number_of_epochs_there_are_rates_and_no_totals() -> None:
    told = predicted(epochs=None)
    assert (told.energy_kwh, told.duration_s, told.co2eq_g, told.remaining_energy_kwh, told.ends_at) == (None,) * 5
    assert not told.is_bounded
    assert told.energy_kwh_per_hour == pytest.approx(1.5)
    assert told.co2eq_g_per_hour == pytest.approx(150.0)


def test_without_an_intensity_there_is_energy_and_no_co2eq() -> None:
    predictor = Predictor(10)
    predictor.epoch(HOUR, KWH)
    outlook = predictor.outlook()
    assert outlook is not None
    told = foretell(outlook, used=used(1.0), pue=1.0, horizon=None, now=datetime.fromtimestamp(NOW, UTC))
    assert told.energy_kwh == pytest.approx(10.0)
    assert (told.co2eq_g, told.remaining_co2eq_g, told.co2eq_g_per_hour, told.intensity_shares) == (
        None,
        None,
        None,
        {},
    )


def test_an_end_beyond_the_calendar_is_not_told() -> None:
    assert predicted(epochs=10**9).ends_at is None


def test_a_prediction_is_what_was_used_and_what_remains() -> None:
    told = predicted()
    assert told.energy_kwh == pytest.approx(5 * 1.5)
    assert told.remaining_energy_kwh == pytest.approx(4 * 1.5)
    assert told.co2eq_g == pytest.approx(5 * 150.0)
    assert told.remaining_co2eq_g == pytest.approx(4 * 150.0)
    assert told.ends_at == datetime.fromtimestamp(NOW + 4 * HOUR, UTC)
    assert told.intensity_shares == {"given": pytest.approx(1.0)}


def test_what_is_wrong_with_the_meters_is_wrong_with_all_of_it() -> None:
    exactly, roughly = predicted(), predicted(down=0.3, up=0.3)
    for name in ("energy_kwh", "co2eq_g"):
        value, low, own = getattr(roughly, name), getattr(roughly, f"{name}_low"), getattr(exactly, f"{name}_low")
        assert value - low == pytest.approx(math.hypot(0.3 * value, value - own))


def test_a_prediction_of_a_finished_run_is_what_it_used() -> None:
    told = predicted(told=10)
    assert (told.energy_kwh_low, told.energy_kwh, told.energy_kwh_high) == pytest.approx((1.5, 1.5, 1.5))
    assert told.remaining_co2eq_g == 0.0


def test_it_is_plain_json() -> None:
    plain = json.loads(json.dumps(predicted().to_dict(), allow_nan=False))
    assert plain["ends_at"].endswith("+00:00")
    for name in ("energy_kwh", "co2eq_g", "duration_s"):
        for field in (name, f"remaining_{name}"):
            assert plain[f"{field}_low"] <= plain[field] <= plain[f"{field}_high"]
