"""carbontracker's text logs, 1.x and 2.x, as drafts.

A tracker writes `X_carbontracker.log` (what is read here), `X_carbontracker_output.log` (its own totals, which are
compared) and `X_carbontracker_err.log`. What its own parser gets wrong, and what is done here (read in the source of
2.4.7 and seen in its logs):

- Finished epochs are counted where they were logged; `stop()` after n whole epochs reports n - 1 of them.
- 2.x logs the mean over a component's devices as its power; here it counts as often as there are devices. 1.x logs
  "[a b]", one figure a device, which may go on in the next line.
- Device names hold commas and dots: names are told apart by where a new one can begin.
- An epoch without a sample ("None") takes the power of its neighbours, and says so; a power of exactly 0 W is a reading
  that failed (no permission, GPU lost), and a gap. So is the time between epochs, which it does not measure.
- Times are local, whatever the "Z" in the file's name says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from typing import Final

from aiocarbon._core.intensity import IntensityValue, Location, Pue
from aiocarbon._core.reading import Device
from aiocarbon._core.units import S_PER_HOUR, S_PER_MIN, kwh_from_j, ns_from_s, s_from_ns
from aiocarbon.imports.components import Component, components_of, told_device
from aiocarbon.imports.draft import Draft, Told, Window, can_be, run_id_of, told_intensity, utc_s, word_of, zone_of

__all__ = ["ERR", "OUTPUT", "STANDARD", "Logs", "draft_of"]

TOOL: Final = "carbontracker"
STANDARD: Final = "_carbontracker.log"
OUTPUT: Final = "_carbontracker_output.log"
ERR: Final = "_carbontracker_err.log"

LINE: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) - (.*)", re.DOTALL)
NUMBER: Final = re.compile(r"-?(?:\d+\.?\d*(?:e[+-]?\d+)?|nan|inf)", re.IGNORECASE)
VERSION: Final = re.compile(r"carbontracker version (\S+)")
PUE: Final = re.compile(r"PUE coefficient of (\d+(?:\.\d+)?)(?: \((.*)\))?")
EPOCH: Final = re.compile(r"Epoch (\d+):")
DURATION: Final = re.compile(r"Duration: (-?)(\d+):(\d\d):(\d\d?(?:\.\d+)?)")
POWER: Final = re.compile(r"Average power usage \(W\) for (\w+): (.*)", re.DOTALL)
MEAN: Final = re.compile(
    r"Average carbon intensity during training was (\S+) gCO2(?:eq)?/kWh(?: at detected location: (.*?))?\.?\s*"
)
FETCHES: Final = re.compile(
    r"Carbon intensities \(gCO2(?:eq)?/kWh\) fetched every \d+ s at detected location:?(.*): \["
)
NAMED: Final = re.compile(r"(.*?)_?(?:\d+(?:\.\d+)?_)?\d{4}-\d\d-\d\dT[\d:]+Z")
"""The prefix that a user gave, the process and a random number (2.x), the local time."""
FETCHED: Final = re.compile(r"Carbon intensity fetched: (\d+(?:\.\d+)?) gCO2(?:eq)?/kWh at (.*)")
DEFAULTED: Final = re.compile(r"Defaulting to .*?: (\d+(?:\.\d+)?) gCO2(?:eq)?/kWh")
ACTUAL: Final = re.compile(r"Actual consumption(?: for (-?\d+) epoch\(s\))?:\s+Time:.*\s+Energy:\s*(\S+) kWh")

ASIDE_S: Final = 1.5
"""Lines tell whole seconds: epochs that seem to lie no further apart follow on each other."""

ROUNDED_S: Final = 0.005
"""Half of the last digit of a duration."""

ASIDE_SHARE: Final = 0.01
"""By so much may the tool's own total differ before that is told."""

STOPPED: Final = "Training was interrupted"
"""How the line begins that `stop()` writes."""

SAID: Final = (
    "imported from carbontracker's log: it measures the whole machine, so several of its trackers (ranks, say) on one "
    "machine hold the same energy; the log does not name the machine, and what the tool itself cost is not known"
)

