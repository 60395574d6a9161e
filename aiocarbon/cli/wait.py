"""Waiting, before a command is run, for its cleanest start: told on stderr, ended by a signal as any command is."""

from __future__ import annotations

import contextlib
import queue
import signal
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from aiocarbon.cli.clean_options import WaitOptions
from aiocarbon.cli.output import say
from aiocarbon.errors import EngineError
from aiocarbon.render import numbers
from aiocarbon.render.plot import clock_time

if TYPE_CHECKING:
    from aiocarbon._core.waited import CleanWait
    from aiocarbon._engine.waiting import Waiting

__all__ = ["wait"]

EXIT_SIGNAL_BASE: Final = 128
"""Shells report an end by signal n as 128 + n."""

FIELDS: Final = ("location", "intensity", "offline")


class _Ended(BaseException):
    """SIGTERM came; no `Exception`, so that nothing on its way takes it for a failure."""


def wait(options: WaitOptions, settings: Mapping[str, Any], *, is_quiet: bool = False) -> tuple[int | None, str]:
    """Wait for the best start.

    Args:
        options: Until when, and for what.
        settings: Settings of the run, checked.
        is_quiet: True to say nothing.

    Returns:
        The exit code if a signal ended the wait, else None; and what the report is to tell of it.

    Raises:
        ConfigError: A value of the environment or of pyproject.toml is not accepted.
    """
    from aiocarbon._core.clean import LOWEST_S
    from aiocarbon.waiting import Order

    events: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
    # How long the command takes is not known without a duration: then it only has to begin in time.
    within_s = options.within_s + (LOWEST_S if options.duration_s is None else 0.0)
    order = Order(
        None,
        within_s,
        options.duration_s or LOWEST_S,
        told=events.put,
        **{field: settings[field] for field in FIELDS if field in settings},
    )
    try:
        with _terminable():
            try:
                future = order.begin()
                future.add_done_callback(lambda _: events.put(None))
                is_first = True
                while (waiting := events.get()) is not None:
                    if not is_quiet:
                        say(f"aiocarbon: {_waiting_words(waiting, options, is_first=is_first)}")
                    is_first = False
                came = future.result()
            except EngineError as error:
                came = order.failed(error)
    except KeyboardInterrupt:
        return EXIT_SIGNAL_BASE + signal.SIGINT, ""
    except _Ended:
        return EXIT_SIGNAL_BASE + signal.SIGTERM, ""
    finally:
        order.end(is_joined=True)  # before the fork of the command, so that it copies no thread of ours
    note = _came_words(came)
    if not is_quiet:
        say(f"aiocarbon: {note}")
    return None, note


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end what is inside by an exception, unless it is ignored here."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_IGN:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise _Ended

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _waiting_words(waiting: Waiting, options: WaitOptions, *, is_first: bool) -> str:
    plan, now_s = waiting.plan, waiting.now_s
    of = "its lowest hour (no --duration was given)" if options.duration_s is None else "its cleanest start"
    head = "the command waits for" if is_first else "the forecast changed: the command waits for"
    if plan is None or waiting.until_s is None:
        return f"{head} {of}, at most until {clock_time(now_s + options.within_s, now_s)}; Ctrl-C ends it"
    at = f"until {clock_time(waiting.until_s, now_s)}, {numbers.duration(waiting.until_s - now_s)} from now"
    then, now = plan.g_per_kwh.central, plan.now.g_per_kwh.central
    source = waiting.intensity.source
    return f"{head} {of}, {at}: {then:.0f} gCO2eq/kWh instead of {now:.0f} ({source}); Ctrl-C ends it"


def _came_words(came: CleanWait) -> str:
    value = came.intensity
    now = "" if value is None else f"; {value.g_per_kwh:.0f} gCO2eq/kWh now ({value.source}, {value.quality})"
    if came.waited_s < 1.0:
        return f"the command did not wait for clean electricity: {came.note}{now}"
    return f"the command waited {numbers.duration(came.waited_s)} for clean electricity: {came.note}{now}"
