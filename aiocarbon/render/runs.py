"""Several runs as tables for a terminal: a line a run, a line a group, and two sides compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from aiocarbon._core.compare import Comparison, Measure, Range
from aiocarbon._core.groups import GroupReport
from aiocarbon._core.report import Quantities, RunReport
from aiocarbon.render import numbers
from aiocarbon.render.escape import one_line

__all__ = ["comparison_text", "groups_text", "overlap_text", "runs_text"]

NAME_WIDTH: Final = 40
LEAST_SHARE: Final = 1e-6
"""Runs whose sum is larger than their total by less did not overlap: it is rounding."""

FIGURES: Final = ("time", "energy", "90 % range", "CO2eq", "90 % range")

Table = Sequence[Sequence[str]]


def runs_text(runs: Sequence[RunReport]) -> str:
    """A line a run."""
    rows = [
        (
            _short(f"{run.name} ({run.run_id})" if run.name else run.run_id),
            f"{run.started_at:%Y-%m-%d %H:%M}",
            *_figures(run),
            "well" if run.ended_well else "not well",
        )
        for run in runs
    ]
    return _table([("run", "began (UTC)", *FIGURES, "ended"), *rows])


def groups_text(groups: Mapping[str, Sequence[GroupReport]], wanted: Sequence[str]) -> str:
    """The total by each of what is wanted, a table each.

    Args:
        groups: Groups by what they are of.
        wanted: Of these what is to be shown, in this order.
    """
    tables = []
    for by in wanted:
        rows = [(_short(group.key or "(no name)"), str(group.runs), *_figures(group)) for group in groups[by]]
        tables.append(_table([(by, "runs", *FIGURES), *rows]))
    return "\n\n".join(tables)


def overlap_text(runs: Sequence[RunReport], total: Quantities) -> str:
    """What several runs measured of one device at one time, which is once in the total; empty if they did not."""
    twice_kwh = sum(run.it_energy_kwh for run in runs) - total.it_energy_kwh
    if twice_kwh <= LEAST_SHARE * total.it_energy_kwh:
        return ""
    return (
        f"runs overlapped on a machine: {numbers.energy(twice_kwh)} that another run measured too is once in the "
        "total; groups by name and host split it evenly among the runs that measured it"
    )


def comparison_text(found: Comparison) -> str:
    """Two sides as a table."""
    sides = [
        f"{name}: {_short(label)} ({f'{n} runs together' if n > 1 else '1 run'})"
        for name, label, n in (("second", found.b, found.runs[1]), ("first", found.a, found.runs[0]))
    ]
    rows = [_row(measure) for measure in found.measures if measure.a is not None and measure.b is not None]
    heads = ("", "first", "90 % range", "second", "90 % range", "second/first", "the second used")
    lines = [f"aiocarbon: {sides[1]}, {sides[0]}", _table([heads, *rows])]
    if any(measure.name.startswith("epoch_") for measure in found.measures):
        lines.append(f"  epochs: means of {found.epochs[0]} and {found.epochs[1]} complete ones")
    lines += [f"  note: {one_line(note, 1000)}" for note in found.notes]
    return "\n".join(lines)


LABELS: Final = {
    "energy_kwh": "energy with PUE",
    "it_energy_kwh": "energy of the devices",
    "co2eq_g": "CO2eq",
    "duration_s": "time",
}
VERDICTS: Final = {"more": "more", "less": "less", "same": "not told apart"}


def _row(measure: Measure) -> tuple[str, ...]:
    name = measure.name.removeprefix("epoch_")
    label = LABELS[name] if name == measure.name else f"  an epoch: {LABELS[name]}"
    assert measure.a is not None  # the caller has looked
    assert measure.b is not None
    sides = (*_told(name, measure.a), *_told(name, measure.b))
    ratio = measure.ratio
    share = "-" if ratio is None else f"{numbers.rounded(ratio.value, 3)} ({_ends(ratio)})"
    verdict = VERDICTS[measure.verdict]
    if ratio is not None and measure.verdict != "same":
        verdict = f"{abs(ratio.value - 1.0):.1%} {verdict}".replace("%", " %")
    return (label, *sides, share, verdict)


def _ends(ratio: Range) -> str:
    return "exact" if ratio.low == ratio.high else f"{ratio.low:.3f} to {ratio.high:.3f}"


def _told(name: str, of: Range) -> tuple[str, str]:
    if name == "duration_s":
        ends = "" if of.low == of.high else f"{numbers.duration(of.low)} to {numbers.duration(of.high)}"
        return numbers.duration(of.value), ends
    make = numbers.co2eq_range if name == "co2eq_g" else numbers.energy_range
    return make(of.value, of.low, of.high)


def _figures(part: Quantities) -> Iterator[str]:
    yield numbers.duration(part.duration_s)
    yield from numbers.energy_range(part.energy_kwh, part.energy_kwh_low, part.energy_kwh_high)
    yield from numbers.co2eq_range(part.co2eq_g, part.co2eq_g_low, part.co2eq_g_high)


def _short(name: str) -> str:
    return one_line(name, NAME_WIDTH)


def _table(rows: Table) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
