"""Does a run survive? A real process killed by SIGKILL at random moments, resumed, killed again, and read back."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiocarbon.errors import JournalError
from aiocarbon.journal.process import Process
from aiocarbon.journal.read import gather, load
from aiocarbon.journal.view import View
from aiocarbon.meters.waves import Ramp
from benchmarks.progress import each
from benchmarks.result import Row, at_most, info, with_root

NAME: Final = "durability"
QUESTION: Final = "what is left of a run that SIGKILL ends again and again, and does anything count twice?"

KILLS: Final = 200
CHAIN: Final = 10
"""So many times one run is killed and resumed; then it ends by itself."""

QUICK_KILLS: Final = 6
LIVES_S: Final = (0.1, 5.0)
"""From its start to its end; entering takes some tenths of a second of that."""

WAVE: Final = (50.0, 400.0, 600.0)
"""Watts at first and at last, seconds from one to the other: what an instant's energy is depends on the instant, and a
straight line between two readings is right, so that a difference from the truth is not one of interpolation."""

LOST_MOST_S: Final = 1.0 + 0.1
"""The last second, since readings are a second apart, and what a busy machine serves a tick too late."""

ERROR_MOST: Final = 0.005
RUN_ID: Final = "job"
S: Final = 1_000_000_000

CHILD: Final = f"""
import sys, time
from aiocarbon.meters.simulated import Ramp, SimulatedMeter
from aiocarbon.sync import Tracker

def tell(*what):
    sys.stdout.write(" ".join(map(str, (*what, time.clock_gettime_ns(time.CLOCK_BOOTTIME)))) + "\\n")
    sys.stdout.flush()

folder, epoch_ns, interval_s, epochs = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
tell("beginning")
meter = SimulatedMeter(wave=Ramp{WAVE!r}, refresh_s=0.001, epoch_ns=epoch_ns)
with Tracker(meters=[meter], journal=folder, resume={RUN_ID!r}, location="DK", offline=True, interval_s=interval_s,
             intensity=100.0, pue=1.0) as tracker:
    tell("begun")
    for _ in range(epochs or 10**9):
        with tracker.epoch() as epoch, tracker.span("work"):
            time.sleep(0.07)
        tell("epoch", epoch.report.index)
