"""Going on with a run that was broken off: which run is meant, and what its journal tells of what was done before.

Blocking: called in a worker. That nothing can be read is told and holds nothing up: journals of several tries are put
together by reading them, whether the tries knew of each other or not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiocarbon.errors import ConfigError
from aiocarbon.settings import Settings, check

if TYPE_CHECKING:
    from aiocarbon._core.identity import Identity

__all__ = ["resumed", "run_meant"]

DEFAULT_FOLDER: Final = Path("aiocarbon_runs")
"""Where a run that is only named is looked for if no folder of journals is set."""


def run_meant(resume: str | Path, journal: Path | None) -> tuple[Path, str]:
    """The folder of journals and the id of the run that goes on.

    Args:
        resume: The run's folder, or its id.
        journal: The folder of journals, for an id; None: the default one.

    Raises:
        ConfigError: It is no run's folder.
    """
    if not isinstance(resume, Path):
        return journal or DEFAULT_FOLDER.absolute(), resume
    run = Path(os.path.abspath(resume))
    if _holds_several(run):
        raise ConfigError("resume", str(resume), "the folder of one run: this one holds several")
    try:
        return run.parent, str(check("run_id", run.name))
    except ConfigError as error:
        raise ConfigError("resume", str(resume), "the folder of a run, which has the run's id as its name") from error


def _holds_several(folder: Path) -> bool:
    """Whether this is a folder of runs' folders, as far as it may be read."""
    try:
        return folder.is_dir() and not any(folder.glob("*.jsonl")) and any(folder.glob("*/*.jsonl"))
    except OSError:
        return False


def resumed(settings: Settings, who: Identity) -> dict[str, Any]:
    """What of `Surroundings` follows from going on with a run.

    Args:
        settings: Those in force; `resume` is True or a number.
        who: Which process of which run this is, as long as the settings say nothing else.
    """
    number = None if settings.resume is True else int(str(settings.resume))
    if settings.journal is None:
        note = "resume needs the folder of journals that the run was written to (journal=DIR)"
        return {"first_epoch": number or 0, "notes": () if number is not None else (f"nothing goes on: {note}",)}
    from aiocarbon.journal.alive import boot_id
    from aiocarbon.journal.former import former_of

    run_id = settings.run_id or who.run_id
    found = former_of(
        settings.journal / run_id, run_id, who.rank, who.restart, host=settings.node or who.host, boot_id=boot_id()
    )
    if found.former is None and not found.notes and not found.epochs_done and number is None:
        found = found._replace(notes=(f"there is nothing yet to go on with in {settings.journal / run_id}: it begins",))
    first = found.epochs_done if number is None else number
    return {"first_epoch": first, "former": found.former, "notes": found.notes}
