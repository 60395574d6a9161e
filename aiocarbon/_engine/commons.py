"""The folder in which the processes of one user on one machine find who reads which device.

A ring's name is the device's key and a number that counts up: the ring with the largest number counts, its writer is
the one process that reads the device, and whoever makes the next number is the next one. Making is by link(2), so that
of many who try at once one succeeds; a ring is locked before it has its name.

The folder is `$AIOCARBON_LOCK_DIR`, else /dev/shm, and in it aiocarbon-<user>/<boot>: kept by the machine's memory, so
that it ends with the boot whose counters and clocks it tells of. It must be ours alone: links and folders that others
put there are not followed. Processes that have different folders (containers, users) read the same device each by
themselves, and their journals still count each joule once.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aiocarbon._core.reading import Basis, Device
from aiocarbon._engine import ring
from aiocarbon._engine.bell import PREFIX

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
TIME_NAMESPACE: Final = "/proc/self/ns/time"
KEY_MOST: Final = 60
TIDY_AGE_S: Final = 60.0
"""Files that nobody touched for so long belong to nobody: a ring that was given up is taken over within 2 s."""
FOLDER_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
)
OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def key_of(device: Device, made_up_as: str = "") -> str:
    """What all processes call a device that is to be read by one of them; names no file of another device.

    Args:
        device: The device.
        made_up_as: For a simulated device: how it was asked for, which decides its values.
    """
    same = (device.id, device.quantity, device.basis, device.refresh_s, device.lag_s, device.counter_range_uj)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", device.id)[:KEY_MOST]
    return f"{name}-{zlib.crc32(repr((*map(str, same), device.origin, made_up_as)).encode()):08x}"


def is_shareable(device: Device) -> bool:
    """True for sensors: what they say is the same for all. A model's figures are made in each process, of its load."""
    return device.basis in (Basis.COUNTER, Basis.POWER)


class Commons:
    """The folder, held open.

    Attributes:
        fd: Its descriptor; -1 once closed.
        path: For people.

    Args:
        base: The folder in which it lies, or is made.
        boot_id: Where the kernel tells the boot's id.

    Raises:
        OSError: It cannot be used, with a message that says why.
    """

    def __init__(self, base: str, *, boot_id: Path = BOOT_ID) -> None:
        os.makedirs(base, mode=0o700, exist_ok=True)
        own, boot = f"aiocarbon-{os.geteuid()}", boot_id.read_text(encoding="ascii").strip()[:8] + _time_namespace()
        self.path = os.path.join(base, own, boot)
        outer = _folder(os.path.join(base, own), None)
        try:
            self.fd = _folder(boot, outer)
        finally:
            os.close(outer)
        ring.hold(self)

    def newest(self, key: str) -> tuple[int, ring.Reader] | None:
        """The ring that counts for a device, with its number; None if there is none.

        Raises:
            OSError: The folder or the ring cannot be read.
        """
        for number in sorted(self._numbers(key), reverse=True):
            if found := ring.read(self.fd, f"{key}.{number}"):
                return number, found
        return None

    def remove_before(self, key: str, number: int) -> None:
        """Remove the rings that a newer one has replaced, and the bells of writers that are dead."""
        for old in self._numbers(key):
            if old < number:
                self.remove(f"{key}.{old}")

    def clear(self, key: str) -> None:
        """Remove what is left of a device that no process shares any more."""
        for number in [*self._numbers(key)]:
            if not self._is_used(name := f"{key}.{number}"):
                self.remove(name)
        self.remove(f".{key}{ring.USERS}")

    def remove(self, name: str) -> None:
        """Remove a file, if it is still there."""
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            os.unlink(name, dir_fd=self.fd)

    def tidy(self) -> None:
        """Remove what dead processes left: rings that nobody writes, bells that nobody hears, drafts.

        Raises:
            OSError: The folder cannot be read.
        """
        for name in os.listdir(self.fd):
            if _age_s(self.fd, name) > TIDY_AGE_S and not self._is_used(name):
                self.remove(name)

    def _is_used(self, name: str) -> bool:
        if name.startswith(PREFIX):
            try:
                os.close(os.open(name, os.O_WRONLY | os.O_NONBLOCK, dir_fd=self.fd))
            except OSError:
                return False
            return True
        if name.endswith(ring.USERS):
            return ring.are_used(self.fd, name)
        found = None if name.startswith(".") else ring.read(self.fd, name)
        try:
            return found is not None and found.is_locked()
        finally:
            if found is not None:
                found.close()

    def _numbers(self, key: str) -> Iterator[int]:
        for name in os.listdir(self.fd):
            stem, _, number = name.rpartition(".")
            if stem == key and number.isdecimal():
                yield int(number)

    def close(self) -> None:
        """Leave the folder."""
        ring.close(self)


def _folder(path: str, inside: int | None) -> int:
    """A descriptor of a folder that is ours alone, made if it is not there."""
    with contextlib.suppress(FileExistsError):  # ours, or refused below
        os.mkdir(path, 0o700, dir_fd=inside)
    fd = os.open(path, FOLDER_FLAGS, dir_fd=inside)
    about = os.fstat(fd)
    if about.st_uid != os.geteuid() or about.st_mode & OTHERS:
        os.close(fd)
        raise PermissionError(f"{path} belongs to another user, or others may write to it")
    return fd


def _time_namespace() -> str:
    """Tells apart containers whose clocks are shifted; empty where there is no such thing."""
    try:
        return "-" + re.sub(r"\D", "", os.readlink(TIME_NAMESPACE))
    except OSError:
        return ""


def _age_s(folder_fd: int, name: str) -> float:
    import time

    try:
        return time.time() - os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0
