"""The states of a process's devices, instant by instant as the journal has them, and curves made of them by columns.

A journal's records hold all devices at one instant; a curve holds one device at all instants. Rows are kept as they are
read, 8 bytes an energy, and turned only where somebody asks for a curve: ten thousand journals are read for the states
at their marks alone.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Sequence
from copy import copy
from itertools import accumulate
from operator import gt
from typing import Any, Final, NamedTuple

from aiocarbon._core.curve import Curve
from aiocarbon._core.units import J2_PER_MJ2, J_PER_UJ

MOST_HIDDEN: Final = 1 << 126
"""Square millijoules: energies are of 63 bits, in microjoules."""

Energies = Sequence[int | None]
Extra = tuple[int, int, int, int]


class Row(NamedTuple):
    """The states of devices at one instant.

    Attributes:
        energies: Microjoules by device; None where it is not known.
        slacks: Microjoules by which each may be wrong; may be shorter, the rest is 0 then.
        extra: Under, over (microjoules), missing (nanoseconds) and hidden (square millijoules) by the device's number
            as text; None if all are 0.
    """

    energies: Energies
    slacks: Sequence[int]
    extra: dict[str, Extra] | None


class Rows:
    """The states of a process's devices by instant."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}
        self._times: list[int] | None = None  # of all rows, ascending; None until they are asked for

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, t_ns: int, energies: Any, slacks: Any, extra: Any, hidden: Any = None) -> Energies:
        """Take what a record says of an instant; where something was known of it, the later word counts.

        Returns:
            The energies, which are integers or None.

        Raises:
            TypeError, ValueError, OverflowError, KeyError: They are no states.
        """
        row = _row(energies, slacks, extra, hidden)
        known = self._rows.get(t_ns)
        self._rows[t_ns] = row if known is None or _is_whole(row, len(known.energies)) else _united(known, row)
        self._times = None
        return row.energies

    def shift(self, by_ns: int) -> None:
        """Let all instants be later by so many nanoseconds."""
        self._rows = {t + by_ns: row for t, row in self._rows.items()}
        self._times = None

    @property
    def times(self) -> list[int]:
        """The instants, ascending.

        A state that was written before its meters had told may lie a little above what they told later: it then stays
        level until it is reached, so that parts still add up.
        """
        if self._times is None:
            self._times = sorted(self._rows)
            if self._falls():
                self._level()
        return self._times

    def level(self, devices: int) -> bool:
        """Whether all rows hold so many devices; what falls is level then."""
        return bool(self.times) and all(
            row.energies.__class__ is array and len(row.energies) == devices for row in self._rows.values()
        )

    def row(self, t_ns: int) -> Row | None:
        """The row of an instant; None if there is none."""
        return self._rows.get(t_ns)

    def around(self, t_ns: int) -> tuple[int, int] | None:
        """The instants of the rows before and behind one that lies between two; None outside."""
        i = bisect.bisect_right(self.times, t_ns)
        return (self.times[i - 1], self.times[i]) if 0 < i < len(self.times) else None

    def curve(self, n: int, empty: Curve) -> Curve:
        """The curve of device `n`, put into an empty one."""
        rows = self._rows
        known = [(t, row) for t in self.times if n < len((row := rows[t]).energies) and row.energies[n] is not None]
        times = array("q", [t for t, _ in known])
        energies = array("d", [row.energies[n] * J_PER_UJ for _, row in known])  # type: ignore[operator]  # not None
        slacks = array("d", [row.slacks[n] * J_PER_UJ if n < len(row.slacks) else 0.0 for _, row in known])
        columns = tuple(array("d", bytes(8 * len(known))) for _ in range(4))
        key = str(n)
        for i, (_, row) in enumerate(known):
            if row.extra is not None and key in row.extra:
                under, over, missing, hidden = row.extra[key]
                columns[0][i], columns[1][i], columns[2][i] = under * J_PER_UJ, over * J_PER_UJ, missing
                columns[3][i] = hidden * J2_PER_MJ2
        empty.extend(times, energies, *columns[:3], slacks, columns[3])
        return empty

    def _falls(self) -> bool:
        before: Energies = ()
        for t in self.times:
            row = self._rows[t].energies
            # Only where all are known can they be compared as they stand; the rest is looked at one by one.
            if row.__class__ is not array or len(before) > len(row) or any(map(gt, before, row)):  # type: ignore[arg-type]
                return True
            before = row
        return False

    def _level(self) -> None:
        rows = [self._rows[t] for t in self.times]
        for n in range(max(len(row.energies) for row in rows)):
            column = [(t, e) for t in self.times if (e := _energy(self._rows[t], n)) is not None]
            for (t, before), level in zip(column, accumulate((e for _, e in column), max), strict=True):
                if level != before:
                    row = self._rows[t]
                    energies = copy(row.energies)
                    energies[n] = level  # type: ignore[index]  # an array or a list
                    self._rows[t] = row._replace(energies=energies)


def _energy(row: Row, n: int) -> int | None:
    return row.energies[n] if n < len(row.energies) else None


def _row(energies: Any, slacks: Any, extra: Any, hidden: Any) -> Row:
    # JSON's 1e400 is infinite, true is 1: only integers of sane size are counters. An array takes no others, but true.
    plain: Energies
    try:
        plain = array("q", energies)
    except TypeError:
        plain = list(energies)
        array("q", [energy for energy in plain if energy is not None])
    if bool in map(type, energies) or bool in map(type, slacks):
        raise TypeError("states are integers")
    return Row(plain, array("q", slacks), _extra(extra or {}, hidden or {}) if extra or hidden else None)


def _extra(extra: Any, hidden: Any) -> dict[str, Extra]:
    return {key: _checked(extra.get(key, (0, 0, 0)), hidden.get(key, 0)) for key in {**extra, **hidden}}


def _checked(odd: Any, hidden: Any) -> Extra:
    under, over, missing = odd
    if not (type(under) is type(over) is type(missing) is type(hidden) is int):
        raise TypeError("states are integers")
    array("q", odd)
    if not 0 <= hidden < MOST_HIDDEN:
        raise ValueError("a variance that cannot be")
    return under, over, missing, hidden


def _is_whole(row: Row, devices: int) -> bool:
    """Whether a row says all that an earlier one of so many devices can have said."""
    return len(row.energies) >= devices and isinstance(row.energies, array)


def _united(old: Row, new: Row) -> Row:
    """What two records say of one instant, the second where both do."""
    count = max(len(old.energies), len(new.energies))
    energies: list[int | None] = []
    slacks: list[int] = []
    extra: dict[str, Extra] = {}
    for n in range(count):
        row = old if _energy(new, n) is None else new
        energies.append(_energy(row, n))
        slacks.append(row.slacks[n] if n < len(row.slacks) else 0)
        if row.extra is not None and str(n) in row.extra:
            extra[str(n)] = row.extra[str(n)]
    return Row(energies, slacks, extra or None)
