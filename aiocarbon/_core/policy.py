"""How energy is split among spans: what a user chooses, and the report repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Policy(StrEnum):
    """How the energy above the idle floor is split among the open spans."""

    EVEN = "even"
    """In equal parts."""
    WEIGHT = "weight"
    """By the weights that spans tell: tokens, environment steps."""
    DEVICE = "device"
    """A span that is bound to a device takes that device's part; the others share the rest evenly."""
    CPU = "cpu"
    """By the CPU time of the spans' own steps."""


class Idle(StrEnum):
    """What becomes of the idle floor."""

    APART = "kept_apart"
    SHARED = "shared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """The rule of a run.

    Attributes:
        policy: How what is above the idle floor is split.
        idle: What becomes of the floor.
        floor_w: Idle watts by device id, or of all counted devices together, which share it in proportion to what they
            draw; None: estimated (the least 5 s mean while no span is open).
    """

    policy: Policy = Policy.EVEN
    idle: Idle = Idle.APART
    floor_w: Mapping[str, float] | float | None = None


EVENLY: Final = Split()
"""The rule of a run that says nothing."""


def among(kinds: type[StrEnum], what: str, value: str) -> str:
    """One of some kinds.

    Raises:
        ValueError: It is not one of them.
    """
    if value not in list(kinds):
        names = ", ".join(f'"{kind.value}"' for kind in kinds)
        raise ValueError(f"{what}={value!r} is not accepted: expected one of {names}")
    return value
