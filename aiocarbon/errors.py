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
│   ├── SourceDownError           it does not answer, or asks for patience: try again later
│   ├── SourceRefusedError        it will not answer this question: do not ask again without a change
│   ├── NoDataError               it answered that it has nothing
│   └── BadAnswerError            what it answered cannot be used
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
    "BadAnswerError",
    "BudgetExceededError",
    "ConfigError",
    "EngineError",
    "IntensityError",
    "JournalError",
    "MeterError",
    "MeterLostError",
    "MeterPermissionError",
    "MeterUnavailableError",
    "NoDataError",
    "ReadError",
    "SourceDownError",
    "SourceRefusedError",
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
    """This host does not have what the meter reads.

    Attributes:
        is_warning: True if a report is to tell it though nobody asked for the meter by name.
    """

    def __init__(self, message: str, *, device: str | None = None, remedy: str = "", is_warning: bool = False) -> None:
        self.is_warning = is_warning
        super().__init__(message, device=device, remedy=remedy)


class MeterPermissionError(MeterUnavailableError):
    """The sensor is there, but this user may not read it; `remedy` says what to type."""


class IntensityError(AiocarbonError):
    """A source of carbon intensity could not answer.

    Attributes:
        source: Name of the source, as in the registry; empty where none is concerned.
        remedy: What the user can type or do about it; empty where nothing helps.
    """

    def __init__(self, message: str, *, source: str = "", remedy: str = "") -> None:
        self.source = source
        self.remedy = remedy
        super().__init__(message)


class SourceDownError(IntensityError):
    """A source does not answer, or asks for patience; it may answer later.

    Attributes:
        retry_after_s: Seconds for which it asked not to be asked; None if it said nothing.
        status: HTTP status; None where nothing was answered.
    """

    def __init__(
        self,
        message: str,
        *,
        source: str = "",
        remedy: str = "",
        retry_after_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, source=source, remedy=remedy)
        self.retry_after_s = retry_after_s
        self.status = status


class SourceRefusedError(IntensityError):
    """A source will not answer this question: no token, no such zone, not in this plan. Asking again is of no use.

    Attributes:
        status: HTTP status; None where nothing was asked.
    """

    def __init__(self, message: str, *, source: str = "", remedy: str = "", status: int | None = None) -> None:
        super().__init__(message, source=source, remedy=remedy)
        self.status = status


class NoDataError(IntensityError):
    """A source answered that it has nothing for this zone and time."""


class BadAnswerError(IntensityError):
    """What a source answered cannot be used: no JSON, no number, an absurd value, a time that is none.

    Attributes:
        may_pass: True if the next try may bring another answer: an empty one, or one that is no JSON at all.
    """

    def __init__(self, message: str, *, source: str = "", remedy: str = "", may_pass: bool = False) -> None:
        super().__init__(message, source=source, remedy=remedy)
        self.may_pass = may_pass


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
