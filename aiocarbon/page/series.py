"""A run's curves as a screen shows them: cuts between some hundred instants, which add up to the run's report.

Every power is a mean between two instants, so that no peak is invented and no energy lost; where readings vouch for
less than half of such a stretch there is none.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from aiocarbon._core.intensity import IntensityValue
from aiocarbon._core.ledger import Cut, Ledger
from aiocarbon._core.reading import Device
from aiocarbon._core.units import NS_PER_S, S_PER_NS, kwh_from_j
from aiocarbon.journal.machine import Machine, machines_of
from aiocarbon.journal.process import Known, Process
from aiocarbon.journal.sums import utc_span
from aiocarbon.journal.view import View

MOST_CUTS: Final = 60_000
"""Cuts that are made of one run at most: one of thousands of processes is drawn with fewer instants."""

LEAST_POINTS: Final = 12
REFRESHES: Final = 10
"""Instants stand at least so many refreshes of the slowest sensor apart: nearer ones would show its steps, no power."""

VOUCHED: Final = 0.5


class Part(NamedTuple):
    """What one process tells of some devices, which no other process tells at that time.

    Attributes:
        view: The process.
        ledger: Of those devices.
        begin_ns: From when, boot time.
        end_ns: Up to when.
        begin_s: From when, UTC seconds.
    """

    view: View
    ledger: Ledger
    begin_ns: int
    end_ns: int
    begin_s: float

    @property
    def end_s(self) -> float:
        """Up to when, UTC seconds."""
        return self.begin_s + (self.end_ns - self.begin_ns) * S_PER_NS

    def at_ns(self, at_s: float) -> int:
        """The instant of its boot clock at a UTC second, at most its begin or end."""
        return min(max(self.begin_ns + round((at_s - self.begin_s) * NS_PER_S), self.begin_ns), self.end_ns)


class Sum(NamedTuple):
    """A cumulative figure with its 90 % range."""

    value: float
    low: float
    high: float


class Line(NamedTuple):
    """A device over time.

    Attributes:
        host: Its machine.
        device: The device.
        power_w: Mean power between each two instants; None where nothing vouches for it, or it is not in the run.
        lacks: Whether it is in the run there, and nothing vouches for it.
        energy_j: All of its energy.
    """

    host: str
    device: Device
    power_w: list[float | None]
    lacks: list[bool]
    energy_j: float


class Series(NamedTuple):
    """A run over time.

    Attributes:
        instants_s: UTC seconds, ascending, at least two.
        lines: The counted devices, the one with most energy first.
        energy_kwh: With PUE, from the begin up to each instant.
        co2eq_g: Likewise.
    """

    instants_s: list[float]
    lines: list[Line]
    energy_kwh: list[Sum]
    co2eq_g: list[Sum]


def runs_of(processes: Iterable[Process]) -> dict[str, list[Part]]:
    """The parts of each run, by its id; each instant of a device is in one of them."""
    groups: dict[tuple[str, str], list[Process]] = {}
    for process in processes:
        groups.setdefault((process.machine, process.boot), []).append(process)
    found: dict[str, list[Part]] = {}
    for key in sorted(groups):
        for machine in machines_of(groups[key], []):  # what it has to say was said where the reports were made
            by_run: dict[str, list[View]] = {}
            for view in machine.views:
                by_run.setdefault(view.process.facts.run_id, []).append(view)
            for run_id, views in by_run.items():
                found.setdefault(run_id, []).extend(_parts(machine, views))
    return found


def _parts(machine: Machine, views: Sequence[View]) -> Iterator[Part]:
    told = set()
    for view, devices, begin_ns, end_ns in machine.parts(views):
        told.add(view.process.ident)
        yield _part(view, devices, begin_ns, end_ns)
    for view in views:
        if view.process.ident not in told:
            yield _part(view, {}, view.begin_ns, view.end_ns)


def _part(view: View, devices: Mapping[str, Known], begin_ns: int, end_ns: int) -> Part:
    curves = {ident: known.curve for ident, known in devices.items() if known.device.counted}
    ledger = view.ledger
    ledger = Ledger(curves, intensity=ledger.intensity, pue=ledger.pue, wall=ledger.wall)
    begin_s = (utc_span(view)[0] + begin_ns - view.begin_ns) * S_PER_NS
    return Part(view, ledger, begin_ns, end_ns, begin_s)


def series(parts: Sequence[Part], points: int) -> Series | None:
    """A run over time; None where it lasted no time, or nothing was measured.

    Args:
        parts: Its parts.
        points: Instants at most.
    """
    instants = _instants(parts, max(min(points, MOST_CUTS // max(len(parts), 1)), LEAST_POINTS))
    if len(instants) < 2:
        return None
    many = len(instants) - 1
    energy, carbon = [[0.0] * 5 for _ in range(many)], [[0.0] * 5 for _ in range(many)]
    lines: dict[tuple[str, str], _Drawn] = {}
    for part in parts:
        pue, host = part.view.process.pue.value, part.view.process.facts.host
        for i, cut in _cuts(part, instants):
            for told in cut.counted:
                line = lines.setdefault((host, told.device.id), _Drawn(host, told.device, many))
                line.add(i, told.energy_j, cut.end_ns - cut.begin_ns, told.missing_ns)
                figures = (told.energy_j, told.low_j, told.high_j, told.edge_j, told.hidden_j)
                _add(energy[i], figures, kwh_from_j(pue))
            whole = cut.carbon
            edge_j = math.hypot(*(told.edge_j for told in cut.counted))
            hidden_j = math.hypot(*(told.hidden_j for told in cut.counted))
            hidden_g = whole.edge_g * hidden_j / edge_j if edge_j else 0.0
            _add(carbon[i], (whole.co2eq_g, whole.low_g, whole.high_g, whole.edge_g, hidden_g), 1.0)
    if not lines:
        return None
    drawn = sorted((line.line() for line in lines.values()), key=lambda line: -line.energy_j)
    return Series(instants, drawn, _cumulative(energy), _cumulative(carbon))


class _Drawn:
    """A line in the making."""

    def __init__(self, host: str, device: Device, many: int) -> None:
        self.host, self.device = host, device
        self._energy_j = [0.0] * many
        self._lasted_ns = [0.0] * many
        self._missing_ns = [0.0] * many

    def add(self, i: int, energy_j: float, lasted_ns: float, missing_ns: float) -> None:
        self._energy_j[i] += energy_j
        self._lasted_ns[i] += lasted_ns
        self._missing_ns[i] += missing_ns

    def line(self) -> Line:
        power: list[float | None] = []
        lacks = []
        for energy_j, lasted_ns, missing_ns in zip(self._energy_j, self._lasted_ns, self._missing_ns, strict=True):
            vouched_ns = lasted_ns - missing_ns
            is_known = lasted_ns > 0.0 and vouched_ns >= VOUCHED * lasted_ns
            power.append(energy_j / (vouched_ns * S_PER_NS) if is_known else None)
            lacks.append(lasted_ns > 0.0 and not is_known)
        return Line(self.host, self.device, power, lacks, sum(self._energy_j))


def _add(into: list[float], more: Sequence[float], factor: float) -> None:
    for n, value in enumerate(more):
        into[n] = into[n] + value * factor if n < 3 else math.hypot(into[n], value * factor)


def _cumulative(rows: Iterable[Sequence[float]]) -> list[Sum]:
    """Sums up to each instant: common errors add linearly, what samples hide in quadrature, and of edges there are two.

    Args:
        rows: Of each stretch: the figure, its lower and upper end, the edges' error and what of that samples hide.
    """
    found, sums, hidden = [Sum(0.0, 0.0, 0.0)], [0.0, 0.0, 0.0], 0.0
    for row in rows:
        sums = [a + b for a, b in zip(sums, row[:3], strict=True)]
        edge = math.hypot(math.sqrt(max(row[3] ** 2 - row[4] ** 2, 0.0)), hidden := math.hypot(hidden, row[4]))
        found.append(Sum(sums[0], max(sums[1] - edge, 0.0), sums[2] + edge))
    return found


def _cuts(part: Part, instants: Sequence[float]) -> Iterator[tuple[int, Cut]]:
    """The part's cuts between each two instants that it lies between."""
    first = max(bisect.bisect_right(instants, part.begin_s) - 1, 0)
    before = part.ledger.mark(part.begin_ns)
    for i in range(first, len(instants) - 1):
        to_ns = part.at_ns(instants[i + 1]) if i + 2 < len(instants) else part.end_ns
        if to_ns > before.t_ns:
            mark = part.ledger.mark(to_ns)
            yield i, part.ledger.cut(before, mark)
            before = mark
        if to_ns >= part.end_ns:
            return


