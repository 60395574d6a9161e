"""Which starts of a run are one try, and which are later ones."""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.tries import Extent, Start, generations, tries

EXTENTS = st.dictionaries(
    st.builds(Start, st.integers(-1, 2), st.sampled_from("abc"), st.integers(0, 1)),
    st.tuples(st.integers(0, 30), st.integers(0, 10), st.booleans()),
    max_size=8,
)


def extents(plain: dict[Start, tuple[int, int, bool]]) -> dict[Start, Extent]:
    return {start: Extent(begin, begin + length, well) for start, (begin, length, well) in plain.items()}


@given(EXTENTS, st.randoms(use_true_random=False))
def test_each_start_is_in_one_try_whatever_the_order(
    plain: dict[Start, tuple[int, int, bool]], rng: random.Random
) -> None:
    found = tries(extents(plain))
    assert sorted(start for starts in found for start in starts) == sorted(plain)
    mixed = list(plain.items())
    rng.shuffle(mixed)
    assert tries(extents(dict(mixed))) == found


@given(EXTENTS)
def test_a_later_try_begins_after_the_earlier_ended_or_was_restarted(
    plain: dict[Start, tuple[int, int, bool]],
) -> None:
    found = tries(extents(plain))
    for earlier, later in itertools.pairwise(found):
        if earlier[0].restart == later[0].restart:
            assert max(sum(plain[s][:2]) for s in earlier) <= min(plain[s][0] for s in later)
            assert not all(plain[s][2] for s in earlier)
        else:
            assert earlier[0].restart < later[0].restart


def test_what_ran_at_one_time_is_one_try_and_what_was_restarted_is_not() -> None:
    a, b, c = Start(-1, "a", 0), Start(-1, "b", 0), Start(-1, "c", 0)
    assert tries({a: Extent(0, 10, False), b: Extent(5, 12, False), c: Extent(20, 30, True)}) == [[a, b], [c]]
    assert tries({a: Extent(0, 10, True), c: Extent(20, 30, True)}) == [[a, c]]
    first, second = Start(0, "a", 0), Start(1, "a", 0)
    assert tries({second: Extent(5, 9, True), first: Extent(0, 6, True)}) == [[first], [second]]


def test_what_went_on_with_others_is_never_the_first() -> None:
    a, b, c = Start(-1, "a", 0), Start(-1, "b", 0), Start(-1, "c", 0)
    broken, back = Extent(50, 60, False), Extent(10, 30, True, resumes=True)
    assert tries({b: back, a: broken}) == [[a], [b]]
    assert tries({b: back, a: broken, c: Extent(20, 25, True, resumes=True)}) == [[a], [b, c]]
    assert tries({b: back, a: Extent(50, 60, True)}) == [[a, b]]
    assert tries({b: back, c: Extent(40, 45, True, resumes=True)}) == [[b, c]]  # the first try's journal is gone
    assert tries({b: back, a: Extent(29, 60, False)}) == [[b, a]]  # they ran at one time


def test_generations_are_told_by_what_had_ended() -> None:
    assert generations([(0, 10), (1, 5), (9, 20), (20, 30), (31, 40)]) == [0, 0, 0, 1, 2]
    assert generations([]) == []
