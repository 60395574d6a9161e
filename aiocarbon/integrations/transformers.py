"""A callback for the Trainer of Hugging Face Transformers: `Trainer(..., callbacks=[CarbonCallback()])`.

Evaluations and checkpoints are spans; figures go into the logs. A training that resumes goes on with the run of its
checkpoint. A budget sets `control.should_training_stop`. Transformers tells no callback of an exception: train inside
`with carbon:` where the program goes on after one. Reporters come before other callbacks, so what they shall be told
needs `carbon.attach(trainer)` in the place of `callbacks=[carbon]`.
"""

# ruff: noqa: D102  # hooks are described by Transformers
from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import Any, Self

from aiocarbon.integrations._epochs import declare, epochs_of
from aiocarbon.integrations._hooks import Tracked, absent
from aiocarbon.integrations._training import Training, agree

if find_spec("transformers") is None:
    raise absent("transformers", "4.46")
try:
    from transformers.trainer_callback import ExportableState, TrainerCallback
    from transformers.trainer_utils import has_length
except ImportError as error:
    raise absent("transformers", "4.46") from error

__all__ = ["CarbonCallback"]


class CarbonCallback(Tracked, TrainerCallback, ExportableState):
    """Tracks `trainer.train`; takes the arguments of `aiocarbon.sync.Tracker`, and the epochs from the trainer."""

    def __new__(cls, **settings: Any) -> Self:
        # Resuming may put `type(callback)()` in a callback's place: by a class of its own that finds the same training.
        if "_training" not in vars(cls):
            cls = type(cls.__name__, (cls,), {"_training": Training(settings)})
        made: Self = super().__new__(cls)
        return made

    def __init__(self, **settings: Any) -> None:
        self._per_epoch = self._epoch_at = 0

    def attach(self, trainer: Any) -> Self:
        """Join a trainer before its reporters (TensorBoard, W&B, MLflow), so that they are told the figures too."""
        others = [other for other in trainer.callback_handler.callbacks if other is not self]
        trainer.callback_handler.callbacks[:] = [*others[:1], self, *others[1:]]  # the first one sets `control`
        return self

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"carried": self._training.state()}}

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        self._training.abandon()
        known = state.stateful_callbacks.setdefault(type(self).__name__, self.state())
        if state.global_step:
            known = known[0] if isinstance(known, list) else known
            self._training.restore(known["attributes"].get("carried"))
        batches = len(train_dataloader) if has_length(train_dataloader) else 0
        self._per_epoch = -(-batches // args.gradient_accumulation_steps) or state.max_steps
        self._training.begin(first_epoch=state.global_step // self._per_epoch, local_rank=args.local_process_index)
        declare(self._training, epochs_of(state.max_steps, self._per_epoch))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        base = 0 if args.ignore_data_skip else state.global_step % self._per_epoch
        self._epoch_at = state.global_step - base
        self._training.epoch_begin(min(self._per_epoch, state.max_steps - self._epoch_at), base=base)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._training.progress(state.global_step - self._epoch_at)
        self._go_on(args, control, state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._training.epoch_end()
        self._go_on(args, control, 0)

    def _go_on(self, args: Any, control: Any, step: int) -> None:
        reduce = functools.partial(agree, device=args.device) if args.world_size > 1 else None
        control.should_training_stop |= self._training.stops(step, reduce)
        if control.should_evaluate or control.should_save:
            self._training.enter("validation" if control.should_evaluate else "checkpoint")

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._training.exit()
        if control.should_save:
            self._training.enter("checkpoint")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._training.exit()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self._training.give(logs.update)
        self._training.give(state.log_history[-1].update)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._training.end(ended_well=True)
