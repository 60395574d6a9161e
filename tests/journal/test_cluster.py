"""Runs of many processes and nodes: each joule once, whatever the order, the clocks, the boots and the bad days."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiocarbon._core.former import Former, continued
from aiocarbon._core.intensity import IntensityValue, Quality
from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity
from aiocarbon._core.report import RunReport
from aiocarbon.journal import Loaded, load, records
from aiocarbon.journal.alive import LOCAL_S, boot_id
from aiocarbon.journal.join import FOLDS_ABOVE
from aiocarbon.journal.machine import Machine
from aiocarbon.journal.parse import read_process
from aiocarbon.journal.quick import windows_of
from aiocarbon.journal.view import View
from aiocarbon.render.emissions_csv import emissions_csv
from aiocarbon.render.statement import statement
from aiocarbon.render.statement_forms import statement_latex, statement_markdown
from aiocarbon.render.text import report_text

S = 10**9
MINUTE = 60
KWH = 3.6e6
WALL_S = 1_790_000_040  # on a minute
G_PER_KWH = 400.0
PID_OF_NONE = 2**22 + 1  # beyond the kernel's largest


def joules(part: Any) -> float:
    return float(part.it_energy_kwh) * KWH


def value(g_per_kwh: float, zone: str = "DK") -> IntensityValue:
    return IntensityValue(
        g_per_kwh=g_per_kwh,
        low_g_per_kwh=g_per_kwh,
        high_g_per_kwh=g_per_kwh,
        source="given",
        zone=zone,
        quality=Quality.GIVEN,
    )


def in_zone(zone: str, name: str) -> dict[str, Any]:
    return {"zone": zone, "name": name, "how": "given", "is_guess": False}


@dataclass
class Process:
    """A process to be written down: seconds are of its machine's boot clock.

    Its devices draw `watts[i]` in minute i of the boot clock, at most as long as that says, for ever the last.
    """

    host: str = "n1"
    boot: str = "boot-1"
    pid: int = 1
    run: str = "job"
    begin: int = 0
    end: int = 10 * MINUTE
    watts: Sequence[int] = (100,)
    note: str = ""
    devices: int = 1
    epochs: Sequence[tuple[int, int, int]] = ()  # index, from, to
    partial: Sequence[int] = ()
    ended: bool | None = True  # None: breaks off
    origin: int = 0  # where the segment's counter is 0
    segment: str = ""
    clock: int = 0  # seconds by which the wall clock is wrong
    shift: int = 0  # seconds by which the boot clock of its time namespace is ahead
    space: str = ""
    who: Mapping[str, Any] = field(default_factory=dict)
    basis: Basis = Basis.COUNTER
    steps: Sequence[tuple[int, float]] = ()  # intensity from a second on
    warnings: Sequence[str] = ()

    def energy(self, at: int) -> int:
        """Microjoules that each device had drawn since boot."""
        whole = sum(self.watts[min(i, len(self.watts) - 1)] * MINUTE for i in range(at // MINUTE))
        return (whole + self.watts[min(at // MINUTE, len(self.watts) - 1)] * (at % MINUTE)) * 10**6

    def _state(self, kind: str, at: int, **more: Any) -> dict[str, Any]:
        energy = self.energy(at) - self.energy(self.origin)
        t = (at + self.shift) * S
        return {"k": kind, "t": t, "e": [energy + n for n in range(self.devices)], "s": [0] * self.devices, **more}

    def lines(self) -> Iterator[dict[str, Any]]:
        place = self.who.get("location") or in_zone("DK", "Denmark")
        yield {
            "schema": records.SCHEMA, "run_id": self.run, "name": "", "host": self.host, "pid": self.pid,
            "boot_id": self.boot, "version": "0", "interval_s": 1.0, "location": place,
            "pue": {"value": 1.5, "source": "given"}, "t": (self.begin + self.shift) * S,
            "wall_ns": (WALL_S + self.begin + self.clock) * S, "time_namespace": self.space, **self.who,
        }  # fmt: skip
        for n in range(self.devices):
            device = Device(
                id=f"GPU-{n}", kind=DeviceKind.GPU, name="a GPU", quantity=Quantity.ENERGY, basis=self.basis,
                covers=frozenset({Part.GPU}), note=self.note,
            )  # fmt: skip
            yield records.device_record(n, device, self.segment or f"{self.host}-{self.pid}-{self.begin}", 0.0)
        yield records.intensity_record(value(G_PER_KWH, place["zone"]), float("-inf"))
        for since, g_per_kwh in self.steps:
            yield records.intensity_record(value(g_per_kwh, place["zone"]), float(WALL_S + self.clock + since))
        for text in self.warnings:
            yield {"k": "warning", "t": self.begin * S, "text": text}
        marks = sorted({self.begin, *itertools.chain(*((a, b) for _, a, b in self.epochs))})
        if self.ended is not None:
            marks = sorted({*marks, self.end})
        index = {at: m for m, at in enumerate(marks)}
        ticks = {at for at in range(self.begin // MINUTE * MINUTE, self.end, MINUTE) if at > self.begin}
        for at in sorted({*marks, *ticks, self.end}):
            if at in index:
                yield self._state("mark", at, m=index[at])
            else:
                yield self._state("tick", at)
        for n, a, b in self.epochs:
            yield {"k": "epoch", "i": n, "b": index[a], "e": index[b], "steps": 1, "partial": n in self.partial}
        if self.ended is not None:
            yield {"k": "end", "t": (self.end + self.shift) * S, "ended_well": self.ended}

    def put(self, folder: Path) -> Path:
        path = folder / self.run / f"{self.host}-{self.boot}-{self.pid}-{self.begin}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(map(records.line, self.lines())))
        return path


def put(folder: Path, *processes: Process) -> Loaded:
    for process in processes:
        process.put(folder)
    return load(folder)


def the_run(folder: Path, *processes: Process) -> RunReport:
    (run,) = put(folder, *processes).runs
    conserved(run)
    return run


def conserved(run: RunReport) -> None:
    """Epochs, what lies outside, and rework make the run; so do its nodes."""
    parts = [*run.epochs, run.outside, *([run.rework] if run.rework is not None else [])]
    for name in ("it_energy_kwh", "energy_kwh", "co2eq_g"):
        assert sum(getattr(part, name) for part in parts) == pytest.approx(getattr(run, name), rel=1e-9, abs=1e-12)
    told = sum(node.it_energy_kwh for node in run.nodes if node.it_energy_kwh is not None)
    if run.nodes:
        assert told == pytest.approx(run.it_energy_kwh, rel=1e-9, abs=1e-12)
    assert sum(d.it_energy_kwh for d in run.devices if d.counted) == pytest.approx(run.it_energy_kwh, rel=1e-9)


def start(name: str, restart: int | None = 0, **more: Any) -> dict[str, Any]:
    return {"job": "slurm-c-1" if restart is not None else "", "attempt": name, "restart": restart, **more}


# -- any world: once, in any order ---------------------------------------------------------------------------------

LAST = 12


@st.composite
def worlds(draw: st.DrawFn) -> list[Process]:
    """Processes of one run on two machines and two boots: each machine's device has one truth that all see."""
    watts = {
        (host, boot): draw(st.lists(st.integers(0, 900), min_size=LAST, max_size=LAST))
        for host in ("n1", "n2")
        for boot in ("b1", "b2")
    }
    found = []
    for pid in range(draw(st.integers(1, 6))):
        host, boot = draw(st.sampled_from(sorted(watts)))
        begin, end = sorted(draw(st.lists(st.integers(0, LAST), min_size=2, max_size=2, unique=True)))
        cuts = sorted(draw(st.sets(st.integers(begin, end), max_size=4)))
        epochs = [(i, a * MINUTE, b * MINUTE) for i, (a, b) in enumerate(itertools.pairwise(cuts))]
        restart = draw(st.integers(0, 1))
        found.append(
            Process(
                host=host, boot=f"{boot}-{host}", pid=pid, begin=begin * MINUTE, end=end * MINUTE,
                watts=watts[host, boot], epochs=epochs, origin=draw(st.integers(0, begin)) * MINUTE,
                ended=draw(st.sampled_from([True, False, None])), clock=draw(st.integers(-300, 300)),
                who=start(f"a{restart}", restart),
            )
        )  # fmt: skip
    return found


