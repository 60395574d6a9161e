"""Numbers for people, at the borders where units and digits change."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon.render import numbers

amounts = st.floats(min_value=1e-9, max_value=1e12)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.0, 3, "0"),
        (0.012345, 3, "0.0123"),
        (12.345, 3, "12.3"),
        (12345.0, 2, "12,000"),
        (0.9996, 3, "1.00"),
        (math.nan, 3, "unknown"),
        (math.inf, 3, "unknown"),
    ],
)
def test_rounded(value: float, digits: int, text: str) -> None:
    assert numbers.rounded(value, digits) == text


@pytest.mark.parametrize(
    ("kwh", "text"),
    [
        (0.0, "0 Wh"),
        (1e-9, "1.00 µWh"),
        (1.234e-6, "1.23 mWh"),
        (1.234e-3, "1.23 Wh"),
        (1.234, "1.23 kWh"),
        (12345.0, "12.3 MWh"),
        (0.99999, "1.00 kWh"),
    ],
)
def test_energy_takes_the_unit_that_fits(kwh: float, text: str) -> None:
    assert numbers.energy(kwh) == text


@pytest.mark.parametrize(("grams", "text"), [(0.5, "500 mg"), (5.0, "5.00 g"), (5e3, "5.00 kg"), (5e6, "5.00 t")])
def test_mass_takes_the_unit_that_fits(grams: float, text: str) -> None:
    assert numbers.co2eq(grams) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (1.0, "100 %"), (0.999999, "99.99 %"), (1e-9, "0.01 %"), (0.5, "50 %"), (0.034, "3.4 %")],
)
def test_share_is_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert numbers.percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.5, "0.500 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (7260.0, "2 h 01 min"),
        (86399.0, "1 d 00 h"),
        (190000.0, "2 d 05 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "1 ms"), (0.0026, "3 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"), (4.96, "5.0 s")]
)
def test_latency(seconds: float, text: str) -> None:
    assert numbers.latency(seconds) == text


def test_wide_range_gets_fewer_digits_than_a_narrow_one() -> None:
    assert numbers.energy_range(1.23456, 0.8, 1.7) == ("1.2 kWh", "0.8 to 1.7 kWh")
    assert numbers.energy_range(1.23456, 1.17, 1.29) == ("1.23 kWh", "1.17 to 1.29 kWh")
    assert numbers.energy_range(1.23456, 1.234, 1.235) == ("1.235 kWh", "1.234 to 1.235 kWh")


def test_ends_far_from_the_value_have_units_of_their_own() -> None:
    assert numbers.energy_range(65e-9, 0.0, 11.864e-6) == ("65 µWh", "0 Wh to 12 mWh")


def test_nothing_with_an_upper_bound_is_told_in_the_bounds_unit() -> None:
    assert numbers.energy_range(0.0, 0.0, 0.002) == ("0 Wh", "0.00 to 2.00 Wh")
    assert numbers.energy_range(0.0, 0.0, 0.0) == ("0 Wh", "0.00 to 0.00 Wh")


@given(amounts, st.integers(2, 6))
def test_rounding_stays_within_half_a_unit_of_the_last_digit(value: float, digits: int) -> None:
    text = numbers.rounded(value, digits)
    assert re.fullmatch(r"[\d,]+(\.\d+)?", text)
    # 12 decimals at most; the smallest unit makes smaller ones meaningless
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits) * 1.001, abs=1e-12)
