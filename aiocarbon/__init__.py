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

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from aiocarbon.waiting import wait_until_clean

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
    "wait_until_clean",
]


def __getattr__(name: str) -> Any:  # Any: what is public and not loaded by the import
    if name == "wait_until_clean":
        from aiocarbon.waiting import wait_until_clean

        return wait_until_clean
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
