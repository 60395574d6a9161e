"""Spans over time: a journal holds their totals by name every five minutes, whose differences are drawn."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from aiocarbon._core.units import J_PER_UJ, S_PER_NS
from aiocarbon.errors import JournalError
from aiocarbon.page.series import Part

__all__ = ["SpanSeries", "span_series"]

BEGIN: Final = b'{"k":"spans"'
MOST_NAMES: Final = 6
OTHERS: Final = "other names"


class SpanSeries(NamedTuple):
    """The mean power of all spans of a name over time.

    Attributes:
        instants_s: UTC seconds, ascending.
        power_w: Between each two instants, by name; the one with most energy first.
    """

    instants_s: list[float]
    power_w: dict[str, list[float]]


def span_series(parts: Sequence[Part], points: int) -> SpanSeries | None:
    """Spans of a run that one process made; None where they were told fewer than three times, or by several.

    Args:
        parts: The run's parts.
        points: Instants at most.
    """
    views = {part.view.process.ident: part.view for part in parts}
    told = [view for view in views.values() if view.process.spans.account is not None]
    if len(told) != 1:
        return None
    (view,) = told
    wall = view.ledger.wall
    rows = [(0, {}), *_totals(view.process.path, points)]
    rows[0] = (view.begin_ns, {})
    newest = view.process.spans.account
    if newest is not None and newest.shares.as_of_ns > rows[-1][0]:
        rows.append((newest.shares.as_of_ns, {share.name: share.energy_j for share in newest.shares.spans}))
    rows = [row for n, row in enumerate(rows) if n == 0 or row[0] > rows[n - 1][0]]
    if len(rows) < 4:
        return None
    last = rows[-1][1]
    names = sorted(last, key=lambda name: -last[name])
    kept = names[:MOST_NAMES]
    drawn: dict[str, list[float]] = {name: [] for name in kept}
    if len(names) > len(kept):
        drawn[OTHERS] = []
    for (from_ns, before), (to_ns, after) in itertools.pairwise(rows):
        length_s = (to_ns - from_ns) * S_PER_NS
        used = {name: max(after.get(name, 0.0) - before.get(name, 0.0), 0.0) for name in after}
        for name in kept:
            drawn[name].append(used.get(name, 0.0) / length_s)
        if OTHERS in drawn and OTHERS not in kept:
            drawn[OTHERS].append(sum(energy for name, energy in used.items() if name not in kept) / length_s)
    return SpanSeries([wall.wall_s(t_ns) for t_ns, _ in rows], drawn)


def _totals(path: Path, points: int) -> list[tuple[int, dict[str, float]]]:
    """Instants (boot time) and joules by name, as the journal's records tell them; evenly thinned to so many."""
    found = list(_read(path))
    if len(found) > points:
        step = len(found) / points
        found = [found[int(n * step)] for n in range(points)]
    return found


def _read(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    try:
        with path.open("rb") as file:
            lines = [line for line in file if line.startswith(BEGIN)]
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error
    for line in lines:
        try:
            record = json.loads(line)
            # By place, since each has its name's quantiles and tags too, which would take most of the time.
            yield int(record["t"]), {str(row[0]): float(row[4]) * J_PER_UJ for row in record["names"]}
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            continue  # the reader of journals has counted it
