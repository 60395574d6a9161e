"""Lists of nodes as SLURM writes them, "n[1-3,7],gpu[01-02]-[1-4],login", expanded and folded without asking SLURM.

The grammar is that of the slurm.conf(5) and scontrol(1) manuals: commas between names, in brackets numbers and ranges
whose leading zeros count, several brackets in one name multiply.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Final

MOST_NODES: Final = 100_000
"""More is a mistake; the largest clusters have some ten thousand."""

MOST_BRACKETS: Final = 4
"""In one name; SLURM itself takes few (slurm.conf(5), NodeName)."""

_NAME: Final = re.compile(r"(?:[^\[\],\s]|\[[^\[\]\s]*\])+")
_PART: Final = re.compile(r"\[([^\[\]]*)\]|([^\[\]]+)")
_NUMBERED: Final = re.compile(r"(.*?)(\d{1,18})", re.ASCII | re.DOTALL)
_SPECIAL: Final = re.compile(r"[\[\],\s]")
_RANGE: Final = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)


def expand(text: str) -> tuple[str, ...]:
    """The names of a list, in its order, each once.

    Args:
        text: A list such as SLURM_JOB_NODELIST holds; nothing for no node.

    Raises:
        ValueError: It is no such list, or of more than 100,000 nodes.
    """
    names: dict[str, None] = {}
    text = text.strip()
    at = 0
    while at < len(text):
        found = _NAME.match(text, at)
        if found is None:
            raise ValueError(f"{text!r} is no list of nodes")
        for name in _names(found[0]):
            names[name] = None
            if len(names) > MOST_NODES:
                raise ValueError(f"a list of more than {MOST_NODES} nodes")
        at = found.end()
        if at < len(text) and (text[at] != "," or at + 1 == len(text)):
            raise ValueError(f"{text!r} is no list of nodes")
        at += 1
    return tuple(names)


def fold(names: Iterable[str]) -> str:
    """A list that expands to these names, in another order: numbers at the end of names that begin alike in brackets.

    Raises:
        ValueError: A name cannot stand in a list.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    plain: dict[str, None] = {}
    for name in names:
        found = _NUMBERED.fullmatch(name)
        if not name or _SPECIAL.search(name):
            raise ValueError(f"{name!r} is no name of a node")
        if found is None:
            plain[name] = None
        else:
            groups.setdefault((found[1], len(found[2])), []).append(int(found[2]))
    words = [*plain]
    for (prefix, width), numbers in groups.items():
        ranges: list[list[int]] = []
        for number in sorted(set(numbers)):
            if ranges and number == ranges[-1][1] + 1:
                ranges[-1][1] = number
            else:
                ranges.append([number, number])
        inner = ",".join(f"{a:0{width}d}" if a == b else f"{a:0{width}d}-{b:0{width}d}" for a, b in ranges)
        words.append(f"{prefix}{inner}" if inner.isdigit() else f"{prefix}[{inner}]")
    return ",".join(words)


def _names(word: str) -> Iterator[str]:
    """The names of one word with its brackets."""
    if word.count("[") > MOST_BRACKETS:
        raise ValueError(f"{word!r} has more than {MOST_BRACKETS} brackets")
    parts = [[plain] if plain else list(_numbers(inner)) for inner, plain in _PART.findall(word)]
    return ("".join(chosen) for chosen in itertools.product(*parts))


def _numbers(inner: str) -> Iterator[str]:
    """The numbers in a bracket, with their zeros."""
    for piece in inner.split(","):
        found = _RANGE.fullmatch(piece)
        if found is None:
            raise ValueError(f"[{inner}] is no list of numbers")
        first, last = found[1], found[2] or found[1]
        if not 0 <= int(last) - int(first) < MOST_NODES:
            raise ValueError(f"[{inner}] is no list of numbers")
        for number in range(int(first), int(last) + 1):
            yield f"{number:0{len(first)}d}"
