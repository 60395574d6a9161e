"""Imports a tool's logs into a folder of journals; blocking.

A run's journal is `FOLDER/<run id>/imported.jsonl`. Id and content come from the log alone, so importing it again
changes nothing, and importing a log that has grown puts the longer journal in the shorter one's place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Final

from aiocarbon.errors import JournalError
from aiocarbon.imports.draft import Draft, journal_of

__all__ = ["FORMATS", "Imported", "import_logs"]

FILE: Final = "imported.jsonl"
LARGEST: Final = 1 << 28
"""Bytes of a log; more is no log."""

NEW, SAME, CHANGED = "new", "there already", "brought up to date"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of logs.

    Attributes:
        runs: The runs, each with what became of its journal: "new", "there already" or "brought up to date".
        problems: What could not be read, in words; empty if nothing.
    """

    runs: tuple[tuple[Draft, str], ...]
    problems: tuple[str, ...]


def import_logs(kind: str, paths: Sequence[str | Path], folder: str | Path, *, zone: tzinfo | None = None) -> Imported:
    """Make journals of another tool's logs.

    Args:
        kind: One of `FORMATS`.
        paths: Files, or folders, which are searched to any depth.
        folder: Where journals go; is made where it is not there.
        zone: Time zone of the machine that wrote the logs, which hold local times; None: this machine's.

    Raises:
        JournalError: Nothing could be read at all, or a journal cannot be written.
        KeyError: There is no such format.
    """
    problems: list[str] = []
    found: dict[str, Draft] = {}
    for draft in FORMATS[kind](paths, zone, problems):
        known = found.get(draft.run_id)
        # One run in several copies of a file: the copy that goes further is the whole one.
        if known is None or draft.windows[-1].end_ns > known.windows[-1].end_ns:
            found[draft.run_id] = draft
    if not found:
        why = "".join(f"\n  {problem}" for problem in problems)
        raise JournalError(f"nothing could be imported from {', '.join(map(str, paths)) or 'no path'}{why}")
    runs = tuple((draft, _put(draft, Path(folder))) for draft in found.values())
    return Imported(runs=runs, problems=tuple(dict.fromkeys(problems)))


def _put(draft: Draft, folder: Path) -> str:
    path = folder / draft.run_id / FILE
    data = journal_of(draft).encode()
    try:
        try:
            known = path.read_bytes()
        except FileNotFoundError:
            known = b""
        if known == data:
            return SAME
        path.parent.mkdir(parents=True, exist_ok=True)
        # By a rename, so that who reads meanwhile, and a full disk, find the former journal or the new one.
        fresh = path.with_name(f".{FILE}.{os.getpid()}")
        try:
            fresh.write_bytes(data)
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise JournalError(f"the journal {path} cannot be written: {error.strerror or error}") from error
    return CHANGED if known else NEW


def _carbontracker(paths: Sequence[str | Path], zone: tzinfo | None, problems: list[str]) -> Iterator[Draft]:
    from aiocarbon.imports.carbontracker import ERR, OUTPUT, STANDARD, Logs, draft_of

    for path in _files(paths, (STANDARD,), "a log of carbontracker", problems):
        text = _text(path, problems)
        if text is None:
            continue
        stem = path.name.removesuffix(STANDARD)
        beside = [path.with_name(stem + suffix) for suffix in (OUTPUT, ERR)]
        output, err = ((_text(other, problems) or "") if other.is_file() else "" for other in beside)
        draft = draft_of(Logs(stem=stem, standard=text, output=output, err=err), zone, problems)
        if draft is not None:
            yield draft


def _codecarbon(paths: Sequence[str | Path], zone: tzinfo | None, problems: list[str]) -> Iterator[Draft]:
    from aiocarbon.imports.codecarbon import drafts_of

    for path in _files(paths, (".csv",), "an emissions.csv of codecarbon", problems):
        text = _text(path, problems)
        if text is not None:
            try:
                yield from drafts_of(text.splitlines(keepends=True), str(path), zone, problems)
            except JournalError as error:
                problems.append(str(error))


FORMATS: Final[dict[str, Callable[[Sequence[str | Path], tzinfo | None, list[str]], Iterator[Draft]]]] = {
    "carbontracker": _carbontracker,
    "codecarbon": _codecarbon,
}
"""By the name of the tool: what reads its files."""


def _files(paths: Sequence[str | Path], ends: tuple[str, ...], what: str, problems: list[str]) -> Iterator[Path]:
    """The files meant, each once; in folders those whose names end so."""
    seen: set[str] = set()
    for given in paths:
        path = Path(given)
        found = sorted(_in_folder(path, ends, problems)) if path.is_dir() else [path] if path.is_file() else []
        if not found:
            problems.append(f"{path} holds no file *{ends[0]}" if path.is_dir() else f"{path} is not there")
        for file in found:
            if not file.name.endswith(ends):
                problems.append(f"{file} is not {what}, whose names end in {ends[0]}")
            elif (real := os.path.realpath(file)) not in seen:
                seen.add(real)
                yield file


def _in_folder(folder: Path, ends: tuple[str, ...], problems: list[str]) -> Iterator[Path]:
    def tell(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be searched: {error.strerror or error}")

    for place, _, names in os.walk(folder, onerror=tell):
        for name in names:
            if name.endswith(ends):
                yield Path(place, name)


def _text(path: Path, problems: list[str]) -> str | None:
    """What a file holds; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror or error}")
        return None
    if len(data) > LARGEST:
        problems.append(f"{path} is larger than {LARGEST >> 20} MiB, which no log is")
        return None
    return data.decode("utf-8-sig", "replace")
