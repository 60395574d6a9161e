"""The callback in real trainings of Lightning on the CPU."""

from __future__ import annotations

import asyncio
import csv
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import Budget
from aiocarbon.journal import load

pytest.importorskip("lightning", reason="needs the extra lightning")

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from aiocarbon.integrations.lightning import CarbonCallback

pytestmark = [pytest.mark.lightning, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

BATCHES = 8


class Net(lightning.LightningModule):
    """A linear model that may do something in its midst."""

    def __init__(self, at: int = -1, do: Any = None) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)
        self.at, self.do = at, do

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step == self.at:
            self.do()
        return torch.nn.functional.mse_loss(self.linear(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", torch.nn.functional.mse_loss(self.linear(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-3)


def data(count: int = BATCHES) -> Any:
    x = torch.ones(count * 4, 4)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)


def trainer(folder: Path, *callbacks: Any, epochs: int = 3, **more: Any) -> Any:
    settings = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 2}
    return lightning.Trainer(
        accelerator="cpu", max_epochs=epochs, default_root_dir=folder, callbacks=list(callbacks), **(settings | more)
    )


class Watch(Callback):
    """Keeps the tracker that the callback had."""

    def __init__(self, carbon: CarbonCallback) -> None:
        self.carbon = carbon
        self.tracker: Any = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.tracker = self.carbon.tracker


def spans(carbon: CarbonCallback) -> dict[str, int]:
    assert carbon.report is not None
    return {span.name: span.count for span in carbon.report.spans}


def test_a_training_is_a_run_whose_energy_is_the_tracker_s(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)
    watch = Watch(carbon)
    training = trainer(tmp_path, carbon, watch, logger=CSVLogger(tmp_path))
    training.fit(Net(), data(), data(2))
    report = carbon.report
    assert report is not None
    assert report == watch.tracker.report()
    assert report.is_final
    assert report.ended_well
    assert [(e.index, e.steps, e.is_partial) for e in report.epochs] == [(n, BATCHES, False) for n in range(3)]
    assert spans(carbon) == {"sanity check": 1, "validation": 3, "checkpoint": 3}
    parts = [*report.epochs, report.outside]
    assert sum(part.it_energy_kwh for part in parts) == pytest.approx(report.it_energy_kwh, rel=1e-9)
    assert report.it_energy_kwh * 3.6e6 == pytest.approx(250 * report.duration_s, rel=1e-3)
    with Path(training.logger.log_dir, "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["carbon/energy_kwh"]]
    energy = [float(row["carbon/energy_kwh"]) for row in rows]
    assert 0 < energy[0] <= energy[-1] <= report.energy_kwh
    assert int(rows[-1]["step"]) == 3 * BATCHES
    assert {"carbon/co2eq_g", "carbon/power_w", "carbon/intensity_g_per_kwh", "val_loss"} <= set(rows[0])


def test_the_sanity_check_is_in_no_epoch_and_no_validation(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)
    trainer(tmp_path, carbon, epochs=1, num_sanity_val_steps=2, enable_checkpointing=False).fit(Net(), data(), data(2))
    assert spans(carbon) == {"sanity check": 1, "validation": 1}
    report = carbon.report
    assert report is not None
    check = next(span for span in report.spans if span.name == "sanity check")
    assert report.outside.duration_s >= check.duration_s > 0


def test_an_exception_ends_the_run_and_comes_out(tmp_path: Path, known: Any) -> None:
    def fail() -> None:
        raise ZeroDivisionError("the user's own")

    carbon = CarbonCallback(**known)
    with pytest.raises(ZeroDivisionError, match="the user's own"):
        trainer(tmp_path, carbon).fit(Net(BATCHES + 3, fail), data())
    assert carbon.tracker is None
    assert carbon.report is not None
    assert not carbon.report.ended_well
    assert [(e.steps, e.is_partial) for e in carbon.report.epochs] == [(BATCHES, False), (3, True)]


def test_ctrl_c_ends_the_run(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)
    former = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            trainer(tmp_path, carbon).fit(Net(3, lambda: signal.raise_signal(signal.SIGINT)), data())
    finally:
        signal.signal(signal.SIGINT, former)
    assert carbon.report is not None
    assert carbon.report.is_final
    assert not carbon.report.ended_well
    assert [(e.steps, e.is_partial) for e in carbon.report.epochs] == [(3, True)]


def test_a_training_that_resumes_goes_on_with_its_run(tmp_path: Path, known: Any) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    first = CarbonCallback(journal=tmp_path / "runs", **known)
    saving = ModelCheckpoint(tmp_path / "kept", save_last=True)
    with pytest.raises(ZeroDivisionError):
        trainer(tmp_path, first, saving).fit(Net(2 * BATCHES + 3, fail), data())
    second = CarbonCallback(journal=tmp_path / "runs", **known)
    trainer(tmp_path, second, ModelCheckpoint(tmp_path / "kept")).fit(
        Net(), data(), ckpt_path=tmp_path / "kept/last.ckpt", weights_only=False
    )
    assert first.report is not None
    assert second.report is not None
    assert second.report.run_id == first.report.run_id
    assert [(e.index, e.steps, e.is_partial) for e in second.report.epochs] == [(n, BATCHES, False) for n in range(3)]
    assert second.report.it_energy_kwh > first.report.it_energy_kwh  # out of the journal
    (run,) = load(tmp_path / "runs").runs
    assert [e.index for e in run.epochs] == [0, 1, 2]
    assert run.rework is not None  # the three steps that were lost


def test_a_training_goes_on_from_a_checkpoint_in_the_midst_of_an_epoch(tmp_path: Path, known: Any) -> None:
    saving = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=3, save_top_k=-1, filename="{step}")
    trainer(tmp_path, CarbonCallback(**known), saving, epochs=1).fit(Net(), data())
    second = CarbonCallback(**known)
    training = trainer(tmp_path, second, enable_checkpointing=False, epochs=2)
    training.fit(Net(), data(), ckpt_path=tmp_path / "kept/step=3.ckpt", weights_only=False)
    assert second.report is not None
    assert [(e.index, e.is_partial) for e in second.report.epochs] == [(0, True), (1, False)]
    assert second.report.epochs[0].steps <= BATCHES - 3


