"""How a training of Lightning begins and how long it is: limits of steps and of time come into it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import GradientAccumulationScheduler, Timer

from aiocarbon.integrations._epochs import epochs_of

if TYPE_CHECKING:
    from aiocarbon.integrations._training import Training

__all__ = ["batches_of", "begin", "epochs_of_trainer"]


def begin(training: Training, trainer: Any) -> None:
    """Begin the run, where it has not begun."""
    if not training.is_open:
        first = max(training.restored_epochs, trainer.current_epoch)
        training.begin(first_epoch=first, local_rank=trainer.local_rank)


def epochs_of_trainer(trainer: Any) -> int | None:
    """How many epochs the training has; None where nobody knows."""
    if any(isinstance(callback, Timer) for callback in trainer.callbacks):
        return None  # whichever comes first
    most = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
    batches = trainer.num_training_batches
    if trainer.max_steps != -1 and _counts_steps(trainer) and 0 < batches < math.inf:
        per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
        if trainer.max_steps < most * per_epoch:
            return epochs_of(trainer.max_steps, per_epoch)
    elif trainer.max_steps != -1:
        return None
    return int(most) if most < math.inf else None


def batches_of(trainer: Any, done: int = 0) -> float:
    """How many batches the epoch has, of which so many are done."""
    batches: float = trainer.num_training_batches
    if trainer.max_steps == -1 or not _counts_steps(trainer):
        return batches
    left: int = max(trainer.max_steps - trainer.global_step, 0) * trainer.accumulate_grad_batches
    return min(batches, done + left)


def _counts_steps(trainer: Any) -> bool:
    """Whether batches tell the steps that a limit of them means: one optimiser steps, always after as many."""
    is_even = not any(
        isinstance(callback, GradientAccumulationScheduler) and callback.going_to_accumulate_grad_batches()
        for callback in trainer.callbacks
    )
    return is_even and trainer.lightning_module.automatic_optimization
