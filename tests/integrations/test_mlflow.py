"""MLflow's own client and store: figures arrive in its runs; a server that is not there costs the training nothing."""

from __future__ import annotations

import socket
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import UsageError, sync

mlflow = pytest.importorskip("mlflow", reason="MLflow is not here: pip install 'aiocarbon[mlflow]'")
# MLflow and what it loads warn of their own ways.
pytestmark = [pytest.mark.sinks, pytest.mark.filterwarnings("ignore")]

from aiocarbon.integrations.mlflow import MlflowSink  # noqa: E402  # there is none without MLflow

KNOWN: dict[str, Any] = {
    "location": "DK",
    "pue": 1.0,
    "intensity": 100.0,
    "interval_s": 0.02,
    "meters": "simulated:250",
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    # MLflow reads these when it is called; there is no other way to tell its file store that it is wanted.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "mlruns").as_uri()
    mlflow.set_tracking_uri(uri)
    return uri


def test_epochs_and_totals_stand_in_the_run(store: str) -> None:
    tracker = sync.Tracker(epochs=3, **KNOWN)
    with mlflow.start_run() as run, MlflowSink(tracker, every_s=0.02, devices=True, spans=True), tracker:
        for _ in tracker.epochs(3):
            with tracker.span("roll out/1"):
                time.sleep(0.03)
        mlflow.log_metric("loss", 0.5, step=1)
    report, client = tracker.report(), mlflow.MlflowClient()
    figures = client.get_run(run.info.run_id).data.metrics
    assert figures["carbon/co2eq_g"] == report.co2eq_g
    assert figures["carbon/energy_kwh"] == report.energy_kwh
    assert figures["carbon/device/simulated-0/power_w"] == pytest.approx(250, rel=0.05)
    assert figures["carbon/span/roll_out_1/energy_kwh"] == pytest.approx(report.spans[0].energy_kwh)
    assert figures["loss"] == 0.5
    epochs = client.get_metric_history(run.info.run_id, "carbon/epoch_energy_kwh")
    assert [(m.step, m.value) for m in epochs] == [(e.index, e.energy_kwh) for e in report.epochs]
    newest = client.get_metric_history(run.info.run_id, "carbon/energy_kwh")[-1]
    assert newest.timestamp == round(report.as_of.timestamp() * 1000)


def test_where_no_run_is_active_one_must_be_named(store: str) -> None:
    with pytest.raises(UsageError, match="start_run"):
        MlflowSink(sync.Tracker(**KNOWN))


def test_a_server_that_accepts_and_never_answers_does_not_hold_the_training(store: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        tracker = sync.Tracker(**KNOWN)
        with MlflowSink(tracker, "a" * 32, tracking_uri=uri, every_s=0.02, close_s=0.05) as sink, tracker:
            for _ in tracker.epochs(2):
                time.sleep(0.03)
    assert sink.sent == 0
    assert tracker.report().epochs_total == 2
    assert any("MLflow did not take" in note for note in tracker.report().warnings)


def test_a_run_that_is_not_there_is_told(store: str) -> None:
    tracker = sync.Tracker(**KNOWN)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with MlflowSink(tracker, "b" * 32, every_s=0.02) as sink, tracker:
            time.sleep(0.05)
    assert sink.sent == 0
    assert any("MLflow refuses figures (MlflowException)" in note for note in tracker.report().warnings)
