"""What the callbacks of all frameworks share: it waits for nothing, cannot fail, and begins and ends once."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiocarbon import Budget, ConfigError
from aiocarbon.errors import EngineError
from aiocarbon.integrations._hooks import Tracked
from aiocarbon.integrations._training import Training
from aiocarbon.journal import load
from aiocarbon.testing import ScriptedMeter

KNOWN: dict[str, Any] = {"meters": "simulated:250", "location": "DK", "pue": 1.0}


class Callback(Tracked):
    """As small as a framework's callback can be."""

    def __init__(self, **settings: Any) -> None:
        self._training = Training({**KNOWN, **settings})

    def on_begin(self) -> None:
        self._training.begin(epochs=3)

    def on_epoch(self, steps: int, *, total: int | None = None) -> None:
        self._training.epoch_begin(total)
        for step in range(steps):
            self._training.progress(step + 1)
        self._training.epoch_end()

    def on_failure(self) -> None:
        raise LookupError("a framework of another version")

    def on_end(self) -> None:
        self._training.end(ended_well=True)


def test_a_run_has_the_epochs_and_steps_of_the_training_and_the_report_is_the_tracker_s() -> None:
    carbon = Callback()
    carbon.on_begin()
    tracker = carbon.tracker
    assert tracker is not None
    for _ in range(3):
        carbon.on_epoch(4, total=4)
    carbon.on_end()
    assert carbon.tracker is None
    assert carbon.report == tracker.report()
    assert carbon.report is not None
    assert [(epoch.steps, epoch.is_partial) for epoch in carbon.report.epochs] == [(4, False)] * 3
    assert carbon.report.ended_well
    assert carbon.report.is_final


def test_an_epoch_that_was_cut_short_gives_no_rate() -> None:
    carbon = Callback()
    carbon.on_begin()
    carbon.on_epoch(2, total=4)
    carbon._training.epoch_begin(4, base=1)  # another start did the first step
    for step in range(2, 5):
        carbon._training.progress(step)
    carbon._training.epoch_end()
    carbon.on_end()
    assert carbon.report is not None
    assert [(epoch.steps, epoch.is_partial) for epoch in carbon.report.epochs] == [(2, True), (3, True)]


def test_steps_that_go_backwards_count_on_from_there_and_are_told() -> None:
    carbon = Callback()
    carbon.on_begin()
    carbon._training.epoch_begin()
    for step in (1, 2, 10):
        carbon._training.progress(step)
    with pytest.warns(RuntimeWarning, match="went backwards"):
        carbon._training.progress(1)
    for step in (2, 3):
        carbon._training.progress(step)
    carbon._training.epoch_end()
    carbon.on_end()
    assert carbon.report is not None
    assert carbon.report.epochs[0].steps == 12
    assert any("went backwards" in warning for warning in carbon.report.warnings)


def test_a_training_that_was_left_without_a_word_ends_where_its_last_hook_was() -> None:
    carbon = Callback()
    carbon.on_begin()
    carbon._training.epoch_begin()
    left_ns = carbon._training.last_ns
    tracker = carbon.tracker
    assert tracker is not None
    while tracker.snapshot().duration_s < 0.1:
        pass  # the notebook goes on
    carbon.on_begin()
    assert carbon.report is not None
    begun_ns = tracker._handle._begun_ns
    assert carbon.report.duration_s == pytest.approx((left_ns - begun_ns) / 1e9, abs=0.05)
    assert carbon.report.duration_s < 0.1
    assert not carbon.report.ended_well
    assert [epoch.is_partial for epoch in carbon.report.epochs] == [True]
    carbon.on_end()
    assert len(carbon.reports) == 2
    assert carbon.report.ended_well


def test_who_asks_for_the_state_after_a_training_does_not_make_it_longer() -> None:
    carbon = Callback()
    carbon.on_begin()
    left_ns = carbon._training.last_ns
    carbon._training.restore(carbon._training.state())
    assert carbon._training.last_ns == left_ns
    carbon.on_end()


def test_a_with_block_ends_the_run_however_the_training_ends() -> None:
    carbon = Callback()
    with pytest.raises(KeyboardInterrupt), carbon:
        carbon.on_begin()
        raise KeyboardInterrupt
    assert carbon.report is not None
    assert not carbon.report.ended_well
    with carbon:
        carbon.on_begin()
        carbon.on_end()
    assert len(carbon.reports) == 2
    assert carbon.report.ended_well
    with carbon:
        pass  # nothing was trained
    assert len(carbon.reports) == 2


