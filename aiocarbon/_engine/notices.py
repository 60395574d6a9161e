"""What runs are told of their devices: findings, trouble, and who reads them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from aiocarbon._core.reading import Finding, Part
from aiocarbon._core.units import s_from_ns
from aiocarbon._engine.bank import Entry
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.session import Session
from aiocarbon._engine.track import Track
from aiocarbon._logging import get_logger
from aiocarbon.errors import MeterPermissionError, MeterUnavailableError

log = get_logger("engine")

HOLDS: Final = {"nvml": Part.GPU}
"""What a meter would read that not every computer has: it is missing where the meter knows of it and reads nothing."""


class Notices:
    """Tells the runs that are on.

    Args:
        clock: Tells how far into its run each of them is.
        sessions: The runs; others enter and leave them.
    """

    def __init__(self, clock: Clock, sessions: Collection[Session]) -> None:
        self._clock = clock
        self._sessions = sessions

    def trouble(self, track: Track, message: str, since_ns: int) -> None:
        """Tell the runs that count a device what is wrong with it, and since when, monotonic nanoseconds."""
        log.warning("meter.trouble", device=track.device.id, why=message)
        for session in self._sessions:
            if track in session.tracks:
                session.warn(f"{track.device.id} ({track.device.name}){self._at(session, since_ns)}: {message}")

    def tell(self, tracks: Iterable[Track], text: str, *, is_timed: bool) -> None:
        """Tell the runs that count any of some devices something about them, and when it was if that matters."""
        for session in self._sessions:
            if not set(session.tracks).isdisjoint(tracks):
                at = self._at(session, self._clock.monotonic_ns()) if is_timed else ""
                session.warn(f"{text},{at}" if at else text)

    def _at(self, session: Session, t_ns: int) -> str:
        """How far into the run an instant is, in the run's own time: no sleep of the machine, no pause."""
        if session.newest is None:
            return ""
        body, _ = session.newest
        former = session.facts.former
        before_s = 0.0 if former is None else former.run.duration_s
        return f" {before_s + s_from_ns(max(t_ns - body.begin.t_ns, 0)):.1f} s into the run"


def tell_of(session: Session, entry: Entry, *, is_asked_for: bool) -> None:
    """Tell a run what a meter found, or why it could not be opened, if that is worth telling."""
    for finding in entry.findings:
        note(session, finding)
    error = entry.error
    is_told = isinstance(error, MeterPermissionError) or (isinstance(error, MeterUnavailableError) and error.is_warning)
    if error is not None and (is_asked_for or is_told):
        session.warn(_told(f"{entry.name}: {error}", error.remedy))
    if part := HOLDS.get(entry.name):
        # One that is still being opened has found its driver: without one it answers at once.
        is_lacking = entry.is_opening or isinstance(error, MeterPermissionError)
        (session.missing.add if is_lacking else session.missing.discard)(part)


def tell_of_unopened(session: Session, entries: Iterable[Entry]) -> None:
    """Tell a run that ends which meters did not answer until then."""
    for entry in entries:
        if not entry.opened.is_set():
            session.warn(f"{entry.name} had not answered when the run ended: what it would have read is in no figure")


def note(session: Session, finding: Finding) -> None:
    """Tell a run a finding, if it is worth telling."""
    if finding.is_warning:
        session.warn(_told(finding.message, finding.remedy))


def _told(message: str, remedy: str) -> str:
    return f"{message}. To mend it: {remedy}" if remedy else message
