"""One journal file as one process of a run: read line by line, points straight into curves.

Guarantees: whatever a file holds, reading ends with a `Process`, or with a `JournalError` that says what the file is
not; a line that cannot be read is skipped, counted and told. Memory grows by the states, not by the records.
"""

from __future__ import annotations

import functools
import json
import json.scanner
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from aiocarbon._core.body import Facts
from aiocarbon._core.intensity import IntensityValue
from aiocarbon._core.units import S_PER_NS
from aiocarbon._core.wallclock import Anchor
from aiocarbon.errors import JournalError
from aiocarbon.journal import records
from aiocarbon.journal.place import read_place
from aiocarbon.journal.plain import whole
from aiocarbon.journal.process import Process, intensity_of
from aiocarbon.journal.records import FAMILY, SCHEMA, Record
from aiocarbon.journal.refresh import read_sidecar
from aiocarbon.journal.write import TAIL_SUFFIX

__all__ = ["Heading", "announced", "read_process"]

FIRST_LINE_MOST = 1 << 20
"""Bytes in which a first line must end; more is no journal."""

BLOCK = 1 << 20
"""Bytes that are read at once."""

LINE_BLOCKS = 32
"""Blocks that a line may reach over."""

TAIL_MOST = 1 << 24
BAD_TOLD = 8
"""Of more lines that cannot be read the first are told by their numbers."""

NO_HEADER = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a first line raises whose fields are of another kind, or are numbers such as 1e400."""

VALUES_KEPT = 4096
"""Intensity records kept as read: the nodes of one place hear the same ones."""


def read_process(path: Path, machine: str = "") -> Process:
    """Read one journal file, with the tail beside it where the run did not end by itself, and what was learnt since.

    Args:
        path: The file.
        machine: What tells its machine from others, where more is known of that than its first line says.

    Raises:
        JournalError: It cannot be opened, or its first line is not that of a journal that this version reads.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # what a living writer appends later is left for the next reader
            first = file.readline(FIRST_LINE_MOST)
            process = _begin(path, first)
            process.machine = machine or process.machine
            _take_lines(process, _lines(file, size - len(first)))
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error
    if process.end is None:
        _take_tail(process)
    try:
        process.locate(read_place(path, process.ident))
        process.learnt = read_sidecar(path, process.ident)
    except JournalError as error:
        process.problems.append(str(error))
    if process.bad_lines:
        lines = "1 line" if process.bad_lines == 1 else f"{process.bad_lines} lines"
        at = ", ".join(map(str, process.bad_at)) + (", ..." if process.bad_lines > len(process.bad_at) else "")
        process.problems.append(f"{lines} of {path} could not be read: {at}")
    return process


class Heading(NamedTuple):
    """What a file's first line says of the process that it is of, as far as it tells it from others.

    Attributes:
        path: The file.
        ident: What tells this process from all others, and sorts.
        machine: What tells its machine from others.
        boot: Id of the boot.
        run_id: Id of its run.
        name: What the user called it.
        began_s: Its begin, UTC seconds.
    """

    path: str
    ident: str
    machine: str
    boot: str
    run_id: str
    name: str = ""
    began_s: float = 0.0


def announced(path: Path | str) -> Heading:
    """What a file's first line announces.

    Raises:
        JournalError: As in `read_process`.
    """
    try:
        with open(path, "rb") as file:
            first = file.readline(FIRST_LINE_MOST)
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error
    return _heading(path, _header(path, first))


def _lines(file: IO[bytes], left: int) -> Iterator[bytes]:
    """The complete lines of the next `left` bytes: a torn last line is what a killed writer leaves.

    Of a line that is longer than any of ours the rest is left out, so that it is read as a bad one, in little memory.
    """
    begun: list[bytes] = []  # of a line whose end is still to come
    while left > 0 and (block := file.read(min(left, BLOCK))):
        left -= len(block)
        first, *lines = block.split(b"\n")
        if len(begun) < LINE_BLOCKS:
            begun.append(first)
        if lines:
            yield b"".join(begun)
            begun = [lines.pop()]
            yield from lines


def _take_lines(process: Process, lines: Iterable[bytes]) -> None:
    for n, line in enumerate(lines, 2):
        try:
            if line.startswith(INTENSITY_BEGIN):
                process.take_intensity(*_intensity_line(line))
                continue
            text = line.decode()
            if text and not text.isspace():
                process.take(_record(text))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError):
            process.bad_lines += 1
            if len(process.bad_at) < BAD_TOLD:
                process.bad_at.append(n)


