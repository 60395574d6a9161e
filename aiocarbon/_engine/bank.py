"""The meters of this process, opened once and shared by all trackers.

Guarantees: every blocking call runs in a worker thread on a limiter of our own; a meter that is slow to open, dead or
hanging delays nobody else; one that died is opened again with growing pauses.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import anyio.abc
from anyio import to_thread

from aiocarbon import meters
from aiocarbon._core.reading import Device, Finding, Part
from aiocarbon._core.units import NS_PER_S
from aiocarbon._engine.clock import Clock
from aiocarbon._engine.mates import Mates
from aiocarbon._engine.track import Track, make_track
from aiocarbon._logging import get_logger
from aiocarbon.errors import MeterError, MeterUnavailableError, ReadError
from aiocarbon.meters.base import Inventory, Meter

T = TypeVar("T")

log = get_logger("engine")

CLOSE_TIMEOUT_S = 0.3
REOPEN_FIRST_S = 1.0
REOPEN_MOST_S = 60.0
FOLD_MOST = 512

NEVER_CPU = frozenset({"nvml"})
"""Meters that cannot hold the CPU: a model of the CPU need not wait for them."""


@dataclass(eq=False, slots=True)
class Entry:
    """One meter of the bank.

    Attributes:
        spec: Its name with argument, or the object that a user handed in.
        meter: The meter; None until it is made.
        tracks: Its devices.
        findings: What it found, for warnings and `doctor`.
        error: Why it could not be opened; None if it could.
        covered: Parts of the machine that others held when it was opened: it does not count these.
        opened: Set once it is known whether it can be used.
        check_failed: True after its `check` threw: it is not asked for findings any more.
        is_checking: True while it is asked: one that hangs is not asked again.
    """

    spec: str | Meter
    meter: Meter | None = None
    tracks: list[Track] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    error: MeterError | None = None
    covered: frozenset[Part] = frozenset()
    opened: anyio.Event = field(default_factory=anyio.Event)
    check_failed: bool = False
    is_checking: bool = False

    @property
    def name(self) -> str:
        """The meter's name."""
        return self.spec if isinstance(self.spec, str) else self.spec.name

    @property
    def is_opening(self) -> bool:
        """True while it is not known whether it can be used."""
        return self.meter is None and self.error is None


