"""Runs of brief spans, taken in one go: what they make is what opening and closing each makes, to the last digit."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon._core.attribution import Attribution
from aiocarbon._core.brief import Kind, take_run
from aiocarbon._core.edges import CLOSE, OPEN, WEIGH, Edge
from aiocarbon._core.shares import shares_of
from aiocarbon._core.spans import Names, Path
from aiocarbon._core.streams import Group
from aiocarbon._core.supply import Increment

END = 1_000_000

gaps = st.integers(0, 900)
heads = st.sampled_from(
    [
        ("step", 0, 0.0, "", (), ""),
        ("step", 1, 0.0, "", (), ""),
        ("step", 1, 0.0, "", (("actor", "3"),), ""),
        ("step", 0, 2.5, "", (), "actor-3"),
        ("step", 9_999, 0.0, "", (), ""),  # in a span that is not open
        ("step", 0, -1.0, "", (), ""),  # a weight that was refused
        ("step", 0, 0.0, "gpu", (), ""),
        ("update", 2, 0.0, "", (), ""),
        ("x" * 300, 0, 0.0, "", (), ""),
    ]
)
runs = st.lists(st.tuples(heads, st.lists(st.tuples(gaps, gaps), min_size=1, max_size=12)), max_size=8)
outer = st.lists(
    st.tuples(st.integers(0, END), st.sampled_from(["", "gpu"]), st.sampled_from(["", "actor-7"])), max_size=2
)


def edges_of(
    around: list[tuple[int, str, str]], told: list[tuple[tuple[Any, ...], list[tuple[int, int]]]]
) -> list[Edge]:
    """Spans 1 and 2 from the begin on, one in the other, and runs of brief ones; some ids come twice."""
    edges: list[Edge] = []
    for ident, (end, device, owner) in enumerate(around, 1):
        edges += [(0, OPEN, ident, "outer", ident - 1, 0.0, device, (), owner), (end, CLOSE, ident)]
    at, ident = 10, 3
    for head, lengths in told:
        for gap, length in lengths:
            edges += [(at + gap, OPEN, ident, *head), (at + gap + length, CLOSE, ident)]
            at += gap + length
            ident += gap != 7
        edges.append((at, WEIGH, 2, 3.0))
    return edges


def split(edges: list[Edge], policy: str, at_most: int | None, stops: list[int]) -> Any:
    attribution = Attribution(0, policy=policy)
    attribution.tell(edges)
    for device, power in (("gpu", 300.0), ("cpu", 77.7)):
        attribution.supply(
            Increment(device, t, t + 10_000, power * (t % 7) * 1e-5, 1e-9 * (t % 11), 5.0)
            for t in range(0, END, 10_000)
        )
    for stop in [*stops, END]:
        while attribution.settle(stop, at_most):
            pass
    attribution.finish(END)
    shares = shares_of(attribution, END)
    told = attribution.told
    return dataclasses.astuple(shares), vars(told), attribution.book.cut


@given(outer, runs, st.sampled_from(["even", "weight", "device"]), st.lists(st.integers(0, 20_000), max_size=3))
@settings(max_examples=150, deadline=None)
def test_runs_make_what_edges_one_by_one_make(
    around: list[tuple[int, str, str]], told: Any, policy: str, stops: list[int]
) -> None:
    edges = edges_of(around, told)
    stops.sort()
    one_by_one = split(edges, policy, 1, stops)  # no edge is taken with the next one
    assert split(edges, policy, None, stops) == one_by_one
    assert split(edges, policy, 5, stops) == one_by_one


def test_a_run_ends_where_power_changes_or_something_else_comes() -> None:
    names = Names("step")
    kind = Kind(Path(names, frozenset((names,))), Group(0), 1, None, None)
    edges: list[Edge] = []
    for i in range(5):
        edges += [(10 * i, OPEN, i, "step", 0, 0.0, "", (), ""), (10 * i + 5, CLOSE, i)]
    assert take_run(edges, 0, 26, kind, {}, {}) == (3, 25)
    assert take_run(edges, 6, 100, kind, {4: None}, {}) == (1, 35)
    assert take_run(edges, 8, 100, kind, {}, {4: None}) == (0, 0)
    assert names.durations.count == 4
    assert kind.group.idle_ns == 15  # between them
    assert kind.group.at == 35


def test_edges_of_threads_that_tell_at_once_are_put_in_order() -> None:
    attribution = Attribution(0)
    for first in (0, 1):
        attribution.tell([(t, WEIGH, 1, 1.0) for t in range(first, 40, 2)])
        attribution.arrange()
    assert attribution.waiting == 40
    attribution.arrange()
    attribution.open(0, 1, "step")
    attribution.close(40, 1)
    attribution.finish(50)
    assert attribution.told.strays == 0
    assert attribution.waiting == 0


@pytest.mark.parametrize("policy", ["even", "cpu"])
def test_a_run_is_finished_in_parts(policy: str) -> None:
    def opened() -> Attribution:
        attribution = Attribution(0, policy=policy)
        for ident in range(1, 21):
            attribution.open(ident, ident, "actor", parent=ident - 1 if ident % 3 else 0, owner=f"actor-{ident % 2}")
        attribution.supply([Increment("gpu", 0, 1000, 3.0, 0.1)])
        return attribution

    one, other = opened(), opened()
    assert one.finish(1000) == 0
    parts = 1
    while other.finish(1000, 3):
        parts += 1
    assert parts > 7
    assert shares_of(other, 1000) == shares_of(one, 1000)
    assert one.told.outlived == other.told.outlived == 20


def test_seconds_with_brief_spans_in_them_are_not_quiet() -> None:
    second = 1_000_000_000
    attribution = Attribution(0)
    for i in range(16):
        attribution.open(i * second // 2 + 10, i + 1, "step")
        attribution.close(i * second // 2 + 20, i + 1)
    attribution.supply([Increment("gpu", i * second, (i + 1) * second, 100.0, 0.1) for i in range(8)])
    attribution.settle(8 * second)
    assert attribution.supplied.floor.floor_w("gpu") is None
