"""`aiocarbon dash DIR`: the page of a folder's runs, live, at an address of this machine."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aiocarbon.cli.asking import ask_engine
from aiocarbon.cli.options import CommandLineError
from aiocarbon.cli.output import show
from aiocarbon.cli.report_options import DEFAULT_FOLDER

if TYPE_CHECKING:
    from aiocarbon._engine.engine import Engine

__all__ = ["add_dash", "dash"]

PORT: Final = 8717
MOST_PORT: Final = 65_535


def add_dash(add_verb: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the verb."""
    verb = add_verb("dash", "a live page of the runs in a folder, at an address of this machine alone; Ctrl-C ends it")
    verb.add_argument(
        "folder",
        nargs="?",
        default=DEFAULT_FOLDER,
        metavar="DIR",
        help=f"where runs are written, or will be (default ./{DEFAULT_FOLDER})",
    )
    verb.add_argument("--port", default=str(PORT), metavar="N", help=f"port; 0 for a free one (default {PORT})")


def dash(parsed: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    Returns:
        0 after Ctrl-C; the server ends by nothing else but an error.

    Raises:
        CommandLineError: The port or the folder is none.
        AiocarbonError: It cannot be served.
    """
    port = _port(parsed.port)
    folder = Path(parsed.folder)
    try:
        is_other = folder.exists() and not folder.is_dir()
    except OSError as error:  # above it is a folder that may not be searched, or the name is too long
        raise CommandLineError(f"{folder} cannot be looked at: {error.strerror or error}") from error
    if is_other:
        raise CommandLineError(f"{folder} is no folder: name one that holds runs, or that runs will be written to")

    def started(address: str) -> None:
        show(f"aiocarbon: the runs of {folder} at {address} (Ctrl-C ends it)")

    async def verb(engine: Engine) -> None:
        from aiocarbon.page.server import serve

        await serve(folder, port, started)

    try:
        # In the engine's thread, a daemon as its workers are: whatever is being read then, Ctrl-C ends it at once.
        ask_engine(verb, threading.TIMEOUT_MAX)
    except KeyboardInterrupt:
        return 0
    return 0


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > MOST_PORT:
        raise CommandLineError(f"--port {text!r} is no port: expected 0 to {MOST_PORT}")
    return int(text)
