"""Turns what is new in a session into the records of its journal; on the engine's loop."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from itertools import takewhile
from typing import TYPE_CHECKING

from aiocarbon._core.curve import State
from aiocarbon._core.identity import alone
from aiocarbon._core.units import NS_PER_S, S_PER_NS, ns_from_s, s_from_ns
from aiocarbon._engine.intensity_notes import IntensityNotes
from aiocarbon._engine.launch import machine_id, time_namespace
from aiocarbon._engine.session import Session
from aiocarbon._engine.span_notes import SpanNotes
from aiocarbon._engine.windows import KEEP_EVERY_S, Border, known_windows
from aiocarbon._version import __version__
from aiocarbon.journal import records
from aiocarbon.journal.alive import boot_id

if TYPE_CHECKING:
    from aiocarbon._engine.clock import Clock
    from aiocarbon._engine.outlook_notes import OutlookNotes

TICK_NS = 60 * NS_PER_S
"""Ticks lie on the minutes of UTC, where intensities change: what is learnt of them later finds the energy there."""

MOST_MINUTES = 10
"""So many of them may wait for a device; of more, the newest are told, and those that curves keep for good."""

KEPT = round(KEEP_EVERY_S) * NS_PER_S // TICK_NS
"""Minutes between two points of an older curve."""

PATIENCE_NS = 5 * NS_PER_S
"""A tick waits so much longer than an interval for all devices' readings."""

MOST_WAITING = 50_000
LASTING = frozenset({"device", "place", "intensity", "wall"})
"""Records without which those behind them tell nothing."""

DROPPED = (
    f"more than {MOST_WAITING:,} records waited for the journal: the oldest epochs and spans are not in it but in this "
    "report alone"
)

MOST_LACKING = 10_000


