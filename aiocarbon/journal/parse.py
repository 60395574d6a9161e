"""One journal file as one process of a run: read line by line, points straight into curves.

Guarantees: whatever a file holds, reading ends with a `Process`, or with a `JournalError` that says what the file is
not; a line that cannot be read is skipped, counted and told. Memory grows by 48 bytes a point, not by the records.
"""

from __future__ import annotations

import heapq
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NoReturn

from aiocarbon._core.body import Facts
from aiocarbon._core.curve import Curve, Point
from aiocarbon._core.intensity import IntensityValue, Pue
from aiocarbon._core.reading import Device
from aiocarbon._core.segment import DeviceKey, SegmentKey
from aiocarbon._core.units import J_PER_UJ, ns_from_s
from aiocarbon._core.wallclock import Anchor
from aiocarbon.errors import JournalError
from aiocarbon.journal import records
from aiocarbon.journal.records import FAMILY, SCHEMA, Record
from aiocarbon.journal.refresh import Learnt, read_sidecar
from aiocarbon.journal.write import TAIL_SUFFIX

FIRST_LINE_MOST = 1 << 20
"""Bytes in which a first line must end; more is no journal."""

TAIL_MOST = 1 << 24
DEVICES_MOST = 100_000
LARGEST = 1 << 63
"""Instants in nanoseconds and energies in microjoules stay below it."""


@dataclass(slots=True)
class Epoch:
    """One epoch as it was written: the indices of its marks, its steps."""

    index: int
    begin: int
    end: int
    steps: int
    is_partial: bool


