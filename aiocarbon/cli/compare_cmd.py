"""`aiocarbon compare A B`: two runs, or sums of runs, side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiocarbon.cli.output import deliver, say
from aiocarbon.cli.report_options import DEFAULT_FOLDER
from aiocarbon.errors import JournalError
from aiocarbon.render.runs import comparison_text

if TYPE_CHECKING:
    from aiocarbon.journal.read import Loaded

__all__ = ["compare"]

PROBLEMS_TOLD: Final = 20


def compare(a: str, b: str, *, json_file: str | None = None) -> int:
    """Show both.

    Args:
        a: A path, a run's id or the name of runs.
        b: Likewise.
        json_file: File for it as JSON, "-" for stdout, which then gets nothing else; None: none.

    Returns:
        0, or 1 if it could not be written.

    Raises:
        JournalError: One of them cannot be found or read.
    """
    from aiocarbon.journal import read

    first, second = _found(a), _found(b)
    problems = list(dict.fromkeys((*first.problems, *second.problems)))
    for problem in problems[:PROBLEMS_TOLD]:
        say(f"aiocarbon: {problem}")
    found = read.compare(first, second, labels=(_label(a, first), _label(b, second)))
    return deliver(json_file, found.to_dict, lambda: comparison_text(found))


def _label(said: str, loaded: Loaded) -> str:
    """What a side is called: as its run is, or as it was asked for where it is several."""
    if len(loaded.runs) > 1:
        return said
    (run,) = loaded.runs
    return f"{run.name} ({run.run_id})" if run.name else run.run_id


def _found(said: str) -> Loaded:
    """What is meant: a path, else a run of the default folder, else the runs of a name there."""
    from aiocarbon.journal.read import load

    if _is_there(said):
        return load(said)
    folder = Path(DEFAULT_FOLDER)
    if os.path.isdir(folder / said):  # which raises nothing, unlike that of pathlib
        return load(folder / said)
    if not os.path.isdir(folder):
        raise JournalError(f"{said} is not there, and there is no folder {folder} with runs of that id or name")
    try:
        return load(folder, name=said)
    except JournalError as error:
        raise JournalError(f"{said} is no path, nor the id or name of a run in {folder}") from error


def _is_there(said: str) -> bool:
    """Whether it is a path; what is too long for one may be a name.

    Raises:
        JournalError: It may not be looked at.
    """
    try:
        os.stat(said)
    except PermissionError as error:
        raise JournalError(f"{said} cannot be looked at: {error.strerror or error}") from error
    except (OSError, ValueError):
        return False
    return True
