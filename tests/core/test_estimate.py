"""The arithmetic of an estimate: every figure that the paper and its tool's documents print, to its printed digits.

Sources: arXiv:2007.03051 (appendix, listing 2, section 4) and the README and website of carbontracker.
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st

from aiocarbon._core.estimate import Chain, Given, as_printed, co2eq_g, distance_km, exact, printed

D = Decimal
CAR_2018 = D("120.4")
CAR_2024 = D("106.8")

PAPER = Given(
    work_flop=D("3.14e23"),
    rate_flop_per_s=D("130e12"),
    utilization=None,
    device_hours=None,
    devices=1,
    power_w=D(250),
    pue=D("1.125"),
    g_per_kwh=D("449.06"),
    low_g_per_kwh=D("449.06"),
    high_g_per_kwh=D("449.06"),
    g_per_km=CAR_2018,
)
"""GPT-3 on a V100S: the example of the paper's appendix."""


def seconds(device_s: str, power_w: str, pue: str, g_per_kwh: str = "0", g_per_km: Decimal = CAR_2024) -> Given:
    return dataclasses.replace(
        PAPER,
        work_flop=None,
        rate_flop_per_s=None,
        device_hours=D(device_s) / 3600,
        power_w=D(power_w),
        pue=D(pue),
        g_per_kwh=D(g_per_kwh),
        g_per_km=g_per_km,
    )


# -- the paper's appendix -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "value"),
    [
        ("device_s", "2415384615.38"),
        ("device_d", "27955.84"),
        ("energy_j", "679326923075.63"),
        ("energy_kwh", "188701.92"),
        ("co2eq_g", "84738484.20"),
        ("co2eq_kg", "84738.48"),
        ("car_km", "703808.01"),
    ],
)
def test_each_step_is_printed_as_in_the_paper(step: str, value: str) -> None:
    assert format(getattr(as_printed(PAPER), step), "f") == value


@pytest.mark.parametrize(
    ("step", "value"),
    [
        ("device_s", "2415384615.3846"),
        ("energy_j", "679326923076.92"),
        ("energy_kwh", "188701.92"),
        ("co2eq_g", "84738485.58"),
        ("co2eq_kg", "84738.4856"),
        ("car_km", "703808.02"),
    ],
)
def test_the_exact_chain_differs_where_the_paper_s_rounding_shows(step: str, value: str) -> None:
    expected = D(value)
    assert getattr(exact(PAPER), step).quantize(expected) == expected


def test_about_310_gpus_finish_within_90_days() -> None:
    assert float(as_printed(PAPER).device_d / 90) == pytest.approx(310.62, abs=0.005)
    shared = exact(dataclasses.replace(PAPER, devices=310))
    assert float(shared.wall_d) == pytest.approx(90.18, abs=0.005)
    assert shared.energy_j == exact(PAPER).energy_j, "sharing the work changes when it ends, not what it uses"


def test_todays_car_goes_further_on_the_same_grams() -> None:
    assert as_printed(dataclasses.replace(PAPER, g_per_km=CAR_2024)).car_km == D("793431.50")


# -- what the paper and the documents print of runs ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwh", "g_per_kwh", "grams", "tolerance"),
    [
        ("37.445", "84.55", 3166.0, 0.05),  # the paper's own statement, 3.166 kg
        ("1.159974", "54.0909", 62.744032, 1e-4),  # listing 2, predicted
        ("1.334319", "58.2500", 77.724065, 1e-4),  # listing 2, actual
        ("1.3283", "819", 1087.9, 0.05),  # U-net in Estonia
        ("1.3283", "13.33", 17.7, 0.05),  # and in Sweden
        ("0.038168", "107.33", 4.096665, 1e-3),  # website, 1000 epochs
        ("0.000041", "82.00", 0.003357, 5e-5),  # README, verbose
        ("0.040940", "107.49", 4.400445, 1e-3),  # README, predicted
        ("0.000158", "445", 0.0703, 5e-5),  # a run of our own of the tool
    ],
)
def test_printed_grams_follow_from_printed_energy(kwh: str, g_per_kwh: str, grams: float, tolerance: float) -> None:
    assert float(co2eq_g(D(kwh), D(g_per_kwh))) == pytest.approx(grams, abs=tolerance)


@pytest.mark.parametrize(
    ("grams", "g_per_km", "km", "tolerance"),
    [
        ("3166", CAR_2018, 26.2957, 5e-5),
        ("62.744032", CAR_2018, 0.521130, 5e-7),
        ("77.724065", CAR_2018, 0.645549, 5e-7),
        ("17.7", CAR_2018, 0.147, 5e-4),
        ("1087.9", CAR_2018, 9.04, 5e-3),
        ("0.003130", CAR_2018, 0.000026, 5e-7),
        ("4.096665", CAR_2018, 0.034025, 1e-6),
        ("4.400445", CAR_2018, 0.036549, 5e-7),
        ("423.2", CAR_2018, 3.515, 5e-4),
        ("0.019201", CAR_2018, 0.000159, 5e-7),
        ("0.0703", CAR_2024, 0.000658, 5e-7),
    ],
)
def test_printed_kilometres_follow_from_printed_grams(
    grams: str, g_per_km: Decimal, km: float, tolerance: float
) -> None:
    assert float(distance_km(D(grams), g_per_km)) == pytest.approx(km, abs=tolerance)


