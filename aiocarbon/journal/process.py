"""What one journal file holds, as its records are taken one by one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiocarbon._core.body import Facts
from aiocarbon._core.curve import Curve
from aiocarbon._core.intensity import IntensityValue, Pue
from aiocarbon._core.reading import Device
from aiocarbon._core.report import utc
from aiocarbon._core.segment import DeviceKey, SegmentKey
from aiocarbon._core.units import NS_PER_S, S_PER_DAY, ns_from_s
from aiocarbon._core.wallclock import Anchor
from aiocarbon.journal import records
from aiocarbon.journal.accounts import SPAN_KINDS, SpanTotals
from aiocarbon.journal.outlooks import OUTLOOK_KINDS, Outlooks
from aiocarbon.journal.place import FoundPlace
from aiocarbon.journal.plain import count, number, whole
from aiocarbon.journal.records import Record
from aiocarbon.journal.refresh import Learnt
from aiocarbon.journal.rows import Rows

DEVICES_MOST = 100_000

LONGEST_NS = 20 * 365 * S_PER_DAY * NS_PER_S
"""No instant of a process lies further from that of its first line."""


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
        found: Where it was, if that was a guess and was found out after its end; `facts` holds it then.
        learnt: What was learnt of its intensity after its end, out of the files beside this journal and its copies.
        warnings: In order.
        spans: What became of its energy among spans and children.
        outlooks: What was foreseen of it.
        end: The end record; None if the journal breaks off.
        seen_ns: Newest instant in it.
        machine_id: A digest of the operating system's machine id; empty where it is not known.
        time_namespace: Whose boot clock its instants are of, as the kernel names it; empty where it is not known.
        resumes: True if it goes on with earlier tries of its run that it knew of.
        bad_lines: How many lines could not be read.
        bad_at: The numbers of the first of them; the file's first line is 1.
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
    machine_id: str = ""
    time_namespace: str = ""
    resumes: bool = False
    rows: Rows = field(default_factory=Rows)
    devices: dict[str, Known] = field(default_factory=dict)
    marks: dict[int, int] = field(default_factory=dict)
    epochs: dict[int, Epoch] = field(default_factory=dict)
    intensity: dict[float, IntensityValue] = field(default_factory=dict)
    found: FoundPlace | None = None
    learnt: Learnt = ()
    warnings: list[str] = field(default_factory=list)
    spans: SpanTotals = field(default_factory=SpanTotals)
    outlooks: Outlooks = field(default_factory=Outlooks)
    end: Record | None = None
    bad_lines: int = 0
    bad_at: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    order: list[Known | None] = field(default_factory=list)
    all_since: int | None = None  # the first mark at which all devices were known

    @property
    def pid(self) -> int:
        """Number of the process on its machine."""
        return int(self.ident.split("/")[-2])

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
                self._take_spans(record["spans"])
        elif kind == "mark":
            index = count(record["m"])
            self._take_states(record, None if record.get("late") else index)
            self.marks[index] = record["t"]
        elif kind == "epoch":
            index, begin, end = (count(record[key]) for key in "ibe")
            epoch = Epoch(index, begin, end, count(record.get("steps", 0)), bool(record.get("partial", False)))
            self.epochs[epoch.index] = epoch
        elif kind == "device":
            self._take_device(record)
        elif kind == "intensity":
            self.take_intensity(*intensity_of(record))
        elif kind == "place":
            location, pue = records.location_from(record["location"]), records.pue_from(record["pue"])
            self.facts, self.pue = replace(self.facts, location=location), pue
        elif kind == "wall":
            self.anchors.append(Anchor(self._instant(record["t"]), whole(record["wall_ns"])))
        elif kind == "warning":
            self.warn(str(record["text"]))
        elif kind in SPAN_KINDS:
            self._take_spans(record)
        elif kind in OUTLOOK_KINDS:
            self.outlooks.take(record)
        elif kind == "end":
            self.end = record

    def shift(self, by_ns: int) -> None:
        """Let all instants be later by so many nanoseconds."""
        self.anchors = [anchor._replace(mono_ns=anchor.mono_ns + by_ns) for anchor in self.anchors]
        self.marks = {index: t + by_ns for index, t in self.marks.items()}
        self.rows.shift(by_ns)
        self.spans.shift(by_ns)
        self.seen_ns += by_ns

    def locate(self, found: FoundPlace | None) -> None:
        """Take where it was found out to have been, if that was a guess; of several, what was found out last counts."""
        if found is None or not (self.facts.location.is_guess if self.found is None else self.found < found):
            return
        self.found, place, guess = found, found.location, self.facts.location
        self.facts = replace(self.facts, location=place)
        if guess.is_guess:
            at = utc(found.asked_s)
            told = f"location {guess.zone} is a guess "  # with what to do about it, which is done
            self.warnings = [text for text in self.warnings if not text.startswith(told)]
            self.warn(
                f"location {guess.zone} was a guess ({guess.how}) when this ran; by {at:%Y-%m-%d %H:%M} UTC its "
                f"machine was found to be in {place.name} ({place.zone}), which counts for all of it"
            )

    def warn(self, text: str) -> None:
        """Add a warning, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def _take_device(self, record: Record) -> None:
        n = whole(record["n"])
        device = records.device_from(record)
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

    def take_intensity(self, from_s: float, value: IntensityValue, void_to_s: float | None) -> None:
        """Take what holds from an instant on, and up to which instant it makes void what was said before."""
        if void_to_s is not None:
            for at in [at for at in self.intensity if from_s <= at <= void_to_s]:
                del self.intensity[at]
        self.intensity[from_s] = value

    def _take_spans(self, record: Record) -> None:
        if record["k"] == "spans":
            self._instant(record["t"])
        self.spans.take(record)

    def _instant(self, value: Any) -> int:
        """An instant of the boot clock, at which the process can have been."""
        t = whole(value)
        if abs(t - self.anchors[0].mono_ns) > LONGEST_NS:
            raise ValueError("an instant too far away")
        return t

    def _take_states(self, record: Record, mark: int | None) -> None:
        """The states of a tick, mark or tail record."""
        t = self._instant(record["t"])
        energies = self.rows.put(t, record["e"], record.get("s") or (), record.get("x"), record.get("h"))
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


def intensity_of(record: Record) -> tuple[float, IntensityValue, float | None]:
    """From when (UTC seconds) which value holds, and up to when it makes void what was said before.

    Raises:
        KeyError, TypeError, ValueError: It is no such record.
    """
    from_s, value = records.intensity_from(record)
    void_to_s = record.get("void_to_s")
    return from_s, value, None if void_to_s is None else number(void_to_s)
