"""A command that marks epochs, inside a tracker that was put around it: one run, whose epochs hold their joules."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from aiocarbon.journal import load
from aiocarbon.sync import Tracker

J_PER_KWH = 3.6e6


@pytest.mark.parametrize("is_inner_first", [True, False])
def test_what_both_counted_is_told_by_who_knows_its_epoch(tmp_path: Path, is_inner_first: bool) -> None:
    def tracker() -> Tracker:
        return Tracker(meters="simulated:250", location="DK", journal=tmp_path, run_id="r")

    first, second = tracker(), tracker()
    inner, outer = (first, second) if is_inner_first else (second, first)
    with outer:
        time.sleep(0.1)
        with inner:
            time.sleep(0.1)
            for _ in range(2):
                with inner.epoch():
                    time.sleep(0.15)
            time.sleep(0.1)
    (run,) = load(tmp_path).runs
    assert run.it_energy_kwh * J_PER_KWH == pytest.approx(250.0 * run.duration_s, rel=0.005)
    assert [epoch.index for epoch in run.epochs] == [0, 1]
    for epoch, live in zip(run.epochs, inner.report().epochs, strict=True):
        assert epoch.it_energy_kwh == pytest.approx(live.it_energy_kwh, rel=0.005)
    parts = [*run.epochs, run.outside]
    assert sum(part.it_energy_kwh for part in parts) == pytest.approx(run.it_energy_kwh, rel=1e-9)
