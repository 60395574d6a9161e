"""Spans and children in a journal: what is read back is what was reported, also of a run that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aiocarbon import Tracker
from aiocarbon._core.report import RunReport
from aiocarbon.journal import load
from aiocarbon.sync import Tracker as PlainTracker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def tracked(folder: Path) -> RunReport:
    import asyncio

    async def work(tracker: Tracker, name: str, pieces: int) -> None:
        for i in range(pieces):
            with tracker.span(name, parity=i % 2), tracker.span("inner"):
                await asyncio.sleep(0.02)

    async with Tracker(meters="simulated:300", location="DK", pue=1.2, journal=folder, interval_s=0.1) as tracker:
        actor = tracker.child("actor-3")
        async with asyncio.TaskGroup() as group:
            group.create_task(work(tracker, "rollout", 6))
            group.create_task(work(tracker, "update", 3))
            for _ in range(3):
                with actor.span("act"):
                    await asyncio.sleep(0.03)
                actor.step(5)
                await actor.epoch()
    return tracker.report()


async def test_spans_and_children_read_back_as_they_were_reported(tmp_path: Path) -> None:
    live = await tracked(tmp_path)
    loaded = load(tmp_path)
    (read,) = loaded.runs
    assert loaded.problems == ()
    assert [span.name for span in read.spans] == [span.name for span in live.spans]
    for mine, theirs in zip(live.spans, read.spans, strict=True):
        assert (mine.count, mine.open, mine.below_resolution) == (theirs.count, theirs.open, theirs.below_resolution)
        assert mine.duration_s_p95 == theirs.duration_s_p95
        assert theirs.it_energy_kwh == pytest.approx(mine.it_energy_kwh, rel=1e-5, abs=1e-12)
        assert theirs.co2eq_g == pytest.approx(mine.co2eq_g, rel=1e-5, abs=3e-9)  # nanograms
        assert theirs.with_children.it_energy_kwh == pytest.approx(mine.with_children.it_energy_kwh, rel=1e-5)
        assert [(tags.tags, tags.count) for tags in mine.by_tags] == [
            (tags.tags, tags.count) for tags in theirs.by_tags
        ]
    parts = [span.it_energy_kwh for span in read.spans]
    assert sum(parts) + read.unattributed.it_energy_kwh == pytest.approx(read.it_energy_kwh, rel=1e-12)
    (mine_child,), (read_child,) = live.children, read.children
    assert (read_child.name, read_child.steps, read_child.epochs_total, read_child.count) == ("actor-3", 15, 3, 3)
    assert [epoch.steps for epoch in read_child.epochs] == [epoch.steps for epoch in mine_child.epochs]
    for mine_epoch, read_epoch in zip(mine_child.epochs, read_child.epochs, strict=True):
        assert read_epoch.it_energy_kwh == pytest.approx(mine_epoch.it_energy_kwh, rel=1e-4)
    assert read.attribution is not None
    assert live.attribution is not None
    assert read.attribution.policy == live.attribution.policy == "even"


KILLED = """
import os, signal, sys, time
from aiocarbon.sync import Tracker
tracker = Tracker(meters="simulated:300", location="DK", journal=sys.argv[1], interval_s=0.1)
tracker.start()
while True:
    with tracker.span("work"):
        time.sleep(0.01)
    print("worked", flush=True)
