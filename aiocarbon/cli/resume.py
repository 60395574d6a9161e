"""`aiocarbon run --resume [RUN]`: which run goes on, said as settings of its tracker."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from aiocarbon._core.units import S_PER_NS

__all__ = ["with_resume"]

FIRST_BYTES: Final = 1 << 20
LAST_BYTES: Final = 1 << 22
LOOKED_AT: Final = 200
"""So many of the newest runs of the folder are looked at."""


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
    from aiocarbon._engine.recorder import boot_id
    from aiocarbon.journal.former import is_alive

    here = boot_id()
    for run in _newest(folder):
        try:
            files = sorted(run.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
            header = _plain(files[-1], is_last=False)
            end = _plain(files[-1], is_last=True)
            # A log of another tool that was imported is nothing that could go on.
            if header["run_id"] != run.name or header.get("tool") or (name and header["name"] != name):
                continue
            facts = [(file, _plain(file, is_last=False)) for file in files]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # it is nothing that we could go on with
        has_ended = end.get("k") == "end"
        if has_ended and end.get("ended_well") is True:
            continue
        if any(
            is_alive(
                file,
                boot=str(told.get("boot_id")),
                pid=int(told.get("pid", 0)),
                began_s=int(told.get("wall_ns", 0)) * S_PER_NS,
                boot_id=here,
            )
            for file, told in facts
        ):
            continue
        yield run.name


def _newest(folder: Path) -> list[Path]:
    """The folders of the newest runs, the newest first."""
    try:
        with os.scandir(folder) as entries:
            runs = sorted(((entry.stat().st_mtime, entry.path) for entry in entries if entry.is_dir()), reverse=True)
    except OSError:
        return []
    return [Path(path) for _, path in runs[:LOOKED_AT]]


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