def test_a_checkpoint_that_is_only_validated_is_not_resumed(tmp_path: Path, known: Any) -> None:
    first = CarbonCallback(**known)
    training = trainer(tmp_path, first, epochs=1)
    training.fit(Net(), data())
    path = training.checkpoint_callback.best_model_path
    second = CarbonCallback(**known)
    other = trainer(tmp_path, second, epochs=1)
    other.validate(Net(), data(2), ckpt_path=path, weights_only=False, verbose=False)
    assert second.report is None
    other.fit(Net(), data())
    assert first.report is not None
    assert second.report is not None
    assert second.report.run_id != first.report.run_id
    assert [e.index for e in second.report.epochs] == [0]


def test_a_budget_stops_the_training_in_order(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(budget=Budget(energy_kwh=1e-9), **known)
    training = trainer(tmp_path, carbon, epochs=100_000)
    training.fit(Net(), data())
    assert training.should_stop
    assert training.current_epoch < 100_000
    assert "energy budget" in carbon.stop_reason
    assert carbon.report is not None
    assert carbon.report.ended_well
    assert any("energy budget" in warning for warning in carbon.report.warnings)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_steps": 2 * BATCHES}, 2),
        ({"max_steps": BATCHES, "accumulate_grad_batches": 2}, 2),
        ({"max_steps": 3}, 1),
        ({"max_steps": 1000}, 3),
        ({"max_steps": BATCHES + 2}, None),  # 1.25 epochs are not two
        ({"max_time": "00:01:00:00"}, None),
    ],
)
def test_the_epochs_are_those_that_a_limit_of_steps_or_time_lets_be(
    tmp_path: Path, known: Any, limits: dict[str, Any], expected: int | None
) -> None:
    carbon = CarbonCallback(**known)
    watch = Watch(carbon)
    trainer(tmp_path, carbon, watch, enable_checkpointing=False, **limits).fit(Net(), data())
    assert watch.tracker._handle._epochs == expected
    assert carbon.report is not None
    assert any("epochs=N" in warning for warning in carbon.report.warnings) == (expected is None)
    assert not any(epoch.is_partial for epoch in carbon.report.epochs)


def test_epochs_that_the_user_states_win_over_those_of_the_trainer(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(epochs=2, **known)
    watch = Watch(carbon)
    trainer(tmp_path, carbon, watch, enable_checkpointing=False, max_steps=BATCHES + 2).fit(Net(), data())
    assert watch.tracker._handle._epochs is None
    assert carbon.report is not None
    assert carbon.report.warnings == ()


def test_a_trainer_called_twice_makes_two_runs(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)
    training = trainer(tmp_path, carbon, epochs=1)
    training.fit(Net(), data())
    training.fit_loop.max_epochs = 2
    training.fit(Net(), data())
    assert [[e.index for e in report.epochs] for report in carbon.reports] == [[0], [1]]
    assert len({report.run_id for report in carbon.reports}) == 2


def test_two_callbacks_at_once_do_not_disturb_each_other(tmp_path: Path, known: Any) -> None:
    pair = [CarbonCallback(**known), CarbonCallback(**known)]
    training = trainer(tmp_path, *pair, epochs=1)
    training.fit(Net(), data())
    states = torch.load(training.checkpoint_callback.best_model_path, weights_only=False)["callbacks"]
    assert sum(key.startswith("aiocarbon") for key in states) == 2
    for carbon in pair:
        assert carbon.report is not None
        assert [e.steps for e in carbon.report.epochs] == [BATCHES]


def test_it_trains_inside_a_running_loop(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)

    async def cell() -> None:
        trainer(tmp_path, carbon, epochs=2).fit(Net(), data(), data(2))

    asyncio.run(cell())
    assert spans(carbon)["validation"] == 2


def test_a_dataset_of_unknown_length_has_steps_and_no_total(tmp_path: Path, known: Any) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter([(torch.ones(4), torch.ones(1))] * 12)

    carbon = CarbonCallback(**known)
    trainer(tmp_path, carbon, epochs=2).fit(Net(), DataLoader(Stream(), batch_size=4))
    assert carbon.report is not None
    assert [(e.steps, e.is_partial) for e in carbon.report.epochs] == [(3, False)] * 2


def test_the_callback_can_be_sent_to_another_process(known: Any) -> None:
    carbon = pickle.loads(pickle.dumps(CarbonCallback(name="sent", **known)))
    assert carbon.state_key == "aiocarbon.CarbonCallback"
    assert carbon.report is None
