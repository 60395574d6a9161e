"""Real child processes and a real terminal. Every wait is for an event: a marker that is read, an end, a stop."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest

import aiocarbon
from aiocarbon.cli.child import run_child
from aiocarbon.errors import UsageError

ENVIRON = os.environ | {"PYTHONPATH": str(Path(aiocarbon.__file__).parents[1])}
# With a thread beside it that would take a signal, as the engine's may.
RUNNER = """
import json, os, sys, threading
from dataclasses import asdict
from aiocarbon.cli.child import run_child
thread = threading.Thread(target=threading.Event().wait, daemon=True)
result = run_child(sys.argv[2:], before_spawn=thread.start)
os.write(int(sys.argv[1]), (json.dumps(asdict(result)) + "\\n").encode())
sys.exit(result.returncode)
"""

# A shell with job control, as small as can be: it starts one job, and tells and obeys through pipes of its own.
SHELL = """
import fcntl, os, signal, subprocess, sys, termios
tell, obey = int(sys.argv[1]), int(sys.argv[2])
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
foreground = sys.argv[3] == "fg"
def become_job():
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.setpgid(0, 0)
    if foreground:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        os.tcsetpgrp(0, os.getpid())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTTOU])
job = subprocess.Popen(sys.argv[4:], preexec_fn=become_job, close_fds=False)
def say(text):
    os.write(tell, (text + "\\n").encode())
