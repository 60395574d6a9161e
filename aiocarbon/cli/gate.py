"""A child that is forked before it becomes its command: it waits at a gate until the readings before it are taken."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from aiocarbon.cli.child import Signals

__all__ = ["EXIT_NOT_EXECUTABLE", "EXIT_NOT_FOUND", "Gate"]

EXIT_NOT_EXECUTABLE: Final = 126
"""POSIX.1-2017, Shell Command Language 2.8.2: the command was found but is not executable."""

EXIT_NOT_FOUND: Final = 127
"""The same section: the command was not found."""


class Gate:
    """A forked child in a group of its own that waits to become the command."""

    def __init__(self, argv: list[str], environ: dict[str, str], signals: Signals) -> None:
        gate_fd, self._open_fd = os.pipe()
        self._error_fd, error_fd = os.pipe()
        former = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._open_fd)
            _become(argv, environ, signals, gate_fd, error_fd)
        os.setpgid(self.pid, self.pid)  # before the gate opens, so no race with the child
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        os.close(gate_fd)
        os.close(error_fd)
        self._is_open = False

    def open(self) -> None:
        """Let it become the command."""
        self._is_open = True
        with contextlib.suppress(BrokenPipeError):  # somebody killed it at the gate: that is how it ended, then
            os.write(self._open_fd, b"!")

    def error(self) -> str:
        """Why it could not become the command, to be asked after its end; empty if it did."""
        return os.fsdecode(os.read(self._error_fd, 65536))

    def close(self) -> None:
        """Give the pipes back, and turn away a child that still waits."""
        os.close(self._open_fd)
        os.close(self._error_fd)
        if not self._is_open:
            os.waitpid(self.pid, 0)


def _become(argv: list[str], environ: dict[str, str], signals: Signals, gate_fd: int, error_fd: int) -> NoReturn:
    """In the forked child: wait at the gate with all signals blocked, then execute the command; never returns."""
    code = EXIT_NOT_EXECUTABLE
    try:
        if os.read(gate_fd, 1):
            # What was forwarded to us meanwhile is pending, and takes its default action here.
            signals.become_default()
            code, message = _execute(argv, environ)
            os.write(error_fd, os.fsencode(message))
    except Exception as error:  # told to the parent through the pipe, the only way that is left
        os.write(error_fd, os.fsencode(f"{argv[0]}: {error}"))
    finally:
        os._exit(code)


def _execute(argv: list[str], environ: dict[str, str]) -> tuple[int, str]:
    """Execute the first of the candidates in PATH that can be; a shell's code and message if none can."""
    program = argv[0]
    if not program:
        return EXIT_NOT_FOUND, "'': command not found"
    lookup = os.sep not in program
    failure = (EXIT_NOT_FOUND, f"{program}: {'command not found' if lookup else os.strerror(errno.ENOENT)}")
    for folder in os.get_exec_path(environ) if lookup else [""]:
        path = os.path.join(folder, program)
        try:
            os.execve(path, argv, environ)
        except OSError as error:
            if error.errno == errno.ENOEXEC and _is_text(path):
                os.execve("/bin/sh", ["/bin/sh", path, *argv[1:]], environ)  # as every shell and execvp(3) do
            if error.errno == errno.ENOENT and os.path.exists(path):
                failure = (EXIT_NOT_EXECUTABLE, f"{path}: its interpreter is not there")
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = (EXIT_NOT_EXECUTABLE, f"{path}: {error.strerror}")
    return failure


def _is_text(path: str) -> bool:
    """Whether a file that the kernel cannot execute is a script without a first line for it, by bash's test for NUL."""
    with open(path, "rb") as file:
        return b"\0" not in file.read(80)
