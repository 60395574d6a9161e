"""Whose turn it is on the terminal: lent to a child's group for its life, and taken back whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
from types import TracebackType
from typing import Self

__all__ = ["Terminal"]


class Terminal:
    """The terminal that controls us, if there is one, and whose turn it is on it.

    It is opened by its own name, because a command whose three streams are redirected is still interrupted from there.

    Args:
        is_shared: True where others of our group may read it, as the pager behind our pipe does: a child that leads a
            group of its own then has it only when it asks.
    """

    def __init__(self, *, is_shared: bool = False) -> None:
        self._is_shared = is_shared
        self._fd = -1
        self._is_lent = False
        self._modes: list[int | list[bytes | int]] | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError):  # ENXIO: no terminal controls us
            self._fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_there:
            os.close(self._fd)

    @property
    def is_there(self) -> bool:
        """Whether a terminal controls us."""
        return self._fd >= 0

    def lend(self, group: int, *, is_asked: bool = False) -> bool:
        """Make a group the foreground, if it is our turn to give that.

        Args:
            group: The child's.
            is_asked: True if it has stopped since it has to read or write there.

        Returns:
            Whether it was given.
        """
        if self._is_shared and not is_asked:
            return False
        with self._if_not_hung_up():
            if not self.is_there or os.tcgetpgrp(self._fd) != os.getpgrp():
                # Continued in the background, it is the shell's to give; unless the child still has it.
                self._is_lent = self._is_lent and self.is_there and os.tcgetpgrp(self._fd) == group
                return False
            if self._modes is None:
                import termios

                self._modes = termios.tcgetattr(self._fd)
            os.tcsetpgrp(self._fd, group)
            self._is_lent = True
            return True
        return False

    def take_back(self) -> None:
        """Make our group the foreground again, if we gave it away."""
        if self._is_lent:
            self._is_lent = False
            # From the background this asks for SIGTTOU, which must be blocked, not ignored: a child would inherit that.
            former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
            try:
                with self._if_not_hung_up():
                    os.tcsetpgrp(self._fd, os.getpgrp())
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, former)

    def restore_modes(self) -> None:
        """Set echo, line editing and the like as they were when it was first lent, if it is ours now."""
        import termios

        with self._if_not_hung_up(), contextlib.suppress(termios.error):
            if self._modes is not None and os.tcgetpgrp(self._fd) == os.getpgrp():
                termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)

    def _if_not_hung_up(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.suppress(OSError)  # EIO: its window was closed, and there is nothing left to hand over
