"""The split of energy among spans: parts make the whole, whatever is told, in whatever order."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon._core.attribution import MAX_DEVICES, Attribution
from aiocarbon._core.edges import CLOSE, MAX_NAME, OPEN, SPEND, WEIGH
from aiocarbon._core.quantiles import MOST_BUCKETS, Quantiles
from aiocarbon._core.shares import NameShare, Shares, shares_of
from aiocarbon._core.spans import OTHER_NAMES, PENDING, Book
from aiocarbon._core.supply import QUANTUM, IdleFloor, Increment

S = 1_000_000_000
MS = 1_000_000


def constant(
    power_w: float, begin_s: float, end_s: float, *, device: str = "gpu", step_s: float = 1.0
) -> list[Increment]:
    """Increments of a device that draws one power, at 0.1 g/kJ."""
    count = round((end_s - begin_s) / step_s)
    return [
        Increment(
            device,
            round((begin_s + i * step_s) * S),
            round((begin_s + (i + 1) * step_s) * S),
            power_w * step_s,
            power_w * step_s * 1e-4,
        )
        for i in range(count)
    ]


def joules(part: object) -> float:
    return part.energy_j  # type: ignore[attr-defined,no-any-return]


def named(report: Shares) -> dict[str, NameShare]:
    return {span.name: span for span in report.spans}


def total_j(report: Shares) -> float:
    return math.fsum(joules(span) for span in report.spans) + joules(report.unattributed)


def finished(attribution: Attribution, end_s: float) -> Shares:
    attribution.finish(round(end_s * S))
    return shares_of(attribution, round(end_s * S))


def two_tasks(**fields: object) -> Shares:
    attribution = Attribution(0, **fields)  # type: ignore[arg-type]
    attribution.open(0, 1, "A")
    attribution.open(20 * S, 2, "B")
    attribution.close(40 * S, 1)
    attribution.close(60 * S, 2)
    attribution.supply(constant(300, 0, 60))
    return finished(attribution, 60)


# -- known cases -----------------------------------------------------------------------------------------------


def test_two_tasks_that_overlap_share_evenly() -> None:
    report = two_tasks()
    assert {name: joules(span) for name, span in named(report).items()} == pytest.approx({"A": 9000, "B": 9000})
    assert joules(report.unattributed) == pytest.approx(0, abs=1e-9)
    assert named(report)["A"].co2eq_g == pytest.approx(0.9)
    assert report.policy == "even"


def test_an_idle_floor_is_kept_apart_or_shared() -> None:
    apart = two_tasks(floor_w={"gpu": 50.0})
    assert {name: joules(span) for name, span in named(apart).items()} == pytest.approx({"A": 7500, "B": 7500})
    assert joules(apart.unattributed) == pytest.approx(3000)
    assert joules(apart.idle) == pytest.approx(3000)
    assert apart.idle.co2eq_g == pytest.approx(0.3)
    assert (apart.idle_policy, apart.devices[0].idle_floor_w) == ("kept_apart", 50.0)
    shared = two_tasks(floor_w={"gpu": 50.0}, idle="shared")
    assert {name: joules(span) for name, span in named(shared).items()} == pytest.approx({"A": 9000, "B": 9000})
    assert joules(shared.idle) == pytest.approx(0, abs=1e-9)


def test_a_shared_floor_stays_idle_where_no_span_is_open() -> None:
    attribution = Attribution(0, floor_w={"gpu": 50.0}, idle="shared")
    attribution.open(10 * S, 1, "A")
    attribution.close(20 * S, 1)
    attribution.supply(constant(300, 0, 30))
    report = finished(attribution, 30)
    assert joules(named(report)["A"]) == pytest.approx(3000)
    assert joules(report.idle) == pytest.approx(1000)
    assert joules(report.unattributed) == pytest.approx(6000)


def test_below_its_floor_a_device_has_no_more_than_it_drew() -> None:
    attribution = Attribution(0, floor_w={"gpu": 50.0})
    attribution.open(0, 1, "A")
    attribution.supply([*constant(20, 0, 1), *constant(60, 1, 2)])
    report = finished(attribution, 2)
    assert joules(report.idle) == pytest.approx(70)
    assert joules(named(report)["A"]) == pytest.approx(10)


def test_only_the_innermost_take_shares_and_nothing_counts_twice_in_inclusive_figures() -> None:
    attribution = Attribution(0)
    attribution.open(0, 1, "outer")
    attribution.open(10 * S, 2, "inner", parent=1)
    attribution.open(10 * S, 3, "inner", parent=1)
    attribution.open(20 * S, 4, "outer", parent=2)  # a name inside itself
    attribution.close(30 * S, 4)
    attribution.close(40 * S, 3)
    attribution.close(40 * S, 2)
    attribution.close(50 * S, 1)
    attribution.supply(constant(100, 0, 50))
    spans = named(finished(attribution, 50))
    assert joules(spans["outer"]) == pytest.approx(1000 + 500 + 1000)
    assert joules(spans["inner"]) == pytest.approx(2500)
    assert joules(spans["outer"].inclusive) == pytest.approx(5000)
    assert joules(spans["inner"].inclusive) == pytest.approx(3000)
    assert (spans["outer"].count, spans["outer"].duration_s) == (2, pytest.approx(60))


def test_a_child_that_outlives_its_parent_still_stands_for_it() -> None:
    attribution = Attribution(0)
    attribution.open(0, 1, "grand")
    attribution.open(0, 2, "parent", parent=1)
    attribution.open(10 * S, 3, "child", parent=2)
    attribution.close(20 * S, 2)
    attribution.close(30 * S, 3)
    attribution.close(40 * S, 1)
    attribution.supply(constant(100, 0, 40))
    spans = named(finished(attribution, 40))
    assert {name: joules(span) for name, span in spans.items()} == pytest.approx(
        {"grand": 1000, "parent": 1000, "child": 2000}
    )
    assert joules(spans["parent"].inclusive) == pytest.approx(3000)


def test_weights_split_and_change_on_the_way() -> None:
    attribution = Attribution(0, policy="weight")
    attribution.open(0, 1, "A", weight=3)
    attribution.open(0, 2, "B", weight=1.0)
    attribution.weigh(10 * S, 2, 9)
    attribution.supply(constant(100, 0, 20))
    spans = named(finished(attribution, 20))
    assert (joules(spans["A"]), joules(spans["B"])) == pytest.approx((1000, 1000))


def test_a_span_bound_to_a_device_takes_that_device_and_the_others_share_the_rest() -> None:
    attribution = Attribution(0, policy="device")
    attribution.open(0, 1, "free")
    attribution.open(10 * S, 2, "learner", device="gpu-0")
    attribution.open(10 * S, 3, "step", parent=2)  # where its parent is
    attribution.close(15 * S, 3)
    attribution.close(20 * S, 2)
    for device, power in (("gpu-0", 100), ("gpu-1", 200), ("cpu", 50)):
        attribution.supply(constant(power, 0, 30, device=device))
    report = finished(attribution, 30)
    assert {n: joules(s) for n, s in named(report).items()} == pytest.approx(
        {"free": 350 * 20 + 250 * 10, "learner": 500, "step": 500}
    )
    assert {d.id: (d.spans.energy_j, d.unattributed.energy_j) for d in report.devices} == {
        "gpu-0": (pytest.approx(3000), 0),
        "gpu-1": (pytest.approx(6000), 0),
        "cpu": (pytest.approx(1500), 0),
    }


def test_a_child_on_a_device_leaves_its_parent_the_others() -> None:
    attribution = Attribution(0, policy="device")
    attribution.open(0, 1, "outer")
    attribution.open(0, 2, "kernel", parent=1, device="gpu")
    attribution.supply([*constant(100, 0, 10), *constant(10, 0, 10, device="cpu")])
    spans = named(finished(attribution, 10))
    assert (joules(spans["outer"]), joules(spans["kernel"])) == pytest.approx((100, 1000))


def test_a_span_bound_to_a_device_that_nobody_measures_gets_nothing_and_that_is_told() -> None:
    attribution = Attribution(0, policy="device")
    attribution.open(0, 1, "lost", device="gpu-9")
    attribution.supply(constant(100, 0, 10))
    report = finished(attribution, 10)
    assert joules(named(report)["lost"]) == 0
    assert joules(report.unattributed) == pytest.approx(1000)
    assert any("gpu-9" in note for note in report.notes)


def test_thread_cpu_time_splits_by_what_steps_told() -> None:
    attribution = Attribution(0, policy="cpu")
    for ident, name in ((1, "A"), (2, "B"), (3, "waits")):
        attribution.open(0, ident, name)
    attribution.spend(S // 2, 1, 30_000_000)
    attribution.spend(S // 2 + 1, 2, 10_000_000)
    attribution.close(S // 2 + 2, 2)
    attribution.supply(constant(100, 0, 1))
    attribution.settle(S)
    report = finished(attribution, 1)
    spans = named(report)
    assert {n: joules(s) for n, s in spans.items()} == pytest.approx({"A": 75, "B": 25, "waits": 0})
    assert report.devices[0].spans.energy_j == pytest.approx(100)


def test_a_step_of_many_windows_gets_what_they_held_and_what_no_step_reaches_is_unattributed() -> None:
    attribution = Attribution(0, policy="cpu")
    attribution.open(0, 1, "A")
    attribution.supply(constant(100, 0, 10))
    for second in range(1, 10):
        attribution.settle(second * S)
    attribution.spend(10 * S, 1, 4 * S)
    report = finished(attribution, 10)
    assert joules(named(report)["A"]) == pytest.approx(400)
    assert joules(report.unattributed) == pytest.approx(600)


def test_what_was_held_when_nobody_is_left_to_tell_is_unattributed() -> None:
    attribution = Attribution(0, policy="cpu")
    attribution.open(0, 1, "silent")
    attribution.close(5 * S, 1)
    attribution.supply(constant(100, 0, 10))
    attribution.settle(6 * S)
    attribution.open(6 * S, 2, "late")
    attribution.spend(7 * S, 2, 5 * S)
    report = finished(attribution, 10)
    assert joules(named(report)["late"]) == pytest.approx(400)
    assert joules(report.unattributed) == pytest.approx(600)


def test_what_code_outside_of_spans_took_is_unattributed() -> None:
    attribution = Attribution(0, policy="cpu")
    attribution.open(0, 1, "A")
    attribution.open(0, 2, "B")
    attribution.tell([(S, SPEND, 0, 50_000_000), (S, SPEND, 1, 30_000_000), (S, SPEND, 2, 20_000_000)])
    attribution.supply(constant(100, 0, 1))
    report = finished(attribution, 1)
    assert {n: joules(s) for n, s in named(report).items()} == pytest.approx({"A": 30, "B": 20})
    assert joules(report.unattributed) == pytest.approx(50)
    assert report.devices[0].spans.energy_j == pytest.approx(50)


def test_code_outside_of_spans_alone_lets_a_longer_step_reach_back() -> None:
    attribution = Attribution(0, policy="cpu")
    attribution.open(0, 1, "A")
    attribution.supply(constant(100, 0, 3))
    for second in (1, 2):
        attribution.tell([(second * S, SPEND, 0, 1_000)])
        attribution.settle(second * S)
    attribution.spend(3 * S, 1, 3 * S - 1)
    assert joules(named(finished(attribution, 3))["A"]) == pytest.approx(300)


def test_the_idle_floor_is_the_least_mean_of_five_quiet_seconds() -> None:
    attribution = Attribution(0)
    attribution.supply([*constant(80, 0, 6), *constant(40, 6, 9), *constant(60, 9, 20)])
    attribution.settle(20 * S)
    assert attribution.supplied.floor.floor_w("gpu") == pytest.approx((40 * 3 + 60 + 80) / 5)
    attribution.open(20 * S, 1, "A")
    attribution.supply([*constant(10, 20, 26), *constant(152, 26, 36)])
    report = finished(attribution, 36)
    assert attribution.supplied.floor.floor_w("gpu") == pytest.approx(52)  # nothing is learnt while a span is open
    assert joules(named(report)["A"]) == pytest.approx(1000)


def test_a_second_with_a_short_span_in_it_is_not_quiet() -> None:
    attribution = Attribution(0)
    attribution.open(3 * S + S // 2, 1, "A")
    attribution.close(3 * S + S // 2 + MS, 1)
    attribution.supply(constant(80, 0, 8))
    attribution.settle(8 * S)
    assert attribution.supplied.floor.floor_w("gpu") is None


def test_quiet_seconds_that_do_not_touch_are_no_stretch() -> None:
    floor = IdleFloor()
    floor.see("gpu", 0, 3 * S, 3.0)
    floor.see("gpu", 4 * S, 7 * S, 3.0)
    assert floor.floor_w("gpu") is None
    floor.see("gpu", 7 * S, 9 * S, 17.0)
    assert floor.floor_w("gpu") == pytest.approx(4.0)


# -- bad input and bad days ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [-1, 0, math.nan, math.inf, 1e13, 1e-7, True, "3", None, 1j])
def test_a_weight_that_cannot_be_is_refused_with_what_is_accepted(weight: object) -> None:
    attribution = Attribution(0, policy="weight")
    with pytest.raises(ValueError, match=r"expected a number from 1e-06 to 1e\+12"):
        attribution.weigh(0, 1, weight)  # type: ignore[arg-type]
    if weight is not None:
        with pytest.raises(ValueError, match="expected a number"):
            attribution.open(0, 1, "A", weight=weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [-1.0, math.nan, 1e13])
def test_a_bad_weight_that_comes_through_weighs_one_and_that_is_told(weight: float) -> None:
    attribution = Attribution(0, policy="weight")
    attribution.tell(
        [(0, OPEN, 1, "A", 0, weight, "", (), ""), (0, OPEN, 2, "B", 0, 1.0, "", (), ""), (1, WEIGH, 1, weight)]
    )
    attribution.supply(constant(100, 0, 10))
    report = finished(attribution, 10)
    assert joules(named(report)["A"]) == pytest.approx(500)
    assert any(note.startswith("2 weights") for note in report.notes)


def test_other_arguments_that_cannot_be_are_refused() -> None:
    for fields, words in (
        ({"policy": "fair"}, '"even", "weight", "device", "cpu"'),
        ({"idle": "hidden"}, '"kept_apart", "shared"'),
        ({"floor_w": {"gpu": -1.0}}, "finite and >= 0"),
        ({"floor_w": {"gpu": math.nan}}, "finite and >= 0"),
    ):
        with pytest.raises(ValueError, match=words):
            Attribution(0, **fields)  # type: ignore[arg-type]
    for name in ("", 3, None):
        with pytest.raises(ValueError, match="1 to 200 characters"):
            Attribution(0).open(0, 1, name)  # type: ignore[arg-type]
    for told in (
        Increment("gpu", 0, 1, math.nan, 0.0),
        Increment("gpu", 0, 1, -1.0, 0.0),
        Increment("gpu", 0, 1, 1.0, math.inf),
        Increment("gpu", 0, 1, 1.0, 0.0, -5.0),
        Increment("gpu", 2, 1, 1.0, 0.0),
    ):
        with pytest.raises(ValueError, match="gpu"):
            Attribution(0).supply([told])


@pytest.mark.parametrize("amount", [-1, math.nan, math.inf, "5", None, True])
def test_cpu_time_that_cannot_be_is_refused(amount: object) -> None:
    attribution = Attribution(0, policy="cpu")
    with pytest.raises(ValueError, match="finite and >= 0"):
        attribution.spend(0, 1, amount)  # type: ignore[arg-type]


def test_cpu_time_told_of_spans_that_are_not_open_or_in_bad_form_is_counted() -> None:
    attribution = Attribution(0, policy="cpu")
    attribution.open(0, 1, "A")
    attribution.tell([(1, SPEND, 1, -5), (1, SPEND, 9, 5), (2, SPEND, 1, S)])
    attribution.close(2, 1)
    attribution.supply(constant(100, 0, 1))
    report = finished(attribution, 1)
    assert total_j(report) == pytest.approx(100)
    assert {note.split(" were ")[0] for note in report.notes if note[0].isdigit()} >= {"1 edges"}
    assert any(note.startswith("1 weights or amounts") for note in report.notes)


def test_spans_bound_to_more_devices_than_there_can_be_count_as_bound_to_none() -> None:
    attribution = Attribution(0, policy="device")
    for i in range(MAX_DEVICES + 5):
        attribution.open(0, i + 1, "A", device=f"gpu-{i}")
    attribution.supply(constant(100, 0, 1, device="cpu"))
    report = finished(attribution, 1)
    assert joules(named(report)["A"]) == pytest.approx(100)
    assert any("5 count as bound to none" in note for note in report.notes)


def test_weights_asked_for_and_never_told_split_evenly_and_say_so() -> None:
    report = two_tasks(policy="weight")
    assert {name: joules(span) for name, span in named(report).items()} == pytest.approx({"A": 9000, "B": 9000})
    assert any("no span told a weight: split evenly" in note for note in report.notes)


def test_a_span_closed_twice_or_opened_twice_or_never_opened_changes_nothing() -> None:
    attribution = Attribution(0)
    for t in (10, 11, 12):
        attribution.close(t * S, 1)
    attribution.open(0, 1, "A")
    attribution.open(5 * S, 1, "A again")
    attribution.close(3 * S, 77)
    attribution.weigh(3 * S, 78, 1.0)
    attribution.supply(constant(100, 0, 20))
    report = finished(attribution, 20)
    assert {name: joules(span) for name, span in named(report).items()} == pytest.approx({"A": 1000})
    assert any(note.startswith("5 edges were of spans") for note in report.notes)


def test_a_parent_that_is_not_open_is_told_and_the_span_stands_for_itself() -> None:
    attribution = Attribution(0)
    attribution.open(0, 5, "A", parent=4)
    attribution.supply(constant(100, 0, 10))
    report = finished(attribution, 10)
    assert joules(named(report)["A"]) == pytest.approx(1000)
    assert any("that was not open" in note for note in report.notes)


def test_a_span_that_outlives_the_end_counts_up_to_it() -> None:
    attribution = Attribution(0)
    attribution.open(2 * S, 1, "A")
    attribution.supply(constant(100, 0, 10))
    report = finished(attribution, 10)
    assert (joules(named(report)["A"]), named(report)["A"].duration_s) == pytest.approx((800, 8))
    assert named(report)["A"].open == 0
    assert any("still open at the end" in note for note in report.notes)


def test_open_spans_count_up_to_now() -> None:
    attribution = Attribution(0)
    attribution.open(2 * S, 1, "A")
    attribution.open(5 * S, 2, "B", parent=1)
    attribution.supply(constant(100, 0, 10))
    attribution.settle(10 * S)
    for _ in range(2):  # asking changes nothing
        report = shares_of(attribution, 11 * S)
        a, b = named(report)["A"], named(report)["B"]
        assert (a.count, a.open, a.duration_s, joules(a)) == (1, 1, 9, pytest.approx(300))
        assert (joules(b), joules(a.inclusive)) == pytest.approx((500, 800))
        assert a.durations_s.mean is None
        assert a.energies_j.p50 is None
        assert total_j(report) == pytest.approx(1000)


def test_a_name_of_ten_thousand_characters_is_cut() -> None:
    attribution = Attribution(0)
    attribution.open(0, 1, "x" * 10_000)
    attribution.open(0, 2, "x" * 9_999)
    report = finished(attribution, 1)
    assert [(span.name, span.count) for span in report.spans] == [("x" * MAX_NAME, 2)]
    assert any("were cut" in note for note in report.notes)


def test_names_above_the_limit_fold_and_that_is_told() -> None:
    attribution = Attribution(0, book=Book(max_names=10))
    for i in range(1000):
        attribution.open(i, i + 1, f"name-{i}")
        attribution.open(i, i + 10_001, "child", parent=i + 1)
        attribution.close(i + 1, i + 10_001)
        attribution.close(i + 2, i + 1)
    attribution.supply(constant(100, 0, 1))
    report = finished(attribution, 1)
    assert len(report.spans) == 11
    assert named(report)[OTHER_NAMES].count == 2000 - 10 - 999
    assert any("there were more than 10 names" in note for note in report.notes)
    assert total_j(report) == pytest.approx(100)


def test_ways_of_nesting_above_the_limit_keep_the_own_figures() -> None:
    attribution = Attribution(0, book=Book(max_paths=5))
    for i in range(50):
        attribution.open(i, 2 * i + 1, f"name-{i % 10}")
        attribution.open(i, 2 * i + 2, f"child-{i % 10}", parent=2 * i + 1)
    attribution.supply(constant(100, 0, 1))
    report = finished(attribution, 1)
    assert len(report.spans) == 20
    assert any("too many ways of nesting" in note for note in report.notes)
    assert total_j(report) == pytest.approx(100)


def test_a_chain_of_spans_each_opened_in_the_one_before_keeps_no_closed_ones() -> None:
    attribution = Attribution(0)
    for i in range(1, 1000):
        attribution.open(i * MS, i, "link", parent=i - 1)
        attribution.close(i * MS + MS // 2, i - 1)
    attribution.settle(S)
    (last,) = attribution.open_spans()
    around = last.parent
    assert around is None or (not around.is_open and around.parent is None)


def test_a_span_of_no_length_used_nothing() -> None:
    attribution = Attribution(0)
    attribution.close(5 * S, 1)
    attribution.open(5 * S, 1, "A")
    attribution.supply(constant(100, 0, 10))
    span = named(finished(attribution, 10))["A"]
    assert (span.count, span.open, span.duration_s, joules(span), span.durations_s.p95) == (1, 0, 0, 0, 0)


def test_edges_that_come_after_their_time_was_settled_are_cut_there_and_counted() -> None:
    attribution = Attribution(0)
    attribution.open(0, 1, "A")
    attribution.supply(constant(100, 0, 20))
    attribution.settle(10 * S)
    attribution.close(6 * S, 1)
    attribution.open(4 * S, 2, "B")
    report = finished(attribution, 20)
    assert (joules(named(report)["A"]), joules(named(report)["B"])) == pytest.approx((1000, 1000))
    assert named(report)["A"].duration_s == 6
    assert any(note.startswith("2 edges came after") for note in report.notes)


def test_an_end_that_is_settled_before_its_begin_comes_leaves_no_open_span() -> None:
    attribution = Attribution(0)
    attribution.close(6 * S, 1)
    attribution.supply(constant(100, 0, 20))
    attribution.settle(10 * S)
    attribution.open(2 * S, 1, "A")
    attribution.settle(11 * S)
    assert not list(attribution.open_spans())
    report = finished(attribution, 20)
    assert (named(report)["A"].duration_s, joules(named(report)["A"])) == (4, 0)
    assert not any("were of spans that were not open" in note for note in report.notes)


def test_a_late_end_is_taken_also_where_no_time_is_left_to_settle() -> None:
    attribution = Attribution(0)
    attribution.open(0, 1, "A")
    attribution.settle(10 * S)
    attribution.close(9 * S, 1)
    report = finished(attribution, 10)
    assert named(report)["A"].duration_s == 9
    assert not any("still open" in note for note in report.notes)


def test_energy_that_comes_after_its_time_was_settled_is_unattributed() -> None:
    attribution = Attribution(0)
    attribution.open(0, 1, "A")
    attribution.supply(constant(100, 0, 10))
    attribution.settle(10 * S)
    attribution.supply([Increment("dram", 5 * S, 15 * S, 100.0, 0.1), Increment("dram", 3 * S, 3 * S, 7.0, 0.0)])
    attribution.supply(constant(100, 10, 20))
    report = finished(attribution, 20)
    assert joules(named(report)["A"]) == pytest.approx(2000 + 50)
    assert joules(report.unattributed) == pytest.approx(57)
    assert any(note.startswith("57 J came after") for note in report.notes)


def test_a_lost_device_leaves_the_others_as_they_are() -> None:
    attribution = Attribution(0)
    attribution.open(0, 1, "A")
    attribution.supply([*constant(100, 0, 5), *constant(10, 0, 20, device="cpu")])
    report = finished(attribution, 20)
    assert joules(named(report)["A"]) == pytest.approx(700)
    assert {d.id: d.energy_j for d in report.devices} == pytest.approx({"gpu": 500, "cpu": 200})


def test_without_any_energy_there_are_lengths_and_no_joules() -> None:
    attribution = Attribution(0)
    attribution.open(0, 1, "A")
    report = finished(attribution, 20)
    assert (named(report)["A"].duration_s, joules(named(report)["A"]), report.resolution_s) == (20, 0, None)


def test_short_spans_are_below_resolution_and_long_ones_are_not() -> None:
    attribution = Attribution(0)
    for i in range(10):
        attribution.open(i * S, i + 1, "short")
        attribution.close(i * S + S // 2, i + 1)
    attribution.open(0, 100, "long")
    attribution.supply(constant(100, 0, 10))
    report = finished(attribution, 10)
    assert report.resolution_s == pytest.approx(1)
    assert named(report)["short"].below_resolution
    assert not named(report)["long"].below_resolution


def test_spans_with_tags_are_told_by_their_tags_too() -> None:
    attribution = Attribution(0)
    one, two = (("actor", "1"),), (("actor", "2"),)
    attribution.open(0, 1, "rollout", tags=one)
    attribution.open(0, 2, "rollout", tags=two)
    attribution.open(0, 3, "update")
    attribution.open(10 * S, 4, "forward", parent=2)
    attribution.close(20 * S, 4)
    attribution.close(20 * S, 1)
    attribution.supply(constant(300, 0, 40))
    attribution.settle(40 * S)
    report = shares_of(attribution, 40 * S)
    rollout = named(report)["rollout"]
    told = {tags.tags["actor"]: (tags.count, tags.duration_s, tags.energy_j) for tags in rollout.by_tags}
    assert told == {"1": (1, 20, pytest.approx(2000)), "2": (1, 40, pytest.approx(1000 + 3000))}
    assert joules(rollout) == pytest.approx(6000)
    assert rollout.inclusive.energy_j == pytest.approx(7000)
    assert named(report)["update"].by_tags == ()


def test_tags_above_the_limit_fold_into_their_name_and_that_is_told() -> None:
    attribution = Attribution(0, book=Book(max_paths=3))
    for i in range(10):
        attribution.open(i * S, i + 1, "A", tags=(("i", str(i)),))
        attribution.close((i + 1) * S, i + 1)
    attribution.supply(constant(100, 0, 10))
    report = finished(attribution, 10)
    span = named(report)["A"]
    assert (span.count, joules(span)) == (10, pytest.approx(1000))
    assert len(span.by_tags) == 3
    assert any("too many" in note for note in report.notes)


def test_an_owner_has_the_energy_of_its_spans_and_of_those_inside() -> None:
    attribution = Attribution(0)
    attribution.open(0, 1, "act", owner="a")
    attribution.open(0, 2, "act", owner="b")
    attribution.open(10 * S, 3, "forward", parent=1)
    attribution.tally(5 * S, 101, "a")
    attribution.tally(15 * S, 102, "a")
    attribution.tally(15 * S, 103, "nobody")
    attribution.close(20 * S, 3)
    attribution.close(20 * S, 1)
    attribution.close(40 * S, 2)
    attribution.tally(30 * S, 104, "a")
    attribution.supply(constant(100, 0, 40))
    report = finished(attribution, 40)
    assert {owner.name: (owner.energy_j, owner.count) for owner in report.owners} == {
        "a": (pytest.approx(1000), 2),
        "b": (pytest.approx(3000), 1),
    }
    tallied = {ident: sums.energy * QUANTUM for ident, sums in attribution.tallies.items()}
    assert tallied == pytest.approx({101: 250, 102: 750, 103: 0, 104: 1000})


def test_an_owner_s_cpu_time_is_tallied_where_a_window_ends() -> None:
    attribution = Attribution(0, policy="cpu")
    attribution.open(0, 1, "act", owner="a")
    attribution.spend(10 * S, 1, 10 * S)
    attribution.tally(10 * S, 7, "a")
    attribution.close(20 * S, 1)
    attribution.supply(constant(100, 0, 20))
    attribution.settle(10 * S)
    assert attribution.tallies.pop(7).energy * QUANTUM == pytest.approx(1000)
    attribution.finish(20 * S)
    assert shares_of(attribution, 20 * S).owners[0].energy_j == pytest.approx(1000)


def test_sums_stay_exact_beside_what_weeks_have_added_up() -> None:
    attribution = Attribution(0)
    attribution.open(0, 1, "whole")
    week = 700_000
    attribution.supply([Increment("gpu", 0, week * S, 1e3 * week, 0.0)])
    attribution.supply([Increment("gpu", week * S, week * S + 1000, 1e-3, 0.0)])
    attribution.open(week * S + 100, 2, "short", parent=1)
    attribution.close(week * S + 200, 2)
    attribution.settle(week * S + 1000)
    report = shares_of(attribution, week * S + 1000)
    assert joules(named(report)["short"]) == pytest.approx(1e-4, rel=1e-12)


# -- laws ------------------------------------------------------------------------------------------------------

DEVICES = ("gpu-0", "gpu-1", "cpu")
END = 10 * S
instants = st.integers(0, 60).map(lambda tick: tick * 100 * MS)


class Told(NamedTuple):
    """A span as it is drawn; `parent` is an earlier one's index or -1."""

    begin: int
    length: int
    parent: int
    weight: float
    device: str
    name: str

    @property
    def end(self) -> int:
        return self.begin + self.length


