"""The callback in real trainings of Keras, on its PyTorch back end, on the CPU."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import Budget
from aiocarbon.journal import load

pytest.importorskip("torch", reason="needs torch, on which Keras stands here")
pytest.importorskip("keras", reason="needs the extra keras")

import keras
import numpy as np

from aiocarbon.integrations.keras import CarbonCallback

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

STEPS = 8
X = np.ones((STEPS * 4, 4), dtype="float32")
Y = X.sum(1, keepdims=True)


def model(**more: Any) -> Any:
    made = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(1)])
    made.compile("sgd", "mse", **more)
    return made


def fit(made: Any, *callbacks: Any, epochs: int = 3, **more: Any) -> Any:
    return made.fit(X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=list(callbacks), **more)


class At(keras.callbacks.Callback):
    """Does something before a step of an epoch."""

    def __init__(self, epoch: int, step: int, do: Any) -> None:
        super().__init__()
        self.at, self.do, self.epoch = (epoch, step), do, -1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if (self.epoch, batch) == self.at:
            self.do()


def epochs_of(carbon: CarbonCallback) -> list[tuple[int, int, bool]]:
    assert carbon.report is not None
    return [(epoch.index, epoch.steps, epoch.is_partial) for epoch in carbon.report.epochs]


def test_a_training_is_a_run_whose_energy_is_the_tracker_s(tmp_path: Path, known: Any) -> None:
    carbon = CarbonCallback(**known)
    trackers: list[Any] = []
    watch = At(0, 1, lambda: trackers.append(carbon.tracker))
    table = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = fit(model(), carbon, watch, table, validation_data=(X, Y)).history
    report = carbon.report
    assert report is not None
    assert report == trackers[0].report()
    assert report.is_final
    assert report.ended_well
    assert epochs_of(carbon) == [(n, STEPS, False) for n in range(3)]
    assert {span.name: span.count for span in report.spans} == {"validation": 3}
    assert report.it_energy_kwh * 3.6e6 == pytest.approx(250 * report.duration_s, rel=1e-3)
    energy = history["carbon/energy_kwh"]
    assert len(energy) == 3  # from the first epoch on, as the other keys
    assert 0 < energy[0] <= energy[-1] <= report.energy_kwh
    with (tmp_path / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["carbon/energy_kwh"]) for row in rows] == energy


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_comes_out_and_the_run_ends_with_its_block(known: Any, error: Any) -> None:
    def stop() -> None:
        raise error

    carbon = CarbonCallback(**known)
    with pytest.raises(error), carbon:
        fit(model(), carbon, At(1, 3, stop))
    assert carbon.tracker is None
    assert carbon.report is not None
    assert not carbon.report.ended_well
    whole, last = epochs_of(carbon)
    assert whole == (0, STEPS, False)
    assert last in {(1, 2, True), (1, 3, True)}  # threads of Keras tell steps, and may not have told the last one


def test_a_training_after_one_that_was_interrupted_ends_its_run(known: Any) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    carbon = CarbonCallback(**known)
    with pytest.raises(KeyboardInterrupt):
        fit(model(), carbon, At(0, 3, stop))
    assert carbon.report is None  # nobody said that it is over
    fit(model(), carbon)
    assert [report.ended_well for report in carbon.reports] == [False, True]
    assert [epoch.is_partial for epoch in carbon.reports[0].epochs] == [True]
    assert epochs_of(carbon) == [(n, STEPS, False) for n in range(3)]


def test_a_training_that_resumes_goes_on_with_its_run(tmp_path: Path, known: Any) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    settings = {"journal": tmp_path / "runs", "run_id": "digits", **known}
    first = CarbonCallback(**settings)
    with pytest.raises(KeyboardInterrupt), first:
        fit(model(), keras.callbacks.BackupAndRestore(tmp_path / "kept"), first, At(1, 3, stop))
    second = CarbonCallback(**settings)
    fit(model(), keras.callbacks.BackupAndRestore(tmp_path / "kept"), second)
    assert epochs_of(second) == [(n, STEPS, False) for n in range(3)]  # the first one out of the journal
    (run,) = load(tmp_path / "runs").runs
    assert [epoch.index for epoch in run.epochs] == [0, 1, 2]
    assert run.rework is not None  # the three steps that were lost


def test_a_budget_stops_the_training_in_order(known: Any) -> None:
    carbon = CarbonCallback(budget=Budget(energy_kwh=1e-9), **known)
    made = model()
    history = fit(made, carbon, epochs=10_000)
    assert made.stop_training
    assert len(history.epoch) < 10_000
    assert "energy budget" in carbon.stop_reason
    assert carbon.report is not None
    assert carbon.report.ended_well


def test_steps_are_counted_where_one_call_does_several_or_threads_tell_them_out_of_order(known: Any) -> None:
    carbon = CarbonCallback(**known)
    carbon.set_params({"epochs": 1, "steps": STEPS})
    carbon.on_train_begin()
    carbon.on_epoch_begin(0)
    for batch in (3, 2, 7, 6):
        carbon.on_train_batch_end(batch)
    carbon.on_epoch_end(0, {})
    carbon.on_train_end()
    assert epochs_of(carbon) == [(0, STEPS, False)]
    assert carbon.report is not None
    assert not any("backwards" in warning for warning in carbon.report.warnings)


def test_a_dataset_of_unknown_length_has_steps_and_no_total(known: Any) -> None:
    carbon = CarbonCallback(**known)

    def stream() -> Any:
        while True:
            yield X[:4], Y[:4]

    model().fit(stream(), epochs=2, steps_per_epoch=3, verbose=0, callbacks=[carbon])
    assert [(steps, is_partial) for _, steps, is_partial in epochs_of(carbon)] == [(3, False)] * 2


def test_a_trainer_called_twice_makes_two_runs_and_two_callbacks_two(known: Any) -> None:
    pair = [CarbonCallback(**known), CarbonCallback(**known)]
    made = model()
    fit(made, *pair, epochs=1)
    fit(made, *pair, epochs=2, initial_epoch=1)
    for carbon in pair:
        assert [[epoch.index for epoch in report.epochs] for report in carbon.reports] == [[0], [1]]
    assert len({report.run_id for carbon in pair for report in carbon.reports}) == 4


def test_it_trains_inside_a_running_loop(known: Any) -> None:
    carbon = CarbonCallback(**known)

    async def cell() -> None:
        fit(model(), carbon, epochs=1, validation_data=(X, Y))

    asyncio.run(cell())
    assert epochs_of(carbon) == [(0, STEPS, False)]


def test_evaluating_outside_a_training_is_no_run(known: Any) -> None:
    carbon = CarbonCallback(**known)
    model().evaluate(X, Y, verbose=0, callbacks=[carbon])
    assert carbon.reports == ()
