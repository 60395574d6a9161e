"""What a run's journal says of its intensity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiocarbon.journal import records

if TYPE_CHECKING:
    from aiocarbon._core.intensity import IntensityValue
    from aiocarbon._engine.session import Session


class IntensityNotes:
    """What of a run's intensity is not yet written: steps that have come into force, and corrections of those that had.

    What is to come is no fact yet, and is not written.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._version = -1
        self._until_s = float("-inf")  # up to where the steps are written
        self._last: IntensityValue | None = None

    def new(self, now_s: float) -> Iterator[records.Record]:
        """The records of what came into force or changed since the last call, up to an instant (UTC seconds)."""
        curve = self._session.ledger.intensity
        if self._last is None:
            self._last = curve.value_at(float("-inf"))
            yield records.intensity_record(self._last, float("-inf"))
            self._until_s = self._session.begin_s
            changed_s = self._until_s
        else:
            changed_s = max(curve.changed_since(self._version), self._session.begin_s)
        self._version = curve.version
        from_s, former_s = min(changed_s, self._until_s), self._until_s
        for at, _, value in curve.steps(from_s, max(now_s, from_s)):
            if at > from_s or value != self._last or from_s < former_s:
                yield records.intensity_record(value, at, void_to_s=former_s if at == from_s < former_s else None)
            self._last = value
        self._until_s = max(now_s, from_s)
