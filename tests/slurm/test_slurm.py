"""Jobs under a real SLURM: three nodes, two tasks a node, and what a scheduler does to them.

All jobs are submitted at once and looked at one after the other. Truth is taken from outside: the watts of simulated
devices, and the windows that the journals' lines state, joined here by hand.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]

WATTS = {"n1": 100.0, "n2": 250.0, "n3": 400.0}
"""What the nodes' simulated devices draw, as the cluster has them."""

J_PER_KWH = 3.6e6
NS_PER_S = 1e9

WORK = """\
import sys, time
boot = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
begin, upto = boot(), time.monotonic() + float(sys.argv[1])
while time.monotonic() < upto:
    time.sleep(0.01)
print("worked", begin, boot(), flush=True)
"""

SCRIPT = """\
import asyncio
from aiocarbon import Tracker, exit_on_signals

async def main():
    async with Tracker(epochs=1000) as tracker:
        print("begun", tracker.run_id, flush=True)
        while True:
            await asyncio.sleep(0.2)
            await tracker.epoch()

with exit_on_signals():
    asyncio.run(main())
"""


@dataclass
class Window:
    """What one journal's lines state."""

    header: dict[str, Any]
    begin_ns: int
    end_ns: int
    has_end: bool

    @property
    def node(self) -> str:
        return str(self.header["host"])

    @property
    def joules(self) -> float:
        return WATTS[self.node] * (self.end_ns - self.begin_ns) / NS_PER_S


def marked(shared: Path) -> dict[Path, list[dict[str, Any]]]:
    """The lines of the journals that have a mark, by their file."""
    files = {path: path.read_text().splitlines(keepends=True) for path in sorted(shared.rglob("*.jsonl"))}
    lines = {path: [json.loads(line) for line in texts if line.endswith("\n")] for path, texts in files.items()}
    return {path: found for path, found in lines.items() if any(line.get("k") == "mark" for line in found)}


def windows(shared: Path) -> list[Window]:
    """The windows of all journals, from their first mark to their last, or to the newest second of one that goes on."""
    found = []
    for path, lines in marked(shared).items():
        times = [line["t"] for line in lines if line.get("k") == "mark"]
        has_end = any(line.get("k") == "end" for line in lines)  # a tick of the minute may come behind it
        tail = path.with_suffix(".tail")
        if not has_end:
            with contextlib.suppress(FileNotFoundError):  # it ends just now
                times.append(json.loads(tail.read_bytes()[18:])["t"])
        found.append(Window(lines[0], min(times), max(times), has_end))
    return found


def truth_j(found: list[Window]) -> float:
    """Joules of each node's device in the union of its windows."""
    joules = 0.0
    for node, watts in WATTS.items():
        mine = [w for w in found if w.node == node]
        edges = sorted({t for w in mine for t in (w.begin_ns, w.end_ns)})
        inside = [b - a for a, b in pairwise(edges) if any(w.begin_ns <= a and b <= w.end_ns for w in mine)]
        joules += watts * sum(inside) / NS_PER_S
    return joules


def joules(report: dict[str, Any]) -> float:
    return float(report["it_energy_kwh"]) * J_PER_KWH


class Jobs:
    """All jobs of this module, submitted."""

    def __init__(self, slurm: Any) -> None:
        self.slurm = slurm
        folder = slurm.folder
        for name, text in (("work.py", WORK), ("script.py", SCRIPT)):
            (folder / name).write_text(text)
        work = f"{sys.executable} {folder}/work.py"
        # Its limit is looked at twice a minute: 60 s before a limit of 60 s is as soon as it is seen.
        step = f"srun {slurm.on_node} {self._tracked('signalled')} {work} 300"
        self.signalled = self._submit("signalled", step, "--time=1", "--signal=USR1@60")
        # The batch script is tracked as well, on the first node. A shell around it would die of SIGTERM, and what is
        # left of a batch script after its shell is killed at once.
        step = f"srun {slurm.on_node} {self._tracked('requeued')} {work} 4"
        self.requeued = self._submit("requeued", f"exec {slurm.on_node} {self._tracked('requeued')} {step}")
        self.cancelled = self._submit("cancelled", f"srun {slurm.on_node} {self._tracked('cancelled')} {work} 300")
        journal = f"export AIOCARBON_JOURNAL={self.shared('script')}"
        self.script = self._submit("script", f"{journal}; srun {slurm.on_node} {sys.executable} {folder}/script.py")
        # On the last node nothing is tracked.
        (folder / "lacking.sh").write_text(
            f"[ $SLURMD_NODENAME = n3 ] && exec {work} 2\nexec {self._tracked('lacking')} {work} 2\n"
        )
        self.lacking = self._submit("lacking", f"srun {slurm.on_node} bash {folder}/lacking.sh")

    def shared(self, name: str) -> Path:
        """The folder of a job's journals."""
        folder: Path = self.slurm.folder / name
        return folder

    def _tracked(self, name: str) -> str:
        return f"{sys.executable} -m aiocarbon run --journal {self.shared(name)} --"

    def _submit(self, name: str, script: str, *options: str) -> str:
        options = ("--nodes=3", "--ntasks-per-node=2", f"--job-name={name}", *options)
        job: str = self.slurm.submit(f"{script}\n", *options)
        return job

    def until_all_work(self, name: str, job: str, processes: int) -> None:
        """Wait until so many processes of a job have a journal with a first mark."""
        self.slurm.until(f"{processes} journals of {name}", lambda: len(marked(self.shared(name))) >= processes, job)


