"""A limit on what a run may use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiocarbon.errors import ConfigError

if TYPE_CHECKING:
    from aiocarbon._core.report import Quantities

ACTIONS = ("raise", "warn")


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run; it is broken as soon as what was used passes one of them.

    Attributes:
        co2eq_g: Grams of CO2eq, above 0; None: no limit.
        energy_kwh: Energy x PUE in kWh, above 0; None: no limit.
        duration_s: Seconds, above 0; None: no limit.
        action: "raise" lets `epoch()` and `step()` raise `BudgetExceededError` in the user's task; "warn" adds a
            warning to the report; a callable is called there, once, with the report.

    Raises:
        ConfigError: A limit or the action is not accepted, or no limit is given.
    """

    co2eq_g: float | None = None
    energy_kwh: float | None = None
    duration_s: float | None = None
    action: str | Callable[[Any], object] = "raise"

    def __post_init__(self) -> None:
        for field, limit in self.limits().items():
            is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if not is_number or not limit > 0 or not math.isfinite(limit):
                raise ConfigError(f"budget.{field}", limit, "a number above 0, or None for no limit")
        if not self.limits():
            raise ConfigError("budget", None, "at least one of co2eq_g, energy_kwh and duration_s")
        if not callable(self.action) and self.action not in ACTIONS:
            raise ConfigError("budget.action", self.action, '"raise", "warn" or a callable')

    def limits(self) -> dict[str, float]:
        """The limits that are given, by the field of the report that each bounds."""
        given = {"co2eq_g": self.co2eq_g, "energy_kwh": self.energy_kwh, "duration_s": self.duration_s}
        return {field: limit for field, limit in given.items() if limit is not None}

    def broken_by(self, used: Quantities) -> str:
        """Which limit was passed, in words; empty if none was."""
        for field, limit in self.limits().items():
            value = getattr(used, field)
            if value > limit:
                name, _, unit = field.rpartition("_")
                return f"the budget of {limit:g} {unit} ({name}) is used up: {value:.6g} {unit}"
        return ""
