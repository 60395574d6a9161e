"""All curves of a run, and its cuts: every figure is the difference of the curves between two instants.

Cuts of abutting windows add up by construction. What is common to all windows (a sensor's gain, a model's error, an
intensity's uncertainty) adds linearly; only what is independent adds in quadrature: the errors of the edges, and what a
power sensor's samples hide between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from aiocarbon._core.carbon import SETTLED_NS, Behind, CarbonCut, Integral, Piece, Use, UseKey, add_uses
from aiocarbon._core.curve import Curve, State
from aiocarbon._core.intensity import IntensityCurve, IntensityValue, Pue
from aiocarbon._core.reading import Basis, Device
from aiocarbon._core.units import J_PER_KWH, NS_PER_S, S_PER_NS, Z_90
from aiocarbon._core.wallclock import WallClock

SHARE_THAT_COUNTS = 0.05
"""The weakest basis that carries at least this share of the energy names the basis of the whole."""

LONG_AGO_NS = 1 << 62
"""More than any run lasts."""

_STRENGTH = (Basis.COUNTER, Basis.POWER, Basis.MODEL, Basis.ASSUMED)


class Mark(NamedTuple):
    """An instant and the state of every curve there.

    Attributes:
        t_ns: Monotonic nanoseconds.
        states: State by device id, as far as the device was known.
    """

    t_ns: int
    states: Mapping[str, State]

    def state_of(self, curve: Curve) -> State:
        """The state of one curve at the mark."""
        return self.states.get(curve.device.id) or curve.state_at(self.t_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCut:
    """One device's energy in a window.

    Attributes:
        device: The device.
        energy_j: Central value, joules.
        low_j: Lower end without `edge_j`.
        high_j: Upper end without it.
        edge_j: Error of the two edges and of what samples hide (90 %), together, one value for up and down.
        missing_ns: Time that no reading vouches for.
        hidden_j: What of `edge_j` samples hide between the edges.
    """

    device: Device
    energy_j: float
    low_j: float
    high_j: float
    edge_j: float
    missing_ns: float
    hidden_j: float = 0.0

    @property
    def bounds_j(self) -> tuple[float, float]:
        """Lower and upper end (90 %), edges included."""
        return max(self.low_j - self.edge_j, 0.0), self.high_j + self.edge_j


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Everything between two instants.

    Attributes:
        begin_ns: Earlier instant, monotonic.
        end_ns: Later instant.
        devices: One entry per device that has a curve, counted or not.
        carbon: CO2eq of the counted devices.
        counted: The devices that add up to the whole.
    """

    begin_ns: int
    end_ns: int
    devices: tuple[DeviceCut, ...]
    carbon: CarbonCut
    counted: tuple[DeviceCut, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Asked for by every property below, several times a report.
        object.__setattr__(self, "counted", tuple(d for d in self.devices if d.device.counted))

    @property
    def duration_s(self) -> float:
        """Length of the window, seconds."""
        return (self.end_ns - self.begin_ns) * S_PER_NS

    @property
    def energy_j(self) -> float:
        """IT energy of the counted devices, joules."""
        return math.fsum(d.energy_j for d in self.counted)

    @property
    def bounds_j(self) -> tuple[float, float]:
        """Lower and upper end (90 %) of `energy_j`."""
        edge = math.hypot(*(d.edge_j for d in self.counted))
        low = math.fsum(d.low_j for d in self.counted) - edge
        return max(low, 0.0), math.fsum(d.high_j for d in self.counted) + edge

    @property
    def coverage(self) -> float:
        """Mean over the counted devices of the share of the window that readings vouch for, 0..1."""
        counted = self.counted
        if not counted:
            return 0.0
        return math.fsum(coverage(d.missing_ns, self.end_ns - self.begin_ns) for d in counted) / len(counted)

    @property
    def basis_shares(self) -> dict[Basis, float]:
        """Share of the energy by basis, the strongest first; only bases that occur."""
        joules: dict[Basis, float] = {}
        for part in self.counted:
            basis = part.device.basis
            joules[basis] = joules.get(basis, 0.0) + part.energy_j
        by_basis = {basis: joules[basis] for basis in _STRENGTH if basis in joules}
        total = math.fsum(by_basis.values())
        if total <= 0.0:
            return {basis: 1.0 / len(by_basis) for basis in by_basis}
        return {basis: energy / total for basis, energy in by_basis.items()}

    @property
    def basis(self) -> Basis:
        """The weakest basis that carries at least 5 % of the energy; `assumed` where there is no device at all."""
        return weakest(self.basis_shares)


def weakest(shares: Mapping[Basis, float]) -> Basis:
    """The weakest basis with a share of at least 5 %; `assumed` where there is none."""
    carrying = [basis for basis in _STRENGTH if shares.get(basis, 0.0) >= SHARE_THAT_COUNTS]
    return carrying[-1] if carrying else Basis.ASSUMED


def add_cuts(cuts: Iterable[Cut]) -> Cut:
    """The sum of cuts of windows that do not overlap, as one cut of their summed length.

    Devices are added by id; the errors of edges add in quadrature, all else adds linearly.
    """
    duration = 0
    by_id: dict[str, DeviceCut] = {}
    co2eq = low = high = edge = energy = weighed = 0.0
    uses: dict[UseKey, Use] = {}
    for cut in cuts:
        length = cut.end_ns - cut.begin_ns
        duration += length
        carbon = cut.carbon
        co2eq += carbon.co2eq_g
        low += carbon.low_g
        high += carbon.high_g
        edge = math.hypot(edge, carbon.edge_g)
        energy += cut.energy_j
        weighed += cut.energy_j * carbon.intensity_g_per_kwh
        add_uses(uses, carbon.uses)
        for part in cut.devices:
            known = by_id.get(part.device.id)
            by_id[part.device.id] = part if known is None else _add_parts(known, part)
    mean = weighed / energy if energy > 0.0 else 0.0
    return Cut(
        begin_ns=0,
        end_ns=duration,
        devices=tuple(by_id.values()),
        carbon=CarbonCut(co2eq_g=co2eq, low_g=low, high_g=high, edge_g=edge, intensity_g_per_kwh=mean, uses=uses),
    )


def _add_parts(a: DeviceCut, b: DeviceCut) -> DeviceCut:
    return DeviceCut(
        device=b.device,
        energy_j=a.energy_j + b.energy_j,
        low_j=a.low_j + b.low_j,
        high_j=a.high_j + b.high_j,
        edge_j=math.hypot(a.edge_j, b.edge_j),
        missing_ns=a.missing_ns + b.missing_ns,
        hidden_j=math.hypot(a.hidden_j, b.hidden_j),
    )


def coverage(missing_ns: float, window_ns: int) -> float:
    """Share of a window that is vouched for, 0..1; 1 for a window of no length."""
    if window_ns <= 0:
        return 1.0
    return min(max(1.0 - missing_ns / window_ns, 0.0), 1.0)


class Ledger:
    """The curves of a run's devices with its intensity, PUE and wall clock.

    Attributes:
        curves: Curve by device id; more may come while the run goes on.
        intensity: Carbon intensity over UTC.
        pue: Power usage effectiveness.
        wall: From monotonic instants to UTC.
    """

    def __init__(self, curves: Mapping[str, Curve], *, intensity: IntensityCurve, pue: Pue, wall: WallClock) -> None:
        self.curves = curves
        self.intensity = intensity
        self.pue = pue
        self.wall = wall
        self._behind = Behind()

    def mark(self, t_ns: int) -> Mark:
        """The state of all curves at an instant (monotonic nanoseconds); devices without a reading are left out."""
        return Mark(t_ns, {ident: curve.state_at(t_ns) for ident, curve in self.curves.items() if len(curve)})

    def cut(self, begin: Mark, end: Mark) -> Cut:
        """All energy and CO2eq between two marks.

        Cuts that share a mark telescope exactly, whatever the curves learn later. A device that was not yet known at
        a mark counts as missing before its first reading.
        """
        devices = tuple(
            _device_cut(curve.device, begin.state_of(curve), end.state_of(curve))
            for curve in self.curves.values()
            if len(curve)
        )
        carbon = self._carbon(begin, end, devices)
        return Cut(begin_ns=begin.t_ns, end_ns=end.t_ns, devices=devices, carbon=carbon)

    def _carbon(self, begin: Mark, end: Mark, whole: tuple[DeviceCut, ...]) -> CarbonCut:
        """The integral of energy x intensity x PUE, piece by piece of constant intensity.

        Equation 2 of Anthony, Kanding, Selvan 2020 (arXiv:2007.03051) with intensity inside the integral.
        """
        counted = [d for d in whole if d.device.counted]
        if end.t_ns - begin.t_ns > SETTLED_NS:
            self._look_for_changes()
            integral = self._behind.integral(
                begin.t_ns, end.t_ns, self._measured, lambda a, b: self._measured(a, b, begin, end, counted)
            )
        else:
            integral = Integral()
            integral.add(self._measured(begin.t_ns, end.t_ns, begin, end, counted))
        sums = integral.sums
        energy = math.fsum(d.energy_j for d in counted)
        if energy > 0.0:
            mean = sums.central / energy
        elif end.t_ns > begin.t_ns:
            mean = sums.timed / (end.t_ns - begin.t_ns)
        else:
            mean = self.intensity.value_at(self.wall.wall_s(begin.t_ns)).g_per_kwh
        g_per_j = self.pue.value / J_PER_KWH
        return CarbonCut(
            co2eq_g=sums.central * g_per_j,
            low_g=sums.low * g_per_j,
            high_g=sums.high * g_per_j,
            edge_g=math.hypot(*(d.edge_j for d in counted)) * mean * g_per_j,
            intensity_g_per_kwh=mean,
            uses=integral.uses,
        )

    def _look_for_changes(self) -> None:
        """Forget the sums behind from where the intensity, the wall clock or the devices have changed."""
        counted = sum(1 for curve in self.curves.values() if len(curve) and curve.device.counted)
        version = (self.intensity.version, len(self.wall.anchors), counted)
        known = self._behind.version
        if version == known:
            return
        self._behind.version = version
        from_ns = self.wall.anchors[0].mono_ns - LONG_AGO_NS
        if isinstance(known, tuple) and version[1:] == known[1:] == (1, counted):
            anchor = self.wall.anchors[0]
            changed_s = self.intensity.changed_since(known[0])
            if changed_s > 0.0:
                from_ns = round(changed_s * NS_PER_S) - anchor.wall_ns + anchor.mono_ns
        self._behind.forget(from_ns)

    def _measured(
        self,
        begin_ns: int,
        end_ns: int,
        begin: Mark | None = None,
        end: Mark | None = None,
        whole: Sequence[DeviceCut] = (),
    ) -> Iterator[Piece]:
        """The pieces of constant intensity in a window; where it begins or ends at a mark, that mark's states count.

        Args:
            begin_ns: Monotonic.
            end_ns: Later.
            begin: A mark that the window may begin at.
            end: One that it may end at.
            whole: The cuts of the counted devices between these marks.
        """
        before: Mark | None = None
        for at, to, value in self.pieces(begin_ns, end_ns):
            a = before or (begin if begin is not None and at == begin.t_ns else self.mark(at))
            b = before = end if end is not None and to == end.t_ns else self.mark(to)
            cuts = whole if a is begin and b is end else self._counted_between(a, b)  # nearly always it is one piece
            yield Piece(
                at,
                to,
                value,
                math.fsum(d.energy_j for d in cuts),
                math.fsum(d.low_j for d in cuts),
                math.fsum(d.high_j for d in cuts),
            )

    def pieces(self, begin_ns: int, end_ns: int) -> Iterator[tuple[int, int, IntensityValue]]:
        """The stretches of constant intensity in a window: from, to (monotonic nanoseconds), value."""
        for from_ns, to_ns, offset_ns in self.wall.pieces(begin_ns, end_ns):
            begin_s, end_s = (from_ns + offset_ns) * S_PER_NS, (to_ns + offset_ns) * S_PER_NS
            at = from_ns
            for _, step_end_s, value in self.intensity.steps(begin_s, end_s):
                to = to_ns if step_end_s >= end_s else max(round(step_end_s * NS_PER_S) - offset_ns, at)
                yield at, to, value
                at = to

    def _counted_between(self, begin: Mark, end: Mark) -> list[DeviceCut]:
        return [
            _device_cut(curve.device, begin.state_of(curve), end.state_of(curve))
            for curve in self.curves.values()
            if len(curve) and curve.device.counted
        ]


def _device_cut(device: Device, a: State, b: State) -> DeviceCut:
    energy = max(b.energy_j - a.energy_j, 0.0)
    under, over = max(b.under_j - a.under_j, 0.0), max(b.over_j - a.over_j, 0.0)
    hidden = Z_90 * math.sqrt(max(b.hidden_j2 - a.hidden_j2, 0.0))
    return DeviceCut(
        device=device,
        energy_j=energy,
        low_j=max(energy - under, 0.0) * device.low_factor,
        high_j=(energy + over) * device.high_factor,
        edge_j=math.hypot(a.slack_j, b.slack_j, hidden),
        missing_ns=max(b.missing_ns - a.missing_ns, 0.0),
        hidden_j=hidden,
    )
