"""`aiocarbon run --resume [RUN]`: which run goes on, said as settings of its tracker."""

from __future__ import annotations

import contextlib
import json
import operator
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiocarbon._core.units import S_PER_NS

__all__ = ["with_resume"]

UNREADABLE: Final = (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError)
"""With which it ends to read what is no journal, and nothing that could go on."""

FIRST_BYTES: Final = 1 << 20
LAST_BYTES: Final = 1 << 22


def with_resume(settings: Mapping[str, Any], folder: Path, run_id: str, name: str) -> tuple[dict[str, Any], str]:
    """The settings with the run that goes on, and a word on it.

    Args:
        settings: What was given; `resume` is True.
        folder: The folder of journals.
        run_id: Id that the launcher or the environment gives the run; empty for none: then it is the newest run of the
            folder and name that did not end by itself and that nobody goes on with just now.
        name: What the user calls the run; empty for any.
    """
    if run_id:
        return dict(settings), ""
    found = next(_unfinished(folder, name), None)
    if found is None:
        called = f" called {name}" if name else ""
        return (
            {key: value for key, value in settings.items() if key != "resume"},
            f"--resume: no run{called} in {folder} was broken off: a new one begins",
        )
    return {**settings, "run_id": found}, f"--resume: {found} goes on"


def _unfinished(folder: Path, name: str) -> Iterator[str]:
    """The runs whose newest journal tells of no good end, the newest first."""
    from aiocarbon.journal.alive import boot_id
    from aiocarbon.journal.prior import newest_runs

    here = boot_id()
    begun: list[tuple[int, list[_Journal]]] = []
    for run in newest_runs(folder):
        with contextlib.suppress(*UNREADABLE):
            journals = _journals(run)
            header = journals[-1].header
            # A log of another tool that was imported is nothing that could go on.
            if not header.get("tool") and (not name or header["name"] == name):
                begun.append((max(journal.wall_ns for journal in journals), journals))
    # By what the journals say: the times of copied files tell nothing.
    for _, journals in sorted(begun, key=operator.itemgetter(0), reverse=True):
        with contextlib.suppress(*UNREADABLE):
            end = _plain(journals[-1].path, is_last=True)
            if end.get("k") == "end" and end.get("ended_well") is True:
                continue
            if not any(journal.is_written(here) for journal in journals):
                yield journals[-1].path.parent.name


class _Journal(NamedTuple):
    """A journal of a run, by its first record.

    Attributes:
        path: The file.
        header: The record.
        pid: Number of the process that wrote it.
        wall_ns: When it began, UTC nanoseconds.
    """

    path: Path
    header: dict[str, Any]
    pid: int
    wall_ns: int

    def is_written(self, boot_id: str) -> bool:
        """Whether its process is still there; `boot_id` is that of this machine."""
        from aiocarbon.journal.alive import is_alive

        boot, began_s = str(self.header.get("boot_id")), self.wall_ns * S_PER_NS
        return is_alive(self.path, boot=boot, pid=self.pid, began_s=began_s, boot_id=boot_id)


def _journals(run: Path) -> list[_Journal]:
    """The journals of a run, that written last behind; what tells of another run or of none is not one of them.

    Raises:
        OSError, ValueError, TypeError, OverflowError, RecursionError: One of them cannot be read.
    """
    files = sorted(run.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    return [
        _Journal(path, header, int(header.get("pid", 0)), int(header.get("wall_ns", 0)))
        for path, header in ((path, _plain(path, is_last=False)) for path in files)
        if header.get("run_id") == run.name
    ]


def _plain(path: Path, *, is_last: bool) -> dict[str, Any]:
    """The first record of a journal, or the last one; nothing where the last line is torn.

    Raises:
        OSError, ValueError: It cannot be read, or the first line is none.
    """
    with path.open("rb") as file:
        if not is_last:
            text = file.readline(FIRST_BYTES)
        else:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - LAST_BYTES, 0))
            text = file.read(LAST_BYTES).rstrip(b"\n").rpartition(b"\n")[2]
    try:
        found = json.loads(text)
    except ValueError:
        if is_last:
            return {}
        raise
    if not isinstance(found, dict):
        raise ValueError("no record")
    return found
