"""How devices' energy reaches the spans: one stream for all, and one for each device that spans are bound to."""

from __future__ import annotations

from typing import Protocol

from aiocarbon._core.policy import Idle
from aiocarbon._core.supply import QUANTUM, DeviceSums, IdleFloor, Row


class Group:
    """Spans that share one stream of energy, with the running integrals A(t) of dE / sum of weights.

    Attributes:
        at: Instant up to which the integrals go.
        energy: Integral of energy / weight, quanta.
        co2eq: Likewise of CO2eq.
        rate: Quanta of energy per nanosecond that reach it.
        rate_co2eq: Likewise.
        weight: Sum of the weights of the spans that take shares.
        idle_ns: Time since the last account in which nobody took a share.
        is_bound: Whether it is of one device only.
    """

    __slots__ = ("at", "co2eq", "energy", "idle_ns", "is_bound", "rate", "rate_co2eq", "weight")

    def __init__(self, at: int, *, is_bound: bool = False) -> None:
        self.at = at
        self.is_bound = is_bound
        self.energy = self.co2eq = 0
        self.rate = self.rate_co2eq = 0
        self.weight = 0
        self.idle_ns = 0

    def advance(self, t_ns: int) -> None:
        """Bring the integrals to an instant; one that lies behind changes nothing."""
        length = t_ns - self.at
        if length <= 0:
            return
        weight = self.weight
        if weight:
            self.energy += self.rate * length // weight
            self.co2eq += self.rate_co2eq * length // weight
        else:
            self.idle_ns += length
        self.at = t_ns


class Holder(Protocol):
    """Keeps energy whose owners are told later."""

    def hold(self, sums: DeviceSums, energy: int, co2eq: int) -> None:
        """Keep what a device used above its floor while spans were open, quanta."""
        ...


class Streams:
    """The groups, and the devices whose power each gets.

    Args:
        at: Where it begins, monotonic nanoseconds.
        floor: Learns the idle floors from quiet time.
        idle: What becomes of the floor.
        holder: Takes what is split by amounts; then the groups' integrals stay 0.

    Attributes:
        at: Instant up to which the devices' sums go.
        shared: The spans that are bound to no device.
    """

    def __init__(self, at: int, floor: IdleFloor, *, idle: Idle, holder: Holder | None = None) -> None:
        self.at = at
        self.shared = Group(at)
        self._bound: dict[str, Group] = {}
        self._rows: tuple[Row, ...] = ()
        self._floor = floor
        self._is_apart = idle is Idle.APART
        self._holder = holder

    def begin(self, rows: tuple[Row, ...]) -> None:
        """Begin a segment."""
        self._rows = rows
        self.feed()

    def bound_to(self, device: str) -> Group:
        """The spans that are bound to a device."""
        group = self._bound.get(device)
        if group is None:
            group = self._bound[device] = Group(self.at, is_bound=True)
        return group

    def _group_of(self, row: Row) -> Group:
        """The spans that share a device's energy: those bound to it, if any is open."""
        bound = self._bound.get(row.sums.id)
        return bound if bound is not None and bound.weight else self.shared

    def feed(self) -> None:
        """Give each group the power of its devices; all are at the same instant."""
        for group in (self.shared, *self._bound.values()):
            group.rate = group.rate_co2eq = 0
        if self._holder is not None:
            return
        for row in self._rows:
            group = self._group_of(row)
            group.rate += row.rate - row.floor if self._is_apart else row.rate
            group.rate_co2eq += row.rate_co2eq - row.floor_co2eq if self._is_apart else row.rate_co2eq

    def account(self, t_ns: int, *, is_quiet: bool) -> None:
        """Put down where the devices' energy went.

        Args:
            t_ns: Up to when; an instant that lies behind stands for the present one.
            is_quiet: Whether no span was open all the while.
        """
        length = max(t_ns - self.at, 0)
        end = self.at + length
        groups = (self.shared, *self._bound.values())
        for group in groups:
            group.advance(end)
        for row in self._rows:
            sums, rate, rate_co2eq, floor, floor_co2eq = row
            sums.energy += rate * length
            sums.co2eq += rate_co2eq * length
            idle_ns = self._group_of(row).idle_ns
            for_idle = length if self._is_apart else idle_ns
            sums.idle += floor * for_idle
            sums.idle_co2eq += floor_co2eq * for_idle
            if self._is_apart:
                rate, rate_co2eq = rate - floor, rate_co2eq - floor_co2eq
            self._own(sums, rate * (length - idle_ns), rate_co2eq * (length - idle_ns))
            if is_quiet and length:
                self._floor.see(sums.id, self.at, end, row.rate * length * QUANTUM)
        for group in groups:
            group.idle_ns = 0
        self.at = end

    def _own(self, sums: DeviceSums, energy: int, co2eq: int) -> None:
        if self._holder is not None:
            self._holder.hold(sums, energy, co2eq)
        else:
            sums.spans += energy
            sums.spans_co2eq += co2eq
