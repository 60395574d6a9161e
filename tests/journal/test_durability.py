"""Processes killed by SIGKILL at random moments leave journals that lack at most the last second."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aiocarbon.journal import load

pytestmark = pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="compares clocks of two processes")

KILLS = 10
WATTS = 100
LOST_MOST_S = 1.0

CHILD = f"""
import sys, time
from aiocarbon.meters.simulated import Constant, SimulatedMeter
from aiocarbon.sync import Tracker

def tell(what):
    sys.stdout.write(f"{{what}} {{time.clock_gettime_ns(time.CLOCK_BOOTTIME)}}\\n")
    sys.stdout.flush()

tell("beginning")
meter = SimulatedMeter(wave=Constant({WATTS}), refresh_s=0.001)
with Tracker(meters=[meter], journal=sys.argv[1], location="DK", interval_s=0.1) as tracker:
    tell("begun")
    while True:
        with tracker.epoch():
            time.sleep(float(sys.argv[2]))  # the work
        tell("epoch")
"""


@dataclass
class Victim:
    """A child with the moment it is to be killed at, and what it said of itself."""

    folder: Path
    process: subprocess.Popen[str]
    lives_s: float
    beginning_ns: int = 0  # before the tracker is entered
    begun_ns: int = 0  # after it
    ends_ns: list[int] = field(default_factory=list)

    def hear(self, line: str) -> int:
        what, stamp = line.split()
        if what == "beginning":
            self.beginning_ns = int(stamp)
        elif what == "begun":
            self.begun_ns = int(stamp)
        else:
            self.ends_ns.append(int(stamp))
        return int(stamp)

    def kill(self, after_s: float) -> int:
        """Kill it in the midst of what it does, and give the moment on the boot clock."""
        assert self.process.stdout is not None
        heard_ns = 0
        while not self.begun_ns or heard_ns < self.begun_ns + self.lives_s * 1e9:
            heard_ns = self.hear(self.process.stdout.readline())
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(after_s)
        killed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.process.send_signal(signal.SIGKILL)
        rest, _ = self.process.communicate()
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                self.hear(line)
        assert self.process.returncode == -signal.SIGKILL
        return killed_ns


def test_a_killed_process_leaves_all_but_its_last_second(tmp_path: Path) -> None:
    rng = random.Random(20)
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [Path(__file__).parents[2], *sys.path]))}
    victims = []
    for n in range(KILLS):
        folder = tmp_path / f"runs-{n}"
        command = [sys.executable, str(script), str(folder), f"{rng.uniform(0.02, 0.2):.3f}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        victims.append(Victim(folder, process, rng.uniform(1.1, 2.0)))
    try:
        for victim in victims:
            killed_ns = victim.kill(rng.uniform(0.0, 0.1))
            check(victim, killed_ns)
    finally:
        for victim in victims:
            if victim.process.poll() is None:
                victim.process.kill()
                victim.process.communicate()


def check(victim: Victim, killed_ns: int) -> None:
    loaded = load(victim.folder)
    (run,) = loaded.runs
    assert loaded.problems == ()
    assert (run.is_final, run.ended_well) == (True, False)
    assert any("did not end by itself" in text for text in run.warnings)
    least_s, most_s = ((killed_ns - at_ns) / 1e9 for at_ns in (victim.begun_ns, victim.beginning_ns))
    assert least_s - LOST_MOST_S < run.duration_s < most_s + LOST_MOST_S
    certain = [end_ns for end_ns in victim.ends_ns if end_ns < killed_ns - LOST_MOST_S * 1e9]
    assert len(certain) <= run.epochs_total <= len(victim.ends_ns) + 1
    assert [epoch.index for epoch in run.epochs] == list(range(run.epochs_total))
    for part in (run, *run.epochs):
        assert part.it_energy_kwh * 3.6e6 == pytest.approx(WATTS * part.duration_s * part.coverage, rel=0.1)
    assert run.it_energy_kwh == pytest.approx(
        run.outside.it_energy_kwh + sum(epoch.it_energy_kwh for epoch in run.epochs)
    )