def _record(text: str) -> Record:
    """The JSON value of a line."""
    try:
        record, end = _scan(text, 0)
    except StopIteration:  # blanks in front, or no JSON
        record, end = json.loads(text, parse_constant=_refuse), len(text)
    if end < len(text) and not text[end:].isspace():
        raise ValueError("more than one JSON value")
    return record  # type: ignore[no-any-return]  # whoever takes it finds out what it is


@functools.lru_cache(maxsize=VALUES_KEPT)
def _intensity_line(line: bytes) -> tuple[float, IntensityValue, float | None]:
    return intensity_of(_record(line.decode()))


def _take_tail(process: Process) -> None:
    path = process.path.with_suffix(TAIL_SUFFIX)
    try:
        with path.open("rb") as file:
            data = file.read(TAIL_MOST)
    except FileNotFoundError:
        return
    except OSError as error:
        process.problems.append(f"{path} cannot be read: {error.strerror or error}; the last minute may be missing")
        return
    if not data and not len(process.rows):
        return  # killed before anything was told
    record = records.unsealed(data)
    try:
        if record is None:
            raise ValueError("torn")
        if whole(record["t"]) > process.seen_ns:
            process.take(record)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError):
        process.problems.append(f"{path} is torn or not ours; the last minute before the run broke off may be missing")


def _header(path: Path | str, first: bytes) -> Record:
    """The first line of a journal of this schema."""
    if not first.strip():
        raise JournalError(f"{path} is empty")
    try:
        header: Record = json.loads(first, parse_constant=_refuse)
        schema = header["schema"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise JournalError(f'{path} is no journal: its first line is not {{"schema": "{SCHEMA}", ...}}') from error
    if schema != SCHEMA:
        if isinstance(schema, str) and schema.startswith(FAMILY):
            raise JournalError(f"{path} is of schema {schema}, this version reads {SCHEMA}: install a newer aiocarbon")
        raise JournalError(f"{path} is no journal: its schema is {schema!r}, expected {SCHEMA}")
    return header


def _heading(path: Path | str, header: Record) -> Heading:
    try:
        run_id, host, boot, named = (str(header.get(key) or "") for key in ("run_id", "host", "boot_id", "machine"))
        began_s = whole(header["wall_ns"]) * S_PER_NS
        ident = f"{header['run_id']}/{header['host']}/{header['boot_id']}/{whole(header['pid'])}/{whole(header['t'])}"
    except NO_HEADER as error:
        raise _lacking(path, error) from error
    # The boot id, and the node's name where the process was told one.
    machine = f"{boot}/{named}" if boot and named else boot or host
    return Heading(str(path), ident, machine, boot, run_id, str(header.get("name") or ""), began_s)


def _lacking(path: Path | str, error: Exception) -> JournalError:
    return JournalError(f"{path}: its first line lacks what a journal's has: {error}")


def _begin(path: Path, first: bytes) -> Process:
    """The process that a first line announces."""
    header = _header(path, first)
    heading = _heading(path, header)
    try:
        return Process(
            path=path,
            ident=heading.ident,
            facts=Facts(
                run_id=heading.run_id,
                name=str(header["name"]),
                host=str(header["host"]),
                location=records.location_from(header["location"]),
                version=str(header["version"]),
                scope=str(header.get("scope", "machine")),
                tool=str(header.get("tool") or "aiocarbon"),
                identity=records.identity_from(header),
            ),
            machine=heading.machine,
            boot=heading.boot,
            pue=records.pue_from(header["pue"]),
            anchors=[Anchor(header["t"], whole(header["wall_ns"]))],
            seen_ns=header["t"],
            machine_id=str(header.get("machine_id") or ""),
            time_namespace=str(header.get("time_namespace") or ""),
            resumes=header.get("resumes") is True,
        )
    except NO_HEADER as error:
        raise _lacking(path, error) from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


INTENSITY_BEGIN = b'{"k":"intensity",'
# `json.loads` with an argument makes a scanner a call.
_scan: Any = json.scanner.make_scanner(json.JSONDecoder(parse_constant=_refuse))  # type: ignore[arg-type]
