"""Macs, through one long-lived `powermetrics` child and its stream of property lists.

Guarantees: one child for the meter's life, started only where no password is asked for; no read waits; energies are
those that powermetrics states over the time it says has passed (`elapsed_ns`), never power times the interval that
was asked for, which is about 1 % too short. A document that cannot be read leaves a hole of unknown energy, so the
counters begin anew behind it and no energy is invented for it.

Assumes of the stream (powermetrics(1), `-f plist`): documents separated by NUL bytes; `elapsed_ns` at the top; in
`processor` the millijoules `cpu_energy`, `gpu_energy` and `ane_energy` on Apple silicon, the joules `package_joules` on
Intel Macs. A document is taken as soon as its last tag has come, since the NUL comes only with the next one.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiocarbon._core.reading import Basis, Device, DeviceKind, Part, Quantity, Reading
from aiocarbon._core.units import NS_PER_S, UJ_PER_J, UJ_PER_MJ
from aiocarbon.errors import MeterLostError, MeterPermissionError, MeterUnavailableError, ReadError
from aiocarbon.meters.base import Inventory, Stopwatch

__all__ = ["PowermetricsMeter"]

_PROGRAM: Final = "/usr/bin/powermetrics"
_ARGUMENTS: Final = ("--samplers", "cpu_power,gpu_power,ane_power", "-i", "1000", "-f", "plist", "-b", "0")
_INTERVAL_S: Final = 1.0
"""What `-i 1000` asks for; the stream says how long each interval really was."""

REMEDY: Final = f'echo "$USER ALL=(root) NOPASSWD: {_PROGRAM}" | sudo tee /etc/sudoers.d/aiocarbon-powermetrics'
"""The line that lets this user run powermetrics as root without a prompt, and nothing else."""

_BAND: Final = (0.65, 1.35)
"""Assumed: the manual calls the values estimates, not to be compared between devices, and states no error."""

_STARTUP_S: Final = 0.25
"""How long opening watches the child for a refusal; sudo's comes in a few milliseconds."""
_FAREWELL_S: Final = 0.3
"""How long closing waits for the child to go."""
_MOST_BYTES: Final = 4 << 20
"""A document is about 10 to 100 kB; a stream that reaches this without an end is no such stream."""

_END: Final = b"</plist>"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Domain:
    """A domain of the stream: its device's name, its key in `processor`, and what a unit there is."""

    id: str
    name: str
    key: str
    uj_per_unit: int
    kind: DeviceKind
    covers: Part


_APPLE: Final = (
    _Domain(
        id="powermetrics:cpu",
        name="Apple silicon CPU",
        key="cpu_energy",
        uj_per_unit=UJ_PER_MJ,
        kind=DeviceKind.CPU,
        covers=Part.CPU,
    ),
    _Domain(
        id="powermetrics:gpu",
        name="Apple silicon GPU",
        key="gpu_energy",
        uj_per_unit=UJ_PER_MJ,
        kind=DeviceKind.GPU,
        covers=Part.GPU,
    ),
    _Domain(
        id="powermetrics:ane",
        name="Apple Neural Engine",
        key="ane_energy",
        uj_per_unit=UJ_PER_MJ,
        kind=DeviceKind.OTHER,
        covers=Part.ACCELERATOR,
    ),
)
_INTEL: Final = (
    _Domain(
        id="powermetrics:package",
        name="Intel package",
        key="package_joules",
        uj_per_unit=UJ_PER_J,
        kind=DeviceKind.CPU,
        covers=Part.CPU,
    ),
)


