"""One journal file as one process of a run: read line by line, points straight into curves.

Guarantees: whatever a file holds, reading ends with a `Process`, or with a `JournalError` that says what the file is
not; a line that cannot be read is skipped, counted and told. Memory grows by the states, not by the records.
"""

from __future__ import annotations

import functools
import json
import json.scanner
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NoReturn

from aiocarbon._core.body import Facts
from aiocarbon._core.curve import Curve
from aiocarbon._core.identity import Identity
from aiocarbon._core.intensity import IntensityValue, Pue
from aiocarbon._core.reading import Device
from aiocarbon._core.segment import DeviceKey, SegmentKey
from aiocarbon._core.units import ns_from_s
from aiocarbon._core.wallclock import Anchor
from aiocarbon.errors import JournalError
from aiocarbon.journal import records
from aiocarbon.journal.accounts import SPAN_KINDS, SpanTotals
from aiocarbon.journal.records import FAMILY, SCHEMA, Record
from aiocarbon.journal.refresh import Learnt, read_sidecar
from aiocarbon.journal.rows import LARGEST, Rows
from aiocarbon.journal.write import TAIL_SUFFIX

FIRST_LINE_MOST = 1 << 20
"""Bytes in which a first line must end; more is no journal."""

TAIL_MOST = 1 << 24
DEVICES_MOST = 100_000
VALUES_KEPT = 4096
"""Intensity records kept as read: the nodes of one place hear the same ones."""


@dataclass(slots=True)
class Epoch:
    """One epoch as it was written: the indices of its marks, its steps."""

    index: int
    begin: int
    end: int
    steps: int
    is_partial: bool


class Known:
    """A device of a process.

    Attributes:
        device: The device.
        key: Of the segment that the process's sampler lived on it.
        n: Its place in the rows.
        since: Index of the first mark at which it was known; None if it was known at none.
    """

    __slots__ = ("_curve", "_rows", "device", "key", "n", "since")

    def __init__(self, device: Device, key: SegmentKey, n: int, rows: Rows) -> None:
        self.device = device
        self.key = key
        self.n = n
        self.since: int | None = None
        self._rows = rows
        self._curve: Curve | None = None

    @property
    def curve(self) -> Curve:
        """Its points over boot time; once the file is read."""
        if self._curve is None:
            self._curve = self._rows.curve(
                self.n, Curve(self.device, refresh_ns=ns_from_s(self.device.refresh_s or 0.0))
            )
        return self._curve

    @curve.setter
    def curve(self, curve: Curve) -> None:
        self._curve = curve


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
        rows: The states of its devices by instant.
        devices: Its devices by id.
        marks: Instants (boot clock) by index.
        epochs: By index.
        intensity: Values by the UTC instant from which they hold.
        learnt: What was learnt of its intensity after its end, out of the files beside this journal and its copies.
        warnings: In order.
        spans: What became of its energy among spans and children.
        end: The end record; None if the journal breaks off.
        seen_ns: Newest instant in it.
        time_namespace: Whose boot clock its instants are of, as the kernel names it; empty where it is not known.
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
    time_namespace: str = ""
    rows: Rows = field(default_factory=Rows)
    devices: dict[str, Known] = field(default_factory=dict)
    marks: dict[int, int] = field(default_factory=dict)
    epochs: dict[int, Epoch] = field(default_factory=dict)
    intensity: dict[float, IntensityValue] = field(default_factory=dict)
    learnt: Learnt = ()
    warnings: list[str] = field(default_factory=list)
    spans: SpanTotals = field(default_factory=SpanTotals)
    end: Record | None = None
    bad_lines: int = 0
    problems: list[str] = field(default_factory=list)
    order: list[Known | None] = field(default_factory=list)
    all_since: int | None = None  # the first mark at which all devices were known

    # -- records -----------------------------------------------------------------------------------------------

    def take(self, record: Record) -> None:
        """Take one record; kinds that are not known are left alone.

        Raises:
            KeyError, TypeError, ValueError, IndexError, AttributeError: It is no such record.
        """
        kind = record["k"]
        if kind == "tick":
            self._take_states(record, None)
            if "spans" in record:  # the tail's newest totals
                self.spans.take(record["spans"])
        elif kind == "mark":
            index = _whole(record["m"])
            self._take_states(record, None if record.get("late") else index)
            self.marks[index] = record["t"]
        elif kind == "epoch":
            index, begin, end = (_whole(record[key]) for key in "ibe")
            epoch = Epoch(index, begin, end, _whole(record.get("steps", 0)), bool(record.get("partial", False)))
            self.epochs[epoch.index] = epoch
        elif kind == "device":
            self._take_device(record)
        elif kind == "intensity":
            self._take_intensity(*_intensity(record))
        elif kind == "place":
            location, pue = records.location_from(record["location"]), records.pue_from(record["pue"])
            self.facts, self.pue = replace(self.facts, location=location), pue
        elif kind == "wall":
            self.anchors.append(Anchor(_whole(record["t"]), _whole(record["wall_ns"])))
        elif kind == "warning":
            self.warn(str(record["text"]))
        elif kind in SPAN_KINDS:
            self.spans.take(record)
        elif kind == "end":
            self.end = record

    def shift(self, by_ns: int) -> None:
        """Let all instants be later by so many nanoseconds."""
        self.anchors = [anchor._replace(mono_ns=anchor.mono_ns + by_ns) for anchor in self.anchors]
        self.marks = {index: t + by_ns for index, t in self.marks.items()}
        self.rows.shift(by_ns)
        self.seen_ns += by_ns

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
        known = self.devices[device.id] = Known(device, key, n, self.rows)
        self.order.extend([None] * (n + 1 - len(self.order)))
        self.order[n] = known
        self.all_since = None

    def _take_intensity(self, from_s: float, value: IntensityValue, void_to_s: float | None) -> None:
        if void_to_s is not None:
            for at in [at for at in self.intensity if from_s <= at <= void_to_s]:
                del self.intensity[at]
        self.intensity[from_s] = value

    def _take_states(self, record: Record, mark: int | None) -> None:
        """The states of a tick, mark or tail record."""
        t = _whole(record["t"])
        energies = self.rows.put(t, record["e"], record.get("s") or (), record.get("x"))
        self.seen_ns = max(self.seen_ns, t)
        if mark is None or (self.all_since is not None and mark >= self.all_since):
            return
        lacks = len(energies) < len(self.order)
        for known, energy in zip(self.order, energies, strict=False):
            if energy is None:
                lacks = True
            elif known is not None and (known.since is None or mark < known.since):
                known.since = mark
        if not lacks:
            self.all_since = mark


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
    try:
        process.learnt = read_sidecar(path, process.ident)
    except JournalError as error:
        process.problems.append(str(error))
    if process.bad_lines:
        lines = "1 line" if process.bad_lines == 1 else f"{process.bad_lines} lines"
        process.problems.append(f"{lines} of {path} could not be read")
    return process


