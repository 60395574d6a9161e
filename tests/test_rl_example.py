"""The asynchronous reinforcement learning learns, its parts make what the meters said, and it ends as it should."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from aiocarbon import Tracker
from aiocarbon._core.report import Prediction, RunReport
from benchmarks.workloads.ahead import Ahead, ahead
from benchmarks.workloads.cartpole import MAX_STEPS, CartPole, Stepped, pushed
from benchmarks.workloads.costs import Cost, Costs, amount, costs, table
from benchmarks.workloads.policy import (
    CLIP,
    ENTROPY,
    SCALE,
    VALUE_SCALE,
    Learner,
    Player,
    Policy,
    Rollout,
    advantages,
    first_returns,
    gradients,
    log_softmax,
)
from benchmarks.workloads.rl import Teller, Told, main
from benchmarks.workloads.training import Plan, Progress, Training, Untracked

ROOT = Path(__file__).resolve().parents[1]
RANDOM_RETURN = 23.0
"""Of a policy that pushes at random: 22.2 in 10,000 episodes."""


# -- the task ------------------------------------------------------------------------------------------------------

AS_GYMNASIUM = (  # gymnasium 1.4.0, CartPole-v1 set to (0.01, -0.02, 0.03, 0.04), after each of some actions
    (1, 0.009600000000000001, 0.17467919574755525, 0.030799999999999998, -0.2430687179600081),
    (1, 0.013093583914951107, 0.3693479760579556, 0.025938625640799837, -0.5258796280501483),
    (0, 0.02048054343611022, 0.17387081260481596, 0.01542103307979687, -0.22513741609237464),
    (1, 0.02395795968820654, 0.3687690101747617, 0.010918284757949377, -0.5129163478026587),
    (0, 0.03133333989170178, 0.17349499275068458, 0.0006599578018962032, -0.21681286835696195),
    (0, 0.03480323974671547, -0.021636386741578473, -0.0036762995652430356, 0.07607816471983775),
)


def test_a_cart_moves_as_gymnasiums_does() -> None:
    state = np.array([[0.01, -0.02, 0.03, 0.04]])
    for action, *expected in AS_GYMNASIUM:
        state = pushed(state, np.array([action]))
        assert state[0] == pytest.approx(expected, rel=1e-12)


def test_a_fallen_pole_begins_anew_and_tells_where_it_fell() -> None:
    environment = CartPole(2, np.random.default_rng(0))
    environment.reset()
    stepped = environment.step(np.array([1, 0]))
    while not stepped.terminated.any():
        stepped = environment.step(np.array([1, 0]))
    fallen = int(stepped.terminated.argmax())
    assert abs(stepped.reached[fallen, 2]) > np.deg2rad(12)
    assert (np.abs(stepped.observations[fallen]) <= 0.05).all()
    assert not stepped.truncated.any()


def test_an_episode_whose_time_is_up_has_not_failed() -> None:
    environment = CartPole(1, np.random.default_rng(0))
    observations = environment.reset()
    for count in range(1, MAX_STEPS + 1):
        _, speed, angle, rate = observations[0]
        stepped = environment.step(np.array([int(angle + 0.5 * rate + 0.02 * speed > 0)]))  # balances
        observations = stepped.observations
        assert bool(stepped.truncated[0]) == (count == MAX_STEPS)
        assert not stepped.terminated[0]


# -- the policy ----------------------------------------------------------------------------------------------------


def rollout_of(policy: Policy, seed: int = 0) -> Rollout:
    rng = np.random.default_rng(seed)
    return Player(CartPole(8, rng), rng).play(policy, 32)


def loss(weights: dict, rollout: Rollout, chosen: np.ndarray) -> float:
    """The clipped loss, written down as the paper has it."""
    x = rollout.observations[chosen] / SCALE
    actions = rollout.actions[chosen]
    gain = rollout.advantages[chosen]
    gain = (gain - gain.mean()) / (gain.std() + 1e-8)
    logs = log_softmax(np.tanh(x @ weights["p1"] + weights["pb"]) @ weights["p2"])
    ratio = np.exp(logs[np.arange(len(actions)), actions] - rollout.log_probs[chosen])
    surrogate = np.minimum(ratio * gain, np.clip(ratio, 1 - CLIP, 1 + CLIP) * gain)
    entropy = -(np.exp(logs) * logs).sum(axis=1)
    values = (np.tanh(x @ weights["v1"] + weights["vb"]) @ weights["v2"])[:, 0]
    error = values - rollout.returns[chosen] / VALUE_SCALE
    return float(-surrogate.mean() - ENTROPY * entropy.mean() + 0.5 * (error**2).mean())


@pytest.mark.parametrize("drift", [0.0, 1.0], ids=["its own rollout", "a stale one, clipped"])
def test_gradients_are_those_of_the_clipped_loss(drift: float) -> None:
    rng = np.random.default_rng(3)
    policy = Policy.new(rng, hidden=8)
    rollout = rollout_of(policy)
    weights = {name: w + drift * rng.normal(0, 1, w.shape) for name, w in policy.weights.items()}
    chosen = np.arange(100)
    found = gradients(weights, rollout, chosen)
    for name, gradient in found.items():
        for at in [0, gradient.size // 2, gradient.size - 1]:
            moved = {sign: {k: w.copy() for k, w in weights.items()} for sign in (-1, 1)}
            for sign, copy in moved.items():
                copy[name].flat[at] += sign * 1e-6
            slope = (loss(moved[1], rollout, chosen) - loss(moved[-1], rollout, chosen)) / 2e-6
            assert gradient.flat[at] == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_advantages_stop_at_an_episodes_end() -> None:
    rewards, values = np.ones((3, 1)), np.zeros((3, 1))
    over = np.array([[False], [True], [False]])
    gains, returns = advantages(rewards, values, np.array([10.0]), over)
    assert gains[:, 0] == pytest.approx([1 + 0.99 * 0.95 * 1, 1.0, 1 + 0.99 * 10.0])
    assert (returns == gains).all()


def test_an_update_makes_a_new_policy_and_leaves_the_old_one() -> None:
    policy = Policy.new(np.random.default_rng(0))
    before = {name: w.copy() for name, w in policy.weights.items()}
    learner = Learner(policy, np.random.default_rng(1))
    learner.update(rollout_of(policy))
    assert learner.policy.version == 1
    assert all((policy.weights[name] == before[name]).all() for name in before)
    assert any((learner.policy.weights[name] != before[name]).any() for name in before)


def test_a_policy_that_has_learnt_nothing_plays_like_chance() -> None:
    rng = np.random.default_rng(0)
    assert first_returns(Policy.new(rng), CartPole(500, rng), rng).mean() == pytest.approx(RANDOM_RETURN, rel=0.3)


# -- the training and its costs ------------------------------------------------------------------------------------

SHORT = Plan(updates=60, every=20, target=None, poles=16, seed=1)


@pytest.fixture(scope="module")
def run() -> tuple[Progress, RunReport]:
    async def train() -> tuple[Progress, RunReport]:
        async with Tracker(epochs=SHORT.evaluations, meters="simulated:250", pue=1.2) as tracker:
            training = Training(SHORT, tracker)
            assert await training.run()
        return training.progress, tracker.report()

    return asyncio.run(train())


def test_it_learns(run: tuple[Progress, RunReport]) -> None:
    progress, _ = run
    assert progress.learnt == SHORT.updates
    assert [e.version for e in progress.evaluations] == [20, 40, 60]
    assert max(e.mean_return for e in progress.evaluations) > 4 * RANDOM_RETURN
    assert progress.age > 0  # policies that played were stale: it is asynchronous


def test_parts_make_the_whole(run: tuple[Progress, RunReport]) -> None:
    progress, report = run
    found = costs(report, sum(progress.environment_steps))
    assert found.add_up
    assert found.sum_j == pytest.approx(250 * report.duration_s, rel=1e-6)
    assert {part.name for part in found.parts} >= {"rollouts", "updates", "evaluations", "actor-0", "unattributed"}
    assert all(part.energy_j > 0 for part in found.parts if part.count)


def test_actors_make_the_rollouts(run: tuple[Progress, RunReport]) -> None:
    progress, report = run
    rollouts = next(span for span in report.spans if span.name == "rollout")
    assert [child.name for child in report.children] == ["actor-0", "actor-1", "actor-2"]
    assert [child.steps for child in report.children] == progress.environment_steps
    assert sum(child.count for child in report.children) == rollouts.count
    assert sum(child.it_energy_kwh for child in report.children) == pytest.approx(rollouts.it_energy_kwh, rel=1e-9)


def test_each_devices_parts_were_counted_apart_and_make_what_its_meter_said(run: tuple[Progress, RunReport]) -> None:
    _, report = run
    assert report.attribution is not None
    used = {device.id: device.it_energy_kwh for device in report.devices}
    for split in report.attribution.devices:
        parts = split.idle_it_energy_kwh + split.spans_it_energy_kwh + split.rest_it_energy_kwh
        assert parts == pytest.approx(used[split.id], rel=1e-9)
    spans = sum(split.spans_it_energy_kwh for split in report.attribution.devices)
    assert spans == pytest.approx(sum(span.it_energy_kwh for span in report.spans), rel=1e-9)


def test_a_given_idle_floor_is_a_part_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rl.json"
    main(["--updates", "3", "--meters", "simulated:250", "--floor-w", "100", "--json", str(path)])
    assert "idle floor" in capsys.readouterr().out
    result = json.loads(path.read_text())
    idle_kwh = result["report"]["unattributed"]["idle"]["it_energy_kwh"]
    trained_kwh = 100 * result["seconds"] / 3.6e6
    assert trained_kwh * 0.5 < idle_kwh < 100 * result["report"]["duration_s"] / 3.6e6 * 1.01
    assert result["add_up"] is True


@pytest.mark.skipif(sys.platform != "linux", reason="shares of processes are told there")
def test_beside_its_own_share_the_machines_idle_and_other_processes_make_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "rl.json"
    main(["--updates", "20", "--meters", "simulated:250", "--scope", "process", "--json", str(path)])
    result = json.loads(path.read_text())
    report = result["report"]
    assert result["add_up"] is True
    assert report["it_energy_kwh"] < report["scope"]["machine_it_energy_kwh"]
    assert report["scope"]["machine_it_energy_kwh"] * 3.6e6 == pytest.approx(250 * report["duration_s"], rel=1e-6)


def test_an_argument_that_is_not_accepted_is_told_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--meters", "nothing-like-it"]) == 2
    assert "meters='nothing-like-it' is not accepted" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"updates_to_target": 1, "target": 1.0, "actors": 3}'])
def test_what_is_no_earlier_training_of_this_task_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(text)
    assert main(["--earlier", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_what_was_said_first_is_compared_with_what_it_took() -> None:
    teller = Teller(Untracked(), Plan(), [])
    assert teller.hindsight(22.0) == ""
    teller.told.append(Told(20, 10.0, Ahead(most_j=90.0)))
    assert teller.hindsight(22.0) == ""
    teller.told.append(Told(40, 15.0, Ahead(most_j=80.0, low_j=5.0, high_j=9.0, chance=0.5, among=3)))
    teller.told.append(Told(60, 20.0, Ahead(most_j=70.0, low_j=1.0, high_j=2.0, chance=0.5, among=3)))
    assert teller.hindsight(22.0) == "told after update 40: 5 J to 9 J more (50%); it took 7 J"


def test_results_of_other_seeds_are_read_and_once_the_target_is_reached_nothing_is_ahead(tmp_path: Path) -> None:
    files = [tmp_path / f"{seed}.json" for seed in range(3)]
    for path, needed in zip(files, (6, 8, None), strict=True):
        path.write_text(json.dumps({"updates_to_target": needed, "target": 12.0, "actors": 3}))
    path = tmp_path / "rl.json"
    more = ["--target", "12", "--every", "1", "--updates", "50", "--meters", "simulated:250"]
    assert main([*more, "--json", str(path), "--earlier", *map(str, files)]) == 0
    told = json.loads(path.read_text())["told"]  # epochs are so short that a loaded machine may predict none of them
    assert len(told) < 5
    for one in told:
        assert one["ahead"]["among"] == 3
        assert one["ahead"]["low_j"] <= one["ahead"]["high_j"] <= one["ahead"]["most_j"]


def test_spans_are_counted(run: tuple[Progress, RunReport]) -> None:
    progress, report = run
    counts = {span.name: span.count for span in report.spans}
    assert counts["update"] == progress.learnt
    assert counts["evaluation"] == len(progress.evaluations) == report.epochs_total


def test_a_table_says_when_parts_do_not_add_up(run: tuple[Progress, RunReport]) -> None:
    progress, report = run
    found = costs(report, sum(progress.environment_steps))
    assert "NOT" not in table(found)
    more = dataclasses.replace(found.parts[0], energy_j=found.parts[0].energy_j + 1e-6 * found.whole_j)
    assert "NOT THE METERS' TOTAL" in table(Costs((more, *found.parts[1:]), found.whole_j))
    child = Cost(name="actor-9", energy_j=1.0, share=0.0, is_within=True)
    assert not Costs((*found.parts, child), found.whole_j).add_up


@pytest.mark.parametrize(
    ("joules", "text"), [(0.0, "0 J"), (4.2e-5, "42 µJ"), (0.9999, "1 J"), (12.3456, "12.3 J"), (61234.5, "61.2 kJ")]
)
def test_amounts_have_fitting_units(joules: float, text: str) -> None:
    assert amount(joules) == text


# -- ends ----------------------------------------------------------------------------------------------------------


class Broken(CartPole):
    """Fails in the middle of a rollout."""

    def step(self, actions: np.ndarray) -> Stepped:
        if self._steps.max() > 20:
            raise RuntimeError("the simulator broke")
        return super().step(actions)


def test_an_actor_that_fails_ends_the_training_and_what_was_used_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rl.json"
    with pytest.raises(ExceptionGroup) as raised:
        main(["--meters", "simulated:250", "--json", str(path)], make=Broken)
    assert raised.value.subgroup(lambda error: "the simulator broke" in str(error)) is not None
    assert "the meters' total" in capsys.readouterr().out
    result = json.loads(path.read_text())
    assert result["add_up"] is True
    assert result["report"]["is_final"] is True


def test_a_target_that_is_not_reached_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rl.json"
    assert main(["--updates", "5", "--every", "1", "--no-tracker", "--json", str(path)]) == 1
    assert "FAILED" in capsys.readouterr().out
    assert json.loads(path.read_text())["updates_to_target"] is None


def test_a_target_that_is_reached_ends_the_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rl.json"
    assert main(["--target", "12", "--every", "1", "--no-tracker", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    assert result["updates_to_target"] == 5
    assert result["environment_steps"] >= 5 * 32 * 64


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to a child there")
def test_ctrl_c_ends_the_training_with_its_costs(tmp_path: Path) -> None:
    path = tmp_path / "rl.json"
    command = [sys.executable, "-m", "benchmarks.workloads.rl", "--meters", "simulated:250", "--all-updates"]
    command += ["--updates", "100000", "--every", "2", "--json", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("update")
        os.kill(child.pid, signal.SIGINT)
        out, error = child.communicate()
    assert child.returncode == 130, error
    assert "the meters' total" in out
    assert out.rstrip().endswith("interrupted")
    assert "Traceback" not in error
    assert json.loads(path.read_text())["add_up"] is True


# -- what it will cost ---------------------------------------------------------------------------------------------


def predicted(remaining_j: float, *, spread: float = 0.1) -> Prediction:
    kwh = remaining_j / 3.6e6
    return Prediction(
        as_of=datetime.now(UTC),
        is_bounded=True,
        epochs=30,
        epochs_seen=5,
        remaining_energy_kwh=kwh,
        remaining_energy_kwh_low=kwh * (1 - spread),
        remaining_energy_kwh_high=kwh * (1 + spread),
    )


def test_without_earlier_trainings_only_the_most_is_told() -> None:
    known = ahead(predicted(500.0), learnt=100, updates=600, earlier=[200, 300])
    assert known is not None
    assert known.most_j == pytest.approx(550.0)
    assert known.low_j is known.high_j is None
    assert known.to_text(475.0) == "at most 550 J more"


def test_earlier_trainings_that_were_done_by_now_tell_nothing() -> None:
    known = ahead(predicted(500.0), learnt=100, updates=600, earlier=[60, 80, 100, 140, 200, 300, 180])
    assert known is not None
    assert (known.low_j, known.high_j, known.among) == (pytest.approx(36.0), pytest.approx(220.0), 4)
    assert known.chance == pytest.approx(0.9 * 3 / 5)


def test_one_that_never_reached_the_target_makes_the_upper_end_the_most() -> None:
    known = ahead(predicted(500.0), learnt=100, updates=600, earlier=[140, 200, math.inf])
    assert known is not None
    assert known.high_j == pytest.approx(known.most_j)


def test_the_range_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = told = 0
    for _ in range(4000):
        *earlier, truth = rng.lognormal(5.5, 0.4, 8)
        known = ahead(predicted(10_000.0, spread=0.0), learnt=150, updates=10_150, earlier=earlier)
        if truth > 150 and known is not None and known.among == 5:
            told += 1
            held += known.low_j <= truth - 150 <= known.high_j
    assert told > 200
    assert held / told == pytest.approx(4 / 6, abs=0.08)  # no error of the rate here


@pytest.mark.parametrize("prediction", [None, dataclasses.replace(predicted(1.0), remaining_energy_kwh_low=None)])
def test_where_nothing_is_known_nothing_is_told(prediction: Prediction | None) -> None:
    assert ahead(prediction, learnt=100, updates=600, earlier=[200, 300, 400]) is None


def test_after_the_last_update_nothing_is_ahead() -> None:
    assert ahead(predicted(0.0), learnt=600, updates=600, earlier=[700, 800, 900]) is None


def test_the_same_training_runs_without_a_tracker() -> None:
    training = Training(dataclasses.replace(SHORT, updates=3, every=3), Untracked())
    assert asyncio.run(training.run())
    assert training.progress.learnt == 3
