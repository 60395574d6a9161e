"""Which intensities are guesses, of which windows a source is asked again, and what it may replace."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.intensity import FactorBasis, IntensityValue, Quality
from aiocarbon.intensity.base import Traits
from aiocarbon.intensity.guesses import GUESSES, guessed, guessed_stretch, is_guess, knows_better, stands_over

STEP_S = 300.0
OFFSET_S = 30.0
NOW_S = 100_000.0
PLAIN = Traits(
    name="src", title="Src", zone="GB", factor_basis=FactorBasis.DIRECT, step_s=STEP_S, offset_s=OFFSET_S,
    stale_s=900.0, has_past=True,
)  # fmt: skip
CORRECTS = replace(PLAIN, corrects=True)
PUBLISHED_S = math.floor((NOW_S - OFFSET_S) / STEP_S) * STEP_S

qualities = st.sampled_from(list(Quality))


def value(quality: Quality, g_per_kwh: float = 100.0, source: str = "Src") -> IntensityValue:
    return IntensityValue(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=g_per_kwh,
        high_g_per_kwh=g_per_kwh,
        source=source,
        zone="GB",
        quality=quality,
    )


def test_every_quality_has_its_place_in_the_order() -> None:
    assert [quality.rank for quality in Quality] == list(range(len(Quality)))
    assert Quality.GIVEN.rank == 0
    assert max(Quality, key=lambda quality: quality.rank) is Quality.AVERAGE


@given(qualities, qualities, qualities)
def test_finer_is_a_strict_order(a: Quality, b: Quality, c: Quality) -> None:
    assert not (a.is_surer_than(b) and b.is_surer_than(a))
    assert a.is_surer_than(b) or b.is_surer_than(a) or a is b
    assert not (a.is_surer_than(b) and b.is_surer_than(c)) or a.is_surer_than(c)


@pytest.mark.parametrize(
    ("quality", "source", "traits", "expected"),
    [
        (Quality.AVERAGE, "Ember", PLAIN, True),
        (Quality.CACHED, "Other", PLAIN, True),
        (Quality.FORECAST, "Src", PLAIN, True),
        (Quality.ESTIMATED, "Src", PLAIN, False),
        (Quality.ESTIMATED, "Src", CORRECTS, True),
        (Quality.ESTIMATED, "Other", CORRECTS, False),
        (Quality.LIVE, "Src", CORRECTS, False),
        (Quality.GIVEN, "given by the user", CORRECTS, False),
    ],
)
def test_what_is_a_guess(quality: Quality, source: str, traits: Traits, expected: bool) -> None:
    assert is_guess(value(quality, source=source), traits) is expected


@given(qualities, qualities, st.booleans(), st.booleans())
def test_only_guesses_are_replaced_and_only_by_what_stands_over_them(
    new: Quality, old: Quality, corrects: bool, is_same: bool
) -> None:
    traits = CORRECTS if corrects else PLAIN
    later, former = value(new, 100.0 if is_same else 200.0), value(old, 100.0)
    if knows_better(later, former, traits):
        assert is_guess(former, traits)
        assert stands_over(later, former)
        assert later != former
        assert not knows_better(former, later, traits) or new is old is Quality.ESTIMATED
    if old in {Quality.GIVEN, Quality.LIVE}:
        assert not stands_over(later, former) or new is Quality.GIVEN
        assert not knows_better(later, former, traits)


def test_estimate_that_says_the_same_of_another_time_is_no_news() -> None:
    old = value(Quality.ESTIMATED)
    assert not knows_better(replace(old, valid_from_s=1.0, valid_to_s=2.0), old, CORRECTS)
    assert knows_better(replace(old, g_per_kwh=101.0), old, CORRECTS)
    assert knows_better(value(Quality.LIVE), old, CORRECTS)


@given(
    st.integers(int(NOW_S) - 5000, int(NOW_S)).map(float),
    st.lists(st.tuples(st.integers(1, 1500), qualities), max_size=8),
    st.booleans(),
)
def test_windows_hold_all_guesses_that_are_published_in_whole_steps_and_little_else(
    begin_s: float, pieces: list[tuple[int, Quality]], corrects: bool
) -> None:
    traits = CORRECTS if corrects else PLAIN
    ends = list(itertools.accumulate((length for length, _ in pieces), initial=begin_s))
    steps = [(at, to, value(quality)) for (at, to), (_, quality) in zip(itertools.pairwise(ends), pieces, strict=True)]
    windows = guessed(steps, traits, NOW_S)
    assert all(first_to < second_at for (_, first_to), (second_at, _) in itertools.pairwise(windows))
    inside = {
        at for begin, end in windows for at in range(math.floor(begin), math.ceil(end), int(STEP_S))
    }  # begins of steps
    assert all(at % STEP_S == 0.0 and at + STEP_S <= PUBLISHED_S for at in inside)
    wanted = {
        step
        for at, to, one in steps
        if is_guess(one, traits)
        for step in range(math.floor(at / STEP_S) * int(STEP_S), math.ceil(to), int(STEP_S))
        if step + STEP_S <= PUBLISHED_S
    }
    assert inside == wanted


def test_empty_pieces_and_no_pieces_are_no_windows() -> None:
    assert guessed([], PLAIN, NOW_S) == []
    assert guessed([(5.0, 5.0, value(Quality.AVERAGE))], PLAIN, NOW_S) == []
    assert guessed([(NOW_S, NOW_S + 9e9, value(Quality.AVERAGE))], PLAIN, NOW_S) == []


@pytest.mark.parametrize(("begin_s", "first_s"), [(97_000.0, 97_500.0), (97_850.0, 97_800.0)])
def test_one_stretch_holds_all_guesses_and_the_value_that_was_due_before_the_first(
    begin_s: float, first_s: float
) -> None:
    live, average = value(Quality.LIVE), value(Quality.AVERAGE)
    steps = [
        (begin_s, 98_100.0, replace(live, valid_to_s=97_500.0)),  # carried on: its successor did not come
        (98_100.0, 99_000.0, average),
        (99_000.0, 99_300.0, replace(live, valid_to_s=99_300.0)),
        (99_300.0, NOW_S, average),
    ]
    assert guessed_stretch(steps, PLAIN, NOW_S) == (first_s, PUBLISHED_S)
    assert guessed_stretch(steps[2:3], PLAIN, NOW_S) is None
    assert guessed_stretch([], PLAIN, NOW_S) is None


def test_what_counts_as_a_guess_is_never_what_was_live() -> None:
    assert frozenset({Quality.LIVE, Quality.GIVEN, Quality.ESTIMATED}).isdisjoint(GUESSES)
