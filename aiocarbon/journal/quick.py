"""All windows of a process out of the states at its marks alone: no curve is made, all devices are cut at once.

It gives the sums that cutting curves gives, for a process that alone tells its devices all its time. Ten thousand
journals are merged this way; where a state is missing that only a curve can tell, it says so, and curves are cut.
"""

from __future__ import annotations

import math
from array import array
from typing import NamedTuple

from aiocarbon._core.carbon import CarbonCut, Use, UseKey, add_uses, key_of
from aiocarbon._core.intensity import IntensityValue
from aiocarbon._core.pool import FoldKey, Lump, Piece, fold_key
from aiocarbon._core.reading import Device
from aiocarbon._core.units import J_PER_KWH, J_PER_UJ
from aiocarbon.journal.rows import Row
from aiocarbon.journal.view import Stretch, View


class Group(NamedTuple):
    """Devices whose sums are made together."""

    key: FoldKey
    device: Device
    places: tuple[int, ...]
    low_factor: float
    high_factor: float


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
        self._rows.times  # noqa: B018  # has them levelled
        self._groups = _groups(view, folds=folds)
        self._count = len(view.process.order)
        self._g_per_j = view.process.pue.value / J_PER_KWH
        self._central = self._low = self._high = self._timed = 0.0
        self._uses: dict[int, tuple[IntensityValue, list[float]]] = {}
        self._last: tuple[int, Row | None] = (-1, None)

    def lump(self, begin_ns: int, end_ns: int) -> Lump | None:
        """One window."""
        begin, end = self._state(begin_ns), self._state(end_ns)
        if begin is None or end is None or not self._groups:
            return None
        pieces = self._pieces(begin, end)
        central = low = high = timed = 0.0
        at = begin
        for from_ns, to_ns, value in self._view.ledger.pieces(begin_ns, end_ns):
            to = end if to_ns == end_ns else self._state(to_ns)
            if to is None:
                return None
            inside = pieces if at is begin and to is end else self._pieces(at, to)
            energy = math.fsum(piece.energy_j for piece in inside if piece.device.counted)
            central += energy * value.g_per_kwh
            low += math.fsum(piece.low_j for piece in inside if piece.device.counted) * value.low_g_per_kwh
            high += math.fsum(piece.high_j for piece in inside if piece.device.counted) * value.high_g_per_kwh
            timed += value.g_per_kwh * (to_ns - from_ns)
            use = self._uses.get(id(value))
            if use is None:
                use = self._uses[id(value)] = (value, [0.0, 0.0])
            use[1][0] += energy
            use[1][1] += to_ns - from_ns
            at = to
        self._central += central
        self._low += low
        self._high += high
        self._timed += timed
        return self._lump(pieces, end_ns - begin_ns, central, low, high, timed, {})

    def whole(self) -> Lump | None:
        """All windows that were asked for, as one; they fill the process's time."""
        view = self._view
        begin, end = self._state(view.begin_ns), self._state(view.end_ns)
        if begin is None or end is None:
            return None
        uses: dict[UseKey, Use] = {}
        for value, (energy, time_ns) in self._uses.values():
            add_uses(uses, {key_of(value): Use(value, energy, energy * value.g_per_kwh, time_ns)})
        length = view.end_ns - view.begin_ns
        pieces = self._pieces(begin, end)
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
        energy = math.fsum(piece.energy_j for piece in pieces if piece.device.counted)
        edge_2 = math.fsum(piece.edge_2 for piece in pieces if piece.device.counted)
        mean = central / energy if energy > 0.0 else timed / length_ns if length_ns else 0.0
        g = self._g_per_j
        carbon = CarbonCut(central * g, low * g, high * g, math.sqrt(edge_2) * mean * g, mean, uses)
        return Lump(pieces, length_ns, carbon, energy)

    def _state(self, t_ns: int) -> Row | None:
        """The states of all devices at an instant; None where only curves tell them all."""
        if self._last[0] == t_ns:
            return self._last[1]
        row = self._rows.row(t_ns)
        if row is None:
            around = self._rows.around(t_ns)
            a, b = map(self._rows.row, around or (t_ns, t_ns))
            row = _between(a, b, (t_ns - around[0]) / (around[1] - around[0])) if around and a and b else None
        if row is not None and not (isinstance(row.energies, array) and len(row.energies) == self._count):
            row = None
        self._last = (t_ns, row)
        return row

    def _pieces(self, a: Row, b: Row) -> list[Piece]:
        found = []
        is_plain = a.extra is None and b.extra is None
        for key, device, places, low_factor, high_factor in self._groups:
            edge_2 = 0.0
            for row in (a, b):
                slacks = row.slacks
                edge_2 += sum(slacks[n] * slacks[n] for n in places if n < len(slacks))
            if is_plain:
                joules = sum(b.energies[n] - a.energies[n] for n in places) * J_PER_UJ  # type: ignore[operator, misc]
                low_j, high_j, missing_ns = joules, joules, 0.0
            else:
                joules, low_j, high_j, missing_ns = _odd(a, b, places)
            found.append(
                Piece(
                    key,
                    device,
                    len(places),
                    joules,
                    low_j * low_factor,
                    high_j * high_factor,
                    edge_2 * J_PER_UJ * J_PER_UJ,
                    missing_ns,
                )
            )
        return found


