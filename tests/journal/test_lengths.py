"""The parts of a run add up in time as they do in joules, whatever its processes marked at which time."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon._core.report import Quantities, RunReport
from aiocarbon.journal import load
from aiocarbon.journal.lengths import without
from aiocarbon.journal.sums import union_ns, united
from tests.journal.test_cluster import Process, conserved, joules, start, the_run

WATTS = 100
LAST = 600


def parts_of(run: RunReport) -> list[Quantities]:
    return [*run.epochs, run.outside, *([run.rework] if run.rework is not None else [])]


def add_up(run: RunReport, watts: float = WATTS) -> None:
    """All time of the run is in one part of it, each of which drew what the machine draws."""
    assert sum(part.duration_s for part in parts_of(run)) == pytest.approx(run.duration_s, abs=1e-6)
    for part in parts_of(run):
        assert joules(part) == pytest.approx(watts * part.duration_s, abs=1e-3)
        assert part.power_w is None or part.power_w == pytest.approx(watts)


def epochs(*marks: int, first: int = 0) -> list[tuple[int, int, int]]:
    return [(first + i, a, b) for i, (a, b) in enumerate(itertools.pairwise(marks))]


@st.composite
def worlds(draw: st.DrawFn) -> list[Process]:
    """Processes of one machine that draws the same all the time: ranks, restarts, what was put around them."""
    found = []
    for pid in range(1, draw(st.integers(2, 6))):
        begin, end = sorted(draw(st.lists(st.integers(0, LAST), min_size=2, max_size=2, unique=True)))
        marks = sorted(draw(st.sets(st.integers(begin, end), max_size=5)))
        made = epochs(*marks, first=draw(st.integers(0, 2)))
        restart = draw(st.sampled_from([None, None, 0, 1]))
        found.append(
            Process(
                pid=pid, begin=begin, end=end, watts=(WATTS,), epochs=made,
                partial=[index for index, *_ in made[-1:] if draw(st.booleans())],
                ended=draw(st.sampled_from([True, False, None])),
                who=start(draw(st.sampled_from("abc")), restart, resumes=draw(st.booleans())),
            )
        )  # fmt: skip
    return found


def told(world: Sequence[Process]) -> RunReport:
    with tempfile.TemporaryDirectory() as name:
        return the_run(Path(name), *world, replace(world[0], pid=99))  # of two at least


@settings(deadline=None)
@given(worlds())
def test_the_parts_of_a_machine_s_run_have_its_time_and_its_power(world: list[Process]) -> None:
    add_up(told(world))


@settings(deadline=None)
@given(worlds())
def test_a_machine_that_does_the_same_beside_it_changes_no_epoch_s_length(world: list[Process]) -> None:
    one = told(world)
    two = told([*world, *(replace(process, host="n2", boot="b2") for process in world)])
    assert [epoch.duration_s for epoch in two.epochs] == [epoch.duration_s for epoch in one.epochs]
    assert [joules(epoch) for epoch in two.epochs] == pytest.approx([2 * joules(epoch) for epoch in one.epochs])


def test_ranks_that_are_apart_share_the_time_of_their_machine(tmp_path: Path) -> None:
    world = [
        Process(pid=1, end=300, epochs=epochs(0, 100, 200, 300), who=start("a")),
        Process(pid=2, begin=50, end=350, epochs=epochs(50, 150, 250, 350), who=start("a")),
    ]
    run = the_run(tmp_path, *world)
    add_up(run)
    assert [epoch.duration_s for epoch in run.epochs] == [100.0, 100.0, 150.0]
    assert run.outside.duration_s == 0.0


def test_a_restart_did_no_more_again_than_the_first_try_took(tmp_path: Path) -> None:
    first = [
        Process(pid=1, end=240, epochs=epochs(0, 100, 200), ended=None, who=start("a.0", None)),
        Process(pid=2, begin=50, end=240, epochs=epochs(50, 150), ended=None, who=start("a.0", None)),
    ]
    second = [
        Process(pid=3, begin=300, end=600, epochs=epochs(300, 400, 500, 600), who=start("a.1", None)),
        Process(pid=4, begin=350, end=650, epochs=epochs(350, 450, 550, 650), who=start("a.1", None)),
    ]
    run = the_run(tmp_path, *first, *second)
    add_up(run)
    assert run.rework is not None
    assert run.rework.duration_s == pytest.approx(240.0)
    assert [epoch.duration_s for epoch in run.epochs] == [100.0, 100.0, 150.0]


def test_processes_that_go_on_with_a_run_at_one_time_have_an_epoch_in_turn(tmp_path: Path) -> None:
    who: list[dict[str, Any]] = [{"attempt": name, "resumes": name != "a"} for name in "abc"]
    world = [
        Process(pid=1, end=100, epochs=epochs(0, 50, 100), ended=None, who=who[0]),
        Process(pid=2, begin=110, end=210, epochs=epochs(110, 160, 210, first=2), who=who[1]),
        Process(pid=3, begin=150, end=260, epochs=epochs(160, 210, 260, first=2), who=who[2]),
    ]
    run = the_run(tmp_path, *world)
    add_up(run)
    assert [epoch.duration_s for epoch in run.epochs] == [50.0, 50.0, 50.0, 100.0]


def test_steps_of_a_job_that_measure_a_device_each_had_their_epochs_together(tmp_path: Path) -> None:
    """Their devices are two, which is told by their names: the machine has both their joules in the time of each."""
    world = [
        Process(host="n1", boot=f"b{n}", pid=n, end=300, epochs=epochs(0, 100, 200), who=start(f"step-{n}"))
        for n in (1, 2)
    ]
    run = the_run(tmp_path, *world)
    add_up(run, 2 * WATTS)
    assert [epoch.duration_s for epoch in run.epochs] == [100.0, 100.0]


def test_where_nothing_was_told_an_epoch_is_as_long_as_its_process_says(tmp_path: Path) -> None:
    made = epochs(100, 200, 300)
    blind = Process(pid=1, devices=0, epochs=made, end=590, who=start("a"))
    run = the_run(tmp_path / "around", blind, Process(pid=2, begin=0, end=600, who=start("b")))
    assert [(epoch.duration_s, joules(epoch)) for epoch in run.epochs] == [(100.0, 0.0)] * 2
    assert run.outside.duration_s == pytest.approx(400.0)
    alone = the_run(tmp_path / "beside", replace(blind, end=400), Process(host="n2", boot="b2", pid=2, end=400))
    assert [epoch.duration_s for epoch in alone.epochs] == [100.0] * 2


@pytest.mark.parametrize("clock", [400, -400])
def test_a_wall_clock_that_is_set_between_two_processes_changes_no_length(tmp_path: Path, clock: int) -> None:
    first = Process(pid=1, end=300, epochs=epochs(0, 100), who=start("a"))
    run = the_run(tmp_path, first, Process(pid=2, begin=200, end=500, clock=clock, who=start("a")))
    add_up(run)
    assert (run.duration_s, run.power_w) == (pytest.approx(500.0), pytest.approx(WATTS))


def test_who_measures_nothing_is_there_for_as_long_as_it_is(tmp_path: Path) -> None:
    """A process without a meter before, beside and behind one that has one: no second of it is lost."""
    blind = Process(pid=1, devices=0, end=400, who=start("a"))
    run = the_run(tmp_path, blind, Process(pid=2, begin=100, end=200, who=start("a")))
    assert (run.duration_s, run.outside.duration_s) == (pytest.approx(400.0), pytest.approx(400.0))
    assert joules(run.outside) == pytest.approx(10_000)


@pytest.mark.parametrize("devices", [0, 1])
def test_processes_that_were_outside_at_one_time_were_so_once(tmp_path: Path, devices: int) -> None:
    """One of them broke off, and was on its way to an epoch; the other was not."""
    other = Process(pid=2, devices=devices, begin=50, end=400, who=start("a"))
    run = on_devices_of_their_own(tmp_path, Process(pid=1, devices=devices, end=300, ended=None, who=start("a")), other)
    assert (run.duration_s, run.outside.duration_s) == (pytest.approx(400.0), pytest.approx(400.0))
    assert joules(run.outside) == pytest.approx(devices * WATTS * (300 + 350))


def test_rework_in_the_time_of_another_s_epoch_keeps_its_joules(tmp_path: Path) -> None:
    """One process was on its way to epoch 1 while another, of other devices, was in an epoch that nobody did again."""
    world = [
        Process(pid=1, end=150, epochs=epochs(0, 100), ended=None, who=start("a.0")),
        Process(pid=2, end=200, epochs=epochs(0, 200, first=7), who=start("a.0")),
        Process(pid=3, begin=300, end=400, epochs=epochs(300, 400, first=1), who=start("a.1", 1)),
    ]
    run = on_devices_of_their_own(tmp_path, *world)
    assert run.rework is not None
    assert (joules(run.rework), run.rework.duration_s) == (pytest.approx(5_000), 0.0)


def on_devices_of_their_own(folder: Path, *processes: Process) -> RunReport:
    """The run of processes of one machine that each measure another device."""
    for process in processes:
        path = process.put(folder)
        path.write_text(path.read_text().replace("GPU-0", f"GPU-of-{process.pid}"))
    (run,) = load(folder).runs
    conserved(run)
    return run


def test_nodes_that_mark_an_epoch_apart_have_it_for_as_long_as_the_slowest(tmp_path: Path) -> None:
    world = [
        Process(host="n1", boot="b1", pid=1, epochs=epochs(0, 200, 400), who=start("a")),
        Process(host="n2", boot="b2", pid=2, epochs=epochs(10, 205, 410), who=start("a")),
    ]
    run = the_run(tmp_path, *world)
    assert [epoch.duration_s for epoch in run.epochs] == [200.0, 205.0]
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([39_500, 40_500])
    assert run.outside.duration_s == pytest.approx(200.0)  # of 405 s of epochs, of 600 s


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 10)).map(lambda span: (span[0], sum(span))), max_size=8)


@given(SPANS, SPANS)
def test_what_intervals_have_that_others_have_not(spans: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
    left = list(without(spans, united(others)))
    points = {t for begin, end in left for t in range(begin, end)}
    assert points == {t for a, b in spans for t in range(a, b)} - {t for a, b in others for t in range(a, b)}
    assert union_ns(left) == len(points)
