"""Segments merge whatever their order, and the union of a device's segments counts each instant once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon._core.curve import Curve, Point
from aiocarbon._core.reading import Basis, Device, DeviceKind, Quantity
from aiocarbon._core.segment import (
    DeviceKey,
    Segment,
    SegmentKey,
    Window,
    gather,
    is_apart,
    merge,
    shares,
    union_energy_j,
)

END = 24
GPU = DeviceKey("machine", "boot", "GPU-1")
STRENGTH = [Basis.COUNTER, Basis.POWER, Basis.MODEL, Basis.ASSUMED]


def segment(
    origin: str,
    powers: list[int],
    windows: set[tuple[int, int, str]],
    *,
    basis: Basis = Basis.COUNTER,
    instants: set[int] | None = None,
) -> Segment:
    """A segment that drew `powers[i]` watts in second i, with points at all instants or at some."""
    device = Device(id="GPU-1", kind=DeviceKind.GPU, name="GPU", quantity=Quantity.ENERGY, basis=basis)
    curve = Curve(device, refresh_ns=1)
    energy = 0.0
    for t in range(len(powers) + 1):
        if instants is None or t in instants:
            curve.append(Point(t * 10**9, energy, 0.0, 0.0, 0.0, 0.0))
        energy += powers[t] if t < len(powers) else 0
    inside = frozenset(Window(a * 10**9, b * 10**9, owner) for a, b, owner in windows)
    return Segment(key=SegmentKey(GPU, origin), curve=curve, windows=inside)


def seen(known: dict[SegmentKey, Segment]) -> dict[SegmentKey, object]:
    return {key: ([s.curve[i] for i in range(len(s.curve))], s.windows) for key, s in known.items()}


POWERS = st.lists(st.integers(0, 9), min_size=END, max_size=END)
SPANS = st.tuples(st.integers(0, END), st.integers(0, END), st.sampled_from("pqr")).map(
    lambda w: (min(w[:2]), max(w[:2]), w[2])
)


@st.composite
def worlds(draw: st.DrawFn) -> list[Segment]:
    """Segments of one device, each with its powers, windows and basis."""
    return [
        segment(origin, draw(POWERS), draw(st.sets(SPANS, max_size=4)), basis=draw(st.sampled_from(STRENGTH)))
        for origin in draw(st.sets(st.sampled_from("abcd")))
    ]


@st.composite
def views(draw: st.DrawFn) -> list[dict[SegmentKey, Segment]]:
    """Three partial views of common segments: some points, some windows of each."""
    truth = {origin: draw(POWERS) for origin in "ab"}
    return [
        gather(
            segment(
                origin, truth[origin], draw(st.sets(SPANS, max_size=2)), instants=draw(st.sets(st.integers(0, END)))
            )
            for origin in draw(st.sets(st.sampled_from("ab")))
        )
        for _ in range(3)
    ]


def brute_force_j(segments: list[Segment]) -> float:
    total = 0.0
    for second in range(END):
        claims = [
            (STRENGTH.index(s.curve.device.basis), s.key, s)
            for s in segments
            for w in s.windows
            if w.begin_ns <= second * 10**9 and w.end_ns >= (second + 1) * 10**9
        ]
        if claims:
            curve = min(claims, key=lambda claim: claim[:2])[2].curve
            total += curve[second + 1].energy_j - curve[second].energy_j
    return total


@given(views())
def test_merging_does_not_depend_on_order_grouping_or_repetition(three: list[dict[SegmentKey, Segment]]) -> None:
    a, b, c = three
    assert seen(merge(a, b)) == seen(merge(b, a))
    assert seen(merge(merge(a, b), c)) == seen(merge(a, merge(b, c)))
    assert seen(merge(a, a)) == seen(a)
    assert seen(merge(merge(a, b), b)) == seen(merge(a, b))


@given(views())
def test_a_merge_loses_no_point_and_no_window(three: list[dict[SegmentKey, Segment]]) -> None:
    a, b, _ = three
    merged = merge(a, b)
    for view in (a, b):
        for key, one in view.items():
            whole = merged[key]
            assert one.windows <= whole.windows
            assert {one.curve[i] for i in range(len(one.curve))} <= {whole.curve[i] for i in range(len(whole.curve))}


@given(worlds())
def test_the_union_is_what_counting_second_by_second_gives(segments: list[Segment]) -> None:
    assert union_energy_j(segments) == pytest.approx(brute_force_j(segments))


@given(worlds())
def test_shares_never_overlap_and_fill_the_windows(segments: list[Segment]) -> None:
    found = shares(reversed(segments))
    assert found == shares(segments)
    assert all(a.end_ns <= b.begin_ns for a, b in pairwise(found))
    covered = {t for s in found for t in range(s.begin_ns // 10**9, s.end_ns // 10**9)}
    assert covered == {t for s in segments for w in s.windows for t in range(w.begin_ns // 10**9, w.end_ns // 10**9)}


@given(POWERS, st.lists(st.integers(0, END), max_size=6))
def test_splitting_windows_changes_no_joule(powers: list[int], borders: list[int]) -> None:
    whole = segment("a", powers, {(0, END, "p")})
    edges = sorted({0, END, *borders})
    split = segment("a", powers, {(a, b, f"p{a}") for a, b in pairwise(edges)})
    assert union_energy_j([split]) == pytest.approx(union_energy_j([whole]))


def test_two_trackers_of_one_hour_count_that_hour_once() -> None:
    powers = [5] * END
    one = segment("a", powers, {(0, END, "p"), (0, END, "q")})
    assert union_energy_j([one]) == 5 * END
    other_process = segment("b", powers, {(2, END, "r")})
    assert union_energy_j([one, other_process]) == 5 * END


def test_a_counter_tells_before_a_power_sensor_and_a_model() -> None:
    model = segment("a", [9] * END, {(0, 12, "p")}, basis=Basis.MODEL)
    power = segment("b", [7] * END, {(0, 8, "q")}, basis=Basis.POWER)
    counter = segment("c", [5] * END, {(4, 6, "r")})
    assert union_energy_j([model, power, counter]) == 2 * 5 + 6 * 7 + 4 * 9


# -- one counter or two --------------------------------------------------------------------------------------------


def sampled(watts: list[int], instants: set[int], *, basis: Basis = Basis.COUNTER, since: int = 0) -> Curve:
    """A sampler's view of a device that drew `watts[i]` in second i: points where it looked, from its own origin."""
    device = Device(id="GPU-1", kind=DeviceKind.GPU, name="GPU", quantity=Quantity.ENERGY, basis=basis)
    curve = Curve(device, refresh_ns=1)
    for t in sorted(instants):
        curve.append(Point(t * 10**9, float(sum(watts[since:t])), 0.0, 0.0, 0.0, 0.0))
    return curve


