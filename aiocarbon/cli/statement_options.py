"""The options of what `aiocarbon report` states for papers and model cards, and the forms it is written in."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiocarbon.cli.options import CommandLineError

if TYPE_CHECKING:
    from aiocarbon._core.sci import Sci
    from aiocarbon.journal.read import Loaded
    from aiocarbon.render.statement import Statement

__all__ = [
    "StatementOptions",
    "add_statement",
    "csv_form",
    "latex_form",
    "markdown_form",
    "statement_of",
    "statement_options",
    "text_form",
]

UNITS: Final = ("run", "epoch", "step", "hour")
"""Functional units that reports count themselves, as `_core.sci.COUNTED` has them."""

MOST_G_PER_KM: Final = 1e5
"""gCO2eq/km that are taken for a mistake beyond."""

NAME_MOST: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementOptions:
    """What of the statement was asked for.

    Attributes:
        sci_unit: Functional unit of the SCI; empty: no SCI.
        sci_units: How many of it the work made; None: counted out of the reports.
        g_per_km: What a car emits; None: the newest of the table.
    """

    sci_unit: str = ""
    sci_units: float | None = None
    g_per_km: float | None = None


def add_statement(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--sci-unit",
        metavar="UNIT",
        help="state the Software Carbon Intensity (ISO/IEC 21031, operational part) per run, epoch, step or hour, "
        "or per anything else of which --sci-units says how many there were",
    )
    parser.add_argument(
        "--sci-units", metavar="N", help='how many functional units: "--sci-unit image --sci-units 50000"'
    )
    parser.add_argument("--car-g-per-km", metavar="G", help="what the car of the statement emits (default 106.8)")


def statement_options(parsed: argparse.Namespace) -> StatementOptions:
    """What of it was asked for.

    Raises:
        CommandLineError: An option is not accepted.
    """
    unit = parsed.sci_unit or ""
    units = None if parsed.sci_units is None else _above_zero("--sci-units", parsed.sci_units)
    if units is not None and not unit:
        raise CommandLineError("--sci-units needs --sci-unit NAME: of what there were so many")
    if unit and units is None and unit not in UNITS:
        raise CommandLineError(
            f"--sci-unit {unit!r} needs --sci-units N: only {', '.join(UNITS)} are counted by reports themselves"
        )
    if len(unit) > NAME_MOST:
        raise CommandLineError(f"--sci-unit is a name of at most {NAME_MOST} characters")
    per_km = None if parsed.car_g_per_km is None else _above_zero("--car-g-per-km", parsed.car_g_per_km)
    if per_km is not None and per_km > MOST_G_PER_KM:
        raise CommandLineError(f"--car-g-per-km {parsed.car_g_per_km!r} is no gCO2eq/km up to {MOST_G_PER_KM:g}")
    return StatementOptions(sci_unit=unit, sci_units=units, g_per_km=per_km)


def _above_zero(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise CommandLineError(f"{option} {text!r} is no number above 0")
    return value


def statement_of(loaded: Loaded, options: StatementOptions) -> Statement:
    """The statement of what was read.

    Raises:
        CommandLineError: The functional unit cannot be counted.
    """
    from aiocarbon.render.statement import statement

    return statement(loaded.runs, loaded.total, sci=_sci(loaded, options), g_per_km=options.g_per_km)


def _sci(loaded: Loaded, options: StatementOptions) -> Sci | None:
    if not options.sci_unit:
        return None
    from aiocarbon._core.sci import sci_of, units_of

    try:
        units = options.sci_units or units_of(loaded.runs, loaded.total, options.sci_unit)
        return sci_of(loaded.total, options.sci_unit, units)
    except ValueError as error:
        raise CommandLineError(f"--sci-unit {options.sci_unit}: {error}; --sci-units N says it") from error


def text_form(loaded: Loaded, options: StatementOptions) -> str:
    """The statement as text."""
    from aiocarbon.render.statement import statement_text

    return statement_text(statement_of(loaded, options))


def markdown_form(loaded: Loaded, options: StatementOptions) -> str:
    """The statement as a model card's section."""
    from aiocarbon.render.statement_forms import statement_markdown

    return statement_markdown(statement_of(loaded, options))


def latex_form(loaded: Loaded, options: StatementOptions) -> str:
    """The statement as LaTeX."""
    from aiocarbon.render.statement_forms import statement_latex

    return statement_latex(statement_of(loaded, options))


def csv_form(loaded: Loaded) -> str:
    """The runs in codecarbon's columns."""
    from aiocarbon import data
    from aiocarbon.render.emissions_csv import emissions_csv

    codes = {row["alpha2"]: row["alpha3"] for row in data.rows("countries")}
    return emissions_csv(loaded.runs, lambda alpha2: codes.get(alpha2, ""))