@st.composite
def told_spans(draw: st.DrawFn) -> list[Told]:
    weights = st.sampled_from([1e-6, 0.3, 1.0, 7.0, 1e6, 1e12])
    count = draw(st.integers(0, 12))
    return [
        Told(
            draw(instants),
            draw(instants) // 2,
            draw(st.integers(-1, i - 1)),
            draw(weights),
            draw(st.sampled_from(["", "", *DEVICES])),
            draw(st.sampled_from("abc")),
        )
        for i in range(count)
    ]


policies = st.sampled_from(["even", "weight", "device"])
idles = st.sampled_from(["kept_apart", "shared"])
powers = st.one_of(st.just(0.0), st.floats(1e-3, 1e4))
told_increments = st.tuples(
    *(
        st.lists(st.tuples(instants.map(lambda t: t // 2 + MS), powers, st.floats(0, 1e3), powers), max_size=6).map(
            lambda rows, device=device: [  # type: ignore[misc]
                Increment(device, begin, begin + length, power * length / S, g * length / S, floor)
                for (length, power, g, floor), begin in zip(
                    rows, itertools.accumulate((row[0] for row in rows), initial=0), strict=False
                )
            ]
        )
        for device in DEVICES
    )
).map(lambda lists: [row for rows in lists for row in rows])


def edges_of(spans: list[Told]) -> list[tuple[object, ...]]:
    edges: list[tuple[object, ...]] = []
    for i, span in enumerate(spans):
        edges.append((span.begin, OPEN, i + 1, span.name, span.parent + 1, span.weight, span.device, (), ""))
        edges.append((span.end, CLOSE, i + 1))
    return edges


class Model:
    """The same by brute force: every interval between instants, every span, every device."""

    def __init__(self, spans: list[Told], policy: str, idle: str, increments: list[Increment]) -> None:
        self.spans = spans
        self.policy = policy
        self.parents: list[int] = []
        self.devices: list[str] = []
        for span in spans:
            parent = span.parent
            if parent >= 0 and not spans[parent].begin <= span.begin <= spans[parent].end:
                parent = -1
            self.parents.append(parent)
            inherited = self.devices[parent] if parent >= 0 else ""
            self.devices.append((span.device or inherited) if policy == "device" else "")
        self.own = [0.0] * len(spans)
        self.own_g = [0.0] * len(spans)
        self.idle = self.unowned = self.all = 0.0
        instants = sorted({x for s in spans for x in (s.begin, s.end)} | {x for i in increments for x in i[1:3]})
        for a, b in itertools.pairwise(instants):
            for row in increments:
                if row.begin_ns <= a and b <= row.end_ns:
                    self._split(row, a, b, idle)

    def around(self, i: int) -> list[int]:
        chain = []
        while (i := self.parents[i]) >= 0:
            chain.append(i)
        return chain

    def _split(self, row: Increment, a: int, b: int, idle: str) -> None:
        share = (b - a) / (row.end_ns - row.begin_ns)
        energy, co2eq = row.energy_j * share, row.co2eq_g * share
        floor = min((row.floor_w or 0.0) * (b - a) / S, energy)
        self.all += energy
        is_open = [i for i, s in enumerate(self.spans) if s.begin <= a and b <= s.end]
        bound = [i for i in is_open if self.devices[i] == row.device]
        group = bound or [i for i in is_open if not self.devices[i]]
        covered = {j for i in group for j in self.around(i)}
        takers = [i for i in group if i not in covered]
        weights = {i: self.spans[i].weight if self.policy == "weight" else 1.0 for i in takers}
        if idle == "kept_apart" or not takers:
            self.idle += floor
        if not takers:
            self.unowned += energy - floor
            return
        rest = energy - floor if idle == "kept_apart" else energy
        rest_g = co2eq * (rest / energy if energy else 1.0)
        for i in takers:
            self.own[i] += rest * weights[i] / math.fsum(weights.values())
            self.own_g[i] += rest_g * weights[i] / math.fsum(weights.values())


def tolerance(increments: list[Increment]) -> dict[str, float]:
    """1e-9 of a figure, and the rounding of the whole: a part may be the difference of a power and an equal floor."""
    return {"rel": 1e-9, "abs": 1e-18 + 1e-12 * math.fsum(i.energy_j + i.co2eq_g for i in increments)}


@given(
    told_spans(),
    told_increments,
    st.sampled_from(["even", "weight", "device"]),
    st.sampled_from(["kept_apart", "shared"]),
)
@settings(max_examples=150, deadline=None)
def test_shares_are_those_of_a_split_interval_by_interval(
    spans: list[Told], increments: list[Increment], policy: str, idle: str
) -> None:
    model = Model(spans, policy, idle, increments)
    attribution = Attribution(0, policy=policy, idle=idle)
    attribution.tell(edges_of(spans))
    attribution.supply(increments)
    attribution.finish(max([END, *(i.end_ns for i in increments)]))
    report = shares_of(attribution, END)
    found = named(report)
    near = tolerance(increments)
    for name in {span.name for span in spans}:
        own = [i for i, s in enumerate(spans) if s.name == name]
        inside = [i for i in range(len(spans)) if name in {spans[j].name for j in (i, *model.around(i))}]
        assert found[name].count == len(own)
        assert joules(found[name]) == pytest.approx(math.fsum(model.own[i] for i in own), **near)
        assert found[name].co2eq_g == pytest.approx(math.fsum(model.own_g[i] for i in own), **near)
        inclusive = found[name].inclusive
        assert joules(inclusive) == pytest.approx(math.fsum(model.own[i] for i in inside), **near)
        assert inclusive.co2eq_g == pytest.approx(math.fsum(model.own_g[i] for i in inside), **near)
    assert joules(report.idle) == pytest.approx(model.idle, **near)
    assert total_j(report) == pytest.approx(model.all, **near)
    for device in report.devices:
        parts = device.idle.energy_j + device.spans.energy_j + device.unattributed.energy_j
        measured = math.fsum(i.energy_j for i in increments if i.device == device.id)
        assert (parts, device.energy_j) == pytest.approx((measured, measured), **near)
        parts_g = device.idle.co2eq_g + device.spans.co2eq_g + device.unattributed.co2eq_g
        measured_g = math.fsum(i.co2eq_g for i in increments if i.device == device.id)
        assert (parts_g, device.co2eq_g) == pytest.approx((measured_g, measured_g), **near)
        assert min(device.idle.co2eq_g, device.spans.co2eq_g, device.unattributed.co2eq_g) >= 0.0
        assert min(device.idle.energy_j, device.spans.energy_j, device.unattributed.energy_j) >= 0.0
    assert math.fsum(d.spans.energy_j for d in report.devices) == pytest.approx(
        math.fsum(joules(span) for span in report.spans), **near
    )
    assert math.fsum(d.spans.co2eq_g for d in report.devices) == pytest.approx(
        math.fsum(span.co2eq_g for span in report.spans), **near
    )
    assert math.fsum(span.co2eq_g for span in report.spans) + report.unattributed.co2eq_g == pytest.approx(
        math.fsum(i.co2eq_g for i in increments), **near
    )


def figures(report: Shares) -> dict[str, object]:
    told = {span.name: dataclasses.astuple(span) for span in report.spans}
    return {**told, "": dataclasses.astuple(report.unattributed), "devices": sorted(report.devices, key=lambda d: d.id)}


@given(
    told_spans(),
    told_increments,
    st.sampled_from(["even", "weight", "device"]),
    st.integers(0, 2**32),
    st.integers(1, 9),
)
@settings(max_examples=150, deadline=None)
def test_neither_the_order_of_arrival_nor_slices_matter(
    spans: list[Told], increments: list[Increment], policy: str, seed: int, at_most: int
) -> None:
    end = max([END, *(i.end_ns for i in increments)])
    one = Attribution(0, policy=policy)
    one.tell(edges_of(spans))
    one.supply(increments)
    one.finish(end)
    other = Attribution(0, policy=policy)
    edges = edges_of(spans)
    random.Random(seed).shuffle(edges)
    random.Random(seed).shuffle(increments)
    other.supply(increments)
    other.tell(edges)
    while other.settle(end, at_most):
        other.tell([])
    other.finish(end)
    assert figures(shares_of(other, end)) == figures(shares_of(one, end))


@given(
    told_spans(),
    told_increments,
    st.sampled_from(["even", "weight", "device", "cpu"]),
    st.lists(st.integers(1, END), max_size=9),
)
@settings(max_examples=150, deadline=None)
def test_settling_often_or_once_makes_the_same_sums(
    spans: list[Told], increments: list[Increment], policy: str, stops: list[int]
) -> None:
    end = max([END, *(i.end_ns for i in increments)])
    measured = math.fsum(i.energy_j for i in increments)
    near = tolerance(increments)
    found = []
    for instants in ([], sorted(stops)):
        attribution = Attribution(0, policy=policy)
        attribution.tell(edges_of(spans))
        for i, span in enumerate(spans):
            attribution.spend(span.begin + span.length // 2, i + 1, span.length // 3)
        attribution.supply(increments)
        for instant in instants:
            attribution.settle(instant)
            assert total_j(shares_of(attribution, instant)) <= measured * (1 + 1e-9) + near["abs"]
        attribution.finish(end)
        report = shares_of(attribution, end)
        assert total_j(report) == pytest.approx(measured, **near)
        found.append({span.name: joules(span) for span in report.spans})
    if policy != "cpu":  # there a window is what is split
        assert found[0] == pytest.approx(found[1], **near)


# -- quantiles -------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e12, allow_subnormal=False), min_size=1, max_size=300), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_a_quantile_is_within_its_stated_error_of_the_value_at_its_rank(values: list[float], q: float) -> None:
    sketch = Quantiles()
    for some in itertools.batched(values, 7) if hasattr(itertools, "batched") else [values]:
        sketch.add(some)
    true = sorted(values)[math.floor(q * (len(values) - 1))]
    found = sketch.quantile(q)
    assert found is not None
    assert abs(found - true) <= sketch.error * true * (1 + 1e-12)
    assert sketch.count == len(values)
    assert sketch.mean == pytest.approx(math.fsum(values) / len(values))
    assert len(sketch) <= MOST_BUCKETS


def test_many_magnitudes_stay_in_bounded_memory_at_a_larger_stated_error() -> None:
    sketch = Quantiles()
    rnd = random.Random(7)
    values = [10.0 ** rnd.uniform(-9, 9) for _ in range(20_000)]
    assert Quantiles().quantile(0.5) is None
    sketch.add(values)
    assert len(sketch) <= MOST_BUCKETS
    assert sketch.error <= 1 / 16
    for q in (0.0, 0.05, 0.5, 0.95, 1.0):
        assert sketch.quantile(q) == pytest.approx(sorted(values)[math.floor(q * 19_999)], rel=sketch.error)


def test_the_quantiles_of_a_name_are_those_of_its_spans() -> None:
    attribution = Attribution(0)
    count = PENDING * 4 + 1
    for i in range(count):
        attribution.open(i * S, i + 1, "A")
        attribution.close(i * S + (i + 1) * 10**5, i + 1)
    attribution.supply([Increment("gpu", 0, count * S, 100.0 * count, 0.0)])
    span = named(finished(attribution, count))["A"]
    assert span.durations_s.mean == pytest.approx((count + 1) / 2 * 1e-4)
    assert span.durations_s.p50 == pytest.approx(count / 2 * 1e-4, rel=0.005)
    assert span.durations_s.p95 == pytest.approx(count * 0.95 * 1e-4, rel=0.005)
    assert span.energies_j.p95 == pytest.approx(count * 0.95 * 1e-2, rel=0.005)
    assert 0 < span.energies_j.error <= 1 / 128