def _groups(view: View, *, folds: bool) -> list[Group]:
    """The devices, those that fold together in one; none if a device is missing."""
    found: dict[object, Group] = {}
    for known in view.process.order:
        if known is None:
            return []
        device = known.device
        key = fold_key(device)
        at = (key, device.low_factor, device.high_factor) if folds else known.n
        places = (*found[at].places, known.n) if at in found else (known.n,)
        found[at] = Group(key, device, places, device.low_factor, device.high_factor)
    return list(found.values())


def _odd(a: Row, b: Row, places: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Joules, their lower and upper ends, and nanoseconds missing, of devices of which some are not vouched for."""
    joules = low_j = high_j = missing_ns = 0.0
    for n in places:
        energy = (b.energies[n] - a.energies[n]) * J_PER_UJ  # type: ignore[operator]  # rows that hold all
        key = str(n)
        first, last = (row.extra.get(key, _NONE) if row.extra else _NONE for row in (a, b))
        joules += energy
        low_j += max(energy - max(last[0] - first[0], 0) * J_PER_UJ, 0.0)
        high_j += energy + max(last[1] - first[1], 0) * J_PER_UJ
        missing_ns += max(last[2] - first[2], 0)
    return joules, low_j, high_j, missing_ns


_NONE = (0, 0, 0)


def _between(a: Row, b: Row, share: float) -> Row | None:
    """The states a share of the way from one row to the next, on straight lines; None if they do not hold the same."""
    if not (isinstance(a.energies, array) and isinstance(b.energies, array)) or len(a.energies) != len(b.energies):
        return None
    if len(a.slacks) != len(b.slacks):
        return None
    extra = None
    if a.extra or b.extra:
        keys = {*(a.extra or ()), *(b.extra or ())}
        extra = {key: _three(a, b, key, share) for key in keys}
    return Row(
        array("d", [x + share * (y - x) for x, y in zip(a.energies, b.energies, strict=True)]),
        array("d", [x + share * (y - x) for x, y in zip(a.slacks, b.slacks, strict=True)]),  # type: ignore[arg-type]
        extra,
    )


def _three(a: Row, b: Row, key: str, share: float) -> tuple[int, int, int]:
    first, last = (row.extra.get(key, _NONE) if row.extra else _NONE for row in (a, b))
    under, over, missing = (round(x + share * (y - x)) for x, y in zip(first, last, strict=True))
    return under, over, missing
