"""A callback for Keras 3: `model.fit(..., callbacks=[CarbonCallback()])`, on each of its back ends.

Validation is a span; figures go into `logs`, and so into `History` and `CSVLogger`. A budget sets
`model.stop_training`. Keras keeps no state of callbacks: a training that goes on (`initial_epoch=`, `BackupAndRestore`)
is put together with its earlier starts by `run_id=` and `journal=`. It tells no callback of an exception: fit inside
`with carbon:` where the program goes on after one.
"""

# ruff: noqa: D102  # hooks are described by Keras
from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from aiocarbon.integrations._hooks import Tracked, absent
from aiocarbon.integrations._training import Training

if find_spec("keras") is None:
    raise absent("keras", "3.0")
import keras

if int(keras.__version__.split(".")[0]) < 3:
    raise absent("keras", "3.0")

__all__ = ["CarbonCallback"]


class CarbonCallback(Tracked, keras.callbacks.Callback):
    """Tracks `model.fit`; takes the arguments of `aiocarbon.sync.Tracker`, and the epochs from Keras."""

    async_safe = True  # else Keras would wait for each batch before it starts the next

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self._training = Training(settings)
        self._is_due = self._is_first = False

    def on_train_begin(self, logs: Any = None) -> None:
        self._training.abandon()
        self._is_due = True  # the first epoch's begin tells with which one it begins

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._is_due:
            self._is_due, self._is_first = False, True
            self._training.begin(epochs=self.params.get("epochs"), first_epoch=epoch)
        self._training.epoch_begin(self.params.get("steps"))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._training.progress(max(batch + 1, self._training.at))  # threads of Keras may come out of order
        self._heed()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._training.epoch_end()
        if self._is_first:
            self._is_first = False
            self._training.settle()  # `History` and `CSVLogger` want the same keys from the first epoch on
        self._heed()
        if logs is not None:
            self._training.give(logs.update)

    def _heed(self) -> None:
        if self._training.stop_reason:
            self.model.stop_training = True

    def on_test_begin(self, logs: Any = None) -> None:
        self._training.enter("validation")

    def on_test_end(self, logs: Any = None) -> None:
        self._training.exit()

    def on_train_end(self, logs: Any = None) -> None:
        self._training.end(ended_well=True)
