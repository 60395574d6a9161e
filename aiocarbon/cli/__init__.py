"""The command line, and how its program begins and ends: Ctrl-C ends it quietly, also while it is being imported."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # type checkers take it by this name; `typing` takes milliseconds

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["entry"]

EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def entry() -> NoReturn:
    """The installed program `aiocarbon`."""
    try:
        code = _main()
        _end_by(code)
    except KeyboardInterrupt:
        _end_by(EXIT_INTERRUPTED)


def _main() -> int:
    """Import the command line, which takes a moment, and run it."""
    import signal

    # An exception would not do: what is being imported may make another one of it, or throw it away.
    is_pythons = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_pythons:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from aiocarbon.cli.main import main

    if is_pythons:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return main()


def _end_by(code: int) -> NoReturn:
    """End with a code, whatever signal comes now: all is done."""
    import signal

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has only some
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.exit(code)
