"""What the callbacks of training frameworks have in common: one run a training, its epochs, steps, spans, stop, resume.

Guarantees:
- a hook between the begin and the end of a training waits for nothing: it reads a clock and hands over;
- a training that was left without a word (an exception where the framework has no hook for it) ends where its last
  hook was, as soon as anybody asks;
- joules are counted once however many processes a machine runs (`tracks`).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from concurrent import futures
from typing import TYPE_CHECKING, Any, Final

from aiocarbon import sync
from aiocarbon.errors import AiocarbonError
from aiocarbon.integrations._hooks import harmless, tell_of_copy
from aiocarbon.settings import check_arguments, resolve
from aiocarbon.span import WorkSpan

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.identity import Identity
    from aiocarbon._core.report import EpochReport, RunReport
    from aiocarbon.settings import Settings

__all__ = ["Training", "agree"]

AGREE_EVERY: Final = 50
"""Processes of one training agree after so many steps, and at each epoch's end, whether a budget stops it: if one
stopped alone, the others would wait for it for ever."""

MOST_EPOCHS: Final = 10**6
"""Frameworks state more where they know of no number of epochs."""

FIGURES: Final = (
    "energy_kwh",
    "co2eq_g",
    "power_w",
    "intensity_g_per_kwh",
    "predicted_co2eq_g",
    "predicted_co2eq_g_high",
)
"""What goes into a framework's logs, some of which are printed on one line; `report.metrics()` has all."""

CARRIED: Final = ("energy_kwh", "co2eq_g", "duration_s")
"""What a checkpoint holds of the starts before it."""


def tracks(settings: Settings, who: Identity, local_rank: int) -> bool:
    """Whether a process of a training tracks: the first one of each machine does, and where it adds something, all do.

    What several write into journals is put together, and a device that several track is read by one of them, whichever
    it is: so no joule counts twice, and none is lost where a process sees its own GPU only, or counts its own share.
    Without a journal, or an id that the processes have in common, nothing is put together; then the first process's
    report is the machine's.

    Args:
        settings: Those of the run.
        who: Which of a start's processes this is.
        local_rank: Its number on its machine, as the framework has it.
    """
    return local_rank == 0 or (settings.journal is not None and who.is_shared)


def agree(stops: bool, *, device: Any) -> bool:
    """True in all processes of PyTorch's default group if any of them says so; all have to ask.

    Args:
        stops: What this one says.
        device: Where its collectives work.
    """
    import torch

    flag = torch.tensor(int(stops), device=device)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag)


_unkeyed: weakref.WeakSet[Training] = weakref.WeakSet()
"""Those that no trainer has asked for their key yet: two in one trainer need two keys, and get them again when the
program starts again."""


