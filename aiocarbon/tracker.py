"""The async tracker: one line per verb over the engine."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import aiocarbon._core.ledger  # noqa: F401  # entering needs it: loaded here, where no loop waits for it
from aiocarbon._engine.bridge import answer, shield, sleep
from aiocarbon._engine.handle import Handle
from aiocarbon._engine.life import CLOSE_LIMIT_S
from aiocarbon._marks import BudgetEvent, Child, EpochMark, Epochs, EpochVerbs, StepVerbs, wait_for
from aiocarbon.errors import AiocarbonError, ConfigError, EngineError, UsageError
from aiocarbon.settings import UNSET, Unset, check_arguments

if TYPE_CHECKING:
    from concurrent.futures import Future
    from datetime import datetime, timedelta

    from aiocarbon._core.report import Prediction, RunReport
    from aiocarbon._core.waited import CleanWait
    from aiocarbon._engine.tape import Tape
    from aiocarbon.budget import Budget
    from aiocarbon.meters.base import Meter

__all__ = ["Child", "EpochMark", "Epochs", "Tracker", "Verbs"]


FOR_CLEAN = "for clean electricity"


class Verbs(StepVerbs):
    """What the async and the blocking tracker have in common: the settings and the verbs that wait for nothing.

    Arguments that are not given are taken from `AIOCARBON_<NAME>`, then from `[tool.aiocarbon]` of the nearest
    pyproject.toml, then from the defaults of `Settings`.

    Args:
        epochs: How many epochs there will be; None: unbounded.
        name: What you call the run.
        budget: Limits on what the run may use; None: no limit.
        location: ISO country ("DE"), sub-national code ("US-CA"), grid zone ("DK-DK1"), British postcode ("GB:N1") or
            coordinates ("55.67,12.57"); None: asked of the cloud's metadata or of two web services, else guessed from
            the time zone.
        intensity: Carbon intensity in gCO2eq/kWh, 0 to 3000; or a file or https URL of rows of time and value; or the
            name of a source ("electricitymaps"); None: the sources that cover the location, in their order, else its
            bundled yearly average.
        pue: Power usage effectiveness, at least 1; None: found out.
        interval_s: Pace of counters, load models, journal and stream, 0.02 to 60 s.
        meters: Names of meters ("nvml", "simulated:250") or `Meter` objects; None: all that this machine has.
        scope: Whose energy counts: "machine", all that it draws; "process", the share of this process and what it
            starts; "cgroup", that of its control group (a container's or batch job's).
        journal: Folder of the journal; None: none is written.
        run_id: Id of the run; None: that of the SLURM job or of torchrun, else made.
        node: Name of this machine in reports; None: SLURM's name of it, else its host name.
        offline: True if no network packet may be sent: neither for the location nor for the intensity.
        strict: True if errors of the instrument shall be raised here.
        attribution: How energy is split among spans: "even", "weight" (by the weights that spans tell), "device" (a
            span bound to a GPU takes its energy) or "cpu" (by the CPU time of their own steps); "even,idle=shared"
            shares the idle floor too, "even,floor_w=50" gives it.
        device_sync: Run in a worker before a mark, which is then the instant it returned: a callable, or "torch".
        resume: Go on with a run that was broken off: its id (in the folder of journals) or its folder; where there is
            none yet, it begins. Energy, epochs, spans and prediction go on; the time in between is a pause. True: the
            run with `run_id`, or of the SLURM job or torchrun. It begins with the epoch behind the last complete one
            that the journal tells; a number says another one. Epochs that two starts of a run did are rework.
        predict_after: Complete epochs before which nothing is predicted. Up to 1, the first prediction comes as soon as
            anything tells a rate: earlier runs of the name, steps with a total inside the first epoch, or its end.
        monitor_epochs: Only so many complete epochs count for predictions, the rest is extrapolated; None: all.
        on_prediction: Called with each epoch's `Prediction`, in the task that marks the epoch; if it returns False the
            run ends with `TrainingStoppedError`. A coroutine function is awaited (async tracker only).

    Raises:
        ConfigError: An argument is not accepted; nothing was started.
    """

    def __init__(
        self,
        *,
        epochs: int | Unset | None = UNSET,
        name: str | Unset = UNSET,
        budget: Budget | Unset | None = UNSET,
        location: str | Unset | None = UNSET,
        intensity: float | str | os.PathLike[str] | Unset | None = UNSET,
        pue: float | Unset | None = UNSET,
        interval_s: float | Unset = UNSET,
        meters: str | Sequence[str | Meter] | Meter | Unset | None = UNSET,
        scope: str | Unset = UNSET,
        journal: str | os.PathLike[str] | Unset | None = UNSET,
        run_id: str | Unset | None = UNSET,
        node: str | Unset | None = UNSET,
        offline: bool | Unset = UNSET,
        strict: bool | Unset = UNSET,
        attribution: str | Mapping[str, Any] | Unset = UNSET,
        device_sync: str | Callable[[], object] | Unset | None = UNSET,
        resume: int | bool | str | os.PathLike[str] | Unset | None = UNSET,
        predict_after: int | Unset = UNSET,
        monitor_epochs: int | Unset | None = UNSET,
        on_prediction: Callable[[Prediction], Any] | Unset | None = UNSET,
    ) -> None:
        given = {field: value for field, value in locals().items() if field != "self"}
        self._handle = Handle(check_arguments(given))

    _handle: Handle

    @property
    def _tape(self) -> Tape:
        return self._handle.tape

    @property
    def prediction(self) -> Prediction | None:
        """What the whole run will use, as of now; None as long as nothing tells. Waits for nothing."""
        return self._handle.prediction

    @property
    def run_id(self) -> str:
        """Id of the run; the name of its journal's folder."""
        return self._handle.run_id

    def report(self) -> RunReport:
        """The newest published report, at once; final after the block.

        Where nobody has looked for 10 s, the instrument takes its readings some seconds at a time: it catches up then,
        in about 1 ms, and at most 5 ms are waited for it. `as_of` tells up to when a report reaches.

        Raises:
            UsageError: The tracker was never entered.
        """
        return self._handle.report()


