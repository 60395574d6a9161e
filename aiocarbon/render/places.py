"""The same work in other places as text: a table a factor basis, with bars from zero, and what its figures rest on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from aiocarbon._core.intensity import FactorBasis
from aiocarbon._core.places import Place, PueOf, Ran, Row, Where
from aiocarbon.render import numbers
from aiocarbon.render.labelled import labelled
from aiocarbon.render.text import intensity_words, location_words

__all__ = ["can_show_bars", "where_lines"]

EIGHTHS: Final = "▏▎▍▌▋▊▉█"
"""The begin of a block by eighths of its width."""

PLAIN: Final = "#"
HERE: Final = "> "
INDENT: Final = "  "
GAP: Final = "  "
LEAST_BAR: Final = 6
MOST_BAR: Final = 40
UNBROKEN_BAR: Final = 20
"""Columns of the longest bar where no terminal says how many there are."""

LEAST_NAME: Final = 12
FAIR_NAME: Final = 20
"""Columns down to which names are cut for bars: a region's code fits in most of them."""

MOST_RUNS: Final = 3
HEADS: Final = ("place", "g/kWh", "year", "PUE", "CO2eq", "vs here")

BASIS_WORDS: Final = {
    FactorBasis.LIFE_CYCLE: "life-cycle factors (plants and the supply of fuel are counted)",
    FactorBasis.DIRECT: "direct factors (what leaves the stack alone)",
    FactorBasis.UNKNOWN: "factors that the source does not tell",
}


def can_show_bars(encoding: str | None) -> bool:
    """Whether a stream of that encoding can show the blocks of bars."""
    try:
        EIGHTHS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def where_lines(found: Where, *, top: int, bottom: int, width: int | None, blocks: bool) -> Iterator[str]:
    """All of it as lines of text.

    Args:
        found: The same work everywhere.
        top: How many of the lowest of each ranking are shown.
        bottom: How many of the highest; here is always shown.
        width: Columns that may be filled; None where no terminal breaks lines.
        blocks: False for bars in ASCII.
    """
    energy = numbers.energy(found.energy.kwh)
    yield f"aiocarbon: {energy} of IT energy elsewhere, by yearly tables; no network was asked"
    for label, text in (*_here(found), *_ran(found.ran)):
        yield from labelled(label, text, width)
    shown: list[Row] = []
    for ranking in found.rankings:
        rows = _chosen(ranking.rows, top, bottom)
        shown += [row for row in rows if isinstance(row, Row)]
        yield f"{BASIS_WORDS[ranking.basis]}: {_count(len(ranking.rows), 'place')}"
        yield from _table(rows, width, blocks)
    for n, note in enumerate((*_legend(shown), *found.notes)):
        yield from labelled("" if n else "note", note, width)


def _here(found: Where) -> Iterator[tuple[str, str]]:
    yield "here", location_words(found.location)
    rows = [ranking.here for ranking in found.rankings if ranking.here is not None]
    if not rows:
        yield "", "the tables hold nothing of here to compare with: --location ZONE says another place"
    for row in rows:
        value = row.place.value
        mass, ends = numbers.co2eq_range(row.co2eq_g, row.co2eq_g_low, row.co2eq_g_high)
        words = intensity_words(value.quality, value.zone, value.kind, value.factor_basis)
        yield "", f"{mass}, 90 % range {ends}: {numbers.rounded(value.g_per_kwh)} gCO2eq/kWh, {words}, {row.place.year}"
    yield "PUE", f"{found.here_pue.value:g}: {found.here_pue.source}; also of places where no cloud publishes one"


def _ran(runs: Sequence[Ran]) -> Iterator[tuple[str, str]]:
    for n, run in enumerate(runs[:MOST_RUNS]):
        told = f"{numbers.energy(run.it_energy_kwh)} x PUE {run.pue:g} at {numbers.rounded(run.g_per_kwh)} gCO2eq/kWh"
        bases = ", ".join(run.factor_bases) or "no"
        yield (
            "" if n else "it ran",
            f"{run.run_id} in {run.zone}: {numbers.co2eq(run.co2eq_g)} ({told}, {bases} factors)",
        )
    if len(runs) > MOST_RUNS:
        rest = sum(run.co2eq_g for run in runs[MOST_RUNS:])
        yield "", f"and {_count(len(runs) - MOST_RUNS, 'run')} more: {numbers.co2eq(rest)}"


def _chosen(rows: Sequence[Row], top: int, bottom: int) -> list[Row | int]:
    """The rows that are shown, and in the place of others how many they are."""
    chosen: list[Row | int] = []
    for n, row in enumerate(rows):
        if n < top or n >= len(rows) - bottom or row.is_here:
            chosen.append(row)
        elif chosen and isinstance(chosen[-1], int):
            chosen[-1] += 1
        else:
            chosen.append(1)
    return chosen


# -- the table ---------------------------------------------------------------------------------------------------


