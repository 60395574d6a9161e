"""The tracker in real training loops on Accelerate, on the CPU."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import Budget, sync

pytest.importorskip("accelerate", reason="needs the extra accelerate")

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from torch.utils.data import DataLoader, TensorDataset

from aiocarbon.integrations.accelerate import CarbonTracker

pytestmark = [pytest.mark.accelerate, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

STEPS = 8


class Sink(GeneralTracker):  # type: ignore[misc]  # Accelerate is not there where types are checked
    """Keeps what it is told."""

    name = "sink"
    requires_logging_directory = False
    tracker = None

    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, Any]] = []

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        self.told.append(dict(values))


def train(carbon: CarbonTracker, *others: Any, epochs: int = 3, at: Callable[[int], object] = lambda _: None) -> int:
    """A loop as one would write it; the number of the last step."""
    x = torch.ones(STEPS * 4, 4)
    accelerator = Accelerator(log_with=[carbon, *others], cpu=True)
    accelerator.init_trackers("test")
    net = torch.nn.Linear(4, 1)
    net, optimiser, batches = accelerator.prepare(
        net, torch.optim.SGD(net.parameters(), 1e-3), DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)
    )
    step = 0
    for _ in range(epochs):
        with carbon.epoch(total=len(batches)):
            for features, target in batches:
                at(step)
                optimiser.zero_grad()
                loss = torch.nn.functional.mse_loss(net(features), target)
                accelerator.backward(loss)
                optimiser.step()
                step += 1
                accelerator.log({"loss": loss.item()}, step=step)
                if carbon.should_stop:
                    accelerator.set_trigger()
                if accelerator.check_trigger():
                    break
        if carbon.should_stop:
            break
        with carbon.span("validation"), torch.no_grad():
            net(x)
    accelerator.end_training()
    return step


def epochs_of(carbon: CarbonTracker) -> list[tuple[int, int, bool]]:
    assert carbon.report is not None
    return [(epoch.index, epoch.steps, epoch.is_partial) for epoch in carbon.report.epochs]


def test_a_loop_is_a_run_whose_energy_is_the_tracker_s(known: Any) -> None:
    carbon, sink = CarbonTracker(epochs=3, **known), Sink()
    trackers: list[Any] = []
    train(carbon, sink, at=lambda _: trackers.append(carbon.tracker))
    report = carbon.report
    assert report is not None
    assert isinstance(trackers[0], sync.Tracker)
    assert report == trackers[0].report()
    assert report.is_final
    assert report.ended_well
    assert epochs_of(carbon) == [(n, STEPS, False) for n in range(3)]
    assert {span.name: span.count for span in report.spans} == {"validation": 3}
    assert report.it_energy_kwh * 3.6e6 == pytest.approx(250 * report.duration_s, rel=1e-3)
    assert 0 < sink.told[-1]["carbon/energy_kwh"] <= report.energy_kwh
    assert "loss" in sink.told[-1]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_comes_out_and_the_run_ends_with_its_block(known: Any, error: Any) -> None:
    def at(step: int) -> None:
        if step == STEPS + 3:
            raise error

    carbon = CarbonTracker(**known)
    with pytest.raises(error), carbon:
        train(carbon, at=at)
    assert carbon.tracker is None
    assert carbon.report is not None
    assert not carbon.report.ended_well
    assert epochs_of(carbon) == [(0, STEPS, False), (1, 3, True)]
    train(carbon)
    assert len(carbon.reports) == 2
    assert epochs_of(carbon) == [(n, STEPS, False) for n in range(3)]


def test_a_budget_is_told_and_the_loop_stops(known: Any) -> None:
    carbon = CarbonTracker(budget=Budget(energy_kwh=1e-9), **known)
    assert train(carbon, epochs=100_000) < 100_000 * STEPS
    assert "energy budget" in carbon.stop_reason
    assert carbon.report is not None
    assert carbon.report.ended_well


def test_a_run_that_resumes_begins_with_its_epoch(tmp_path: Path, known: Any) -> None:
    def at(step: int) -> None:
        if step == STEPS + 3:
            raise ZeroDivisionError

    settings = {"journal": tmp_path, "run_id": "loop", **known}
    first = CarbonTracker(**settings)
    with pytest.raises(ZeroDivisionError), first:
        train(first, at=at)
    second = CarbonTracker(resume=True, **settings)
    train(second, epochs=2)
    assert epochs_of(second) == [(n, STEPS, False) for n in range(3)]


def test_steps_that_begin_anew_each_epoch_are_counted(known: Any) -> None:
    carbon = CarbonTracker(**known)
    accelerator = Accelerator(log_with=carbon, cpu=True)
    accelerator.init_trackers("test")
    for _ in range(2):
        with carbon.epoch():
            for step in range(1, 4):
                accelerator.log({"loss": 0.0}, step=step)
    with carbon.epoch():
        accelerator.log({"loss": 0.0})  # without a number it is no step
    accelerator.end_training()
    assert [steps for _, steps, _ in epochs_of(carbon)] == [3, 2, 0]
    assert carbon.report is not None
    assert any("went backwards" in warning for warning in carbon.report.warnings)


def test_an_epoch_of_which_not_each_step_is_logged_is_whole_and_one_that_failed_is_not(known: Any) -> None:
    carbon = CarbonTracker(**known)
    carbon.start()
    with carbon.epoch(total=10):
        for step in (4, 8):
            carbon.log({}, step=step)
    with pytest.raises(ZeroDivisionError), carbon.epoch(total=10):
        carbon.log({}, step=12)
        raise ZeroDivisionError
    with carbon.epoch(total=10):
        carbon.log({}, step=16)
    carbon.finish()
    assert epochs_of(carbon) == [(0, 8, False), (1, 4, True), (2, 4, False)]


def test_it_works_inside_a_running_loop_and_with_a_twin(known: Any) -> None:
    pair = [CarbonTracker(**known), CarbonTracker(**known)]

    async def cell() -> None:
        train(pair[0], pair[1], epochs=1)

    asyncio.run(cell())
    assert epochs_of(pair[0]) == [(0, STEPS, False)]
    assert pair[1].report is not None
    assert pair[1].report.ended_well


def test_without_trackers_of_accelerate_it_is_started_by_hand(known: Any) -> None:
    carbon = CarbonTracker(**known)
    with carbon.epoch(), carbon.span("validation"):
        pass  # in a process that does not track
    carbon.start()
    carbon.start()
    with carbon.epoch():
        pass
    carbon.finish()
    carbon.finish()
    assert len(carbon.reports) == 1
    assert epochs_of(carbon) == [(0, 0, False)]
