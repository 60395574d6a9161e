"""Asking on the terminal whether a training shall go on, as `on_prediction` of the async tracker."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Final, Protocol

from aiocarbon._engine import host as hosts
from aiocarbon._engine.bridge import answer
from aiocarbon._logging import get_logger
from aiocarbon.errors import EngineError

if TYPE_CHECKING:
    from concurrent.futures import Future

    from aiocarbon._core.report import Prediction
    from aiocarbon._engine.engine import Engine

__all__ = ["Terminal", "asked", "confirm_on_terminal"]

log = get_logger("confirm")

LOOK_S: Final = 0.2
"""How soon a question that nobody waits for any more is given up."""

TRIES: Final = 3
YES: Final = frozenset({"y", "yes"})
NO: Final = frozenset({"n", "no", ""})
LONGEST: Final = 1024


class Terminal(Protocol):
    """Where is asked."""

    def ask(self, text: str, is_over: threading.Event) -> str | None:
        """Show a text and read a line; None if there is nobody to ask, or nobody waits any more."""
        ...


class OwnTerminal:
    """The terminal that controls this process, whatever stdin and stdout are."""

    def __init__(self, path: str = "/dev/tty") -> None:
        self._path = path

    def ask(self, text: str, is_over: threading.Event) -> str | None:
        """Show a text and read a line; None if there is no terminal, or it is somebody else's turn on it."""
        try:
            terminal = os.open(self._path, os.O_RDWR | os.O_NOCTTY)
        except OSError:
            return None
        try:
            # A read in the background would stop the whole process.
            if not os.isatty(terminal) or os.tcgetpgrp(terminal) != os.getpgrp():
                return None
            _drain(terminal)
            os.write(terminal, text.encode())
            return self._line(terminal, is_over)
        except OSError:
            return None
        finally:
            with contextlib.suppress(OSError):
                os.close(terminal)

    def _line(self, terminal: int, is_over: threading.Event) -> str | None:
        import select

        while not is_over.is_set():
            if select.select([terminal], [], [], LOOK_S)[0]:
                line = os.read(terminal, LONGEST)
                return line.decode(errors="replace") if line else None
        return None


def _drain(terminal: int) -> None:
    """Forget what was typed before the question: it is no answer to it."""
    import termios

    with contextlib.suppress(termios.error):
        termios.tcflush(terminal, termios.TCIFLUSH)


async def confirm_on_terminal(prediction: Prediction) -> bool:
    """Ask y/n, once a run, whether the training shall go on, given what the whole of it will use.

    ```python
    Tracker(epochs=100, on_prediction=aiocarbon.confirm_on_terminal)
    ```

    The loop goes on meanwhile. The answer is no where there is no terminal to ask, as in a batch job. Plain scripts
    take `aiocarbon.sync.confirm_on_terminal`.

    Args:
        prediction: What the tracker predicts.
    """
    is_over = threading.Event()

    async def verb(engine: Engine) -> bool:
        said: bool = await engine.blocking(asked, prediction, is_over)
        return said

    host: hosts.Host | None = None
    try:
        host = hosts.lease()
        future: Future[bool] = host.call(verb)
        return await answer(future, None)
    except EngineError:  # the instrument's death is no answer: there is nobody to ask
        return asked(prediction, is_over)
    finally:
        is_over.set()
        if host is not None:
            hosts.release(host)


def asked(prediction: Prediction, is_over: threading.Event, terminal: Terminal | None = None) -> bool:
    """Ask and wait for an answer; blocking.

    Args:
        prediction: What is asked about.
        is_over: Set once nobody waits any more.
        terminal: Where to ask; by default the terminal that controls this process.
    """
    from aiocarbon.render.text import prediction_words

    place = terminal or OwnTerminal()
    for _ in range(TRIES):
        said = place.ask(f"aiocarbon: {prediction_words(prediction)}. Go on? [y/N] ", is_over)
        if said is None:
            log.warning("confirm.nobody", why="there is no terminal to ask, which counts as no")
            return False
        word = said.strip().lower()
        if word in YES or word in NO:
            return word in YES
    return False


confirm_on_terminal.asks_once = True  # type: ignore[attr-defined]  # functions take attributes