def _instants(parts: Sequence[Part], points: int) -> list[float]:
    """The instants between which it is drawn: those that the journals hold where they are few, else evenly spaced."""
    if not parts:
        return []
    begin_s, end_s = min(part.begin_s for part in parts), max(part.end_s for part in parts)
    if end_s <= begin_s:
        return []
    refresh_s = max((curve.device.refresh_s or 0.0 for p in parts for curve in p.ledger.curves.values()), default=0.0)
    least_s = max((end_s - begin_s) / points, REFRESHES * refresh_s)
    known: set[float] = set()
    for part in parts:
        times = part.view.process.rows.times
        inner = times[bisect.bisect_right(times, part.begin_ns) : bisect.bisect_left(times, part.end_ns)]
        known.update((part.begin_s, part.end_s))
        if len(inner) <= points:
            known.update(part.begin_s + (t_ns - part.begin_ns) * S_PER_NS for t_ns in inner)
        else:
            known.update(begin_s + n * (end_s - begin_s) / points for n in range(points))
    found = [begin_s]
    for at_s in sorted(known):
        if at_s - found[-1] >= least_s and end_s - at_s >= least_s:
            found.append(at_s)
    return [*found, end_s]


def intensities(parts: Sequence[Part], points: int) -> dict[str, list[tuple[float, float, IntensityValue]]]:
    """The steps of the intensity by zone of the run: from, to (UTC seconds), value; at most so many a zone."""
    found: dict[str, list[tuple[float, float, IntensityValue]]] = {}
    for part in sorted(parts, key=lambda part: (part.begin_s, part.end_s)):
        steps = found.setdefault(part.view.process.facts.location.zone, [])
        begin_s = max(part.begin_s, steps[-1][1] if steps else part.begin_s)
        if part.end_s > begin_s:
            steps.extend(part.ledger.intensity.steps(begin_s, part.end_s))
    return {zone: _thinned(steps, points) for zone, steps in found.items() if steps}