class PowermetricsMeter:
    """CPU, GPU and neural engine of a Mac, from `powermetrics`.

    A device's counter is 0 at the child's start and grows with each document, about once a second. A reading lies
    between the earliest and the latest instant at which the document can have ended; without a new document it is the
    last one again, its stamps included.

    Args:
        command: The child to run; by default powermetrics itself, through `sudo -n` unless this is root.
        platform: As `sys.platform`; anything but "darwin" is unavailable.
        machine: As `platform.machine()`; decides which domains the stream holds.
        clock: Monotonic nanoseconds.
        startup_s: How long opening watches the child for a refusal, in seconds.
    """

    name = "powermetrics"

    def __init__(
        self,
        *,
        command: Sequence[str] | None = None,
        platform: str = sys.platform,
        machine: str | None = None,
        clock: Stopwatch = time.monotonic_ns,
        startup_s: float = _STARTUP_S,
    ) -> None:
        self._command = command
        self._platform = platform
        self._machine = machine
        self._clock = clock
        self._startup_s = startup_s
        self._lock = threading.Lock()  # the devices share one stream, and may be read at once
        self._stream: _Stream | None = None

    def open(self, covered: frozenset[Part] = frozenset()) -> Inventory:
        """Start the child, and see that it is not refused.

        Raises:
            MeterUnavailableError: This is no Mac, or powermetrics cannot be run.
            MeterPermissionError: It would ask for a password; `remedy` is the line that lets it run without.
        """
        self.close()
        if self._platform != "darwin":
            raise MeterUnavailableError("powermetrics exists on macOS only")
        domains = _APPLE if (self._machine or _machine()) == "arm64" else _INTEL
        with self._lock:
            command = self._command or _default_command()
            self._stream = _Stream.start(command, domains, self._clock, self._startup_s)
        return Inventory(devices=tuple(_device(domain) for domain in domains))

    def read(self, device: Device) -> Reading:
        """The device's energy up to the newest document; does not wait for one.

        Raises:
            ReadError: A document could not be read, or has no value for this device.
            MeterLostError: The child has ended, or the meter is closed.
        """
        with self._lock:
            if self._stream is None:
                raise MeterLostError("powermetrics is not running", device=device.id)
            return self._stream.read(device.id)

    def close(self) -> None:
        """End the child."""
        with self._lock:
            stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()


def _machine() -> str:
    import platform

    return platform.machine()


def _default_command() -> list[str]:
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    return [*prefix, _PROGRAM, *_ARGUMENTS]


def _device(domain: _Domain) -> Device:
    return Device(
        id=domain.id,
        kind=domain.kind,
        name=domain.name,
        quantity=Quantity.ENERGY,
        basis=Basis.MODEL,
        covers=frozenset({domain.covers}),
        refresh_s=_INTERVAL_S,
        is_stamped=True,
        low_factor=_BAND[0],
        high_factor=_BAND[1],
        note="the chip's own estimate by powermetrics; Apple states no error, ±35 % is assumed; memory is not in it",
    )


