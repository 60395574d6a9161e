"""A run that is killed by SIGKILL again and again, at any moment, and resumed each time: `benchmarks/durability.py`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks import durability

pytestmark = pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="compares clocks of two processes")

CHAINS = 4
KILLS = 5
MOST_W = 400.0
LOST_MOST_S = 1.0


@pytest.mark.parametrize("seed", range(CHAINS))
def test_twenty_kills_leave_a_whole_run_that_counts_nothing_twice(tmp_path: Path, seed: int) -> None:
    found = durability.chain(tmp_path, KILLS, seed, interval_s=0.1, lives_s=(0.2, 1.5))
    assert found.kills == KILLS
    assert all(lost_s <= LOST_MOST_S for lost_s in found.lost_s)
    assert found.excess_s <= 0.02
    assert (found.twice, found.lost_epochs) == (0, 0)
    # What was read is there, once; of each life the time since its last reading may lack.
    assert found.true_j - MOST_W * LOST_MOST_S * KILLS < found.told_j < found.true_j * 1.005 + 1.0
    assert found.live_j == pytest.approx(found.told_j, rel=1e-3)


def test_a_loss_and_a_double_count_are_seen(tmp_path: Path) -> None:
    good = durability.Verdict(kills=1, begun=1, lost_s=[0.5], told_j=100.0, true_j=100.1, live_j=100.0)
    bad = durability.Verdict(
        kills=1, begun=1, lost_s=[1.5], excess_s=0.1, told_j=150.0, true_j=100.0, live_j=100.0, twice=1, lost_epochs=1
    )
    assert all(row.ok is not False for row in durability.rows([good]))
    assert sum(row.ok is False for row in durability.rows([good, bad])) == 6
