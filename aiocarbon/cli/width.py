"""How wide a stream's terminal is."""

from __future__ import annotations

import os
from typing import IO, Final

from aiocarbon.cli.output import is_terminal

__all__ = ["columns"]

WIDTH: Final = 72
"""Where a terminal does not say."""

LEAST_WIDTH: Final = 30


def columns(stream: IO[str] | None) -> int | None:
    """Columns of the terminal that shows a stream; None where none does, so that nothing breaks lines."""
    if stream is None or not is_terminal(stream):
        return None
    try:
        return max(os.get_terminal_size(stream.fileno()).columns, LEAST_WIDTH)
    except (OSError, ValueError):
        return WIDTH
