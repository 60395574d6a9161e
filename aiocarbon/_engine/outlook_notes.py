"""What of a run's outlook goes into its journal: predictions while they change, and the first forecast of intensity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from aiocarbon._core.intensity import Quality
from aiocarbon.journal.outlooks import ahead_record, prediction_record

if TYPE_CHECKING:
    from datetime import datetime

    from aiocarbon._engine.session import Session

AGAIN_SHARE: Final = 0.05
"""A prediction is written anew once the run is longer by this share: some 230 of them in a day, 35 kB."""

LEAST_S: Final = 1.0
"""At least so far apart, seconds, except for the last one."""


class OutlookNotes:
    """The notes of one run.

    Args:
        session: The run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._written_at: datetime | None = None
        self._has_ahead = False
        self._version = -1

    def new(self, now_s: float, *, is_last: bool = False) -> Iterator[dict[str, Any]]:
        """The records that are due.

        Args:
            now_s: UTC seconds.
            is_last: True at the run's end.
        """
        made = self._session.foresight.newest
        if made is not None and made.is_bounded and made.as_of != self._written_at:
            age_s = made.as_of.timestamp() - self._session.begin_s
            before_s = -math.inf if self._written_at is None else self._written_at.timestamp() - self._session.begin_s
            if is_last or age_s >= max(before_s * (1.0 + AGAIN_SHARE), before_s + LEAST_S):
                self._written_at = made.as_of
                yield prediction_record(made)
        curve = self._session.ledger.intensity
        if not self._has_ahead and curve.version != self._version:
            self._version = curve.version
            # A stretch without an end is a value that is carried on, and no forecast.
            told = [s for s in curve.steps(now_s, math.inf) if s[2].quality.is_told and math.isfinite(s[1])]
            if any(value.quality is Quality.FORECAST for _, _, value in told):
                self._has_ahead = True
                yield ahead_record(told, now_s)