class Training:
    """The runs of one callback, one after the other.

    Args:
        settings: Arguments of `aiocarbon.sync.Tracker`. What the framework knows itself (epochs, the first epoch of a
            training that resumes, the run's id in a checkpoint) need not be said; what is said wins.

    Attributes:
        tracker: The tracker of the run that is on; None where none is, or another process of this machine tracks.
        reports: The final reports of the runs that have ended, in their order.
        stop_reason: Why the training has to stop; empty if it has not.
        may_stop: True if anything could ever say so: then the processes of a training have to agree.
        is_open: True between begin and end.
        at: The step number that was told last.
        last_ns: When the framework last called anything, monotonic.

    Raises:
        ConfigError: A setting is not accepted.
        TypeError: There is no such setting.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        sync.Tracker(**settings)  # checks them, and starts nothing
        self._settings = dict(settings)
        self._key = f"aiocarbon.CarbonCallback{len(_unkeyed) or ''}"
        _unkeyed.add(self)
        self.tracker: sync.Tracker | None = None
        self.reports: list[RunReport] = []
        self.stop_reason = ""
        self.may_stop = self.is_open = False
        self.last_ns, self._pid = 0, os.getpid()
        self._lock = threading.Lock()
        self._carried, self._restored = dict[str, Any](), dict[str, Any]()
        self._reset()

    def _reset(self) -> None:
        self.at = self._steps = self._base = 0
        self._total: int | None = None
        self._is_epoch_open = False
        self._epochs_done = 0
        self._span: WorkSpan | None = None
        self._asked: Future[EpochReport] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # To another process go settings and what a checkpoint told, never a run.
        return {"settings": self._settings, "_restored": self._restored, "_key": self._key, "_pid": self._pid}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Training.__init__(self, state["settings"])
        _unkeyed.discard(self)
        self._restored, self._key, self._pid = state["_restored"], state["_key"], state["_pid"]

    @property
    def key(self) -> str:
        """Under which key a trainer's checkpoints hold its state; asked for as the trainer is made."""
        _unkeyed.discard(self)
        return self._key

    # -- begin and end -----------------------------------------------------------------------------------------

    @harmless
    def begin(self, *, epochs: int | None = None, first_epoch: int = 0, local_rank: int = 0) -> None:
        """Begin a run; one that was left without a word ends first, at its last hook.

        Args:
            epochs: How many epochs the whole training has; None or absurd: not known.
            first_epoch: With which one it begins.
            local_rank: Number of this process on its machine.

        Raises:
            ConfigError: A value of the environment or of pyproject.toml is not accepted.
        """
        self.abandon()
        self._reset()
        self.stop_reason = ""
        self._carried, self._restored = self._restored, {}
        arguments = dict(self._settings)
        if epochs is not None and 0 < epochs < MOST_EPOCHS:
            arguments.setdefault("epochs", epochs)
        if first_epoch > 0 or self._carried:
            arguments.setdefault("resume", first_epoch)
        self._epochs_done = first_epoch
        if self._carried and not os.environ.get("AIOCARBON_RUN_ID"):
            arguments.setdefault("run_id", self._carried["run_id"])
        settings = resolve(check_arguments(arguments))
        self.may_stop = settings.budget is not None or settings.on_prediction is not None
        self.is_open = True
        tracker = sync.Tracker(**arguments)
        if tracks(settings, tracker._handle.who, local_rank):
            self.tracker = tracker
            tracker.start()
            if local_rank == 0:
                tell_of_copy(self._pid, settings.journal)

    @harmless
    def end(self, *, ended_well: bool, at_ns: int | None = None) -> None:
        """End the run, with the last reading and the final report; nothing where none is on.

        Args:
            ended_well: False where the training broke off.
            at_ns: When it ended, monotonic; None: now.
        """
        tracker = self.tracker
        self.is_open = False
        if tracker is None:
            return
        self._leave()
        try:
            if self._asked is not None:  # an engine that is late sets the last mark before it ends the run
                futures.wait([self._asked], tracker._handle.mark_limit_s)
            tracker._end(ended_well=ended_well, t_ns=at_ns)
        finally:
            self.tracker = None
            self.reports.append(tracker.report())

    def abandon(self) -> None:
        """End a run that was left without a word, where its last hook was."""
        if self.is_open:
            self.end(ended_well=False, at_ns=self.last_ns)

    # -- epochs and steps --------------------------------------------------------------------------------------

    @harmless
    def epoch_begin(self, total: float | None = None, *, base: int = 0, at: int | None = None) -> None:
        """Begin an epoch.

        Args:
            total: Its steps; None, 0 or infinite: not known.
            base: How many of them another start of the run did.
            at: The step number that stands before its first step; None: `base`, as numbers inside epochs do.
        """
        if self.tracker is None:
            return
        self._leave()
        self._total = int(total) if total is not None and 0 < total < float("inf") else None
        self.at, self._base, self._steps = base if at is None else at, base, 0
        self._is_epoch_open = True
        self.tracker.epoch_start()

    @harmless
    def epoch_end(self, *, is_whole: bool | None = None) -> None:
        """End the epoch, whose report is not waited for.

        Args:
            is_whole: False for a partial one; None: it is partial if steps are missing.
        """
        if self.tracker is None or not self._is_epoch_open:
            return
        self._leave()
        self._is_epoch_open = False
        if is_whole is None:
            is_whole = self._base == 0 and self._steps >= (self._total or 0)
        self._asked = self.tracker._handle.end_epoch(time.monotonic_ns(), is_partial=not is_whole)
        self._epochs_done += 1
        self._heed()

    @harmless
    def settle(self) -> None:
        """Wait for the report of the epoch that has just ended: 50 ms at most where meters answer."""
        if self._asked is not None and self.tracker is not None:
            sync.wait_for(self.tracker._handle, self._asked)

    @property
    def is_in_epoch(self) -> bool:
        """True inside an epoch, and where nobody counts them."""
        return self._is_epoch_open or self.tracker is None

    @harmless
    def progress(self, at: int) -> None:
        """Take the number of the step that was done; steps count on from one that went backwards."""
        tracker = self.tracker
        if tracker is None or self.stop_reason:
            return
        with self._lock:
            new, self.at = at - self.at, at
            self._steps += max(new, 0)
        if new < 0:
            self.notify("a step number went backwards; steps count on from there")
            return
        tracker.step(new, total=None if self._total is None else self._total - self._base)
        self._heed()

    def _heed(self) -> None:
        """Ask, without waiting, whether the training has to stop.

        Raises:
            StopTrainingError: It has.
        """
        if not self.may_stop or self.tracker is None:
            return
        outcome = None
        if self._asked is not None and self._asked.done():
            asked, self._asked = self._asked, None
            outcome = asked.result()
        sync.heed(self.tracker._handle, outcome)

    def stops(self, step: int, agree: Callable[[bool], bool] | None) -> bool:
        """Whether the training has to stop.

        Args:
            step: Number of the step, the same in all processes of the training; 0 at an epoch's end.
            agree: True for all processes if any of them says so, which all have to ask; None: there is only one.
        """
        if agree is None:
            return bool(self.stop_reason)
        return self.may_stop and step % AGREE_EVERY == 0 and agree(bool(self.stop_reason))

    def stop(self, reason: str) -> None:
        """Have the training stop; the first reason counts."""
        if not self.stop_reason:
            self.stop_reason = reason
            self.notify(f"{reason}; the training is asked to stop")

    # -- spans -------------------------------------------------------------------------------------------------

    @harmless
    def enter(self, name: str, *, every: int | None = None, count: int | None = None) -> None:
        """Open a span of work beside the steps, which predictions count apart; it ends with `exit`, or the next one.

        Args:
            name: Its name.
            every: It comes after each so many epochs; None: as often as so far.
            count: So many times in the whole run; None: not known.
        """
        if self.tracker is None:
            return
        self._leave()
        self._span = WorkSpan(self.tracker._tape, name, None, None, {}).paced(every, count)
        self._span.__enter__()

    @harmless
    def exit(self) -> None:
        """Close the span, if one is open."""
        self._leave()

    def _leave(self) -> None:
        span, self._span = self._span, None
        if span is not None:
            span.__exit__(None, None, None)

    # -- figures and state -------------------------------------------------------------------------------------

    @harmless
    def give(self, take: Callable[[dict[str, float]], object]) -> None:
        """Hand the run's figures as of the newest reading to something that takes them; not where nothing tracks.

        A training that resumed is told as a whole: where its earlier starts left a journal, all figures are; else there
        is "carbon/total_energy_kwh", with what the checkpoint tells of them.

        Args:
            take: Called with figures by key, such as "carbon/energy_kwh".
        """
        if self.tracker is None:
            return
        report = self.tracker.report()
        known = report.metrics()
        found = {key: known[key] for figure in FIGURES if (key := f"carbon/{figure}") in known}
        if "carbon/energy_kwh" in found and (earlier := self._earlier(report)):
            found |= {f"carbon/total_{key}": earlier[key] + getattr(report, key) for key in CARRIED[:2]}
        if found:
            take(found)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the run's id, and what it had used by the newest reading; empty if nothing."""
        return self._state() or {}

    @harmless
    def _state(self) -> dict[str, Any]:
        report = self.tracker.report() if self.tracker is not None else self.reports[-1] if self.reports else None
        if report is None:
            return {}
        earlier = self._earlier(report)
        used = {key: earlier.get(key, 0.0) + getattr(report, key) for key in CARRIED}
        return {"run_id": report.run_id, "epochs": self._epochs_done, **used}

    def _earlier(self, report: RunReport) -> dict[str, Any]:
        """What a checkpoint told of earlier starts; nothing where the report has them, out of their journal."""
        return {} if report.attempts else self._carried

    @harmless
    def restore(self, state: object) -> None:
        """Take what a checkpoint kept, for the next run; what is no such thing counts for nothing, and is told."""
        self._restored = {}
        if not state:
            return  # of a process that did not track
        try:
            if not isinstance(state, Mapping):
                raise TypeError(type(state))
            check_arguments({"run_id": state["run_id"]})
            used = {key: float(state[key]) for key in CARRIED}
            self._restored = {"run_id": state["run_id"], "epochs": max(int(state["epochs"]), 0), **used}
        except (KeyError, TypeError, ValueError):
            self.notify("what the checkpoint tells of the energy before it cannot be read; it is not counted")

    @property
    def restored_epochs(self) -> int:
        """How many epochs the run had done that goes on next; 0 where nothing was restored."""
        return int(self._restored.get("epochs", 0))

    def notify(self, message: str) -> None:
        """Warn of something once a run: in the report, and where Python shows warnings."""
        if self.tracker is not None:
            if message in self.tracker._handle._told:
                return
            with contextlib.suppress(AiocarbonError):
                self.tracker._handle.tell(message)
        with contextlib.suppress(Warning):  # where warnings are errors, this one is none of the training's
            warnings.warn(f"aiocarbon: {message}", RuntimeWarning, stacklevel=4)