"""


def test_the_spans_of_a_run_that_is_killed_are_known_up_to_its_last_second(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    came = []
    while not came or came[-1] < came[0] + 4.0:
        assert process.stdout.readline()
        came.append(time.monotonic())
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (run,) = load(tmp_path).runs
    (work,) = run.spans
    assert not run.ended_well
    assert work.count >= sum(at < came[-1] - 2.0 for at in came)  # a busy machine may be a second late
    assert 0.0 < work.it_energy_kwh <= run.it_energy_kwh
    assert run.attribution is not None
    assert run.attribution.as_of.timestamp() > time.time() - 60


def test_a_record_of_spans_that_makes_no_sense_is_skipped_and_told(tmp_path: Path) -> None:
    with PlainTracker(meters="simulated:300", location="DK", journal=tmp_path) as tracker, tracker.span("work"):
        pass
    (file,) = tmp_path.rglob("*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    bad = [
        {"k": "spans", "t": 1},
        {"k": "spans", "t": 1, "names": [["x"]]},
        {"k": "child", "name": "x", "i": "y"},
        {"k": "child"},
    ]
    at = next(n for n, line in enumerate(lines) if '"k":"end"' in line)
    file.write_text("".join([*lines[:at], *(json.dumps(record) + os.linesep for record in bad), *lines[at:]]))
    loaded = load(tmp_path)
    assert [span.name for span in loaded.runs[0].spans] == ["work"]
    assert any("4 lines" in problem for problem in loaded.problems)


def test_a_run_without_spans_writes_none(tmp_path: Path) -> None:
    with PlainTracker(meters="simulated:300", location="DK", journal=tmp_path):
        pass
    (file,) = tmp_path.rglob("*.jsonl")
    assert '"k":"spans"' not in file.read_text()
    (run,) = load(tmp_path).runs
    assert run.spans == ()
    assert run.unattributed.it_energy_kwh == run.it_energy_kwh
    assert run.unattributed.idle is None


TWO = """
import sys
from aiocarbon.sync import Tracker
with Tracker(meters=sys.argv[2], location="DK", journal=sys.argv[1], run_id="both", interval_s=0.1) as tracker:
    print("entered", flush=True)
    with tracker.span("work", who=sys.argv[3]), tracker.child(sys.argv[3]).span("act"):
        sys.stdin.readline()
"""


@pytest.mark.parametrize("nodes", [("one", "two"), ("one", "one")], ids=["of two machines", "of one machine"])
def test_spans_of_two_processes_of_a_run_add_up(tmp_path: Path, nodes: tuple[str, str]) -> None:
    meters = {"one": "simulated:300", "two": "simulated:100"}
    processes = []
    for n, node in enumerate(nodes):
        environ = {**os.environ, "AIOCARBON_NODE": node, "AIOCARBON_LOCK_DIR": str(tmp_path / "locks" / node)}
        command = [sys.executable, "-c", TWO, str(tmp_path / "journal"), meters[node], f"actor-{n}"]
        processes.append(
            subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "entered\n"
    for process in processes:
        process.communicate("go on\n")
    (run,) = load(tmp_path / "journal").runs
    work, act = (next(span for span in run.spans if span.name == name) for name in ("work", "act"))
    assert (work.count, act.count, {tags.tags["who"] for tags in work.by_tags}) == (2, 2, {"actor-0", "actor-1"})
    parts = [span.it_energy_kwh for span in run.spans] + [run.unattributed.it_energy_kwh]
    assert sum(parts) == pytest.approx(run.it_energy_kwh, rel=1e-9)
    assert {child.name for child in run.children} == {"actor-0", "actor-1"}
    assert sum(child.it_energy_kwh for child in run.children) == pytest.approx(act.it_energy_kwh, rel=1e-9)
    assert 0.0 < act.it_energy_kwh <= run.it_energy_kwh
    assert any("several processes measured one machine" in text for text in run.warnings) == (nodes[0] == nodes[1])


def test_a_process_without_spans_takes_no_part_of_those_of_another(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWO, str(tmp_path), "simulated:300", "actor"]
    environ = {**os.environ, "AIOCARBON_NODE": "one"}
    with PlainTracker(meters="simulated:300", location="DK", journal=tmp_path, run_id="both", node="one"):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, env=environ, text=True, **pipes) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "entered\n"
            process.communicate("go on\n")
    (run,) = load(tmp_path).runs
    (act,) = (span for span in run.spans if span.name == "act")
    drawn_kwh = 300.0 * act.duration_s / 3.6e6
    assert act.it_energy_kwh == pytest.approx(drawn_kwh, rel=0.2)  # half of it, if the other one had a part
    parts = [span.it_energy_kwh for span in run.spans] + [run.unattributed.it_energy_kwh]
    assert sum(parts) == pytest.approx(run.it_energy_kwh, rel=1e-9)
    assert run.unattributed.it_energy_kwh > 0.0
