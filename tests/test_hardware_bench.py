"""The comparison on a real GPU, run on a made one: all ways to read it say the same of a power that does not change."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks import hardware
from benchmarks.contenders import made
from benchmarks.hardware import COUNTER, POWER, SMI, WAYS, ZEUS, joules_of, rows_of

S = 1_000_000_000
SMI_SCRIPT = """#!/bin/sh
while :; do printf '0, 150.00\\n1, 250.00\\n'; sleep 0.1; done
"""


def test_all_ways_agree_on_gpus_that_draw_the_same_all_the_time(tmp_path: Path) -> None:
    library, why = made.library()
    if library is None:
        pytest.skip(why)
    text = "gpu NVIDIA H100\nwave 0 const 150\ngpu NVIDIA H100\nwave 0 const 250\n"
    environ = made.gpus(library, text, tmp_path)
    (tmp_path / "tools" / "nvidia-smi").write_text(SMI_SCRIPT)
    found = hardware.measured(environ, rounds=1)
    rows = {row.metric: row for row in rows_of(found)}
    seconds = (found["end_ns"] - found["begin_ns"]) / S
    for way in (COUNTER, *(way for way in WAYS if way != ZEUS)):
        assert rows[way].value == pytest.approx(400.0 * seconds, rel=0.03), way
    assert rows[f"{hardware.OURS}: away from the counter"].ok
    assert "NVIDIA H100, NVIDIA H100" in rows[COUNTER].note


def test_without_a_gpu_its_one_row_says_so() -> None:
    library = os.environ.get("LD_LIBRARY_PATH", "")
    found = hardware.measured({**os.environ, "LD_LIBRARY_PATH": library}, rounds=1)
    if not found["why"]:
        pytest.skip("there is a GPU here")
    (row,) = rows_of(found)
    assert row.value is None
    assert "no NVIDIA GPU here" in row.note


def window(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "why": "", "whys": {ZEUS: "not installed"}, "gpus": ["g"], "load": "a load", "begin_ns": S, "end_ns": 3 * S,
        "counter_j": 200.0, "ours_j": 201.0, "zeus_j": None,
        "logs": {POWER: {"0": [[0, 100.0], [4 * S, 100.0]]}, SMI: {}},
    }  # fmt: skip
    return made | changes


def test_what_a_way_cannot_tell_is_a_row_with_its_reason() -> None:
    rows = {row.metric: row for row in rows_of(window())}
    assert rows[POWER].value == pytest.approx(200.0)
    assert (rows[SMI].value, rows[SMI].note) == (None, "told nothing")
    assert (rows[ZEUS].value, rows[ZEUS].note) == (None, "not installed")
    assert rows["aiocarbon: away from the counter"].value == pytest.approx(0.5)


def test_without_a_counter_nothing_is_judged() -> None:
    rows = rows_of(window(counter_j=None))
    assert rows[0].value is None
    assert all(row.ok is None for row in rows)


def test_a_power_is_integrated_over_the_window_alone() -> None:
    ramp = [(0, 0.0), (2 * S, 200.0), (4 * S, 200.0)]
    assert joules_of(ramp, S, 3 * S) == pytest.approx(150.0 + 200.0)
    assert math.isclose(joules_of(ramp, 0, 4 * S) or 0.0, 600.0)


def test_samples_that_do_not_hold_the_window_tell_nothing() -> None:
    assert joules_of([], 0, 1) is None
    assert joules_of([(5, 1.0), (9, 1.0)], 4, 8) is None
    assert joules_of([(5, 1.0), (9, 1.0)], 6, 10) is None
