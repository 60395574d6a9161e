"""What a benchmark makes of its blocks: their order, the interval of a ratio, and when there are enough."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pairs import EVERY, Stop, bootstrap, order, ratio

CHANGES = st.lists(st.floats(0.5, 2.0), min_size=2, max_size=40)


def noisy(count: int, *, change: float, sd: float, seed: int = 1) -> list[tuple[float, float]]:
    dice = random.Random(seed)
    return [(1.0, 1.0 + change + dice.gauss(0.0, sd)) for _ in range(count)]


def test_each_pair_has_one_block_of_each_kind_and_none_always_comes_first() -> None:
    turns = order(400, seed=3)
    assert all(sorted(turn) == [False, True] for turn in turns)
    assert 150 < sum(turn[0] for turn in turns) < 250


def test_the_order_is_that_of_its_seed() -> None:
    assert order(50, seed=3) == order(50, seed=3)
    assert order(50, seed=3) != order(50, seed=4)
    assert order(10, seed=3) == order(50, seed=3)[:10]


def test_no_pairs_have_no_order() -> None:
    assert order(0, seed=1) == []


def test_one_value_has_an_interval_without_an_end() -> None:
    assert bootstrap([1.0], seed=1) == (-math.inf, math.inf)
    assert not Stop().is_narrow(ratio([(1.0, 1.0)], seed=1))


@given(CHANGES)
def test_an_interval_holds_its_statistic_and_lies_among_the_values(values: list[float]) -> None:
    low, high = bootstrap(values, seed=1, rounds=200)
    assert min(values) <= low <= high <= max(values)
    assert low <= statistics.median(values) <= high


@given(CHANGES)
def test_the_same_seed_draws_the_same(values: list[float]) -> None:
    assert bootstrap(values, seed=7, rounds=50) == bootstrap(values, seed=7, rounds=50)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(200):
        dice = random.Random(seed)
        low, high = bootstrap([dice.gauss(0.0, 1.0) for _ in range(25)], seed=seed, rounds=400)
        held += low <= 0.0 <= high
    assert 175 <= held <= 199


def test_a_change_is_told_from_none_only_beyond_its_interval() -> None:
    nothing, something = ratio(noisy(60, change=0.0, sd=0.01), seed=1), ratio(noisy(60, change=0.02, sd=0.01), seed=1)
    assert not nothing.is_from_zero
    assert something.is_from_zero
    assert something.percent == pytest.approx(2.0, abs=0.5)
    assert something.low_percent < something.percent < something.high_percent


@given(CHANGES, st.floats(0.1, 10.0))
def test_a_ratio_has_no_unit(changes: list[float], scale: float) -> None:
    one = ratio([(1.0, x) for x in changes], seed=1)
    other = ratio([(scale, x * scale) for x in changes], seed=1)
    assert other.percent == pytest.approx(one.percent, abs=1e-6)


def test_there_are_never_more_pairs_than_allowed_and_what_is_wide_passes_nothing() -> None:
    stop, wild = Stop(most=60), noisy(60, change=0.0, sd=0.3)
    assert not any(stop.is_enough(wild[:n], seed=1) for n in range(60))
    assert stop.is_enough(wild, seed=1)
    assert not stop.is_narrow(ratio(wild, seed=1))


def test_there_are_never_fewer_than_the_least_however_narrow() -> None:
    stop, still = Stop(), [(1.0, 1.0)] * 30
    assert next(n for n in range(31) if stop.is_enough(still[:n], seed=1)) == stop.least


def test_it_looks_at_every_fifth_pair_only() -> None:
    stop, still = Stop(), [(1.0, 1.0)] * 60
    assert [n for n in range(40) if stop.is_enough(still[:n], seed=1)] == list(range(stop.least, 40, EVERY))


def test_a_story_tells_the_interval_or_that_there_is_none() -> None:
    assert "too few" in ratio([(1.0, 1.0)], seed=1).story()
    assert "95 % interval" in ratio(noisy(20, change=0.0, sd=0.01), seed=1).story()