class _Stream:
    """The child, what has come of its stream, and the counters made of it."""

    def __init__(self, child: subprocess.Popen[bytes], domains: Sequence[_Domain], clock: Stopwatch) -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        self._child = child
        self._stdout = child.stdout.fileno()
        self._stderr = child.stderr.fileno()
        os.set_blocking(self._stdout, False)
        os.set_blocking(self._stderr, False)
        self._clock = clock
        self._domains = {domain.id: domain for domain in domains}
        start_ns = clock()
        self.most_bytes = _MOST_BYTES
        self._buffer = b""
        self._said = b""
        self._skipped = 0
        self._elapsed_ns = 0
        # the stream's instant 0 lies between these two; the second is not known before a document has come
        self._earliest_ns = start_ns
        self._latest_ns: int | None = None
        self._counters: dict[str, int | None] = dict.fromkeys(self._domains, 0)
        self._told_ns: dict[str, int] = {}

    @classmethod
    def start(cls, command: Sequence[str], domains: Sequence[_Domain], clock: Stopwatch, startup_s: float) -> _Stream:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the training, not for its instrument
            )
        except OSError as error:
            raise MeterUnavailableError(f"{command[0]} could not be run: {error.strerror}") from error
        stream = cls(child, domains, clock)
        if stream._ends_within(startup_s):
            stream.close()
            raise _refusal(stream._words())
        return stream

    def read(self, device_id: str) -> Reading:
        domain = self._domains.get(device_id)
        if domain is None:
            raise MeterLostError(f"powermetrics has no device {device_id}", device=device_id)
        is_ended = self._drain()
        now_ns = self._clock()
        taken, skipped = self._take(now_ns)
        if skipped and not taken:
            message = f"powermetrics sent something that is no property list ({self._skipped} so far)"
            raise ReadError(message, device=device_id)
        if is_ended and self._told_ns.get(device_id, 0) == self._elapsed_ns:
            raise self._lost(device_id)
        value = self._counters[device_id]
        if value is None:
            raise ReadError(f"powermetrics states no {domain.key}", device=device_id)
        self._told_ns[device_id] = self._elapsed_ns
        latest_ns = self._earliest_ns if self._latest_ns is None else self._latest_ns
        return Reading(self._earliest_ns + self._elapsed_ns, latest_ns + self._elapsed_ns, value)

    def close(self) -> None:
        """End the child: by signal, or, where sudo's child may not be signalled, by the pipe that it writes to."""
        child = self._child
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
        for end in (child.terminate, child.kill):
            try:
                end()
                child.wait(_FAREWELL_S)
            except PermissionError:
                return  # root's process, which only root may signal: its next write meets the closed pipe and ends it
            except subprocess.TimeoutExpired:
                continue
            return

    def _ends_within(self, seconds: float) -> bool:
        """Whether the child ends at once; a first word of its stream says that it does not."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            select.select([self._stdout], [], [], left)
            if self._drain():
                return True
            if self._buffer:
                return False
        return False

    def _drain(self) -> bool:
        """Take what has come, without waiting; True once the stream has ended."""
        while True:
            try:
                piece = os.read(self._stderr, 1 << 16)
            except BlockingIOError:
                break
            if not piece:
                break
            self._said = (self._said + piece)[-2000:]
        while True:
            try:
                piece = os.read(self._stdout, 1 << 18)
            except BlockingIOError:
                return False
            if not piece:
                return True
            self._buffer += piece

    def _take(self, now_ns: int) -> tuple[int, int]:
        """Add the complete documents to the counters: how many were taken, and how many could not be read."""
        taken = skipped = 0
        *documents, self._buffer = self._buffer.split(_END)
        if len(self._buffer) > self.most_bytes:
            documents.append(self._buffer)
            self._buffer = b""
        for document in documents:
            sample = _parse(document)
            if sample is None:
                skipped += 1
                self._counters = dict.fromkeys(self._counters, 0)
                self._latest_ns = None  # its time is lost as well
                continue
            taken += 1
            elapsed_ns, processor = sample
            self._elapsed_ns += elapsed_ns
            for device_id, domain in self._domains.items():
                self._counters[device_id] = _added(self._counters[device_id], processor.get(domain.key), domain)
        self._skipped += skipped
        if taken:
            self._anchor(now_ns, elapsed_ns)
        return taken, skipped

    def _anchor(self, now_ns: int, interval_ns: int) -> None:
        """Narrow down when the stream began, from the arrival of its newest document.

        It ended before now, and, as the next one has not come, not more than about one interval ago; if it seems
        older, the machine slept or a document was lost, and the stream's time is behind.
        """
        self._earliest_ns = max(self._earliest_ns, now_ns - interval_ns * 3 // 2 - self._elapsed_ns)
        arrival_ns = now_ns - self._elapsed_ns
        self._latest_ns = arrival_ns if self._latest_ns is None else min(self._latest_ns, arrival_ns)
        self._latest_ns = max(self._latest_ns, self._earliest_ns)

    def _words(self) -> str:
        return " ".join(self._said.decode("utf-8", errors="replace").split())

    def _lost(self, device_id: str) -> MeterLostError:
        error = MeterLostError(f"powermetrics ended: {self._words() or 'it said nothing'}", device=device_id)
        error.remedy = _refusal(self._words()).remedy
        return error


def _added(counter: int | None, value: object, domain: _Domain) -> int | None:
    """The counter with a document's value; None where the document states none: the energy is then unknown."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        return None
    return (counter or 0) + round(value * domain.uj_per_unit)


def _parse(document: bytes) -> tuple[int, dict[str, object]] | None:
    """`elapsed_ns` and `processor` of a document without its last tag; None if it is torn or something else."""
    import plistlib  # here: other systems open this meter too, and need none of it
    from xml.parsers.expat import ExpatError

    try:
        tree = plistlib.loads(document.lstrip(b"\0 \r\n\t") + _END, fmt=plistlib.FMT_XML)
        elapsed_ns, processor = tree["elapsed_ns"], tree["processor"]
    except (ExpatError, plistlib.InvalidFileException, LookupError, TypeError, ValueError, AttributeError):
        return None
    is_sample = isinstance(elapsed_ns, int) and isinstance(processor, dict) and 0 < elapsed_ns < 3600 * NS_PER_S
    return (elapsed_ns, processor) if is_sample else None


def _refusal(words: str) -> MeterUnavailableError:
    """What a child that ended at once meant."""
    if re.search(r"password|superuser|not allowed|may not run|sudoers|permission", words, re.IGNORECASE):
        return MeterPermissionError(f"powermetrics may not run without a password: {words}", remedy=REMEDY)
    return MeterUnavailableError(f"powermetrics ended at once: {words or 'it said nothing'}")
