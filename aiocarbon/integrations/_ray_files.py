"""Journals on their way to the driver: what is new in a node's files is sent, and kept as files of the same content.

What is sent is a piece of an append-only file and where it belongs, never a difference to what was sent before. So a
piece that comes twice, late or not at all changes nothing but how much is there: what the files hold so far is the only
state, and it outlives both ends. Blocking; no part of it knows Ray.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from aiocarbon.journal.records import unsealed
from aiocarbon.journal.write import TAIL_SUFFIX

MOST_BYTES: Final = 1 << 20
"""Of one file in one piece; a journal grows by about 200 bytes a second, so this is for those that come late."""

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,200}\.jsonl")


class Piece(NamedTuple):
    """A piece of a journal.

    Attributes:
        name: The file's name.
        offset: Where in the file it begins, bytes.
        data: Whole lines; empty if there are no new ones.
        tail: The newest content of the file beside it that holds the last second; empty if there is none.
    """

    name: str
    offset: int
    data: bytes
    tail: bytes


class Outbox:
    """What of the journals in a folder was not yet sent.

    Args:
        folder: The folder; it need not be there yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, int] = {}
        self._tails: dict[str, bytes] = {}

    def pieces(self, of: str = "*.jsonl") -> list[Piece]:
        """What is new since the other end last told what it has; a file that cannot be read has its turn later.

        Args:
            of: Pattern of the names of the files that are looked at.
        """
        found = []
        for path in sorted(self._folder.glob(of)):
            offset = self._kept.get(path.name, 0)
            try:
                data = _lines(path, offset)
                tail = _tail(path)
            except OSError:
                continue
            if data or tail != self._tails.get(path.name, b"") or path.name not in self._kept:
                found.append(Piece(path.name, offset, data, tail))
        return found

    def arrived(self, pieces: Iterable[Piece], kept: Mapping[str, int]) -> None:
        """Be told that pieces arrived.

        Args:
            pieces: Which.
            kept: How many bytes of each file the other end has.
        """
        self._kept.update(kept)
        self._tails.update((piece.name, piece.tail) for piece in pieces if piece.name in kept)


class Inbox:
    """Keeps the journals of nodes, each node's in a folder of its own, since two may have files of one name.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, node: str, pieces: Iterable[Piece]) -> dict[str, int]:
        """Take pieces.

        Args:
            node: Id of the node that sends them.
            pieces: In any order, each any number of times.

        Returns:
            How many bytes of each of these files there are now; what follows them is wanted next.

        Raises:
            OSError: The file system refuses.
            ValueError: A name is none of a journal.
        """
        folder = self._of(node)
        folder.mkdir(parents=True, exist_ok=True)
        kept = {}
        for piece in pieces:
            if not NAME.fullmatch(piece.name):
                raise ValueError(f"{piece.name!r} is no name of a journal")
            path = folder / piece.name
            kept[piece.name] = _add(path, piece)
            _replace_tail(path, piece.tail)
        return kept

    def told_s(self, node: str) -> float | None:
        """When a node told last, Unix time, as its files say; None if it never did."""
        times = [path.stat().st_mtime for path in self._of(node).glob("*-*")]
        return max(times, default=None)

    def _of(self, node: str) -> Path:
        return self._folder / re.sub(r"[^A-Za-z0-9-]", "_", node)[:16]


def _lines(path: Path, offset: int) -> bytes:
    """The whole lines from an offset on, up to a limit; a line that is being written is left for later."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(MOST_BYTES)
        while len(data) % MOST_BYTES == 0 and data and b"\n" not in data:
            more = file.read(MOST_BYTES)  # a line longer than the limit
            if not more:
                break
            data += more
    return data[: data.rfind(b"\n") + 1]


def _tail(path: Path) -> bytes:
    try:
        data = path.with_suffix(TAIL_SUFFIX).read_bytes()
    except FileNotFoundError:
        return b""
    return data if unsealed(data) is not None else b""  # caught in the middle of a write: the next one comes


def _add(path: Path, piece: Piece) -> int:
    """Add what a piece has beyond the file; the file's length."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        length = os.fstat(descriptor).st_size
        new = piece.data[length - piece.offset :] if piece.offset <= length else b""
        while new:
            written = os.pwrite(descriptor, new, length)
            length, new = length + written, new[written:]
        return length
    finally:
        os.close(descriptor)


def _replace_tail(path: Path, data: bytes) -> None:
    """Put a tail in place, unless the one there is newer: a sender that died may still have had one on its way."""
    theirs = unsealed(data)
    if theirs is None:
        return
    tail = path.with_suffix(TAIL_SUFFIX)
    try:
        mine = unsealed(tail.read_bytes())
    except FileNotFoundError:
        mine = None
    if mine is None or mine.get("t", 0) < theirs.get("t", 0):
        fresh = tail.with_suffix(".new")
        fresh.write_bytes(data)
        fresh.replace(tail)
