"""What is waited for where clean electricity is, and what came of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from aiocarbon._core.clean import Plan, RefusedError
from aiocarbon._core.intensity import IntensityValue

SOON_S: Final = 1.0
"""A start that is nearer than this has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is waited for: a limit, a start, or whichever comes first.

    Attributes:
        below_g_per_kwh: Intensity below which is clean, gCO2eq/kWh; None: no limit.
        duration_s: How long the work takes whose best start is wanted; needs a deadline. None: no work.
        deadline_s: By when the wait (with a duration: the work) has to end, UTC seconds; None: whenever.
    """

    below_g_per_kwh: float | None = None
    duration_s: float | None = None
    deadline_s: float | None = None

    @property
    def latest_s(self) -> float:
        """The latest end of the wait, UTC seconds; infinite where there is none."""
        return math.inf if self.deadline_s is None else self.deadline_s - (self.duration_s or 0.0)


class WaitEnd(StrEnum):
    """Why a wait ended."""

    CLEAN = "clean"
    """What was waited for has come."""

    DEADLINE = "deadline"
    """It has not come in time."""

    NO_FORECAST = "no forecast"
    """Nobody says what the intensity will be, so there is nothing to wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanWait:
    """What was waited for, and why the wait ended.

    Attributes:
        reason: Why it ended.
        note: That in words.
        waited_s: How long, seconds.
        below_g_per_kwh: Limit that was waited for, gCO2eq/kWh; None if none.
        duration_s: How long the work takes whose best start was waited for; None if that was not asked.
        deadline: By when the wait (with a duration: the work) had to end; None for no limit. UTC.
        intensity: What held when it ended, with source and quality; None where the instrument failed.
        plan: The newest plan of the start; None where none was made.
    """

    reason: WaitEnd
    note: str
    waited_s: float
    below_g_per_kwh: float | None = None
    duration_s: float | None = None
    deadline: datetime | None = None
    intensity: IntensityValue | None = None
    plan: Plan | None = None

    @property
    def is_clean(self) -> bool:
        """True if what was waited for has come."""
        return self.reason is WaitEnd.CLEAN


def instant_of(at_s: float) -> datetime:
    """An instant (UTC seconds) as it is told: the first or the last one of the calendar if it lies outside of it."""
    try:
        return datetime.fromtimestamp(at_s, UTC)
    except (ValueError, OverflowError, OSError):
        return (datetime.max if at_s > 0.0 else datetime.min).replace(tzinfo=UTC)


def check(wish: Wish, now_s: float) -> None:
    """Refuse a wish that cannot come true.

    Raises:
        RefusedError: Which part of it.
    """
    limit = wish.below_g_per_kwh
    if limit is None and wish.duration_s is None:
        raise RefusedError("below_g_per_kwh", None, "a limit in gCO2eq/kWh; or a duration with a deadline")
    is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
    if limit is not None and not (is_number and 0.0 < limit < math.inf):
        raise RefusedError("below_g_per_kwh", limit, "a number of gCO2eq/kWh above 0, or None")
    if wish.deadline_s is not None and not now_s < wish.deadline_s < math.inf:
        late = instant_of(wish.deadline_s).isoformat() if math.isfinite(wish.deadline_s) else "never"
        raise RefusedError("deadline", late, "an instant after now")
    if wish.duration_s is None:
        return
    if wish.deadline_s is None:
        raise RefusedError("deadline", None, "by when the work has to be done, since a duration is given")
    if not 0.0 < wish.duration_s < math.inf:
        raise RefusedError("duration", wish.duration_s, "seconds above 0")
    if wish.duration_s > wish.deadline_s - now_s + SOON_S:
        raise RefusedError(
            "duration", wish.duration_s, f"at most the {wish.deadline_s - now_s:.0f} s up to the deadline"
        )
