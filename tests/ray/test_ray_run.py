"""A cluster's run as its driver sees it, with a scripted keeper: no Ray is needed to decide on budgets and epochs."""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import pytest

from aiocarbon import Budget, BudgetExceededError, TrainingStoppedError, sync
from aiocarbon._core.reading import Basis
from aiocarbon._core.report import RunReport
from aiocarbon._core.units import J_PER_KWH
from aiocarbon._marks import EpochMark, Epochs
from aiocarbon.errors import EngineError, UsageError
from aiocarbon.integrations._ray_actors import EpochState, Turn
from aiocarbon.integrations._ray_keeper import _state
from aiocarbon.integrations._ray_nodes import STILL_RUN, NodeSeen, carried_on, joined_epoch, version_note, with_nodes
from aiocarbon.integrations._ray_run import ClusterRun

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def run_report() -> RunReport:
    """A run of one second at 1000 W, whose figures are those of the cluster here."""
    with sync.Tracker(meters="simulated:1000", run_id="c", pue=1.0, intensity=360.0) as tracked:
        tracked.epoch_start()
        tracked.epoch_end()
    return tracked.report()


class Keeper:
    """Answers with reports: 100 J and a second more at each word; epochs as they are marked."""

    def __init__(self, like: RunReport) -> None:
        self.like = like
        self.words: list[tuple[Any, ...]] = []
        self.waiting: list[Future[Any]] = []  # calls of `news`
        self.told = 0
        self.ends: list[int] = []  # of what was told at each mark
        self.error: BaseException | None = None

    def report(self) -> RunReport:
        self.told += 1
        kwh, as_of = 100.0 / J_PER_KWH, datetime.now(UTC)
        epochs = []
        for index, (begin, end) in enumerate(zip([1, *self.ends], self.ends, strict=False)):
            energy = (end - begin) * kwh
            epochs.append(
                dataclasses.replace(
                    self.like.epochs[0], index=index, duration_s=float(end - begin), it_energy_kwh=energy,
                    energy_kwh=energy, coverage=1.0,
                )
            )  # fmt: skip
        energies = [f"{name}{end}" for name in ("it_energy_kwh", "energy_kwh") for end in ("", "_low", "_high")]
        figures: dict[str, Any] = dict.fromkeys(energies, self.told * kwh)
        return dataclasses.replace(
            self.like, **figures, duration_s=float(self.told), power_w=100.0, coverage=1.0, as_of=as_of,
            epochs=tuple(epochs), warnings=(), prediction=None,
        )  # fmt: skip

    def ask(self, verb: str, *arguments: Any) -> Future[Any]:
        self.words.append((verb, *arguments))
        future: Future[Any] = Future()
        if self.error is not None:
            future.set_exception(self.error)
        elif verb == "news":
            self.waiting.append(future)
        else:
            ends = verb == "mark" and arguments[0].verb != "open"
            if ends:
                self.ends.append(self.told + 1)
            report = self.report()
            future.set_result(report if verb != "mark" else report.epochs[-1] if ends else None)
        return future

    def news(self) -> None:
        self.waiting.pop().set_result(self.report())


def begun(keeper: Keeper, **settings: Any) -> ClusterRun:
    run = ClusterRun(settings)
    run.begin(keeper.ask, None)
    run.first_word().result(0)
    run.listen()
    return run


async def test_epochs_are_marked_on_the_nodes_and_told_with_the_prediction(run_report: RunReport) -> None:
    keeper = Keeper(run_report)
    run = begun(keeper, epochs=10)
    for index in range(3):
        run.step(4, None)
        epoch = await EpochMark(run)
        assert epoch.index == index
        assert epoch.it_energy_kwh * J_PER_KWH == pytest.approx(100.0)
    marks = [arguments[0] for verb, *arguments in keeper.words if verb == "mark"]
    assert marks == [Turn(verb="border", index=index, steps=4) for index in range(3)]
    prediction = run.prediction
    assert prediction is not None
    assert (prediction.epochs_seen, prediction.epochs) == (3, 10)
    assert prediction.remaining_energy_kwh == pytest.approx(700.0 / J_PER_KWH, rel=0.02)
    assert prediction.remaining_duration_s == pytest.approx(7.0, rel=0.02)
    assert prediction.co2eq_g is None  # there is no run of the driver's here that knows the hours to come
    published = run.published
    assert published is not None
    assert published.prediction == prediction


async def test_entered_epochs_and_what_lies_between_them(run_report: RunReport) -> None:
    keeper = Keeper(run_report)
    run = begun(keeper)
    async for index in Epochs(run, 2):
        assert index in (0, 1)
    words = [arguments[0].verb for verb, *arguments in keeper.words if verb == "mark"]
    assert words == ["open", "close", "open", "close"]
    assert all(arguments[0].is_entered for _, *arguments in keeper.words if arguments and arguments[0].verb == "open")
    with pytest.raises(ZeroDivisionError):
        async with EpochMark(run):
            raise ZeroDivisionError
    last = keeper.words[-1][1]
    assert (last.verb, last.index, last.is_partial) == ("close", 2, True)
    await EpochMark(run)
    published = run.published
    assert published is not None
    assert any("marks nothing" in text for text in published.warnings)


