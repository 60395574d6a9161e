"""A ring: the file through which the one process that reads a device hands its readings to others.

Guarantees: one process writes a ring in all its life; the file is locked (flock) from before others can see it until
its writer gives it up or dies, however it dies; what a reader takes was written whole. Files are written and read by
`pwrite` and `pread`, 0.9 and 0.7 us a reading: a mapping would take 0.1 us, but a full file system would kill its
writer by SIGBUS, and in a forked child it would go on holding what it maps.

After a fork the child closes its copies: a lock lives as long as any copy of its descriptor.
"""

from __future__ import annotations

import os
import struct
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from aiocarbon._core import ringform as form
from aiocarbon._core.ringform import Pulse, Record, Title
from aiocarbon._core.standing import Carried

READ_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
MAKE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)
MODE: Final = 0o600
USERS: Final = ".users"
"""Behind a dot and a device's key: the file of those who share it."""

USERS_FLAGS: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
USERS_TRIES: Final = 100
USERS_WAIT_S: Final = 0.001
FLOCK: Final = "hhqqi4x"
"""`struct flock` of fcntl(2) on 64-bit Linux: type, whence, start, length, process."""


class Held(Protocol):
    """What holds a descriptor."""

    fd: int


_held: weakref.WeakSet[Held] = weakref.WeakSet()
_is_registered = False


def hold(holder: Held) -> None:
    """Have a forked child close a descriptor that lies in `holder.fd`."""
    global _is_registered
    _held.add(holder)
    if not _is_registered and hasattr(os, "register_at_fork"):
        _is_registered = True
        os.register_at_fork(after_in_child=_let_go)


def _let_go() -> None:
    for holder in list(_held):
        close(holder)
    _held.clear()


def close(holder: Held) -> None:
    """Close what something holds, once."""
    fd, holder.fd = holder.fd, -1
    if fd >= 0:
        _held.discard(holder)
        os.close(fd)


class Users:
    """Those who share a device, whoever reads it: each holds a lock that others see until it leaves, however it dies.

    A ring comes and goes with who reads, and who follows a former one may not have found the newest yet.

    Attributes:
        fd: Its descriptor; -1 once closed.

    Raises:
        OSError: The file cannot be made, or not be locked.
    """

    def __init__(self, folder_fd: int, key: str) -> None:
        import fcntl

        self.fd = -1
        name = f".{key}{USERS}"
        for _ in range(USERS_TRIES):
            self.fd = os.open(name, USERS_FLAGS, MODE, dir_fd=folder_fd)
            hold(self)
            try:
                _lock(self.fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK)
                if _inode(folder_fd, name) == os.fstat(self.fd).st_ino:
                    return
            except BlockingIOError:
                time.sleep(USERS_WAIT_S)
            except OSError:
                close(self)
                raise
            close(self)  # the last of the former ones has just removed it, or is about to
        raise OSError(f"{name}: it was removed {USERS_TRIES} times")

    def leave(self, clear: Callable[[], None]) -> None:
        """Be none of them any more.

        Args:
            clear: Called if there is no other one, and before another one can come.

        Raises:
            OSError: The file cannot be asked, or what `clear` raises.
        """
        import fcntl

        try:
            # Given back first: of two that leave at one time, each would else wait for the other.
            _lock(self.fd, fcntl.F_OFD_SETLK, fcntl.F_UNLCK)
            _lock(self.fd, fcntl.F_OFD_SETLK, fcntl.F_WRLCK)
            clear()
        except BlockingIOError:
            pass  # others go on
        finally:
            close(self)


def are_used(folder_fd: int, name: str) -> bool:
    """Whether a process holds a file of users."""
    import fcntl

    try:
        fd = os.open(name, os.O_RDWR, dir_fd=folder_fd)
    except FileNotFoundError:
        return False
    try:
        return _lock(fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK) != fcntl.F_UNLCK
    finally:
        os.close(fd)


def _lock(fd: int, command: int, kind: int) -> int:
    """Ask for a lock of the open file, not of the process, whose other descriptors would drop it; the answer's kind."""
    import fcntl

    answer = fcntl.fcntl(fd, command, struct.pack(FLOCK, kind, os.SEEK_SET, 0, 1, 0))
    found: int = struct.unpack(FLOCK, answer)[0]
    return found


class Writer:
    """The writing end of a ring.

    Attributes:
        fd: Its descriptor, which holds the lock; -1 once closed.
        name: Its name in its folder.
        number: Of the next reading.
    """

    def __init__(self, folder_fd: int, name: str, fd: int, *, is_energy: bool) -> None:
        self.fd = fd
        self.name = name
        self.number = 0
        self._folder_fd = folder_fd
        self._inode = os.fstat(fd).st_ino
        self._is_energy = is_energy
        self._turn = 0
        hold(self)

    def append(self, t_ns: int, half_ns: int, value: float) -> None:
        """Write a reading down.

        Raises:
            OSError: The file cannot be written, or is closed.
        """
        record = Record(self.number, t_ns, half_ns, value)
        os.pwrite(self.fd, form.pack_record(record, is_energy=self._is_energy), form.record_at(self.number))
        self.number += 1

    def put_pulse(self, pulse: Pulse) -> None:
        """Write down how the writer and the device are doing.

        Raises:
            OSError: As above.
        """
        os.pwrite(self.fd, form.pack_pulse(pulse), form.PULSE_AT)

    def put_carried(self, carried: Carried) -> None:
        """Write down where those begin who come later.

        Raises:
            OSError: As above.
        """
        os.pwrite(self.fd, form.pack_carried(carried), form.CARRIED_AT[self._turn])
        self._turn = 1 - self._turn

    def is_current(self) -> bool:
        """False once another process has put a newer ring in the place of this one, or somebody removed it."""
        return _inode(self._folder_fd, self.name) == self._inode

    def close(self) -> None:
        """Give the lock back."""
        close(self)


