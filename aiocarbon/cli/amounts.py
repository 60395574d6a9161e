"""Amounts on the command line, read strictly: a plain number and a unit of a list, or a refusal that says which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from aiocarbon.cli.options import CommandLineError

__all__ = [
    "BUDGET_CO2EQ",
    "BUDGET_ENERGY",
    "CAR",
    "ENERGY",
    "FLOP",
    "FLOP_RATE",
    "HOURS",
    "POWER",
    "Amount",
    "amount",
    "count",
    "share",
]

_NUMBER: Final = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)((?:[eE][+-]?[0-9]{1,3})?)"


class Amount(NamedTuple):
    """What is accepted of an option.

    Attributes:
        units: What a unit stands for; "" stands for none.
        accepted: The units in words, with an example.
        least: The smallest value, in the unit that stands for 1; far below what anybody has.
        most: The largest, far above it: so no step of a chain is too long for its arithmetic.
    """

    units: Mapping[str, Decimal]
    accepted: str
    least: Decimal
    most: Decimal


def _prefixed(*names: str, prefixes: str = "kMGTPEZY") -> dict[str, Decimal]:
    """Units with SI prefixes (SI Brochure, 9th edition, table 7), each a thousand of the one before."""
    factors = {"": Decimal(1), **{prefix: Decimal(1000) ** n for n, prefix in enumerate(prefixes, 1)}}
    return {"": Decimal(1)} | {prefix + name: factor for prefix, factor in factors.items() for name in names}


FLOP: Final = Amount(_prefixed("FLOP", "FLOPs"), 'operations, "3.14e23" or "314 ZFLOP"', Decimal("1"), Decimal("1e40"))
FLOP_RATE: Final = Amount(
    _prefixed("FLOPS", "FLOP/s"),
    'operations per second, "130e12", "130 TFLOPS" or "130 TFLOP/s"',
    Decimal("1"),
    Decimal("1e30"),
)
POWER: Final = Amount(
    _prefixed("W", prefixes="kM"), 'watts of one device, "250", "250 W" or "0.25 kW"', Decimal("1e-3"), Decimal("1e9")
)
HOURS: Final = Amount(
    {"": Decimal(1), "h": Decimal(1)},
    'hours, summed over all devices, "28000" or "28000 h"',
    Decimal("1e-6"),
    Decimal("1e15"),
)
ENERGY: Final = Amount(
    {"": Decimal(1), "Wh": Decimal("0.001"), "kWh": Decimal(1), "MWh": Decimal(1000), "GWh": Decimal(10) ** 6},
    'kilowatt-hours, "37.4", "37.4 kWh", "850 Wh" or "1.2 MWh"',
    Decimal("1e-9"),
    Decimal("1e15"),
)
CAR: Final = Amount(
    {"": Decimal(1), "g/km": Decimal(1)}, 'grams per kilometre, "120.4"', Decimal("1e-6"), Decimal("1e6")
)
BUDGET_CO2EQ: Final = Amount(
    {"g": Decimal(1), "kg": Decimal(1000), "t": Decimal(10) ** 6},
    'a mass in g, kg or t, "500g", "1.5 kg" or "2t"',
    Decimal("1e-9"),
    Decimal("1e15"),
)
BUDGET_ENERGY: Final = Amount(
    {"Wh": Decimal("0.001"), "kWh": Decimal(1), "MWh": Decimal(1000)},
    'an energy in Wh, kWh or MWh, "800Wh", "2 kWh" or "1.2MWh"',
    Decimal("1e-9"),
    Decimal("1e15"),
)
"""A limit without its unit is refused: a factor of a thousand too much is not noticed in time."""

MOST_DEVICES: Final = 10_000_000


def amount(option: str, text: str, kind: Amount) -> Decimal:
    """The value of an option, in the unit that stands for 1.

    Args:
        option: Its name, for the error: "--watts".
        text: What was given.
        kind: What is accepted.

    Raises:
        CommandLineError: It is no such amount, or none above 0, or beyond any sense; the message says what is accepted.
    """
    accepted = f"a number from {kind.least:g} to {kind.most:.0e} of {kind.accepted}"
    found = re.fullmatch(rf"\s*{_NUMBER}\s*([A-Za-z/]*)\s*", text, re.ASCII)
    if found is None or found[3] not in kind.units:
        why = f"the unit {found[3]!r} is not known here; " if found and found[3] else ""
        raise CommandLineError(f"{option} {text!r} is not accepted: {why}expected {accepted}")
    value = Decimal(found[1] + found[2]) * kind.units[found[3]]
    if not kind.least <= value <= kind.most:
        raise CommandLineError(f"{option} {text!r} is not accepted: expected {accepted}")
    return value


def share(option: str, text: str) -> Decimal:
    """A share above 0 and at most 1, as "0.38" or "38%".

    Raises:
        CommandLineError: It is none.
    """
    found = re.fullmatch(rf"\s*{_NUMBER}\s*(%?)\s*", text, re.ASCII)
    value = Decimal(found[1] + found[2]) / (100 if found[3] else 1) if found else Decimal(0)
    if not 0 < value <= 1:
        raise CommandLineError(
            f'{option} {text!r} is not accepted: expected a share above 0, at most 1, "0.38" or "38%"'
        )
    return value


def count(option: str, text: str, *, least: int = 1, most: int = MOST_DEVICES) -> int:
    """A whole number.

    Raises:
        CommandLineError: It is none, or not within `least` and `most`.
    """
    value = int(text) if re.fullmatch(r"[0-9]{1,8}", text, re.ASCII) else -1
    if not least <= value <= most:
        raise CommandLineError(f"{option} {text!r} is not accepted: expected a whole number from {least} to {most}")
    return value
