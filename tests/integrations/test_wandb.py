"""W&B's own client, offline: figures join its rows, and steps stay the training's."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import UsageError, sync

wandb = pytest.importorskip("wandb", reason="W&B is not here: pip install 'aiocarbon[wandb]'")
pytestmark = [pytest.mark.sinks, pytest.mark.filterwarnings("ignore")]

from aiocarbon.integrations.wandb import WandbSink  # noqa: E402  # there is none without W&B

KNOWN: dict[str, Any] = {
    "location": "DK",
    "pue": 1.0,
    "intensity": 100.0,
    "interval_s": 0.02,
    "meters": "simulated:250",
}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True)
    run = wandb.init(project="carbon", mode="offline", dir=str(tmp_path), settings=settings)
    yield run
    run.finish()


def records(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, which W&B's is behind 7 bytes of its own: blocks of 32 KiB."""
    at, parts = 7, b""
    while at + 7 <= len(data):
        if 0x8000 - at % 0x8000 < 7:
            at += 0x8000 - at % 0x8000
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if kind == 0 or at + 7 + length > len(data):
            return
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def rows(run: Any) -> list[dict[str, Any]]:
    """The rows of a run that W&B wrote; its service writes them in a process of its own, behind `finish`."""
    from wandb.proto import wandb_internal_pb2

    file, has_ended, found = next(Path(run.dir).parent.glob("*.wandb")), False, []
    while not has_ended:
        time.sleep(0.01)
        found = []
        for data in records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            has_ended = has_ended or record.WhichOneof("record_type") == "exit"
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                found.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
    return found


def test_figures_join_the_training_s_own_rows_and_leave_its_steps(run: Any) -> None:
    tracker = sync.Tracker(epochs=3, **KNOWN)
    with WandbSink(tracker, run, every_s=0.02) as sink, tracker:
        for step, _ in enumerate(tracker.epochs(3)):
            before = sink.sent
            while sink.sent == before:
                time.sleep(0.01)
            run.log({"loss": 0.5}, step=10 * step)
    run.finish()
    written = rows(run)
    assert [row["_step"] for row in written if "loss" in row] == [0, 10, 20]
    assert any("carbon/co2eq_g" in row and "loss" in row for row in written)
    newest = [row["carbon/co2eq_g"] for row in written if "carbon/co2eq_g" in row][-1]
    assert newest == pytest.approx(tracker.report().co2eq_g)


def test_rows_of_its_own_where_that_is_wanted(run: Any) -> None:
    tracker = sync.Tracker(epochs=3, **KNOWN)
    with WandbSink(tracker, run, commit=True, every_s=0.02), tracker:
        for _ in tracker.epochs(3):
            time.sleep(0.03)
    run.finish()
    written = rows(run)
    told = [(row["carbon/epoch"], row["carbon/epoch_energy_kwh"]) for row in written if "carbon/epoch" in row]
    assert told == [(e.index, pytest.approx(e.energy_kwh)) for e in tracker.report().epochs]


def test_a_run_that_is_finished_is_told(run: Any) -> None:
    tracker = sync.Tracker(**KNOWN)
    with WandbSink(tracker, run, every_s=60.0) as sink, tracker:
        run.finish()
    assert sink.sent == 0
    assert any("W&B refuses figures" in note for note in tracker.report().warnings)


def test_where_no_run_is_active_one_must_be_given() -> None:
    if wandb.run is None:
        with pytest.raises(UsageError, match=r"wandb\.init"):
            WandbSink(sync.Tracker(**KNOWN))
