"""TensorBoard's event files, written by tensorboardX and read by TensorBoard's own reader."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import sync
from aiocarbon.integrations.tensorboard import TensorBoardSink

pytest.importorskip("tensorboardX", reason="tensorboardX is not here: pip install 'aiocarbon[tensorboard]'")
events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
pytestmark = [pytest.mark.sinks, pytest.mark.filterwarnings("ignore")]

KNOWN: dict[str, Any] = {
    "location": "DK",
    "pue": 1.0,
    "intensity": 100.0,
    "interval_s": 0.02,
    "meters": "simulated:250",
}


def read(folder: Path) -> Any:
    found = events.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


def test_epochs_and_totals_stand_in_the_folder(tmp_path: Path) -> None:
    tracker = sync.Tracker(epochs=3, **KNOWN)
    with TensorBoardSink(tracker, tmp_path, every_s=0.02), tracker:
        for _ in tracker.epochs(3):
            time.sleep(0.03)
    report, found = tracker.report(), read(tmp_path)
    totals, epochs = found.Scalars("carbon/co2eq_g"), found.Scalars("carbon/epoch_energy_kwh")
    assert totals[-1].value == pytest.approx(report.co2eq_g, rel=1e-6)  # 32 bits
    assert totals[-1].wall_time == pytest.approx(report.as_of.timestamp(), abs=1e-3)
    assert [event.step for event in epochs] == [0, 1, 2]
    assert [event.value for event in epochs] == pytest.approx([e.energy_kwh for e in report.epochs], rel=1e-6)


def test_one_s_own_writer_stays_open(tmp_path: Path) -> None:
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        tracker = sync.Tracker(**KNOWN)
        with TensorBoardSink(tracker, writer, every_s=0.02), tracker:
            writer.add_scalar("loss", 0.5, 1)
            time.sleep(0.03)
        writer.add_scalar("loss", 0.25, 2)
    assert [event.value for event in read(tmp_path).Scalars("loss")] == [0.5, 0.25]


def test_a_disk_that_is_full_is_told() -> None:
    class Full:
        def add_scalar(self, *_: Any) -> None:
            raise OSError(28, "No space left on device")

        flush = add_scalar

    tracker = sync.Tracker(**KNOWN)
    with TensorBoardSink(tracker, Full(), every_s=0.02) as sink, tracker:
        time.sleep(0.05)
    assert sink.sent == 0
    assert any("TensorBoard refuses figures (OSError)" in note for note in tracker.report().warnings)
