"""aiocarbon: how much electricity a training uses, and what that emits, without touching the training.

```python
from aiocarbon import Tracker

async with Tracker(epochs=100) as tracker:
    for _ in range(100):
        await train_one_epoch()
        epoch = await tracker.epoch()
report = tracker.report()
```
"""

from __future__ import annotations

from aiocarbon._version import __version__
from aiocarbon.budget import Budget
from aiocarbon.decorator import track
from aiocarbon.errors import (
    AiocarbonError,
    BudgetExceededError,
    ConfigError,
    EngineError,
    IntensityError,
    JournalError,
    MeterError,
    MeterLostError,
    MeterPermissionError,
    MeterUnavailableError,
    ReadError,
    StopTrainingError,
    TrainingStoppedError,
    UsageError,
)
from aiocarbon.settings import Settings
from aiocarbon.tracker import Tracker

__all__ = [
    "AiocarbonError",
    "Budget",
    "BudgetExceededError",
    "ConfigError",
    "EngineError",
    "IntensityError",
    "JournalError",
    "MeterError",
    "MeterLostError",
    "MeterPermissionError",
    "MeterUnavailableError",
    "ReadError",
    "Settings",
    "StopTrainingError",
    "Tracker",
    "TrainingStoppedError",
    "UsageError",
    "__version__",
    "track",
]
