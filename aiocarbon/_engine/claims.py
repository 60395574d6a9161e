"""Finding out who reads a device, and being the one if nobody is; in a worker, as it takes files.

What goes wrong leaves each process reading for itself.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

from aiocarbon._core.reading import Quantity
from aiocarbon._core.ringform import Pulse, Title
from aiocarbon._core.units import NS_PER_MS, NS_PER_S
from aiocarbon._engine.clock import Clock, SystemClock, boot_offset_ns
from aiocarbon._engine.share import Share, pulse_of
from aiocarbon._logging import get_logger

if TYPE_CHECKING:
    from aiocarbon._core.standing import Carried
    from aiocarbon._engine.bell import Bell
    from aiocarbon._engine.commons import Commons
    from aiocarbon._engine.ring import Reader, Writer
    from aiocarbon._engine.track import Track
    from aiocarbon.meters.base import Meter

log = get_logger("claims")

VARIABLE: Final = "AIOCARBON_LOCK_DIR"
NOT_SHARED: Final = "none"
MEMORY: Final = "/dev/shm"  # a folder of our own is made in it

FORGET_NS: Final = 3 * NS_PER_S
"""A follower that was silent for so long is gone."""

TRIES: Final = 16
OFFSET_ALIKE_NS: Final = NS_PER_MS


def place(environ: Mapping[str, str] = os.environ) -> str | None:
    """The folder in which processes meet; None where they shall not, or cannot."""
    given = environ.get(VARIABLE, "")
    if given.lower() == NOT_SHARED or not sys.platform.startswith("linux"):
        return None
    return given or (MEMORY if os.path.isdir(MEMORY) else None)


class Claims:
    """This process's claims to devices.

    Attributes:
        commons: The folder of claims; None until the first.
        bell: Through which this process is asked for readings; None until the first claim.
        problem: Why the folder that the user named cannot be used; empty if it can, or if nobody named one.

    Args:
        base: Where processes meet; None: nowhere, and nothing is shared.
        is_asked_for: True if the user named that place.
        clock: The engine's clock.
    """

    def __init__(self, base: str | None, *, is_asked_for: bool, clock: Clock) -> None:
        self._base = base
        self._is_asked_for = is_asked_for
        self._clock = clock
        self._lock = threading.Lock()
        self._offset_ns: int | None = None
        self._is_fixed = False
        self.commons: Commons | None = None
        self.bell: Bell | None = None
        self.problem = ""

    @classmethod
    def found(cls, clock: Clock, environ: Mapping[str, str] = os.environ) -> Self:
        """Claims where the environment says; none on another clock than the machine's, which others do not have."""
        base = place(environ) if isinstance(clock, SystemClock) else None
        return cls(base, is_asked_for=bool(environ.get(VARIABLE)), clock=clock)

    def join(self, spec: str | Meter, track: Track) -> None:
        """Find out who reads a device; what goes wrong leaves the track as it is, read by this process alone."""
        if self._base is None or not isinstance(spec, str):
            return
        from aiocarbon._engine import commons

        if not commons.is_shareable(track.device):
            return
        is_made_up = getattr(track.meter, "zero_ns", None) is not None
        share = Share(commons.key_of(track.device, spec if is_made_up else ""))
        try:
            if is_made_up:
                self._begin_with_others(share.key, track)
            number, end = self.claim(share, self.title(track), pulse_of(track, 0))
            self.take(share, track, number, end)
        except (OSError, ValueError) as error:
            self._give_up(error)
        else:
            track.share = share

    def _begin_with_others(self, key: str, track: Track) -> None:
        """Let a made-up device begin where it did for those who read it before, who may go on with it."""
        _, reader = self._enter().newest(key) or (0, None)
        if reader is not None:
            if reader.title.zero_ns >= 0:
                track.meter.zero_ns = reader.title.zero_ns  # type: ignore[attr-defined]  # `join` has looked
            reader.close()

    def _enter(self) -> Commons:
        from aiocarbon._engine.commons import Commons

        with self._lock:
            if self._base is None:
                raise OSError("nothing is shared any more")
            if self.commons is None:
                self.commons = Commons(self._base)
            return self.commons

    def _give_up(self, error: Exception) -> None:
        """Share nothing more from now on."""
        log.debug("mates.alone", base=self._base, why=str(error))
        if self._is_asked_for and not self.problem:
            self.problem = (
                f"AIOCARBON_LOCK_DIR={self._base} cannot be used ({error}): each process reads its devices by itself"
            )
        self._base = None

    def title(self, track: Track) -> Title:
        """What a ring says that this process makes.

        Raises:
            OSError: The folder cannot be used.
        """
        from aiocarbon._engine.bell import Bell

        folder = self._enter()
        with self._lock:
            if self.bell is None:
                self.bell = Bell(folder.fd)
            # What is written into a ring is what the journal says, but it is settled only by making the ring.
            if self._offset_ns is None:
                self._offset_ns = boot_offset_ns(self._clock)
            offset_ns = self._offset_ns
        zero_ns = getattr(track.meter, "zero_ns", None)
        is_energy = track.device.quantity is Quantity.ENERGY
        return Title(
            is_energy,
            os.getpid(),
            offset_ns,
            -1 if zero_ns is None else zero_ns,
            track.segment,
            self.bell.name,
        )

    def claim(
        self,
        share: Share,
        title: Title,
        pulse: Pulse,
        carried: Carried | None = None,
        readings: Sequence[tuple[int, int, float]] = (),
    ) -> tuple[int, Reader | Writer]:
        """The ring of who reads a device, to be followed; or a new one, to be written.

        Args:
            share: The device's share; only a ring with a larger number than it knows of is followed.
            title: Of the new ring.
            pulse: Its first pulse.
            carried: Where its readings begin.
            readings: Its first readings.

        Returns:
            The ring's number, and its end.

        Raises:
            OSError: The folder or a ring cannot be used.
        """
        from aiocarbon._engine import ring
        from aiocarbon._engine.bell import PREFIX

        folder = self._enter()
        if share.users is None:
            share.users = ring.Users(folder.fd, share.key)
        for _ in range(TRIES):
            number, reader = folder.newest(share.key) or (0, None)
            dead_bell = ""
            if reader is not None:
                is_locked = reader.is_locked()
                if number > share.number and (is_locked or (not share.number and self._is_awaited(reader))):
                    return number, reader
                dead_bell = "" if is_locked else reader.title.bell
                reader.close()
            number = max(number, share.number) + 1  # also where somebody has emptied the folder
            writer = ring.make(folder.fd, f"{share.key}.{number}", title, pulse, carried, readings)
            if writer is not None:
                folder.remove_before(share.key, number)
                if dead_bell.startswith(PREFIX):
                    folder.remove(dead_bell)
                return number, writer
        raise OSError(f"{share.key}: {TRIES} others were quicker")

    def _is_awaited(self, reader: Reader) -> bool:
        """True if others follow a ring whose writer has just ended: one of them, or this process, goes on with it."""
        pulse = reader.pulse()
        return pulse is not None and pulse.is_followed and self._clock.monotonic_ns() - pulse.beat_ns < FORGET_NS

    def take(self, share: Share, track: Track, number: int, end: Reader | Writer) -> None:
        """Be what a claim has shown: the one that reads, or one that follows."""
        from aiocarbon._engine.ring import Writer

        now = self._clock.monotonic_ns()
        if isinstance(end, Writer):
            share.read(number, end, now)
            self._is_fixed = True
            return
        title = end.title
        share.follow(number, end, now)
        if track.derivation.last_read_ns is None:
            track.segment = title.segment
            if title.zero_ns >= 0:
                track.meter.zero_ns = title.zero_ns  # type: ignore[attr-defined]  # a simulated one: `join` has looked
            self._adopt(title.boot_offset_ns)
        elif title.zero_ns not in (-1, getattr(track.meter, "zero_ns", -1)):
            # This process comes back to a made-up device that others have begun anew: its curve goes on all the same.
            share.shift = track.meter.ahead_of(track.device, title.zero_ns)  # type: ignore[attr-defined]  # as above
        share.catch_up(track)
        share.note(track, f"read by process {title.pid} of this machine for this one")

    def _adopt(self, offset_ns: int) -> None:
        """Tell boot time as those do whose readings these are: one curve in two journals then has the same instants."""
        with self._lock:
            if not self._is_fixed and abs(boot_offset_ns(self._clock) - offset_ns) < OFFSET_ALIKE_NS:
                self._offset_ns, self._is_fixed = offset_ns, True

    def boot_offset_ns(self) -> int:
        """Boot clock minus monotonic clock, for journals and rings; another one after the machine slept."""
        own_ns = boot_offset_ns(self._clock)
        with self._lock:
            if self._offset_ns is None or abs(own_ns - self._offset_ns) > OFFSET_ALIKE_NS:
                self._offset_ns = own_ns
            self._is_fixed = True
            return self._offset_ns
