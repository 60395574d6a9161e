"""What was learnt of a run's intensity after it ended, kept beside its journal.

A journal has one writer and is never touched again. What sources say later of the stretches that were guesses goes into
`<name>.intensity` in the same folder, replaced as a whole: a first line that says whose it is and how many lines
follow, then one intensity record a stretch, which holds from `from_s` up to `void_to_s` and was learnt at `asked_s`.
Reading lays them over what the journal says, wherever they are surer. Several of them (copies of one journal in several
folders) become their union, whatever the order.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiocarbon._core.intensity import MAX_G_PER_KWH, IntensityValue
from aiocarbon.errors import JournalError
from aiocarbon.intensity.guesses import stands_over
from aiocarbon.journal import records
from aiocarbon.journal.place import SIDECAR_SUFFIX, replacing
from aiocarbon.journal.plain import number

SIDECAR_SCHEMA: Final = "aiocarbon.journal.intensity/1"
SIDECAR_MOST: Final = 1 << 26
"""Bytes; a year of five minutes takes some 45 MB."""


class Stretch(NamedTuple):
    """A time, and the intensity that was learnt of it afterwards.

    Attributes:
        from_s: UTC seconds.
        to_s: UTC seconds, later.
        value: What holds in between.
        asked_s: When it was learnt, UTC seconds.
    """

    from_s: float
    to_s: float
    value: IntensityValue
    asked_s: float


Learnt = tuple[Stretch, ...]
"""Stretches, ascending; none overlaps the next."""

Steps = list[tuple[float, IntensityValue]]
"""From (UTC seconds) and value, ascending; at least one, and the first also holds before its own instant."""


def overlaid(steps: Steps, learnt: Learnt) -> Steps:
    """A step series with what was learnt laid over it, wherever that is surer; what a user gave stays."""
    if not learnt:
        return steps
    froms = [at for at, _ in steps]
    begins = [stretch.from_s for stretch in learnt]
    found: Steps = []
    for at in sorted({-math.inf, *froms[1:], *begins, *(stretch.to_s for stretch in learnt)}):
        value = steps[max(bisect.bisect_right(froms, at) - 1, 0)][1]
        i = bisect.bisect_right(begins, at) - 1
        if i >= 0 and at < learnt[i].to_s and stands_over(learnt[i].value, value):
            value = learnt[i].value
        if not found or found[-1][1] != value:
            found.append((at, value))
    return found


def union(*parts: Iterable[Stretch]) -> Learnt:
    """All that several know, in any order; where they differ, the surer counts, and of two as sure the newer."""
    stretches = sorted(itertools.chain(*parts), key=lambda stretch: stretch.from_s)
    waiting = iter(enumerate(stretches))
    following = next(waiting, None)
    known: list[tuple[tuple[int, float, str], int, Stretch]] = []  # those that have begun, the best in front
    found: list[Stretch] = []
    for at, to in itertools.pairwise(sorted({at for stretch in stretches for at in stretch[:2]})):
        while following is not None and following[1].from_s <= at:
            n, stretch = following
            heapq.heappush(known, (_rank(stretch), n, stretch))
            following = next(waiting, None)
        while known and known[0][-1].to_s <= at:
            heapq.heappop(known)
        if not known:
            continue
        best = known[0][-1]._replace(from_s=at, to_s=to)
        if found and found[-1].to_s == at and found[-1][2:] == best[2:]:
            best = found.pop()._replace(to_s=to)
        found.append(best)
    return tuple(found)


def _rank(stretch: Stretch) -> tuple[int, float, str]:
    """Orders what is said of one time, the best first; the last part only makes the order whole."""
    return stretch.value.quality.rank, -stretch.asked_s, repr(stretch.value)


# -- the file ------------------------------------------------------------------------------------------------------


def sidecar_of(journal: Path) -> Path:
    """Where what was learnt of a journal's run lies."""
    return journal.with_suffix(SIDECAR_SUFFIX)


def read_sidecar(journal: Path, ident: str) -> Learnt:
    """What was kept beside a journal; nothing if nothing was.

    Args:
        journal: The journal's file.
        ident: The process whose journal it is.

    Raises:
        JournalError: There is something that cannot be read, is torn, or belongs to another journal.
    """
    path = sidecar_of(journal)
    if path == journal:
        return ()
    try:
        with path.open("rb") as file:
            data = file.read(SIDECAR_MOST)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}; what it holds is left out") from error
    try:
        first, *rest, last = data.decode("utf-8").split("\n")
        header = _plain(first)
        if header["schema"] != SIDECAR_SCHEMA:
            raise JournalError(f"{path} is left out: its schema is {header['schema']!r}, expected {SIDECAR_SCHEMA}")
        if header["ident"] != ident:
            raise JournalError(f"{path} is left out: it belongs to another journal than {journal.name}")
        learnt = tuple(_stretch(_plain(text)) for text in rest)
        if last or len(learnt) != header["lines"]:
            raise ValueError("lines are missing")
        if any(a.to_s > b.from_s for a, b in itertools.pairwise(learnt)):
            raise ValueError("lines are not in order")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise JournalError(f"{path} is left out: it is torn or not ours; remove it and refresh again") from error
    return learnt


def write_sidecar(journal: Path, ident: str, learnt: Learnt) -> Learnt:
    """Keep what was learnt beside a journal, together with what was kept there before.

    Returns:
        What is kept there now.

    Raises:
        JournalError: It cannot be written, or what lies there is not of this journal.
    """
    path = sidecar_of(journal)
    if path == journal:
        raise JournalError(f"{journal} has the name of what would be kept beside it")
    whole = union(read_sidecar(journal, ident), learnt)
    header = {"schema": SIDECAR_SCHEMA, "ident": ident, "lines": len(whole)}
    try:
        with replacing(path, journal) as file:
            file.write(records.line(header))
            for at, to, value, asked_s in whole:
                record = records.intensity_record(value, at, void_to_s=to)
                file.write(records.line({**record, "asked_s": asked_s}))
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise JournalError(f"{path} cannot be written: {why or error}") from error
    return whole


def _plain(text: str) -> dict[str, Any]:
    plain = json.loads(text)
    if not isinstance(plain, dict):
        raise TypeError("no object")
    return plain


def _stretch(record: dict[str, Any]) -> Stretch:
    from_s, value = records.intensity_from(record)
    to_s = number(record["void_to_s"])
    if not (from_s < to_s and math.isfinite(from_s) and value.g_per_kwh <= MAX_G_PER_KWH):
        raise ValueError("out of range")
    return Stretch(from_s, to_s, value, number(record["asked_s"]))
