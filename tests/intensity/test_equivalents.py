from __future__ import annotations

import math

import pytest

from aiocarbon.intensity.equivalents import equivalents


def test_the_papers_car_and_the_newest_come_first() -> None:
    paper, newest, *_ = equivalents(1204.0)
    assert (paper.id, paper.g_per_unit, paper.year) == ("eu_new_car_2018", 120.4, 2018)
    assert paper.amount == pytest.approx(10.0)
    assert (newest.id, newest.g_per_unit, newest.year) == ("eu_new_car_2024", 106.8, 2024)
    assert newest.amount == pytest.approx(1204.0 / 106.8)
    assert paper.unit == newest.unit == "km travelled by an average new car (EU)"


@pytest.mark.parametrize("co2eq_g", [0.0, 1e-9, 1.0, 1e12])
def test_each_amount_gives_back_what_was_told(co2eq_g: float) -> None:
    told = equivalents(co2eq_g)
    assert len(told) >= 4
    for one in told:
        assert one.amount * one.g_per_unit == pytest.approx(co2eq_g)
        assert one.source
        assert one.unit


def test_a_figure_without_a_year_says_so() -> None:
    by_id = {one.id: one for one in equivalents(1.0)}
    assert by_id["car_us_fleet"].year is None


@pytest.mark.parametrize("co2eq_g", [math.nan, math.inf, -math.inf, -1.0])
def test_what_is_no_amount_is_told_as_nothing(co2eq_g: float) -> None:
    assert equivalents(co2eq_g) == ()
