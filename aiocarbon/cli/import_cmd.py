"""`aiocarbon import FORMAT PATH...`: logs of other trackers into journals, which `aiocarbon report` reads."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from aiocarbon.cli.options import CommandLineError
from aiocarbon.cli.output import say, show
from aiocarbon.cli.report_options import DEFAULT_FOLDER
from aiocarbon.errors import JournalError

if TYPE_CHECKING:
    from datetime import tzinfo

    from aiocarbon.imports import Imported

__all__ = ["add_import", "import_runs"]

TOOLS: Final = ("carbontracker", "codecarbon")


def add_import(add_verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the verb."""
    verb = add_verb("import", "turn logs of other trackers into journals")
    verb.add_argument("format", metavar="FORMAT", choices=TOOLS, help="whose logs: carbontracker or codecarbon")
    verb.add_argument(
        "paths", nargs="+", metavar="PATH", help="folders of logs (to any depth), *_carbontracker.log, or emissions.csv"
    )
    verb.add_argument("--journal", metavar="DIR", default=DEFAULT_FOLDER, help=f"where to (default ./{DEFAULT_FOLDER})")
    verb.add_argument(
        "--timezone",
        metavar="NAME",
        help='time zone of the machine that wrote the logs ("Europe/Copenhagen", "UTC"), whose times are local; '
        "this machine's otherwise",
    )


def import_runs(parsed: argparse.Namespace) -> int:
    """Import, and tell of each run what it was.

    Args:
        parsed: The words of the verb.

    Returns:
        0, or 1 if what was done could not be told. What could not be read is said beside what could.

    Raises:
        CommandLineError: There is no such time zone.
        JournalError: Nothing could be read at all, a path may not be looked at, or a journal cannot be written.
    """
    from aiocarbon.imports import import_logs

    try:
        found = import_logs(parsed.format, parsed.paths, parsed.journal, zone=_zone(parsed.timezone))
    except OSError as error:  # above a path is a folder that may not be searched, or its name is too long
        raise JournalError(f"{error.filename} cannot be looked at: {error.strerror or error}") from error
    for problem in found.problems:
        say(f"aiocarbon: {problem}")
    return 0 if show("\n".join(_lines(found, parsed.journal))) else 1


def _zone(name: str | None) -> tzinfo | None:
    if name is None:
        return None
    from datetime import UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name.upper() == "UTC":
        return UTC  # known also where there is no time zone database
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CommandLineError(f'--timezone {name!r} is no time zone such as "Europe/Copenhagen" or "UTC"') from error


def _lines(found: Imported, folder: str) -> Iterator[str]:
    from aiocarbon._core.units import S_PER_NS, kwh_from_j
    from aiocarbon.render import numbers
    from aiocarbon.render.escape import one_line

    for draft, became in found.runs:
        length_s = (draft.windows[-1].end_ns - draft.windows[0].begin_ns) * S_PER_NS
        epochs = f"{draft.epochs} epochs, " if draft.epochs else ""
        energy = numbers.energy(kwh_from_j(draft.it_energy_j))
        name = f" ({one_line(draft.name, 60)})" if draft.name else ""
        yield (
            f"{draft.run_id}{name}: {epochs}{numbers.duration(length_s)}, {energy} by the devices, "
            f"by {one_line(f'{draft.tool} {draft.version}')}; {became}"
        )
    many = "1 run" if len(found.runs) == 1 else f"{len(found.runs)} runs"
    yield f"{many} in {folder}: aiocarbon report {folder}"
