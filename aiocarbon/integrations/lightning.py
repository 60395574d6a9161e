"""A callback for Lightning: `Trainer(callbacks=[CarbonCallback()])`.

The run lasts from `on_fit_start` to `teardown` or the exception. Validation and checkpoints are spans; so is the
sanity check, which lies in no epoch, no validation and no prediction. Figures go to the trainer's loggers. A training
that resumes goes on with the run of its checkpoint. A budget sets `trainer.should_stop`.
"""

# ruff: noqa: D102  # hooks are described by Lightning
from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import Any

from aiocarbon.integrations._epochs import declare
from aiocarbon.integrations._hooks import Tracked, absent
from aiocarbon.integrations._training import Training

if find_spec("lightning") is None:
    raise absent("lightning", "2.2")
from lightning.pytorch.callbacks import Callback

from aiocarbon.integrations._lightning import batches_of, begin, epochs_of_trainer

__all__ = ["CarbonCallback"]


class CarbonCallback(Tracked, Callback):
    """Tracks `trainer.fit`; takes the arguments of `aiocarbon.sync.Tracker`, and the epochs from the trainer."""

    def __init__(self, **settings: Any) -> None:
        self._training = Training(settings)
        self._is_fit = True

    @property
    def state_key(self) -> str:
        return self._training.key

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self._training.abandon()
        if not (trainer.ckpt_path and trainer.strategy.restore_checkpoint_after_setup):
            begin(self._training, trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        begin(self._training, trainer)
        declare(self._training, epochs_of_trainer(trainer))  # only now is it known how many batches there are

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._training.epoch_begin(batches_of(trainer))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._training.exit()  # a checkpoint is written by now
        if not self._training.is_in_epoch:  # one that another start began
            self._training.epoch_begin(batches_of(trainer, batch_idx), base=batch_idx)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._training.progress(batch_idx + 1)
        every = trainer.log_every_n_steps
        self._tell(trainer, batch_idx + 1, is_logged=every > 0 and trainer.global_step % every == 0)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._training.epoch_end()
        self._tell(trainer, 0, is_logged=True)

    def _tell(self, trainer: Any, step: int, *, is_logged: bool) -> None:
        reduce = functools.partial(trainer.strategy.reduce_boolean_decision, all=False)
        trainer.should_stop |= self._training.stops(step, reduce if trainer.world_size > 1 else None)
        for logger in trainer.loggers if is_logged else ():  # `log_dict` would take some milliseconds
            self._training.give(functools.partial(logger.log_metrics, step=trainer.global_step))

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        every = trainer.check_val_every_n_epoch if trainer.val_check_interval == 1.0 else None
        self._training.enter("sanity check" if trainer.sanity_checking else "validation", every=every)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._training.exit()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        self._training.enter("checkpoint")

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Any) -> None:
        self._is_fit = trainer.state.fn == "fit"  # else it is loaded to be validated, say

    def state_dict(self) -> dict[str, Any]:
        return self._training.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._is_fit:
            self._training.restore(state_dict)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._training.end(ended_well=False)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self._training.end(ended_well=True)
