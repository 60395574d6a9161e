"""Where a run was, found out after it ended, kept beside its journal.

A journal that says a guess is never touched again. What those who know the place said later goes into `<name>.place` in
the same folder, one JSON object that says whose it is, replaced as a whole. It counts for the whole run: of its
intensity, what the user gave stays, the average of the place stands for the rest, and what was learnt since is laid
over that.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

from aiocarbon._core.intensity import IntensityValue, Location, Quality
from aiocarbon.errors import JournalError
from aiocarbon.journal import records
from aiocarbon.journal.plain import number

SIDECAR_SUFFIX: Final = ".intensity"
PLACE_SUFFIX: Final = ".place"
PLACE_SCHEMA: Final = "aiocarbon.journal.place/1"
PLACE_MOST: Final = 1 << 16

Steps = list[tuple[float, IntensityValue]]


class FoundPlace(NamedTuple):
    """Where a run was.

    Attributes:
        asked_s: When that was found out, UTC seconds.
        location: Where.
    """

    asked_s: float
    location: Location

    def __lt__(self, other: tuple[object, ...]) -> bool:
        """Whether another counts in its place: the one that was found out later."""
        return (self.asked_s, repr(self.location)) < (other[0], repr(other[1]))


def moved(steps: Steps, average: IntensityValue) -> Steps:
    """A step series of another place: what a user gave stays, an average is the rest."""
    found: Steps = []
    for at, value in steps:
        there = value if value.quality is Quality.GIVEN else average
        if not found or found[-1][1] != there:
            found.append((at, there))
    return found


def read_place(journal: Path, ident: str) -> FoundPlace | None:
    """What was kept beside a journal; None if nothing was.

    Args:
        journal: The journal's file.
        ident: The process whose journal it is.

    Raises:
        JournalError: There is something that cannot be read, is torn, or belongs to another journal.
    """
    path = journal.with_suffix(PLACE_SUFFIX)
    try:
        with path.open("rb") as file:
            plain = json.loads(file.read(PLACE_MOST))
        if (plain["schema"], plain["ident"]) != (PLACE_SCHEMA, ident):
            raise JournalError(f"{path} is left out: it is of another schema or belongs to another journal")
        return FoundPlace(number(plain["asked_s"]), records.location_from(plain["location"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}; what it holds is left out") from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"{path} is left out: it is torn or not ours; remove it and refresh again") from error


def write_place(journal: Path, ident: str, found: FoundPlace) -> None:
    """Keep beside a journal where its run was; what was learnt of the intensity elsewhere is removed.

    Raises:
        JournalError: It cannot be written.
    """
    path = journal.with_suffix(PLACE_SUFFIX)
    plain = {
        "schema": PLACE_SCHEMA,
        "ident": ident,
        "asked_s": found.asked_s,
        "location": records.location_record(found.location),
    }
    try:
        with replacing(path, journal) as file:
            file.write(records.line(plain))
        journal.with_suffix(SIDECAR_SUFFIX).unlink(missing_ok=True)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise JournalError(f"{path} cannot be written: {why or error}") from error


@contextlib.contextmanager
def replacing(path: Path, journal: Path) -> Iterator[IO[str]]:
    """A text file that stands in the place of another once it is written; readable for whom a journal is.

    Raises:
        OSError: It cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, journal.stat().st_mode & 0o666)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
