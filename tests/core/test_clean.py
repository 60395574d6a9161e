"""The cleanest start and blocks against brute force; what continues a forecast; what has no plan."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.blocks import best
from aiocarbon._core.clean import Plan, Range, RefusedError, below, horizon_s, plan
from aiocarbon._core.intensity import FactorBasis, IntensityKind, IntensityValue, Quality
from aiocarbon._core.profile import Filler, Step, continued, daily_profile

HOUR_S = 3600.0
DAY_S = 86400.0
NOW_S = datetime(2026, 11, 21, 13, 37, tzinfo=UTC).timestamp()


def value(g: float, quality: Quality = Quality.FORECAST, spread: float = 0.1, **more: Any) -> IntensityValue:
    return IntensityValue(
        g_per_kwh=g,
        low_g_per_kwh=g * (1 - spread),
        high_g_per_kwh=g * (1 + spread),
        source="here",
        zone="DE",
        quality=quality,
        **more,
    )


AVERAGE = value(333.0, Quality.AVERAGE, factor_basis=FactorBasis.LIFE_CYCLE)


def hours(
    *grams: float, begin_s: float = NOW_S, step_s: float = HOUR_S, quality: Quality = Quality.FORECAST
) -> list[Step]:
    return [(begin_s + i * step_s, begin_s + (i + 1) * step_s, value(g, quality)) for i, g in enumerate(grams)]


def planned(steps: Sequence[Step], duration_s: float, **more: Any) -> Plan:
    return plan(steps, **({"now_s": NOW_S, "until_s": steps[-1][1], "duration_s": duration_s} | more))


def mean(steps: Sequence[Step], begin_s: float, end_s: float) -> float:
    parts = ((min(to, end_s) - max(at, begin_s), v.g_per_kwh) for at, to, v in steps)
    return math.fsum(length * g for length, g in parts if length > 0) / (end_s - begin_s)


def seconds_of(plan: Plan) -> list[tuple[float, float]]:
    return [(block.begins_s - NOW_S, block.ends_s - NOW_S) for block in plan.blocks]


# -- one block ---------------------------------------------------------------------------------------------------


def test_whole_duration_counts_and_not_the_lowest_instant() -> None:
    steps = hours(300, 10, 500, 500, 200, 200, 200, 300)
    assert seconds_of(planned(steps, 3 * HOUR_S)) == [(4 * HOUR_S, 7 * HOUR_S)]
    assert seconds_of(planned(steps, HOUR_S)) == [(HOUR_S, 2 * HOUR_S)]


def test_best_start_may_be_the_latest_one() -> None:
    # The window ends inside a clean step: no border of a step says so.
    found = planned(hours(300, 300, 100, 100), 1.5 * HOUR_S, until_s=NOW_S + 3.25 * HOUR_S)
    assert seconds_of(found) == [(1.75 * HOUR_S, 3.25 * HOUR_S)]


def test_best_start_may_be_set_by_the_end_of_the_work() -> None:
    # 90 minutes that end where the two clean hours end, since the hour in front of them is dirtier than both.
    steps = hours(400, 200, 100, 300)
    assert seconds_of(planned(steps, 1.5 * HOUR_S)) == [(1.5 * HOUR_S, 3 * HOUR_S)]


@given(
    grams=st.lists(st.integers(0, 9).map(lambda n: n * 100.0), min_size=1, max_size=7),
    lengths=st.lists(st.integers(1, 4), min_size=7, max_size=7),
    early=st.integers(0, 3),
    duration=st.integers(1, 12),
    slack=st.integers(0, 20),
    beyond=st.integers(0, 3),
)
def test_one_block_is_as_good_as_the_best_of_all_starts(
    grams: list[float], lengths: list[int], early: int, duration: int, slack: int, beyond: int
) -> None:
    # Borders, duration and window lie on a lattice of a minute, so the best start does too: trying all is proof.
    at, steps = NOW_S - early * 60.0, []
    for g, n in zip(grams, lengths, strict=False):
        steps.append((at, at + n * 60.0, value(g)))
        at += n * 60.0
    steps[-1] = (steps[-1][0], max(at, NOW_S + (duration + slack) * 60.0), steps[-1][2])
    until_s = max(steps[-1][1] - beyond * 60.0, NOW_S + duration * 60.0)
    found = planned(steps, duration * 60.0, until_s=until_s)
    starts = range(int((until_s - NOW_S) / 60.0) - duration + 1)
    means = [mean(steps, NOW_S + i * 60.0, NOW_S + (i + duration) * 60.0) for i in starts]
    assert found.g_per_kwh.central == pytest.approx(min(means), abs=1e-6)
    first = next(i for i in starts if means[i] <= min(means) + 1e-9)
    assert found.begins_s == pytest.approx(NOW_S + first * 60.0, abs=1e-3)


@given(
    grams=st.lists(st.floats(0, 3000), min_size=2, max_size=12),
    widths=st.lists(st.floats(0.5, 9000), min_size=12, max_size=12),
    share=st.floats(0.001, 1.0),
    tries=st.lists(st.floats(0, 1), min_size=1, max_size=30),
)
def test_no_start_whatever_beats_the_plan(
    grams: list[float], widths: list[float], share: float, tries: list[float]
) -> None:
    at, steps = NOW_S, []
    for g, width in zip(grams, widths, strict=False):
        steps.append((at, at + width, value(g)))
        at += width
    duration_s = (at - NOW_S) * share
    found = planned(steps, duration_s)
    assert found.now_s <= found.begins_s
    assert found.blocks[-1].ends_s <= at + 1e-3
    for part in tries:
        begin_s = NOW_S + part * (at - NOW_S - duration_s)
        # A millisecond of rounding, at each end, of a step of at most 3000 g/kWh.
        assert found.g_per_kwh.central <= mean(steps, begin_s, begin_s + duration_s) + 6.0 / duration_s + 1e-6


def test_of_equal_starts_the_earliest_counts() -> None:
    assert planned(hours(*[100] * 6), 2 * HOUR_S).is_now
    assert seconds_of(planned(hours(0.3, 0.1, 0.1, 0.3, 0.1, 0.1), 2 * HOUR_S)) == [(HOUR_S, 3 * HOUR_S)]
    dirty_first = planned(hours(500, *[0.1] * 9), 3 * HOUR_S)
    assert seconds_of(dirty_first) == [(HOUR_S, 4 * HOUR_S)]


def test_zero_intensity_is_a_value_and_saves_all() -> None:
    found = planned(hours(200, 0, 0), HOUR_S, power_w=1000.0)
    assert found.g_per_kwh == Range(0.0, 0.0, 0.0)
    assert found.saved_share is not None
    assert found.saved_share.central == 1.0
    none = planned(hours(0, 0, 0), HOUR_S)
    assert none.is_now
    assert none.saved_share is None


def test_work_that_fills_the_window_begins_at_once_and_saves_nothing() -> None:
    found = planned(hours(400, 100), 2 * HOUR_S)
    assert found.is_now
    assert found.saved_g_per_kwh == Range(0.0, 0.0, 0.0)


# -- what it saves -----------------------------------------------------------------------------------------------


def test_saving_is_told_in_grams_with_its_range() -> None:
    found = planned(hours(400, 300, 100, 200), HOUR_S, power_w=500.0, pue=1.2)
    assert found.energy_kwh == pytest.approx(0.6)
    assert found.saved_g_per_kwh.central == pytest.approx(300.0)
    # 10 % of 400 and of 100, independent of each other.
    assert found.saved_g_per_kwh.low == pytest.approx(300.0 - math.hypot(40.0, 10.0))
    assert found.saved_g_per_kwh.high == pytest.approx(300.0 + math.hypot(40.0, 10.0))
    grams = found.co2eq_g(found.saved_g_per_kwh)
    assert grams is not None
    assert grams.central == pytest.approx(180.0)
    assert found.saved_share is not None
    assert found.saved_share.central == pytest.approx(0.75)
    assert found.window.g_per_kwh.central == pytest.approx(250.0)
    assert found.saved_of_mean_g_per_kwh.central == pytest.approx(150.0)
    assert found.saved_of_mean_share is not None
    assert found.saved_of_mean_share.central == pytest.approx(0.6)
    assert planned(hours(400, 100), HOUR_S).co2eq_g(found.g_per_kwh) is None


def test_hours_that_both_starts_share_do_not_widen_the_range() -> None:
    found = planned(hours(300, 200, 200, 200, 100), 4 * HOUR_S)
    assert seconds_of(found) == [(HOUR_S, 5 * HOUR_S)]
    assert found.saved_g_per_kwh.central == pytest.approx(50.0)
    assert found.saved_g_per_kwh.high == pytest.approx(50.0 + math.hypot(30.0, 10.0) / 4.0)


# -- several blocks ----------------------------------------------------------------------------------------------


def brute(costs: Sequence[int], n: int, blocks: int, shortest: int) -> int:
    least = sum(costs) + 1
    for chosen in itertools.combinations(range(len(costs)), n):
        runs = [len(list(group)) for _, group in itertools.groupby(enumerate(chosen), lambda pair: pair[1] - pair[0])]
        if len(runs) <= blocks and min(runs) >= shortest:
            least = min(least, sum(costs[i] for i in chosen))
    return least


@given(
    costs=st.lists(st.integers(0, 9), min_size=1, max_size=11),
    n=st.integers(1, 11),
    blocks=st.integers(1, 4),
    shortest=st.integers(1, 4),
)
def test_blocks_of_slots_are_as_good_as_the_best_of_all(costs: list[int], n: int, blocks: int, shortest: int) -> None:
    n = min(n, len(costs))
    shortest = min(shortest, n)
    runs = best(costs, n, blocks, shortest)
    assert sum(end - begin for begin, end in runs) == n
    assert len(runs) <= blocks
    assert all(end - begin >= shortest for begin, end in runs)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(runs))
    assert runs[0][0] >= 0
    assert runs[-1][1] <= len(costs)
    assert sum(sum(costs[begin:end]) for begin, end in runs) == brute(costs, n, blocks, shortest)


@given(
    grams=st.lists(st.integers(0, 6).map(lambda n: n * 90.0), min_size=6, max_size=10),
    n=st.integers(2, 5),
    blocks=st.integers(2, 4),
    shortest=st.integers(1, 2),
)
def test_plan_of_blocks_is_the_best_on_the_lattice_of_the_steps(
    grams: list[float], n: int, blocks: int, shortest: int
) -> None:
    shortest = min(shortest, n)
    begin_s = NOW_S // HOUR_S * HOUR_S + HOUR_S
    steps = hours(*grams, begin_s=begin_s)
    found = plan(
        steps,
        now_s=begin_s,
        until_s=steps[-1][1],
        duration_s=n * HOUR_S,
        blocks=blocks,
        least_s=shortest * HOUR_S,
    )
    # Borders, duration and least length are whole hours, and so is a best plan (a flow's corners).
    assert found.g_per_kwh.central * n == pytest.approx(brute([round(g) for g in grams], n, blocks, shortest))
    assert all(block.ends_s - block.begins_s >= shortest * HOUR_S - 1e-3 for block in found.blocks)


@given(
    grams=st.lists(st.floats(0, 900), min_size=3, max_size=40),
    duration_s=st.floats(1.0, 3 * HOUR_S),
    blocks=st.integers(1, 24),
    least=st.floats(0.0, 1.0),
    early_s=st.floats(0.0, 1799.0),
)
def test_blocks_keep_to_what_was_asked_and_are_never_worse_than_one(
    grams: list[float], duration_s: float, blocks: int, least: float, early_s: float
) -> None:
    steps = hours(*grams, *[50.0] * 6, begin_s=NOW_S - early_s, step_s=1800.0)
    one = planned(steps, duration_s)
    found = planned(steps, duration_s, blocks=blocks, least_s=least * duration_s)
    lengths = [block.ends_s - block.begins_s for block in found.blocks]
    assert sum(lengths) == pytest.approx(duration_s, abs=2e-3)
    assert len(lengths) <= blocks
    assert min(lengths) >= least * duration_s - 2e-3
    assert found.begins_s >= NOW_S
    assert found.blocks[-1].ends_s <= steps[-1][1] + 1e-3
    assert all(a.ends_s < b.begins_s for a, b in itertools.pairwise(found.blocks))
    assert found.g_per_kwh.central <= one.g_per_kwh.central + 1e-6
    assert (found.grid_s is None) == (found.blocks == one.blocks)


def test_blocks_leave_out_the_dirty_hour_between() -> None:
    begin_s = NOW_S // HOUR_S * HOUR_S
    steps = hours(300, 100, 500, 100, 300, begin_s=begin_s)
    found = planned(steps, 2 * HOUR_S, blocks=2, least_s=HOUR_S)
    assert [(b.begins_s - begin_s, b.ends_s - begin_s) for b in found.blocks] == [
        (HOUR_S, 2 * HOUR_S),
        (3 * HOUR_S, 4 * HOUR_S),
    ]
    assert found.g_per_kwh.central == pytest.approx(100.0)
    longer = planned(steps, 2 * HOUR_S, blocks=2, least_s=1.5 * HOUR_S)
    assert len(longer.blocks) == 1


@pytest.mark.parametrize("step_s", [300.0, 1800.0])
def test_week_of_steps_is_planned_on_a_grid_that_is_told(step_s: float) -> None:
    begin_s = NOW_S // step_s * step_s
    grams = [
        300 + 200 * math.sin(i * step_s / DAY_S * math.tau) + (i * 37) % 11 for i in range(int(8 * DAY_S / step_s))
    ]
    found = planned(hours(*grams, begin_s=begin_s, step_s=step_s), 8 * HOUR_S, until_s=NOW_S + 7 * DAY_S, blocks=3)
    assert found.grid_s in {300.0, 600.0, 900.0, 1800.0}
    assert all(block.begins_s % found.grid_s == 0.0 for block in found.blocks)


# -- nights of 23 and 25 hours -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("evening", "night_h"), [("2026-03-28", 11), ("2026-10-24", 13)])
def test_night_of_a_change_over_has_its_own_number_of_hours(evening: str, night_h: int) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    dusk = datetime.fromisoformat(f"{evening}T20:00").replace(tzinfo=berlin)
    dawn = (dusk + timedelta(hours=12)).astimezone(UTC)  # by the wall: 08:00 of the next morning
    begin_s, end_s = dusk.timestamp(), dawn.timestamp()
    assert end_s - begin_s == night_h * HOUR_S
    steps = hours(*[90.0 if i == night_h - 2 else 200.0 for i in range(night_h)], begin_s=begin_s)
    found = plan(steps, now_s=begin_s, until_s=end_s, duration_s=HOUR_S)
    assert datetime.fromtimestamp(found.begins_s, berlin).hour == 6
    with pytest.raises(RefusedError):
        plan(steps, now_s=begin_s, until_s=end_s, duration_s=(night_h + 0.1) * HOUR_S)


# -- bad input ---------------------------------------------------------------------------------------------------

FLAT = hours(*[100.0] * 10)


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("deadline", {"until_s": NOW_S - 1.0}),
        ("deadline", {"until_s": NOW_S}),
        ("deadline", {"until_s": math.nan}),
        ("deadline", {"until_s": math.inf}),
        ("now_s", {"now_s": math.nan}),
        ("duration", {"duration_s": 0.0}),
        ("duration", {"duration_s": -3600.0}),
        ("duration", {"duration_s": math.nan}),
        ("duration", {"duration_s": math.inf}),
        ("duration", {"duration_s": 11 * HOUR_S}),
        ("duration", {"duration_s": 2 * HOUR_S, "until_s": NOW_S + HOUR_S}),
        ("blocks", {"blocks": 0}),
        ("blocks", {"blocks": 25}),
        ("blocks", {"blocks": True}),
        ("least", {"least_s": -1.0, "blocks": 2}),
        ("least", {"least_s": 2 * HOUR_S, "blocks": 2}),
        ("least", {"least_s": math.nan, "blocks": 2}),
        ("power_w", {"power_w": 0.0}),
        ("power_w", {"power_w": math.nan}),
        ("power_w", {"power_w": math.inf}),
        ("pue", {"pue": 0.9}),
        ("steps", {"until_s": NOW_S + 11 * HOUR_S}),
        ("steps", {"now_s": NOW_S - 1.0}),
    ],
)
def test_what_has_no_plan_is_refused_by_name(field: str, more: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="is not accepted: expected") as caught:
        plan(FLAT, **({"now_s": NOW_S, "until_s": NOW_S + 10 * HOUR_S, "duration_s": HOUR_S} | more))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "steps", [[], [*FLAT[:3], *FLAT[4:]], [FLAT[0], FLAT[0], *FLAT[1:]]], ids=["no", "gap", "twice"]
)
def test_intensity_with_holes_makes_no_silent_plan(steps: list[Step]) -> None:
    with pytest.raises(RefusedError, match="without a gap"):
        plan(steps, now_s=NOW_S, until_s=NOW_S + 10 * HOUR_S, duration_s=HOUR_S)


# -- beyond the forecast -----------------------------------------------------------------------------------------


def days_before(n: int, *, known_until_s: float = NOW_S) -> list[Step]:
    """Hours measured for so many days: 100 by day (UTC), 300 by night, and 10 more each day."""
    begin_s = known_until_s - n * DAY_S
    return [
        (
            at,
            at + HOUR_S,
            value((100.0 if 6 <= (at % DAY_S) // HOUR_S < 18 else 300.0) + 10.0 * (i // 24), Quality.LIVE),
        )
        for i in range(n * 24)
        for at in [begin_s + i * HOUR_S]
    ]


def test_curve_that_reaches_far_enough_is_only_cut() -> None:
    found = continued(FLAT, NOW_S + 2.5 * HOUR_S, AVERAGE)
    assert found.filler is Filler.NOTHING
    assert found.steps[-1][:2] == (NOW_S + 2 * HOUR_S, NOW_S + 2.5 * HOUR_S)
    assert found.known_until_s == NOW_S + 2.5 * HOUR_S


def test_daily_profile_stands_behind_the_forecast() -> None:
    steps = [*days_before(2), *hours(250, 250)]
    found = continued(steps, NOW_S + 3 * DAY_S, AVERAGE)
    assert (found.filler, found.days) == (Filler.PROFILE, 2)
    assert found.known_until_s == NOW_S + 2 * HOUR_S
    assert found.steps[-1][1] == NOW_S + 3 * DAY_S
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found.steps))
    for at, to, one in found.steps[len(steps) :]:
        is_day = 6 * HOUR_S <= ((at + to) / 2 - NOW_S % HOUR_S) % DAY_S < 18 * HOUR_S
        assert one.g_per_kwh == pytest.approx(105.0 if is_day else 305.0)
        assert one.quality is Quality.AVERAGE
        assert one.low_g_per_kwh <= one.g_per_kwh - 5.0
        assert one.high_g_per_kwh >= one.g_per_kwh + 5.0
        assert "last 2 days" in one.note


def test_profile_s_range_holds_all_that_was_measured_at_that_time() -> None:
    steps = [*hours(*[100.0] * 24, begin_s=NOW_S - 2 * DAY_S, quality=Quality.LIVE),
             *hours(*[300.0] * 24, begin_s=NOW_S - DAY_S, quality=Quality.LIVE)]  # fmt: skip
    tail = continued(steps, NOW_S + DAY_S, AVERAGE).steps[-1][2]
    assert (tail.low_g_per_kwh, tail.g_per_kwh, tail.high_g_per_kwh) == (100.0, 200.0, 300.0)


def test_less_than_a_day_of_past_makes_no_profile_and_the_average_stands() -> None:
    steps = [*days_before(1)[1:], *hours(250)]
    found = continued(steps, NOW_S + DAY_S, AVERAGE)
    assert (found.filler, found.days) == (Filler.AVERAGE, 0)
    assert found.steps[-1] == (NOW_S + HOUR_S, NOW_S + DAY_S, AVERAGE)


def test_full_day_is_enough_wherever_it_lies() -> None:
    for shift_s in (0.0, 100.0, 11 * HOUR_S):
        found = continued(days_before(1, known_until_s=NOW_S - shift_s), NOW_S + DAY_S, AVERAGE)
        assert (found.filler, found.days) == (Filler.PROFILE, 1)


def test_what_is_no_measurement_or_counts_otherwise_makes_no_profile() -> None:
    assert not daily_profile([])
    assert not daily_profile(hours(*[100.0] * 30))
    marginal = [(at, to, value(700.0, Quality.LIVE, kind=IntensityKind.MARGINAL)) for at, to, _ in days_before(2)]
    assert continued([*marginal, *hours(250)], NOW_S + DAY_S, AVERAGE).filler is Filler.AVERAGE


def test_hole_in_one_day_is_filled_by_the_others() -> None:
    steps = days_before(3)
    holed = [*steps[:30], *steps[33:]]
    found = continued(holed, NOW_S + DAY_S, AVERAGE)
    assert found.filler is Filler.PROFILE


def test_profile_reaches_back_a_week_at_most() -> None:
    assert continued(days_before(20), NOW_S + DAY_S, AVERAGE).days == 7


def test_carried_on_and_average_values_at_the_end_are_no_forecast() -> None:
    steps = [
        *days_before(1),
        *hours(180, quality=Quality.CACHED),
        *hours(333, begin_s=NOW_S + HOUR_S, quality=Quality.AVERAGE),
    ]
    found = continued(steps, NOW_S + 2 * HOUR_S, AVERAGE)
    assert found.known_until_s == NOW_S
    assert found.steps[-1][2].g_per_kwh == 100.0


def test_nothing_known_at_all_is_the_average_from_the_begin() -> None:
    found = continued([(NOW_S, NOW_S + HOUR_S, AVERAGE)], NOW_S + DAY_S, AVERAGE)
    assert found.known_until_s == NOW_S
    assert found.steps == ((NOW_S, NOW_S + DAY_S, AVERAGE),)


@given(
    past_h=st.integers(0, 60),
    ahead_h=st.integers(0, 30),
    until_h=st.floats(0.1, 90.0),
    early_s=st.floats(0.0, 80000.0),
)
def test_continued_curve_has_no_gap_and_can_be_planned(
    past_h: int, ahead_h: int, until_h: float, early_s: float
) -> None:
    measured = hours(*range(past_h), begin_s=NOW_S - early_s, quality=Quality.LIVE)
    begin_s = measured[-1][1] if measured else NOW_S - early_s
    steps = [*measured, *hours(*range(ahead_h), begin_s=begin_s)] or [(NOW_S, NOW_S + 1.0, AVERAGE)]
    until_s = max(NOW_S, steps[0][0]) + until_h * HOUR_S
    found = continued(steps, until_s, AVERAGE)
    assert found.steps[0][0] == steps[0][0]
    assert found.steps[-1][1] == until_s
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found.steps))
    assert all(at < to for at, to, _ in found.steps)
    plan(found.steps, now_s=steps[0][0], until_s=until_s, duration_s=60.0)


def test_average_is_no_clean_hour_to_wait_for() -> None:
    known_s, until_s = NOW_S + 10 * HOUR_S, NOW_S + 99 * HOUR_S
    assert horizon_s(known_s, now_s=NOW_S, until_s=until_s, duration_s=4 * HOUR_S) == known_s
    assert horizon_s(known_s, now_s=NOW_S, until_s=until_s, duration_s=20 * HOUR_S) == NOW_S + 20 * HOUR_S
    assert horizon_s(known_s, now_s=NOW_S, until_s=NOW_S + 9 * HOUR_S, duration_s=2 * HOUR_S) == NOW_S + 9 * HOUR_S
    assert horizon_s(NOW_S, now_s=NOW_S, until_s=until_s, duration_s=4 * HOUR_S) == NOW_S + 4 * HOUR_S


def test_first_time_below_a_limit() -> None:
    steps = hours(300, 250, 200, 100)
    assert below(steps, 200.0, NOW_S) == NOW_S + 3 * HOUR_S
    assert below(steps, 200.1, NOW_S) == NOW_S + 2 * HOUR_S
    assert below(steps, 1000.0, NOW_S + 7.0) == NOW_S + 7.0
    assert below(steps, 100.0, NOW_S) is None