LONG = 300
WATTS = st.lists(st.integers(0, 500), min_size=LONG, max_size=LONG)
LOOKS = st.sets(st.integers(0, LONG), min_size=2)


@given(WATTS, LOOKS, LOOKS)
def test_two_samplers_of_one_counter_are_never_taken_as_two(watts: list[int], a: set[int], b: set[int]) -> None:
    assert not is_apart(sampled(watts, a), sampled(watts, b, since=min(b)), 0, LONG * 10**9)


@given(WATTS, LOOKS, LOOKS, st.integers(0, LONG))
def test_whether_two_are_one_does_not_depend_on_who_asks(watts: list[int], a: set[int], b: set[int], at: int) -> None:
    one, other = sampled(watts, a), sampled([*watts[at:], *watts[:at]], b)
    if is_apart(one, other, 0, LONG * 10**9) is None:
        assert is_apart(other, one, 0, LONG * 10**9) is None


def test_counters_that_differ_by_more_than_their_errors_are_two() -> None:
    every = set(range(0, LONG + 1, 10))
    one = sampled([100] * LONG, every)
    assert is_apart(one, sampled([101] * LONG, every), 0, LONG * 10**9) is False  # less than 2 %
    assert is_apart(one, sampled([110] * LONG, every), 0, LONG * 10**9) is True
    assert is_apart(one, sampled([110] * LONG, every), 0, 50 * 10**9) is None  # too short to tell
    assert is_apart(one, sampled([110] * LONG, every, basis=Basis.MODEL), 0, LONG * 10**9) is None
    assert is_apart(one, sampled([110] * LONG, {0, LONG}), 0, LONG * 10**9) is True
    # As much in all, at other times.
    swapped = sampled([0] * (LONG // 2) + [200] * (LONG // 2), every)
    assert is_apart(one, swapped, 0, LONG * 10**9) is True