async def test_a_budget_that_is_used_up_stops_the_driver_in_its_own_task(run_report: RunReport) -> None:
    keeper = Keeper(run_report)
    run = begun(keeper, budget=Budget(energy_kwh=250.0 / J_PER_KWH))
    keeper.news()
    run.step(1, None)
    assert not run.verdicts.exceeded.done()
    keeper.news()
    keeper.news()
    assert run.verdicts.exceeded.done()
    with pytest.raises(BudgetExceededError, match="is used up"):
        run.step(1, None)
    with pytest.raises(BudgetExceededError, match="is used up"):
        run.heed_budget()
    with pytest.raises(BudgetExceededError):
        await EpochMark(run)
    run.end(None)
    run.step(1, None)  # the run is over, and the training may end as it likes


async def test_a_prediction_beyond_the_budget_stops_it_too_and_a_callable_is_called_once(
    run_report: RunReport,
) -> None:
    called: list[RunReport] = []
    keeper = Keeper(run_report)
    run = begun(keeper, epochs=1000, budget=Budget(energy_kwh=1000.0 / J_PER_KWH, action=called.append))
    for _ in range(4):
        await EpochMark(run)
    assert len(called) == 1
    assert "will not hold" in run.budget_broken
    assert any("will not hold" in text for text in called[0].warnings)


async def test_on_prediction_may_end_the_training(run_report: RunReport) -> None:
    run = begun(Keeper(run_report), epochs=3, on_prediction=lambda prediction: prediction.epochs_seen < 2)
    await EpochMark(run)
    with pytest.raises(TrainingStoppedError, match="after epoch 2"):
        await EpochMark(run)


async def test_a_keeper_that_is_gone_costs_figures_and_nothing_else(run_report: RunReport) -> None:
    keeper = Keeper(run_report)
    run = begun(keeper)
    first = await EpochMark(run)
    keeper.error = RuntimeError("The actor died.\nA long tale.")
    assert (await EpochMark(run)).index == first.index  # what is known
    keeper.waiting.pop().set_exception(keeper.error)
    run.step(1, None)
    published = run.published
    assert published is not None
    assert any("did not answer (The actor died.)" in text for text in published.warnings)
    assert any("no live figures any more" in text for text in published.warnings)
    future = run.snapshot()
    with pytest.raises(EngineError, match=r"The actor died\."):
        future.result(0)


async def test_an_error_of_the_prediction_costs_only_the_prediction(run_report: RunReport) -> None:
    keeper = Keeper(run_report)
    keeper.like = dataclasses.replace(run_report, pue=None)  # type: ignore[arg-type]  # an error of ours, as it were
    run = begun(keeper, epochs=5)
    await EpochMark(run)
    await EpochMark(run)
    assert run.prediction is None
    published = run.published
    assert published is not None
    assert sum("is not predicted any more" in text for text in published.warnings) == 1


async def test_verbs_before_the_begin_and_after_the_end(run_report: RunReport) -> None:
    run = ClusterRun({})
    with pytest.raises(UsageError, match=r"epoch\(\) before the ClusterTracker was entered"):
        await EpochMark(run)
    assert run.published is None
    keeper = Keeper(run_report)
    run = begun(keeper)
    run.end(keeper.report())
    words = len(keeper.words)
    await EpochMark(run)
    keeper.news()  # a word that was on its way
    assert len(keeper.words) == words
    published = run.published
    assert published is not None
    assert published.it_energy_kwh * J_PER_KWH == pytest.approx(200.0)  # the final report stays


def test_news_that_are_older_than_what_is_known_change_nothing(run_report: RunReport) -> None:
    keeper = Keeper(run_report)
    run = begun(keeper)
    old = keeper.report()
    keeper.news()
    run.take(old)
    run.take(None)
    published = run.published
    assert published is not None
    assert published.duration_s == 3.0  # the first word, an old one, the news


# -- what else needs no Ray ----------------------------------------------------------------------------------------


def test_meters_that_come_later_begin_where_the_epochs_are() -> None:
    state = EpochState()
    state = state.after(Turn(verb="border", index=0))
    assert (state.index, state.is_open) == (1, False)
    state = state.after(Turn(verb="open", index=1, is_entered=True))
    assert (state.index, state.is_entered, state.is_open) == (1, True, True)
    state = state.after(Turn(verb="close", index=1))
    assert (state.index, state.is_entered, state.is_open) == (2, True, False)
    assert EpochState(index=3).after(Turn(verb="open", index=3)).is_open is False  # `epoch_start()` moves a begin


