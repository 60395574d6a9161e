"""What was learnt of a run's intensity after it ended, kept beside its journal.

A journal has one writer and is never touched again. What sources say later of the stretches that were guesses goes into
`<name>.intensity` in the same folder, replaced as a whole: a first line that says whose it is and how many lines
follow, then one intensity record a stretch, which holds from `from_s` up to `void_to_s`; outside of the stretches the
journal's own intensity goes on. Reading lays them over what the journal says. Several of them (copies of one journal in
several folders) become their union, whatever the order.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiocarbon._core.intensity import MAX_G_PER_KWH, IntensityValue
from aiocarbon.errors import JournalError
from aiocarbon.intensity.guesses import is_finer
from aiocarbon.journal import records

SIDECAR_SUFFIX: Final = ".intensity"
SIDECAR_SCHEMA: Final = "aiocarbon.journal.intensity/1"
SIDECAR_MOST: Final = 1 << 26
"""Bytes; a year of five minutes takes some 50 MB."""


class Stretch(NamedTuple):
    """A time, and the intensity that was learnt of it afterwards.

    Attributes:
        from_s: UTC seconds.
        to_s: UTC seconds, later.
        value: What holds in between.
    """

    from_s: float
    to_s: float
    value: IntensityValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What was learnt of one process's intensity.

    Attributes:
        asked_s: When sources were asked last, UTC seconds.
        co2eq_g_before: CO2eq of the process before anything was asked for again. For people and other programs: a
            report of the journal computes it anew.
        stretches: Ascending; none overlaps the next.
    """

    asked_s: float
    co2eq_g_before: float
    stretches: tuple[Stretch, ...]


Steps = list[tuple[float, IntensityValue]]


def overlaid(steps: Steps, stretches: Iterable[Stretch]) -> Steps:
    """A step series with stretches laid over it.

    Args:
        steps: From (UTC seconds) and value, ascending; at least one, which also holds before its own instant.
        stretches: Ascending; none overlaps the next.
    """
    over = list(stretches)
    if not over:
        return steps
    froms = [at for at, _ in steps]
    begins = [stretch.from_s for stretch in over]
    borders = {*froms, *begins, *(stretch.to_s for stretch in over)}
    found: Steps = []
    for at in sorted(borders):
        i = bisect.bisect_right(begins, at) - 1
        under = steps[max(bisect.bisect_right(froms, at) - 1, 0)][1]
        value = over[i].value if i >= 0 and at < over[i].to_s else under
        if not found or found[-1][1] != value:
            found.append((at, value))
    if over[0].from_s <= froms[0]:  # the first value also holds before its own instant
        found.insert(0, (-math.inf, steps[0][1]))
    return found


def union(first: Sequence[Stretch], second: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """All that two know; where both know something the surer counts, the second's where both are as sure."""
    if not first or not second:
        return tuple(first or second)
    found: list[Stretch] = []
    borders = sorted({at for stretch in (*first, *second) for at in stretch[:2]})
    for at, to in itertools.pairwise(borders):
        a, b = _at(first, at), _at(second, at)
        value = a if b is None or (a is not None and is_finer(a.quality, b.quality)) else b
        if value is None:
            continue
        if found and found[-1].to_s == at and found[-1].value == value:
            found[-1] = found[-1]._replace(to_s=to)
        else:
            found.append(Stretch(at, to, value))
    return tuple(found)


def all_of(learnt: Iterable[Learnt]) -> Learnt | None:
    """What several know of one process, as one; the figure before is that of the first. None if there is none."""
    whole: Learnt | None = None
    for one in sorted(learnt, key=lambda one: (one.asked_s, [(*s[:2], s.value.g_per_kwh) for s in one.stretches])):
        if whole is None:
            whole = one
        else:
            stretches = union(whole.stretches, one.stretches)
            whole = Learnt(asked_s=one.asked_s, co2eq_g_before=whole.co2eq_g_before, stretches=stretches)
    return whole


def _at(stretches: Sequence[Stretch], at_s: float) -> IntensityValue | None:
    i = bisect.bisect_right(stretches, at_s, key=lambda stretch: stretch.from_s) - 1
    return stretches[i].value if i >= 0 and at_s < stretches[i].to_s else None


# -- the file ------------------------------------------------------------------------------------------------------


def sidecar_of(journal: Path) -> Path:
    """Where what was learnt of a journal's run lies."""
    return journal.with_suffix(SIDECAR_SUFFIX)


def read_sidecar(journal: Path, ident: str) -> Learnt | None:
    """What was kept beside a journal; None if nothing was.

    Args:
        journal: The journal's file.
        ident: The process whose journal it is.

    Raises:
        JournalError: There is something that cannot be read, is torn, or belongs to another journal.
    """
    path = sidecar_of(journal)
    if path == journal:
        return None
    try:
        with path.open("rb") as file:
            data = file.read(SIDECAR_MOST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}; what it holds is left out") from error
    try:
        first, *rest, last = data.decode("utf-8").split("\n")
        header = _plain(first)
        if header["schema"] != SIDECAR_SCHEMA:
            raise JournalError(f"{path} is left out: its schema is {header['schema']!r}, expected {SIDECAR_SCHEMA}")
        if header["ident"] != ident:
            raise JournalError(f"{path} is left out: it belongs to another journal than {journal.name}")
        stretches = tuple(_stretch(_plain(text)) for text in rest)
        if (
            last
            or len(stretches) != header["lines"]
            or any(a.to_s > b.from_s for a, b in itertools.pairwise(stretches))
        ):
            raise ValueError("lines are missing, or not in order")
        return Learnt(
            asked_s=_number(header["asked_s"]), co2eq_g_before=_number(header["co2eq_g_before"]), stretches=stretches
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise JournalError(f"{path} is left out: it is torn or not ours; remove it and refresh again") from error


def write_sidecar(journal: Path, ident: str, learnt: Learnt) -> Path:
    """Keep what was learnt beside a journal, in the place of what was kept before.

    Raises:
        JournalError: It cannot be written, or what lies there is not of this journal.
    """
    path = sidecar_of(journal)
    if path == journal:
        raise JournalError(f"{journal} has the name of what would be kept beside it")
    if path.exists():
        read_sidecar(journal, ident)
    header = {
        "schema": SIDECAR_SCHEMA,
        "ident": ident,
        "asked_s": learnt.asked_s,
        "co2eq_g_before": learnt.co2eq_g_before,
        "lines": len(learnt.stretches),
    }
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(records.line(header))
                for at, to, value in learnt.stretches:
                    file.write(records.line(records.intensity_record(value, at, void_to_s=to)))
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, journal.stat().st_mode & 0o666)  # readable for whom the journal is
            os.replace(name, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise JournalError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _plain(text: str) -> dict[str, Any]:
    plain = json.loads(text)
    if not isinstance(plain, dict):
        raise TypeError("no object")
    return plain


def _stretch(record: dict[str, Any]) -> Stretch:
    from_s, value = records.intensity_from(record)
    to_s = _number(record["void_to_s"])
    low, central, high = (_number(g) for g in (value.low_g_per_kwh, value.g_per_kwh, value.high_g_per_kwh))
    if not (from_s < to_s and math.isfinite(from_s) and 0.0 <= low <= central <= high and central <= MAX_G_PER_KWH):
        raise ValueError("out of range")
    return Stretch(from_s, to_s, value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)