class Tracker(Verbs, EpochVerbs):
    """Tracks the energy and CO2eq of a run, from entering to leaving.

    ```python
    async with Tracker(epochs=100) as tracker:
        for _ in range(100):
            await train_one_epoch()
            epoch = await tracker.epoch()
    report = tracker.report()
    ```

    The arguments are those of `Verbs`, and every field of `Settings` is one.
    """

    # -- life --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(ended_well=error is None)

    async def start(self) -> None:
        """Begin the run: meters are opened and latched; waits at most 0.5 s for a driver that is slow.

        Raises:
            ConfigError: A value of the environment or of pyproject.toml is not accepted.
            UsageError: The tracker was started before.
            EngineError: The engine could not begin, and the run is strict.
        """
        try:
            await answer(self._handle.open(), self._handle.open_limit_s)
        except (ConfigError, UsageError):
            raise
        except (AiocarbonError, TimeoutError) as error:
            self._handle.go_on_without(error)
        except BaseException:
            # Cancelled while entering: nobody will leave, so the run ends as soon as it has begun.
            self._handle.close(time.monotonic_ns(), ended_well=False)
            raise
        self._tape.follow()

    async def aclose(self) -> None:
        """End the run, with the last reading and the final report; safe to call twice."""
        await self._end(ended_well=True)

    async def _end(self, *, ended_well: bool) -> None:
        future = self._handle.close(time.monotonic_ns(), ended_well=ended_well)
        if future is None:
            return
        # Shielded: the last reading is taken also when the body was cancelled; the engine bounds the wait.
        with shield():
            await self._until(future)

    async def _until(self, future: Future[Any]) -> None:
        """Wait for the run's end to be made."""
        try:
            await answer(future, CLOSE_LIMIT_S)
        except (AiocarbonError, TimeoutError) as error:
            self._handle.fail(error)

    # -- pauses and children -----------------------------------------------------------------------------------

    async def clean(
        self,
        *,
        below_g_per_kwh: float | None = None,
        deadline: datetime | timedelta | float | str | None = None,
        duration: timedelta | float | str | None = None,
    ) -> CleanWait:
        """Pause the training, between epochs, while the grid is dirty.

        The pause lies in no epoch, and the report tells it. Location, intensity and offline are the tracker's own;
        everything else is as in `aiocarbon.wait_until_clean`.

        Args:
            below_g_per_kwh: Limit in gCO2eq/kWh; None: no limit.
            deadline: How long to wait at most, or by when the work has to be done.
            duration: How long the work takes whose best start is waited for.

        Raises:
            ConfigError: An argument is not accepted.
            UsageError: The tracker was not entered.
        """
        from aiocarbon.waiting import Order

        self._handle.begun("clean()")
        order = Order(below_g_per_kwh, deadline, duration, **self._handle.place)
        try:
            came = await answer(order.begin(), None)
        except EngineError as error:
            came = order.failed(error)
        except BaseException:
            self._handle.paused(time.monotonic_ns(), order.waited_s, f"{FOR_CLEAN}: broken off")
            raise
        finally:
            order.end()
        await wait_for(
            self._handle, self._handle.paused(time.monotonic_ns(), came.waited_s, f"{FOR_CLEAN}: {came.note}")
        )
        return came

    def child(self, name: str) -> Child:
        """A part of the run with epochs and steps of its own, and the energy of its spans.

        Args:
            name: Its name; the same name gives the same child.

        Raises:
            UsageError: The tracker was not entered.
        """
        return Child(self._handle.child(name))

    # -- reports -----------------------------------------------------------------------------------------------

    @property
    def exceeded(self) -> Exceeded:
        """An event that is set once the budget is used up."""
        return Exceeded(self._handle)

    async def snapshot(self) -> RunReport:
        """The report exactly as of now, after a reading of every meter."""
        return await wait_for(self._handle, self._handle.snapshot()) or self._handle.report()

    async def stream(self, interval_s: float | None = None) -> AsyncIterator[RunReport]:
        """Live reports, one an interval, until the run ends; the last one is the final report.

        Args:
            interval_s: Seconds between two, within 0.02 to 60; None: the tracker's own interval.

        Raises:
            ConfigError: The interval is not accepted.
        """
        from aiocarbon.settings import check

        every_s = self._handle.interval_s if interval_s is None else check("interval_s", interval_s)
        due = time.monotonic()
        while self._handle.is_active:
            yield await self.snapshot()
            due = max(due + every_s, time.monotonic())
            await sleep(max(due - time.monotonic(), 0.0))
        final = self._handle.final()
        if final is not None:
            await self._until(final)
        yield self._handle.report()


class Exceeded(BudgetEvent):
    """An event that is set once the run's budget is used up, for tasks and cancel scopes."""

    async def wait(self) -> None:
        """Wait until the budget is used up; for ever if it never is."""
        await answer(self._handle.verdicts.exceeded, None)
