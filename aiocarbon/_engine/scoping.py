"""What of each device a session counts: all of it, or a share that `holding.py` keeps."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from aiocarbon._core.reading import DeviceKind
from aiocarbon._core.units import kwh_from_j, s_from_ns

if TYPE_CHECKING:
    from aiocarbon._core.body import Overhead
    from aiocarbon._core.curve import Curve
    from aiocarbon._core.reading import Device
    from aiocarbon._engine.engine import Engine
    from aiocarbon._engine.session import Session
    from aiocarbon._engine.track import Track
    from aiocarbon.meters.limits import Limit
    from aiocarbon.meters.usage import UsageReader
    from aiocarbon.settings import Settings


class Recorded(NamedTuple):
    """A device as a journal writes it.

    Attributes:
        device: The device, or the part of one.
        segment: Names the sampler's life on it.
        refresh_ns: How often its value changes.
    """

    device: Device
    segment: str
    refresh_ns: int


class Machine:
    """The whole of each device, whoever uses it.

    Attributes:
        name: The scope: "machine".
        arrived: Called after each look at the machine's users.
        warn: Takes what a reader of the figures must know.
    """

    name = "machine"

    def __init__(self) -> None:
        self.arrived: Callable[[], None] = lambda: None
        self.warn: Callable[[str], None] = lambda text: None
        self._limit: Limit | None = None  # what this job may use of the machine; None if all, or unknown
        self._tracks: list[Track] = []

    def serve(self, engine: Engine, session: Session) -> None:
        """Be the scope of a session."""
        session.scope = self
        self.warn = session.warn
        self.arrived = lambda: _arrived(engine, session)
        engine.group.start_soon(self._find_limit, engine)

    async def _find_limit(self, engine: Engine) -> None:
        """See how much of the machine this job may use; entering does not wait for that."""
        self._limit = await engine.blocking(_limit)
        for track in self._tracks:
            for text in self.warnings(track.device):
                self.warn(text)

    def attach(self, track: Track) -> dict[str, Curve]:
        """The curves, by id, that a session keeps of a device."""
        self._tracks.append(track)
        return {track.device.id: track.derivation.curve}

    def warnings(self, device: Device) -> Iterator[str]:
        """What a reader must know of a device's figures in this scope."""
        if self._limit is not None and (text := self._limit.warning(device)):
            yield text

    def recorded(self) -> Iterator[Recorded]:
        """The devices for a journal, in the order in which they came."""
        for track in self._tracks:
            yield Recorded(track.device, track.segment, track.derivation.curve.refresh_ns)

    def update(self) -> None:
        """Take in what readings have told."""

    def want(self, t_ns: int) -> None:
        """Have it known who used the machine up to an instant."""

    async def look_within(self, t_ns: int, patience_s: float) -> None:
        """Look who used the machine, unless that was done since an instant, and wait for it, but at most so long."""

    async def latch(self, read: Callable[[float], Awaitable[None]], patience_s: float) -> None:
        """Read every meter by `read`, and look who uses the machine where that matters, within a patience."""
        await read(patience_s)

    def has_told(self, t_ns: int, now_ns: int) -> bool:
        """True if what is counted up to an instant will not be known better, as far as the scope goes."""
        return True

    def upto(self, t_ns: int) -> int:
        """The latest instant, at most the one given, up to which the scope tells."""
        return t_ns

    def fold(self, before_ns: int, kept: Callable[[int], Iterable[int]]) -> None:
        """Forget points before an instant.

        Args:
            before_ns: The instant.
            kept: The instants to keep, by the one from which on they are asked for.
        """

    def lacks(self) -> Iterator[str]:
        """At the run's end: what a reader must know."""
        return iter(())

    def added_to(self, cost: Overhead, begin_ns: int) -> Overhead:
        """What the instrument costs, with what looks cost, and the energy of that.

        Args:
            cost: Its CPU time.
            begin_ns: Begin of the run, monotonic.
        """
        power_w = _cpu_power_w([track.derivation.curve for track in self._tracks], begin_ns)
        return cost if power_w is None else replace(cost, it_energy_kwh=kwh_from_j(power_w * cost.cpu_s))

    async def aclose(self) -> None:
        """Give everything back."""


async def open_scope(
    engine: Engine,
    settings: Settings,
    *,
    with_root: bool = True,
    make: Callable[..., UsageReader] | None = None,
) -> Machine:
    """The scope that settings ask for.

    Args:
        engine: Runs what blocks, and the looks.
        settings: The session's.
        with_root: False where this process's own CPU time is not the run's: only what it starts is.
        make: Makes the reader of a scope; by default this machine's own.

    Raises:
        ConfigError: This system cannot tell a share; nothing was started.
    """
    if settings.scope == "machine":
        return Machine()
    from aiocarbon._engine.holding import open_shares

    return await open_shares(engine, settings, with_root=with_root, make=make)


def _cpu_power_w(curves: Iterable[Curve], begin_ns: int) -> float | None:
    """What a logical CPU of this machine draws on average, watts, idle power included; None where that is not known.

    Args:
        curves: Of the machine's devices; those of processors that count are taken.
        begin_ns: From when on, monotonic.
    """
    whole_w = 0.0
    for curve in curves:
        if curve.device.kind is not DeviceKind.CPU or not curve.device.counted:
            continue
        if not len(curve):
            return None
        first_ns, last = max(curve[0].t_ns, begin_ns), curve[-1]
        if last.t_ns <= first_ns:
            return None
        whole_w += (last.energy_j - curve.state_at(first_ns).energy_j) / s_from_ns(last.t_ns - first_ns)
    return whole_w / (os.cpu_count() or 1) or None


def _limit() -> Limit | None:
    from aiocarbon.meters.limits import find_limit

    return find_limit()


def _arrived(engine: Engine, session: Session) -> None:
    """It was looked who uses the machine: the shares up to now are known."""
    if session in engine.sessions and session.published is not None:
        engine.settle()
        session.publish(engine.clock.monotonic_ns())
