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
    from aiocarbon.confirm import confirm_on_terminal
    from aiocarbon.decorator import track
    from aiocarbon.ending import exit_on_signals
    from aiocarbon.journal.read import load
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
    "confirm_on_terminal",
    "exit_on_signals",
    "load",
    "track",
    "wait_until_clean",
]


_LAZY = {
    "confirm_on_terminal": "confirm",
    "exit_on_signals": "ending",
    "load": "journal.read",
    "track": "decorator",
    "wait_until_clean": "waiting",
}
"""Public name -> its module; loaded on use, since importing aiocarbon has a time budget."""


def __getattr__(name: str) -> Any:  # Any: what a module hands out by name has no narrower type
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"aiocarbon.{_LAZY[name]}"), name)
    return value
