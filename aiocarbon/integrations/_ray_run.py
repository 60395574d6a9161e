"""A cluster's run as its driver sees it: its epochs, its newest report, its prediction and its budget.

The keeper sends a report of the cluster every 5 s, and an epoch when it ends; what follows from it is decided on the
thread of the driver's own engine, so that no loop of the user's waits for it or has to run for it.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from aiocarbon._core.units import S_PER_NS, j_from_kwh
from aiocarbon._engine.marks import Marks, Style
from aiocarbon._engine.verdicts import Verdicts
from aiocarbon._logging import get_logger
from aiocarbon.errors import EngineError, UsageError
from aiocarbon.integrations._ray_actors import Turn
from aiocarbon.integrations._ray_nodes import carried_on

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.ahead import Horizon
    from aiocarbon._core.predict import Predictor
    from aiocarbon._core.report import EpochReport, Prediction, RunReport
    from aiocarbon._engine.handle import Handle

log = get_logger("ray")

MARK_LIMIT_S = 5.0
"""How long the end of an epoch is waited for at most: nodes that do not answer are given up after 2 s."""

APART_SHARE = 0.05
"""Mean intensities of the cluster and of the driver's node that differ by more are told."""

Ask = Callable[..., "Future[Any]"]


class ClusterRun(Marks):
    """The run of a cluster: its marks are its nodes', its figures are the cluster's.

    Args:
        settings: epochs, budget, predict_after, monitor_epochs and on_prediction, as of `Tracker`; those given.
    """

    mark_limit_s = MARK_LIMIT_S

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.verdicts = Verdicts(settings.get("budget"), settings.get("on_prediction"))
        self.prediction: Prediction | None = None
        self.budget_broken = ""
        self.is_active = False
        self._epochs = settings.get("epochs")
        self._foresight = Foresight(settings)
        self._newest: RunReport | None = None
        self._is_final = False
        self._notes: dict[str, None] = {}
        self._is_endangered = False
        self._index = 0
        self._ask: Ask | None = None
        self._local: Handle | None = None
        self._publishing = threading.Lock()

    def begin(self, ask: Ask, local: Handle | None) -> None:
        """Begin.

        Args:
            ask: Calls a method of the keeper; the future of its report.
            local: The run of the driver's own process, whose engine and forecast serve; None if there is none.
        """
        self._ask, self._local = ask, local
        self.is_active = True
        self._foresight.began(time.monotonic_ns())
        if local is not None:
            local.tape.ask(self.heed_budget)

    def end(self, report: RunReport | None) -> None:
        """End, with the final report; None where the newest one is all there is."""
        self.is_active = False
        with self._publishing:
            if report is not None:
                self._newest, self._is_final = report, True

    # -- reports -----------------------------------------------------------------------------------------------

    @property
    def published(self) -> RunReport | None:
        """The newest report, with what is known beside the journals; None before the first."""
        report = self._newest
        if report is None:
            return None
        notes = tuple(note for note in self._notes if note not in report.warnings)
        return dataclasses.replace(report, prediction=self.prediction, warnings=(*notes, *report.warnings))

    def warn(self, text: str) -> None:
        """Have a reader of the report know something."""
        self._notes[text] = None

    def tell(self, message: str) -> None:
        """Warn, once a message."""
        if message not in self._notes:
            self._notes[message] = None
            log.warning("ray.notice", why=message)

    def fail(self, error: BaseException) -> None:
        """Treat an error of the instrument: told once."""
        self.tell(f"the cluster did not answer ({error or type(error).__name__}); its nodes are measured on")

    def listen(self) -> None:
        """Have the keeper tell its news, again and again; waits for nothing."""
        if self.is_active and self._ask is not None:
            self._ask("news").add_done_callback(self._heard)

    def _heard(self, done: Future[RunReport | None]) -> None:
        """Take news, in whatever thread they come; the next are asked for after that."""
        if not self.is_active:
            return
        error = done.exception()
        if error is not None:  # Ray starts a keeper again as often as it dies, so this one is gone for good
            self.tell(f"no live figures any more: the keeper of the cluster's run is gone ({_first_line(error)})")
            return
        self._here(self._take_news, done.result())

    def _take_news(self, report: RunReport | None) -> None:
        try:
            self.take(report)
        finally:
            self.listen()

    def take(self, report: RunReport | None) -> None:
        """Take a report of the cluster: predict, and see whether the budget holds."""
        if report is None:
            return
        with self._publishing:
            if self._is_final or (self._newest is not None and report.as_of < self._newest.as_of):
                return
            self._newest = report
            self._foresee(report, report.epochs)
        self._look_at_budget(report)

    def _take_epoch(self, epoch: EpochReport | None) -> EpochReport | None:
        """Take an epoch that has ended: predict with it, though the report of the cluster is some seconds old."""
        report = self._newest
        if epoch is None or report is None:
            return epoch
        with self._publishing:
            self._foresee(report, (epoch,))
        self._look_at_budget(report)
        return dataclasses.replace(epoch, prediction=self.prediction)

    def _foresee(self, report: RunReport, epochs: Iterable[EpochReport]) -> None:
        try:
            steps = self._steps, self._epoch_total
            self._foresight.feed(report, epochs)
            self.prediction = self._foresight.look(report, steps, self._epochs, self._horizon(report))
        except Exception as error:  # an error of ours costs the run its predictions, and nothing else
            self._foresight.is_off = True
            self.prediction = None
            self.tell(f"the run is not predicted any more: {type(error).__name__}: {error}")

    def _horizon(self, report: RunReport) -> Horizon | None:
        """The intensity from now on, as the driver's own run knows it; on its engine's thread."""
        session = None if self._local is None else self._local._session
        if session is None:
            return None
        here = session.published
        mine = report.intensity_g_per_kwh
        if here is not None and abs(here.intensity_g_per_kwh - mine) > APART_SHARE * mine:
            self.warn(
                "the CO2eq to come is reckoned with the intensity of the driver's node, which was "
                f"{here.intensity_g_per_kwh:.0f} g/kWh; the cluster's was {mine:.0f}"
            )
        return session.foresight.ahead(time.time())

    # -- the budget --------------------------------------------------------------------------------------------

    def _look_at_budget(self, report: RunReport) -> None:
        budget = self.verdicts.budget
        if budget is None or self.budget_broken:
            return
        self.budget_broken = budget.broken_by(report) or budget.broken_ahead(self.prediction)
        if self.budget_broken:
            self.warn(self.budget_broken)
            if self._local is not None:
                self._local.tape.alert()  # the driver's next span asks before it opens
            self.verdicts.exceed()
        elif not self._is_endangered and (danger := budget.endangered_by(self.prediction)):
            self._is_endangered = True
            self.warn(danger)

    def heed_budget(self) -> None:
        """Act if the cluster's budget is used up; called in the driver's task.

        Raises:
            BudgetExceededError: It is, and the action is "raise".
        """
        if self.budget_broken and self.is_active:
            self.verdicts.heed(self)

    def step(self, n: int, total: int | None) -> None:
        """Count steps of the present epoch.

        Raises:
            UsageError: The run has not begun.
            BudgetExceededError: The cluster's budget is used up.
        """
        if self._ask is None:
            self._may_mark("step()")
        super().step(n, total)
        self.heed_budget()

    # -- epochs ------------------------------------------------------------------------------------------------

    def _may_mark(self, verb: str) -> bool:
        if self._ask is None:
            raise UsageError(f"{verb} before the ClusterTracker was entered: use it inside `async with ClusterTracker`")
        if not self.is_active:
            self.tell(f"{verb} after the run has ended marks nothing")
        return self.is_active

    def paused(self, t_ns: int, waited_s: float, why: str) -> None:
        """Take a pause; on a cluster it is part of the epoch that follows."""
        self.tell(f"the training paused for {waited_s:.0f} s {why}; it is part of the next epoch")

    def _border(self, t_ns: int, steps: int) -> Future[Any] | None:
        return self._end_one("border", t_ns, steps, is_partial=False)

    def _close(self, t_ns: int, steps: int, *, is_partial: bool) -> Future[Any] | None:
        return self._end_one("close", t_ns, steps, is_partial=is_partial)

    def _open(self, t_ns: int, *, is_entered: bool) -> Future[Any] | None:
        self._foresight.opened(t_ns)
        return self._turn(Turn(verb="open", index=self._index, is_entered=is_entered))

    def _end_one(self, verb: str, t_ns: int, steps: int, *, is_partial: bool) -> Future[Any] | None:
        with self._lock:
            index, self._index = self._index, self._index + 1
        self._foresight.ended(t_ns, is_open=self._style is not Style.ENTERED)
        return self._turn(Turn(verb=verb, index=index, steps=steps, is_partial=is_partial))

    def _turn(self, turn: Turn) -> Future[Any]:
        """Have the nodes mark it; the future of the epoch's report, None where none answered or nothing ended."""
        return self._asked(self._take_epoch, "mark", turn)

    def snapshot(self) -> Future[Any]:
        """The future of the cluster's report after a reading of every node that answers; None if nothing is known."""
        return self._asked(self._taken, "snapshot")

    def first_word(self) -> Future[Any]:
        """The future of the first report of the cluster."""
        return self._asked(self._taken, "first_word")

    def _taken(self, report: RunReport | None) -> RunReport | None:
        self.take(report)
        return self.published

    def _asked(self, take: Callable[[Any], Any], verb: str, *arguments: Any) -> Future[Any]:
        """Ask the keeper, and take what it says where that is done; the future of what that gives."""
        from concurrent.futures import Future

        assert self._ask is not None  # who calls has looked
        told: Future[Any] = Future()

        def finish(said: Any) -> None:
            try:
                told.set_result(take(said))
            except Exception as error:  # whoever waits is told
                told.set_exception(EngineError(f"{type(error).__name__}: {error}"))

        def answer(done: Future[Any]) -> None:
            error = done.exception()
            if error is not None:
                told.set_exception(EngineError(_first_line(error)))
            else:
                self._here(finish, done.result())

        self._ask(verb, *arguments).add_done_callback(answer)
        return told

    def _here(self, act: Callable[[Any], None], said: Any) -> None:
        """Do something with what was said on the thread of the driver's own engine, or at once if there is none."""

        async def verb(_: Any) -> None:
            act(said)

        if self._local is None or self._local.call(verb) is None:
            act(said)


