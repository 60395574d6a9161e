"""Who is how far off? aiocarbon and the tools that its users know, each beside devices whose joules are known.

Every contender meets the same devices by its own unmodified means: GPUs of the compiled fake NVML through pynvml, a
CPU's counter through /sys/class/powercap, which wraps once in a run. What a contender says of a window is held against
the truth of that window: its run is as long as it says itself, its epochs and tasks lie between its own calls. Powers
and lengths are fixed; each round begins at another phase of the waves.
"""

from __future__ import annotations

import itertools
import math
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks import contenders, truth
from benchmarks.contenders import ASYNC, PEERS, Entry, in_child, made, why_not
from benchmarks.progress import progress, workers
from benchmarks.result import ChildError, Row, at_most, info, skipped

NAME: Final = "accuracy_peers"
QUESTION: Final = "how far off are aiocarbon and the tools that its users know, beside the same devices?"

versions = contenders.versions

SEED: Final = 20_200_706
AT_ONCE: Final = 4
CONTENDERS: Final = (ASYNC, *PEERS)
LEAD_S: Final = 8.0
"""That contenders have to begin in before a device is lost or a counter wraps."""
FLOOR_PERCENT: Final = 0.1
"""Two errors below this are alike: a stamp 1 ms beside the reading is as much in a second."""

SQUARE: Final = "wave 0 square 1.3 0.45 50 400\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Some devices and what is done beside them.

    Attributes:
        name: In the table.
        text: The scenario, in the form of the fake NVML.
        meters: "gpu", or "cpu": the one device is then a CPU behind a counter that wraps.
        what: "run", "epochs" or "tasks": whose error counts. "shares": the tasks' sum.
        epochs: Seconds of each; a quick run has shorter ones.
        blocked: Indices of those that block the loop.
        tasks: Name, begin and end of each, in seconds.
        lost_s: When the first device is lost; None: never.
        wraps_s: When the counter of a CPU wraps, the once that a run holds.
    """

    name: str
    text: str
    meters: str = "gpu"
    what: str = "run"
    epochs: Sequence[float] = (10.0,)
    blocked: Sequence[int] = ()
    tasks: Sequence[tuple[str, float, float]] = ()
    lost_s: float | None = None
    wraps_s: float | None = None

    def shortened(self, by: float) -> Scene:
        """The same in less time; short epochs stay as they are, and are fewer."""
        short = len(self.epochs) > 4
        return Scene(
            name=self.name,
            text=self.text,
            meters=self.meters,
            what=self.what,
            epochs=self.epochs[: max(round(len(self.epochs) * by), 4)] if short else [e * by for e in self.epochs],
            blocked=self.blocked,
            tasks=[(name, a * by, b * by) for name, a, b in self.tasks],
            lost_s=None if self.lost_s is None else self.lost_s * by,
            wraps_s=None if self.wraps_s is None else self.wraps_s * by,
        )


A100: Final = "gpu NVIDIA A100-SXM4-40GB\narch 7\n"
SCENES: Final = (
    Scene(
        name="eight GPUs",
        text="".join(f"{A100}wave 0 square {1.3 + 0.2 * i:g} 0.5 {60 + i} {300 + 10 * i}\n" for i in range(8)),
    ),
    Scene(name="epochs of 0.25 s", text=f"{A100}counter_ms 100\n{SQUARE}", what="epochs", epochs=(0.25,) * 32),
    Scene(name="epochs of 1 s", text=f"{A100}counter_ms 100\n{SQUARE}", what="epochs", epochs=(1.0,) * 10),
    Scene(
        name="counter that wraps",
        text=f"gpu CPU\ncounter_ms 10\n{SQUARE}",
        meters="cpu",
        epochs=(12.0,),
        wraps_s=6.0,
    ),
    Scene(
        name="GPU lost half-way, another stays",
        text=f"{A100}{SQUARE}{A100}wave 0 square 1.7 0.5 60 380\n",
        lost_s=5.0,
    ),
    Scene(
        name="power-only GPU",
        text=f"gpu Tesla P100\narch 4\ncounter 0\npower_ms 100\n{SQUARE}",
    ),
    Scene(
        name="loop blocked by the training",
        text=f"{A100}counter_ms 100\n{SQUARE}",
        what="epochs",
        epochs=(2.0, 6.0, 2.0),
        blocked=(1,),
    ),
    Scene(
        name="tasks in turn",
        text=A100 + SQUARE,
        what="tasks",
        tasks=(("a", 0.5, 3.0), ("b", 3.2, 5.0), ("c", 5.3, 8.0)),
    ),
    Scene(
        name="tasks at once: their sum",
        text=A100 + SQUARE,
        what="shares",
        tasks=(("a", 0.5, 5.0), ("b", 1.5, 7.0), ("c", 3.0, 8.0)),
    ),
)


def run(*, quick: bool, only: str = "") -> list[Row]:
    """All scenes, or those whose name holds a text."""
    scenes = [scene.shortened(0.4) if quick else scene for scene in SCENES if only in scene.name]
    rounds = 1 if quick else 10
    library, why = made.library()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, progress() as bar, workers(AT_ONCE) as pool:
        folder = Path(name)
        made.powercap(folder / "probe")
        no_tree = made.why_no_powercap(folder / "probe")
        why_none = {"gpu": why if library is None else "", "cpu": no_tree}
        there = [entry for entry in CONTENDERS if not why_not(entry)]
        jobs = {
            (scene.name, entry.name, turn): pool.submit(Trial(scene, entry, library, folder, turn).outcome)
            for scene in scenes
            if not why_none[scene.meters]
            for turn in range(rounds)  # all contenders in a round, then the next: a slow moment meets all
            for entry in there
        }
        found: dict[str, dict[str, list[Outcome]]] = {scene.name: {} for scene in scenes}
        for done, ((what, who, _), future) in enumerate(jobs.items()):
            bar.show(what, done, len(jobs))
            found[what].setdefault(who, []).append(future.result())
    for scene in scenes:
        missing = why_none[scene.meters]
        rows += [skipped(f"{scene.name}: error", "%", missing)] if missing else rows_of(scene, found[scene.name])
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a contender's figure is worth.

    Attributes:
        percent: Its error with its sign, of several windows the mean without signs; infinite if it said none.
        story: What it said, or why it said nothing.
    """

    percent: float
    story: str


