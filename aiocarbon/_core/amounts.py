"""Splitting by amounts that are told when a step has ended: thread CPU time of a coroutine's own steps.

What was used while spans were open is held window by window, until amounts are told whose steps reach back into those
windows; a step of ten seconds is told at its end. What no step reaches back to stays unattributed: nobody's code ran.
So does the part of code outside of all spans, where that is told.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from aiocarbon._core.spans import Span
from aiocarbon._core.supply import DeviceSums

MAX_HELD: Final = 3600
"""Windows held; steps longer than so many get what these hold. An hour at one window a second."""


class _Piece(NamedTuple):
    """What of a device waits: quanta of energy and CO2eq."""

    sums: DeviceSums
    energy: int
    co2eq: int


class Amounts:
    """The amounts of the open window, the spans that closed in it, and what is held."""

    def __init__(self) -> None:
        self._told: dict[Span, int] = {}
        self._nobodys = 0
        self._from: int | None = None
        self._closed: dict[int, tuple[Span, int]] = {}
        self._pieces: list[_Piece] = []
        self._held: deque[tuple[int, list[_Piece]]] = deque(maxlen=MAX_HELD)

    def spend(self, span: Span | None, t_ns: int, amount_ns: int) -> None:
        """Take a step that ended at an instant and took an amount, both nanoseconds; None: outside of all spans."""
        if span is None:
            self._nobodys += amount_ns
            return
        self._told[span] = self._told.get(span, 0) + amount_ns
        begin = t_ns - amount_ns
        self._from = begin if self._from is None else min(self._from, begin)

    def close(self, ident: int, span: Span, t_ns: int) -> None:
        """Keep a span that closed until the window ends, when its share is known."""
        self._closed[ident] = (span, t_ns)

    def closed(self, ident: int) -> Span | None:
        """A span that closed in this window."""
        kept = self._closed.get(ident)
        return kept[0] if kept else None

    def hold(self, sums: DeviceSums, energy: int, co2eq: int) -> None:
        """Keep what a device used above its floor while spans were open."""
        self._pieces.append(_Piece(sums, energy, co2eq))

    def end(self, end_ns: int, *, is_any_open: bool) -> None:
        """End the window: split what the steps told reach back to, fold the spans that closed."""
        if self._pieces:
            self._held.append((end_ns, self._pieces))
            self._pieces = []
        if self._told and self._from is not None:
            reached = [piece for end, pieces in self._held if end > self._from for piece in pieces]
            self._held.clear()
            self._split(reached)
            self._told = {}
            self._from = None
        elif not is_any_open:
            self._held.clear()  # nobody is left who could tell
        self._nobodys = 0
        for span, t_ns in self._closed.values():
            span.fold(t_ns)
        self._closed = {}

    def _split(self, pieces: list[_Piece]) -> None:
        theirs = sum(self._told.values())
        total = theirs + self._nobodys
        energy = sum(piece.energy for piece in pieces)
        co2eq = sum(piece.co2eq for piece in pieces)
        for span, amount in self._told.items():
            span.energy += energy * amount // total
            span.co2eq += co2eq * amount // total
        for piece in pieces:
            piece.sums.spans += piece.energy * theirs // total
            piece.sums.spans_co2eq += piece.co2eq * theirs // total
