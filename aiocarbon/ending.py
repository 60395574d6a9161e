"""Ends a program in order when a scheduler ends it by a signal: its trackers take their last reading and report.

Asked for, never by itself: nobody's signal handlers are touched by a tracker. Without it a Python program dies of a
SIGTERM at once, and what its tracker measured is in its journal up to the last second, without the final report.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from aiocarbon.errors import ConfigError, UsageError

__all__ = ["exit_on_signals"]

IMPORTING = "<frozen importlib"
"""How the names of the interpreter's own files for imports begin. An exception in the midst of them leaves the global
import lock locked for ever, and the next thread that imports anything waits as long; so the signal waits a moment."""

MOMENT_S = 0.005

EXIT_SIGNAL_BASE = 128
"""Shells report death by signal n as 128 + n, and so does the exit code here."""


@contextlib.contextmanager
def exit_on_signals(*names: str) -> Iterator[None]:
    """Leave the block by `SystemExit` at the first of these signals; further ones are ignored while it is left.

    ```python
    with exit_on_signals():             # SIGTERM: scancel, requeue, preemption, time limit, kill
        with Tracker() as tracker:      # or asyncio.run(main()) with an `async with Tracker()` in it
            train()
    ```

    Schedulers send SIGTERM twice within milliseconds; the second one does not cut the first one's report short. A
    handler that was there before is called first. On trio use `trio.open_signal_receiver` instead: it does not bear
    exceptions out of handlers.

    Args:
        names: Names of signals; "SIGTERM" by default.

    Raises:
        UsageError: Entered outside the main thread, where alone Python lets signals be handled.
        ConfigError: There is no such signal.
        SystemExit: A signal came; its code is 128 + the signal's number.
    """
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("exit_on_signals() is for the main thread, where alone Python lets signals be handled")
    numbers = [_number(name) for name in names or ("SIGTERM",)]
    formers = {number: signal.getsignal(number) for number in numbers}
    is_leaving = False

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal is_leaving
        if is_leaving:
            return
        if frame is not None and frame.f_code.co_filename.startswith(IMPORTING):
            _thread.start_new_thread(_come_again, (number,))
            return
        is_leaving = True
        former = formers[number]
        if callable(former):
            former(number, frame)
        raise SystemExit(EXIT_SIGNAL_BASE + number)

    for number in numbers:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, former in formers.items():
            signal.signal(number, signal.SIG_DFL if former is None else former)


def _come_again(number: int) -> None:
    """Send the signal again, as a real one: only that wakes a loop that by now waits in its selector."""
    time.sleep(MOMENT_S)
    if (ident := threading.main_thread().ident) is not None:
        signal.pthread_kill(ident, number)


def _number(name: str) -> int:
    number = getattr(signal, name, None) if isinstance(name, str) and name.startswith("SIG") else None
    if not isinstance(number, signal.Signals):
        raise ConfigError("exit_on_signals", name, 'names of signals, such as "SIGTERM" or "SIGUSR1"')
    return number