class Bank:
    """Opens meters, keeps their tracks, opens dead ones again, closes all."""

    def __init__(
        self,
        clock: Clock,
        group: anyio.abc.TaskGroup,
        limiter: anyio.CapacityLimiter,
        on_open: Callable[[Entry], None],
        on_finding: Callable[[Entry, Finding], None],
        mates: Mates,
    ) -> None:
        self._clock = clock
        self._group = group
        self._limiter = limiter
        self._on_open = on_open
        self._on_finding = on_finding
        self._mates = mates
        self._entries: dict[object, Entry] = {}
        self._segments = itertools.count(1)
        self.interval_ns = NS_PER_S

    @property
    def tracks(self) -> list[Track]:
        """All devices of all meters."""
        return [track for entry in self._entries.values() for track in entry.tracks]

    def want(self, specs: Iterable[str | Meter] | None) -> list[Entry]:
        """The entries of these meters, opening those that are new; None: the default ones.

        It does not wait: await each entry's `opened`.
        """
        measuring, filling = meters.default_names()
        wanted = list(specs) if specs is not None else [*measuring, *filling]
        first = [self._entry(spec, after=()) for spec in wanted if not _fills(spec, filling)]
        holding = tuple(entry for entry in first if entry.name not in NEVER_CPU)
        return first + [self._entry(spec, after=holding) for spec in wanted if _fills(spec, filling)]

    def _entry(self, spec: str | Meter, *, after: tuple[Entry, ...]) -> Entry:
        # One that fills what others leave is another one beside others: without them, it holds what they would.
        key: object = (spec if isinstance(spec, str) else id(spec), *after)
        if key not in self._entries:
            entry = self._entries[key] = Entry(spec=spec)
            self._group.start_soon(self._open, entry, after)
        return self._entries[key]

    async def _open(self, entry: Entry, after: tuple[Entry, ...]) -> None:
        for other in after:
            await other.opened.wait()
        entry.covered = frozenset(
            part for other in after for track in other.tracks if track.device.counted for part in track.device.covers
        )
        try:
            meter, inventory, tracks = await self._blocking(self._make_tracks, entry.spec, entry.covered)
        except MeterError as error:
            entry.error = error
            log.debug("meter.unavailable", meter=entry.name, why=str(error))
        else:
            entry.meter = meter
            entry.findings.extend(inventory.findings)
            entry.tracks.extend(tracks)
            self._mates.begin()
        self._on_open(entry)
        entry.opened.set()

    def _make_tracks(self, spec: str | Meter, covered: frozenset[Part]) -> tuple[Meter, Inventory, list[Track]]:
        """Open a meter and find out who reads its devices, in a worker."""
        meter, inventory = _make_and_open(spec, covered)
        tracks = []
        for device in inventory.devices:
            segment = f"{self._clock.boot_ns()}-{os.getpid()}-{next(self._segments)}"
            track = make_track(device, meter, segment, self.interval_ns)
            self._mates.claims.join(spec, track)
            tracks.append(track)
        return meter, inventory, tracks

    async def _blocking(self, function: Callable[..., T], *args: object) -> T:
        return await to_thread.run_sync(function, *args, abandon_on_cancel=True, limiter=self._limiter)

    def pace(self, interval_ns: int) -> None:
        """Be told how often devices are read at ticks, nanoseconds."""
        for track in self.tracks:
            if track.is_own and not track.is_quick:
                track.derivation.pace_ns = max(track.derivation.curve.refresh_ns, interval_ns)

    def fold(self, before_ns: int, kept: Callable[[int, int], list[int]]) -> None:
        """Forget points of all curves before an instant, some at a time.

        Args:
            before_ns: The instant, monotonic.
            kept: The instants whose states stay exact, after one and before another.
        """
        for track in self.tracks:
            derivation = track.derivation
            before = min(before_ns, derivation.open_from_ns)
            gone = derivation.curve.fold(before, kept(derivation.curve.folded_ns, before), at_most=FOLD_MOST)
            derivation.folded(gone)

    def lost(self, track: Track) -> None:
        """Begin to open a lost device's meter again, with growing pauses; the others go on meanwhile."""
        self._group.start_soon(self._reopen, track)

    async def _reopen(self, track: Track) -> None:
        import tenacity

        entry = next(e for e in self._entries.values() if track in e.tracks)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(MeterError),
            wait=tenacity.wait_exponential_jitter(initial=REOPEN_FIRST_S, max=REOPEN_MOST_S, jitter=REOPEN_FIRST_S / 2),
            sleep=self._sleep_s,
        )
        await self._sleep_s(REOPEN_FIRST_S)
        track.meter, track.device = await retrying(self._try_reopen, entry, track.device)
        track.failures = 0
        track.is_lost = False
        log.warning("meter.back", device=track.device.id)

    async def check(self) -> None:
        """Ask each meter that looks at its own readings for what it found since: mirrored dies, a still counter."""
        for entry in list(self._entries.values()):  # another run may want further ones while a meter is asked
            check = getattr(entry.meter, "check", None)
            if check is not None and not entry.check_failed and not entry.is_checking:
                for finding in await self._checked(entry, check):
                    entry.findings.append(finding)
                    self._on_finding(entry, finding)

    async def _checked(self, entry: Entry, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
        def look() -> list[Finding]:
            entry.is_checking = True
            try:
                return list(check())
            except BaseException as error:
                # A plug-in's own exception costs its findings, not the engine; it is not asked again.
                entry.check_failed = True
                log.warning("meter.check", meter=entry.name, why=f"{type(error).__name__}: {error}")
                return []
            finally:
                entry.is_checking = False

        return list(await self._blocking(look))

    async def _try_reopen(self, entry: Entry, lost: Device) -> tuple[Meter, Device]:
        meter, inventory = await self._blocking(_make_and_open, entry.spec, entry.covered)
        try:
            for device in inventory.devices:
                if device.id == lost.id and _is_read_alike(device, lost):
                    await self._blocking(_probe, meter, device)
                    return meter, device
            raise MeterUnavailableError(f"{lost.id} is still missing", device=lost.id)
        except MeterError:
            if isinstance(entry.spec, str):
                await self._close(meter)
            raise

    async def _sleep_s(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.monotonic_ns() + round(seconds * NS_PER_S))

    async def aclose(self) -> None:
        """Close every meter, waiting for each but shortly: a wedged driver is left alone."""
        made = {id(track.meter): track.meter for track in self.tracks}
        made.update({id(entry.meter): entry.meter for entry in self._entries.values() if entry.meter is not None})
        with anyio.move_on_after(CLOSE_TIMEOUT_S):
            async with anyio.create_task_group() as group:
                for meter in made.values():
                    group.start_soon(self._close, meter)

    async def _close(self, meter: Meter) -> None:
        await self._blocking(_shut, meter)


def _shut(meter: Meter) -> None:
    """Close a meter, in a worker."""
    try:
        meter.close()
    except BaseException as error:
        # Whatever a plug-in throws here, nothing is measured any more that it could spoil.
        log.debug("meter.close", why=f"{type(error).__name__}: {error}")


def _make_and_open(spec: str | Meter, covered: frozenset[Part]) -> tuple[Meter, Inventory]:
    """Make and open a meter, in a worker; whatever a plug-in throws becomes ours."""
    name = spec if isinstance(spec, str) else spec.name
    if why := meters.absent(name) if isinstance(spec, str) else "":
        raise MeterUnavailableError(why)
    try:
        meter = meters.make(spec) if isinstance(spec, str) else spec
        inventory = meter.open(covered)
    except MeterError:
        raise
    except BaseException as error:  # a SystemExit would end the engine for all meters
        raise MeterUnavailableError(f"meter {name!r} failed: {type(error).__name__}: {error}") from error
    is_inventory = isinstance(inventory, Inventory) and all(isinstance(d, Device) for d in inventory.devices)
    if not is_inventory or not inventory.devices:
        raise MeterUnavailableError(f"meter {name!r} found no device: open() answered {inventory!r}")
    return meter, inventory


def _fills(spec: str | Meter, filling: Iterable[str]) -> bool:
    """Whether a meter fills what others leave: it is to know of them first."""
    return isinstance(spec, str) and spec.partition(":")[0] in filling


def _is_read_alike(device: Device, former: Device) -> bool:
    """Whether readings go on a curve: watts are no microjoules, and a counter wraps where it did."""
    return (device.quantity, device.basis, device.counter_range_uj) == (
        former.quantity,
        former.basis,
        former.counter_range_uj,
    )


def _probe(meter: Meter, device: Device) -> None:
    """Read a device that is opened again, in a worker; whatever a plug-in throws becomes ours."""
    try:
        meter.read(device)
    except MeterError:
        raise
    except BaseException as error:
        raise ReadError(f"{device.id}: {type(error).__name__}: {error}", device=device.id) from error
