"""One curve out of what sources say: what counts when, how it degrades by itself, how it is mended."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.answer import Answer, Sample
from aiocarbon._core.grid import Grid
from aiocarbon._core.intensity import FactorBasis, IntensityCurve, IntensityKind, IntensityValue, Quality

T0 = 1_800_000_000.0
HALF_HOUR = 1800.0
AVERAGE = IntensityValue(
    g_per_kwh=300.0, low_g_per_kwh=200.0, high_g_per_kwh=400.0, source="table", zone="GB", quality=Quality.AVERAGE
)


def answer(*samples: tuple[float, float, Quality], step_s: float = HALF_HOUR, source: str = "web") -> Answer:
    return Answer(
        source=source,
        title=source,
        zone="GB",
        kind=IntensityKind.AVERAGE,
        factor_basis=FactorBasis.DIRECT,
        samples=tuple(Sample(T0 + at, T0 + at + step_s, g, quality) for at, g, quality in samples),
    )


def learn(grid: Grid, rank: int, *samples: tuple[float, float, Quality], source: str = "web") -> float | None:
    return grid.learn(rank, answer(*samples, source=source), grace_s=HALF_HOUR + 60, stale_s=5400.0)


def at(grid: Grid, after_s: float) -> tuple[float, Quality]:
    value = grid.value_at(T0 + after_s)
    return value.g_per_kwh, value.quality


def test_without_a_word_the_average_counts() -> None:
    grid = Grid(AVERAGE)
    assert grid.value_at(T0) is AVERAGE
    assert list(grid.steps(T0)) == [(T0, AVERAGE)]


def test_a_value_counts_is_carried_on_and_at_last_given_up() -> None:
    grid = Grid(AVERAGE)
    assert learn(grid, 0, (0, 100.0, Quality.LIVE)) == T0
    assert at(grid, -1) == (300.0, Quality.AVERAGE)
    assert at(grid, 0) == (100.0, Quality.LIVE)
    assert at(grid, HALF_HOUR + 30) == (100.0, Quality.LIVE)  # its successor is not yet due
    assert at(grid, 2 * HALF_HOUR + 61) == (100.0, Quality.CACHED)
    assert at(grid, 5399) == (100.0, Quality.CACHED)
    assert at(grid, 5400) == (300.0, Quality.AVERAGE)


def test_an_answer_that_is_all_of_its_window_drops_what_it_leaves_out() -> None:
    grid = Grid(AVERAGE)
    rows = [(i * HALF_HOUR, 100.0 + i, Quality.GIVEN) for i in range(6)]
    grid.learn(0, answer(*rows), grace_s=0.0, stale_s=0.0)
    mended = replace(answer(rows[1], rows[4]), whole=(T0 + HALF_HOUR, T0 + 5 * HALF_HOUR))
    assert grid.learn(0, mended, grace_s=0.0, stale_s=0.0) == T0 + 2 * HALF_HOUR
    known = [at(grid, i * HALF_HOUR)[0] for i in range(6)]
    assert known == [100.0, 101.0, 300.0, 300.0, 104.0, 105.0]  # outside of the window it says nothing
    assert grid.learn(0, mended, grace_s=0.0, stale_s=0.0) is None


def test_a_row_that_reaches_into_a_window_of_which_it_is_no_part_ends_with_its_begin() -> None:
    grid = Grid(AVERAGE)
    before = answer((0, 100.0, Quality.GIVEN), (2 * HALF_HOUR, 102.0, Quality.FORECAST))
    grid.learn(0, before, grace_s=0.0, stale_s=0.0)
    whole = (T0 + 600, T0 + 3 * HALF_HOUR)
    mended = replace(answer((2 * HALF_HOUR, 102.0, Quality.GIVEN)), whole=whole)
    assert grid.learn(0, mended, grace_s=0.0, stale_s=0.0) == T0 + 600
    assert [at(grid, s)[0] for s in (0, 599, 600, HALF_HOUR - 1, 2 * HALF_HOUR)] == [100.0, 100.0, 300.0, 300.0, 102.0]


def test_the_curve_degrades_by_itself_at_the_right_instants() -> None:
    grid = Grid(AVERAGE)
    learn(grid, 0, (0, 100.0, Quality.LIVE))
    told = [(when - T0, value.g_per_kwh, value.quality) for when, value in grid.steps(T0 - 60)]
    assert told == [
        (-60.0, 300.0, Quality.AVERAGE),
        (0.0, 100.0, Quality.LIVE),
        (2 * HALF_HOUR + 60, 100.0, Quality.CACHED),
        (5400.0, 300.0, Quality.AVERAGE),
    ]


def test_a_forecast_takes_over_where_the_source_falls_silent() -> None:
    grid = Grid(AVERAGE)
    learn(grid, 0, *((n * HALF_HOUR, 200.0 + n, Quality.FORECAST) for n in range(4)))
    learn(grid, 0, (0, 100.0, Quality.LIVE))
    assert at(grid, 0) == (100.0, Quality.LIVE)
    assert at(grid, HALF_HOUR) == (201.0, Quality.FORECAST)
    assert at(grid, 3 * HALF_HOUR) == (203.0, Quality.FORECAST)
    assert at(grid, 4 * HALF_HOUR) == (300.0, Quality.AVERAGE)


def test_a_forecast_never_takes_the_place_of_what_was_measured_nor_the_other_way_round_for_ever() -> None:
    grid = Grid(AVERAGE)
    learn(grid, 0, (0, 100.0, Quality.FORECAST))
    assert learn(grid, 0, (0, 90.0, Quality.LIVE)) == T0
    assert learn(grid, 0, (0, 120.0, Quality.FORECAST)) is None
    assert at(grid, 0) == (90.0, Quality.LIVE)


def test_an_estimate_in_a_forecast_does_not_take_the_place_of_the_measured_value() -> None:
    grid = Grid(AVERAGE)
    learn(grid, 0, (0, 90.0, Quality.LIVE))
    assert learn(grid, 0, (0, 120.0, Quality.ESTIMATED)) is None
    assert at(grid, 0) == (90.0, Quality.LIVE)
    assert learn(grid, 0, (0, 95.0, Quality.LIVE)) == T0  # the source corrected itself
    assert at(grid, 0) == (95.0, Quality.LIVE)


def test_another_source_counts_where_the_first_has_nothing_of_that_time() -> None:
    grid = Grid(AVERAGE)
    learn(grid, 1, (0, 150.0, Quality.LIVE), (HALF_HOUR, 160.0, Quality.LIVE), source="other")
    learn(grid, 0, (0, 100.0, Quality.LIVE), source="first")
    assert at(grid, 0) == (100.0, Quality.LIVE)
    assert at(grid, 2 * HALF_HOUR - 1) == (100.0, Quality.LIVE)  # the first is alive, its successor is not yet due
    grid = Grid(AVERAGE)
    learn(grid, 0, (-3 * HALF_HOUR, 100.0, Quality.LIVE), (0, 500.0, Quality.FORECAST), source="first")
    learn(grid, 1, (0, 150.0, Quality.LIVE), source="other")
    assert at(grid, 60) == (150.0, Quality.LIVE)  # rather than the silent first one's forecast


def test_zero_is_a_value() -> None:
    grid = Grid(AVERAGE)
    learn(grid, 0, (0, 0.0, Quality.LIVE))
    assert at(grid, 0) == (0.0, Quality.LIVE)


def test_what_was_missing_is_mended_and_says_from_where_on() -> None:
    grid = Grid(AVERAGE)
    learn(grid, 0, (0, 100.0, Quality.LIVE), (10 * HALF_HOUR, 110.0, Quality.LIVE))
    assert at(grid, 6 * HALF_HOUR) == (300.0, Quality.AVERAGE)
    changed = learn(grid, 0, *((n * HALF_HOUR, 100.0 + n, Quality.LIVE) for n in range(11)))
    assert changed == T0 + HALF_HOUR
    assert at(grid, 6 * HALF_HOUR) == (106.0, Quality.LIVE)


samples = st.lists(
    st.tuples(
        st.integers(-20, 20).map(lambda n: n * 300.0),
        st.floats(0, 3000),
        st.sampled_from([Quality.LIVE, Quality.ESTIMATED, Quality.FORECAST]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda sample: sample[0],
).map(sorted)


@given(
    told=st.lists(st.tuples(st.integers(0, 2), samples), max_size=5),
    probe=st.lists(st.floats(-9000, 20000), max_size=30),
)
def test_the_steps_say_at_every_instant_what_the_best_value_is(
    told: list[tuple[int, list[tuple[float, float, Quality]]]], probe: list[float]
) -> None:
    grid = Grid(AVERAGE)
    for rank, rows in told:
        grid.learn(rank, answer(*rows, step_s=300.0), grace_s=400.0, stale_s=1800.0)
    begin = T0 - 9000
    steps = list(grid.steps(begin))
    assert [when for when, _ in steps] == sorted({when for when, _ in steps})
    curve = IntensityCurve(AVERAGE)
    curve.replace(begin, steps)
    for after_s in probe:
        mine, best = curve.value_at(T0 + after_s), grid.value_at(T0 + after_s)
        assert (mine.g_per_kwh, mine.quality, mine.source) == (best.g_per_kwh, best.quality, best.source)
        assert mine.low_g_per_kwh <= mine.g_per_kwh <= mine.high_g_per_kwh


@given(told=st.lists(samples, min_size=2, max_size=4))
def test_the_order_in_which_measured_values_are_learnt_does_not_matter(
    told: list[list[tuple[float, float, Quality]]],
) -> None:
    parts = [[(when, 100.0 + when / 300.0, Quality.LIVE) for when, _, _ in rows] for rows in told]
    curves = []
    for order in itertools.islice(itertools.permutations(parts), 6):
        grid = Grid(AVERAGE)
        for rows in order:
            grid.learn(0, answer(*rows, step_s=300.0), grace_s=400.0, stale_s=1800.0)
        curves.append([(when, value.g_per_kwh, value.quality) for when, value in grid.steps(T0 - 9000)])
    assert all(curve == curves[0] for curve in curves)


# -- the curve that is made of it --------------------------------------------------------------------------------------


def value_of(g: float) -> IntensityValue:
    return IntensityValue(g_per_kwh=g, low_g_per_kwh=g, high_g_per_kwh=g, source="s", zone="GB", quality=Quality.LIVE)


def test_a_replacement_says_from_where_on_it_is_another_curve() -> None:
    curve = IntensityCurve(AVERAGE)
    curve.replace(0.0, [(0.0, value_of(1.0)), (10.0, value_of(2.0)), (20.0, value_of(3.0))])
    version = curve.version
    curve.replace(0.0, [(0.0, value_of(1.0)), (10.0, value_of(2.0)), (20.0, value_of(3.0))])
    assert curve.version == version
    assert curve.changed_since(version) == float("inf")
    curve.replace(0.0, [(0.0, value_of(1.0)), (10.0, value_of(2.0)), (15.0, value_of(9.0))])
    assert curve.changed_since(version) == 15.0
    curve.set(value_of(7.0), 30.0)
    assert curve.changed_since(version) == 15.0
    assert curve.changed_since(curve.version - 1) == 30.0
    curve.set(value_of(8.0), float("-inf"))
    assert curve.changed_since(curve.version - 1) == float("-inf")


def test_changes_that_are_forgotten_count_as_everywhere() -> None:
    curve = IntensityCurve(AVERAGE)
    for n in range(200):
        curve.set(value_of(n), float(n))
    assert curve.changed_since(0) == float("-inf")
    assert curve.changed_since(190) == 190.0


@pytest.mark.parametrize("begin_s", [0.0, 5.0, 25.0])
def test_begins_are_the_instants_after_one_and_up_to_another(begin_s: float) -> None:
    curve = IntensityCurve(AVERAGE)
    curve.replace(0.0, [(0.0, value_of(1.0)), (10.0, value_of(2.0)), (20.0, value_of(3.0))])
    assert curve.begins(begin_s, 20.0) == [s for s in (0.0, 10.0, 20.0) if begin_s < s <= 20.0]
