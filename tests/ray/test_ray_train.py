"""Trainings of Ray Train on two nodes of known simulated watts: reports have the figures of the workers' nodes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from aiocarbon import Budget, BudgetExceededError
from aiocarbon._core.units import J_PER_KWH, kwh_from_j
from aiocarbon.journal import load

ray: Any = pytest.importorskip("ray", reason="needs the extra ray: pip install 'aiocarbon[ray]'")
train: Any = pytest.importorskip("ray.train", reason="needs Ray Train: pip install 'ray[train]'", exc_type=ImportError)

from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer  # noqa: E402  # it is not there without Ray

from aiocarbon.integrations.ray import ClusterTracker  # noqa: E402
from aiocarbon.integrations.ray_train import CarbonCallback, TotalsCallback  # noqa: E402

INTERVAL_S = 0.2

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240), pytest.mark.filterwarnings("default")]


def loop(config: dict[str, Any]) -> None:
    """Some reports; the first try fails where that is asked for."""
    rank = train.get_context().get_world_rank()
    failed = Path(config["folder"]) / "failed"
    for i in range(config["reports"]):
        time.sleep(0.4)
        if i == config.get("fails_at") and not failed.exists():
            if rank == 0:
                failed.touch()
            raise RuntimeError("this try fails")
        with tempfile.TemporaryDirectory() as name:
            saved = train.Checkpoint.from_directory(name) if rank == 0 else None
            train.report({"loss": 1.0 / (i + 1)}, checkpoint=saved)


def fitted(folder: Path, name: str, callbacks: list[Any], **config: Any) -> Any:
    """What becomes of a training of one worker on the second node."""
    scaling = train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1, "n2": 1})
    run = train.RunConfig(
        name=name,
        storage_path=str(folder / "storage"),
        callbacks=callbacks,
        failure_config=train.FailureConfig(max_failures=1),
    )
    config = {"folder": str(folder), "reports": 4, **config}
    return DataParallelTrainer(loop, train_loop_config=config, scaling_config=scaling, run_config=run).fit()


def test_reports_have_what_the_workers_nodes_used_over_all_tries(
    two_nodes: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Ray reads it from the environment of the driver: that is what is tested.
    monkeypatch.setenv("RAY_TRAIN_CALLBACKS", "aiocarbon.integrations.ray_train.CarbonCallback")
    monkeypatch.setenv("AIOCARBON_EPOCHS", "6")
    monkeypatch.setenv("AIOCARBON_JOURNAL", str(tmp_path))
    result = fitted(two_nodes.folder, "retried", [CarbonCallback(epochs=6, journal=tmp_path)], fails_at=2)
    used = result.metrics
    assert used["loss"] == pytest.approx(0.25)
    # The node of the worker, not the other one; and two callbacks at once count once.
    coverage = used["carbon/coverage"]  # the node's meter begins behind the worker on a busy machine
    assert coverage > 0.8
    assert used["carbon/power_w"] == pytest.approx(two_nodes.watts["n2"] * coverage, rel=5e-3)
    assert used["carbon/age_s"] < 10.0
    rows = result.metrics_dataframe["carbon/energy_kwh"].dropna()
    assert rows.is_monotonic_increasing
    assert used["carbon/predicted_energy_kwh"] == pytest.approx(used["carbon/energy_kwh"], rel=1e-6)  # all 6 are done
    # The cluster's own report is in the journal.
    (run,) = load(tmp_path).runs
    node = {node.host: (node.it_energy_kwh or 0.0) * J_PER_KWH for node in run.nodes}
    assert used["carbon/it_energy_kwh"] * J_PER_KWH <= node["n2"] * 1.001
    assert node["n1"] == pytest.approx(two_nodes.watts["n1"] * run.duration_s, rel=0.2)


def test_the_public_callback_tells_what_the_cluster_has_used_and_ends_the_training_on_its_budget(
    two_nodes: Any,
) -> None:
    folder = two_nodes.folder
    limit_j = 2.5 * sum(two_nodes.watts.values())

    async def main() -> tuple[Any, Any]:
        async with ClusterTracker(name="totals", journal=folder / "totals", interval_s=INTERVAL_S) as cluster:
            callback = Told(folder, budget=Budget(energy_kwh=kwh_from_j(limit_j)))
            try:
                await run_sync(lambda: fitted(folder, "totals", [callback], reports=200))
            except train.ControllerError as error:
                return error, await cluster.snapshot()
        raise AssertionError("the budget has not ended it")

    error, run = anyio.run(main)
    assert isinstance(error.controller_failure, BudgetExceededError)
    assert "energy budget" in str(error)
    told = [dict(zip(row[::2], map(float, row[1::2]), strict=True)) for row in rows_of(folder)]
    known = [row for row in told if "carbon/it_energy_kwh" in row]
    assert known
    # As much as all meters say, from where the tracker was entered.
    for row in known:
        joules = row["carbon/it_energy_kwh"] * J_PER_KWH
        watts = sum(two_nodes.watts.values())  # live figures of a node may be some seconds old
        assert joules == pytest.approx(watts * row["carbon/duration_s"], rel=0.05, abs=3.0 * watts)
    assert known[-1]["carbon/it_energy_kwh"] <= run.it_energy_kwh


def rows_of(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "told").read_text(encoding="utf-8").splitlines()]


class Told(TotalsCallback):
    """Writes down what reports have got."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.folder = folder

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        try:
            super().after_report(run_context, metrics, checkpoint)
        finally:
            with (self.folder / "told").open("a", encoding="utf-8") as file:
                found = {key: value for key, value in metrics[0].items() if key.startswith("carbon/")}
                file.write(" ".join(f"{key} {value!r}" for key, value in found.items()) + "\n")


def test_a_hook_never_raises_into_the_training() -> None:
    callback = CarbonCallback()
    with pytest.warns(RuntimeWarning, match="the training goes on"):
        callback.after_worker_group_start(None)
    metrics: list[dict[str, Any]] = [{"loss": 1.0}]
    callback.after_report(None, metrics)
    callback.before_worker_group_shutdown(None)
    callback.before_worker_group_abort(None)
    anyio.run(callback.before_controller_shutdown)
    assert metrics == [{"loss": 1.0}]
