"""aiocarbon: how much electricity a training uses, and what that emits, without touching the training."""
