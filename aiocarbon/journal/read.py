"""Journals back into reports: what a run's file holds is cut again by the same code that cut it live.

Every figure is computed from energies and marks; of the report that a journal ends with only what cannot be computed
is taken (the instrument's own cost, parts that could not be read). Several files of one run become one report, in
which each instant of a device counts once; so does the total over several runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiocarbon._core.report import REPORT_SCHEMA, Quantities, RunReport
from aiocarbon._core.segment import Segment
from aiocarbon.errors import JournalError
from aiocarbon.journal.join import doubts, pooled, run_of, segments_of, spans_of, union_ns
from aiocarbon.journal.parse import Process, read_process
from aiocarbon.journal.records import SCHEMA
from aiocarbon.journal.refresh import union
from aiocarbon.journal.view import View


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What journals hold.

    Attributes:
        runs: One report a run, by the time of their begin.
        total: All runs together, each instant of a device once, each joule with the intensity and PUE of its run.
        problems: What could not be read, in words; empty if nothing.
    """

    runs: tuple[RunReport, ...]
    total: Quantities
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the schema of `aiocarbon report --json`."""
        return {
            "schema": REPORT_SCHEMA,
            "runs": [run.to_dict() for run in self.runs],
            "total": self.total.to_dict(),
            "problems": list(self.problems),
        }


def load(*paths: str | Path) -> Loaded:
    """Read journals.

    Args:
        paths: Files, run folders, or folders of runs (searched for *.jsonl to any depth).

    Returns:
        The runs, and what could not be read. The order of paths and their repetition do not matter.

    Raises:
        JournalError: Nothing could be read at all.
    """
    problems: list[str] = []
    return tell(gather(paths, problems), problems)


def gather(paths: Iterable[str | Path], problems: list[str]) -> list[Process]:
    """The processes whose journals lie there, each once, with what is known of any of its copies.

    Args:
        paths: As in `load`.
        problems: Gets what could not be read, in words.

    Raises:
        JournalError: Nothing could be read at all.
    """
    processes: dict[str, Process] = {}
    for file in _files(paths, problems):
        try:
            process = read_process(file)
        except JournalError as error:
            problems.append(str(error))
            continue
        problems.extend(process.problems)
        known = processes.get(process.ident)
        if known is not None:
            problems.append(f"{file} and {known.path} are journals of one process: counted once")
            process.learnt = known.learnt = union(known.learnt, process.learnt)
        if known is None or _extent(process) > _extent(known):
            processes[process.ident] = process
    if not processes:
        given = ", ".join(str(path) for path in paths) or "no path"
        why = "".join(f"\n  {problem}" for problem in problems)
        raise JournalError(
            f"nothing could be read in {given}: expected journals (*.jsonl of schema {SCHEMA}) or folders of them{why}"
        )
    return sorted(processes.values(), key=lambda process: process.ident)


def tell(processes: Sequence[Process], problems: Iterable[str]) -> Loaded:
    """The runs of processes and their total.

    Args:
        processes: What `gather` gave.
        problems: What could not be read.
    """
    found = [*problems]
    views = [View(process) for process in processes]
    for view in views:
        found.extend(view.problems)
    found.extend(doubts(views))
    segments = segments_of(views)
    before = _before(processes, segments)
    runs = [_mended(run, before.get(run.run_id)) for run in _runs(views, segments).values()]
    runs.sort(key=lambda run: (run.started_at, run.run_id))
    if len(views) == 1:
        total = _plain_total(runs[0])
    else:
        total = Quantities(**pooled(views, segments).quantities(union_ns(spans_of(views))))
    return Loaded(runs=tuple(runs), total=total, problems=tuple(dict.fromkeys(found)))


def _runs(views: list[View], segments: list[Segment]) -> dict[str, RunReport]:
    by_run: dict[str, list[View]] = {}
    for view in views:
        by_run.setdefault(view.process.facts.run_id, []).append(view)
    return {run_id: run_of(group, segments) for run_id, group in by_run.items()}


def _before(processes: Sequence[Process], segments: list[Segment]) -> dict[str, RunReport]:
    """The runs of whose intensity anything was learnt after their end, as their journals alone tell them."""
    refreshed = {process.facts.run_id for process in processes if process.learnt}
    written = [View(process, as_written=True) for process in processes if process.facts.run_id in refreshed]
    return _runs(written, segments)


def _mended(run: RunReport, before: RunReport | None) -> RunReport:
    """A run with the figure that it had before anything of its past was asked for again, at its end or later."""
    if before is None or run.co2eq_g == before.co2eq_g:
        return run
    first_g = before.co2eq_g if before.co2eq_g_before is None else before.co2eq_g_before
    return dataclasses.replace(run, co2eq_g_before=first_g)


def _files(paths: Iterable[str | Path], problems: list[str]) -> Iterator[Path]:
    """The files meant, each once."""
    seen: set[Path] = set()
    for given in paths:
        path = Path(given)
        try:
            if path.is_dir():
                found = sorted(p for p in path.rglob("*.jsonl") if p.is_file())
                if not found:
                    problems.append(f"{path} holds no *.jsonl")
            elif path.is_file():
                found = [path]
            else:
                problems.append(f"{path} is no file" if path.exists() else f"{path} is not there")
                continue
        except OSError as error:
            problems.append(f"{path} cannot be searched: {error.strerror or error}")
            continue
        for file in found:
            real = file.resolve()
            if real in seen:
                problems.append(f"{file} is given twice: counted once")
                continue
            seen.add(real)
            yield file


def _extent(process: Process) -> tuple[bool, int, int, str]:
    """Orders copies of one process's journal: the one that goes further is the whole one."""
    return process.end is not None, process.seen_ns, -process.bad_lines, str(process.path)


def _plain_total(run: RunReport) -> Quantities:
    names = [f.name for f in dataclasses.fields(Quantities)]
    return Quantities(**{name: getattr(run, name) for name in names})