while True:
    _, status = os.waitpid(job.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        owner = os.tcgetpgrp(0)
        os.tcsetpgrp(0, os.getpid())
        say(f"ended {os.waitstatus_to_exitcode(status)} job_had_terminal={owner == job.pid}")
        sys.exit()
    os.tcsetpgrp(0, os.getpid())
    say(f"stopped {signal.Signals(os.WSTOPSIG(status)).name}")
    if os.read(obey, 1) == b"f":
        os.tcsetpgrp(0, job.pid)
    os.killpg(job.pid, signal.SIGCONT)
"""


class Session:
    """A terminal with the small shell on it, which runs one command under `run_child`."""

    def __init__(
        self, stack: ExitStack, command: list[str], *, foreground: bool, in_pipeline: bool, pager: str
    ) -> None:
        self.screen = b""
        self.shell: subprocess.Popen[bytes] | None = None
        stack.callback(self._reap)  # after the terminal was closed, which ends what a failed test leaves there
        self.master, terminal = pty.openpty()
        stack.callback(os.close, self.master)
        self._said, tell = self._pipe(stack)
        self._results, result_fd = self._pipe(stack)
        obey, self.order_fd = os.pipe()
        stack.callback(os.close, self.order_fd)
        for fd in (tell, obey, result_fd):
            os.set_inheritable(fd, True)
        job = [sys.executable, "-c", RUNNER, str(result_fd), *command]
        if in_pipeline:  # the job's first process, which alone the shell watches, is then not us
            job = ["sh", "-c", '"$@"; exit $?', "sh", *job]
        if pager:
            job = ["sh", "-c", f'"$@" | {pager}', "sh", *job]
        shell = [sys.executable, "-c", SHELL, str(tell), str(obey), "fg" if foreground else "bg", *job]
        self.shell = subprocess.Popen(
            shell,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            close_fds=False,
            env=ENVIRON,
        )
        for fd in (terminal, tell, obey, result_fd):
            os.close(fd)

    def _reap(self) -> None:
        if self.shell is not None:
            self.shell.wait()

    @staticmethod
    def _pipe(stack: ExitStack) -> tuple[IO[str], int]:
        reading, writing = os.pipe()
        return stack.enter_context(open(reading, encoding="utf-8")), writing

    def until(self, marker: bytes) -> None:
        """Read the screen until `marker`, which is then used up."""
        while marker not in self.screen:
            self.screen += os.read(self.master, 4096)
        self.screen = self.screen.partition(marker)[2]

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def said(self) -> str:
        return self._said.readline().strip()

    def result(self) -> dict[str, object]:
        return dict(json.loads(self._results.readline()))


@contextmanager
def session(*command: str, foreground: bool = True, in_pipeline: bool = False, pager: str = "") -> Iterator[Session]:
    with ExitStack() as stack:
        yield Session(stack, list(command), foreground=foreground, in_pipeline=in_pipeline, pager=pager)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-u", "-c", code)


def run(*command: str, data: bytes = b"") -> tuple[subprocess.CompletedProcess[bytes], dict[str, object]]:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as results:
        try:
            done = subprocess.run(
                [sys.executable, "-c", RUNNER, str(writing), *command],
                input=data,
                capture_output=True,
                pass_fds=[writing],
                env=ENVIRON,
                check=False,
                start_new_session=True,
            )
        finally:
            os.close(writing)
        return done, json.loads(results.readline())


def start(*command: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """A runner without a terminal, whose result goes to stderr."""
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, "2", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRON,
        start_new_session=True,
        pass_fds=pass_fds,
    )


# --- commands that cannot be started


def test_command_that_is_not_there_is_127() -> None:
    done, result = run("no-such-command-anywhere")
    assert done.returncode == 127
    assert result["error"] == "no-such-command-anywhere: command not found"


def test_path_that_is_not_there_is_127(tmp_path: Path) -> None:
    assert run(str(tmp_path / "nothing"))[0].returncode == 127


def test_empty_command_name_is_127() -> None:
    assert run("")[0].returncode == 127


@pytest.mark.parametrize("kind", ["plain file", "folder", "interpreter missing", "binary of nothing"])
def test_what_cannot_be_executed_is_126_and_says_why(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(
            {"interpreter missing": b"#!/no/such/interpreter\n", "binary of nothing": b"\1\0\2"}.get(kind, b"x")
        )
        path.chmod(0o644 if kind == "plain file" else 0o755)
    done, result = run(str(path))
    assert done.returncode == 126
    assert str(path) in str(result["error"])


def test_script_without_a_first_line_for_it_is_run_by_the_shell(tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text('echo "$0 has $1"\n')
    path.chmod(0o755)
    done, _ = run(str(path), "this")
    assert (done.returncode, done.stdout.decode()) == (0, f"{path} has this\n")


def test_no_command_is_misuse() -> None:
    with pytest.raises(UsageError, match="no command"):
        run_child([])


# --- codes, streams


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_exit_code_is_the_childs(code: int) -> None:
    done, result = run("sh", "-c", f"exit {code}")
    assert done.returncode == code
    assert result == {"returncode": code, "signal": None, "ended_by_us": False, "error": ""}


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGPIPE"])
def test_death_by_a_signal_is_128_and_its_number(name: str) -> None:
    number = signal.Signals[name].value
    done, result = run(
        *python(
            f"import os, signal; signal.signal({number}, 0) if {number} != 9 else 0; os.kill(os.getpid(), {number})"
        )
    )
    assert done.returncode == 128 + number
    assert result["signal"] == number


def test_streams_pass_through_byte_for_byte() -> None:
    data = bytes(range(256)) * 1000 + b"\r\n\n\x00 no newline at the end"
    done, _ = run("sh", "-c", "cat; printf 'to\\0err' >&2", data=data)
    assert done.stdout == data
    assert done.stderr == b"to\0err"


def test_ends_with_the_child_though_a_grandchild_keeps_the_pipes() -> None:
    process = start("sh", "-c", "sleep 1000 & echo $!")
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    try:
        assert process.wait() == 0
        os.kill(grandchild, 0)  # it is still there
    finally:
        os.kill(grandchild, signal.SIGKILL)
        process.communicate()


def test_descriptors_beyond_stderr_reach_the_child() -> None:
    reading, writing = os.pipe()
    process = start(*python(f"import os; os.write({writing}, b'kept\\n')"), pass_fds=(writing,))
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"kept\n"
    process.communicate()
    assert process.returncode == 0


def test_child_leads_a_group_of_its_own() -> None:
    done, _ = run(*python("import os; print(os.getpgrp() == os.getpid() != os.getpgid(os.getppid()))"))
    assert done.stdout == b"True\n"


# --- dispositions and signals

DISPOSITIONS = python(
    "import re; status = open('/proc/self/status').read();"
    "print(*(re.search(rf'Sig{kind}:\\s*(\\w+)', status)[1] for kind in ('Blk', 'Ign')))"
)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")


def mask(*numbers: int) -> str:
    return f"{sum(1 << (number - 1) for number in numbers):016x}"


@linux_only
@pytest.mark.parametrize("ignored", [(), (signal.SIGHUP,), (signal.SIGINT, signal.SIGQUIT), (signal.SIGCHLD,)])
def test_child_finds_the_dispositions_that_we_were_given(ignored: tuple[int, ...]) -> None:
    code = f"import signal, os, sys; [signal.signal(n, signal.SIG_IGN) for n in {[int(n) for n in ignored]}];"
    code += "os.execv(sys.argv[1], sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        code,
        sys.executable,
        "-c",
        RUNNER,
        "2",
        "grep",
        "-E",
        "Sig(Blk|Ign)",
        "/proc/self/status",
    ]
    done = subprocess.run(command, capture_output=True, env=ENVIRON, check=True, start_new_session=True)
    assert done.stdout.decode().split() == ["SigBlk:", mask(), "SigIgn:", mask(*ignored)]


# Takes signals one by one, so that none is missed or merged, tells each, and ends with code 9 at `last`.
LISTENER = """
import signal, sys
last = signal.Signals[sys.argv[1]]
heard = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
signal.pthread_sigmask(signal.SIG_BLOCK, heard)
print("ready")
while True:
    number = signal.sigwait(heard)
    print(signal.Signals(number).name)
    if number == last:
        sys.exit(9)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"])
def test_signal_sent_to_us_reaches_the_child_once_and_its_code_is_kept(name: str) -> None:
    last = "SIGUSR1" if name != "SIGUSR1" else "SIGUSR2"
    process = start(*python(LISTENER), last)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.Signals[name])
    assert process.stdout.readline().decode() == f"{name}\n"
    process.send_signal(signal.Signals[last])  # signals keep their order: a second `name` would come before it
    out, _ = process.communicate()
    assert (out.decode(), process.returncode) == (f"{last}\n", 9)


