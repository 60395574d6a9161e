"""The limits of `aiocarbon run` with their units, turned into a `Budget`."""

from __future__ import annotations

import argparse
from typing import Final

from aiocarbon.budget import Budget
from aiocarbon.cli.options import CommandLineError

__all__ = ["add_budget", "budget_of"]

HELP: Final = {
    "co2eq": ("500g", "end the command beyond so much CO2eq, in g, kg or t; exit code 124"),
    "energy": ("2kWh", "end the command beyond so much energy (PUE counted), in Wh, kWh or MWh; exit code 124"),
    "time": ("3h", "end the command beyond so long a time, in s, min, h or d; exit code 124"),
}


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add the three limits."""
    for name, (example, text) in HELP.items():
        parser.add_argument(f"--budget-{name}", metavar=example, help=text)


def budget_of(parsed: argparse.Namespace) -> Budget | None:
    """The limits that were given; None if none were.

    Raises:
        CommandLineError: One is no amount in a unit that is known, or `--budget` is given beside.
    """
    texts = {name: getattr(parsed, f"budget_{name}", None) for name in HELP}
    given = {name: text for name, text in texts.items() if text is not None}
    if not given:
        return None
    if getattr(parsed, "budget", None) is not None:
        raise CommandLineError(f"--budget and --budget-{next(iter(given))} say the same: give one of them")
    return Budget(
        co2eq_g=_amount("co2eq", given.get("co2eq")),
        energy_kwh=_amount("energy", given.get("energy")),
        duration_s=_seconds(given.get("time")),
    )


def _amount(name: str, text: str | None) -> float | None:
    from aiocarbon.cli import amounts

    if text is None:
        return None
    return float(amounts.amount(f"--budget-{name}", text, getattr(amounts, f"BUDGET_{name.upper()}")))


def _seconds(text: str | None) -> float | None:
    from aiocarbon._core.timespan import seconds_of_text

    if text is None:
        return None
    try:
        return seconds_of_text(text)
    except ValueError as error:
        raise CommandLineError(f"--budget-time {text!r} is not accepted: expected {error}") from None
