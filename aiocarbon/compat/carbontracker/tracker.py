"""carbontracker's tracker on this engine, so that changing one import line is the whole migration.

```python
from aiocarbon.compat.carbontracker.tracker import CarbonTracker

tracker = CarbonTracker(epochs=max_epochs)
for epoch in range(max_epochs):
    tracker.epoch_start()
    # Your model training.
    tracker.epoch_end()
tracker.stop()
```

Arguments, methods and what is printed are those of carbontracker 2.4.7; what differs is meant:

- It never ends the process. Settings that cannot be are a `ConfigError` (a `ValueError`) where the tracker is made; an
  answer of "no" raises `TrainingStoppedError` out of `epoch_end()`; errors of the instrument stop nothing.
- Energy is read from counters and integrated over all devices; carbontracker 2.x takes the mean of several devices for
  their sum. Time between epochs (validation, checkpoints) belongs to the training: it counts. What an unfinished epoch
  used counts too, and finished epochs are counted right after `stop()`.
- Nothing starts before the first `epoch_start()`, and the network is never waited for.
- `log_dir` is a folder of journals: `aiocarbon report LOG_DIR` reads them, and `aiocarbon.compat.carbontracker.parser`
  reads both them and carbontracker's own logs there. `log_file_prefix` becomes the run's name.
- `devices_by_pid` counts this process's share of all devices. Ranges and what was measured are printed beside totals.
- The PUE is found out, and the car is the same: 106.8 g/km.
"""

from __future__ import annotations

import contextlib
import operator
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aiocarbon import sync
from aiocarbon.compat.carbontracker import words
from aiocarbon.compat.carbontracker.components import meters_of
from aiocarbon.errors import AiocarbonError, ConfigError, StopTrainingError
from aiocarbon.settings import check_arguments

if TYPE_CHECKING:
    from aiocarbon._core.report import EpochReport, Prediction, RunReport

__all__ = ["CarbonTracker"]

LEAST_INTERVAL_S: Final = 0.02
MOST_INTERVAL_S: Final = 60.0
TOKENS: Final = {"electricitymaps": "AIOCARBON_ELECTRICITYMAPS_TOKEN"}
"""Where the key of each of carbontracker's providers goes."""

KEYLESS: Final = ("carbonintensityGB", "energidataservice")
"""Providers of carbontracker's that need none: a key of theirs is passed by."""

MOST_DECIMALS: Final = 30
LEAST_COVERAGE: Final = 0.9
LATE_EPOCHS: Final = 2
"""Of an epoch that was measured less than so, no prediction is printed, for so many epochs more."""