def test_signal_that_kills_the_child_is_in_our_code() -> None:
    process = start("sh", "-c", "echo ready; exec sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM
    process.communicate()


def test_ignored_signal_stays_ignored_by_us_and_is_not_forwarded() -> None:
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", RUNNER, "2", *python(LISTENER), "SIGTERM"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRON,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGHUP)
    process.terminate()
    out, _ = process.communicate()
    assert (out, process.returncode) == (b"SIGTERM\n", 9)


@linux_only
def test_without_a_terminal_we_stop_with_the_child_and_go_on_with_it() -> None:
    process = start("sh", "-c", "echo ready; kill -STOP $$; echo went on; exit 3")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGCONT)
    out, _ = process.communicate()
    assert (out, process.returncode) == (b"went on\n", 3)


def test_stop_signal_that_nobody_could_undo_does_not_stop_the_child() -> None:
    process = start(*python("import os, signal; os.kill(os.getpid(), signal.SIGTSTP); print('went on')"))
    out, _ = process.communicate()
    assert (out, process.returncode) == (b"went on\n", 0)  # a session's first process: the kernel would do the same


# --- hooks and the caller's end of it


def scripted(code: str) -> subprocess.CompletedProcess[str]:
    code = "import os, signal, sys, threading\nfrom aiocarbon.cli.child import *\n" + code
    command = [sys.executable, "-u", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRON, check=False, start_new_session=True)


def test_hooks_come_before_the_command_and_after_its_start() -> None:
    done = scripted(
        "before = lambda: print('before')\n"
        "run_child(['echo', 'command'], before_spawn=before, on_spawn=lambda pid: os.getpgid(pid) == pid or 1/0)"
    )
    assert (done.stdout, done.stderr) == ("before\ncommand\n", "")


def test_failure_before_the_start_comes_out_and_nothing_is_started_or_left() -> None:
    done = scripted(
        "handler = signal.getsignal(signal.SIGTERM)\n"
        "try: run_child(['echo', 'command'], before_spawn=lambda: 1/0)\n"
        "except ZeroDivisionError: print('came out')\n"
        "print(signal.getsignal(signal.SIGTERM) == handler, signal.set_wakeup_fd(-1))\n"
        "try: os.waitpid(-1, 0)\n"
        "except ChildProcessError: print('no child')"
    )
    assert done.stdout == "came out\nTrue -1\nno child\n"


def test_failure_after_the_start_comes_out_when_the_child_has_ended() -> None:
    done = scripted(
        "try: run_child(['sh', '-c', 'read line; echo $line'], on_spawn=lambda pid: 1/0)\n"
        "except ZeroDivisionError: print('came out')"
    )
    assert done.stdout == "\ncame out\n"


