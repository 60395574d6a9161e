"""The error tree of aiocarbon.

```
AiocarbonError
├── ConfigError (ValueError)      a setting's value is not accepted: field, value, what is accepted
├── UsageError                    a verb was used where it cannot be (before entering, say)
├── MeterError                    a meter could not do its work
│   ├── ReadError                 one read failed: try again at the next tick
│   ├── MeterLostError            the device is gone: stop reading it
│   └── MeterUnavailableError     this host lacks it: skip quietly
│       └── MeterPermissionError  it is there, but this user may not read it
├── IntensityError                a source of carbon intensity could not answer
├── JournalError                  a journal could not be written or read
├── EngineError                   the engine died (raised only under `strict=True`)
└── StopTrainingError             asks the training to end
    ├── BudgetExceededError       a budget was used up
    └── TrainingStoppedError      a callback asked for the end
```
"""

from __future__ import annotations

__all__ = [
    "AiocarbonError",
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
    "StopTrainingError",
    "TrainingStoppedError",
    "UsageError",
]


class AiocarbonError(Exception):
    """Root of everything that aiocarbon raises on purpose."""


class ConfigError(AiocarbonError, ValueError):
    """A setting's value is not accepted.

    Attributes:
        field: Name of the setting, as in `Settings`.
        value: The value that was given.
        accepted: What would be accepted, in words.
        origin: Where the value came from: "argument", an environment variable's name, or a file's path.
    """

    def __init__(self, field: str, value: object, accepted: str, *, origin: str = "argument") -> None:
        self.field = field
        self.value = value
        self.accepted = accepted
        self.origin = origin
        where = "" if origin == "argument" else f" (from {origin})"
        super().__init__(f"{field}={value!r}{where} is not accepted: expected {accepted}")


class UsageError(AiocarbonError):
    """A verb was used where it cannot be, such as `epoch()` before entering."""


class MeterError(AiocarbonError):
    """A meter could not do its work.

    Attributes:
        device: Id of the device concerned, or None for the whole meter.
        remedy: What the user can type or do about it; empty where nothing helps.
    """

    def __init__(self, message: str, *, device: str | None = None, remedy: str = "") -> None:
        self.device = device
        self.remedy = remedy
        super().__init__(message)


class ReadError(MeterError):
    """One read failed; the next tick may succeed."""


class MeterLostError(MeterError):
    """The device is gone for good, or until its meter is opened again."""


class MeterUnavailableError(MeterError):
    """This host does not have what the meter reads."""


class MeterPermissionError(MeterUnavailableError):
    """The sensor is there, but this user may not read it; `remedy` says what to type."""


class IntensityError(AiocarbonError):
    """A source of carbon intensity could not answer."""


class JournalError(AiocarbonError):
    """A journal could not be written or read."""


class EngineError(AiocarbonError):
    """The engine died; raised only under `strict=True`."""


class StopTrainingError(AiocarbonError):
    """Asks the training to end; the final report is still made."""


class BudgetExceededError(StopTrainingError):
    """A budget was used up."""


class TrainingStoppedError(StopTrainingError):
    """A callback asked for the end of the training."""
