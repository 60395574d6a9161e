"""`aiocarbon report PATH...`: runs out of their journals, as text or JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from aiocarbon.cli.output import coloured, say, show, write_json
from aiocarbon.render.text import report_text, total_text

__all__ = ["report"]


def report(paths: Sequence[str], *, json_file: str | None = None) -> int:
    """Show runs, and their sum where there are several.

    Args:
        paths: Journals' files, runs' folders or folders of runs.
        json_file: File for all of it as JSON, "-" for stdout, which then gets nothing else; None: none.

    Returns:
        0, or 1 if what was asked for could not be written. What could not be read is said beside what could.

    Raises:
        JournalError: Nothing could be read at all.
    """
    from aiocarbon.journal.read import load

    loaded = load(*paths)
    for problem in loaded.problems:
        say(f"aiocarbon: {problem}")
    if json_file is not None:
        problem = write_json(json_file, loaded.to_dict())
        if problem:
            say(f"aiocarbon: {problem}")
        return 1 if problem else 0
    parts = [report_text(run) for run in loaded.runs]
    if len(parts) > 1:
        parts.append(total_text(loaded.total, len(parts)))
    return 0 if show(coloured("\n\n".join(parts), sys.stdout)) else 1