def test_the_errors_of_listing_2_are_inside_the_paper_s_ranges() -> None:
    predicted = (D("1.159974"), co2eq_g(D("1.159974"), D("54.0909")), D(6894))
    actual = (D("1.334319"), co2eq_g(D("1.334319"), D("58.25")), D(6955))
    errors = [float(abs(a - b) / b * 100) for a, b in zip(predicted, actual, strict=True)]
    assert errors == pytest.approx([13.07, 19.27, 0.88], abs=0.005)


def test_estonia_emits_more_than_61_times_what_sweden_does() -> None:
    ratio = co2eq_g(D("1.3283"), D(819)) / co2eq_g(D("1.3283"), D("13.325"))
    assert float(ratio) == pytest.approx(61.46, abs=0.005)


@pytest.mark.parametrize(
    ("device_s", "power_w", "kwh"),
    [
        ("6", "60", "0.000158"),
        ("36", "120", "0.001896"),  # two devices of 100 W + 20 W for 18 s: equation 2
        ("2", "435", "0.000382"),  # simulated, 360 W + 75 W
    ],
)
def test_short_runs_come_to_what_the_tool_shows(device_s: str, power_w: str, kwh: str) -> None:
    chain = exact(seconds(device_s, power_w, "1.58"))
    assert chain.energy_kwh.quantize(D(kwh)) == D(kwh)


def test_a_step_of_a_short_run_keeps_its_digits() -> None:
    chain = as_printed(seconds("6", "60", "1.58", "445"))
    assert [format(value, "f") for value in (chain.device_s, chain.energy_j, chain.energy_kwh, chain.co2eq_g)] == [
        "6.00",
        "568.80",
        "0.000158",
        "0.07031",
    ]


# -- laws ---------------------------------------------------------------------------------------------------------


def amounts(low: str, high: str) -> st.SearchStrategy[Decimal]:
    return st.floats(float(low), float(high)).map(lambda value: D(repr(value)))


@st.composite
def givens(draw: st.DrawFn) -> Given:
    by_work = draw(st.booleans())
    mean = draw(amounts("0", "3000"))
    return Given(
        work_flop=draw(amounts("1", "1e40")) if by_work else None,
        rate_flop_per_s=draw(amounts("1", "1e30")) if by_work or draw(st.booleans()) else None,
        utilization=draw(st.none() | amounts("1e-6", "1")),
        device_hours=None if by_work else draw(amounts("1e-6", "1e15")),
        devices=draw(st.integers(1, 10_000_000)),
        power_w=draw(amounts("1e-3", "1e9")),
        pue=draw(amounts("1", "10")),
        g_per_kwh=mean,
        low_g_per_kwh=mean * D("0.85"),
        high_g_per_kwh=mean * D("1.15"),
        g_per_km=draw(amounts("1e-6", "1e6")),
    )


@examples(givens())
def test_rounding_each_step_never_moves_a_result_far(given: Given) -> None:
    one, other = exact(given), as_printed(given)
    for field in dataclasses.fields(Chain):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is None) == (b is None)
        if a is not None:
            assert abs(a - b) <= abs(a) * D("5e-5"), field.name


@examples(givens())
def test_the_ends_of_the_range_hold_the_value(given: Given) -> None:
    for chain in (exact(given), as_printed(given)):
        assert 0 <= chain.co2eq_g_low <= chain.co2eq_g <= chain.co2eq_g_high


@examples(givens(), st.integers(2, 1000))
def test_energy_and_grams_are_proportional_to_the_power(given: Given, times: int) -> None:
    more = exact(dataclasses.replace(given, power_w=given.power_w * times))
    one = exact(given)
    assert float(more.energy_j) == pytest.approx(float(one.energy_j) * times)
    assert float(more.co2eq_g) == pytest.approx(float(one.co2eq_g) * times)
    assert more.device_s == one.device_s


@examples(st.decimals("1e-30", "1e60", allow_nan=False, allow_infinity=False, places=None))
def test_a_printed_value_has_two_decimals_and_six_digits_at_least(value: Decimal) -> None:
    shown = printed(value)
    assert -int(shown.as_tuple().exponent) >= 2
    assert abs(shown - value) <= max(abs(value) * D("5.1e-6"), D("1e-40"))


def test_half_a_unit_is_rounded_up_as_the_paper_does() -> None:
    assert printed(D("679326923075.625")) == D("679326923075.63")
    assert printed(D(0)) == D("0.00")


def test_half_the_utilization_takes_twice_the_time_and_energy() -> None:
    one, half = exact(PAPER), exact(dataclasses.replace(PAPER, utilization=D("0.5")))
    assert float(half.device_s) == pytest.approx(2 * float(one.device_s))
    assert float(half.co2eq_kg) == pytest.approx(2 * float(one.co2eq_kg))


def test_device_hours_tell_the_work_only_where_a_rate_is_known() -> None:
    hours = dataclasses.replace(PAPER, work_flop=None, device_hours=D(100), utilization=D("0.4"))
    assert exact(hours).work_flop == D("1.872e19")
    assert exact(dataclasses.replace(hours, rate_flop_per_s=None)).work_flop is None
