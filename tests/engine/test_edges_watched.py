"""Edges of spans are watched like marks as long as they are few; where there are thousands they are only read."""

from __future__ import annotations

from typing import Any

import anyio

from aiocarbon._engine.sampler import EDGE_WATCH_NS, EDGE_WATCHES, Sampler
from aiocarbon.testing import FakeClock

S = 1_000_000_000
BEGIN = 1000 * S


class Looked(Sampler):
    """A sampler that notes what it was asked for."""

    def __init__(self) -> None:
        unused: Any = None
        super().__init__(
            clock=FakeClock(),
            group=unused,
            limiter=unused,
            tracks=list,
            mates=unused,
            warn=unused,
            lost=unused,
            arrived=unused,
            ticked=unused,
            quiet=unused,
            is_urgent=unused,
        )
        self.watched: list[int] = []
        self.latched = 0

    def watch(self, t_ns: int) -> None:
        self.watched.append(t_ns)

    async def latch(self) -> None:
        self.latched += 1


def looked(edges: list[int]) -> Looked:
    sampler = Looked()

    async def main() -> None:
        for t_ns in edges:
            await sampler.look(t_ns)

    anyio.run(main)
    return sampler


def test_edges_of_tasks_in_turn_are_all_watched() -> None:
    edges = [BEGIN + at * S for at in (0, 3, 3, 8, 9, 14)]
    assert looked(edges).watched == edges


def test_of_edges_without_end_few_are_watched_and_all_are_read() -> None:
    seconds = 100
    edges = [BEGIN + i * S // 10 for i in range(10 * seconds)]
    sampler = looked(edges)
    assert sampler.latched == len(edges)
    assert len(sampler.watched) <= EDGE_WATCHES + seconds * S // EDGE_WATCH_NS
    assert sampler.watched[:EDGE_WATCHES] == edges[:EDGE_WATCHES]
    assert sampler.watched[-1] > edges[-1] - EDGE_WATCH_NS - S


def test_after_a_rest_edges_are_watched_again() -> None:
    busy = [BEGIN + i * S // 100 for i in range(100)]
    later = [busy[-1] + EDGE_WATCHES * EDGE_WATCH_NS + i for i in range(EDGE_WATCHES)]
    assert looked([*busy, *later]).watched == [*busy[:EDGE_WATCHES], *later]
