"""The scopes that count a share of each device: that of a process tree or of a control group.

Guarantees: looks at who uses the machine run in worker threads, one at a time, with a deadline; what could not be
looked at is missing from the share, and is never made up from the whole.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import anyio

from aiocarbon._core.reading import Finding
from aiocarbon._core.units import NS_PER_MS, NS_PER_S, s_from_ns
from aiocarbon._engine.scoping import Machine, Recorded
from aiocarbon._logging import get_logger
from aiocarbon.errors import ConfigError, MeterUnavailableError, ReadError

if TYPE_CHECKING:
    from aiocarbon._core.body import Overhead
    from aiocarbon._core.curve import Curve
    from aiocarbon._core.reading import Device
    from aiocarbon._core.scope import SharedDevice, Usage
    from aiocarbon._engine.clock import Clock
    from aiocarbon._engine.engine import Engine
    from aiocarbon._engine.track import Track
    from aiocarbon.meters.usage import Holder, UsageReader
    from aiocarbon.settings import Settings

log = get_logger("scope")

LOOK_DEADLINE_S: Final = 0.5
LEAST_NS: Final = 100 * NS_PER_MS
"""Looks are at least so far apart: CPU times are told in steps of 10 ms, which must not be most of what is seen."""

LATE_NS: Final = NS_PER_S
"""A mark waits so long for a look behind it; a machine that is fully busy lets a look wait as well."""

FAILURES_TOLD: Final = 3
"""So many looks must fail in a row before the share counts as unknown: the next one makes up for what one missed."""

FOLD_MOST: Final = 512

_sessions = itertools.count(1)


class Shares(Machine):
    """Each device's share of a process tree or a control group.

    Args:
        reader: Looks at who uses the machine; open.
        holder: Whose share it is.
        clock: Tells when.
        blocking: Runs something blocking in a worker.
        start_soon: Starts a task.
        floors_w: Idle floors by device id, watts, where the user gave them.

    Attributes:
        notes: What is to be said of the scope, with the first device.
    """

    def __init__(
        self,
        reader: UsageReader,
        holder: Holder,
        *,
        clock: Clock,
        blocking: Callable[..., Any],
        start_soon: Callable[..., Any],
        floors_w: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.name = reader.scope
        self._reader = reader
        self._holder = holder
        self._clock = clock
        self._blocking = blocking
        self._start_soon = start_soon
        self._floors_w = floors_w or {}
        self.notes = [_told(finding) for finding in holder.findings]
        self._shared: dict[str, SharedDevice] = {}
        self._origin = f"{clock.boot_ns()}-{os.getpid()}-share-{next(_sessions)}"
        self._order = anyio.Lock()
        self._reading = threading.Lock()
        self._newest_ns: int | None = None
        self._failures = 0
        self._cpu_ns = 0
        self._is_wanted = False
        self._is_closed = False
        self._looked = anyio.Event()

    # -- devices -----------------------------------------------------------------------------------------------

    def attach(self, track: Track) -> dict[str, Curve]:
        """The curves of a device's parts; of a view that is not counted, the view itself."""
        from aiocarbon._core.scope import SharedDevice
        from aiocarbon.meters.usage import share_words

        if not track.device.counted:
            return super().attach(track)
        self._tracks.append(track)
        how = share_words(track.device, self._holder)
        shared = self._shared[track.device.id] = SharedDevice(
            track.device,
            track.derivation.curve,
            scope=self.name,
            holder=self._holder.name,
            how=how,
            within=self._holder.within,
            floor_w=self._floors_w.get(track.device.id),
        )
        return {curve.device.id: curve for curve in shared.curves.values()}

    def warnings(self, device: Device) -> Iterator[str]:
        """What was found out of whose share it is."""
        yield from self.notes

    def recorded(self) -> Iterator[Recorded]:
        """The devices' parts."""
        for track in self._tracks:
            shared = self._shared.get(track.device.id)
            if shared is None:
                yield Recorded(track.device, track.segment, track.derivation.curve.refresh_ns)
                continue
            for curve in shared.curves.values():
                # Each session's parts begin at a zero of their own, also those of one device and one holder.
                yield Recorded(curve.device, self._origin, curve.refresh_ns)

    def update(self) -> None:
        """Derive the parts anew from what readings and looks have told."""
        for shared in self._shared.values():
            shared.update()

    def fold(self, before_ns: int, kept: Callable[[int], Iterable[int]]) -> None:
        """Forget points of the parts before an instant."""
        for shared in self._shared.values():
            shared.fold(before_ns, kept(shared.folded_ns), at_most=FOLD_MOST)

    def lacks(self) -> Iterator[str]:
        """Which idle floors are not known."""
        unknown = [ident for ident, shared in self._shared.items() if shared.floor_w is None]
        if unknown:
            yield (
                f"the idle floor of {', '.join(unknown)} is not known (it was never left alone for 5 s): 0 W was "
                "taken, so the share holds idle power as well; the lower end leaves out the least power seen"
            )

    # -- looks -------------------------------------------------------------------------------------------------

    def want(self, t_ns: int) -> None:
        """Look soon, unless that was done since the instant or is about to be."""
        if not self._is_wanted and not self._has_looked(t_ns):
            self._is_wanted = True
            self._start_soon(self.look, t_ns)

    def _has_looked(self, t_ns: int) -> bool:
        return self._is_closed or (self._newest_ns is not None and self._newest_ns >= t_ns)

    async def look_within(self, t_ns: int, patience_s: float) -> None:
        """Look now and wait for it, but neither for long nor for a look that is not due yet."""
        self.want(t_ns)
        is_due = self._newest_ns is None or self._clock.monotonic_ns() >= self._newest_ns + LEAST_NS
        if is_due and not self._has_looked(t_ns):
            with anyio.move_on_after(patience_s):
                await self._looked.wait()

    async def latch(self, read: Callable[[float], Awaitable[None]], patience_s: float) -> None:
        """Look who uses the machine while the meters are read."""
        now_ns = self._clock.monotonic_ns()
        self.want(now_ns)
        await read(patience_s)
        waited_s = s_from_ns(self._clock.monotonic_ns() - now_ns)
        await self.look_within(now_ns, max(patience_s - waited_s, 0.0))

    async def look(self, t_ns: int) -> None:
        """Look now, at most ten times a second, unless that was done since an instant."""
        async with self._order:
            self._is_wanted = False
            if self._has_looked(t_ns):
                return
            if self._newest_ns is not None:
                await self._clock.sleep_until(self._newest_ns + LEAST_NS)
            devices = [track.device for track in self._tracks if track.device.id in self._shared]
            looked: dict[str, Usage] | ReadError = ReadError(f"no answer within {LOOK_DEADLINE_S:g} s")
            with anyio.move_on_after(LOOK_DEADLINE_S):
                looked = await self._blocking(self._read, devices)
            self._take(looked)

    def _read(self, devices: list[Device]) -> dict[str, Usage] | ReadError:
        """A look, in a worker; what hangs in one does not keep another worker."""
        if not self._reading.acquire(blocking=False):
            return ReadError("the look before has not ended")
        begun_ns = time.thread_time_ns()
        try:
            return self._reader.read(devices)
        except ReadError as error:
            return error
        finally:
            self._cpu_ns += time.thread_time_ns() - begun_ns
            self._reading.release()

    def _take(self, looked: dict[str, Usage] | ReadError) -> None:
        from aiocarbon._core.scope import Usage

        if self._is_closed:
            return
        now_ns = self._clock.monotonic_ns()
        self._looked.set()
        self._looked = anyio.Event()
        if isinstance(looked, ReadError):
            self._failures += 1
            log.debug("scope.look", why=str(looked))
            if self._failures < FAILURES_TOLD:
                return
            if self._failures == FAILURES_TOLD:
                self.warn(f"whose energy it is cannot be told, and is missing until it can: {looked}")
            looked = {ident: Usage(t_ns=now_ns, own=None, total=None) for ident in self._shared}
        else:
            self._failures = 0
        for ident, usage in looked.items():
            self._shared[ident].look(usage)
        for finding in self._reader.news():
            self.warn(_told(finding))
        self._newest_ns = max((usage.t_ns for usage in looked.values()), default=now_ns)
        self.arrived()

    def has_told(self, t_ns: int, now_ns: int) -> bool:
        """True if a look was taken behind an instant, or will not be."""
        return self._has_looked(t_ns) or now_ns > t_ns + LATE_NS

    def upto(self, t_ns: int) -> int:
        """The newest look, if it was before an instant."""
        return t_ns if self._newest_ns is None or self._is_closed else min(t_ns, self._newest_ns)

    def added_to(self, cost: Overhead, begin_ns: int) -> Overhead:
        """With the CPU time of the workers that looked."""
        return super().added_to(replace(cost, cpu_s=cost.cpu_s + s_from_ns(self._cpu_ns)), begin_ns)

    async def aclose(self) -> None:
        """Look no more."""
        self._is_closed = True
        await self._blocking(self._reader.close)


async def open_shares(
    engine: Engine, settings: Settings, *, with_root: bool, make: Callable[..., UsageReader] | None
) -> Shares:
    """The scope "process" or "cgroup", as `open_scope` says."""
    from aiocarbon.meters.usage import UsageReader

    reader = (make or UsageReader)(settings.scope, with_root=with_root)
    try:
        holder = await engine.blocking(reader.open)
    except (MeterUnavailableError, ReadError) as error:
        raise ConfigError("scope", settings.scope, f'"machine" here: {error}') from error
    floor_w = settings.attribution.floor_w
    shares = Shares(
        reader,
        holder,
        clock=engine.clock,
        blocking=engine.blocking,
        start_soon=engine.group.start_soon,
        floors_w=floor_w if isinstance(floor_w, Mapping) else None,
    )
    if isinstance(floor_w, float):
        shares.notes.append("floor_w of all devices together is not used in this scope: give it by device")
    return shares


def _told(finding: Finding) -> str:
    return f"{finding.message}. To mend it: {finding.remedy}" if finding.remedy else finding.message