def truth_j(processes: Sequence[Process]) -> float:
    """Watts of every minute in which any process of the machine counted, each once."""
    minutes = {
        (p.host, p.boot, minute): p.watts[minute]
        for p in processes
        for minute in range(p.begin // MINUTE, p.end // MINUTE)
    }
    return float(sum(minutes.values()) * MINUTE)


@settings(deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_whatever_ran_counts_once_in_any_order_and_however_often(world: list[Process], rng: random.Random) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [process.put(folder) for process in world]
        loaded = load(folder)
        (run,) = loaded.runs
        assert joules(run) == pytest.approx(truth_j(world), rel=1e-9, abs=1e-9)
        assert joules(loaded.total) == pytest.approx(truth_j(world), rel=1e-9, abs=1e-9)
        conserved(run)
        copy = folder / "copy" / "deep" / paths[0].name
        copy.parent.mkdir(parents=True)
        shutil.copy(paths[0], copy)
        mixed = [*paths, *paths[::2], copy, folder]
        rng.shuffle(mixed)
        again = load(*mixed)
        assert again.runs == loaded.runs
        assert again.total == loaded.total


@settings(deadline=None)
@given(worlds(), st.integers(0, 6))
def test_what_is_told_of_some_machines_adds_up_to_what_is_told_of_all(world: list[Process], split: int) -> None:
    """Machine by machine: the sum of two halves is the whole, whichever machine is in which."""
    with tempfile.TemporaryDirectory() as name:
        for process in world:
            process.put(Path(name) / ("a" if hash(process.boot) % 7 < split else "b"))
        folders = [path for path in (Path(name) / "a", Path(name) / "b") if path.exists()]
        whole, parts = load(*folders), [load(folder) for folder in folders]
        assert sum(joules(part.total) for part in parts) == pytest.approx(joules(whole.total), rel=1e-9, abs=1e-9)


def test_twelve_trackers_racing_on_one_device_count_it_once(tmp_path: Path) -> None:
    world = [Process(pid=n, begin=n * 7, end=600 - n * 11, epochs=[(0, n * 7 + 1, 300), (1, 300, 500 - n * 11)])
             for n in range(12)]  # fmt: skip
    run = the_run(tmp_path, *world)
    assert joules(run) == pytest.approx(100 * 600)
    assert [(node.host, node.processes, node.covered_s) for node in run.nodes] == [("n1", 12, 600.0)]
    assert (run.status, run.rework) == ("complete", None)


def test_trackers_that_share_one_counter_line_over_their_lives_count_it_once(tmp_path: Path) -> None:
    """The holder of a device dies and the next goes on from its origin: the counter bridges what nobody read."""
    world = [
        Process(pid=1, end=200, ended=None, segment="line"),
        Process(pid=2, begin=10, end=600, segment="line"),
        Process(pid=3, begin=20, end=590, segment="other", origin=20),
    ]
    assert joules(the_run(tmp_path, *world)) == pytest.approx(100 * 600)


def test_two_runs_on_one_machine_are_each_whole_and_together_once(tmp_path: Path) -> None:
    loaded = put(tmp_path, Process(run="a"), Process(run="b", pid=2, begin=300, end=900), Process(run="b", pid=3))
    assert [joules(run) for run in loaded.runs] == pytest.approx([60_000, 90_000])
    assert joules(loaded.total) == pytest.approx(90_000)


# -- which machine is which ----------------------------------------------------------------------------------------


def test_clones_of_one_virtual_machine_are_told_by_their_counters(tmp_path: Path) -> None:
    loaded = put(tmp_path, Process(host="n1", watts=(100,)), Process(host="n2", pid=2, watts=(130,)))
    assert joules(loaded.runs[0]) == pytest.approx(230 * 600)
    (told,) = loaded.problems
    assert all(word in told for word in ("n1, n2", "one boot id", "counters differ", "clones"))


def test_clones_that_used_the_same_in_all_are_told_by_their_minutes(tmp_path: Path) -> None:
    first = [100, 200] * 5
    loaded = put(tmp_path, Process(host="n1", watts=first), Process(host="n2", pid=2, watts=first[::-1]))
    assert joules(loaded.runs[0]) == pytest.approx(2 * 150 * 600)


def test_containers_of_one_machine_see_one_counter_and_count_it_once(tmp_path: Path) -> None:
    watts = [50, 300, 10, 90]
    world = [Process(host=f"container-{n}", pid=n, begin=13 * n, watts=watts, origin=13 * n) for n in range(3)]
    loaded = put(tmp_path, *world)
    assert joules(loaded.runs[0]) == pytest.approx(world[0].energy(600) / 1e6)
    assert any("containers of one machine" in text for text in loaded.problems)


def test_containers_on_clones_are_put_to_their_clone(tmp_path: Path) -> None:
    clone = {"n1": 100, "n2": 140, "n3": 100}
    world = [Process(host=host, pid=n, watts=(watts,)) for n, (host, watts) in enumerate(clone.items())]
    assert joules(put(tmp_path, *world).runs[0]) == pytest.approx(240 * 600)


def test_counters_of_one_name_and_host_are_one_though_they_differ(tmp_path: Path) -> None:
    """A meter that errs is no second machine: nothing is counted twice for it."""
    loaded = put(tmp_path, Process(watts=(100,)), Process(pid=2, watts=(130,)))
    assert joules(loaded.runs[0]) in (pytest.approx(60_000), pytest.approx(78_000))
    assert any("counters of one name that differ" in text and "AIOCARBON_NODE" in text for text in loaded.problems)


def test_slurm_names_machines_of_one_boot_id_apart(tmp_path: Path) -> None:
    world = [Process(host=host, pid=n, who={**start("a"), "machine": host}) for n, host in enumerate(("n1", "n2"))]
    loaded = put(tmp_path, *world)
    assert joules(loaded.runs[0]) == pytest.approx(2 * 60_000)
    assert loaded.problems == ()


def test_boot_clocks_of_two_time_namespaces_are_one_clock(tmp_path: Path) -> None:
    watts = [50, 300, 10, 90]
    shifted = Process(pid=2, begin=120, end=900, watts=watts, shift=100_000, space="time:[2]", epochs=[(0, 180, 700)])
    loaded = put(tmp_path, Process(watts=watts, space="time:[1]"), shifted)
    (run,) = loaded.runs
    conserved(run)
    assert joules(run) == pytest.approx(shifted.energy(900) / 1e6)
    assert any("time namespace" in text for text in loaded.problems)


def test_a_machine_that_boots_again_adds_its_joules_and_nothing_in_between(tmp_path: Path) -> None:
    run = the_run(tmp_path, Process(boot="b1"), Process(boot="b2", pid=1, clock=3600))
    assert joules(run) == pytest.approx(2 * 60_000)
    assert [(node.host, node.covered_s) for node in run.nodes] == [("n1", 1200.0)]


# -- clocks --------------------------------------------------------------------------------------------------------


def nodes_apart(clock: int) -> list[Process]:
    epochs = [(i, 100 * i, 100 * (i + 1)) for i in range(6)]
    steps = [(300, 100.0)]  # seconds of the node's own clock
    return [
        Process(host="n1", boot="b1", epochs=epochs, steps=steps),
        Process(host="n2", boot="b2", pid=2, epochs=epochs, steps=steps, clock=clock),
    ]


def test_clocks_minutes_apart_change_no_joule_and_no_length(tmp_path: Path) -> None:
    run = the_run(tmp_path, *nodes_apart(240))
    same = the_run(tmp_path / "same", *nodes_apart(0))
    assert joules(run) == joules(same)
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([2 * 100 * 100] * 6)
    assert [epoch.duration_s for epoch in run.epochs] == pytest.approx([100.0] * 6)
    assert run.duration_s == same.duration_s == pytest.approx(600.0)
    assert any("clocks stand up to 240 s apart" in text and "n2" in text for text in run.merge)
    assert not any("clocks" in text for text in same.merge)


def test_each_node_s_carbon_is_looked_up_by_its_own_clock(tmp_path: Path) -> None:
    run = the_run(tmp_path, *nodes_apart(240))
    each = (300 * 100 * 400 + 300 * 100 * 100) / KWH * 1.5
    assert run.co2eq_g == pytest.approx(2 * each)
    assert [epoch.co2eq_g for epoch in run.epochs] == pytest.approx(
        [2 * 100 * 100 * g / KWH * 1.5 for g in (400, 400, 400, 100, 100, 100)]
    )


def test_a_node_that_is_late_by_other_times_each_epoch_has_no_wrong_clock(tmp_path: Path) -> None:
    first, second = nodes_apart(0)
    second.epochs = [(0, 0, 200), (1, 200, 290), (2, 290, 400), (3, 400, 600)]
    run = the_run(tmp_path, first, second)
    assert not any("clocks" in text for text in run.merge)


@pytest.mark.parametrize(("clock", "is_told"), [(0, False), (500, False), (3600, True), (-3600, True)])
def test_nodes_of_one_start_that_were_never_at_work_together_are_told(
    tmp_path: Path, clock: int, is_told: bool
) -> None:
    first = Process(host="n1", boot="b1", who=start("a.0", 0))
    second = Process(host="n2", boot="b2", pid=2, clock=clock, who=start("a.0", 0))
    run = the_run(tmp_path, first, second)
    told = [text for text in run.warnings if "clocks stand apart, or they did not run together" in text]
    assert [("n2" if clock > 0 else "n1") in text for text in told] == [True] * is_told


# -- tries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", [3600, -3600])
def test_what_went_on_with_a_run_is_a_later_try_however_its_clock_stands(tmp_path: Path, clock: int) -> None:
    epochs = [(i, 100 * i, 100 * (i + 1)) for i in range(6)]
    first = Process(host="n1", boot="b1", epochs=epochs[:3], ended=None, end=300, who=start("a", None))
    second = Process(
        host="n2", boot="b2", pid=2, epochs=epochs, end=600, clock=clock, who=start("b", None, resumes=True)
    )
    run = the_run(tmp_path, first, second)
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([10_000] * 6)
    assert run.rework is not None
    assert joules(run.rework) == pytest.approx(30_000)
    assert [attempt.hosts for attempt in run.attempts] == [("n1",), ("n2",)]
    assert any("its clock stood wrong" in text for text in run.warnings) == (clock < 0)


def test_epochs_done_again_after_a_requeue_are_rework(tmp_path: Path) -> None:
    first = Process(end=400, epochs=[(0, 0, 100), (1, 100, 200), (2, 200, 300)], ended=None, who=start("a.0", 0))
    second = Process(
        pid=2, begin=1000, end=1350, epochs=[(1, 1050, 1150), (2, 1150, 1250), (3, 1250, 1350)], watts=(100,),
        who=start("a.1", 1),
    )  # fmt: skip
    run = the_run(tmp_path, first, second)
    assert joules(run) == pytest.approx(100 * (400 + 350))  # and nothing of the 600 s in between
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([10_000] * 4)
    assert run.rework is not None
    assert joules(run.rework) == pytest.approx(100 * 300)  # epochs 1 and 2, and what was begun of epoch 3
    assert run.rework.duration_s == pytest.approx(300)
    assert joules(run.outside) == pytest.approx(100 * 50)
    assert any("tried 2 times" in text and "epochs 1 to 2" in text for text in run.merge)
    assert run.duration_s == pytest.approx(750)


def test_an_epoch_counts_in_the_last_try_that_completed_it(tmp_path: Path) -> None:
    first = Process(end=200, epochs=[(0, 0, 100), (1, 100, 200)], ended=False, who=start("a.0", 0))
    second = Process(pid=2, begin=300, end=430, epochs=[(0, 300, 400), (1, 400, 430)], partial=[1], ended=False,
                     who=start("a.1", 1))  # fmt: skip
    run = the_run(tmp_path, first, second)
    assert [(joules(epoch), epoch.is_partial) for epoch in run.epochs] == [
        (pytest.approx(10_000), False),
        (pytest.approx(10_000), False),
    ]
    assert run.rework is not None
    assert joules(run.rework) == pytest.approx(100 * 130)


def test_a_start_after_one_that_ended_well_goes_on_with_it(tmp_path: Path) -> None:
    first = Process(end=200, epochs=[(0, 0, 100), (1, 100, 200)], who=start("step-0", 0))
    second = Process(pid=2, begin=300, end=500, epochs=[(0, 300, 400), (1, 400, 500)], who=start("step-1", 0))
    run = the_run(tmp_path, first, second)
    assert run.rework is None
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([20_000, 20_000])
    assert [epoch.duration_s for epoch in run.epochs] == pytest.approx([200.0, 200.0])
    assert [epoch.power_w for epoch in run.epochs] == pytest.approx([100.0, 100.0])


def test_a_node_that_read_no_device_used_nobody_knows_what(tmp_path: Path) -> None:
    blind = Process(host="blind", boot="b2", pid=2, devices=0, who=start("x"))
    run = the_run(tmp_path, Process(who=start("x")), blind)
    (there, lacking) = sorted(run.nodes, key=lambda node: node.host == "blind")
    assert there.it_energy_kwh == pytest.approx(run.it_energy_kwh)
    assert lacking.it_energy_kwh is None
    assert lacking.covered_s == 0.0
    assert run.status == "partial"
    assert any("nothing was measured on 1 of 2 nodes (blind)" in text for text in run.warnings)


def test_a_start_after_one_that_broke_off_is_another_try_also_without_a_launcher(tmp_path: Path) -> None:
    first = Process(end=200, epochs=[(0, 0, 100), (1, 100, 200)], ended=None, who=start("x", None))
    second = Process(pid=2, begin=300, end=500, epochs=[(0, 300, 400), (1, 400, 500)], who=start("y", None))
    run = the_run(tmp_path, first, second)
    assert run.rework is not None
    assert joules(run.rework) == pytest.approx(20_000)
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([10_000, 10_000])


def test_ranks_that_could_not_know_of_each_other_are_one_try(tmp_path: Path) -> None:
    epochs = [(0, 100, 300), (1, 300, 500)]
    world = [Process(host=f"n{n}", boot=f"b{n}", pid=n, epochs=epochs, who=start(f"own-{n}", None)) for n in range(3)]
    run = the_run(tmp_path, *world)
    assert run.rework is None
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([60_000, 60_000])


def test_journals_that_name_no_start_are_one(tmp_path: Path) -> None:
    epochs = [(0, 0, 100)]
    run = the_run(tmp_path, Process(end=200, epochs=epochs, ended=None), Process(boot="b2", end=200, epochs=epochs))
    assert run.rework is None
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([20_000])


def test_a_node_that_returns_after_it_was_lost_adds_what_it_tells_and_redoes_nothing(tmp_path: Path) -> None:
    epochs = [(i, 100 * i, 100 * (i + 1)) for i in range(6)]
    world = [
        Process(host="n1", boot="b1", epochs=epochs, who=start("a")),
        Process(host="n2", boot="b2", pid=2, end=250, epochs=epochs[:2], ended=None, who=start("a")),
        Process(host="n2", boot="b2", pid=3, begin=400, epochs=epochs[4:], who=start("a")),
    ]
    run = the_run(tmp_path, *world)
    assert joules(run) == pytest.approx(100 * (600 + 250 + 200))
    assert run.rework is None
    assert [joules(epoch) for epoch in run.epochs] == pytest.approx([20_000, 20_000, 10_000, 10_000, 20_000, 20_000])
    assert {node.host: node.covered_s for node in run.nodes} == {"n1": 600.0, "n2": 450.0}


# -- what is missing -----------------------------------------------------------------------------------------------


def test_nodes_that_told_nothing_are_named_and_in_no_figure(tmp_path: Path) -> None:
    who = start("a", expected_nodes="n[1-4]", expected_node_count=4)
    world = [Process(host=f"n{n}", boot=f"b{n}", pid=n, who=who) for n in (1, 3)]
    run = the_run(tmp_path, *world)
    assert joules(run) == pytest.approx(2 * 60_000)
    assert run.status == "partial"
    told = [(node.host, node.it_energy_kwh is None, node.covered_s, node.expected_s) for node in run.nodes]
    assert told == [
        ("n1", False, 600.0, 600.0),
        ("n2", True, 0.0, 600.0),
        ("n3", False, 600.0, 600.0),
        ("n4", True, 0.0, 600.0),
    ]
    assert any("2 of 4 nodes (n2, n4)" in text for text in run.warnings)
    assert any("0.3333 of 0.6667 node-hours" in text and "not estimated" in text for text in run.warnings)
    json.dumps(run.to_dict(), allow_nan=False)


def test_the_one_node_of_four_that_told_does_not_pass_for_the_run(tmp_path: Path) -> None:
    run = the_run(tmp_path, Process(host="n2", who=start("a", expected_nodes="n[1-4]", expected_node_count=4)))
    assert run.status == "partial"
    assert [(node.host, node.processes) for node in run.nodes] == [("n1", 0), ("n2", 1), ("n3", 0), ("n4", 0)]
    assert any("3 of 4 nodes (n1, n3, n4)" in text for text in run.warnings)


def test_nodes_known_by_number_alone_are_missing_by_number(tmp_path: Path) -> None:
    who = start("a", expected_node_count=3)
    run = the_run(tmp_path, *(Process(host=f"n{n}", boot=f"b{n}", pid=n, who=who) for n in (1, 2)))
    assert run.status == "partial"
    assert [node.host for node in run.nodes] == ["n1", "n2", "unnamed node 1"]


def test_a_node_lost_half_way_is_told_by_its_seconds(tmp_path: Path) -> None:
    who = start("a", expected_nodes=["n1", "n2"], expected_node_count=2)
    world = [Process(host="n1", boot="b1", who=who), Process(host="n2", boot="b2", pid=2, end=300, ended=None, who=who)]
    run = the_run(tmp_path, *world)
    assert joules(run) == pytest.approx(100 * 900)
    assert [(node.covered_s, node.expected_s, node.is_open) for node in run.nodes] == [
        (600.0, 600.0, False),
        (300.0, 600.0, True),
    ]
    assert run.status == "partial"
    assert any("1 of 2 processes did not end" in text and "n2" in text for text in run.warnings)


def test_processes_that_begin_and_end_apart_cover_no_more_than_was_expected(tmp_path: Path) -> None:
    who = start("a", expected_nodes="n[1-2]", expected_node_count=2)
    world = [
        Process(host="n1", boot="b1", pid=1, end=590, who=who),
        Process(host="n1", boot="b1", pid=2, begin=10, who=who),
        Process(host="n2", boot="b2", pid=3, who=who),
    ]
    run = the_run(tmp_path, *world)
    assert [(node.covered_s, node.expected_s) for node in run.nodes] == [(600.0, 600.0)] * 2


@pytest.mark.parametrize(
    ("spans", "expected_s"),
    [
        ([(0, 600), (10, 590)], 600.0),  # a batch script's `aiocarbon run`, and the training in it
        ([(0, 600), (10, 200), (300, 590)], 600.0),  # and one after the other in it
        ([(0, 100), (150, 400), (160, 600), (650, 700)], 600.0),  # steps of a job, two of them at one time
    ],
)
def test_starts_at_one_time_were_to_have_their_node_once(
    tmp_path: Path, spans: list[tuple[int, int]], expected_s: float
) -> None:
    one = [
        Process(pid=n, begin=begin, end=end, who=start(f"s-{n}", expected_nodes="n1", expected_node_count=1))
        for n, (begin, end) in enumerate(spans)
    ]
    run = the_run(tmp_path / "one", *one)
    assert (run.status, run.warnings) == ("complete", ())
    assert [(node.covered_s, node.expected_s) for node in run.nodes] == [(expected_s, expected_s)]


def test_what_was_put_around_a_start_of_two_nodes_adds_nothing_to_what_they_were_to_tell(tmp_path: Path) -> None:
    who: dict[str, Any] = {"expected_nodes": "n[1-2]", "expected_node_count": 2}
    steps = [
        Process(host=f"n{n}", boot=f"b{n}", pid=9, begin=2, end=end, who=start("step-0", **who))
        for n, end in ((1, 597), (2, 598))
    ]
    run = the_run(tmp_path, Process(host="n1", boot="b1", end=600, who=start("batch", **who)), *steps)
    assert [(node.covered_s, node.expected_s) for node in run.nodes] == [(600.0, 600.0), (596.0, 600.0)]
    assert (run.status, run.warnings) == ("complete", ())


def test_a_run_whose_nodes_all_told_is_complete(tmp_path: Path) -> None:
    who = start("a", expected_nodes="n[1-2]", expected_node_count=2)
    run = the_run(tmp_path, *(Process(host=f"n{n}", boot=f"b{n}", pid=n, who=who) for n in (1, 2)))
    assert (run.status, run.ended_well) == ("complete", True)
    assert not any("node" in text for text in run.warnings)


# -- live ----------------------------------------------------------------------------------------------------------


def test_a_run_is_reported_while_its_files_grow(tmp_path: Path) -> None:
    world = [Process(host=f"n{n}", boot=f"b{n}", pid=n, ended=None) for n in (1, 2)]
    datas = [(path := process.put(tmp_path), path.read_bytes()) for process in world]
    seen = []
    for share in (0.55, 0.7, 0.85, 1.0):
        for path, data in datas:
            path.write_bytes(data[: int(len(data) * share)])
        (run,) = load(tmp_path).runs
        conserved(run)
        seen.append(joules(run))
        assert (run.status, run.ended_well) == ("partial", False)
        assert any("2 of 2 processes did not end" in text for text in run.warnings)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1] == pytest.approx(120_000)


@pytest.mark.parametrize("others", [(), (Process(pid=1, end=1),)])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_run_is_final_once_no_process_of_it_goes_on(
    tmp_path: Path, others: Sequence[Process], is_there: bool
) -> None:
    """What broke off is over as well: its newest second is written no more, or nobody is there to write it."""
    mine = Process(boot=boot_id(), pid=os.getpid() if is_there else PID_OF_NONE, end=1, ended=None,
                   clock=int(time.time()) - WALL_S)  # fmt: skip
    tail = mine.put(tmp_path).with_suffix(".tail")
    found = []
    for age_s in (0.0, 2 * LOCAL_S):
        tail.touch()
        os.utime(tail, (then := time.time() - age_s, then))
        (run,) = put(tmp_path, *(replace(other, boot=mine.boot, clock=mine.clock) for other in others)).runs
        assert (run.status, run.ended_well) == ("partial", False)
        assert ("it goes on, or broke off" in report_text(run)) == (not run.is_final)
        found.append(run.is_final)
    assert found == [not is_there, True]


def test_a_new_copy_of_what_broke_off_long_ago_does_not_go_on(tmp_path: Path) -> None:
    path = Process(ended=None, clock=-(10**6)).put(tmp_path)
    path.with_suffix(".tail").touch()
    (run,) = load(tmp_path).runs
    assert run.is_final


def test_the_newest_second_of_each_process_is_in_its_tail(tmp_path: Path) -> None:
    for n in (1, 2):
        process = Process(host=f"n{n}", boot=f"b{n}", pid=n, ended=None)
        path = process.put(tmp_path)
        path.with_suffix(".tail").write_bytes(records.sealed(process._state("tick", 630)))
    (run,) = load(tmp_path).runs
    assert joules(run) == pytest.approx(2 * 63_000)


def test_a_file_torn_in_the_middle_takes_nothing_from_the_others(tmp_path: Path) -> None:
    world = [Process(host=f"n{n}", boot=f"b{n}", pid=n) for n in (1, 2, 3)]
    paths = [process.put(tmp_path) for process in world]
    lines = paths[1].read_bytes().splitlines(keepends=True)
    paths[1].write_bytes(b"".join([*lines[:5], lines[5][:20], b"\n", *lines[6:]]))
    paths[2].write_bytes(b"\0" * 100)
    loaded = load(tmp_path)
    assert joules(loaded.runs[0]) == pytest.approx(120_000)
    assert sum(str(path) in text for path in paths for text in loaded.problems) == 2


# -- many ----------------------------------------------------------------------------------------------------------


def test_the_devices_of_many_processes_are_told_by_name(tmp_path: Path) -> None:
    many = FOLDS_ABOVE + 6
    epochs = [(0, 10, 100), (1, 100, 200)]
    world = [
        Process(host=f"n{n:03d}", boot=f"b{n:03d}", pid=n, end=240, watts=(100 + n,), devices=2, epochs=epochs,
                warnings=["be warned"])
        for n in range(many)
    ]  # fmt: skip
    run = the_run(tmp_path, *world)
    assert joules(run) == pytest.approx(sum(2 * (100 + n) * 240 for n in range(many)))
    (device,) = run.devices
    assert (device.name, device.host) == ("a GPU", f"{many} nodes")
    assert device.power_w == pytest.approx(100 + (many - 1) / 2)  # the mean of one
    assert len(run.nodes) == many
    assert len(run.host) < 200
    assert run.coverage == 1.0
    assert [text for text in run.warnings if "be warned" in text] == [
        f"{', '.join(f'n{n:03d} (process {n})' for n in range(8))} and {many - 8} more: be warned"
    ]


@st.composite
def lone(draw: st.DrawFn) -> Process:
    end = draw(st.integers(1, 700))
    cuts = sorted(draw(st.sets(st.integers(0, end), max_size=5)))
    return Process(
        end=end,
        watts=draw(st.lists(st.integers(0, 500), min_size=1, max_size=12)),
        devices=draw(st.integers(1, 3)),
        epochs=[(i, a, b) for i, (a, b) in enumerate(itertools.pairwise(cuts))],
        ended=draw(st.sampled_from([True, False, None])),
        steps=[(at, float(g)) for at, g in draw(st.dictionaries(st.integers(-50, 800), st.integers(1, 900))).items()],
    )


@settings(deadline=None)
@given(lone(), st.dictionaries(st.integers(0, 12), st.tuples(*[st.integers(0, 3_000_000)] * 4)), st.booleans())
def test_the_quick_way_gives_the_sums_of_the_curves(
    process: Process, extra: dict[int, tuple[int, int, int, int]], folds: bool
) -> None:
    """Under, over, missing and hidden are cumulative, and may stand in some records."""
    with tempfile.TemporaryDirectory() as name:
        lines = list(process.lines())
        sums, counted = [0, 0, 0, 0], 0
        states = sorted((line for line in lines if line.get("k") in ("tick", "mark")), key=lambda line: line["t"])
        for n, line in enumerate(states):
            under, *others = extra.get(n, (0, 0, 0, 0))
            grown = [min(under, line["e"][0] - counted), *others]  # no time can have used less than nothing
            sums, counted = [a + b for a, b in zip(sums, grown, strict=True)], line["e"][0]
            if any(sums[:3]):
                line["x"] = {"0": sums[:3]}
            if sums[3]:
                line["h"] = {"0": sums[3]}
        path = Path(name) / "a.jsonl"
        path.write_text("".join(map(records.line, lines)))
        view = View(read_process(path))
        quick = windows_of(view, folds=folds)
        assert quick is not None
        machine = Machine([View(read_process(path))])
        (cut,) = machine.cut_curves(machine.views)
        assert len(quick.stretches) == len(cut.stretches)
        for (_, a), (_, b) in zip(
            [(None, quick.whole), *quick.stretches], [(None, cut.whole), *cut.stretches], strict=True
        ):
            assert a.energy_j == pytest.approx(b.energy_j, abs=1e-6)
            assert a.length_ns == b.length_ns
            assert a.carbon[:5] == pytest.approx(b.carbon[:5], rel=1e-6, abs=1e-6)
            for part in ("energy_j", "high_j", "missing_ns", "edge_2"):
                assert sum(getattr(p, part) for p in a.pieces) == pytest.approx(
                    sum(getattr(p, part) for p in b.pieces), rel=1e-6, abs=1e-6
                )
        assert {key: use[1:] for key, use in quick.whole.carbon.uses.items()} == {
            key: pytest.approx(use[1:], rel=1e-6, abs=1e-5) for key, use in cut.whole.carbon.uses.items()
        }


def test_a_try_that_was_taken_up_again_leaves_nothing_open(tmp_path: Path) -> None:
    first = Process(end=200, epochs=[(0, 0, 100)], ended=None, who=start("a.0", 0))
    second = Process(pid=2, begin=300, end=500, epochs=[(0, 300, 400)], who=start("a.1", 1))
    run = the_run(tmp_path, first, second)
    assert (run.status, run.ended_well) == ("complete", True)
    assert not any(node.is_open for node in run.nodes)
    assert not any("did not end" in text for text in run.warnings)


RAY = {"attempt": "", "ended_by": "Ray"}


def test_workers_that_ray_ended_leave_nothing_open_where_their_node_was_measured_on(tmp_path: Path) -> None:
    meter = Process(end=600, who=RAY | {"attempt": "m"})
    actor = Process(pid=2, begin=60, end=300, ended=None, who=RAY | {"attempt": "a"})
    again = Process(pid=3, begin=310, end=600, ended=None, who=RAY | {"attempt": "b"})
    run = the_run(tmp_path, meter, actor, again)
    assert (run.status, run.ended_well) == ("complete", True)
    assert not any(node.is_open for node in run.nodes)
    assert any(text.startswith("2 of 3 processes were ended from outside, as Ray ends") for text in run.warnings)
    assert joules(run) == pytest.approx(100.0 * 600)


@pytest.mark.parametrize(
    ("meter", "actor"),
    [
        (Process(end=400, who=RAY), Process(pid=2, end=401, ended=None, who=RAY)),  # it goes on, unmeasured by others
        (Process(end=600, ended=None, who=RAY), Process(pid=2, end=300, ended=None, who=RAY)),
        (Process(end=600, ended=False, who=RAY), Process(pid=2, end=300, ended=None, who=RAY)),
        (Process(end=600), Process(pid=2, end=300, ended=None)),  # no worker of Ray
        (Process(end=600, who=RAY), Process(host="n2", boot="b2", pid=2, end=300, ended=None, who=RAY)),
    ],
)
def test_what_broke_off_and_was_not_told_to_a_good_end_is_open(tmp_path: Path, meter: Process, actor: Process) -> None:
    run = the_run(tmp_path, meter, actor)
    assert (run.status, run.ended_well) == ("partial", False)
    assert not any("ended from outside" in text for text in run.warnings)


def test_the_text_of_a_run_of_several_nodes_says_what_is_partial_and_by_which_rules(tmp_path: Path) -> None:
    who = [start(f"a.{n}", n, expected_nodes="n[1-3]", rules=["run id of the SLURM job"]) for n in (0, 1)]
    world = [
        Process(host="n1", boot="b1", end=200, epochs=[(0, 0, 100)], ended=None, who=who[0]),
        Process(host="n1", boot="b1", pid=2, begin=300, end=500, epochs=[(0, 300, 400)], ended=None, who=who[1]),
        Process(host="n2", boot="b2", pid=3, begin=300, end=500, epochs=[(0, 300, 400)], who=who[1]),
    ]
    text = report_text(the_run(tmp_path, *world))
    for words in (
        "on n1, n2",
        "n1: a GPU (GPU-0)",
        "2 of 3 told",
        "PARTIAL, see the warnings",
        "nothing of n3",
        "still running, or broken off: n1",
        "rework",
        "done again by a later try",
        "3 processes on 2 nodes",
        "run id of the SLURM job",
    ):
        assert words in text


# -- several places ------------------------------------------------------------------------------------------------


FRANCE = {"location": in_zone("FR", "France"), "pue": {"value": 1.1, "source": "given"}}
POLAND = {"location": in_zone("PL", "Poland"), "pue": {"value": 2.0, "source": "given"}}


def in_france(**more: Any) -> Process:
    return Process(host="n1", boot="b1", who=FRANCE, steps=[(0, 40.0)], **more)


def in_poland(**more: Any) -> Process:
    return Process(host="n2", boot="b2", who=POLAND, watts=(300,), steps=[(0, 600.0)], **more)


def test_a_run_in_several_places_names_them_all_in_every_form(tmp_path: Path) -> None:
    run = the_run(tmp_path, in_france(), in_poland())
    assert run.location.zone == "PL"  # where it used most
    assert [(place.zone, joules(place)) for place in run.locations] == [
        ("FR", pytest.approx(60_000)),
        ("PL", pytest.approx(180_000)),
    ]
    text = report_text(run)
    assert "25 % of the devices' energy: France (FR), as given" in text
    assert "75 % of the devices' energy: Poland (PL), as given" in text
    stated = statement([run], run)
    assert stated.locations == ("France (FR)", "Poland (PL)")
    assert "| Location |  | France (FR) and Poland (PL) |" in statement_markdown(stated)
    assert "France (FR) and Poland (PL)" in statement_latex(stated)
    header, row = (line.split(",") for line in emissions_csv([run], lambda alpha2: f"{alpha2}A").splitlines())
    assert dict(zip(header, row, strict=True))["country_name"] == ""
    assert dict(zip(header, row, strict=True))["country_iso_code"] == ""


def test_means_and_shares_are_by_energy_with_pue_as_co2eq_is(tmp_path: Path) -> None:
    run = the_run(tmp_path, in_france(), in_poland())
    assert run.intensity_g_per_kwh == pytest.approx(run.co2eq_g / run.energy_kwh, rel=1e-12)
    told = {use.zone: (use.share, use.g_per_kwh) for use in run.intensity_sources}
    france, poland = 60 * 1.1, 180 * 2.0
    assert told == {
        "FR": pytest.approx((france / (france + poland), 40.0)),
        "PL": pytest.approx((poland / (france + poland), 600.0)),
    }
    stated = statement([run], run)
    assert stated.intensity_g_per_kwh == pytest.approx(
        sum(use.share * use.g_per_kwh for use in stated.intensity_sources)
    )
    apart = put(tmp_path / "two", in_france(run="a"), in_poland(run="b"))
    stated = statement(apart.runs, apart.total)
    assert stated.intensity_g_per_kwh == pytest.approx(
        sum(use.share * use.g_per_kwh for use in stated.intensity_sources)
    )


def test_a_run_that_went_on_elsewhere_is_told_alike_by_its_tracker_and_by_its_journals(tmp_path: Path) -> None:
    (former,) = put(tmp_path / "a", in_france(end=40 * MINUTE)).runs
    (later,) = put(tmp_path / "b", in_poland(clock=3600)).runs
    live = continued(Former(run=former, is_open=False), later)
    merged = the_run(tmp_path / "c", in_france(end=40 * MINUTE), in_poland(clock=3600))
    assert live.location == merged.location
    assert live.location.zone == "FR"
    assert [place.zone for place in merged.locations] == ["FR", "PL"]
    assert [joules(place) for place in live.locations] == pytest.approx([joules(place) for place in merged.locations])
    assert live.intensity_g_per_kwh == pytest.approx(merged.intensity_g_per_kwh)
    assert [use.share for use in live.intensity_sources] == pytest.approx([u.share for u in merged.intensity_sources])
    again = continued(Former(run=live, is_open=False), later)  # a third try adds to what is known of each place
    assert [joules(place) for place in again.locations] == pytest.approx([240_000, 360_000])
    assert again.location.zone == "PL"


def test_a_run_in_one_place_has_one_location(tmp_path: Path) -> None:
    run = the_run(tmp_path, Process(pid=1), Process(pid=2, host="n2", boot="b2"))
    assert (run.location.zone, run.locations) == ("DK", ())


# -- what is said of a device --------------------------------------------------------------------------------------


def test_each_run_says_of_a_device_what_its_own_processes_say(tmp_path: Path) -> None:
    for_1 = "read by process 1 of this machine for this one"
    runs = put(
        tmp_path,
        Process(run="reader", pid=1, segment="s"),
        Process(run="follower", pid=2, segment="s", note=for_1),
        Process(run="ranks", pid=3, segment="s", note="read by process 4 of this machine for this one"),
        Process(run="ranks", pid=4, segment="s"),  # one of the run's own read it: nothing to say
        Process(run="late", pid=5, segment="s", note=for_1, end=20 * MINUTE),  # has points that no other has
    ).runs
    assert {run.run_id: [device.note for device in run.devices] for run in runs} == {
        "reader": [""],
        "follower": [for_1],
        "ranks": [""],
        "late": [for_1],
    }
    assert {run.run_id: round(joules(run)) for run in runs} == {
        "reader": 60_000,
        "follower": 60_000,
        "ranks": 60_000,
        "late": 120_000,
    }
