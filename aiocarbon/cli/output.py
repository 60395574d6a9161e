"""What the command line writes, and where: people's text to stderr, JSON to the file that was named.

Guarantees: nothing here raises because a stream is closed, full or gone, since what we write must never end what we
watch; nothing goes to stdout unless the user named it; what foreign text holds is no command to a terminal.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

from aiocarbon._version import __version__
from aiocarbon.render.escape import harmless
from aiocarbon.render.text import WARNING

__all__ = [
    "STDOUT",
    "Shown",
    "coloured",
    "deliver",
    "fill_closed_streams",
    "say",
    "show",
    "with_version",
    "write_json",
    "write_live",
    "write_text",
]

STDOUT: Final = "-"
"""The file name that stands for stdout."""

BOLD: Final = "\x1b[1m"
YELLOW: Final = "\x1b[33m"
PLAIN: Final = "\x1b[0m"
CLEAR_LINE: Final = "\r\x1b[K"


def fill_closed_streams() -> None:
    """Open the null device where stdin, stdout or stderr is closed, so that no file of ours gets that number.

    Python's descriptors are not inherited, so a child still finds what was closed closed.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def say(text: str, *, paints: bool = False) -> None:
    """Write lines to stderr, painted where they are a report; if nobody can read them there, nobody does."""
    _write(sys.stderr, _told(text, sys.stderr, paints=paints))


def show(text: str, *, paints: bool = False) -> bool:
    """Write lines to stdout, where the user asked for them, as `say` does; False if that failed, which is said."""
    error = _write(sys.stdout, _told(text, sys.stdout, paints=paints))
    if error is not None:
        say(f"aiocarbon: stdout cannot be written: {error.strerror or error}")
    return error is None


def _told(text: str, stream: IO[str] | None, *, paints: bool) -> str:
    return (coloured(text, stream) if paints else harmless(text)) + "\n"


def _write(stream: IO[str] | None, text: str) -> OSError | None:
    """Write and flush; the error, if there was one, with the stream's remains thrown away."""
    if stream is None:
        return OSError("it is closed")
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            known: str = getattr(stream, "encoding", None) or "ascii"
            stream.write(text.encode(known, "replace").decode(known))
        stream.flush()
    except OSError as error:
        _forget(stream)
        return error
    except ValueError:
        return OSError("it is closed")
    return None


class Shown:
    """A stream that takes whatever is written, as those that draw on one need it; that it cannot be written is kept.

    Args:
        stream: Where it goes; None for one that is closed.

    Attributes:
        problem: Why something could not be written, in words; empty if all was.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self.problem = ""

    def write(self, text: str) -> int:
        """Write a text and flush it, unless something could not be written before."""
        if not self.problem and (error := _write(self._stream, text)) is not None:
            self.problem = f"stdout cannot be written: {error.strerror or error}"
        return len(text)

    def flush(self) -> None:
        """Do nothing more: all is flushed."""

    def isatty(self) -> bool:
        """Whether a person sees it on a terminal."""
        return is_terminal(self._stream)


def _forget(stream: IO[str]) -> None:
    """Have what could not be written go nowhere: at its own end Python would try again and change the exit code."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno(), inheritable=False)
        os.close(null)


def write_json(target: str, value: Any) -> str:
    """Write a value as JSON to a file, or to stdout for "-".

    Returns:
        Why it could not be written, in words; empty if it was.
    """
    return write_text(target, json.dumps(value, indent=2, ensure_ascii=False))


def write_text(target: str, text: str | Iterable[str]) -> str:
    """Write a text, whole or in pieces, and a line break to a file, or to stdout for "-".

    What a terminal would obey is written by number, as JSON may write it: `report --json -` and `cat` show it too.

    Returns:
        Why it could not be written, in words; empty if it was.
    """
    pieces = map(harmless, (text, "\n") if isinstance(text, str) else itertools.chain(text, ("\n",)))
    if target == STDOUT:
        error = next(filter(None, (_write(sys.stdout, piece) for piece in pieces)), None)
        return "" if error is None else f"stdout cannot be written: {error.strerror or error}"
    try:
        # Not by a temporary file and a rename: the name may be a pipe's or a device's.
        # Lone surrogates (bytes of a file's name that are no UTF-8, say) become what they are in JSON: "\\udcff".
        with open(target, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(pieces)
    except OSError as error:
        return f"{target} cannot be written: {error.strerror or error}"
    return ""


def deliver(json_file: str | None, plain: Callable[[], Any], text: Callable[[], str]) -> int:
    """Write what a command found where it is wanted; only what is wanted is made.

    Args:
        json_file: File for it as JSON, "-" for stdout; None: it is shown as text on stdout.
        plain: Makes it as plain values.
        text: Makes it as text.

    Returns:
        0, or 1 if it could not be written, which is said.
    """
    if json_file is None:
        return 0 if show(text(), paints=True) else 1
    problem = write_json(json_file, plain())
    if problem:
        say(f"aiocarbon: {problem}")
    return 1 if problem else 0


def with_version(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A result as plain values, with the version of aiocarbon that made it behind its schema."""
    return {"schema": plain["schema"], "version": __version__, **{k: v for k, v in plain.items() if k != "schema"}}


def folder_problem(target: str | None) -> str:
    """Why a file could never be written there, told before anything starts; empty if it may be."""
    if target is None or target == STDOUT:
        return ""
    path = Path(target)
    try:
        if path.is_dir():
            return f"{target} is a folder; name a file"
        return "" if path.parent.is_dir() else f"{target} cannot be written: there is no folder {path.parent}"
    except OSError as error:  # a folder that may not be searched, or too long a name
        return f"{target} cannot be written: {error.strerror or error}"


def coloured(text: str, stream: IO[str] | Shown | None, environ: Mapping[str, str] = os.environ) -> str:
    """The text, harmless; on a terminal, and without NO_COLOR, its heading is bold and its warnings are yellow."""
    text = harmless(text)
    if not is_terminal(stream) or environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return text
    return "\n".join(_painted(line) for line in text.split("\n"))


def is_terminal(stream: IO[str] | Shown | None) -> bool:
    """Whether a person sees the stream on a terminal."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False


def _painted(line: str) -> str:
    if line.startswith("aiocarbon: "):
        return f"{BOLD}{line}{PLAIN}"
    return f"{YELLOW}{line}{PLAIN}" if line.startswith(WARNING.rstrip()) else line


def write_live(text: str) -> None:
    """Replace the live line on the terminal at stderr, or skip that where the terminal would make us wait."""
    descriptor = 2
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    if not any(events & select.POLLOUT for _, events in poller.poll(0)):
        return  # stopped by Ctrl-S, say
    # The terminal may be set to stop whoever writes from the background, which we are while the child has it.
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        with contextlib.suppress(OSError):
            os.write(descriptor, (CLEAR_LINE + harmless(text)).encode("utf-8", "replace"))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
