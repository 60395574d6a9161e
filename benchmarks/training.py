"""Is real training slower with a tracker? Blocks of training with and without one, in turn, in one process each.

What is judged are CPU seconds of a step, of all threads: time itself scatters by several percent on a machine that
others use too. Pairs are taken until the 95 % interval of the change is ±0.4 % wide, at most 300; where that was not
reached nothing passes. The tools that users know train the same steps. One GPU of the fake NVML is there for all that
trains on the CPU; what trains on a real GPU, where there is one, is measured by that one's own driver.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import contenders
from benchmarks.contenders import (
    ASYNC,
    BY_NAME,
    PEERS,
    SYNC,
    in_child,
    made,
    python,
    succeeds,
    threads_environ,
    why_not,
)
from benchmarks.pairs import Ratio, Stop, order, ratio
from benchmarks.progress import Bar, progress
from benchmarks.result import ENDED, ChildError, Row, at_most, info, skipped
from benchmarks.workloads.steps import NEEDS_CUDA, NEEDS_TORCH, SEED

NAME: Final = "training"
QUESTION: Final = "by how much does a step of training take longer with a tracker?"

versions = contenders.versions

CLI: Final = "aiocarbon run"
WHOLE: Final = Stop()
SOME: Final = Stop(most=10)
FEW: Final = Stop(least=3, most=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One contender at one kind of step.

    Attributes:
        step: Name in `benchmarks.workloads.steps`.
        contender: Name of an entry, or `CLI`.
        interval_s: Between readings; None: the contender's default.
        is_on_all_cores: True: numeric libraries use all cores; else one thread.
        is_limited: True if the limit of this benchmark is asked of it.
        is_quick: True if it is part of a quick run.
    """

    step: str
    contender: str = ASYNC.name
    interval_s: float | None = None
    is_on_all_cores: bool = False
    is_limited: bool = False
    is_quick: bool = False

    @property
    def name(self) -> str:
        """In the table."""
        paced = "" if self.interval_s is None else f" every {self.interval_s * 1000:g} ms"
        return f"{self.step}{', all cores' if self.is_on_all_cores else ''}, {self.contender}{paced}"