def _thinned(
    steps: Sequence[tuple[float, float, IntensityValue]], points: int
) -> list[tuple[float, float, IntensityValue]]:
    """Neighbouring steps with one value as one; of more than so many, means over equal times."""
    joined: list[tuple[float, float, IntensityValue]] = []
    for from_s, to_s, value in steps:
        if joined and joined[-1][1] == from_s and joined[-1][2] == value:
            joined[-1] = (joined[-1][0], to_s, value)
        else:
            joined.append((from_s, to_s, value))
    if len(joined) <= points:
        return joined
    width_s = (joined[-1][1] - joined[0][0]) / points
    groups: dict[int, list[tuple[float, float, IntensityValue]]] = {}
    for step in joined:
        groups.setdefault(int((step[0] - joined[0][0]) / width_s), []).append(step)
    return [_mean(group) for _, group in sorted(groups.items())]


def _mean(steps: Sequence[tuple[float, float, IntensityValue]]) -> tuple[float, float, IntensityValue]:
    """Some steps as one, weighed by time, said to be what most of the time was."""
    from dataclasses import replace

    whole_s = sum(to_s - from_s for from_s, to_s, _ in steps)
    longest = max(steps, key=lambda step: step[1] - step[0])[2]
    names = ("g_per_kwh", "low_g_per_kwh", "high_g_per_kwh")
    means = {name: sum((b - a) * getattr(value, name) for a, b, value in steps) / whole_s for name in names}
    return steps[0][0], steps[-1][1], replace(longest, **means)
