"""Trials of Ray Tune on two nodes of known simulated watts: results have their figures, a budget ends a trial."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import aiocarbon
from aiocarbon import Budget
from aiocarbon._core.units import J_PER_KWH, kwh_from_j
from aiocarbon.errors import ConfigError

ray: Any = pytest.importorskip("ray", reason="needs the extra ray: pip install 'aiocarbon[ray]'")
tune: Any = pytest.importorskip("ray.tune", reason="needs Ray Tune: pip install 'ray[tune]'", exc_type=ImportError)

from aiocarbon.integrations._ray_link import Training, _handles  # noqa: E402  # it is not there without Ray
from aiocarbon.integrations.ray_tune import CarbonCallback  # noqa: E402

ROOT = str(Path(aiocarbon.__file__).parents[1])
INTERVAL_S = 0.2
LIMIT_J = 300.0
MOST = 200
NOTHING = contextlib.nullcontext()

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240), pytest.mark.filterwarnings("default")]


def train(config: dict[str, Any]) -> None:
    trial = config["trial"]
    for i in range(trial["results"]):
        time.sleep(0.25)
        if i == trial.get("fails_at"):
            raise RuntimeError("this trial fails")
        tune.report({"loss": 1.0 / (i + 1)})


def fitted(folder: Path, name: str, trials: list[dict[str, Any]], callbacks: list[Any], **run: Any) -> list[Any]:
    """The results of trials, each on the node that it names."""
    tuner = tune.Tuner(
        tune.with_resources(train, lambda config: {"cpu": 0.5, config["trial"]["node"]: 1}),
        param_space={"trial": tune.grid_search(trials)},
        run_config=tune.RunConfig(name=name, storage_path=str(folder), callbacks=callbacks, verbose=0, **run),
    )
    by_config = {str(result.config["trial"]): result for result in tuner.fit()}
    return [by_config[str(trial)] for trial in trials]


def joules(metrics: dict[str, Any]) -> float:
    return float(metrics["carbon/it_energy_kwh"] * J_PER_KWH)


# -- on the cluster ------------------------------------------------------------------------------------------------


def test_each_trial_has_its_part_and_ends_on_its_budget(two_nodes: Any) -> None:
    callback = CarbonCallback(name="parts", interval_s=INTERVAL_S, budget=Budget(energy_kwh=kwh_from_j(LIMIT_J)))
    spends, ends, fails = fitted(
        two_nodes.folder,
        "parts",
        [
            {"node": "n1", "results": MOST},
            {"node": "n2", "results": 3},
            {"node": "n2", "results": 3, "fails_at": 2},
        ],
        [callback],
    )
    # A trial alone on a node has all that the node uses.
    coverage = spends.metrics["carbon/coverage"]  # the node's meter begins behind the trial on a busy machine
    assert coverage > 0.8
    assert spends.metrics["carbon/power_w"] == pytest.approx(two_nodes.watts["n1"] * coverage, rel=5e-3)
    assert joules(spends.metrics) > 0.9 * LIMIT_J  # or its prediction is above it
    assert spends.metrics["carbon/budget_exceeded"] == 1.0
    assert spends.metrics["training_iteration"] < MOST
    assert spends.error is None
    # Those that share a node share what it uses.
    assert ends.metrics["training_iteration"] == 3
    assert "this trial fails" in str(fails.error)
    together = joules(ends.metrics) + joules(fails.metrics)
    for result in (ends, fails):
        duration_s = result.metrics["carbon/duration_s"]
        assert (
            0.49 * two_nodes.watts["n2"] * duration_s
            <= joules(result.metrics)
            <= 1.005 * two_nodes.watts["n2"] * duration_s
        )
    # No joule is told twice, and all that is told the tracker has.
    run = callback.report
    assert run is not None
    by_node = {node.host: (node.it_energy_kwh or 0.0) * J_PER_KWH for node in run.nodes}
    assert together <= by_node["n2"] * 1.001
    assert joules(spends.metrics) <= by_node["n1"] * 1.001
    assert by_node["n1"] == pytest.approx(two_nodes.watts["n1"] * run.duration_s, rel=0.2)
    # Each result has figures as they were then.
    rows = spends.metrics_dataframe
    used = rows["carbon/energy_kwh"].dropna()
    assert len(used) >= 2
    assert used.is_monotonic_increasing
    assert rows["carbon/age_s"].max() < 10.0
    assert not any(
        key.startswith("carbon/predicted_energy") for key in spends.metrics
    )  # nobody said how many there are


def test_without_code_and_beside_another_callback_no_joule_counts_twice(
    two_nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray reads it from the environment of the driver: that is what is tested.
    monkeypatch.setenv("RAY_TUNE_CALLBACKS", "aiocarbon.integrations.ray_tune.CarbonCallback")
    callback = CarbonCallback(interval_s=INTERVAL_S)
    stop = {"training_iteration": 4}
    (result,) = fitted(two_nodes.folder, "two", [{"node": "n2", "results": 6}], [callback], stop=stop)
    assert result.metrics["training_iteration"] == 4
    covered_s = result.metrics["carbon/duration_s"] * result.metrics["carbon/coverage"]
    assert joules(result.metrics) == pytest.approx(two_nodes.watts["n2"] * covered_s, rel=5e-3)
    assert "carbon/budget_exceeded" not in result.metrics
    assert not any(key.startswith("carbon/remaining_") for key in result.metrics)
    predicted = result.metrics_dataframe["carbon/predicted_energy_kwh"].dropna()
    used = result.metrics_dataframe["carbon/energy_kwh"].dropna()
    assert predicted.iloc[0] > used.iloc[0]
    assert predicted.iloc[-1] == pytest.approx(used.iloc[-1])  # nothing was left
    assert _handles == {}  # Ray ends the accountant


# -- without a cluster ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["ray_tune", "ray_train", "ray_rllib"])
def test_without_ray_the_import_says_which_extra_to_install(module: str) -> None:
    code = f"import sys; sys.modules['ray'] = None\nimport aiocarbon.integrations.{module}"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert told.returncode
    assert f"ImportError: aiocarbon.integrations.{module} needs Ray: pip install 'aiocarbon[ray]'" in told.stderr


def test_without_a_part_of_ray_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['ray.tune'] = None\nimport aiocarbon.integrations.ray_tune"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "pip install 'aiocarbon[ray]' 'ray[tune]'" in told.stderr


@pytest.mark.parametrize("wrong", [{"budget": 3}, {"interval_s": -1}, {"meters": [object()]}, {"nonsense": 3}])
def test_a_wrong_setting_is_refused_before_anything_begins(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CarbonCallback(**wrong)


def test_a_hook_never_raises_into_the_tuning() -> None:
    callback = CarbonCallback()
    for hook in ("on_trial_start", "on_trial_result", "on_trial_complete", "on_trial_error", "on_trial_recover"):
        more = {"result": {}} if hook == "on_trial_result" else {}
        with pytest.warns(RuntimeWarning, match="the training goes on") if hook == "on_trial_start" else NOTHING:
            getattr(callback, hook)(iteration=0, trials=[], trial=None, **more)
    callback.on_step_end(iteration=0, trials=[])
    callback.on_experiment_end(trials=[])


def test_an_accountant_that_does_not_answer_is_not_waited_for() -> None:
    callback = CarbonCallback()
    link = callback._link
    link._accountant = object()  # it is never asked again while a question is open
    link.trainings["t"] = Training(opened={}, asked=Future())
    for _ in range(100):
        assert link.mark("t") == {}
    assert link._waited_s < 1.0  # of the 5 s that a hundred waits would be


def test_to_another_process_go_its_settings_and_nothing_else() -> None:
    callback = CarbonCallback(budget=Budget(co2eq_g=3.0), epochs=5, name="x")
    callback._link.trainings["t"] = Training(opened={})
    copy = pickle.loads(pickle.dumps(callback))
    assert (copy._link.budget, copy._link.settings, copy._epochs) == (Budget(co2eq_g=3.0), {"name": "x"}, 5)
    assert copy._link.trainings == {}