MOST_DIGITS: Final = 18
"""Of an epoch's number, the last ones: a log may hold anything, and Python refuses numbers of thousands of digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """The files of one tracker.

    Attributes:
        stem: What their names begin with, without the folder.
        standard: What `X_carbontracker.log` holds.
        output: What the file of its outputs holds; empty if it is not there.
        err: What the file of its errors holds, likewise.
    """

    stem: str
    standard: str
    output: str = ""
    err: str = ""


@dataclass(slots=True)
class _Epoch:
    """One epoch as it was logged: when, how long, with which powers by component."""

    number: int
    at_s: float
    duration_s: float | None = None
    powers: dict[str, tuple[float, ...] | None] = field(default_factory=dict)


@dataclass(slots=True)
class _Log:
    """What the lines of a standard log say."""

    version: str = ""
    pue: Pue | None = None
    components: str = ""
    epochs: list[_Epoch] = field(default_factory=list)
    stopped: str = ""
    is_ended: bool = False
    address: str = ""
    mean_g: float | None = None
    fetched: list[tuple[float, float]] = field(default_factory=list)
    first: str = ""

    def take(self, at_s: float, text: str) -> None:
        """Take one message."""
        if found := EPOCH.match(text):
            self.epochs.append(_Epoch(int(found[1][-MOST_DIGITS:]), at_s))
        elif found := DURATION.match(text):
            if self.epochs:
                self.epochs[-1].duration_s = _seconds(*found.groups())
        elif found := POWER.match(text):
            if self.epochs:
                self.epochs[-1].powers[found[1].lower()] = _powers(found[2])
        elif text.startswith("The following components were found:"):
            self.components = text
        elif found := VERSION.match(text):
            self.version = found[1]
        elif found := PUE.search(text):
            self.pue = _pue(float(found[1]), found[2] or "")
        elif text.startswith(STOPPED):
            self.stopped = text
        elif text.startswith("Monitoring thread ended"):
            self.is_ended = True
        else:
            self._take_intensity(at_s, text)

    def _take_intensity(self, at_s: float, text: str) -> None:
        if found := MEAN.fullmatch(text):
            self.mean_g = _float(found[1])
            self.address = found[2] or self.address
        elif found := FETCHES.match(text):
            self.address = found[1].strip() or self.address
        elif found := FETCHED.match(text):
            self.fetched.append((at_s, float(found[1])))
            self.address = found[2].strip() or self.address


def draft_of(logs: Logs, zone: tzinfo | None, problems: list[str]) -> Draft | None:
    """The run that a tracker's logs tell.

    Args:
        logs: Its files.
        zone: Time zone of the machine that wrote them; None: this machine's.
        problems: Gets what could not be read, in words.

    Returns:
        None where no epoch was finished: then nothing was measured.
    """
    log = _read(logs.standard, zone)
    epochs = _sane(log.epochs, logs.stem, problems)
    if not epochs:
        problems.append(f"{logs.stem}{STANDARD} tells no finished epoch: there is nothing to import")
        return None
    notes: list[str] = []
    components = components_of(log.components, [epoch.powers for epoch in epochs])
    devices, powers = _devices(components, epochs, notes)
    place, intensity = _intensity(log, logs.err)
    pue = log.pue or Pue(value=1.0, source="carbontracker's log names none")
    draft = Draft(
        tool=TOOL,
        version=log.version,
        run_id=run_id_of(TOOL, logs.stem, log.first),
        name=named[1] if (named := NAMED.fullmatch(logs.stem)) else logs.stem,
        location=place,
        pue=pue,
        intensity=intensity,
        devices=tuple(devices),
        windows=tuple(_windows(epochs, powers)),
        slack_j=tuple(_mean(row) * ROUNDED_S for row in powers),
        missing=tuple(c.part for c in components if not any(epoch.powers.get(c.name) for epoch in epochs)),
        ended_well=log.is_ended or bool(log.stopped),
    )
    notes += [log.stopped] if log.stopped else []
    return replace(draft, warnings=(*notes, *_warnings(draft, logs.output)))


def _read(text: str, zone: tzinfo | None) -> _Log:
    log = _Log()
    at_s, message = math.nan, ""
    for line in [*text.splitlines(), None]:
        found = LINE.match(line) if line is not None else None
        if line is not None and found is None:
            message += f"\n{line}"  # what was logged on several lines
            continue
        if not math.isnan(at_s):
            log.take(at_s, message)
        if line is None or found is None:
            break
        try:
            at_s, message = utc_s(datetime.fromisoformat(found[1]), zone), found[2]
        except (ValueError, OverflowError, OSError):
            continue  # no such date
        log.first = log.first or found[1]
    return log


def _sane(found: Sequence[_Epoch], stem: str, problems: list[str]) -> list[_Epoch]:
    """The epochs that can be, each once: a forked child goes on writing its parent's, from stale samples."""
    kept: list[_Epoch] = []
    lacking = repeated = 0
    for epoch in found:
        if epoch.duration_s is None or not can_be(epoch.at_s - epoch.duration_s, epoch.at_s):
            lacking += 1
        elif kept and epoch.number <= kept[-1].number:
            repeated += 1
        else:
            kept.append(epoch)
    if lacking:
        problems.append(
            f"{stem}{STANDARD}: {lacking} epochs without a length above 0, or of no time that can be, are left out"
        )
    if repeated:
        problems.append(f"{stem}{STANDARD}: {repeated} epochs are told twice (by a forked process, say): counted once")
    return kept


def _devices(
    components: Sequence[Component], epochs: Sequence[_Epoch], notes: list[str]
) -> tuple[list[Device], list[list[float | None]]]:
    """The devices, and the watts of each by epoch: None without a sample, 0 where the reading failed."""
    devices: list[Device] = []
    powers: list[list[float | None]] = []
    for component in components:
        rows = [epoch.powers.get(component.name) for epoch in epochs]
        width = max((len(row) for row in rows if row), default=0)
        if not any(power > 0.0 for row in rows if row for power in row):
            notes.append(f"carbontracker could not read any power of the {component.name}: its figures lack it")
            continue
        is_mean = width == 1 and component.many > 1
        if is_mean:
            notes.append(
                f"carbontracker logged the mean power of {component.many} {component.name} devices as that of all: "
                f"here it counts {component.many} times"
            )
        for n in range(width):
            devices.append(told_device(component, n, width))
            factor = component.many if is_mean else 1
            powers.append([_power(row, n, factor) for row in rows])
    return devices, powers


