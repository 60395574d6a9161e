"""Journals back into reports: what a run's file holds is cut again by the same code that cut it live.

Every figure is computed from energies and marks; of the report that a journal ends with only what cannot be computed
is taken (the instrument's own cost, parts that could not be read). Several files of one run become one report, in
which each instant of a device counts once; so does the total over several runs.

First lines say which machines there are. Then machine after machine is read, told and forgotten, in an order that the
paths have no part in: so memory grows by what is told of a machine and not by what its files hold.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiocarbon._core.groups import By, GroupReport
from aiocarbon._core.pool import Pool
from aiocarbon._core.report import REPORT_SCHEMA, Quantities, RunReport
from aiocarbon.errors import JournalError, UsageError
from aiocarbon.journal.groups import GroupSums
from aiocarbon.journal.join import Joined
from aiocarbon.journal.machine import Machine, Told, machines_of
from aiocarbon.journal.nodes import beside_others
from aiocarbon.journal.parse import Heading, announced, read_process
from aiocarbon.journal.process import Process
from aiocarbon.journal.records import SCHEMA
from aiocarbon.journal.refresh import union
from aiocarbon.journal.select import ALL, Selection, selected
from aiocarbon.journal.sums import union_ns, united, utc_span
from aiocarbon.journal.view import View

if TYPE_CHECKING:
    import pandas

    from aiocarbon._core.compare import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What journals hold.

    Attributes:
        runs: One report a run, by the time of their begin.
        total: All runs together, each instant of a device once, each joule with the intensity and PUE of its run.
        problems: What could not be read, in words; empty if nothing.
        files: The journals that it was read from.
        groups: The total by "name" and by "host" where there are several runs, and by what was asked for.
    """

    runs: tuple[RunReport, ...]
    total: Quantities
    problems: tuple[str, ...]
    files: tuple[str, ...] = ()
    groups: Mapping[str, tuple[GroupReport, ...]] = field(default_factory=dict)

    def to_pandas(self, table: str = "runs") -> pandas.DataFrame:
        """A table of it, with the names and units of the reports' fields.

        Args:
            table: "runs" (a row a run), "epochs", "devices", "spans", "nodes" or "attempts" (with their run's id), or
                what it is grouped by ("name", "day").

        Raises:
            UsageError: There is no such table, or pandas is not installed (`pip install aiocarbon[pandas]`).
        """
        from aiocarbon.journal.frames import frame

        return frame(self.runs, self.groups, table)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the schema of `aiocarbon report --json`."""
        return {
            "schema": REPORT_SCHEMA,
            "runs": [run.to_dict() for run in self.runs],
            "total": self.total.to_dict(),
            "groups": {by: [group.to_dict() for group in groups] for by, groups in self.groups.items()},
            "problems": list(self.problems),
        }


def load(
    *paths: str | Path,
    name: str | Sequence[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    by: str | None = None,
) -> Loaded:
    """Read journals.

    Args:
        paths: Files, run folders, or folders of runs (searched for *.jsonl to any depth).
        name: Only runs of this name, or of one of several, with `*` and `?` as in file names.
        since: Only runs that began at this instant or later (UTC where it has no zone).
        until: Only runs that began before this instant.
        by: Group the total by "day", "week", "month" (of UTC), "name" or "host".

    Returns:
        The runs, and what could not be read. The order of paths and their repetition do not matter.

    Raises:
        JournalError: Nothing could be read at all, or no run is meant.
        UsageError: There is no such group.
    """
    group = None if by is None else _group(by)
    selection = selection_of(name, since, until)
    problems: list[str] = []
    found = _survey(paths, problems, selection)
    telling = _Telling({heading.ident: heading.run_id for heading in found}, group)
    files = tuple(heading.path for heading in found)
    machines: dict[tuple[str, str], list[Heading]] = {}
    for heading in found:
        machines.setdefault((heading.machine, heading.boot), []).append(heading)
    del found  # so that each machine is forgotten once it is told
    for key in sorted(machines):
        processes = _read(machines.pop(key), problems)
        if processes:
            telling.take(processes, problems)
    if not telling.runs:
        raise _nothing(paths, problems)
    return telling.told(problems, files)


def compare(a: Loaded, b: Loaded, *, labels: tuple[str, str] = ("", "")) -> Comparison:
    """Two runs, or sums of runs, side by side: energy, CO2eq, time, and the mean epoch of each, with ranges.

    Args:
        a: What `load` gave, which the other is compared with.
        b: The other.
        labels: What the two are called; the name or id of their first run by default.
    """
    from aiocarbon._core.compare import Side
    from aiocarbon._core.compare import compare as compared

    sides = [
        Side(label=label or one.runs[0].name or one.runs[0].run_id, total=one.total, runs=one.runs)
        for label, one in zip(labels, (a, b), strict=True)
    ]
    return compared(*sides)


def _group(by: str) -> By:
    try:
        return By(by)
    except ValueError as error:
        raise UsageError(f"by={by!r} is not accepted: expected one of {', '.join(By)}") from error


def selection_of(name: str | Sequence[str], since: datetime | None, until: datetime | None) -> Selection:
    """Which runs are meant; the arguments are those of `load`."""
    names = (name,) if isinstance(name, str) else tuple(name)
    return Selection(names=names, since_s=_seconds(since), until_s=_seconds(until))


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def gather(paths: Iterable[str | Path], problems: list[str], selection: Selection = ALL) -> list[Process]:
    """The processes whose journals lie there, each once, with what is known of any of its copies; all at once.

    Args:
        paths: As in `load`.
        problems: Gets what could not be read, in words.
        selection: Which runs.

    Raises:
        JournalError: Nothing could be read at all.
    """
    processes = _read(_survey(paths, problems, selection), problems)
    if not processes:
        raise _nothing(paths, problems)
    return processes


def tell(processes: Sequence[Process], problems: Iterable[str], by: str | None = None) -> Loaded:
    """The runs of processes and their total.

    Args:
        processes: What `gather` gave.
        problems: What could not be read.
        by: As in `load`.
    """
    found = [*problems]
    runs = {process.ident: process.facts.run_id for process in processes}
    telling = _Telling(runs, None if by is None else _group(by))
    machines: dict[tuple[str, str], list[Process]] = {}
    for process in processes:
        machines.setdefault((process.machine, process.boot), []).append(process)
    for key in sorted(machines):
        telling.take(machines[key], found)
    return telling.told(found, tuple(str(process.path) for process in processes))


def _survey(paths: Iterable[str | Path], problems: list[str], selection: Selection = ALL) -> list[Heading]:
    """What the first lines of all files say, in an order that that of the paths has no part in.

    Raises:
        JournalError: No file is a journal, or no run is meant.
    """
    paths = tuple(paths)
    found = []
    for file in _files(paths, problems):
        try:
            found.append(announced(file))
        except JournalError as error:
            problems.append(str(error))
    if not found:
        raise _nothing(paths, problems)
    runs = len({heading.run_id for heading in found})
    found = selected(found, selection)
    if not found:
        raise JournalError(f"none of {runs} runs in {', '.join(map(str, paths))} is of that name and time")
    found.sort(key=lambda heading: (heading.ident, heading.path))
    return _on_machines(found)


def _on_machines(headings: Sequence[Heading]) -> list[Heading]:
    """The same, and those that say no node's name on the machine of the others of their boot, if it has one name."""
    names: dict[str, set[str]] = {}
    for heading in headings:
        if heading.boot and heading.machine != heading.boot:
            names.setdefault(heading.boot, set()).add(heading.machine)
    one = {boot: machines.pop() for boot, machines in names.items() if len(machines) == 1}
    return [heading._replace(machine=one[heading.boot]) if heading.boot in one else heading for heading in headings]