@pytest.mark.parametrize("is_error", [False, True])
def test_what_fails_in_a_hook_is_told_and_stays_there(is_error: bool) -> None:
    carbon = Callback()
    carbon.on_begin()
    if is_error:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            carbon.on_failure()
    else:
        with pytest.warns(RuntimeWarning, match="a framework of another version"):
            carbon.on_failure()
    carbon.on_failure()  # told once
    carbon.on_end()
    assert carbon.report is not None
    assert any("the training goes on" in warning for warning in carbon.report.warnings)


def test_what_fails_in_a_user_s_own_callback_comes_out() -> None:
    class Own(Callback):
        def on_epoch(self, steps: int, *, total: int | None = None) -> None:
            super().on_epoch(steps, total=total)
            raise LookupError("the user's own")

    carbon = Own()
    carbon.on_begin()
    with pytest.raises(LookupError, match="the user's own"):
        carbon.on_epoch(1)
    carbon.on_end()


def test_hooks_before_the_begin_and_after_the_end_do_nothing() -> None:
    carbon = Callback()
    carbon.on_epoch(2)
    carbon.on_end()
    carbon._training.enter("validation")
    carbon._training.exit()
    carbon._training.settle()
    carbon._training.give(lambda _: pytest.fail("there is nothing to give"))
    assert carbon._training.state() == {}
    assert (carbon.tracker, carbon.report, carbon.reports, carbon.stop_reason) == (None, None, (), "")


def test_a_wrong_setting_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="pue"):
        Callback(pue=0.5)
    with pytest.raises(TypeError, match="unknown"):
        Callback(unknown=1)


def test_a_strict_run_raises_what_the_instrument_cannot_do(killed: Callable[[Any], None]) -> None:
    carbon = Callback(strict=True)
    carbon.on_begin()
    tracker = carbon.tracker
    assert tracker is not None
    host = tracker._handle._host
    assert host is not None
    carbon._training.epoch_begin()
    killed(host)
    with pytest.raises(EngineError):
        carbon._training.epoch_end()
    with pytest.raises(EngineError):
        carbon.on_end()


# -- stopping --------------------------------------------------------------------------------------------------


def test_a_budget_stops_the_training_by_word_and_never_by_an_exception() -> None:
    carbon = Callback(budget=Budget(energy_kwh=1e-12), interval_s=0.02)
    carbon.on_begin()
    carbon._training.epoch_begin()
    tracker = carbon.tracker
    assert tracker is not None
    while not tracker._handle.begun("").budget_broken:
        tracker.snapshot()
    step = 1
    with pytest.warns(RuntimeWarning, match="energy budget"):
        carbon._training.progress(step)
    assert carbon._training.stops(1, None)
    carbon._training.progress(step + 1)
    carbon._training.epoch_end()
    carbon.on_end()
    assert "energy budget" in carbon.stop_reason
    assert carbon.report is not None
    assert carbon.report.ended_well
    carbon.on_begin()  # the next one begins anew
    assert carbon.stop_reason == ""
    carbon.on_end()


def test_what_says_no_to_a_prediction_stops_the_training() -> None:
    asked = []
    carbon = Callback(on_prediction=lambda prediction: asked.append(prediction.epochs_seen) or False)
    carbon.on_begin()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        while not carbon.stop_reason:  # what predicts is loaded behind the begin
            carbon.on_epoch(1, total=1)
            carbon._training.settle()
    carbon.on_end()
    assert ["stopped by on_prediction" in str(warning.message) for warning in told] == [True]
    assert len(asked) == 1
    assert "on_prediction" in carbon.stop_reason


def test_processes_agree_in_turns_and_only_where_something_could_stop_them() -> None:
    asked: list[bool] = []

    def agree(stops: bool) -> bool:
        asked.append(stops)
        return True  # another one says so

    free = Callback()
    free.on_begin()
    assert not free._training.stops(0, agree)
    free.on_end()
    bound = Callback(budget=Budget(energy_kwh=1000))
    bound.on_begin()
    assert [bound._training.stops(step, agree) for step in (1, 49, 50, 0)] == [False, False, True, True]
    assert asked == [False, False]
    bound.on_end()


# -- state -----------------------------------------------------------------------------------------------------