CASES: Final = (
    Case(step="numpy", is_limited=True, is_quick=True),
    Case(step="cnn", is_limited=True),
    Case(step="transformer", is_limited=True),
    *(Case(step="numpy", contender=peer.name, is_quick=True) for peer in PEERS),
    Case(step="numpy", contender=SYNC.name, is_quick=True),
    Case(step="numpy", contender=CLI, is_quick=True),
    Case(step="numpy", interval_s=0.1, is_quick=True),
    Case(step="numpy", interval_s=0.02),  # the shortest that is accepted
    Case(step="python", is_quick=True),
    Case(step="matmul"),
    Case(step="loop", is_quick=True),
    *(Case(step="cnn", contender=peer.name) for peer in PEERS),
    Case(step="numpy", is_on_all_cores=True),
    Case(step="cnn", is_on_all_cores=True),
    Case(step="transformer", is_on_all_cores=True),
    *(Case(step=step) for step in NEEDS_CUDA),
    *(Case(step=NEEDS_CUDA[0], contender=peer.name) for peer in PEERS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Seconds of a block, and of what is trained uncounted.

    Attributes:
        block_s: Counted.
        entered_s: Behind each entering: a tracker finds out how often the counters are refreshed in its first second.
        left_s: Behind each leaving.
        warm_s: Before the first entering and again behind it: beside a loop that holds the interpreter's lock, what is
            imported behind the entering takes five seconds.
    """

    block_s: float = 2.0
    entered_s: float = 2.0
    left_s: float = 0.5
    warm_s: float = 5.0


QUICK: Final = Lengths(block_s=0.3, entered_s=1.0, left_s=0.1, warm_s=0.3)


def run(*, quick: bool, only: str = "") -> list[Row]:
    """All cases, or those whose name holds a text."""
    cases = [case for case in CASES if only in case.name and (case.is_quick or not quick)]
    library, why = made.library()
    rows: list[Row] = []
    has_torch = any(case.step in NEEDS_TORCH for case in cases) and succeeds("import torch")
    has_cuda = has_torch and succeeds("import torch; torch.zeros(1).cuda()")
    with tempfile.TemporaryDirectory() as folder, progress() as bar:
        environ = made.gpus(library, made.ONE_GPU, Path(folder))
        for number, case in enumerate(cases, 1):
            missing = why_not(BY_NAME.get(case.contender, ASYNC))
            if case.step in NEEDS_TORCH and not has_torch:
                missing = missing or f"torch is not installed for {python()}"
            if case.step in NEEDS_CUDA and not has_cuda:
                missing = missing or "torch finds no GPU here"
            if missing:
                rows.append(skipped(f"{case.name}: CPU time of a step", "%", missing))
                continue
            stop = FEW if quick else WHOLE if case.is_limited else SOME
            beside = dict(os.environ) if case.step in NEEDS_CUDA else environ
            taken = Taking(case, stop, QUICK if quick else Lengths(), Path(folder) / f"pairs-{number}", beside)
            try:
                found, no_count = taken.pairs(bar, f"{number}/{len(cases)} {case.name}")
            except ChildError as error:
                rows.append(skipped(f"{case.name}: CPU time of a step", "%", f"failed: {error.last_line[:150]}"))
                continue
            except KeyboardInterrupt:  # what was measured until then is kept
                late = cases[number - 1 :]
                rows += [skipped(f"{one.name}: CPU time of a step", "%", ENDED) for one in late]
                break
            rows += rows_of(case, stop, found, no_count, is_judged=case.is_limited and not quick)
    if library is None:
        rows.append(skipped("the GPU of the fake NVML", "", why))
    return rows


Found = Sequence[tuple[dict[str, Any], dict[str, Any]]]
"""Pairs of blocks, each (without, with): what `benchmarks.workloads.blocks` tells of a block."""


@dataclass(frozen=True)
class Taking:
    """How the pairs of a case are taken."""

    case: Case
    stop: Stop
    lengths: Lengths
    file: Path
    environ: dict[str, str]

    def pairs(self, bar: Bar, what: str) -> tuple[Found, str]:
        """The pairs, and why they hold no instructions."""
        threads = os.cpu_count() or 1 if self.case.is_on_all_cores else 1
        asked = {
            "contender": self.case.contender,
            "meters": "all",
            "interval_s": self.case.interval_s,
            "step": self.case.step,
            "threads": threads,
            "seed": SEED,
            "stop": asdict(self.stop),
            "progress": str(self.file),
            **asdict(self.lengths),
        }
        environ = threads_environ(threads, self.environ)
        if self.case.contender == CLI:
            return self._of_processes(bar, what, asked, environ)
        limit_s = 90.0 + self.stop.most * 2 * (self.lengths.block_s + self.lengths.entered_s + 15.0)
        told = bar.watched(
            what,
            self.stop.most,
            self.file,
            lambda: in_child("blocks:train", asked, environ=environ, timeout_s=limit_s),
        )
        return told["pairs"], told["why"]

    def _of_processes(self, bar: Bar, what: str, asked: dict[str, Any], environ: dict[str, str]) -> tuple[Found, str]:
        """The command line tracks a process from outside: its pairs are pairs of processes."""
        command = (python(), "-m", "aiocarbon", "run", "--location", "DK", "--offline", "--")
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for turn in order(self.stop.most, SEED):
            bar.show(what, len(pairs), self.stop.most)
            found = {
                is_on: in_child(
                    "blocks:alone", asked, environ=environ, before=command if is_on else (), cwd=self.file.parent
                )
                for is_on in turn
            }
            pairs.append((found[False], found[True]))
            if self.stop.is_enough([(off["cpu_s"], on["cpu_s"]) for off, on in pairs], seed=SEED):
                break
        return pairs, ""


def rows_of(case: Case, stop: Stop, pairs: Found, no_count: str, *, is_judged: bool) -> list[Row]:
    """What the pairs of a case say.

    Args:
        case: The case.
        stop: By which they were taken.
        pairs: At least 1.
        no_count: Why they hold no instructions.
        is_judged: Whether the limit is asked of them.
    """
    cpu = _ratio(pairs, "cpu_s")
    changes = tuple((on["cpu_s"] / off["cpu_s"] - 1.0) * 100.0 for off, on in pairs)
    step_ms = pairs[0][0]["cpu_s"] * 1000.0
    note = f"{cpu.story()}; a step takes {step_ms:.2g} ms"
    rows = [Row(f"{case.name}: CPU time of a step", cpu.percent, "%", note=note, data=changes)]
    if is_judged:
        told = max(cpu.low_percent, 0.0)
        rows.append(at_most(f"{case.name}: slowdown that can be told from none", told, "%", 0.0))
        rows.append(at_most(f"{case.name}: half-width of the interval", cpu.half_width, "%", stop.half_width))
    wall = _ratio(pairs, "wall_s")
    walls = tuple((on["wall_s"] / off["wall_s"] - 1.0) * 100.0 for off, on in pairs)
    rows.append(Row(f"{case.name}: time of a step", wall.percent, "%", note=wall.story(), data=walls))
    if all(block["instructions"] for pair in pairs for block in pair):
        count = _ratio(pairs, "instructions")
        rows.append(info(f"{case.name}: instructions of a step", count.percent, "%", count.story()))
    elif no_count and is_judged:
        rows.append(skipped(f"{case.name}: instructions of a step", "%", no_count))
    switches = [on["switches"] - off["switches"] for off, on in pairs]
    rows.append(info(f"{case.name}: context switches more", _median(switches), "1/s", "median of the pairs"))
    return rows


def _ratio(pairs: Found, what: str) -> Ratio:
    return ratio([(off[what], on[what]) for off, on in pairs], seed=SEED)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