def announced(path: Path) -> Process:
    """The process that a file's first line announces, without anything of what it holds.

    Raises:
        JournalError: As in `read_process`.
    """
    try:
        with path.open("rb") as file:
            return _begin(path, file.readline(FIRST_LINE_MOST))
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error


def _lines(file: IO[bytes], left: int) -> Iterator[bytes]:
    """The complete lines of the next `left` bytes: a torn last line is what a killed writer leaves."""
    while left > 0:
        line = file.readline(left)
        left -= len(line)
        if not line.endswith(b"\n"):
            return
        yield line


def _take_line(process: Process, line: bytes) -> None:
    text = line.strip()
    if not text:
        return
    try:
        if text.startswith(INTENSITY_BEGIN):
            process._take_intensity(*_intensity_line(text))
        else:
            process.take(_record(text))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError):
        process.bad_lines += 1


def _record(text: bytes) -> Record:
    """The JSON value of a stripped line."""
    decoded = text.decode()
    try:
        record, end = _scan(decoded, 0)
    except StopIteration:
        raise ValueError("no JSON") from None
    if end != len(decoded):
        raise ValueError("more than one JSON value")
    return record  # type: ignore[no-any-return]  # whoever takes it finds out what it is


@functools.lru_cache(maxsize=VALUES_KEPT)
def _intensity_line(text: bytes) -> tuple[float, IntensityValue, float | None]:
    record = _record(text)
    if record["k"] != "intensity":
        raise ValueError("another record")
    return _intensity(record)


def _intensity(record: Record) -> tuple[float, IntensityValue, float | None]:
    from_s, value = records.intensity_from(record)
    void_to_s = record.get("void_to_s")
    _finite(value.g_per_kwh, value.low_g_per_kwh, value.high_g_per_kwh, record["from_s"], void_to_s)
    return from_s, value, void_to_s


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
                identity=(who := records.identity_from(header)),
            ),
            machine=_machine(boot, host, who),
            boot=boot,
            pue=records.pue_from(header["pue"]),
            anchors=[Anchor(t, _whole(header["wall_ns"]))],
            seen_ns=t,
            time_namespace=str(header.get("time_namespace") or ""),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise JournalError(f"{path}: its first line lacks what a journal's has: {error}") from error


def _machine(boot: str, host: str, who: Identity | None) -> str:
    """What tells a machine from others: its boot id, and its node's name where the process was told one."""
    named = who.machine if who is not None else ""
    return f"{boot}/{named}" if boot and named else boot or host


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


INTENSITY_BEGIN = b'{"k":"intensity"'
_scan = json.scanner.make_scanner(json.JSONDecoder(parse_constant=_refuse))  # type: ignore[arg-type]  # `loads` would make them for each line
