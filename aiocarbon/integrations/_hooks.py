"""What stands between a training framework and a callback of ours: nothing that is called there can fail.

An error of ours never reaches the training, unless the run is strict; a wrong setting is refused before it starts.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar

from aiocarbon.errors import ConfigError, EngineError, StopTrainingError

if TYPE_CHECKING:
    from aiocarbon import sync
    from aiocarbon._core.report import RunReport
    from aiocarbon.integrations._training import Training

__all__ = ["Tracked", "absent", "harmless", "tell_of_copy"]

HOOKS: Final = ("on_", "teardown", "state", "load_state", "start", "log", "finish")
"""How the names of the methods begin that a framework calls."""

STATE: Final = frozenset({"state", "_state", "state_dict", "restore", "load_state_dict"})
"""Frameworks ask for them between trainings too: they tell nothing of how long one lasted."""

S = TypeVar("S")
P = ParamSpec("P")
T = TypeVar("T")


def absent(module: str, least: str) -> ImportError:
    """What is raised where a framework is missing or too old: it names the extra."""
    line = f"pip install -U 'aiocarbon[{module}]'"
    return ImportError(f"aiocarbon.integrations.{module} needs {module} {least} or newer: {line}", name=module)


def tell_of_copy(made_in: int, journal: Path | None) -> None:
    """Warn where a run is a copy's: what made the callback hears nothing of it.

    Args:
        made_in: Number of the process that made the callback, which the trainer may have left for others (`ddp_spawn`,
            `ddp_notebook`).
        journal: Folder of the run's journal; None: there is none.
    """
    if os.getpid() == made_in:
        return
    how = (
        f"`aiocarbon report {journal}` tells what this run used"
        if journal is not None
        else "give it journal=DIR (AIOCARBON_JOURNAL), and `aiocarbon report DIR` tells what the run used"
    )
    with contextlib.suppress(Warning):  # where warnings are errors, this one is none of the training's
        warnings.warn(
            f"aiocarbon: the training runs in another process ({os.getpid()}) than the one that made the callback "
            f"({made_in}), whose `report` stays None: {how}",
            RuntimeWarning,
            stacklevel=2,
        )


def harmless(hook: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T | None]:
    """Let an error of ours cost the training its figures, and nothing else."""
    is_state = hook.__name__ in STATE

    @functools.wraps(hook)
    def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        training: Any = getattr(self, "_training", self)
        try:
            return hook(self, *args, **kwargs)
        except (ConfigError, EngineError):
            raise  # a setting, before the training begins; a run that is strict
        except StopTrainingError as error:
            training.stop(str(error))
        except Exception as error:  # whatever it is, the training is worth more than its figures
            training.notify(f"the instrument failed ({error or type(error).__name__}); the training goes on")
        finally:
            if not is_state:
                training.last_ns = time.monotonic_ns()
        return None

    return guarded


class Tracked:
    """A callback, as its user sees it; what the framework calls of it cannot fail.

    In a `with` block the run ends as the block is left, however the training ends: only frameworks that have no hook
    for exceptions need it.
    """

    _training: Training

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in list(vars(cls).items()):
            # What a user's class adds to one of ours is the user's: its errors come out.
            if Tracked in cls.__bases__ and callable(method) and name.startswith(HOOKS):
                setattr(cls, name, harmless(method))

    @property
    def tracker(self) -> sync.Tracker | None:
        """The tracker of the run that is on; None where none is, or another process of this machine tracks."""
        return self._training.tracker

    @property
    def report(self) -> RunReport | None:
        """The final report of the newest run that has ended; None before."""
        return self._training.reports[-1] if self._training.reports else None

    @property
    def reports(self) -> tuple[RunReport, ...]:
        """The final reports of all runs that have ended, in their order: a trainer may be called again."""
        return tuple(self._training.reports)

    @property
    def stop_reason(self) -> str:
        """Why the training was asked to stop; empty if it was not."""
        return self._training.stop_reason

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._training.end(ended_well=kind is None)
