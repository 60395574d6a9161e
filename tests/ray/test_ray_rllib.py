"""An algorithm of RLlib, alone and as a trial of Tune: its results have the figures of its nodes, once."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

import aiocarbon
from aiocarbon import Budget
from aiocarbon._core.units import J_PER_KWH, kwh_from_j

ray: Any = pytest.importorskip("ray", reason="needs the extra ray: pip install 'aiocarbon[ray]'")
pytest.importorskip("torch", reason="needs what RLlib trains with: pip install torch", exc_type=ImportError)
ppo: Any = pytest.importorskip(
    "ray.rllib.algorithms.ppo", reason="needs RLlib: pip install 'ray[rllib]'", exc_type=ImportError
)

from ray import tune  # noqa: E402  # it is not there without Ray

from aiocarbon.integrations import ray_tune  # noqa: E402
from aiocarbon.integrations.ray_rllib import CarbonCallback  # noqa: E402

ROOT = str(Path(aiocarbon.__file__).parents[1])
WATTS = 100.0
SETTINGS: dict[str, Any] = {
    "meters": f"simulated:{WATTS}", "interval_s": 0.2, "location": "DK", "pue": 1.0, "offline": True
}  # fmt: skip

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240), pytest.mark.filterwarnings("default")]


class Measured(CarbonCallback):
    settings: ClassVar[Mapping[str, Any]] = {**SETTINGS, "epochs": 2}


class Limited(CarbonCallback):
    settings: ClassVar[Mapping[str, Any]] = {**SETTINGS, "budget": Budget(energy_kwh=kwh_from_j(1.0))}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # A short path: Ray's sockets lie in folders below its own, and theirs may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="acl-", ignore_cleanup_errors=True) as name:
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        environ = {"PYTHONPATH": ROOT, "AIOCARBON_CACHE": "none"}
        try:
            ray.init(
                address="local",
                num_cpus=3,
                include_dashboard=False,
                log_to_driver=False,
                runtime_env={"env_vars": environ},
            )
            yield Path(name)
        finally:
            ray.shutdown()


def config(callback: type[CarbonCallback]) -> Any:
    base = ppo.PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=1)
    return base.training(train_batch_size_per_learner=200, num_epochs=1).callbacks(callback)


def power_w(used: dict[str, Any]) -> float:
    """Mean power of what was measured: a node's meter may begin behind the training, as on a busy machine."""
    return float(used["carbon/power_w"] / used["carbon/coverage"])


def test_results_tell_what_the_algorithm_used_and_it_is_done_on_its_budget(folder: Path) -> None:
    algorithm = config(Measured).build_algo()
    results = [algorithm.train() for _ in range(2)]
    algorithm.stop()
    for result in results:
        assert power_w(result) == pytest.approx(WATTS, rel=5e-3)
        assert "carbon/budget_exceeded" not in result
    first, last = results
    assert 0.0 < first["carbon/energy_kwh"] < last["carbon/energy_kwh"]
    assert first["carbon/predicted_energy_kwh"] > first["carbon/energy_kwh"]
    assert last["carbon/predicted_energy_kwh"] == pytest.approx(last["carbon/energy_kwh"])
    # One that has ended does not share with those after it.
    algorithm = config(Limited).build_algo()
    result = algorithm.train()
    algorithm.stop()
    assert power_w(result) == pytest.approx(WATTS, rel=5e-3)
    assert result["carbon/budget_exceeded"] == 1.0
    assert result["done"]


def test_as_a_trial_of_tune_it_is_that_trial(folder: Path) -> None:
    callback = ray_tune.CarbonCallback(**SETTINGS)
    run = tune.RunConfig(storage_path=str(folder), callbacks=[callback], stop={"training_iteration": 2}, verbose=0)
    (result,) = tune.Tuner(ppo.PPO, param_space=config(Measured), run_config=run).fit()
    assert result.error is None
    used = result.metrics
    assert used["training_iteration"] == 2
    assert power_w(used) == pytest.approx(WATTS, rel=5e-3)
    assert used["carbon/it_energy_kwh"] * J_PER_KWH == pytest.approx(used["carbon/power_w"] * used["carbon/duration_s"])
    assert callback.report is not None
    assert used["carbon/it_energy_kwh"] <= callback.report.it_energy_kwh * 1.001


def test_a_hook_never_raises_into_the_training() -> None:
    callback = CarbonCallback()
    with pytest.warns(RuntimeWarning, match="the training goes on"):
        callback.on_train_result(algorithm=None, result=None)