class Foresight:
    """The prediction of a cluster's run, by its reports.

    Args:
        settings: epochs, predict_after and monitor_epochs; those given.

    Attributes:
        is_off: True once it failed.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.is_off = False
        self._settings = settings
        self._predictor: Predictor | None = None
        self._fed = 0  # epochs
        self._power_w: float | None = None  # of the last one
        self._base_j = 0.0  # of the run, where the epoch that is open began
        self._open_ns: int | None = 0
        self._last_ns = 0
        self._has_ended = False  # whether an epoch has
        self._gaps_s: list[float] = []  # between epochs that are entered

    def began(self, t_ns: int) -> None:
        """The run begins, and with it the first epoch."""
        self._open_ns = self._last_ns = t_ns

    def opened(self, t_ns: int) -> None:
        """An epoch begins."""
        if self._has_ended:
            self._gaps_s.append(max(t_ns - self._last_ns, 0) * S_PER_NS)
        self._open_ns = t_ns

    def ended(self, t_ns: int, *, is_open: bool) -> None:
        """An epoch ends.

        Args:
            t_ns: When, monotonic.
            is_open: True if another one begins there.
        """
        self._has_ended = True
        self._last_ns = t_ns
        self._open_ns = t_ns if is_open else None

    def look(
        self, run: RunReport, steps: tuple[int, int | None], epochs: int | None, horizon: Horizon | None
    ) -> Prediction | None:
        """Predict the run.

        Args:
            run: The cluster's newest report.
            steps: Done in the epoch that is open, and of how many, if known.
            epochs: Of the whole run; None if not known.
            horizon: The intensity from now on; None: no CO2eq is told.
        """
        from aiocarbon._core.foretell import foretell

        predictor = self._made()
        if self.is_off:
            return None
        predictor.epochs = epochs
        now = carried_on(run, time.time(), self._power_w)
        elapsed_s = 0.0 if self._open_ns is None else (time.monotonic_ns() - self._open_ns) * S_PER_NS
        open_j = max(j_from_kwh(now.it_energy_kwh) - self._base_j, 0.0) if run.coverage > 0.0 else None
        done, total = steps
        if done and self._open_ns is not None:
            predictor.progress(elapsed_s, open_j, done, total)
        outlook = predictor.outlook(elapsed_s, open_j)
        if outlook is None:
            return None
        return foretell(outlook, used=now, pue=run.pue.value, horizon=horizon, now=now.as_of)

    def feed(self, run: RunReport, epochs: Iterable[EpochReport]) -> None:
        """Tell of epochs that have ended, those that were not told of before, and of what lay before them."""
        predictor = self._made()
        for epoch in epochs:
            if epoch.index < self._fed:
                continue
            energy_j = j_from_kwh(epoch.it_energy_kwh) if epoch.coverage > 0.0 else None
            if self._gaps_s:  # they are too short to be measured apart on every node
                gap_s = self._gaps_s.pop(0)
                predictor.between(gap_s, None if run.power_w is None else run.power_w * gap_s)
            predictor.epoch(
                epoch.duration_s,
                energy_j,
                steps=epoch.steps,
                is_partial=epoch.is_partial,
                coverage=epoch.coverage,
            )
            self._fed = epoch.index + 1
            self._power_w = epoch.power_w
            self._base_j = j_from_kwh(carried_on(run, time.time(), self._power_w).it_energy_kwh)

    def _made(self) -> Predictor:
        if self._predictor is None:
            from aiocarbon._core.predict import Predictor

            self._predictor = Predictor(
                None,
                predict_after=self._settings.get("predict_after", 1),
                monitor_epochs=self._settings.get("monitor_epochs"),
            )
        return self._predictor


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
