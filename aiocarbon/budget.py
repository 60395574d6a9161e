"""A limit on what a run may use."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiocarbon.errors import ConfigError

if TYPE_CHECKING:
    from aiocarbon._core.report import Prediction, Quantities

ACTIONS = ("raise", "warn")
NAMES = {"co2eq_g": ("CO2eq", "g"), "energy_kwh": ("energy", "kWh"), "duration_s": ("time", "s")}
"""What each limit is of, and its unit."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run; it is broken as soon as what was used, or will surely be, passes one of them.

    "Surely": the lower end of the prediction's 90 % range. Where its upper end passes a limit, the report warns.

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
            if not is_number or not 0 < limit <= sys.float_info.max:
                raise ConfigError(f"budget.{field}", limit, "a number above 0, or None for no limit")
        if not self.limits():
            raise ConfigError("budget", None, "at least one of co2eq_g, energy_kwh and duration_s")
        if needs_await(self.action) or (not callable(self.action) and self.action not in ACTIONS):
            raise ConfigError(
                "budget.action", self.action, '"raise", "warn" or a plain callable, since step() calls it too'
            )

    def limits(self) -> dict[str, float]:
        """The limits that are given, by the field of the report that each bounds."""
        given = {"co2eq_g": self.co2eq_g, "energy_kwh": self.energy_kwh, "duration_s": self.duration_s}
        return {field: limit for field, limit in given.items() if limit is not None}

    def broken_by(self, used: Quantities, *, but: str = "") -> str:
        """Which limit was passed, in words; empty if none was. That of the field `but` is not looked at."""
        for field, limit in self.limits().items():
            value = getattr(used, field)
            if value > limit and field != but:
                return f"{_named(field, limit)} is used up: {_amount(field, value)}"
        return ""

    def broken_ahead(self, prediction: Prediction | None, *, but: str = "") -> str:
        """Which limit even the lower end of a prediction passes, in words; empty if none. That of `but` is left out."""
        return self._passed_by(prediction, "low", "will not hold", "at least", but)

    def endangered_by(self, prediction: Prediction | None) -> str:
        """Which limit the upper end of a prediction passes, in words; empty if none."""
        return self._passed_by(prediction, "high", "may not hold", "at most")

    def _passed_by(self, prediction: Prediction | None, end: str, verdict: str, bound: str, but: str = "") -> str:
        for field, limit in self.limits().items():
            value = getattr(prediction, f"{field}_{end}", None)
            if value is not None and value > limit and field != but:
                told = _amount(field, getattr(prediction, field))
                return f"{_named(field, limit)} {verdict}: {told} predicted, {bound} {_amount(field, value)} (90 %)"
        return ""


def needs_await(call: object) -> bool:
    """Whether calling something only makes a coroutine: a coroutine function, or an object whose call is one."""
    call_of_object = getattr(type(call), "__call__", None)  # noqa: B004  # what it is, not whether there is one
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(call_of_object)


def _named(field: str, limit: float) -> str:
    return f"the {NAMES[field][0]} budget of {_amount(field, limit)}"


def _amount(field: str, value: float) -> str:
    return f"{value:.6g} {NAMES[field][1]}"
