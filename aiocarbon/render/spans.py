"""Spans and children as a table for a terminal: whose energy it was, with what nobody owns, adding up to the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from aiocarbon.render import numbers

if TYPE_CHECKING:
    from aiocarbon._core.report import Quantities, RunReport
    from aiocarbon._core.span_report import AttributionReport, ChildReport, SpanReport

__all__ = ["span_lines"]

MOST_ROWS: Final = 20
"""Names and children that are shown, those with the most energy; the JSON has all."""

NAME_WIDTH: Final = 36

SPLIT_WORDS: Final = {
    "even": "split evenly among open spans",
    "weight": "split among open spans by their weights",
    "device": "spans bound to a device take its energy, the rest is split evenly",
    "cpu": "split by the CPU time of the spans' own steps",
}

Row = tuple[str, ...]


def span_lines(report: RunReport) -> Iterator[str]:
    """The lines that tell of a run's spans and children; none where it had none."""
    how = report.attribution
    if how is not None and report.spans:
        rows: list[Row] = [("span", "energy", "share", "CO2eq", "with inner", "count", "median", "95 %")]
        shown = sorted(report.spans, key=lambda span: -span.it_energy_kwh)[:MOST_ROWS]
        rows += [_span(span, report) for span in shown]
        rows.append(_rest("(no span)", report.unattributed, report))
        if report.unattributed.idle is not None:
            rows.append(_rest("  of it idle floor", report.unattributed.idle, report))
        yield from _table(rows)
        more = len(report.spans) - len(shown)
        yield f"  {_how(how)}" + (f"; {more} more names are in the JSON" if more else "")
    if report.children:
        rows = [("child", "energy", "share", "CO2eq", "spans", "steps", "epochs", "a step")]
        shown_children = sorted(report.children, key=lambda child: -child.it_energy_kwh)[:MOST_ROWS]
        rows += [_child(child, report) for child in shown_children]
        yield from _table(rows)
        if len(report.children) > len(shown_children):
            yield f"  {len(report.children) - len(shown_children)} more children are in the JSON"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for name, *cells in rows:
        right = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield f"  {name:<{widths[0]}}  {right}".rstrip()


def _name(name: str) -> str:
    """A name on one line, shortened where it is too long."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= NAME_WIDTH else f"{plain[: NAME_WIDTH - 3]}..."


def _amounts(part: Quantities, report: RunReport) -> Row:
    digits = numbers.supported_digits(part.it_energy_kwh, part.it_energy_kwh_low, part.it_energy_kwh_high)
    share = part.it_energy_kwh / report.it_energy_kwh if report.it_energy_kwh > 0.0 else 0.0
    return (
        numbers.energy(part.it_energy_kwh, digits),
        numbers.percent(min(share, 1.0)),
        numbers.co2eq(part.co2eq_g, 2),
    )


def _span(span: SpanReport, report: RunReport) -> Row:
    inner = "" if span.with_children.it_energy_kwh == span.it_energy_kwh else _amounts(span.with_children, report)[0]
    is_open = f" ({span.open} open)" if span.open else ""
    lengths = [
        "-" if length is None else numbers.duration(length) for length in (span.duration_s_p50, span.duration_s_p95)
    ]
    # The energies of single spans of such a name are those of their neighbourhood.
    mark = " *" if span.below_resolution else ""
    return (_name(span.name) + mark, *_amounts(span, report), inner, f"{span.count:,}{is_open}", *lengths)


def _rest(name: str, part: Quantities, report: RunReport) -> Row:
    return (name, *_amounts(part, report), "", "", "", "")


def _child(child: ChildReport, report: RunReport) -> Row:
    a_step = numbers.energy(child.it_energy_kwh / child.steps) if child.steps and child.it_energy_kwh else "-"
    return (
        _name(child.name),
        *_amounts(child, report),
        f"{child.count:,}",
        f"{child.steps:,}",
        f"{child.epochs_total:,}",
        a_step,
    )


def _how(how: AttributionReport) -> str:
    words = SPLIT_WORDS.get(how.policy, how.policy)
    floors = [device.idle_floor_w for device in how.devices if device.idle_floor_w is not None]
    if how.idle == "shared":
        floor = "the idle floor is shared too"
    elif floors:
        floor = f"the idle floor of {numbers.power(sum(floors))} is kept apart"
    else:
        floor = "no idle floor is known"
    return f"{words}; {floor}; * is shorter than two readings"
