"""Puts records into a journal file: append-only, one write a batch, and the newest second in a tail beside it.

Blocking; the engine calls it in a worker. The file is opened with O_EXCL and never by two writers; nothing is synced
to the disk, since what must survive is the death of the process.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from aiocarbon.errors import JournalError
from aiocarbon.journal.records import line, sealed

TAIL_SUFFIX = ".tail"
MOST_FILES = 10_000


class Whereabouts(Enum):
    """What became of a file while it was written."""

    THERE = "there"
    MOVED = "moved"
    GONE = "gone"


class JournalWriter:
    """Writes one journal file.

    Attributes:
        path: The file; None until `open`.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        host: str,
        *,
        pid: int | None = None,
        put: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self._put = put
        self._folder = folder / run_id
        self._stem = f"{re.sub(r'[^A-Za-z0-9._-]', '_', host) or 'host'}-{os.getpid() if pid is None else pid}"
        self._file = -1
        self._tail = -1
        self._tail_length = 0
        self._is_torn = False
        self._next = 0
        self.path: Path | None = None

    def open(self, header: Mapping[str, Any]) -> None:
        """Make the folder and the file, one of another name than any before, and write its first line.

        Raises:
            JournalError: The file system refuses.
        """
        try:
            self._folder = Path(os.path.abspath(self._folder))  # the program may change its folder
            self._folder.mkdir(parents=True, exist_ok=True)
            for n in range(self._next, MOST_FILES):
                path = self._folder / f"{self._stem}-{n}.jsonl"
                try:
                    self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
                except FileExistsError:
                    continue
                try:
                    self._tail = os.open(path.with_suffix(TAIL_SUFFIX), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
                    self._write(_encoded([header]))
                except OSError:
                    self._forget(path)  # a full disk must not collect an empty file a second
                    raise
                self.path = path
                self._next = n + 1
                return
        except OSError as error:
            raise _failed("opened", self._folder, error) from error
        raise JournalError(f"{self._folder} holds {MOST_FILES} journals of this process already")

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Append records in one write.

        Raises:
            JournalError: The file system refuses, or the journal was never opened.
        """
        data = _encoded(records)
        if self._file < 0:
            raise JournalError(f"the journal in {self._folder} is not open")
        try:
            self._write(data)
        except OSError as error:
            raise _failed("written", self.path or self._folder, error) from error

    def put_tail(self, record: Mapping[str, Any]) -> None:
        """Overwrite the tail in place with the newest state.

        Raises:
            JournalError: The file system refuses.
        """
        if self._tail < 0:
            return
        data = sealed(record)
        padded = data.ljust(self._tail_length)
        self._tail_length = len(data)
        try:
            os.pwrite(self._tail, padded, 0)
        except OSError as error:
            raise _failed("written", self.path or self._folder, error) from error

    def whereabouts(self) -> Whereabouts:
        """Whether the file is still where it was opened.

        It is gone only where its own links and its path say so: file systems of networks and of layers may state a
        number of links, or of a file, that means nothing.
        """
        if self._file < 0 or self.path is None:
            return Whereabouts.THERE
        try:
            mine = os.fstat(self._file)
            try:
                there = os.stat(self.path)
            except (FileNotFoundError, NotADirectoryError):
                return Whereabouts.GONE if not mine.st_nlink or _is_kept_for_us(self._file) else Whereabouts.MOVED
        except OSError as error:
            return Whereabouts.GONE if error.errno == errno.ESTALE else Whereabouts.THERE
        return Whereabouts.THERE if mine.st_nlink or os.path.samestat(mine, there) else Whereabouts.GONE

    def close(self, *, keep_tail: bool = True) -> None:
        """Close the file; a run that ended well needs no tail.

        Raises:
            JournalError: The file system refuses (some tell only now that a write failed).
        """
        descriptors = [d for d in (self._file, self._tail) if d >= 0]
        self._file = self._tail = -1
        try:
            for descriptor in descriptors:
                os.close(descriptor)
            if not keep_tail and self.path is not None:
                self.path.with_suffix(TAIL_SUFFIX).unlink(missing_ok=True)
        except OSError as error:
            raise _failed("closed", self.path or self._folder, error) from error

    def _forget(self, path: Path) -> None:
        """Take back a file that could not be begun."""
        self.close()
        self._is_torn = False
        self._tail_length = 0
        path.unlink(missing_ok=True)
        path.with_suffix(TAIL_SUFFIX).unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        """Write all of it; a line that an earlier failure left torn is ended first, so that the next stands alone."""
        if self._is_torn:
            data = b"\n" + data
        while data:
            written = self._put(self._file, data)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._is_torn = data[written - 1 : written] != b"\n"
            data = data[written:]


def _is_kept_for_us(descriptor: int) -> bool:
    """True if NFS keeps a file that was removed, under another name, only since it is open here."""
    try:
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).startswith(".nfs")
    except OSError:
        return False


def _encoded(records: Iterable[Mapping[str, Any]]) -> bytes:
    # Half a surrogate pair, as drivers may name a device, is no UTF-8; in JSON it stands as an escape.
    return "".join(line(record) for record in records).encode(errors="backslashreplace")


def _failed(what: str, path: Path, error: OSError) -> JournalError:
    return JournalError(
        f"the journal {path} cannot be {what}: {error.strerror or error}; the tracking goes on without it. "
        "Give another folder with journal=DIR (--journal DIR)"
    )
