"""One child process, run as a job-control shell would run it: the process handling of `aiocarbon run -- CMD`.

Guarantees (POSIX):

- The child cannot tell that it was not started by a shell: its environment, descriptors (also those beyond 2), signal
  mask and ignored signals are those that we were given, and it leads a process group of its own.
- Where we are the foreground of a terminal, the child's group is it before the child's first instruction. Ctrl-C
  therefore arrives once, at that group alone, and reading the terminal works. The terminal is taken back when the child
  stops or ends, or an exception ends us. In a pipeline, whose other programs (a pager) may read the terminal, the child
  gets it only when it reads there.
- A signal that we are sent goes on to the child's group. We stop when the child stops, go on when we are continued, and
  end when the child ends, whoever else may still hold its pipes.
- Nothing is polled: we sleep in poll(2) until a signal (SIGCHLD among them) writes a byte into our own pipe.

The child is forked first and waits at a gate, a pipe, while the caller takes the readings before the start; only then
does it become the command. So nothing of ours is counted as the command's, the terminal is handed over without a race,
and the fork can come before any thread of the engine. Our own end by SIGKILL leaves the child as it is.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Final, Self

from aiocarbon.cli.gate import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Gate
from aiocarbon.cli.output import say
from aiocarbon.cli.terminal import Terminal
from aiocarbon.errors import UsageError

__all__ = ["ChildProcess", "ChildResult", "run_child"]

EXIT_SIGNAL_BASE: Final = 128
"""Shells report death by signal n as 128 + n."""

_FORWARDED: Final = frozenset(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTSTP", "SIGWINCH")
    if hasattr(signal, name)  # Windows has only some
)
_IGNORED_BY_PYTHON: Final = frozenset(getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name))
_END: Final = 0  # what `end()` writes among the signal numbers; no signal has it


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildResult:
    """How a child ended.

    Attributes:
        returncode: As a shell reports it, 0..255: the child's own code, 128 + n for signal n, 126 for a command that
            is not executable, 127 for one that is not there.
        signal: The signal that ended it, or None.
        ended_by_us: True if `ChildProcess.end` asked for the end, whatever the child then made of it.
        error: Why the command could not be started, to be printed; empty if it was.
    """

    returncode: int
    signal: int | None = None
    ended_by_us: bool = False
    error: str = ""


def run_child(
    argv: Sequence[str],
    *,
    before_spawn: Callable[[], object] | None = None,
    on_spawn: Callable[[int], object] | None = None,
) -> ChildResult:
    """Run a command to its end with our stdin, stdout and stderr; to be called in the main thread.

    Args:
        argv: The command and its arguments, looked up in PATH; at least one.
        before_spawn: Called when the child is forked but not yet the command: take the readings here. What it raises
            comes out unchanged, and the command is then never started.
        on_spawn: Called with the process id (also the id of the child's group) at once after the start.

    Raises:
        UsageError: Called outside the main thread, or without a command.
    """
    return ChildProcess(argv).run(before_spawn=before_spawn, on_spawn=on_spawn)


class ChildProcess:
    """A command that is run once, and that another thread may ask to end.

    Args:
        argv: The command and its arguments, looked up in PATH.
        environ: Its environment; ours by default.
        kill_after_s: Seconds that `end` leaves it between SIGTERM and SIGKILL.
    """

    def __init__(
        self, argv: Sequence[str], *, environ: Mapping[str, str] | None = None, kill_after_s: float = 10.0
    ) -> None:
        if not argv:
            raise UsageError("no command was given")
        self._argv = list(argv)
        self._environ = dict(os.environ if environ is None else environ)
        self._kill_after_s = kill_after_s
        self._ended_by_us = False
        self._signals: Signals | None = None
        self._lock = threading.Lock()  # between `end` and the close of the pipe that it writes to

    def end(self) -> None:
        """Ask the child's group to end: SIGTERM now, SIGKILL later; from any thread, any number of times."""
        with self._lock:
            self._ended_by_us = True
            if self._signals is not None:
                self._signals.wake()

    def run(
        self,
        *,
        before_spawn: Callable[[], object] | None = None,
        on_spawn: Callable[[int], object] | None = None,
        after_exit: Callable[[ChildResult], object] | None = None,
    ) -> ChildResult:
        """Run it to its end; arguments and errors as in `run_child`.

        `after_exit` is called when it has ended, before signals do to us again what they did before: a second SIGTERM
        or Ctrl-C does not cost what is done there, which is to take a bounded time. It is not called for what was
        never started.
        """
        if threading.current_thread() is not threading.main_thread():
            raise UsageError("a child is run from the main thread, where alone Python lets signals be handled")
        if sys.platform == "win32":
            return self._run_simply(before_spawn, after_exit)
        with Signals() as signals, Terminal(is_shared=_is_in_pipeline()) as terminal:
            gate = Gate(self._argv, self._environ, signals)
            job = _Job(gate.pid, signals, terminal)
            try:
                if before_spawn is not None:
                    before_spawn()
                terminal.lend(gate.pid)
                for number in signals.wait(0.0):  # what came before the start is there before the first instruction
                    job.received(number)
                gate.open()
                self._publish(signals)
                try:
                    if on_spawn is not None:
                        on_spawn(gate.pid)
                finally:  # a child that runs is waited for, whatever the caller's hook did
                    status = self._wait(job)
                error = gate.error()
            finally:
                self._publish(None)
                terminal.take_back()
                gate.close()
            if os.WIFSIGNALED(status):
                terminal.restore_modes()  # it had no chance to: a raw terminal would be left to the shell
                number = os.WTERMSIG(status)
                result = ChildResult(returncode=EXIT_SIGNAL_BASE + number, signal=number, ended_by_us=self._ended_by_us)
            else:
                result = ChildResult(returncode=os.WEXITSTATUS(status), ended_by_us=self._ended_by_us, error=error)
            if after_exit is not None:
                after_exit(result)
            return result

    def _publish(self, signals: Signals | None) -> None:
        with self._lock:
            self._signals = signals
            if signals is not None and self._ended_by_us:
                signals.wake()  # it was asked for before there was anything to wake

    def _wait(self, job: _Job) -> int:
        is_ending = False
        kill_at_s: float | None = None
        while True:
            pid, status = os.waitpid(job.pid, os.WNOHANG | os.WUNTRACED)
            if pid != 0 and not os.WIFSTOPPED(status):
                return status
            if pid != 0:
                job.stopped(os.WSTOPSIG(status))
                continue
            patience_s = None if kill_at_s is None else max(kill_at_s - time.monotonic(), 0.0)
            for number in job.signals.wait(patience_s):
                if number != _END:
                    job.received(number)
                elif not is_ending:
                    is_ending, kill_at_s = True, time.monotonic() + self._kill_after_s
                    self._ended_by_us = job.send(signal.SIGTERM)
                    job.send(signal.SIGCONT)  # a stopped one would never see the other
            if kill_at_s is not None and time.monotonic() >= kill_at_s:
                kill_at_s = None
                job.send(signal.SIGKILL)

    def _run_simply(
        self, before_spawn: Callable[[], object] | None, after_exit: Callable[[ChildResult], object] | None
    ) -> ChildResult:
        import subprocess

        if before_spawn is not None:
            before_spawn()
        try:
            result = ChildResult(returncode=subprocess.call(self._argv, env=self._environ))
        except FileNotFoundError as error:
            result = ChildResult(returncode=EXIT_NOT_FOUND, error=str(error))
        except OSError as error:
            result = ChildResult(returncode=EXIT_NOT_EXECUTABLE, error=str(error))
        if after_exit is not None:
            after_exit(result)
        return result


class _Job:
    """The child's group, as a shell sees a job: what it does when the child stops, and with signals sent to us."""

    def __init__(self, pid: int, signals: Signals, terminal: Terminal) -> None:
        self.pid = pid
        self.signals = signals
        self._terminal = terminal
        self._is_told = False

    def send(self, number: int) -> bool:
        """Whether it may be sent a signal: not if it runs as somebody else, as behind sudo."""
        try:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                os.kill(self.pid, number)  # it left its group; it is not reaped yet, so the number is still its own
        except PermissionError:
            if not self._is_told:
                self._is_told = True
                say("aiocarbon: the command runs as another user, and no signal can be sent to it; it goes on")
            return False
        return True

    def received(self, number: int) -> None:
        if number == signal.SIGCONT:
            self._resume()
        elif number in _FORWARDED:
            self.send(number)

    def stopped(self, number: int) -> None:
        """The child stopped by signal `number`: stop as well, until somebody continues us."""
        if number in (signal.SIGTTIN, signal.SIGTTOU) and self._terminal.lend(self.pid, is_asked=True):
            self.send(signal.SIGCONT)
            return
        self._terminal.take_back()
        # On a terminal all of our own group stops, as it would at Ctrl-Z: a shell takes back the terminal only when
        # every process of the pipeline that we are in has stopped.
        whole_group = self._terminal.is_there
        ours = signal.SIGSTOP if number == signal.SIGSTOP and not whole_group else signal.SIGTSTP
        if not self.signals.stop_ourselves(ours, whole_group=whole_group) and number == signal.SIGTSTP:
            # Nobody could continue us (an orphaned group: a container's or session's first process), and there the
            # kernel would not have stopped the child either, were it in our place.
            self._resume()

    def _resume(self) -> None:
        self._terminal.lend(self.pid)  # only after `fg`: after `bg` the terminal is the shell's
        self.send(signal.SIGCONT)


class Signals:
    """Makes numbers in a pipe of the signals that we are sent, to be answered in one place, in their order.

    Python's C handler writes the pipe whichever thread the kernel chose, so none is slept through. Signals that were
    ignored when we began (nohup, a background job of a shell without job control) stay ignored.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._read_fd = self._write_fd = self._former_wakeup_fd = -1
        self._mask: set[int] = set()
        self._early: list[int] = []

    def __enter__(self) -> Self:
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)
        self._former_wakeup_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in (*_FORWARDED, signal.SIGCONT, signal.SIGCHLD):
            self._handlers[number] = signal.getsignal(number)
            if self._handlers[number] != signal.SIG_IGN or number == signal.SIGCHLD:
                signal.signal(number, _noted)
        # A parent may have left SIGCHLD blocked to us; the child gets back what was.
        self._mask = set(signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD}))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        signal.set_wakeup_fd(self._former_wakeup_fd)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._write_fd, bytes([_END]))

    def wait(self, timeout_s: float | None) -> list[int]:
        """Sleep until there are signals, or for so many seconds; the numbers that came."""
        if not self._early:
            poller = select.poll()
            poller.register(self._read_fd, select.POLLIN)
            poller.poll(None if timeout_s is None else timeout_s * 1000.0)
        came, self._early = [*self._early, *self._drain()], []
        return came

    def _drain(self) -> list[int]:
        try:
            return list(os.read(self._read_fd, 65536))
        except BlockingIOError:
            return []

    def stop_ourselves(self, number: int, *, whole_group: bool) -> bool:
        """Stop by a signal's default action; returns when continued, or False at once if the kernel would not."""
        if number != signal.SIGSTOP:
            if self._handlers[number] == signal.SIG_IGN:
                return False
            signal.signal(number, signal.SIG_DFL)
        if whole_group:
            os.killpg(os.getpgrp(), number)
        else:
            os.kill(os.getpid(), number)
        # The kernel stops the thread that called before the call returns, and whatever continued us left SIGCONT here.
        if number != signal.SIGSTOP:
            signal.signal(number, _noted)
        self._early += self._drain()
        return signal.SIGCONT in self._early

    def become_default(self) -> None:
        """In the forked child: undo what we, and Python, did to signals; those that were ignored stay so."""
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_IGN if handler == signal.SIG_IGN else signal.SIG_DFL)
        for number in _IGNORED_BY_PYTHON:  # at its start, so what it was before cannot be known
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def _is_in_pipeline() -> bool:
    """Whether a pipe ends or begins at us: who is at its other end may be of our group, and read the terminal."""
    for descriptor in (0, 1):
        with contextlib.suppress(OSError):  # closed
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                return True
    return False


def _noted(number: int, frame: FrameType | None) -> None:
    """Nothing: the C handler wrote the number into the pipe already."""
