"""Work of a pace of its own, told late or before anybody listens, and in a run that goes on: by instants, no clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aiocarbon._core.former import Former
from aiocarbon._core.intensity import IntensityCurve, Pue
from aiocarbon._core.ledger import Ledger
from aiocarbon._core.report import EpochReport, Prediction, quantities
from aiocarbon._core.units import NS_PER_S
from aiocarbon._core.wallclock import Anchor, WallClock
from aiocarbon._engine.foresight import Foresight
from aiocarbon._engine.tape import Work
from aiocarbon.intensity.table import given
from aiocarbon.settings import Settings


class Run:
    """A run without meters, told to its foresight at instants in seconds; no tick but those asked for."""

    def __init__(self, former: Former | None = None, first_epoch: int = 0) -> None:
        wall = WallClock(Anchor(0, 1_790_000_000 * NS_PER_S))
        self.ledger = Ledger({}, intensity=IntensityCurve(given(100.0)), pue=Pue(value=1.0, source="test"), wall=wall)
        self.at_s = 0.0
        self.epoch_at_s: float | None = 0.0  # begin of the open epoch, as a session tells it
        self.foresight = Foresight(self.ledger, former)
        self._first_epoch = first_epoch
        self._index = first_epoch
        self._border_s = 0.0
        self._works: list[Work] = []
        self.foresight.worked = self._take

    def _take(self) -> list[Work]:
        works, self._works = self._works, []
        return works

    def cut(self, begin_s: float, end_s: float) -> Any:
        begin, end = (self.ledger.mark(round(at * NS_PER_S)) for at in (begin_s, end_s))
        return self.ledger.cut(begin, end)

    def listen(self, epochs: int) -> None:
        self.foresight.begin(Settings(epochs=epochs), first_epoch=self._first_epoch)

    def open(self) -> None:
        self.foresight.between(self.cut(self._border_s, self.at_s))
        self._border_s = self.epoch_at_s = self.at_s

    def works(self, seconds: float, *, every: int | None = None, pieces: int | None = None) -> None:
        begin_s, self.at_s = self.at_s, self.at_s + seconds
        self._works.append(Work("validation", every, pieces, round(begin_s * NS_PER_S), round(self.at_s * NS_PER_S)))

    def close(self, at_s: float | None = None) -> None:
        cut = self.cut(self._border_s, self.at_s if at_s is None else at_s)
        report = EpochReport(**quantities(cut, 1.0), index=self._index, devices=())
        self.foresight.epoch(report)
        self._index += 1
        self._border_s += cut.duration_s
        self.epoch_at_s = None

    def tick(self) -> None:
        epoch = None if self.epoch_at_s is None else self.ledger.mark(round(self.epoch_at_s * NS_PER_S))
        self.foresight.go_on(self.cut(0.0, self.at_s), epoch, self.ledger.mark(round(self.at_s * NS_PER_S)))

    def seen(self) -> Prediction:
        found = self.foresight.look(self.cut(0.0, self.at_s), None, self.ledger.mark(round(self.at_s * NS_PER_S)))
        assert found is not None
        assert not self.foresight.problem
        return found


TICKS = ["never", "after the work", "in the next epoch"]


@pytest.mark.parametrize("ticks", TICKS)
def test_work_between_entered_epochs_is_part_of_no_epoch_whenever_it_is_taken(ticks: str) -> None:
    run = Run()
    run.listen(20)
    run.at_s = 5.0
    for _ in range(8):
        run.open()
        run.at_s += 1.0
        if ticks == "in the next epoch":
            run.tick()
        run.at_s += 1.0
        run.close()
        run.works(6.0, every=1)
        if ticks == "after the work":
            run.tick()
    run.open()
    told = run.seen()
    assert told.epoch_s == pytest.approx(2.0)
    assert told.remaining_duration_s == pytest.approx(12 * 8.0)


def test_work_that_ends_behind_an_epoch_told_late_is_not_taken_for_its_part() -> None:
    run = Run()
    run.listen(20)
    for _ in range(4):
        run.open()
        run.at_s += 2.0
        closed_s = run.at_s
        run.works(6.0, every=1)
        run.close(closed_s)
    run.open()
    told = run.seen()
    assert told.epoch_s == pytest.approx(2.0)
    assert told.remaining_duration_s == pytest.approx(16 * 8.0)


@pytest.mark.parametrize("is_entered", [True, False])
def test_what_nobody_listened_to_is_told_in_its_order_with_the_work_where_it_lay(is_entered: bool) -> None:
    run = Run()
    run.tick()
    for _ in range(4):
        if is_entered:
            run.open()
        run.at_s += 2.0
        if is_entered:
            run.close()
            run.works(6.0, every=1)
        else:
            run.works(6.0, every=1)
            run.close()
            run.epoch_at_s = run.at_s
        run.tick()
    if is_entered:
        run.open()
    run.listen(20)
    told = run.seen()
    assert told.epoch_s == pytest.approx(2.0)
    assert told.remaining_duration_s == pytest.approx(16 * 8.0)


def formerly(epochs: int, seconds: float, works: int) -> Former:
    """What a try left that did epochs of one length, and work in some of them."""
    whole = quantities(Run().cut(0.0, epochs * seconds), 1.0)
    each = quantities(Run().cut(0.0, seconds), 1.0)
    reports = tuple(EpochReport(**each, index=index, devices=()) for index in range(epochs))
    span = SimpleNamespace(name="validation", count=works + 1, open=1)  # one was broken off with the try
    left: Any = SimpleNamespace(**whole, epochs=reports, spans=(span,))
    return Former(run=left, is_open=True)


@pytest.mark.parametrize("pace", [{"every": 2}, {"pieces": 10}])
def test_a_run_that_goes_on_has_ahead_what_neither_it_nor_its_former_tries_have_done(pace: dict[str, int]) -> None:
    run = Run(formerly(10, 5.0, 5), first_epoch=10)
    run.works(6.0, **pace)  # before anybody listens; the former epochs have had theirs
    run.at_s += 2.0
    run.tick()
    run.listen(20)
    run.tick()
    assert run.foresight.newest is None  # what an epoch takes without its work, nobody knows yet
    run.close()
    run.epoch_at_s = run.at_s
    run.at_s += 2.0
    run.close()
    told = run.seen()
    assert told.epochs_seen == 12
    assert told.epoch_s == pytest.approx(2.0)
    assert told.remaining_duration_s == pytest.approx(8 * 2.0 + 4 * 6.0)