def _power(row: Sequence[float] | None, n: int, factor: int) -> float | None:
    if row is None or n >= len(row):
        return None
    return row[n] * factor if 0.0 < row[n] < math.inf else 0.0


def _windows(epochs: Sequence[_Epoch], powers: Sequence[Sequence[float | None]]) -> list[Window]:
    spans = list(_spans(epochs))
    columns = [list(_column(row, spans)) for row in powers]
    return [
        Window(begin_ns, end_ns, n is not None, tuple(column[i] for column in columns))
        for i, (begin_ns, end_ns, n) in enumerate(spans)
    ]


def _spans(epochs: Sequence[_Epoch]) -> Iterator[tuple[int, int, int | None]]:
    """Begin, end and number of each epoch, and of the gaps between them, which have no number."""
    last_ns: int | None = None
    for n, epoch in enumerate(epochs):
        length_ns = ns_from_s(epoch.duration_s or 0.0)
        begin_ns = ns_from_s(epoch.at_s) - length_ns
        if last_ns is not None:
            if s_from_ns(begin_ns - last_ns) > ASIDE_S:
                yield last_ns, begin_ns, None
            else:
                begin_ns = last_ns
        last_ns = begin_ns + max(length_ns, 1)
        yield begin_ns, last_ns, n


def _column(row: Sequence[float | None], spans: Iterable[tuple[int, int, int | None]]) -> Iterator[Told]:
    """What is known of one device in each window."""
    known = [watts for watts in row if watts]
    least, most = min(known, default=0.0), max(known, default=0.0)
    last = known[0] if known else 0.0
    for begin_ns, end_ns, n in spans:
        length_s = s_from_ns(end_ns - begin_ns)
        power = 0.0 if n is None else row[n]
        if power is None:  # no sample: it went on as before, or anywhere within what was seen of it
            yield Told(last * length_s, (last - least) * length_s, (most - last) * length_s, end_ns - begin_ns)
        elif power == 0.0:  # nothing was read: no energy, and above it the most that was seen
            yield Told(0.0, 0.0, most * length_s, end_ns - begin_ns)
        else:
            last = power
            yield Told(power * length_s)


def _intensity(log: _Log, err: str) -> tuple[Location, tuple[tuple[float, IntensityValue], ...]]:
    code = log.address.rpartition(",")[2].strip().strip("'")
    place = zone_of(code if re.fullmatch("[A-Z]{2}", code) else "", TOOL)
    source = f"{TOOL} {log.version}".strip()
    if log.fetched:
        rows = [(at_s, told_intensity(g, place.zone, source, "fetched while it ran")) for at_s, g in log.fetched]
        return place, tuple((at_s, value) for at_s, value in rows if value is not None)
    defaulted = DEFAULTED.search(err)
    told_g = log.mean_g if log.mean_g is not None else _float(defaulted[1]) if defaulted else math.nan
    value = told_intensity(told_g, place.zone, source, "one value for the whole run")
    return place, () if value is None else ((-math.inf, value),)


def _warnings(draft: Draft, output: str) -> list[str]:
    told = [SAID]
    if any(not window.is_epoch for window in draft.windows):
        told.append("carbontracker measures nothing between epochs: that time is in no figure")
    if any(row.missing_ns for window in draft.windows if window.is_epoch for row in window.told):
        told.append("some epochs have no power reading of a device: see the coverage")
    if not draft.intensity:
        told.append("its log tells no carbon intensity")
    own = [(found[1], _float(found[2])) for found in ACTUAL.finditer(output)]
    here = kwh_from_j(draft.it_energy_j) * draft.pue.value
    if own and not math.isclose(own[-1][1], here, rel_tol=ASIDE_SHARE):
        of = "" if own[-1][0] is None else f" for {own[-1][0]} epoch(s)"
        total = f"{own[-1][1]:.6g} kWh" if math.isfinite(own[-1][1]) else "no number"
        told.append(f"carbontracker itself says {total}{of}; the {draft.epochs} epochs of its log make {here:.6g} kWh")
    return told


def _pue(value: float, source: str) -> Pue | None:
    return Pue(value=value, source=f"as carbontracker counted: {word_of(source)}") if 1.0 <= value < 100.0 else None


def _powers(text: str) -> tuple[float, ...] | None:
    return tuple(_float(word) for word in NUMBER.findall(text)) or None


def _seconds(sign: str, hours: str, minutes: str, seconds: str) -> float:
    whole = float(hours) * S_PER_HOUR + int(minutes) * S_PER_MIN + float(seconds)
    return -whole if sign else whole


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _mean(row: Sequence[float | None]) -> float:
    known = [watts for watts in row if watts]
    return sum(known) / len(known) if known else 0.0