@pytest.fixture(scope="module")
def jobs(slurm: Any) -> Jobs:
    return Jobs(slurm)


def test_three_nodes_two_tasks_each_and_a_requeue_are_one_run_with_each_joule_once(jobs: Jobs) -> None:
    slurm, job, shared = jobs.slurm, jobs.requeued, jobs.shared("requeued")
    jobs.until_all_work("requeued", job, 7)
    time.sleep(2.0)  # energy to be counted in the first start
    (live,) = slurm.report(shared)["runs"]
    assert live["run_id"] == f"slurm-acc-{job}"
    assert 0.0 < joules(live) < truth_j(windows(shared)) * 1.2
    slurm.says("scontrol", "requeue", job)
    slurm.until("it waits again", lambda: slurm.state(job) == "PENDING", job)
    first = windows(shared)
    assert len(first) == 7
    assert all(window.has_end for window in first), "each process ended with a report, at its SIGTERM"
    time.sleep(1.0)  # what the nodes do now is not the job's
    slurm.says("scontrol", "update", f"jobid={job}", "StartTime=now")
    assert slurm.until_over(job) == "COMPLETED"

    found = windows(shared)
    truth = truth_j(found)
    naive = math.fsum(window.joules for window in found)
    told = slurm.report(shared)
    (run,) = told["runs"]
    shown = f"truth {truth:.2f} J, report {joules(run):.2f} J ({joules(run) / truth - 1.0:+.4%})"
    print(f"{shown}, naive sum {naive:.2f} J ({naive / truth:.2f} times)")  # noqa: T201 # `pytest -s` shows it
    assert joules(run) == pytest.approx(truth, rel=0.005)
    assert joules(told["total"]) == pytest.approx(truth, rel=0.005)
    assert naive > 1.5 * truth
    assert len(found) == 14
    assert {window.node for window in found} == set(slurm.watts)
    # The two starts, their pause left out, and what the tasks say that they worked within.
    assert {window.header["restart"] for window in found} == {0, 1}
    steps = {window.header["attempt"] for window in found if window.header["rank"] is not None}
    assert steps == {f"slurm-acc-{job}.0.step-0", f"slurm-acc-{job}.1.step-0"}
    last, begun = max(w.end_ns for w in first), min(w.begin_ns for w in found if w.header["restart"] == 1)
    assert begun - last > 0.9e9
    worked = [line.split() for line in slurm.output(job).splitlines() if line.startswith("worked ")]
    assert len(worked) == 6
    for begin_ns, end_ns in ((int(begin), int(end)) for _, begin, end in worked):
        assert any(w.begin_ns <= begin_ns and end_ns <= w.end_ns for w in found)


def test_the_first_rank_prints_the_job_and_the_others_nothing(jobs: Jobs) -> None:
    slurm, job = jobs.slurm, jobs.cancelled
    jobs.until_all_work("cancelled", job, 6)
    slurm.says("scancel", job)  # SIGCONT and SIGTERM, to the tasks and to what they started
    assert slurm.until_over(job) == "CANCELLED"
    slurm.until("its report", lambda: "overhead" in slurm.output(job), job)
    assert all(window.has_end for window in windows(jobs.shared("cancelled")))
    assert slurm.output(job).count("aiocarbon: slurm-acc-") == 1
    assert f"aiocarbon: slurm-acc-{job} on n1, n2, n3" in slurm.output(job)


def test_a_script_that_asks_for_it_ends_with_its_last_mark_when_it_is_cancelled(jobs: Jobs) -> None:
    slurm, job, shared = jobs.slurm, jobs.script, jobs.shared("script")
    jobs.until_all_work("script", job, 6)
    slurm.says("scancel", job)
    assert slurm.until_over(job) == "CANCELLED"
    slurm.until("all ends", lambda: all(window.has_end for window in windows(shared)), job)
    (run,) = slurm.report(shared)["runs"]
    assert run["run_id"] == f"slurm-acc-{job}"
    assert joules(run) == pytest.approx(truth_j(windows(shared)), rel=0.005)


def test_a_node_that_told_nothing_is_named_and_no_energy_is_made_up_for_it(jobs: Jobs) -> None:
    slurm, job, shared = jobs.slurm, jobs.lacking, jobs.shared("lacking")
    assert slurm.until_over(job) == "COMPLETED"
    (run,) = slurm.report(shared)["runs"]
    assert joules(run) == pytest.approx(truth_j(windows(shared)), rel=0.005)
    assert {device["host"] for device in run["devices"]} == {"n1", "n2"}
    assert any("n3" in warning for warning in run["warnings"])


def test_the_signal_before_a_time_limit_ends_with_a_report(jobs: Jobs) -> None:
    slurm, job, shared = jobs.slurm, jobs.signalled, jobs.shared("signalled")
    slurm.until_over(job)
    slurm.until("its report", lambda: "overhead" in slurm.output(job), job)
    found = windows(shared)
    assert len(found) == 6
    assert all(window.has_end for window in found)
    (run,) = slurm.report(shared)["runs"]
    assert joules(run) == pytest.approx(truth_j(found), rel=0.005)
    assert "Exited with exit code 138" in slurm.output(job)  # 128 + SIGUSR1: what the command made of it