def _read(headings: Iterable[Heading], problems: list[str]) -> list[Process]:
    """The processes of files, each once."""
    processes: dict[str, Process] = {}
    for file, _, machine, *_ in headings:
        try:
            process = read_process(Path(file), machine)
        except JournalError as error:
            problems.append(str(error))
            continue
        problems.extend(process.problems)
        known = processes.get(process.ident)
        if known is not None:
            problems.append(f"{file} and {known.path} are journals of one process: counted once")
            process.learnt = known.learnt = union(known.learnt, process.learnt)
            process.locate(known.found)
            known.locate(process.found)
        if known is None or _extent(process) > _extent(known):
            processes[process.ident] = process
    return sorted(processes.values(), key=lambda process: process.ident)


def _nothing(paths: Iterable[str | Path], problems: list[str]) -> JournalError:
    given = ", ".join(str(path) for path in paths) or "no path"
    why = "".join(f"\n  {problem}" for problem in problems)
    return JournalError(
        f"nothing could be read in {given}: expected journals (*.jsonl of schema {SCHEMA}) or folders of them{why}"
    )


class _Telling:
    """Runs in the making, machine by machine.

    Args:
        runs: Id of the run by that of each process that may come.
        by: By what the total is grouped beside by name and host; None: nothing.
    """

    def __init__(self, runs: dict[str, str], by: By | None = None) -> None:
        counts: dict[str, int] = {}
        for run_id in runs.values():
            counts[run_id] = counts.get(run_id, 0) + 1
        self.runs: dict[str, Joined | RunReport] = {}
        self._counts = counts
        self._total = Pool(folds=True) if len(counts) > 1 else None
        self._spans: list[tuple[int, int]] = []
        bys = [By.NAME, By.HOST] if len(counts) > 1 else []
        self._groups = GroupSums(dict.fromkeys([*bys, *([] if by is None else [by])]))

    def take(self, processes: Sequence[Process], problems: list[str]) -> None:
        """Take the processes of one machine."""
        for machine in machines_of(processes, problems):
            by_run: dict[str, list[View]] = {}
            for view in machine.views:
                problems.extend(view.problems)
                by_run.setdefault(view.process.facts.run_id, []).append(view)
            for run_id, views in by_run.items():
                self._take_run(machine, run_id, views)
            if self._total is not None or self._groups.are_wanted:
                told = machine.wholes()
                self._groups.take(machine.views, told)
                self._take_total(machine, told)

    def _take_total(self, machine: Machine, told: Iterable[Told]) -> None:
        if self._total is None:
            return
        for part in told:
            process = part.view.process
            self._total.add(process.facts.host, part.whole, process.pue.value)
        self._spans = united([*self._spans, *map(utc_span, machine.views)])

    def _take_run(self, machine: Machine, run_id: str, views: Sequence[View]) -> None:
        is_learnt = any(view.process.learnt or view.process.found for view in views)
        written = [View(view.process, as_written=True) for view in views] if is_learnt else []
        if self._counts[run_id] == 1:
            machine.unite()
            (view,) = views
            self.runs[run_id] = beside_others(_mended(view.report(), *(one.report() for one in written)), view)
            return
        joined = self.runs.setdefault(run_id, Joined(self._counts[run_id]))
        assert isinstance(joined, Joined)  # a run is told alone only where it has one process
        told = machine.told(views, folds=joined.folds)
        before_g = None
        if written:
            before = Machine(written).told(written, folds=joined.folds)
            before_g = sum(part.whole.carbon.co2eq_g for part in before)
        joined.take(views, told, before_g)

    def told(self, problems: Iterable[str], files: tuple[str, ...]) -> Loaded:
        """All runs, and their total."""
        runs = [run.report() if isinstance(run, Joined) else run for run in self.runs.values()]
        runs.sort(key=lambda run: (run.started_at, run.run_id))
        if self._total is None:
            total = _plain_total(runs[0])
        else:
            total = Quantities(**self._total.quantities(union_ns(self._spans)))
        told = tuple(dict.fromkeys(problems))
        return Loaded(runs=tuple(runs), total=total, problems=told, files=files, groups=self._groups.reports())


