"""All windows of a process out of the states at its marks alone: no curve is made, all devices are cut at once.

It gives the sums that cutting curves gives, for a process that alone tells its devices all its time. Ten thousand
journals are merged this way; where a state is missing that only a curve can tell, it says so, and curves are cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from aiocarbon._core.carbon import CarbonCut, Use, UseKey, add_uses, key_of
from aiocarbon._core.intensity import IntensityValue
from aiocarbon._core.pool import FoldKey, Lump, Piece, fold_key
from aiocarbon._core.reading import Device
from aiocarbon._core.units import J2_PER_MJ2, J_PER_KWH, J_PER_UJ, Z_90
from aiocarbon.journal.rows import Row
from aiocarbon.journal.view import Stretch, View


class Group(NamedTuple):
    """Devices whose sums are made together; their places in the rows, None for all."""

    key: FoldKey
    device: Device
    places: tuple[int, ...] | None
    number: int
    low_factor: float
    high_factor: float


class Sums(NamedTuple):
    """The states of all groups at an instant, in the units of rows, since the segments' origins.

    Attributes:
        energies: By group.
        extra: Under, over, missing and hidden by group; None if all are 0.
    """

    energies: Sequence[float]
    extra: Sequence[tuple[float, float, float, float]] | None


class Windows(NamedTuple):
    """What a process tells: of the whole of its time, and of each stretch of it."""

    whole: Lump
    stretches: list[tuple[Stretch, Lump]]


def windows_of(view: View, *, folds: bool) -> Windows | None:
    """All windows of a process.

    Args:
        view: The process.
        folds: True to make one sum of devices of one kind and name.

    Returns:
        None if the states at its marks do not tell all; its curves then do.
    """
    cutter = _Cutter(view, folds=folds)
    stretches = []
    for stretch in view.stretches:
        lump = cutter.lump(stretch.begin_ns, stretch.end_ns)
        if lump is None:
            return None
        stretches.append((stretch, lump))
    whole = cutter.whole() if stretches else None
    return None if whole is None else Windows(whole, stretches)


class _Cutter:
    def __init__(self, view: View, *, folds: bool) -> None:
        self._view = view
        self._rows = view.process.rows
        self._is_even = self._rows.level(len(view.process.order))
        self._groups = _groups(view, folds=folds) if self._is_even else []
        self._g_per_j = view.process.pue.value / J_PER_KWH
        self._central = self._low = self._high = self._timed = 0.0
        self._uses: dict[int, tuple[IntensityValue, list[float]]] = {}
        self._known: tuple[int, Sums | None] = (-1, None)
        self._edges: tuple[int, list[float]] = (-1, [])

    def lump(self, begin_ns: int, end_ns: int) -> Lump | None:
        """One window."""
        begin, end = self._sums(begin_ns), self._sums(end_ns)
        if begin is None or end is None or not self._groups:
            return None
        pieces = self._pieces(begin, end, self._edge_2(begin_ns), self._edge_2(end_ns))
        central = low = high = timed = 0.0
        at = begin
        for from_ns, to_ns, value in self._view.ledger.pieces(begin_ns, end_ns):
            to = end if to_ns == end_ns else self._sums(to_ns)
            if to is None:
                return None
            energy_j, low_j, high_j = self._counted(pieces if at is begin and to is end else self._pieces(at, to))
            central += energy_j * value.g_per_kwh
            low += low_j * value.low_g_per_kwh
            high += high_j * value.high_g_per_kwh
            timed += value.g_per_kwh * (to_ns - from_ns)
            _, use = self._uses.setdefault(id(value), (value, [0.0, 0.0]))
            use[0] += energy_j
            use[1] += to_ns - from_ns
            at = to
        self._central += central
        self._low += low
        self._high += high
        self._timed += timed
        return self._lump(pieces, end_ns - begin_ns, central, low, high, timed, {})

    def whole(self) -> Lump | None:
        """All windows that were asked for, as one; they fill the process's time."""
        view = self._view
        begin, end = self._sums(view.begin_ns), self._sums(view.end_ns)
        if begin is None or end is None:
            return None
        uses: dict[UseKey, Use] = {}
        for value, (energy_j, time_ns) in self._uses.values():
            add_uses(uses, {key_of(value): Use(value, energy_j, energy_j * value.g_per_kwh, time_ns)})
        pieces = self._pieces(begin, end, self._edge_2(view.begin_ns), self._edge_2(view.end_ns))
        length = view.end_ns - view.begin_ns
        return self._lump(pieces, length, self._central, self._low, self._high, self._timed, uses)

    def _lump(
        self,
        pieces: list[Piece],
        length_ns: int,
        central: float,
        low: float,
        high: float,
        timed: float,
        uses: dict[UseKey, Use],
    ) -> Lump:
        energy, _, _ = self._counted(pieces)
        edge_2 = sum(piece.edge_2 for piece in pieces if piece.device.counted)
        mean = central / energy if energy > 0.0 else timed / length_ns if length_ns else 0.0
        g = self._g_per_j
        carbon = CarbonCut(central * g, low * g, high * g, math.sqrt(edge_2) * mean * g, mean, uses)
        return Lump(pieces, length_ns, carbon, energy)

    @staticmethod
    def _counted(pieces: Sequence[Piece]) -> tuple[float, float, float]:
        """Joules, and their ends without the edges' error, of what counts."""
        energy_j = low_j = high_j = 0.0
        for piece in pieces:
            if piece.device.counted:
                energy_j += piece.energy_j
                low_j += piece.low_j
                high_j += piece.high_j
        return energy_j, low_j, high_j

    def _sums(self, t_ns: int) -> Sums | None:
        """The states of all groups at an instant; None outside what is known."""
        if self._known[0] == t_ns:
            return self._known[1]
        row = self._rows.row(t_ns)
        found = self._of(row) if row is not None else self._between(t_ns)
        self._known = (t_ns, found)
        return found

    def _of(self, row: Row) -> Sums:
        energies = [
            sum(row.energies) if group.places is None else sum([row.energies[n] for n in group.places])  # type: ignore[arg-type, misc]
            for group in self._groups
        ]
        if row.extra is None:
            return Sums(energies, None)
        places = (range(group.number) if group.places is None else group.places for group in self._groups)
        extra = [tuple(map(sum, zip(*(row.extra.get(str(n), _NONE) for n in of), strict=True))) for of in places]
        return Sums(energies, extra)  # type: ignore[arg-type]  # of four each

    def _between(self, t_ns: int) -> Sums | None:
        """On straight lines between two rows; None outside."""
        around = self._rows.around(t_ns)
        if around is None:
            return None
        before_ns, behind_ns = around
        rows = self._rows.row(before_ns), self._rows.row(behind_ns)
        if rows[0] is None or rows[1] is None:
            return None
        a, b = self._of(rows[0]), self._of(rows[1])
        share = (t_ns - before_ns) / (behind_ns - before_ns)
        energies = [x + share * (y - x) for x, y in zip(a.energies, b.energies, strict=True)]
        if a.extra is None and b.extra is None:
            return Sums(energies, None)
        nothing = [_NONE] * len(self._groups)
        extra = [
            tuple(x + share * (y - x) for x, y in zip(*both, strict=True))
            for both in zip(a.extra or nothing, b.extra or nothing, strict=True)
        ]
        return Sums(energies, extra)  # type: ignore[arg-type]  # of four each

    def _edge_2(self, t_ns: int) -> list[float]:
        """The square of each group's own error at an instant, microjoules."""
        if self._edges[0] != t_ns:
            row = self._rows.row(t_ns)
            slacks = row.slacks if row is not None else self._slacks(t_ns)
            squares = [slack * slack for slack in slacks]
            edges = [
                sum(squares) if group.places is None else sum([squares[n] for n in group.places if n < len(squares)])
                for group in self._groups
            ]
            self._edges = (t_ns, edges)
        return self._edges[1]

    def _slacks(self, t_ns: int) -> Sequence[float]:
        before_ns, behind_ns = self._rows.around(t_ns) or (t_ns, t_ns + 1)
        a, b = (getattr(self._rows.row(at), "slacks", ()) for at in (before_ns, behind_ns))
        share = (t_ns - before_ns) / (behind_ns - before_ns)
        return [x + share * (y - x) for x, y in zip_longest(a, b, fillvalue=0)]

    def _pieces(self, a: Sums, b: Sums, *edges: Sequence[float]) -> list[Piece]:
        """The groups between two instants; `edges` are the squares of their errors at both."""
        found = []
        for n, group in enumerate(self._groups):
            energy = b.energies[n] - a.energies[n]
            low = high = energy
            missing = hidden = 0.0
            if a.extra is not None or b.extra is not None:
                first, last = (_NONE if one.extra is None else one.extra[n] for one in (a, b))
                low = max(energy - max(last[0] - first[0], 0), 0)
                high = energy + max(last[1] - first[1], 0)
                missing = max(last[2] - first[2], 0)
                hidden = max(last[3] - first[3], 0)
            found.append(
                Piece(
                    group.key,
                    group.device,
                    group.number,
                    energy * J_PER_UJ,
                    low * J_PER_UJ * group.low_factor,
                    high * J_PER_UJ * group.high_factor,
                    sum(edge[n] for edge in edges) * J_PER_UJ * J_PER_UJ + Z_90 * Z_90 * hidden * J2_PER_MJ2,
                    missing,
                )
            )
        return found


_NONE = (0, 0, 0, 0)


def _groups(view: View, *, folds: bool) -> list[Group]:
    """The devices, those that fold together in one; none if a device is missing."""
    found: dict[object, tuple[FoldKey, Device, list[int]]] = {}
    for known in view.process.order:
        if known is None:
            return []
        device = known.device
        key = fold_key(device)
        at = (key, device.low_factor, device.high_factor) if folds else known.n
        found.setdefault(at, (key, device, []))[2].append(known.n)
    return [
        Group(
            key,
            device,
            None if len(places) == len(view.process.order) else tuple(places),
            len(places),
            device.low_factor,
            device.high_factor,
        )
        for key, device, places in found.values()
    ]
