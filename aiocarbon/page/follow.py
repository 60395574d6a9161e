"""Follows a folder of journals: which runs are there, what each of them is by now, and which have changed.

Nothing is read again that has not changed, and a run that goes on is read again only after twenty times as long as
that took: on the machine that trains, looking on costs a twentieth of one core at most. Blocking; used by one thread
at a time.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiocarbon.errors import JournalError
from aiocarbon.journal.parse import announced
from aiocarbon.journal.place import PLACE_SUFFIX, SIDECAR_SUFFIX
from aiocarbon.journal.process import Process
from aiocarbon.journal.read import Loaded, gather, tell
from aiocarbon.journal.write import TAIL_SUFFIX
from aiocarbon.page.data import detail, summary
from aiocarbon.page.html import POINTS, open_runs
from aiocarbon.page.series import runs_of
from aiocarbon.page.words import cut, state_words

__all__ = ["Follower"]

RECENT_S: Final = 75.0
"""A journal that nobody wrote to for so long is not being written: `interval_s` is at most 60."""

REST: Final = 20.0
BATCH_S: Final = 0.5
"""A look that takes longer than this goes on at the next one: what is known by then is told first."""

Stamp = tuple[tuple[int, int], ...]
"""Time of the newest change (ns) and size of a journal and of what lies beside it."""


class _File(NamedTuple):
    stamp: Stamp
    run_id: str  # empty where it is no journal
    problem: str


@dataclass(slots=True)
class _Run:
    """A run as it is known.

    Attributes:
        number: What a page calls it.
        files: Stamp by path.
        read: The stamps when it was read; empty before.
        version: Counts its readings.
        row: Its row of the list; None before it was read.
        is_open: Whether a journal of it has no end.
        due_s: Before this it is not read again.
        problem: Why it could not be read.
    """

    number: int
    files: dict[str, Stamp] = field(default_factory=dict)
    read: dict[str, Stamp] = field(default_factory=dict)
    version: int = 0
    row: dict[str, Any] | None = None
    is_open: bool = False
    due_s: float = 0.0
    problem: str = ""

    @property
    def newest_ns(self) -> int:
        """When one of its files was changed last."""
        return max((at for stamp in self.files.values() for at, _ in stamp), default=0)


class Follower:
    """What is known of a folder's runs.

    Args:
        folder: Where journals are, to any depth; it need not be there yet.
        clock: Monotonic seconds.
        wall: UTC seconds, as the file system stamps files.
    """

    def __init__(
        self, folder: Path, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._wall = wall
        self._files: dict[str, _File] = {}
        self._runs: dict[str, _Run] = {}
        self._count = 0

    def look(self) -> bool:
        """See what is there and read what has changed, for half a second or so.

        Returns:
            True if there is more to read at once.
        """
        self._survey()
        begun_s = self._clock()
        due = [(run_id, run) for run_id, run in self._runs.items() if run.read != run.files]
        for run_id, run in sorted(due, key=lambda one: -one[1].newest_ns):
            now_s = self._clock()
            if now_s < run.due_s:
                continue
            if now_s > begun_s + BATCH_S:
                return True
            self._read(run_id, run)
            run.due_s = self._clock() + REST * (self._clock() - now_s)
        return False

    def list(self) -> dict[str, Any]:
        """The runs as a page lists them, the newest first, and what could not be read."""
        rows = [
            {**run.row, "state": self._state(run), "n": run.number, "version": run.version}
            for run in self._runs.values()
            if run.row is not None
        ]
        problems = [file.problem for file in self._files.values() if file.problem]
        problems += [run.problem for run in self._runs.values() if run.problem]
        unread = sum(run.row is None and not run.problem for run in self._runs.values())
        return {
            "runs": sorted(rows, key=lambda row: -row["begin"]),
            "problems": [cut(problem, 400) for problem in problems[:100]],
            "folder": cut(str(self._folder), 300),
            "is_there": self._folder.is_dir(),
            "unread": unread,
        }

    def detail(self, number: int) -> dict[str, Any] | None:
        """All that a page shows of a run; None where there is no such run, or it cannot be read any more."""
        found = next(((i, run) for i, run in self._runs.items() if run.number == number), None)
        if found is None:
            return None
        run_id, run = found
        try:
            loaded, processes = _loaded(run.files)
        except JournalError as error:
            run.problem = str(error)
            return None
        report = next((one for one in loaded.runs if one.run_id == run_id), None)
        if report is None:
            return None
        parts = runs_of(processes).get(run_id, ())
        return {**detail(report, parts, self._state(run), POINTS[0]), "version": run.version}

    def _state(self, run: _Run) -> str:
        if not run.is_open:
            return run.row["state"] if run.row is not None else ""
        return "running" if self._wall() - run.newest_ns / 1e9 < RECENT_S else "broke off"

    def _survey(self) -> None:
        """See which files are there, of which runs."""
        there: dict[str, _File] = {}
        by_run: dict[str, dict[str, Stamp]] = {}
        for path in _journals(self._folder):
            try:
                stamp = _stamp(path)
            except OSError:
                continue  # gone between the two looks, or no file
            known = self._files.get(path)
            if known is None or (not known.run_id and known.stamp != stamp):
                known = _announced(path, stamp)
            there[path] = known._replace(stamp=stamp)
            if known.run_id:
                by_run.setdefault(known.run_id, {})[path] = stamp
        self._files = there
        self._runs = {run_id: run for run_id, run in self._runs.items() if run_id in by_run}
        for run_id, files in by_run.items():
            if run_id not in self._runs:
                self._runs[run_id] = _Run(self._count)
                self._count += 1
            self._runs[run_id].files = files

    def _read(self, run_id: str, run: _Run) -> None:
        run.read = dict(run.files)
        run.version += 1
        run.problem = ""
        try:
            loaded, processes = _loaded(run.files)
        except JournalError as error:
            run.problem = str(error)
            return
        run.is_open = bool(open_runs(processes))
        for report in loaded.runs:
            if report.run_id == run_id:
                run.row = summary(report, state_words(report, is_open=run.is_open))


def _loaded(files: dict[str, Stamp]) -> tuple[Loaded, list[Process]]:
    problems: list[str] = []
    processes = gather(files, problems)
    return tell(processes, problems), processes


def _announced(path: str, stamp: Stamp) -> _File:
    try:
        return _File(stamp, announced(path).run_id, "")
    except JournalError as error:
        return _File(stamp, "", str(error))


def _stamp(path: str) -> Stamp:
    """Of the journal, which must be there, and of what lies beside it, which need not."""
    first = os.stat(path)
    if not stat.S_ISREG(first.st_mode):
        raise OSError(f"{path} is no file")  # a pipe would be waited for
    found = [(first.st_mtime_ns, first.st_size)]
    for suffix in (TAIL_SUFFIX, PLACE_SUFFIX, SIDECAR_SUFFIX):
        try:
            beside = os.stat(path.removesuffix(".jsonl") + suffix)
        except OSError:
            continue
        found.append((beside.st_mtime_ns, beside.st_size))
    return tuple(found)


def _journals(folder: Path) -> Iterator[str]:
    """The journals in a folder and those in it; links to other folders are not followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".jsonl"):
                yield os.path.join(place, name)
