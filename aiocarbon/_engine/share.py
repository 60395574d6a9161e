"""Whether this process reads a device for all that follow, or follows another process's readings of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from aiocarbon._core.reading import Reading
from aiocarbon._core.ringform import Pulse, Record
from aiocarbon._core.units import NS_PER_MS, ns_from_s
from aiocarbon._logging import get_logger

if TYPE_CHECKING:
    from aiocarbon._engine.ring import Reader, Users, Writer
    from aiocarbon._engine.track import Track

log = get_logger("share")

LOOK_NS = 500 * NS_PER_MS
"""A writer that was silent for so long looks whether it is still the one: it may have been stopped meanwhile."""


STALE_NS = ns_from_s(1.4)
"""A writer that says nothing for so long to those who follow is stopped, or kept from running."""

MOST = float(1 << 62)
"""Readings stay below it."""


class Role(Enum):
    """What a process is to a device."""

    READS = auto()
    FOLLOWS = auto()
    NEITHER = auto()
    """It is being found out who reads it; what this process reads meanwhile does not count."""


class Share:
    """One device's place among the processes.

    Its `publish` is called by the worker that reads the device, all else by the engine's thread.

    Attributes:
        key: What all processes call the device.
        role: What this one is to it.
        number: Of the ring that counts.
        writer: The ring that this process writes.
        reader: The ring that it follows.
        since_ns: Since when it follows that one.
        seen_ns: When the newest reading of a ring was taken.
        lost_ns: When the device was last lost; 0 if never.
        is_replaced: True once another process has put its ring in the place of this one's.
        is_broken: True once the ring could not be written: this process reads for itself alone.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.role = Role.NEITHER
        self.number = 0
        self.writer: Writer | None = None
        self.reader: Reader | None = None
        self.users: Users | None = None  # made with the first claim
        self.shift = 0.0  # added to the values that are followed: a made-up counter may have begun at another instant
        self.since_ns = self.seen_ns = 0
        self.lost_ns = 0
        self.is_replaced = False
        self.is_broken = False
        self._note: str | None = None
        self._lock = threading.Lock()
        self._looked_ns = 0
        self._told: Pulse | None = None
        self._carried_ns = 0

    # -- changing ----------------------------------------------------------------------------------------------

    def read(self, number: int, writer: Writer, now_ns: int) -> None:
        """Be the one that reads, from now on."""
        self.leave()
        self.number, self.writer, self._looked_ns = number, writer, now_ns
        self.is_replaced = False
        self._told = None
        self.role = Role.READS

    def follow(self, number: int, reader: Reader, now_ns: int) -> None:
        """Follow a ring from now on."""
        self.leave()
        self.number, self.reader, self.since_ns = number, reader, now_ns
        self.shift = 0.0
        self.role = Role.FOLLOWS

    def leave(self) -> None:
        """Neither read nor follow."""
        self.role = Role.NEITHER
        with self._lock:  # the worker may be writing: the number of a closed descriptor may soon be another file's
            writer, self.writer = self.writer, None
            if writer is not None:
                writer.close()
        reader, self.reader = self.reader, None
        if reader is not None:
            reader.close()

    def part(self, clear: Callable[[], None]) -> None:
        """Leave for good.

        Args:
            clear: Called if no other process shares the device.

        Raises:
            OSError: It cannot be found out, or what `clear` raises.
        """
        self.leave()
        users, self.users = self.users, None
        if users is not None:
            users.leave(clear)

    # -- the one that reads ------------------------------------------------------------------------------------

    def publish(self, reading: Reading, *, is_counter: bool) -> bool:
        """Let others have a reading; False if it does not count, because another process reads the device now.

        A counter says the same to all, so what this process reads of it counts always. What watts are integrated over
        is told by one process.
        """
        if not 0.0 <= reading.value < MOST:
            return True  # no value of a sensor: this process's own curve refuses it, and says so
        with self._lock:
            writer = self.writer
            if writer is None or self.is_replaced:
                return is_counter or self.is_broken
            try:
                if reading.t1_ns - self._looked_ns > LOOK_NS:
                    self.is_replaced = not writer.is_current()
                    if self.is_replaced:
                        return is_counter
                    self._looked_ns = reading.t1_ns
                writer.append(reading.t_ns, reading.half_ns, reading.value)
            except OSError as error:
                log.debug("share.broken", ring=writer.name, why=str(error))
                self.is_broken = True
            return True

    def look(self) -> bool:
        """True if this process is still the one that reads."""
        with self._lock:
            if self.writer is not None and not self.is_replaced:
                try:
                    self.is_replaced = not self.writer.is_current()
                except OSError:
                    self.is_broken = True
            return not self.is_replaced

    def tell(self, track: Track, *, beat_ns: int, is_followed: bool, is_left: bool = False) -> None:
        """Write down how the device is doing, if that is new."""
        with self._lock:
            if self.writer is None:
                return
            pulse = pulse_of(track, self.lost_ns, beat_ns=beat_ns, is_followed=is_followed, is_left=is_left)
            try:
                if pulse != self._told:
                    self._told = pulse
                    self.writer.put_pulse(pulse)
            except OSError as error:
                log.debug("share.broken", ring=self.writer.name, why=str(error))
                self.is_broken = True

    def carry(self, track: Track) -> None:
        """Write down where those begin who come later, each time that the curve keeps fewer readings."""
        open_ns = track.derivation.open_from_ns
        if open_ns == self._carried_ns:
            return
        self._carried_ns = open_ns
        carried = track.derivation.carried
        with self._lock:
            if self.writer is None or carried is None:
                return
            try:
                self.writer.put_carried(carried)
            except OSError as error:
                log.debug("share.broken", ring=self.writer.name, why=str(error))
                self.is_broken = True

    # -- the one that follows ----------------------------------------------------------------------------------

    def catch_up(self, track: Track) -> int:
        """Take everything that a ring holds into a device's curve, which goes on with the ring's line if it can.

        Returns:
            How many readings came.

        Raises:
            OSError: The ring cannot be read.
        """
        assert self.reader is not None  # only who follows catches up
        pulse, carried = self.reader.pulse(), self.reader.carried()
        if pulse is not None:
            self.heed(track, pulse)
        last_ns = track.derivation.last_read_ns
        is_same_line = self.reader.title.segment == track.segment
        if carried is not None and is_same_line and (last_ns is None or carried.read_ns > last_ns):
            track.derivation.resume(carried)
        return self._add(track, self.reader.everything())

    def drain(self, track: Track) -> int:
        """Take the readings that came since the last call.

        Returns:
            How many.

        Raises:
            OSError: The ring cannot be read.
        """
        assert self.reader is not None  # as above
        records, is_overrun = self.reader.take()
        if is_overrun:
            return self.catch_up(track)
        if records and (pulse := self.reader.pulse()) is not None:
            self.heed(track, pulse)
        return self._add(track, records)

    def heed(self, track: Track, pulse: Pulse) -> None:
        """Take what the one that reads has found out about the sensor."""
        derivation = track.derivation
        if (pulse.refresh_ns, pulse.jitter_ns) != (derivation.curve.refresh_ns, derivation.jitter_ns):
            derivation.set_refresh(pulse.refresh_ns, pulse.jitter_ns)
        derivation.pace_ns = pulse.pace_ns
        track.is_probed = pulse.is_probed
        track.is_slow = pulse.is_slow
        if pulse.lost_ns > self.lost_ns:
            self.lost_ns = pulse.lost_ns
            derivation.lose(pulse.lost_ns)

    def _add(self, track: Track, records: Iterable[Record]) -> int:
        count = 0
        for record in records:
            t_ns, half_ns = record.t_ns, record.half_ns
            track.derivation.add(Reading(t_ns - half_ns, t_ns + half_ns, record.value + self.shift))
            self.seen_ns = max(self.seen_ns, t_ns)
            count += 1
        return count

    def note(self, track: Track, text: str) -> None:
        """Say in reports who reads the device; empty for what needs no words."""
        if self._note is None:
            self._note = track.device.note
        notes = [part for part in (self._note, text) if part]
        track.device = track.derivation.device = track.derivation.curve.device = replace(
            track.device, note="; ".join(notes)
        )


def pulse_of(
    track: Track, lost_ns: int, *, beat_ns: int = 0, is_followed: bool = False, is_left: bool = False
) -> Pulse:
    """How a device that this process reads is doing."""
    derivation = track.derivation
    return Pulse(
        beat_ns=beat_ns,
        lost_ns=lost_ns,
        refresh_ns=derivation.curve.refresh_ns,
        jitter_ns=derivation.jitter_ns,
        pace_ns=derivation.pace_ns,
        is_probed=track.is_probed,
        is_slow=track.is_slow,
        is_left=is_left,
        is_followed=is_followed,
    )