def broken_off(journal: Path | None) -> tuple[Callback, dict[str, Any]]:
    """A training with a checkpoint behind its first epoch, and what that holds."""
    carbon = Callback(journal=journal)
    carbon.on_begin()
    carbon.on_epoch(1)
    carbon._training.settle()
    state = carbon._training.state()
    carbon.on_epoch(1)  # behind the checkpoint: done again
    with pytest.raises(KeyboardInterrupt), carbon:
        raise KeyboardInterrupt
    return carbon, pickle.loads(pickle.dumps(state))


def resumed(state: object, journal: Path | None) -> tuple[Callback, dict[str, float], dict[str, Any]]:
    """The training that goes on from there, its last figures, and what its next checkpoint would hold."""
    carbon = Callback(journal=journal)
    carbon._training.restore(state)
    carbon._training.begin(epochs=3, first_epoch=carbon._training.restored_epochs)
    carbon.on_epoch(1)
    carbon._training.settle()
    given: dict[str, float] = {}
    carbon._training.give(given.update)
    kept = carbon._training.state()
    carbon.on_end()
    return carbon, given, kept


def test_a_training_that_resumes_goes_on_with_its_run(tmp_path: Path) -> None:
    first, state = broken_off(tmp_path)
    second, given, kept = resumed(state, tmp_path)
    assert second.report is not None
    assert first.report is not None
    assert second.report.run_id == first.report.run_id == state["run_id"]
    assert [epoch.index for epoch in second.report.epochs] == [0, 1]  # the journal tells of the first one
    assert second.report.energy_kwh > first.report.energy_kwh
    assert "carbon/total_energy_kwh" not in given
    assert kept["energy_kwh"] == given["carbon/energy_kwh"] > first.report.energy_kwh
    (run,) = load(tmp_path).runs
    assert [epoch.index for epoch in run.epochs] == [0, 1]
    assert run.rework is not None
    # What is begun after it has nothing to do with it.
    second.on_begin()
    second.on_end()
    assert second.report.run_id != state["run_id"]


def test_without_a_journal_the_checkpoint_tells_of_the_energy_before_it() -> None:
    first, state = broken_off(None)
    second, given, kept = resumed(state, None)
    assert second.report is not None
    assert first.report is not None
    assert second.report.run_id == first.report.run_id
    assert [epoch.index for epoch in second.report.epochs] == [1]
    assert given["carbon/total_energy_kwh"] == state["energy_kwh"] + given["carbon/energy_kwh"] == kept["energy_kwh"]
    assert 0 < state["energy_kwh"] < first.report.energy_kwh


@pytest.mark.parametrize(
    "state",
    ["", [1], {"run_id": "a"}, {"run_id": "../a", "epochs": 1, "energy_kwh": 1, "co2eq_g": 1, "duration_s": 1},
     {"run_id": "a", "epochs": "many", "energy_kwh": 1, "co2eq_g": 1, "duration_s": 1}],
)  # fmt: skip
def test_a_checkpoint_of_something_else_counts_for_nothing(state: object) -> None:
    carbon = Callback()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        carbon._training.restore(state)
    assert bool(told) == bool(state)
    assert carbon._training.restored_epochs == 0
    carbon.on_begin()
    carbon.on_end()


def test_a_copy_has_the_settings_and_no_run() -> None:
    carbon = Callback(name="copied")
    carbon.on_begin()
    for other in (pickle.loads(pickle.dumps(carbon._training)), copy.deepcopy(carbon._training)):
        assert other.tracker is None
        assert not other.is_open
        other.begin()
        other.end(ended_well=True)
        assert other.reports[0].name == "copied"
        assert other.key == carbon._training.key
    carbon.on_end()


def test_two_of_one_trainer_have_two_keys_and_those_of_the_next_have_them_again() -> None:
    keys = []
    for _ in range(2):
        pair = [Callback(), Callback()]
        keys.append([carbon._training.key for carbon in pair])
    assert keys[0] == keys[1]
    assert len(set(keys[0])) == 2


# -- processes, loops, twins -----------------------------------------------------------------------------------


def test_of_a_machine_s_processes_the_first_one_tracks_or_all_that_write(tmp_path: Path) -> None:
    other = Callback()
    other._training.begin(local_rank=1)
    assert other.tracker is None
    other.on_epoch(2)
    assert other._training.is_in_epoch
    other.on_end()
    assert other.report is None
    alone = Callback(journal=tmp_path)  # nothing would put it together with the others
    alone._training.begin(local_rank=1)
    assert alone.tracker is None
    writing = Callback(journal=tmp_path, run_id="all")
    writing._training.begin(local_rank=1)
    assert writing.tracker is not None
    writing.on_end()
    assert writing.report is not None


