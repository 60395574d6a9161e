"""How many epochs a training has that ends after so many steps, in the midst of one perhaps."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from aiocarbon.errors import AiocarbonError
from aiocarbon.integrations._training import MOST_EPOCHS
from aiocarbon.settings import check_arguments, resolve

if TYPE_CHECKING:
    from aiocarbon.integrations._training import Training

__all__ = ["declare", "epochs_of"]

MOST_ROUNDED: Final = 0.01
"""By so much of the training may the last epoch be shorter: predictions, whose ranges are wider, take it for whole."""

UNKNOWN: Final = (
    "when the training ends is not certain, or is in the midst of an epoch (a limit of steps or of time): its totals "
    "are not predicted. Where it has so many epochs all the same, epochs=N says it"
)


def epochs_of(steps: int, per_epoch: int) -> int | None:
    """How many epochs so many steps are.

    Args:
        steps: Of the whole training, at least 1.
        per_epoch: Of a whole epoch, at least 1.

    Returns:
        None where the last one is much shorter than those before it: a prediction would be too high, and a budget stop
        what is within it. One that is the only one has its steps as its total.
    """
    epochs = -(-steps // per_epoch)
    return epochs if epochs == 1 or epochs * per_epoch - steps <= MOST_ROUNDED * steps else None


def declare(training: Training, epochs: int | None) -> None:
    """Say how many epochs a run has that has begun without a number; None: nobody knows, which its report tells.

    Args:
        training: Whose run.
        epochs: How many; a number that the user's settings state wins.
    """
    if training.tracker is None or resolve(check_arguments(training._settings)).epochs is not None:
        return
    if epochs is not None and 0 < epochs < MOST_EPOCHS:
        training.tracker._handle.declare(epochs)
    else:
        with contextlib.suppress(AiocarbonError):
            training.tracker._handle.tell(UNKNOWN)