@dataclass(slots=True)
class Known:
    """A device of a process.

    Attributes:
        device: The device.
        key: Of the segment that the process's sampler lived on it.
        curve: Its points over boot time.
        since: Index of the first mark at which it was known; None if it was known at none.
        last_ns: Instant of its curve's newest point.
        late: Points that stand in the file behind later ones.
    """

    device: Device
    key: SegmentKey
    curve: Curve
    since: int | None = None
    last_ns: int = -1
    late: list[Point] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class Process:
    """What one file holds.

    Attributes:
        path: The file.
        ident: What tells this process from all others, and sorts.
        facts: What its report states.
        machine: What tells its machine from others.
        boot: Id of the boot.
        pue: Power usage effectiveness.
        anchors: Looks at boot and wall clock.
        devices: Its devices by id.
        marks: Instants (boot clock) by index.
        epochs: By index.
        intensity: Values by the UTC instant from which they hold.
        learnt: What was learnt of its intensity after its end, out of the files beside this journal and its copies.
        warnings: In order.
        end: The end record; None if the journal breaks off.
        seen_ns: Newest instant in it.
        bad_lines: Lines that could not be read.
        problems: What a reader must know of the file.
    """

    path: Path
    ident: str
    facts: Facts
    machine: str
    boot: str
    pue: Pue
    anchors: list[Anchor]
    seen_ns: int
    devices: dict[str, Known] = field(default_factory=dict)
    marks: dict[int, int] = field(default_factory=dict)
    epochs: dict[int, Epoch] = field(default_factory=dict)
    intensity: dict[float, IntensityValue] = field(default_factory=dict)
    learnt: Learnt = ()
    warnings: list[str] = field(default_factory=list)
    end: Record | None = None
    bad_lines: int = 0
    problems: list[str] = field(default_factory=list)
    order: list[Known | None] = field(default_factory=list)

    # -- records -----------------------------------------------------------------------------------------------

    def take(self, record: Record) -> None:
        """Take one record; kinds that are not known are left alone.

        Raises:
            KeyError, TypeError, ValueError, IndexError, AttributeError: It is no such record.
        """
        kind = record["k"]
        if kind == "tick":
            self._take_states(record, None)
        elif kind == "mark":
            index = _whole(record["m"])
            self._take_states(record, None if record.get("late") else index)
            self.marks[index] = record["t"]
        elif kind == "epoch":
            epoch = Epoch(
                _whole(record["i"]),
                _whole(record["b"]),
                _whole(record["e"]),
                _whole(record.get("steps", 0)),
                bool(record.get("partial", False)),
            )
            self.epochs[epoch.index] = epoch
        elif kind == "device":
            self._take_device(record)
        elif kind == "intensity":
            from_s, value = records.intensity_from(record)
            void_to_s = record.get("void_to_s")
            _finite(value.g_per_kwh, value.low_g_per_kwh, value.high_g_per_kwh, record["from_s"], void_to_s)
            if void_to_s is not None:
                for at in [at for at in self.intensity if from_s <= at <= void_to_s]:
                    del self.intensity[at]
            self.intensity[from_s] = value
        elif kind == "place":
            location, pue = records.location_from(record["location"]), records.pue_from(record["pue"])
            self.facts, self.pue = replace(self.facts, location=location), pue
        elif kind == "wall":
            self.anchors.append(Anchor(_whole(record["t"]), _whole(record["wall_ns"])))
        elif kind == "warning":
            self.warn(str(record["text"]))
        elif kind == "end":
            self.end = record

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def _take_device(self, record: Record) -> None:
        n = _whole(record["n"])
        device = records.device_from(record)
        _finite(device.low_factor, device.high_factor, device.refresh_s, device.lag_s, device.max_power_w)
        if n < len(self.order) and (there := self.order[n]) is not None and there.device == device:
            return  # written twice, when a write was torn
        if not 0 <= n < DEVICES_MOST or device.id in self.devices:
            raise ValueError(f"device {n} cannot be {device.id}")
        # Shares of two holders are two things, as devices of two machines are: they add up.
        holder = f"/{device.share.holder}" if device.share is not None and device.share.holder else ""
        key = SegmentKey(DeviceKey(self.machine + holder, self.boot, device.id), str(record["segment"]))
        curve = Curve(device, refresh_ns=ns_from_s(device.refresh_s or 0.0))
        known = self.devices[device.id] = Known(device, key, curve)
        self.order.extend([None] * (n + 1 - len(self.order)))
        self.order[n] = known

    def _take_states(self, record: Record, mark: int | None) -> None:
        """The points of a tick, mark or tail record."""
        t = _whole(record["t"])
        energies, extra, edges = record["e"], record.get("x") or {}, record.get("s") or ()
        none = (0, 0, 0)
        points: list[tuple[Known, Point]] = []
        for n, known in enumerate(self.order[: len(energies)]):
            energy = energies[n]
            if energy is None or known is None:
                continue
            under, over, missing = extra[str(n)] if extra and str(n) in extra else none
            edge = edges[n] if n < len(edges) else 0
            # JSON's 1e400 is infinite: only integers of sane size are counters.
            if not (type(energy) is type(under) is type(over) is type(missing) is type(edge) is int):
                raise TypeError(f"the state of device {n} is not of integers")
            if not -LARGEST < energy < LARGEST:
                raise ValueError(f"{energy} uJ")
            point = Point(
                t, energy * J_PER_UJ, under * J_PER_UJ, over * J_PER_UJ, float(missing), float(edge) * J_PER_UJ
            )
            points.append((known, point))
        for known, point in points:
            if mark is not None and (known.since is None or mark < known.since):
                known.since = mark
            falls = len(known.curve) > 0 and point.energy_j < known.curve[-1].energy_j
            if t > known.last_ns and not falls:
                known.curve.append(point)
                known.last_ns = t
            else:
                known.late.append(point)
        self.seen_ns = max(self.seen_ns, t)

    # -- the end -----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Put the points that came late into their place."""
        for known in self.devices.values():
            if known.late:
                known.curve = _with(known.curve, known.late)
                known.late = []