class CarbonTracker:
    """Tracks the energy and CO2eq of a training loop, with carbontracker's arguments and methods.

    Args:
        epochs: How many epochs the training has.
        epochs_before_pred: Epochs before the prediction is printed; 0: none is; -1: all.
        monitor_epochs: Epochs after which the consumption is printed and tracking ends; -1: all.
        update_interval: Pace of readings, seconds; brought within 0.02 to 60.
        interpretable: Whether the CO2eq is told as kilometres by car too.
        stop_and_confirm: Whether to ask on the terminal, after the prediction, if the training shall go on.
        ignore_errors: Whether a bad setting of the environment is only told; errors of meters never stop anything.
        components: "all", "gpu", "cpu" or "gpu,cpu".
        devices_by_pid: Whether only this process's share of the devices counts.
        log_dir: Folder of the journal; None: none is written.
        log_file_prefix: Name of the run.
        verbose: 0 prints nothing.
        decimal_precision: Decimals that are printed.
        api_keys: Keys of sources of carbon intensity: {"electricitymaps": key}.
        sim_cpu: Name of a made-up CPU that is counted in the place of the real one.
        sim_cpu_tdp: Its watts.
        sim_cpu_util: Share of them that it draws; 0.5 by default.
        sim_gpu: Name of a made-up GPU, likewise.
        sim_gpu_watts: Its watts.
        sim_gpu_util: Share of them that it draws.

    Attributes:
        epochs: As given.
        epochs_before_pred: As given.
        monitor_epochs: As given; -1 is `epochs`.
        epoch_counter: Epochs that were begun.
        deleted: True once tracking has ended: all methods then do nothing.

    Raises:
        ConfigError: An argument is not accepted; it is a `ValueError` too.
    """

    def __init__(
        self,
        epochs: int,
        epochs_before_pred: int = 1,
        monitor_epochs: int = -1,
        update_interval: float = 1,
        interpretable: bool = True,
        stop_and_confirm: bool = False,
        ignore_errors: bool = False,
        components: str = "all",
        devices_by_pid: bool = False,
        log_dir: str | os.PathLike[str] | None = None,
        log_file_prefix: str = "",
        verbose: int = 1,
        decimal_precision: int = 12,
        api_keys: Mapping[str, str] | None = None,
        sim_cpu: str | None = None,
        sim_cpu_tdp: float | None = None,
        sim_cpu_util: float | None = None,
        sim_gpu: str | None = None,
        sim_gpu_watts: float | None = None,
        sim_gpu_util: float | None = None,
    ) -> None:
        simulated = {"cpu": (sim_cpu, sim_cpu_tdp, sim_cpu_util), "gpu": (sim_gpu, sim_gpu_watts, sim_gpu_util)}
        meters = meters_of(components, simulated)
        self.epochs: int = check_arguments({"epochs": epochs})["epochs"]
        self.epochs_before_pred = _whole("epochs_before_pred", epochs_before_pred)
        self.monitor_epochs = _monitored(monitor_epochs, self.epochs_before_pred, self.epochs)
        self.epoch_counter = 0
        self.deleted = False
        self._done = 0
        self._is_open = False
        # One that is asked about is printed with its question.
        self._owes_prediction = self.epochs_before_pred != 0 and not stop_and_confirm
        self._is_interpretable = interpretable
        self._ignores_errors = ignore_errors
        self._is_loud = _whole("verbose", verbose) > 0
        self._decimals = min(max(_whole("decimal_precision", decimal_precision), 0), MOST_DECIMALS)
        self._tokens: dict[str, str] = {}
        self.set_api_keys(api_keys)
        optional: dict[str, Any] = {} if log_dir is None else {"journal": log_dir}
        optional |= {} if meters is None else {"meters": meters}
        optional |= {"scope": "process"} if devices_by_pid else {}
        optional |= {"name": log_file_prefix} if log_file_prefix else {}
        optional |= {"on_prediction": self._question()} if stop_and_confirm else {}
        self._tracker = sync.Tracker(
            epochs=self.epochs,
            interval_s=_interval_s(update_interval),
            predict_after=self._pred_at,
            **optional,
        )
        self._has_begun = False

    @property
    def _pred_at(self) -> int:
        return self.epochs if self.epochs_before_pred < 0 else self.epochs_before_pred

    # -- carbontracker's methods -------------------------------------------------------------------------------

    def epoch_start(self) -> None:
        """Begin an epoch; the first one begins the run."""
        if self.deleted or not self._begin():
            return
        self._tracker.epoch_start()
        if not self._is_open:
            self.epoch_counter += 1
        self._is_open = True

    def epoch_end(self) -> None:
        """End the epoch; prints what is due.

        Raises:
            TrainingStoppedError: The answer to `stop_and_confirm` was no.
            BudgetExceededError: The settings' budget is used up.
        """
        if self.deleted or not self._is_open:
            return
        self._is_open = False
        self._done += 1
        try:
            report = self._tracker.epoch_end()
        except StopTrainingError:
            self._finish()
            raise
        if self._done == 1:
            self._say(words.components(report.devices))
        if self._owes_prediction and report.prediction is not None and self._is_sound(report, report.prediction):
            self._owes_prediction = False
            self._say_predicted(report.prediction)
        if self._done >= self.monitor_epochs:
            self._finish()

    def stop(self) -> None:
        """End the tracking before all epochs were, and print what they used; safe to call twice."""
        if not self.deleted:
            self._finish()

    def set_api_keys(self, api_keys: Mapping[str, str | None] | None) -> None:
        """Give keys of sources of carbon intensity, before the first epoch; they go where such keys are looked for.

        Args:
            api_keys: {"electricitymaps": key}; the environment's own key stays, and one that is empty is passed by.

        Raises:
            ConfigError: There is no such source, or its key is no text. The key itself is not told.
        """
        if not isinstance(api_keys or {}, Mapping):
            raise ConfigError("api_keys", type(api_keys).__name__, "a dict")  # what it holds is not told
        for name, key in (api_keys or {}).items():
            if name in KEYLESS:
                continue
            if name not in TOKENS:
                raise ConfigError("api_keys", name, f"keys of {', '.join(TOKENS)}")
            if not key:
                self._say(f"WARNING - Empty API key for '{name}'. Skipping this provider.")
            elif not isinstance(key, str) or "\0" in key:
                raise ConfigError("api_keys", name, "a text as its key")
            else:
                self._tokens[TOKENS[name]] = key

    # -- beyond carbontracker ----------------------------------------------------------------------------------

    def report(self) -> RunReport:
        """The report of the run: what carbontracker only prints, typed, with ranges.

        Raises:
            UsageError: No epoch was begun.
        """
        return self._tracker.report()

    # -- inside ------------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        if self._has_begun:
            return True
        for variable, key in self._tokens.items():
            os.environ.setdefault(variable, key)
        try:
            self._tracker.start()
        except AiocarbonError as error:
            self.deleted = True
            if not self._ignores_errors:
                raise
            self._say(f"WARNING - {error} Continued training without monitoring.")
            return False
        self._has_begun = True
        return True

    def _finish(self) -> None:
        self.deleted = True
        if not self._has_begun:
            self._say("No epoch was begun: nothing was monitored.")
            return
        self._tracker.stop()
        report = self._tracker.report()
        if self._done < self.monitor_epochs:
            self._say(f"Training was interrupted before all {self.monitor_epochs} epochs were monitored.")
        for text in words.actual(report, self._done, self._decimals, is_interpretable=self._is_interpretable):
            self._say(text)
        self._say("Finished monitoring.")

    def _is_sound(self, report: EpochReport, prediction: Prediction) -> bool:
        """Whether the prediction is printed now: one of an epoch that was hardly measured waits for the next ones."""
        if self._done >= min(self._pred_at + LATE_EPOCHS, self.monitor_epochs):
            return True
        return self._done >= self._pred_at and report.coverage >= LEAST_COVERAGE and prediction.energy_kwh is not None

    def _say_predicted(self, prediction: Prediction) -> None:
        factor = words.car(self._tracker.report()) if self._is_interpretable else None
        for text in words.predicted(prediction, self._decimals, factor):
            self._say(text)

    def _question(self) -> Callable[[Prediction], bool]:
        """What asks on the terminal, once, beneath the prediction."""

        def ask(prediction: Prediction) -> bool:
            self._say_predicted(prediction)
            return sync.confirm_on_terminal(prediction)

        ask.asks_once = True  # type: ignore[attr-defined]  # functions take attributes
        return ask

    def _say(self, text: str) -> None:
        """Print as carbontracker does; a stream that is closed or full is no reason to end a training."""
        if self._is_loud:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.write(f"CarbonTracker: {text}\n")
                sys.stdout.flush()


def _whole(field: str, value: Any) -> int:
    """A whole number, also one that is a float or NumPy's."""
    try:
        return int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    except TypeError:
        raise ConfigError(field, value, "a whole number") from None


def _interval_s(value: Any) -> float:
    try:
        return min(max(float(value), LEAST_INTERVAL_S), MOST_INTERVAL_S)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError("update_interval", value, "seconds") from None


def _monitored(monitor_epochs: int, epochs_before_pred: int, epochs: int) -> int:
    """After how many epochs tracking ends."""
    if monitor_epochs == -1:
        return epochs
    if isinstance(monitor_epochs, bool) or not isinstance(monitor_epochs, int) or monitor_epochs < 1:
        raise ConfigError("monitor_epochs", monitor_epochs, "a whole number from 1 on, or -1 for all")
    if monitor_epochs < epochs_before_pred:
        raise ConfigError("monitor_epochs", monitor_epochs, f"at least epochs_before_pred ({epochs_before_pred})")
    return min(monitor_epochs, epochs)
