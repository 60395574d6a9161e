"""What the predictor says of a run."""

from __future__ import annotations

from dataclasses import dataclass

from aiocarbon._core.rates import Band


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a run will have used, seen from one instant. Bands are 90 %, if the present regime goes on.

    Attributes:
        is_bounded: Whether the number of epochs is known; without it there are rates and no totals.
        epochs: Epochs of the whole run; None where unknown.
        epochs_seen: Complete epochs so far.
        epochs_left: Epochs to come, with the share of the open one that is left; None where unknown.
        observed_s: Seconds so far.
        observed_j: Joules so far; None where none were measured.
        remaining_s: Seconds to come; None where not bounded.
        remaining_j: Joules to come; None where not bounded or not measured.
        total_s: Seconds of the whole run.
        total_j: Joules of the whole run.
        epoch_s: Seconds of an epoch in the present regime, its other classes of work left out.
        power_w: Power draw in the present regime; None where it is not known.
        j_per_hour: Joules an hour in the present regime; None where not known.
        rests_on: What the rate comes from: "prior" (earlier runs), "steps" (inside the first epoch) or "epochs".
        regimes: Changes of regime seen so far, in time or power.
        notes: What a reader must know.
    """

    is_bounded: bool
    epochs: int | None
    epochs_seen: int
    epochs_left: float | None
    observed_s: float
    observed_j: float | None
    remaining_s: Band | None
    remaining_j: Band | None
    total_s: Band | None
    total_j: Band | None
    epoch_s: Band
    power_w: Band | None
    j_per_hour: Band | None
    rests_on: str
    regimes: int
    notes: tuple[str, ...]
