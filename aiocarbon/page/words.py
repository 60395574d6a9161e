"""Words of a page that its parts share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from aiocarbon._core.reading import Basis
from aiocarbon._core.report import Quantities, RunReport
from aiocarbon.render import numbers

__all__ = [
    "MEASURED_WORDS", "co2eq_words", "cut", "describe", "energy_words", "shares_words", "state_words",
]  # fmt: skip

MEASURED_WORDS: Final = {
    Basis.COUNTER: "measured (energy counter)",
    Basis.POWER: "measured (power sensor)",
    Basis.MODEL: "ESTIMATED (model)",
    Basis.ASSUMED: "ESTIMATED (assumption)",
}

NOT_MEASURED: Final = "not measured"
LONGEST: Final = 160


def cut(text: str, longest: int = LONGEST) -> str:
    """A text on one line that a page has room for; of a longer one its begin and how long it is."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * longest]).split())
    if len(text) <= 4 * longest and len(line) <= longest:
        return line
    return f"{line[: longest - 24]}... ({len(text):,} characters)"


def describe(lines: Iterable[dict[str, Any]]) -> str:
    """Which lines have which basis: "measured (energy counter): GPU-0, GPU-1; ESTIMATED (model): memory"."""
    groups: dict[str, list[str]] = {}
    for line in lines:
        groups.setdefault(line["basis"], []).append(line["name"])
    told = {basis: ", ".join(names) if len(names) < 4 else f"{len(names)} devices" for basis, names in groups.items()}
    return "; ".join(f"{basis}: {names}" for basis, names in told.items()) or "no device was counted"


def energy_words(of: Quantities) -> tuple[str, str]:
    """An energy with PUE, and its range, in words."""
    if numbers.is_nothing(of):
        return NOT_MEASURED, ""
    if of.energy_kwh == 0.0 < of.energy_kwh_high:
        # Nothing seen yet of a counter that refreshes slowly is a bound, and not a zero.
        return f"< {numbers.energy(of.energy_kwh_high, 2)}", "nothing was seen of it yet"
    value, ends = numbers.energy_range(of.energy_kwh, of.energy_kwh_low, of.energy_kwh_high)
    return value, f"90 % range {ends}"


def co2eq_words(of: Quantities) -> tuple[str, str]:
    """A mass of CO2eq, and its range, in words."""
    if numbers.is_nothing(of):
        return NOT_MEASURED, ""
    if of.energy_kwh == 0.0 < of.energy_kwh_high:
        return f"< {numbers.co2eq(of.co2eq_g_high, 2)}", "nothing was seen of it yet"
    value, ends = numbers.co2eq_range(of.co2eq_g, of.co2eq_g_low, of.co2eq_g_high)
    return value, f"90 % range {ends}"


def shares_words(report: Quantities) -> str:
    """What share of an energy has which basis."""
    shares = {basis: share for basis, share in report.basis_shares.items() if share > 0.0}
    told = ", ".join(f"{numbers.percent(share)} {MEASURED_WORDS[basis]}" for basis, share in shares.items())
    return told or "NOTHING was measured"


def state_words(report: RunReport, *, is_open: bool) -> str:
    """How a run ended.

    Args:
        report: The run.
        is_open: True if a journal of it has no end.
    """
    if is_open:
        return "runs, or broke off"
    return "ended" if report.ended_well else "did not end well"