NOTHING: Final = "it says nothing"
_numbers = itertools.count()


@dataclass(frozen=True)
class Trial:
    """One contender at one scene, once."""

    scene: Scene
    entry: Entry
    library: Path | None
    folder: Path
    turn: int

    def outcome(self) -> Outcome:
        """Run it in a process of its own, and hold what it says against the truth."""
        folder = self.folder / f"trial-{next(_numbers)}"
        folder.mkdir()
        # The phase is the same for all contenders of a round.
        phase_s = random.Random(f"{SEED} {self.turn}").uniform(0.0, 7.0)
        t0_ns = time.monotonic_ns() - round(phase_s * 1e9)
        try:
            heard = self._heard(folder, t0_ns, phase_s)
        except ChildError as error:
            return Outcome(percent=math.inf, story=f"its process failed: {error.last_line[:120]}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if heard["failed"]:
            return Outcome(percent=math.inf, story=str(heard["failed"]).splitlines()[0][:120])
        lost_ns = None if self.scene.lost_s is None else t0_ns + round((phase_s + LEAD_S + self.scene.lost_s) * 1e9)
        return judge(self.scene, t0_ns, heard, lost_ns)

    def _heard(self, folder: Path, t0_ns: int, phase_s: float) -> dict[str, Any]:
        scene, text, until_ns = self.scene, self.scene.text, None
        if scene.lost_s is not None:
            head, _, rest = text.partition("\n")
            text = f"{head}\nfault {phase_s + LEAD_S + scene.lost_s:.6f} - lost\n{rest}"
        if scene.lost_s is not None or scene.wraps_s is not None:
            # Either is a time of the scenario, and contenders begin sooner or later: they all go on until after it.
            until_ns = t0_ns + round((phase_s + LEAD_S + sum(scene.epochs)) * 1e9)
        asked: dict[str, Any] = {
            "contender": self.entry.name,
            "meters": scene.meters,
            "epochs": list(scene.epochs),
            "blocked": list(scene.blocked),
            "tasks": list(scene.tasks),
            "are_in_turn": scene.what == "tasks",
            "is_marked": scene.what == "epochs",
            "until_ns": until_ns,
        }
        if scene.meters == "gpu":
            environ = made.gpus(self.library, text, folder, t0_ns=t0_ns)
            return dict(in_child("scored:drive", asked, environ=environ, timeout_s=120))
        tree = folder / "powercap"
        zero_s = 0.0 if scene.wraps_s is None else phase_s + LEAD_S + scene.wraps_s
        with made.moved(made.powercap(tree), text, t0_ns, zero_s):
            return dict(in_child("scored:drive", asked, before=made.over_sys_class(tree), timeout_s=120))


def judge(scene: Scene, t0_ns: int, heard: Mapping[str, Any], lost_ns: int | None = None) -> Outcome:
    """Hold what a contender said against the truth.

    Args:
        scene: What was done.
        t0_ns: Scenario time zero.
        heard: What `benchmarks.workloads.scored` tells.
        lost_ns: When the first device was lost; its energy counts until then.
    """
    scenario = truth.parse(scene.text)

    def true_j(begin_ns: int, end_ns: int) -> float:
        each = scenario.joules(begin_ns, end_ns, t0_ns=t0_ns)
        if lost_ns is not None:
            first = scenario.gpus[0].uuid
            each[first] = scenario.joules(begin_ns, min(end_ns, lost_ns), t0_ns=t0_ns)[first]
        return sum(each.values())

    said = heard["said"]
    if scene.what == "run":
        if said["energy_j"] is None or said["duration_s"] is None:
            return Outcome(percent=math.inf, story=NOTHING)
        begin_ns = heard["end_ns"] - round(said["duration_s"] * 1e9)
        return _outcome(said["energy_j"], true_j(begin_ns, heard["end_ns"]))
    if scene.what == "epochs":
        return _mean(zip(said["epochs_j"], _windows(heard), strict=False), true_j, len(heard["marks"]))
    tasks = heard["tasks"]
    if scene.what == "tasks":
        windows = [(said["tasks_j"].get(name), tasks[name]) for name in tasks]
        return _mean(windows, true_j, len(tasks))
    # Their sum: the tasks overlap without a gap, so what is true of all is that of first begin to last end.
    whole = true_j(min(begin for begin, _ in tasks.values()), max(end for _, end in tasks.values()))
    return _outcome(math.fsum(said["tasks_j"].get(name) or 0.0 for name in tasks), whole)


def _windows(heard: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Begin and end of each epoch, by the contender's own calls."""
    begin_ns, windows = heard["begin_ns"], []
    for before_ns, after_ns in heard["marks"]:
        windows.append((begin_ns, before_ns))
        begin_ns = before_ns if heard["joins"] else after_ns
    return windows


def _outcome(said_j: float, true_j: float) -> Outcome:
    if not math.isfinite(said_j) or true_j <= 0.0:  # what is no number, or of no time
        return Outcome(percent=math.inf, story=f"it says {said_j:g} J of a window that has {true_j:.1f} J")
    return Outcome(percent=(said_j / true_j - 1.0) * 100.0, story=f"{said_j:.1f} of {true_j:.1f} J")


def _mean(
    windows: Iterable[tuple[float | None, tuple[int, int]]], true_j: Callable[[int, int], float], count: int
) -> Outcome:
    """The mean error of windows, without its sign; infinite if one of them has no figure."""
    found = [_outcome(said_j, true_j(*window)) for said_j, window in windows if said_j is not None]
    if len(found) < count:
        return Outcome(percent=math.inf, story=f"it says nothing of {count - len(found)} of {count}")
    worst = max(found, key=lambda outcome: abs(outcome.percent))
    mean = statistics.fmean(abs(outcome.percent) for outcome in found)
    return Outcome(percent=mean, story=f"mean of {count}, the farthest off {worst.percent:+.3g} %, {worst.story}")


def rows_of(scene: Scene, found: Mapping[str, Sequence[Outcome]]) -> list[Row]:
    """A row for each contender; that of aiocarbon may be no farther off than the best of the others.

    Args:
        scene: What was done.
        found: Outcomes of each contender that is installed, by its name; of each round one.
    """
    errors = {who: statistics.median(abs(outcome.percent) for outcome in outcomes) for who, outcomes in found.items()}
    peers = [errors[entry.name] for entry in PEERS if math.isfinite(errors.get(entry.name, math.inf))]
    rows = []
    for entry in CONTENDERS:
        metric = f"{scene.name}: {entry.name}"
        if entry.name not in found:
            rows.append(skipped(metric, "%", why_not(entry)))
            continue
        outcomes = found[entry.name]
        each = sorted(abs(outcome.percent) for outcome in outcomes)
        worst = max(outcomes, key=lambda outcome: abs(outcome.percent))
        failed = sum(not math.isfinite(error) for error in each)
        if not math.isfinite(errors[entry.name]):
            ok = False if entry.is_ours else None
            rows.append(Row(metric, None, "%", ok=ok, note=worst.story))
            continue
        spread = f"median of {len(each)}, {each[0]:.3g} to {each[-1]:.3g}, " if len(each) > 1 else ""
        note = f"{spread}worst {worst.percent:+.3g} %: {worst.story}"
        data = tuple(outcome.percent for outcome in outcomes if math.isfinite(outcome.percent))
        row = info(metric, errors[entry.name], "%", note)
        if entry.is_ours and peers:
            row = at_most(metric, errors[entry.name], "%", max(min(peers), FLOOR_PERCENT), note)
        if entry.is_ours and failed:  # a median hides what fails in less than half of the rounds
            row = replace(row, ok=False)
        rows.append(replace(row, data=data))
    return rows