def test_signal_before_the_start_ends_the_command_before_its_first_instruction() -> None:
    done = scripted(
        "print(run_child(['echo', 'command'], before_spawn=lambda: os.kill(os.getpid(), signal.SIGINT)).signal)"
    )
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_dispositions_descriptors_and_mask_are_as_before_afterwards() -> None:
    done = scripted(
        "def state(): return ([signal.getsignal(n) for n in signal.valid_signals()], signal.pthread_sigmask(0, []),"
        " os.listdir('/dev/fd'))\n"
        "before = state()\nrun_child(['true']); run_child(['no-such-command'])\nprint(state() == before)"
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_end_asks_the_group_to_end_and_is_told() -> None:
    done = scripted(
        "child = ChildProcess(['sleep', '1000'])\n"
        "print(child.run(on_spawn=lambda pid: threading.Thread(target=child.end).start()))"
    )
    assert done.stdout == "ChildResult(returncode=143, signal=15, ended_by_us=True, error='')\n"


def test_end_before_the_start_counts() -> None:
    done = scripted("child = ChildProcess(['sleep', '1000']); child.end(); child.end(); print(child.run().signal)")
    assert done.stdout == "15\n"


def test_a_child_that_may_not_be_signalled_goes_on_and_that_is_told() -> None:
    done = scripted(
        "def refuse(*_): raise PermissionError('not yours')\n"  # as behind sudo
        "os.killpg = refuse\n"
        "child = ChildProcess(['sh', '-c', 'sleep 0.3; exit 4'])\n"
        "child.end()\n"
        "result = child.run()\n"
        "print(result.returncode, result.ended_by_us)"
    )
    assert done.stdout == "4 False\n"
    assert done.stderr.count("runs as another user") == 1


def test_end_kills_a_child_that_does_not_heed_it() -> None:
    done = scripted(
        "deaf, ready = os.pipe(); os.set_inheritable(ready, True)\n"
        "code = f\"import os, signal; signal.signal(15, signal.SIG_IGN); os.write({ready}, b'x'); signal.pause()\"\n"
        "child = ChildProcess([sys.executable, '-c', code], kill_after_s=0.0)\n"
        "def end(pid): os.read(deaf, 1); child.end()\n"
        "print(child.run(on_spawn=end))"
    )
    assert done.stdout == "ChildResult(returncode=137, signal=9, ended_by_us=True, error='')\n"


def test_end_reaches_a_stopped_child() -> None:
    done = scripted(
        "child = ChildProcess(['sleep', '1000'])\n"
        "def stop(pid): os.kill(pid, signal.SIGTSTP); child.end()\n"
        "print(child.run(on_spawn=stop).signal)"
    )
    assert done.stdout == "15\n"


def test_only_the_main_thread_may_run_a_child() -> None:
    done = scripted(
        "def work():\n try: run_child(['true'])\n except Exception as error: print(type(error).__name__)\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()"
    )
    assert done.stdout == "UsageError\n"


def test_environment_can_be_given() -> None:
    done = scripted("ChildProcess(['/usr/bin/env'], environ={'ONLY': 'this'}).run()")
    assert done.stdout == "ONLY=this\n"


# --- on a terminal

REPORTER = """
import os, signal, sys
count = []
signal.signal(signal.SIGINT, lambda *a: count.append(1))
print("mine", os.tcgetpgrp(0) == os.getpgrp(), "ready")
for line in sys.stdin:
    print("line", line.strip(), "interrupts", len(count), ".")
sys.exit(4)
"""


def test_child_has_the_terminal_from_its_first_instruction_and_reads_lines() -> None:
    with session(*python(REPORTER)) as terminal:
        terminal.until(b"mine True ready")
        terminal.type(b"hello\n")
        terminal.until(b"line hello interrupts 0")
        terminal.type(b"\x04")
        assert terminal.said() == "ended 4 job_had_terminal=True"


def test_interrupt_typed_arrives_once_and_only_at_the_child() -> None:
    with session(*python(REPORTER)) as terminal:
        terminal.until(b"ready")
        terminal.type(b"\x03")
        terminal.until(b"^C")
        terminal.type(b"one\n")
        terminal.until(b"line one interrupts 1 .")
        terminal.type(b"\x03")
        terminal.until(b"^C")
        terminal.type(b"two\n")
        terminal.until(b"line two interrupts 2 .")
        terminal.type(b"\x04")
        assert terminal.said() == "ended 4 job_had_terminal=True"
        assert terminal.result()["signal"] is None


def test_interrupt_typed_kills_a_child_that_does_not_catch_it() -> None:
    with session("sh", "-c", "echo ready; exec sleep 1000") as terminal:
        terminal.until(b"ready")
        terminal.type(b"\x03")
        assert terminal.said() == "ended 130 job_had_terminal=True"
        assert terminal.result() == {"returncode": 130, "signal": 2, "ended_by_us": False, "error": ""}


def test_interrupt_reaches_the_child_though_its_streams_are_redirected() -> None:
    with session("sh", "-c", "echo ready; exec sleep 1000 </dev/null >/dev/null 2>&1") as terminal:
        terminal.until(b"ready")
        terminal.type(b"\x03")
        assert terminal.said() == "ended 130 job_had_terminal=True"


def test_quit_typed_is_131() -> None:
    with session("sh", "-c", "ulimit -c 0; echo ready; exec sleep 1000") as terminal:
        terminal.until(b"ready")
        terminal.type(b"\x1c")
        assert terminal.said() == "ended 131 job_had_terminal=True"


def test_suspend_typed_stops_both_and_the_foreground_goes_on_with_the_terminal() -> None:
    with session(*python(REPORTER)) as terminal:
        terminal.until(b"ready")
        for word in (b"first", b"second"):
            terminal.type(b"\x1a")
            assert terminal.said() == "stopped SIGTSTP"
            os.write(terminal.order_fd, b"f")
            terminal.type(word + b"\n")
            terminal.until(b"line " + word + b" interrupts 0 .")
        terminal.type(b"\x03")
        terminal.until(b"^C")
        terminal.type(b"third\n")
        terminal.until(b"line third interrupts 1 .")
        terminal.type(b"\x04")
        assert terminal.said() == "ended 4 job_had_terminal=True"


def test_job_continued_in_the_background_leaves_the_terminal_to_the_shell() -> None:
    with session("sh", "-c", "echo ready; kill -TSTP 0; echo went on; exit 6") as terminal:
        terminal.until(b"ready")
        assert terminal.said() == "stopped SIGTSTP"
        os.write(terminal.order_fd, b"b")
        terminal.until(b"went on")
        assert terminal.said() == "ended 6 job_had_terminal=False"


def test_background_job_that_reads_stops_until_it_is_brought_to_the_foreground() -> None:
    with session(*python(REPORTER), foreground=False) as terminal:
        terminal.until(b"mine False ready")
        assert terminal.said() == "stopped SIGTSTP"  # the child by SIGTTIN; we, who read nothing, as at Ctrl-Z
        os.write(terminal.order_fd, b"f")
        terminal.type(b"now\n")
        terminal.until(b"line now interrupts 0 .")
        terminal.type(b"\x04")
        assert terminal.said() == "ended 4 job_had_terminal=True"


def test_terminal_left_raw_by_a_killed_child_is_mended() -> None:
    code = "import tty, sys, signal; tty.setraw(0); sys.stdout.write('raw'); sys.stdout.flush(); signal.pause()"
    with session(*python(code)) as terminal:
        before = termios.tcgetattr(terminal.master)
        terminal.until(b"raw")
        assert termios.tcgetattr(terminal.master) != before
        os.killpg(os.tcgetpgrp(terminal.master), signal.SIGKILL)
        assert terminal.said() == "ended 137 job_had_terminal=True"
        assert termios.tcgetattr(terminal.master) == before


def test_command_that_is_not_there_gives_the_terminal_back() -> None:
    with session("no-such-command-anywhere") as terminal:
        assert terminal.said() == "ended 127 job_had_terminal=True"


def test_every_process_of_our_own_job_stops_with_us() -> None:
    """Were only we stopped, a shell would wait on for the others of our pipeline, and nobody had the terminal."""
    with session("sh", "-c", "echo ready; kill -TSTP 0; echo went on; exit 8", in_pipeline=True) as terminal:
        terminal.until(b"ready")
        assert terminal.said() == "stopped SIGTSTP"
        os.write(terminal.order_fd, b"f")
        terminal.until(b"went on")
        assert terminal.said() == "ended 8 job_had_terminal=True"


def test_a_pager_behind_our_pipe_reads_its_keys_while_the_child_writes() -> None:
    code = "print('begun'); print('x' * 300_000); print('done')"  # more than a pipe holds
    with session(*python(code), pager="(read begun; read line < /dev/tty; echo paged $line; tail -c 5)") as terminal:
        terminal.type(b"key\n")
        terminal.until(b"paged key")
        terminal.until(b"done")
        assert terminal.said() == "ended 0 job_had_terminal=True"


def test_a_child_in_a_pipeline_gets_the_terminal_when_it_reads_there() -> None:
    code = "line = open('/dev/tty').readline(); print('got', line)"
    with session(*python(code), pager="cat") as terminal:
        terminal.type(b"key\n")
        terminal.until(b"got key")
        assert terminal.said() == "ended 0 job_had_terminal=True"


def test_interrupt_typed_in_a_pipeline_reaches_the_child_once() -> None:
    code = (
        "import signal, sys, time\n"
        "count = []\n"
        "signal.signal(signal.SIGINT, lambda *_: count.append(1))\n"
        "print('ready', file=sys.stderr, flush=True)\n"
        "while not count: time.sleep(0.01)\n"
        "time.sleep(0.2)\n"
        "print('interrupts', len(count), file=sys.stderr, flush=True)"
    )
    with session(*python(code), pager="(trap '' INT; cat)") as terminal:
        terminal.until(b"ready")
        terminal.type(b"\x03")
        terminal.until(b"interrupts 1")
