"""Energy counters: telling a wrap from a reset, and how often a counter's value changes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from aiocarbon._core.reading import UNKNOWN_MAX_POWER_W, Device, Quantity
from aiocarbon._core.units import J_PER_UJ, S_PER_NS

POWER_GROWTH = 4.0
"""How many times its last power a device may have drawn in a gap, when it is asked whether its counter lapped."""

SMALL_POWER_W = 100.0
"""Any counted device may draw this much from one reading to the next."""

JUMP_FACTOR = 2.0
"""How many times the most that a device can draw an increase must need, to be taken for a jump."""

JUMP_ALLOWED_S = 10.0
"""A first increase may hold what was used since the counter's last refresh, before anybody looked."""

MOST_UJ = 2.0**63
"""A sum of microjoules from here on fits no column; no device of this world has it."""


class StepKind(StrEnum):
    """What happened between two readings of a counter."""

    PLAIN = "plain"
    WRAP = "wrap"
    RESET = "reset"
    AMBIGUOUS = "ambiguous"
    JUMP = "jump"
    SLEEP = "sleep"


@dataclass(frozen=True, slots=True)
class CounterStep:
    """Energy between two readings of one counter.

    Attributes:
        delta_uj: Microjoules that the counter vouches for, never negative.
        over_j: Joules that may have been used beside them, unmeasured.
        kind: What happened; only `PLAIN` and `WRAP` vouch for the time between.
    """

    delta_uj: int
    over_j: float
    kind: StepKind

    @property
    def is_vouched(self) -> bool:
        """True if the counter vouches for all the time between the two readings."""
        return self.kind in (StepKind.PLAIN, StepKind.WRAP)


def step(
    previous_uj: int,
    current_uj: int,
    dt_ns: int,
    *,
    range_uj: int | None,
    max_power_w: float | None,
    last_power_w: float,
) -> CounterStep:
    """Energy between two readings of a counter that may have wrapped or been reset between them.

    A decrease is a wrap if the unwrapped difference needs no more power than the device can draw, else a reset
    (driver reload, resume from suspend): the counter then vouches only for what it counted since, and what it may
    have missed at the last known power is told as `over_j`. A gap so long that the counter may have wrapped more
    than once is `AMBIGUOUS`. An increase beyond all that the device can draw (garbage in one reading, a counter that
    comes back from 0) is a `JUMP`: nothing of it counts, and what may have been used meanwhile is told as `over_j`.

    Args:
        previous_uj: Earlier value, microjoules.
        current_uj: Later value, microjoules.
        dt_ns: Time between the two in which the energy was used, nanoseconds, at least 0.
        range_uj: Value at which the counter wraps; None if it never does.
        max_power_w: The most the device can draw; None if unknown.
        last_power_w: Its mean power before the earlier reading, watts.
    """
    limit_w = max_power_w or UNKNOWN_MAX_POWER_W
    dt_s = dt_ns * S_PER_NS
    limit_j = limit_w * dt_s
    delta = current_uj - previous_uj
    kind = StepKind.PLAIN
    if delta < 0 and range_uj is not None and (delta + range_uj) * J_PER_UJ <= limit_j:
        delta += range_uj
        kind = StepKind.WRAP
    if delta < 0:
        since_reset = current_uj if current_uj * J_PER_UJ <= limit_j else 0
        missed_j = max(last_power_w * dt_s - since_reset * J_PER_UJ, 0.0)
        return CounterStep(since_reset, missed_j, StepKind.RESET)
    if max_power_w is not None and delta * J_PER_UJ > JUMP_FACTOR * limit_w * (dt_s + JUMP_ALLOWED_S):
        return CounterStep(0, limit_j, StepKind.JUMP)
    likely_j = min(limit_w, max(POWER_GROWTH * last_power_w, SMALL_POWER_W)) * dt_s
    if range_uj is not None and delta * J_PER_UJ + range_uj * J_PER_UJ <= likely_j:
        laps = int((likely_j - delta * J_PER_UJ) // (range_uj * J_PER_UJ))
        return CounterStep(delta, laps * range_uj * J_PER_UJ, StepKind.AMBIGUOUS)
    return CounterStep(delta, 0.0, kind)


def least_garbage(device: Device) -> float:
    """From where on a reading is none: microjoules, or a power far beyond what the device can draw, as 65535 W is."""
    return MOST_UJ if device.quantity is Quantity.ENERGY else JUMP_FACTOR * (device.max_power_w or math.inf)


def without_sleep(moved: CounterStep, dt_ns: int, *, last_power_w: float) -> CounterStep:
    """A step in which the machine slept, without what was used in the sleep: that time is in no run.

    A counter may go on meanwhile, and tells one sum of both: of it counts what the last power makes of the time awake.

    Args:
        moved: The whole step.
        dt_ns: Its time awake, nanoseconds.
        last_power_w: Mean power before it, watts.
    """
    likely_j = last_power_w * dt_ns * S_PER_NS
    likely_uj = round(likely_j / J_PER_UJ)
    awake_uj = likely_uj if moved.kind is StepKind.JUMP else min(moved.delta_uj, likely_uj)
    return CounterStep(awake_uj, likely_j, StepKind.SLEEP)


def estimate_refresh(changes_ns: Sequence[int]) -> tuple[int, int] | None:
    """How often a sensor's value changes, and how regularly, from the instants at which it was seen to change.

    Args:
        changes_ns: Instants, ascending, of successive changes, none missed between the first and the last.

    Returns:
        Mean period and the largest deviation of one period from it, nanoseconds; None with fewer than three changes.
    """
    if len(changes_ns) < 3:
        return None
    period = (changes_ns[-1] - changes_ns[0]) // (len(changes_ns) - 1)
    jitter = max(abs(b - a - period) for a, b in itertools.pairwise(changes_ns))
    return period, jitter