class Notes:
    """What of one session its journal does not hold yet.

    Args:
        session: The run.
        clock: Its engine's.
        boot_offset_ns: Boot clock minus monotonic clock.
        interval_s: The run's pace of readings.

    Attributes:
        waiting: Records that are to be written.
        provisional: Marks that are written, or wait, as they were known before they were final.
        is_last: True at the run's end.
        ticked_ns: Up to where ticks are written, monotonic.
    """

    def __init__(self, session: Session, clock: Clock, boot_offset_ns: int, interval_s: float) -> None:
        self._session = session
        self._clock = clock
        self._boot_offset_ns = boot_offset_ns
        self._interval_s = interval_s
        self.waiting: list[records.Record] = []
        self.provisional: set[int] = set()
        self.is_last = False
        self.ticked_ns = clock.monotonic_ns()
        self._order: list[str] = []
        self._warnings_written = 0
        self._intensity = IntensityNotes(session)
        self._spans = SpanNotes(session.sharing, self._boot)
        self._outlooks: OutlookNotes | None = None
        self._place = (session.facts.location, session.ledger.pue)
        self._anchors_written = 1
        self._begun: set[str] = set()
        self._has_marks = False
        self._lacking: deque[Border] = deque(maxlen=MOST_LACKING)

    def recall(self) -> None:
        """Look upon all that is known of the session as new: the journal that had it is gone."""
        session = self._session
        session.new_borders[:], session.settled[:] = known_windows(session)
        session.sharing.recall()
        self.ticked_ns = session.new_borders[0].t_ns if session.new_borders else self.ticked_ns

    def now(self) -> int:
        """Nanoseconds of the boot clock, as all instants of a journal are."""
        return self._boot(self._clock.monotonic_ns())

    def _boot(self, mono_ns: int) -> int:
        # One offset for the whole run: durations stay those of the monotonic clock, which stands still while the
        # machine sleeps.
        return mono_ns + self._boot_offset_ns

    def header(self) -> records.Record:
        """The first line."""
        session = self._session
        first = session.ledger.wall.anchors[0]
        return {
            "schema": records.SCHEMA,
            "run_id": session.facts.run_id,
            "name": session.facts.name,
            "host": session.facts.host,
            "pid": os.getpid(),
            "boot_id": boot_id(),
            "version": __version__,
            "interval_s": self._interval_s,
            "scope": session.scope.name,
            **records.place_record(*self._place),
            "t": self._boot(first.mono_ns),
            "wall_ns": first.wall_ns,
            **records.identity_record(session.facts.identity or alone(session.facts.run_id)),
            "machine_id": machine_id(),
            "time_namespace": time_namespace(),
            **({} if session.facts.former is None else {"resumes": True}),
        }

    def collect(self) -> None:
        """Turn what is new in the session into records."""
        session, out = self._session, self.waiting
        for device, segment, refresh_ns in session.scope.recorded():
            if device.id not in self._order:
                out.append(records.device_record(len(self._order), device, segment, s_from_ns(refresh_ns)))
                self._order.append(device.id)
        place = (session.facts.location, session.ledger.pue)
        if place != self._place:
            self._place = place
            out.append({"k": "place", **records.place_record(*place)})
        out.extend(self._intensity.new(session.latest_s(self._clock.monotonic_ns())))
        anchors = session.ledger.wall.anchors
        for anchor in anchors[self._anchors_written :]:
            out.append({"k": "wall", "t": self._boot(anchor.mono_ns), "wall_ns": anchor.wall_ns})
        self._anchors_written = len(anchors)
        open_borders, open_windows = session.waiting
        # A mark that still waits is written as it is known, in case no more comes; its final record replaces it.
        fresh = [border for border in open_borders if border.index not in self.provisional]
        self.provisional.update(border.index for border in fresh)
        self.provisional.difference_update(border.index for border in session.new_borders)
        for border in (*session.new_borders, *fresh):
            states = [border.mark.states.get(ident) for ident in self._order]
            out.append({"k": "mark", "m": border.index, "t": self._boot(border.t_ns), **records.states_record(states)})
            if border.index == 0:
                self._begun.update(
                    i for i in border.mark.states if self._session.ledger.curves[i][0].t_ns <= border.t_ns
                )
            self._has_marks = True
        # The begin may turn out to lack a device that opens later.
        self._lacking.extend(b for b in session.new_borders if b.index == 0 or len(b.mark.states) < len(self._order))
        session.new_borders.clear()
        self._collect_first_points()
        for window in (*session.settled, *open_windows):
            if window.epoch is not None and (window.is_final or window.end in fresh):
                epoch: records.Record = {"k": "epoch", "i": window.epoch}
                epoch.update(b=window.begin.index, e=window.end.index, steps=window.steps, partial=window.is_partial)
                out.append(epoch)
        session.settled.clear()
        out.extend(self._spans.new(s_from_ns(self._clock.monotonic_ns()), is_last=self.is_last))
        out.extend(self._foreseen())
        for text in session.warnings[self._warnings_written :]:
            out.append({"k": "warning", "t": self.now(), "text": text})
        self._warnings_written = len(session.warnings)
        self._trim()

    def _trim(self) -> None:
        """Let no more wait than is bearable: the oldest of what nothing else rests on are dropped."""
        surplus = len(self.waiting) - MOST_WAITING
        if surplus <= 0:
            return
        kept: list[records.Record] = []
        for record in self.waiting:
            if surplus > 0 and record["k"] not in LASTING and record.get("m") != 0:
                surplus -= 1
            else:
                kept.append(record)
        self.waiting[:] = kept
        self._session.warn(DROPPED)

    def _foreseen(self) -> Iterator[records.Record]:
        session = self._session
        if self._outlooks is None:
            if session.foresight.newest is None and not session.ledger.intensity.version:
                return
            # Behind the entering, which loads no more than it must.
            from aiocarbon._engine.outlook_notes import OutlookNotes

            self._outlooks = OutlookNotes(session)
        now_s = session.ledger.wall.wall_s(self._clock.monotonic_ns())
        yield from self._outlooks.new(now_s, is_last=self.is_last)

    def _collect_first_points(self) -> None:
        """Where the curves of devices begin: between the marks around it, a reader would not find that instant."""
        for ident in self._order:
            curve = self._session.ledger.curves[ident]
            if self._has_marks and ident not in self._begun and len(curve):
                self._begun.add(ident)
                states = [curve.state_at(curve[0].t_ns) if other == ident else None for other in self._order]
                at = self._boot(curve[0].t_ns)
                self.waiting.append({"k": "tick", "t": at, **records.states_record(states)})

    def collect_late_states(self) -> None:
        """What the curves, in the end, say of marks at which their devices were not yet known."""
        curves = self._session.ledger.curves
        for border in self._lacking:
            states = [
                curves[ident].state_at(border.t_ns) if ident not in border.mark.states and len(curves[ident]) else None
                for ident in self._order
            ]
            if any(states):
                late = {"k": "mark", "m": border.index, "t": self._boot(border.t_ns), "late": True}
                self.waiting.append({**late, **records.states_record(states)})

    def for_tail(self, now_ns: int) -> records.Record:
        """The newest state, with what spans have used by it as far as the journal does not have that."""
        return {**self.state(now_ns), **self._spans.for_tail()}

    def state(self, at_ns: int) -> records.Record:
        """A tick: what the curves say of an instant, monotonic nanoseconds."""
        states: list[State | None] = []
        for ident in self._order:
            curve = self._session.ledger.curves[ident]
            states.append(curve.state_at(at_ns) if len(curve) else None)
        return {"k": "tick", "t": self._boot(at_ns), **records.states_record(states)}

    def due_ticks(self, now_ns: int) -> list[int]:
        """The instants for which a tick is due: minutes of UTC, and steps of the intensity, since the last tick.

        Each waits until all devices have been read behind it, unless one is lost or takes too long, or the run ends.
        """
        wall = self._session.ledger.wall
        wall_ns = wall.wall_ns(now_ns)
        steps = self._session.ledger.intensity.begins(wall.wall_s(self.ticked_ns), wall_ns * S_PER_NS)
        # In whole nanoseconds, so that an instant is the same one whenever it is looked for.
        newest = wall_ns // TICK_NS
        first = (wall_ns - now_ns + self.ticked_ns) // TICK_NS
        older = range(-(-first // KEPT) * KEPT, newest, KEPT)
        minutes = (*older, *range(max(first, newest - MOST_MINUTES), newest + 1))
        instants = {*(minute * TICK_NS for minute in minutes), *map(ns_from_s, steps)}
        due = [at for at in sorted(at_ns - wall_ns + now_ns for at_ns in instants) if self.ticked_ns < at <= now_ns]
        waited_ns = now_ns - ns_from_s(self._interval_s) - PATIENCE_NS
        return list(takewhile(lambda at: self.is_last or at < waited_ns or self._is_told(at), due))

    def _is_told(self, at_ns: int) -> bool:
        """True if all devices have been read behind an instant."""
        return self._session.scope.upto(at_ns) == at_ns and all(
            track.is_lost or (len(track.derivation.curve) and track.derivation.curve[-1].t_ns >= at_ns)
            for track in self._session.tracks
        )
