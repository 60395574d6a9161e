"""Machines by their nodes' names: several under one boot id are apart, and one that some do not say is still one."""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from aiocarbon.journal import load
from aiocarbon.sync import Tracker

J_PER_KWH = 3.6e6


def tracked(folder: Path, *nodes: str | None) -> None:
    """Trackers of one device over one time, each with what it is told of its node."""
    with ExitStack() as stack:
        for node in nodes:
            settings = {} if node is None else {"node": node}
            stack.enter_context(Tracker(meters="simulated:250", location="DK", journal=folder, **settings))
        time.sleep(0.3)


@pytest.mark.parametrize(
    ("nodes", "machines"),
    [((None, None), 1), (("a", "a"), 1), (("a", None), 1), (("a", None, "a"), 1), (("a", "b"), 2)],
)
def test_a_machine_counts_once_whoever_knows_its_name(
    tmp_path: Path, nodes: tuple[str | None, ...], machines: int
) -> None:
    tracked(tmp_path, *nodes)
    files = list(tmp_path.rglob("*.jsonl"))
    for _ in range(3):
        random.Random(len(files)).shuffle(files)
        loaded = load(*files)
        seconds = loaded.total.duration_s if machines == 1 else sum(run.duration_s for run in loaded.runs)
        assert loaded.total.it_energy_kwh * J_PER_KWH == pytest.approx(250.0 * seconds, rel=0.02)