class Reader:
    """The reading end of a ring.

    Attributes:
        fd: Its descriptor; -1 once closed.
        name: The ring's name in its folder.
        title: Its title.
    """

    def __init__(self, folder_fd: int, name: str, fd: int, title: Title) -> None:
        self.fd = fd
        self.name = name
        self.title = title
        self._folder_fd = folder_fd
        self._inode = os.fstat(fd).st_ino
        self._next = 0
        hold(self)

    def take(self) -> tuple[list[Record], bool]:
        """The readings since the last call, and whether some before them were overwritten meanwhile.

        Raises:
            OSError: The file cannot be read.
        """
        found: list[Record] = []
        while True:
            data = os.pread(self.fd, form.RECORD_SIZE, form.record_at(self._next))
            record = form.record_from(data, is_energy=self.title.is_energy)
            if record is None or record.number < self._next:
                return found, False  # a torn one is whole at the next call
            if record.number > self._next:
                return self.everything(), True
            found.append(record)
            self._next += 1

    def everything(self) -> list[Record]:
        """All readings that the ring holds.

        Raises:
            OSError: The file cannot be read.
        """
        data = os.pread(self.fd, form.SIZE - form.RECORDS_AT, form.RECORDS_AT)
        found = form.records_from(data, is_energy=self.title.is_energy)
        self._next = found[-1].number + 1 if found else 0
        return found

    def pulse(self) -> Pulse | None:
        """How the writer and the device are doing; None if it could not be read whole.

        Raises:
            OSError: The file cannot be read.
        """
        return form.pulse_from(os.pread(self.fd, form.PULSE_SIZE, form.PULSE_AT))

    def carried(self) -> Carried | None:
        """Where the ring's readings begin; None if they begin with the line.

        Raises:
            OSError: The file cannot be read.
        """
        both = [form.carried_from(os.pread(self.fd, form.CARRIED_SIZE, at)) for at in form.CARRIED_AT]
        return max((one for one in both if one is not None), key=lambda one: one.read_ns, default=None)

    def is_locked(self) -> bool:
        """True while the writer lives and has not given the ring up.

        Raises:
            OSError: The file cannot be asked.
        """
        import fcntl

        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return False

    def is_current(self) -> bool:
        """False once a newer ring is in the place of this one."""
        return _inode(self._folder_fd, self.name) == self._inode

    def close(self) -> None:
        """Read no more."""
        close(self)


def _inode(folder_fd: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return None


def read(folder_fd: int, name: str) -> Reader | None:
    """Open a ring for reading; None if it is gone, or none of this layout.

    Raises:
        OSError: It cannot be opened.
    """
    try:
        fd = os.open(name, READ_FLAGS, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    title = form.title_from(os.pread(fd, form.TITLE_SIZE, form.TITLE_AT))
    if title is None:
        os.close(fd)
        return None
    return Reader(folder_fd, name, fd, title)


def make(
    folder_fd: int,
    name: str,
    title: Title,
    pulse: Pulse,
    carried: Carried | None = None,
    readings: Iterable[tuple[int, int, float]] = (),
) -> Writer | None:
    """Make a ring and be its writer; None if there is one of that name.

    It is locked, and holds all this, before anybody can see it.

    Args:
        folder_fd: Descriptor of its folder.
        name: Its name there.
        title: Its title.
        pulse: Its first pulse.
        carried: Where its readings begin; None if they begin with the line.
        readings: Its first readings: instant, half the duration (nanoseconds), value.

    Raises:
        OSError: It cannot be made.
    """
    import fcntl

    draft = f".{name}.{os.urandom(4).hex()}"
    fd = os.open(draft, MAKE_FLAGS, MODE, dir_fd=folder_fd)
    writer = Writer(folder_fd, name, fd, is_energy=title.is_energy)
    try:
        _allocate(fd)
        os.pwrite(fd, form.pack_title(title), form.TITLE_AT)
        writer.put_pulse(pulse)
        if carried is not None:
            writer.put_carried(carried)
        for reading in readings:
            writer.append(*reading)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.link(draft, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except FileExistsError:
        writer.close()
        return None
    except BaseException:
        writer.close()
        raise
    finally:
        os.unlink(draft, dir_fd=folder_fd)
    return writer


def _allocate(fd: int) -> None:
    """Take the space now, so that a full file system is seen before anybody relies on the ring."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, form.SIZE)
    else:
        os.truncate(fd, form.SIZE)
