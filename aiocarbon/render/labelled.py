"""Lines of a label and its text, broken between words where a terminal would break them anywhere."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

__all__ = ["labelled"]

INDENT: Final = "  "
LABEL_WIDTH: Final = 12
NARROW: Final = 60
"""Columns below which what goes on is not put under the text's begin."""


def labelled(label: str, text: str, width: int | None) -> Iterator[str]:
    """A label in its column and its text beside it.

    Args:
        label: What the text is of; empty where it goes on.
        text: One line.
        width: Columns of the terminal; None where nothing breaks lines.
    """
    head = f"{INDENT}{label:<{LABEL_WIDTH}}"
    if width is None:
        yield head + text
        return
    hang = " " * (len(head) if width >= NARROW else 2 * len(INDENT))
    yield from textwrap.wrap(
        head + text, width, subsequent_indent=hang, drop_whitespace=True, break_on_hyphens=False, break_long_words=False
    )