def _table(rows: Sequence[Row | int], width: int | None, blocks: bool) -> Iterator[str]:
    """Lines of a table; its last column holds bars where there is room for them."""
    told = [row for row in rows if isinstance(row, Row)]
    cells = [_cells(row) for row in told]
    widths = [max(len(row[i]) for row in (HEADS, *cells)) for i in range(len(HEADS))]
    rest = len(INDENT) + sum(widths[1:]) + len(GAP) * len(HEADS)
    bar = UNBROKEN_BAR
    if width is not None:
        widths[0] = max(min(widths[0], width - rest + len(GAP)), LEAST_NAME)
        bar = min(width - rest - widths[0], MOST_BAR)
        if bar < LEAST_BAR and widths[0] - (LEAST_BAR - bar) >= FAIR_NAME:
            widths[0] -= LEAST_BAR - bar
            bar = LEAST_BAR
    most = max((row.co2eq_g for row in told), default=0.0)
    yield (INDENT + _line(HEADS, widths)).rstrip()
    following = iter(cells)
    for row in rows:
        if isinstance(row, int):
            yield f"{INDENT}... {row} more"
            continue
        share = row.co2eq_g / most if most > 0.0 else 0.0
        bars = _bar(share, bar, blocks) if bar >= LEAST_BAR else ""
        yield ((HERE if row.is_here else INDENT) + _line(next(following), widths) + GAP + bars).rstrip()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name = cells[0]
    if len(name) > widths[0]:
        name = name.partition(" (")[0]  # the code of a region tells more than the begin of its place's name
    if len(name) > widths[0]:
        name = f"{name[: widths[0] - 3]}..."
    return GAP.join(
        (f"{name:<{widths[0]}}", *(f"{cell:>{size}}" for cell, size in zip(cells[1:], widths[1:], strict=True)))
    )


def _cells(row: Row) -> tuple[str, ...]:
    place, value = row.place, row.place.value
    return (
        _name(place),
        numbers.rounded(value.g_per_kwh) + ("~" if _is_wider(place) else " "),
        str(place.year),
        f"{place.pue.value:.2f}" + ("*" if place.pue_of is PueOf.CLOUD else " "),
        f"{numbers.co2eq(row.co2eq_g)} {_spread(row)}",
        "here" if row.is_here else _against(row.against),
    )


def _name(place: Place) -> str:
    if place.kind == "country":
        return f"{place.name} ({place.code})"
    if place.kind == "state":
        return f"{place.name.rpartition(', ')[0] or place.name} ({place.code})"
    return f"{place.kind} {place.code} ({place.name})"


def _is_wider(place: Place) -> bool:
    return place.value.zone != place.zone


def _spread(row: Row) -> str:
    """The range: as one figure where both ends are equally far."""
    if row.co2eq_g <= 0.0:
        return ""
    below, above = 1.0 - row.co2eq_g_low / row.co2eq_g, row.co2eq_g_high / row.co2eq_g - 1.0
    if abs(below - above) < 0.01:
        return f"+-{(below + above) * 50.0:.0f} %"
    return f"-{below * 100.0:.0f} +{above * 100.0:.0f} %"


def _against(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    if ratio >= 10.0:
        return f"x {numbers.rounded(ratio, 2)}"
    change = (ratio - 1.0) * 100.0
    return "same" if abs(change) < 0.5 else f"{change:+.0f} %"


def _bar(share: float, columns: int, blocks: bool) -> str:
    """A bar from zero; never none for something."""
    if not blocks:
        return PLAIN * max(round(share * columns), 1 if share > 0.0 else 0)
    eighths = max(round(share * columns * len(EIGHTHS)), 1 if share > 0.0 else 0)
    whole, part = divmod(eighths, len(EIGHTHS))
    return EIGHTHS[-1] * whole + (EIGHTHS[part - 1] if part else "")


# -- what the figures rest on ------------------------------------------------------------------------------------


def _legend(shown: Sequence[Row]) -> Iterator[str]:
    sources = dict.fromkeys(row.place.value.source.rpartition(", ")[0] for row in shown)
    yield f"yearly averages, in which hours differ by more than many places do: {'; '.join(sources)}"
    yield "+- is the 90 % range, of the intensity (assumed: no source publishes its error) and of measured energy"
    if len({row.place.value.factor_basis for row in shown}) > 1:
        yield "rankings of different factors are NOT COMPARABLE: direct ones leave out what life-cycle ones count"
    if any(_is_wider(row.place) for row in shown):
        yield "~ the tables have nothing of that grid zone: the average of its country"
    if any(row.place.pue_of is PueOf.CLOUD for row in shown):
        yield "* the average PUE of that cloud: it publishes none of the region"
    if any(row.place.pue_of is PueOf.REGION for row in shown):
        yield "other PUEs of cloud regions are their own, published (2022 to 2024); --json has the source of each"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