def test_two_callbacks_at_once_are_two_runs_of_the_same_energy() -> None:
    pair = [Callback(meters=ScriptedMeter(power_w=[100.0])) for _ in range(2)]
    for verb in ("on_begin", "on_end"):
        for carbon in pair:
            getattr(carbon, verb)()
    assert all(len(carbon.reports) == 1 for carbon in pair)
    assert pair[0].reports[0].run_id != pair[1].reports[0].run_id


def test_it_works_inside_a_running_loop() -> None:
    carbon = Callback()

    async def cell() -> None:
        carbon.on_begin()
        carbon._training.enter("validation")
        await asyncio.sleep(0)
        carbon._training.exit()
        carbon.on_epoch(2, total=2)
        carbon.on_end()

    asyncio.run(cell())
    assert carbon.report is not None
    assert {span.name: span.count for span in carbon.report.spans} == {"validation": 1}


def test_a_span_ends_with_the_next_one_the_epoch_or_the_run() -> None:
    carbon = Callback()
    carbon.on_begin()
    carbon._training.enter("validation", every=1)
    carbon._training.enter("checkpoint", count=3)
    carbon._training.epoch_begin()
    carbon._training.enter("validation", every=1)
    carbon.on_end()
    assert carbon.report is not None
    assert {span.name: span.count for span in carbon.report.spans} == {"validation": 2, "checkpoint": 1}


# -- frameworks that are missing, or others --------------------------------------------------------------------

FRAMEWORKS = ["accelerate", "keras", "lightning", "transformers"]


def imported(name: str, before: str = "", path: str = "") -> str:
    code = f"import sys\n{before}\nsys.path.insert(0, {path!r})\nimport aiocarbon.integrations.{name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_framework_that_is_missing_is_named_with_the_line_to_type(name: str) -> None:
    assert f"pip install -U 'aiocarbon[{name}]'" in imported(name, f"sys.modules[{name!r}] = None")


def test_a_framework_that_is_too_old_is_named_with_the_line_to_type(tmp_path: Path) -> None:
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras/__init__.py").write_text("__version__ = '2.15.0'\n")
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers/__init__.py").write_text("")
    (tmp_path / "transformers/trainer_callback.py").write_text("class TrainerCallback: ...\n")
    for name, least in (("keras", "3.0"), ("transformers", "4.46")):
        last = imported(name, path=str(tmp_path))
        assert f"needs {name} {least} or newer" in last
        assert f"pip install -U 'aiocarbon[{name}]'" in last


def test_the_shared_part_loads_no_framework() -> None:
    code = f"""import sys, aiocarbon.integrations._training
assert not {{"torch", *{FRAMEWORKS!r}}} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_integration_stays_small(name: str) -> None:
    path = Path(__file__).parents[2] / f"aiocarbon/integrations/{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100


@pytest.mark.parametrize("journal", [None, "runs"])
def test_a_copy_that_measures_in_another_process_says_where_its_report_is(tmp_path: Path, journal: str | None) -> None:
    """A trainer that starts its processes itself: who made the callback would hear nothing."""
    folder = None if journal is None else tmp_path / journal
    made = Training({**KNOWN, "journal": folder})
    copied = pickle.loads(pickle.dumps(made))  # in the same process, as trainers copy callbacks too
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copied.begin()
        copied.end(ended_well=True)
        assert len(copied.reports) == 1
    copied.__setstate__(made.__getstate__() | {"_pid": os.getpid() + 1})
    command = r"journal=DIR .*aiocarbon report DIR" if folder is None else f"aiocarbon report {folder}"
    with pytest.warns(RuntimeWarning, match=f"`report` stays None: .*{command}"):
        copied.begin()
    copied.end(ended_well=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copied.begin(local_rank=1)  # one word a machine
    copied.end(ended_well=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_training_says_where_its_report_is() -> None:
    script = """
import os
from aiocarbon.integrations._training import Training
training = Training({"meters": "simulated:100", "location": "DK"})
if os.fork():
    os.wait()
    assert not training.reports
else:
    training.begin()
    training.end(ended_well=True)
    os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "`report` stays None" in done.stderr