report = tracker.report()
tell("ended", report.it_energy_kwh * 3.6e6, report.epochs_total)
"""


@dataclass
class Life:
    """One start of the run, by what it said of itself; boot time.

    Attributes:
        beginning_ns: Before its tracker was entered; 0 if it did not get so far.
        begun_ns: Behind it; likewise.
        killed_ns: When it was killed; 0 if it ended by itself.
        epochs: When each of its epochs was over, by index.
        energy_j: What its own report said of the whole run at its end; None if it was killed.
    """

    beginning_ns: int = 0
    begun_ns: int = 0
    killed_ns: int = 0
    epochs: dict[int, int] = field(default_factory=dict)
    energy_j: float | None = None

    def hear(self, text: str) -> None:
        """Take what it said; a torn last line is what a killed process leaves."""
        for line in text.splitlines(keepends=True):
            if not line.endswith("\n"):
                return
            what, *rest = line.split()
            if what == "beginning":
                self.beginning_ns = int(rest[-1])
            elif what == "begun":
                self.begun_ns = int(rest[-1])
            elif what == "epoch":
                self.epochs[int(rest[0])] = int(rest[-1])
            elif what == "ended":
                self.energy_j = float(rest[0])


@dataclass
class Verdict:
    """What was found of some runs.

    Attributes:
        kills: How often one was killed.
        begun: How often after its tracker was entered.
        unreadable: Journals without a first line, of processes that were killed as they made it.
        lost_s: At each kill: the time before it that its journal does not hold.
        excess_s: The most by which a journal holds more time than its process lived.
        told_j: Joules by the report of all journals.
        true_j: What the device used in the time that the report vouches for: between the reading at its begin and
            its next a process that was killed knows of no energy, and says so.
        missing_s: The time that it tells and does not vouch for.
        live_j: Joules by the last process's own report.
        twice: Epochs that the report has twice, or leaves out.
        lost_epochs: Epochs that were over for longer than a second and are not in the report.
    """

    kills: int = 0
    begun: int = 0
    unreadable: int = 0
    lost_s: list[float] = field(default_factory=list)
    excess_s: float = 0.0
    told_j: float = 0.0
    true_j: float = 0.0
    missing_s: float = 0.0
    live_j: float = 0.0
    twice: int = 0
    lost_epochs: int = 0


def live(folder: Path, epoch_ns: int, *, lasts_s: float | None, interval_s: float, epochs: int = 0) -> Life:
    """Start the run or go on with it, and kill it after a time, or let it end.

    Args:
        folder: The folder of journals.
        epoch_ns: The device's instant 0, monotonic.
        lasts_s: After how long it is killed; None: it ends after so many epochs.
        interval_s: The tracker's.
        epochs: How many it does; 0 for no end.
    """
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("AIOCARBON_", "SLURM"))}
    environ = with_root(environ) | {"AIOCARBON_LOCK_DIR": "none"}
    command = [sys.executable, "-c", CHILD, str(folder), str(epoch_ns), str(interval_s), str(epochs)]
    life = Life()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=said, env=environ, cwd="/")
        try:
            process.wait(lasts_s)
        except subprocess.TimeoutExpired:
            life.killed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            process.send_signal(signal.SIGKILL)
            process.wait()
        said.seek(0)
        life.hear(said.read().decode())
    if lasts_s is None and process.returncode != 0:
        raise RuntimeError(f"the run that was to end by itself ended with {process.returncode}")
    return life


def chain(
    folder: Path, kills: int, seed: int, *, interval_s: float = 1.0, lives_s: tuple[float, float] = LIVES_S
) -> Verdict:
    """Kill one run at random moments, resume it each time, let it end at last, and judge its journals.

    Args:
        folder: An empty folder.
        kills: How often.
        seed: Of the moments.
        interval_s: The tracker's.
        lives_s: The shortest and the longest life of a process.
    """
    rng = random.Random(seed)
    epoch_ns = time.monotonic_ns()
    lives = [live(folder, epoch_ns, lasts_s=rng.uniform(*lives_s), interval_s=interval_s) for _ in range(kills)]
    lives.append(live(folder, epoch_ns, lasts_s=None, interval_s=interval_s, epochs=2))
    return judge(folder, epoch_ns, lives)


def judge(folder: Path, epoch_ns: int, lives: list[Life]) -> Verdict:
    """What the journals of a run hold of what its processes did.

    Raises:
        JournalError: The run cannot be read at all.
    """
    problems: list[str] = []
    processes = gather([folder], problems)
    strange = [text for text in problems if " is empty" not in text]
    if strange:
        raise JournalError(f"journals of killed processes have problems: {strange}")
    (run,) = load(folder).runs
    verdict = Verdict(
        kills=sum(life.killed_ns > 0 for life in lives),
        begun=sum(life.killed_ns > 0 and life.begun_ns > 0 for life in lives),
        unreadable=len(problems),
        told_j=run.it_energy_kwh * 3.6e6,
        live_j=lives[-1].energy_j or 0.0,
    )
    off_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    wave = Ramp(*WAVE)
    views = sorted((View(process) for process in processes), key=lambda view: view.begin_ns)
    for view in views:
        begin, end = ((at - off_ns - epoch_ns) / S for at in (view.begin_ns, view.end_ns))
        cut = view.ledger.cut(view.ledger.mark(view.begin_ns), view.ledger.mark(view.end_ns))
        missing_s = max((device.missing_ns / S for device in cut.devices), default=end - begin)
        verdict.missing_s += missing_s
        verdict.true_j += wave.energy_j(end) - wave.energy_j(begin) - missing_s * wave.power_w(end)
    found = [view.process for view in views]
    for life in lives:
        _judge_life(verdict, life, [process for process in found if _is_of(process, life)])
    indices = [epoch.index for epoch in run.epochs]
    verdict.twice = len(indices) - len(set(indices)) + len(set(range(run.epochs_total)) - set(indices))
    done = {epoch.index for epoch in run.epochs if not epoch.is_partial}
    sure = {
        i
        for life in lives
        for i, at in life.epochs.items()
        if not life.killed_ns or life.killed_ns - at > LOST_MOST_S * S
    }
    verdict.lost_epochs = len(sure - done)
    return verdict


def _is_of(process: Process, life: Life) -> bool:
    begun = process.anchors[0].mono_ns
    return bool(life.beginning_ns) and life.beginning_ns <= begun <= (life.killed_ns or begun)


def _judge_life(verdict: Verdict, life: Life, journals: list[Process]) -> None:
    """How much of a life its journal lacks, or holds too much."""
    if not life.begun_ns or not life.killed_ns:
        return
    if not journals:
        verdict.lost_s.append((life.killed_ns - life.begun_ns) / S)
        return
    (journal,) = journals
    view = View(journal)
    verdict.lost_s.append(max((life.killed_ns - view.end_ns) / S, 0.0))
    verdict.excess_s = max(verdict.excess_s, (view.end_ns - life.killed_ns) / S)


def run(*, quick: bool) -> list[Row]:
    """All figures."""
    kills = QUICK_KILLS if quick else KILLS
    verdicts = []
    for seed in each(range(-(-kills // CHAIN)), lambda seed: f"run {seed}"):
        folder = Path(tempfile.mkdtemp(prefix="durability-"))
        try:
            verdicts.append(chain(folder, min(CHAIN, kills - seed * CHAIN), seed))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return rows(verdicts, is_limited=not quick)


def rows(verdicts: list[Verdict], *, is_limited: bool = True) -> list[Row]:
    """The figures of some runs.

    Args:
        verdicts: What was found.
        is_limited: False to hold times to no limit.
    """
    lost = sorted(s for verdict in verdicts for s in verdict.lost_s)
    errors = [abs(v.told_j - v.true_j) / v.true_j for v in verdicts]
    alive = [abs(v.live_j - v.told_j) / v.told_j for v in verdicts]
    kills, begun = sum(v.kills for v in verdicts), sum(v.begun for v in verdicts)
    most = max(lost, default=0.0)
    note = f"{len(lost)} kills of a run that had begun; median {lost[len(lost) // 2]:.2f} s" if lost else ""
    time_row = at_most if is_limited else lambda *row: info(row[0], row[1], row[2], row[4])
    return [
        info("kills by SIGKILL", kills, "", f"{begun} after the tracker was entered; {len(verdicts)} runs"),
        info("journals without a first line", sum(v.unreadable for v in verdicts), "", "killed while it was made"),
        time_row("time before a kill that the journal lacks, the most", most, "s", LOST_MOST_S, note),
        at_most("time told beyond a process's life, the most", max(v.excess_s for v in verdicts), "s", 0.02),
        info("time that is told and not vouched for", sum(v.missing_s for v in verdicts), "s", "of all runs"),
        at_most("energy of a resumed run against the device's, the worst", max(errors), "", ERROR_MOST),
        at_most("the last process's own report against the journals'", max(alive), "", ERROR_MOST),
        at_most("epochs told twice, or left out", sum(v.twice for v in verdicts), "", 0),
        at_most("epochs over for longer than that and not told", sum(v.lost_epochs for v in verdicts), "", 0),
    ]
