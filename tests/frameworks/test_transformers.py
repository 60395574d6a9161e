"""The callback in real trainings of Hugging Face's Trainer on the CPU."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import Budget
from aiocarbon.journal import load

pytest.importorskip("transformers", reason="needs the extra transformers")
pytest.importorskip("accelerate", reason="needs the extra accelerate")

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from aiocarbon.integrations.transformers import CarbonCallback

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

STEPS = 8


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)

    def forward(self, x: Any = None, labels: Any = None) -> dict[str, Any]:
        found = self.linear(x)
        return {"loss": torch.nn.functional.mse_loss(found, labels), "logits": found}


class Data(torch.utils.data.Dataset[Any]):
    def __init__(self, count: int = STEPS) -> None:
        self.count = count * 4

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: int) -> dict[str, Any]:
        return {"x": torch.ones(4), "labels": torch.ones(1)}


class At(TrainerCallback):
    """Does something at a step."""

    def __init__(self, at: int, do: Any) -> None:
        self.at, self.do = at, do

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.at:
            self.do()


class Reporter(TrainerCallback):
    """Stands for TensorBoard, W&B, MLflow: keeps what it is told as it is told."""

    def __init__(self) -> None:
        self.keys: list[set[str]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.keys.append(set(logs))


def trainer(folder: Path, *callbacks: Any, data: Any = None, **more: Any) -> Any:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 3,
        "logging_steps": 2,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    arguments = TrainingArguments(output_dir=str(folder), **(settings | more))
    return Trainer(
        model=Net(), args=arguments, train_dataset=data or Data(), eval_dataset=Data(2), callbacks=list(callbacks)
    )


def epochs(carbon: CarbonCallback) -> list[tuple[int, int, bool]]:
    assert carbon.report is not None
    return [(epoch.index, epoch.steps, epoch.is_partial) for epoch in carbon.report.epochs]


def fail() -> None:
    raise ZeroDivisionError("the user's own")


def test_a_training_is_a_run_whose_energy_is_the_tracker_s(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)
    trackers: list[Any] = []
    watch = At(1, lambda: trackers.append(carbon.tracker))
    training = trainer(tmp_path, carbon, watch, eval_strategy="epoch", save_strategy="epoch")
    training.train()
    report = carbon.report
    assert report is not None
    assert report == trackers[0].report()
    assert report.is_final
    assert report.ended_well
    assert epochs(carbon) == [(n, STEPS, False) for n in range(3)]
    assert {span.name: span.count for span in report.spans} == {"validation": 3, "checkpoint": 3}
    assert report.it_energy_kwh * 3.6e6 == pytest.approx(250 * report.duration_s, rel=1e-3)
    last = training.state.log_history[-1]
    assert 0 < last["carbon/energy_kwh"] <= report.energy_kwh
    assert {"carbon/co2eq_g", "carbon/power_w", "carbon/intensity_g_per_kwh"} <= set(last)


def test_steps_are_those_of_the_optimiser_and_a_last_epoch_may_be_shorter(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)
    trainer(tmp_path, carbon, data=Data(9), gradient_accumulation_steps=2, max_steps=8).train()
    assert epochs(carbon) == [(0, 5, False), (1, 3, False)]


@pytest.mark.parametrize(
    ("steps", "expected"), [(2 * STEPS, 2), (STEPS - 2, 1), (STEPS + 1, None), (100 * STEPS - 1, 100)]
)
def test_a_last_epoch_that_is_much_shorter_is_not_predicted_as_a_whole_one(
    tmp_path: Path, known: Any, steps: int, expected: int | None
) -> None:
    carbon = CarbonCallback(**known)
    trackers: list[Any] = []
    trainer(tmp_path, carbon, At(1, lambda: trackers.append(carbon.tracker)), max_steps=steps).train()
    assert trackers[0]._handle._epochs == expected
    assert carbon.report is not None
    assert any("epochs=N" in warning for warning in carbon.report.warnings) == (expected is None)


def test_reporters_are_told_the_figures_of_a_callback_that_is_attached(tmp_path: Path, known: Any) -> None:
    before, behind = Reporter(), Reporter()
    carbon = CarbonCallback(**known)
    trainer(tmp_path, before, carbon, behind).train()
    assert "carbon/energy_kwh" not in before.keys[-1]
    assert "carbon/energy_kwh" in behind.keys[-1]
    before = Reporter()
    carbon = CarbonCallback(**known)
    training = trainer(tmp_path, before, eval_strategy="epoch")
    assert carbon.attach(training).attach(training) is carbon
    training.train()
    assert "carbon/energy_kwh" in before.keys[-1]
    assert carbon.report is not None
    assert {span.name: span.count for span in carbon.report.spans} == {"validation": 3}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_comes_out_and_the_run_ends_with_its_block(tmp_path: Path, known: Any, error: Any) -> None:
    def stop() -> None:
        raise error

    carbon = CarbonCallback(**known)
    with pytest.raises(error), carbon:
        trainer(tmp_path, carbon, At(STEPS + 3, stop)).train()
    assert carbon.tracker is None
    assert carbon.report is not None
    assert not carbon.report.ended_well
    assert epochs(carbon) == [(0, STEPS, False), (1, 3, True)]


def test_a_training_after_one_that_failed_ends_its_run(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, carbon, At(3, fail)).train()
    assert carbon.report is None  # nobody said that it is over
    trainer(tmp_path, carbon).train()
    assert [report.ended_well for report in carbon.reports] == [False, True]
    assert [epoch.is_partial for epoch in carbon.reports[0].epochs] == [True]
    assert epochs(carbon) == [(n, STEPS, False) for n in range(3)]


def test_a_run_that_failed_lasts_to_its_last_hook_however_late_the_next_one_begins(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, carbon, At(3, fail)).train()
    tracker = carbon.tracker
    assert tracker is not None
    left_ns = carbon._training.last_ns
    later_s = tracker.snapshot().duration_s + 0.3
    while tracker.snapshot().duration_s < later_s:
        pass  # the user reads the traceback
    trainer(tmp_path, carbon).train()  # a trainer that is made, and one that begins, ask for the state
    lasted_s = (left_ns - tracker._handle._begun_ns) / 1e9
    assert carbon.reports[0].duration_s == pytest.approx(lasted_s, abs=0.05)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_training_that_resumes_goes_on_with_its_run(tmp_path: Path, known: Any, is_replaced: bool) -> None:
    first = CarbonCallback(journal=tmp_path / "runs", **known)
    with pytest.raises(ZeroDivisionError), first:
        trainer(tmp_path, first, At(STEPS + 3, fail), save_strategy="epoch").train()
    second = CarbonCallback(journal=tmp_path / "runs", **known)
    more = {"restore_callback_states_from_checkpoint": is_replaced}
    trainer(tmp_path, second, **more).train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{STEPS}"))
    assert first.report is not None
    assert second.report is not None
    assert second.report.run_id == first.report.run_id
    assert epochs(second) == [(n, STEPS, False) for n in range(3)]
    (run,) = load(tmp_path / "runs").runs
    assert [epoch.index for epoch in run.epochs] == [0, 1, 2]
    assert run.rework is not None  # the three steps that were lost


def test_a_training_goes_on_in_the_midst_of_an_epoch(tmp_path: Path, known: Any) -> None:
    first = CarbonCallback(**known)
    trainer(tmp_path, first, save_strategy="steps", save_steps=STEPS + 3).train()
    second = CarbonCallback(**known)
    trainer(tmp_path, second).train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{STEPS + 3}"))
    assert epochs(second) == [(1, STEPS - 3, True), (2, STEPS, False)]


def test_a_checkpoint_of_a_training_without_the_callback_is_resumed_with_it(tmp_path: Path, known: Any) -> None:
    trainer(tmp_path, save_strategy="epoch").train()
    carbon = CarbonCallback(**known)
    path = tmp_path / f"checkpoint-{STEPS}"
    trainer(tmp_path, carbon, save_strategy="epoch").train(resume_from_checkpoint=str(path))
    assert epochs(carbon) == [(1, STEPS, False), (2, STEPS, False)]
    kept = json.loads((tmp_path / f"checkpoint-{3 * STEPS}/trainer_state.json").read_text(encoding="utf-8"))
    assert kept["stateful_callbacks"]["CarbonCallback"]["attributes"]["carried"]["epochs"] == 3


def test_a_budget_stops_the_training_in_order(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(budget=Budget(energy_kwh=1e-9), **known)
    training = trainer(tmp_path, carbon, num_train_epochs=10_000)
    training.train()
    assert training.control.should_training_stop
    assert training.state.global_step < 10_000 * STEPS
    assert "energy budget" in carbon.stop_reason
    assert carbon.report is not None
    assert carbon.report.ended_well


def test_two_callbacks_at_once_do_not_disturb_each_other(tmp_path: Path, known: Any) -> None:
    pair = [CarbonCallback(**known), CarbonCallback(**known)]
    trainer(tmp_path, *pair, save_strategy="epoch").train()
    trainer(tmp_path, *pair, save_strategy="epoch").train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{STEPS}"))
    for carbon in pair:
        assert len(carbon.reports) == 2
        assert epochs(carbon) == [(n, STEPS, False) for n in (1, 2)]


def test_it_trains_inside_a_running_loop(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)

    async def cell() -> None:
        trainer(tmp_path, carbon, num_train_epochs=1, eval_strategy="epoch").train()

    asyncio.run(cell())
    assert epochs(carbon) == [(0, STEPS, False)]


def test_a_dataset_of_unknown_length_is_one_epoch_of_all_steps(tmp_path: Path, known: Any) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([{"x": torch.ones(4), "labels": torch.ones(1)}] * 1000)

    carbon = CarbonCallback(**known)
    trainer(tmp_path, carbon, data=Stream(), max_steps=5).train()
    assert epochs(carbon) == [(0, 5, False)]