def read_process(path: Path) -> Process:
    """Read one journal file, with the tail beside it where the run did not end by itself, and what was learnt since.

    Raises:
        JournalError: It cannot be opened, or its first line is not that of a journal that this version reads.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # what a living writer appends later is left for the next reader
            first = file.readline(FIRST_LINE_MOST)
            process = _begin(path, first)
            for line in _lines(file, size - len(first)):
                _take_line(process, line)
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error
    if process.end is None:
        _take_tail(process)
    process.finish()
    try:
        process.learnt = read_sidecar(path, process.ident)
    except JournalError as error:
        process.problems.append(str(error))
    if process.bad_lines:
        lines = "1 line" if process.bad_lines == 1 else f"{process.bad_lines} lines"
        process.problems.append(f"{lines} of {path} could not be read")
    return process


def _lines(file: IO[bytes], left: int) -> Iterator[bytes]:
    """The complete lines of the next `left` bytes: a torn last line is what a killed writer leaves."""
    while left > 0:
        line = file.readline(left)
        left -= len(line)
        if not line.endswith(b"\n"):
            return
        yield line


def _take_line(process: Process, line: bytes) -> None:
    if line.isspace():
        return
    try:
        process.take(json.loads(line, parse_constant=_refuse))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError):
        process.bad_lines += 1


def _take_tail(process: Process) -> None:
    path = process.path.with_suffix(TAIL_SUFFIX)
    try:
        with path.open("rb") as file:
            data = file.read(TAIL_MOST)
    except FileNotFoundError:
        return
    except OSError as error:
        process.problems.append(f"{path} cannot be read: {error.strerror or error}; the last minute may be missing")
        return
    record = records.unsealed(data)
    try:
        if record is None:
            raise ValueError("torn")
        if _whole(record["t"]) > process.seen_ns:
            process.take(record)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        process.problems.append(f"{path} is torn or not ours; the last minute before the run broke off may be missing")


def _begin(path: Path, first: bytes) -> Process:
    """The process that a first line announces."""
    if not first.strip():
        raise JournalError(f"{path} is empty")
    try:
        header = json.loads(first, parse_constant=_refuse)
        schema = header["schema"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise JournalError(f'{path} is no journal: its first line is not {{"schema": "{SCHEMA}", ...}}') from error
    if schema != SCHEMA:
        if isinstance(schema, str) and schema.startswith(FAMILY):
            raise JournalError(f"{path} is of schema {schema}, this version reads {SCHEMA}: install a newer aiocarbon")
        raise JournalError(f"{path} is no journal: its schema is {schema!r}, expected {SCHEMA}")
    try:
        host, boot = str(header["host"]), str(header["boot_id"])
        t = _whole(header["t"])
        return Process(
            path=path,
            ident=f"{header['run_id']}/{host}/{boot}/{_whole(header['pid'])}/{t}",
            facts=Facts(
                run_id=str(header["run_id"]),
                name=str(header["name"]),
                host=host,
                location=records.location_from(header["location"]),
                version=str(header["version"]),
                scope=str(header.get("scope", "machine")),
            ),
            machine=boot or host,
            boot=boot,
            pue=records.pue_from(header["pue"]),
            anchors=[Anchor(t, _whole(header["wall_ns"]))],
            seen_ns=t,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise JournalError(f"{path}: its first line lacks what a journal's has: {error}") from error


def _with(curve: Curve, late: list[Point]) -> Curve:
    """The curve with more points; of two at one instant the one written later stays.

    A mark that was written before its meters had told may lie a little above what they told later: the curve then
    stays level until it is reached, so that its parts still add up.
    """
    whole = Curve(curve.device, refresh_ns=curve.refresh_ns)
    # Stable sorts keep the order of writing among equal instants.
    added = sorted(late, key=lambda point: point.t_ns)
    for point in heapq.merge((curve[i] for i in range(len(curve))), added, key=lambda point: point.t_ns):
        if len(whole) and whole[-1].t_ns == point.t_ns:
            whole.truncate(len(whole) - 1)
        if len(whole) and point.energy_j < whole[-1].energy_j:
            point = point._replace(energy_j=whole[-1].energy_j)
        whole.append(point)
    return whole


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no integer")
    if not -LARGEST < value < LARGEST:
        raise ValueError("an integer too large")
    return value


def _finite(*values: float | None) -> None:
    if not all(value is None or math.isfinite(value) for value in values):
        raise ValueError("not finite")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