def _mended(run: RunReport, before: RunReport | None = None) -> RunReport:
    """A run with the figure that it had before anything of its past was asked for again, at its end or later."""
    if before is None or run.co2eq_g == before.co2eq_g:
        return run
    first_g = before.co2eq_g if before.co2eq_g_before is None else before.co2eq_g_before
    return dataclasses.replace(run, co2eq_g_before=first_g)


def _files(paths: Iterable[str | Path], problems: list[str]) -> Iterator[str]:
    """The files meant, each once."""
    seen: set[str] = set()
    real_folders: dict[str, str] = {}
    for given in paths:
        path = Path(given)
        try:
            if path.is_dir():
                found = sorted(_journals(path, problems))
                if not found:
                    problems.append(f"{path} holds no *.jsonl")
            elif path.is_file():
                found = [str(path)]
            else:
                problems.append(f"{path} is no file" if path.exists() else f"{path} is not there")
                continue
        except OSError as error:
            problems.append(f"{path} cannot be searched: {error.strerror or error}")
            continue
        for file in found:
            folder, name = os.path.split(file)
            if folder not in real_folders:
                real_folders[folder] = os.path.realpath(folder)
            real = os.path.realpath(file) if os.path.islink(file) else os.path.join(real_folders[folder], name)
            if real in seen:
                problems.append(f"{file} is given twice: counted once")
                continue
            seen.add(real)
            yield file


def _journals(folder: Path, problems: list[str]) -> Iterator[str]:
    """The journals in a folder and those in it."""

    def tell(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be searched: {error.strerror or error}")

    for place, _, names in os.walk(folder, onerror=tell):
        for name in names:
            if name.endswith(".jsonl") and os.path.isfile(path := os.path.join(place, name)):
                yield path


def _extent(process: Process) -> tuple[bool, int, int, str]:
    """Orders copies of one process's journal: the one that goes further is the whole one."""
    return process.end is not None, process.seen_ns, -process.bad_lines, str(process.path)


def _plain_total(run: RunReport) -> Quantities:
    names = [f.name for f in dataclasses.fields(Quantities)]
    return Quantities(**{name: getattr(run, name) for name in names})