@pytest.mark.parametrize("text", ["", "[]", "{", '{"index": 1, "other": 2}', "null"])
def test_a_state_that_cannot_be_read_is_that_of_a_begin(text: str, tmp_path: Any) -> None:
    path = tmp_path / "keeper.json"
    assert _state(path) == EpochState()
    path.write_text(text)
    assert _state(path) == EpochState()


@pytest.mark.parametrize(
    ("version", "is_told"), [("2.60.0", False), ("2.9", False), ("3.0.0rc1", True), ("1.13", True), ("", True)]
)
def test_another_major_version_is_told(version: str, is_told: bool) -> None:
    assert bool(version_note(version)) is is_told
    assert not is_told or "pip install 'ray>=2.60,<3'" in version_note(version)


def test_a_run_that_goes_on_is_not_partial_for_processes_that_go_on(run_report: RunReport) -> None:
    now = time.time()
    open_one = dataclasses.replace(
        run_report, status="partial", warnings=(f"1 of 2 processes {STILL_RUN}; last seen", "x")
    )
    there = NodeSeen(node_id="a" * 40, address="10.0.0.1", joined_s=now, is_first=True, host="n1", told_s=now)
    live = with_nodes(open_one, [there], is_live=True)
    assert (live.status, live.is_final, live.warnings) == ("complete", False, ("x",))
    assert with_nodes(open_one, [there]).status == "partial"
    gone = dataclasses.replace(there, left_s=now)
    assert with_nodes(open_one, [gone], is_live=True).status == "partial"
    silent = dataclasses.replace(there, told_s=None, host="")
    live = with_nodes(open_one, [there, silent], is_live=True)
    assert live.status == "partial"
    assert [node.it_energy_kwh for node in live.nodes if node.host.startswith("10.")] == [None]


def test_nodes_that_were_told_to_go_are_told() -> None:
    with sync.Tracker(meters="simulated:5", run_id="r", node="n1") as tracked:
        pass
    goes = NodeSeen(node_id="a" * 40, address="x", joined_s=1.0, is_first=True, host="n1", told_s=2.0, goes_s=1e9)
    told = with_nodes(tracked.report(), [goes, dataclasses.replace(goes, host="n2", goes_s=0.0)], is_live=True).warnings
    assert "node n1 was told to go by 2001-09-09T01:46:40+00:00 (drained or preempted)" in told
    assert "node n2 was told to go (drained or preempted)" in told


def test_an_epoch_of_the_cluster_is_the_sum_of_its_nodes(run_report: RunReport) -> None:
    (like,) = run_report.epochs
    n1 = dataclasses.replace(
        like, index=3, it_energy_kwh=100.0 / J_PER_KWH, duration_s=2.0, coverage=1.0, basis_shares={Basis.COUNTER: 1.0}
    )
    n2 = dataclasses.replace(
        n1, it_energy_kwh=300.0 / J_PER_KWH, duration_s=4.0, coverage=0.5, basis_shares={Basis.MODEL: 1.0}
    )
    epoch = joined_epoch([("n1", n1), ("n2", n2)])
    assert epoch is not None
    assert (epoch.index, epoch.duration_s, epoch.coverage, epoch.is_final) == (3, 4.0, 0.75, False)
    assert epoch.it_energy_kwh * J_PER_KWH == pytest.approx(400.0)
    assert epoch.power_w == pytest.approx(100.0)
    assert epoch.basis == Basis.MODEL
    assert epoch.basis_shares == pytest.approx({Basis.COUNTER: 0.25, Basis.MODEL: 0.75})
    # Two of Ray's nodes on one machine have its devices in common; one that did not answer vouches for nothing.
    epoch = joined_epoch([("n1", n1), ("n1", n1), ("n3", None)])
    assert epoch is not None
    assert epoch.it_energy_kwh * J_PER_KWH == pytest.approx(100.0)
    assert epoch.coverage == 0.5
    assert joined_epoch([("n1", None)]) is None
    assert joined_epoch([]) is None


def test_a_report_is_carried_on_for_a_prediction_only_forwards(run_report: RunReport) -> None:
    at_s = run_report.as_of.timestamp()
    later = carried_on(run_report, at_s + 2.0, 500.0)
    assert (later.it_energy_kwh - run_report.it_energy_kwh) * J_PER_KWH == pytest.approx(1000.0)
    assert later.duration_s - run_report.duration_s == pytest.approx(2.0)
    assert later.co2eq_g / run_report.co2eq_g == pytest.approx(later.it_energy_kwh / run_report.it_energy_kwh)
    assert carried_on(run_report, at_s - 2.0, 500.0) is run_report
    nothing = dataclasses.replace(run_report, it_energy_kwh=0.0)
    assert carried_on(nothing, at_s + 2.0, 500.0) is nothing
